"""Observers: what they are told, and the context in which the calls they watch run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextvars import Context, ContextVar, copy_context

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, ObservedCall, ObservedConnection, Observer
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime

current: ContextVar[str] = ContextVar("current", default="nothing")


class Numbering(Observer):
    """Gives each call a context of its own, in which `current` is its method and a number."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.connections: list[str] = []

    def connection_opened(self, connection: ObservedConnection) -> None:
        self.connections.append(f"opened over {connection.transport}")

    def connection_closed(
        self, connection: ObservedConnection, *, duration: float, status: str, error: Exception | None
    ) -> None:
        assert 0 <= duration < 30
        self.connections.append(f"closed by {status}")

    def call_started(self, call: ObservedCall) -> Context:
        self.started.append(call.method)
        context = copy_context()
        context.run(current.set, f"{call.method} {len(self.started)}")
        return context

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        self.ended.append((call.method, "cancelled" if cancelled else "returned" if error is None else str(error)))


class WatchedHub(Hub):
    """Its methods tell where they run, before and behind whatever they wait for."""

    def __init__(self, rt: Runtime, *observers: Observer, config: HubConfig | None = None) -> None:
        super().__init__(config, observers=observers)
        self.rt = rt
        self.gate = rt.Event()
        self.cleaned: list[str] = []
        self.greeted: list[str] = []
        self.method("Plain")(self.plain)
        self.method("Later")(self.later)
        self.method("Handed")(self.handed)
        self.method("Items")(self.items)
        self.method("Returned")(self.returned)
        self.method("Uploaded")(self.uploaded)
        self.method("Fail")(self.fail)
        self.on_connected(self.greet)

    def greet(self, call: Call) -> None:
        self.greeted.append(current.get())

    def plain(self) -> list[str]:
        return [current.get()]

    async def later(self) -> list[str]:
        before = current.get()
        await self.rt.sleep(0)
        return [before, current.get()]

    def handed(self) -> Awaitable[list[str]]:
        return self.later()

    async def items(self) -> AsyncIterator[str]:
        try:
            yield current.get()
            await self.rt.sleep(0)
            yield current.get()
            await self.gate.wait()
        finally:
            self.cleaned.append(current.get())

    async def returned(self) -> AsyncIterator[str]:
        return self.items()

    async def uploaded(self, items: AsyncIterator[str]) -> list[str]:
        return [f"{item} in {current.get()}" async for item in items]

    async def fail(self) -> None:
        await self.rt.sleep(0)
        raise HubError("no")


@pytest.mark.parametrize(("target", "times"), [("Plain", 1), ("Later", 2), ("Handed", 2)])
async def test_all_of_a_call_runs_in_the_context_that_it_is_given(rt: Runtime, target: str, times: int) -> None:
    observer = Numbering()
    async with rt.serve(WatchedHub(rt, observer)) as server, rt.connect(server.url) as client:
        for number in (2, 3):
            assert await client.invoke(target) == [f"{target} {number}"] * times
    assert observer.ended == [("on_connected", "returned"), (target, "returned"), (target, "returned")]
    assert current.get() == "nothing"


@pytest.mark.parametrize("target", ["Items", "Returned"])
async def test_the_whole_of_a_stream_runs_in_it(rt: Runtime, target: str) -> None:
    observer = Numbering()
    hub = WatchedHub(rt, observer)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream(target) as items:
            assert [await anext(items), await anext(items)] == [f"{target} 2"] * 2
            assert observer.ended == [("on_connected", "returned")]
        await rt.eventually(lambda: observer.ended[1:] == [(target, "cancelled")])
    assert hub.cleaned == [f"{target} 2"]


async def test_the_reader_of_an_upload_runs_in_it(rt: Runtime) -> None:
    async with rt.serve(WatchedHub(rt, Numbering())) as server, rt.connect(server.url) as client:
        assert await client.invoke("Uploaded", client.upload(["a", "b"])) == ["a in Uploaded 2", "b in Uploaded 2"]


async def test_calls_that_run_side_by_side_have_their_own(rt: Runtime) -> None:
    results: list[list[str]] = []
    hub = WatchedHub(rt, Numbering(), config=HubConfig(max_parallel_calls=10))
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:

        async def call() -> None:
            results.append(await client.invoke("Later"))

        for _ in range(10):
            tasks.start_soon(call)
    assert sorted(results) == sorted([f"Later {number}"] * 2 for number in range(2, 12))


async def test_connections_and_errors_are_told(rt: Runtime) -> None:
    observer = Numbering()
    hub = WatchedHub(rt, observer)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            with pytest.raises(HubError):
                await client.invoke("Fail")
        await rt.eventually(lambda: observer.connections == ["opened over web_sockets", "closed by normal_closure"])
        async with rt.connect(server.url):
            server.server.close()
            await server.server.wait_closed()
    assert observer.connections[2:] == ["opened over web_sockets", "closed by app_shutdown"]
    assert observer.ended[1] == ("Fail", "no")
    assert hub.greeted == ["on_connected 1", "on_connected 3"]


async def test_a_client_that_never_shakes_hands_timed_out(rt: Runtime) -> None:
    observer = Numbering()
    config = HubConfig(handshake_timeout=0.1, close_timeout=0.1)
    async with rt.serve(WatchedHub(rt, observer), config=config) as server:
        with await rt.tcp(server.port) as tcp:
            await Peer(tcp, Peer.CLIENT).upgrade("/hub")
            await rt.eventually(lambda: observer.connections == ["opened over web_sockets", "closed by timeout"])


async def test_an_observer_that_raises_hurts_no_connection(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Observer):
        def connection_opened(self, connection: ObservedConnection) -> None:
            raise ValueError("broken")

        def call_started(self, call: ObservedCall) -> Context | None:
            raise ValueError("broken")

    async with rt.serve(WatchedHub(rt, Faulty())) as server:
        for _ in range(2):
            async with rt.connect(server.url) as client:
                assert await client.invoke("Plain") == ["nothing"]
                async with client.stream("Items") as items:
                    assert await anext(items) == "nothing"
    assert len([record for record in caplog.records if "will not be logged again" in record.getMessage()]) == 2
