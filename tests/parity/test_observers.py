"""Headers of calls, and how connections and calls end for observers, on real sockets."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal

import pytest

from hubproto_core import Call, ConnectionStatus, Hub, HubConfig, ObservedCall, ObservedConnection, Observer
from tests.kit.runtimes import Runtime

Encoding = Literal["json", "messagepack"]

current: ContextVar[str] = ContextVar("current", default="nothing")


class Tracer(Observer):
    """Runs every call where `current` is the header `trace` of its message; notes what it is told."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[tuple[str, ConnectionStatus]] = []
        self.durations: list[float] = []
        self.ended: list[tuple[str, str | None, bool]] = []

    def connection_opened(self, connection: ObservedConnection) -> None:
        self.opened.append(connection.transport)

    def connection_closed(
        self, connection: ObservedConnection, *, duration: float, status: ConnectionStatus, error: Exception | None
    ) -> None:
        self.closed.append((connection.transport, status))
        self.durations.append(duration)

    def call_started(self, call: ObservedCall) -> Context:
        context = copy_context()
        context.run(current.set, call.headers.get("trace", "no header"))
        return context

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        self.ended.append((call.method, str(error) if error else None, cancelled))


def make_hub(rt: Runtime, tracer: Tracer) -> Hub:
    hub = Hub(observers=[tracer])

    @hub.method("Plain")
    def plain() -> str:
        return current.get()

    @hub.method("Headers")
    def headers(call: Call) -> Mapping[str, str]:
        return dict(call.headers)

    @hub.method("Forever")
    async def forever() -> None:
        await rt.sleep_forever()

    return hub


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_calls_without_headers_have_none(rt: Runtime, protocol: Encoding) -> None:
    async with rt.serve(make_hub(rt, Tracer())) as server:
        async with rt.connect(server.url, protocol=protocol) as client:
            assert await client.invoke("Headers") == {}
        async with rt.connect(server.url, protocol=protocol, call_headers=dict) as client:
            assert await client.invoke("Headers") == {}


async def test_the_headers_are_those_where_the_call_is_made(rt: Runtime) -> None:
    headers: Any = lambda: {"trace": current.get()}  # noqa: E731
    async with rt.serve(make_hub(rt, Tracer())) as server:
        async with rt.connect(server.url, call_headers=headers) as client:
            seen: list[tuple[str, str]] = []

            async def ask(name: str) -> None:
                current.set(name)
                seen.append((name, await client.invoke("Plain")))

            async with rt.tasks() as tasks:
                for name in ("a", "b", "c"):
                    tasks.start_soon(ask, name)
    assert sorted(seen) == [("a", "a"), ("b", "b"), ("c", "c")]


async def test_every_connection_that_is_told_ends_once(rt: Runtime) -> None:
    tracer = Tracer()
    async with rt.serve(make_hub(rt, tracer)) as server:
        async with rt.connect(server.url) as client:
            await client.invoke("Plain")
        await rt.eventually(lambda: tracer.closed)
        with pytest.raises(ValueError, match="out"):
            async with rt.connect(server.url) as client:
                await client.invoke("Plain")
                raise ValueError("out")
        await rt.eventually(lambda: len(tracer.closed) == 2)
        left = rt.connect(server.url)
        await left.__aenter__()
        await left.invoke("Plain")
        server.server.close()
        await server.server.wait_closed()
        await left.__aexit__(None, None, None)
    assert tracer.opened == ["web_sockets"] * 3
    assert tracer.closed == [("web_sockets", "normal_closure")] * 2 + [("web_sockets", "app_shutdown")]
    assert all(0 <= duration < 10 for duration in tracer.durations)  # the clock of uvloop counts milliseconds


async def test_a_server_that_is_dropped_ends_its_connections_and_calls(rt: Runtime) -> None:
    tracer = Tracer()
    with pytest.raises(ValueError, match="out"):
        async with rt.serve(make_hub(rt, tracer), config=HubConfig(max_parallel_calls=2)) as server:
            async with rt.connect(server.url) as client:
                await client.send("Forever")
                await client.invoke("Headers")
                raise ValueError("out")
    assert tracer.closed == [("web_sockets", "normal_closure")]
    assert tracer.ended[-1] == ("Forever", None, True)
