"""Our clients and our servers, while their WebSockets are broken at random moments (SPEC 4.7)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from hubproto_core import Call, Hub
from hubproto_core.http import EndpointConfig, Mount
from tests.kit.cuts import Cuts, weather_the
from tests.kit.runtimes import Runtime

CUTS = int(os.environ.get("HUBPROTO_CUTS", "100"))
SEED = int(os.environ.get("HUBPROTO_SEED", "1"))
CLIENTS = 4


def make_hub(sleep: Callable[[float], object]) -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)

    @hub.method("SendClient")
    def send_client(identity: str, text: str, call: Call) -> None:
        call.clients.client(identity).send("message", text)

    @hub.method("Counter")
    async def counter(count: int, milliseconds: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
            if milliseconds:
                await sleep(milliseconds / 1000)  # type: ignore[misc]

    @hub.method("Upload")
    async def upload(items: AsyncIterator[str]) -> str:
        taken = [item async for item in items]
        return f"{len(taken)}:{''.join(taken)}"

    return hub


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_nothing_is_lost_and_nothing_comes_twice(rt: Runtime, protocol: str) -> None:
    async with rt.serve(Mount(make_hub(rt.sleep), EndpointConfig(stateful=True))) as server:
        cuts = Cuts(rt, server.port, SEED)
        async with rt.listen(cuts) as port, AsyncExitStack() as stack:
            url = f"http://127.0.0.1:{port}/hub"
            clients = [rt.connect(url, stateful=True, protocol=protocol) for _ in range(CLIENTS)]
            for client in clients:
                await stack.enter_async_context(client)
            print(rt, protocol, await weather_the(cuts, rt, clients, CUTS))
