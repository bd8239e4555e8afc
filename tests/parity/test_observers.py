"""Observers on real sockets: contexts in which calls run, headers of messages, and the ends of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal

import pytest

from hubproto_core import Call, ConnectionStatus, Hub, HubConfig, HubError, ObservedCall, ObservedConnection, Observer
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

    @hub.method("Later")
    async def later() -> list[str]:
        seen = [current.get()]
        await rt.sleep(0)
        return [*seen, current.get()]

    @hub.method("Awaitable")
    def awaitable() -> Awaitable[list[str]]:
        return later()

    @hub.method("Count")
    async def count(number: int) -> AsyncIterator[str]:
        for _ in range(number):
            yield current.get()
            await rt.sleep(0)

    @hub.method("Upload")
    async def upload(items: AsyncIterator[int]) -> list[str]:
        return [current.get() async for _ in items]

    @hub.method("Headers")
    def headers(call: Call) -> Mapping[str, str]:
        return call.headers

    @hub.method("Fail")
    async def fail() -> None:
        raise HubError("no")

    @hub.method("Forever")
    async def forever() -> None:
        await rt.sleep_forever()

    return hub


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_calls_run_in_the_context_of_their_observer(rt: Runtime, protocol: Encoding) -> None:
    numbers = iter(range(1, 100))
    tracer = Tracer()
    async with rt.serve(make_hub(rt, tracer)) as server:
        async with rt.connect(
            server.url, protocol=protocol, call_headers=lambda: {"trace": f"call {next(numbers)}"}
        ) as client:
            assert await client.invoke("Plain") == "call 1"
            assert await client.invoke("Later") == ["call 2"] * 2
            assert await client.invoke("Awaitable") == ["call 3"] * 2
            async with client.stream("Count", 3) as items:
                async with client.stream("Count", 3) as others:
                    assert [item async for item in others] == ["call 5"] * 3
                assert [item async for item in items] == ["call 4"] * 3
            assert await client.invoke("Upload", client.upload([1, 2])) == ["call 6"] * 2
            await client.send("Plain")
            assert await client.invoke("Headers") == {"trace": "call 8"}
            with pytest.raises(HubError, match="no"):
                await client.invoke("Fail")
    assert current.get() == "nothing"
    assert [method for method, _, _ in tracer.ended] == [
        *("Plain", "Later", "Awaitable", "Count", "Count", "Upload", "Plain", "Headers", "Fail"),
    ]
    assert [(error, cancelled) for _, error, cancelled in tracer.ended] == [(None, False)] * 8 + [("no", False)]


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
    assert all(0 < duration < 10 for duration in tracer.durations)


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
