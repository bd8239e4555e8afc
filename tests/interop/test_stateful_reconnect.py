"""Stateful reconnect between our clients and Microsoft's servers, and what a client does where there is none."""

from __future__ import annotations

import logging
import os
from contextlib import AsyncExitStack

import pytest

from hubproto_core import Codec, JsonCodec, MessagePackCodec, Reconnecting, ReconnectPolicy, Transport
from tests.interop._lab import Lab, Labs
from tests.kit.cuts import Cuts, weather_the
from tests.kit.runtimes import Runtime

pytestmark = pytest.mark.timeout(600)  # the first test may have to build a server; the others end far sooner

CUTS = int(os.environ.get("HUBPROTO_CUTS", "200"))
SEED = int(os.environ.get("HUBPROTO_SEED", "1"))
CLIENTS = 4


def port_of(lab: Lab) -> int:
    return int(lab.url.rpartition(":")[2])


@pytest.mark.limit(60)  # so many cuts take some ten seconds by themselves, and more beside other tests
@pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)
async def test_a_client_goes_on_over_cut_websockets_as_if_nothing_had_been(
    rt: Runtime, labs: Labs, codec: Codec
) -> None:
    cuts = Cuts(rt, port_of(labs.start("reference")), SEED, gentle=True)
    async with rt.listen(cuts) as port, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{port}/hub"
        clients = [rt.connect(url, stateful=True, protocol=codec) for _ in range(CLIENTS)]
        for client in clients:
            await stack.enter_async_context(client)
        print(rt, codec.name, await weather_the(cuts, rt, clients, CUTS))


@pytest.mark.parametrize(
    ("server", "path", "transport"),
    [
        ("aspnetcore31", "/hub", Transport.WEB_SOCKETS),
        ("reference", "/plainhub", Transport.WEB_SOCKETS),
        ("reference", "/hub", Transport.SERVER_SENT_EVENTS),
        ("reference", "/hub", Transport.LONG_POLLING),
    ],
)
async def test_a_client_that_asks_in_vain_works_without(
    rt: Runtime, labs: Labs, server: str, path: str, transport: Transport
) -> None:
    async with rt.connect(labs.start(server).url + path, stateful=True, transports=[transport]) as client:
        assert await client.invoke("Add", 2, 3) == 5
        async with client.stream("Counter", 3, 0) as items:
            assert [item async for item in items] == [0, 1, 2]
        assert await client.invoke("Upload", client.upload(["a", "b"])) == "2:ab"


async def test_where_it_was_not_agreed_on_a_cut_ends_the_connection(
    rt: Runtime, labs: Labs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hubproto_core")
    cuts = Cuts(rt, port_of(labs.start("reference")), SEED, gentle=True)
    soon = ReconnectPolicy(delays=[0.0])
    async with (
        rt.listen(cuts) as port,
        rt.connect(f"http://127.0.0.1:{port}/plainhub", stateful=True, reconnect=soon) as client,
    ):
        events = client.events()
        before = client.connection_id
        cuts.begin(1)
        assert isinstance(await anext(events), Reconnecting)
        await anext(events)
        assert client.connection_id not in (None, before)
        assert await client.invoke("Add", 2, 3) == 5
    assert "another one is opened" not in caplog.text
