"""How connections end: by the client, by the server, by accident."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubproto_core import Hub, HubConfig, HubError, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime, Served, Task
from tests.kit.tcp import Tcp


class EndingHub(Hub):
    """Has a call that waits for the test, and one that waits for ever."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.gate: Event = rt.Event()
        self.begun: list[str] = []
        self.ended: list[Exception | None] = []
        self.method("Gated")(self.gated)
        self.method("Ticks")(self.ticks)
        self.method("Add")(lambda a, b: a + b)
        self.method("Length")(self.length)
        self.on_disconnected(self.disconnected)

    async def gated(self) -> str:
        self.begun.append("gated")
        await self.gate.wait()
        return "done"

    async def ticks(self) -> AsyncIterator[int]:
        self.begun.append("ticks")
        yield 0
        await self.gate.wait()
        yield 1

    def length(self, text: str) -> int:
        return len(text)

    def disconnected(self, error: Exception | None) -> None:
        self.ended.append(error)


@asynccontextmanager
async def killable(rt: Runtime, hub: Hub, **options: Any) -> AsyncIterator[tuple[Served, Task]]:
    """A server in a task: cancelling it drops every connection."""
    served: list[Served] = []

    async def serve() -> None:
        async with rt.serve(hub, **options) as server:
            served.append(server)
            await rt.sleep_forever()

    async with rt.tasks() as tasks:
        task = tasks.start_soon(serve)
        await rt.eventually(lambda: served)
        yield served[0], task
        task.cancel()


class Raised:
    """Collects what calls raise."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    async def note(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except Exception as error:
            self.errors.append(error)


# by the client


async def test_leaving_in_order_is_an_end_without_an_error(rt: Runtime) -> None:
    hub = EndingHub(rt)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 2, 3) == 5
        await rt.eventually(lambda: hub.ended == [None])
        with pytest.raises(TransportError, match="closed"):
            await client.invoke("Add", 2, 3)


class MineError(Exception):
    """Of the test."""


@pytest.mark.parametrize("group", [False, True], ids=["an exception", "a group"])
async def test_leaving_by_an_exception_drops_the_socket_and_the_exception_comes_out_as_it_is(
    rt: Runtime, group: bool
) -> None:
    hub = EndingHub(rt)
    mine: Exception = ExceptionGroup("mine", [MineError("mine")]) if group else MineError("mine")
    async with rt.serve(hub) as server:
        try:
            async with rt.connect(server.url) as client:
                await client.send("Gated")
                await rt.eventually(lambda: hub.begun)
                raise mine
        except Exception as caught:
            assert caught is mine  # noqa: PT017 - a group in a group would match too
        hub.gate.set()
        await rt.eventually(lambda: len(hub.ended) == 1)
        assert isinstance(hub.ended[0], TransportError)


async def test_an_error_of_the_hub_comes_out_of_the_connection_as_it_is(rt: Runtime) -> None:
    async with rt.serve(EndingHub(rt)) as server:
        with pytest.raises(HubError, match="Method does not exist"):
            async with rt.connect(server.url) as client:
                await client.invoke("Missing")


async def test_leaving_by_cancellation_drops_the_socket(rt: Runtime) -> None:
    hub = EndingHub(rt)
    async with rt.serve(hub) as server:
        async with rt.move_on_after(0.05) as outcome:
            async with rt.connect(server.url):
                await rt.sleep_forever()
        assert outcome.cancelled
        await rt.eventually(lambda: len(hub.ended) == 1)
        assert isinstance(hub.ended[0], TransportError)


async def test_calls_of_other_tasks_end_when_the_client_leaves(rt: Runtime) -> None:
    hub = EndingHub(rt)
    raised = Raised()
    async with rt.serve(hub) as server, rt.tasks() as tasks:
        async with rt.connect(server.url) as client:
            tasks.start_soon(raised.note, lambda: client.invoke("Gated"))
            await rt.eventually(lambda: hub.begun == ["gated"])
        await rt.eventually(lambda: raised.errors)
    assert isinstance(raised.errors[0], TransportError)


async def test_leaving_takes_no_longer_than_the_close_timeout_when_nobody_answers(rt: Runtime) -> None:
    ended = rt.Event()

    async def server(tcp: Tcp) -> None:
        await Peer.answer(tcp)
        await ended.wait()  # reads nothing any more

    async with rt.listen(server) as port:
        begun = rt.current_time()
        config = HubConfig(close_timeout=0.2, max_message_size=None)
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, config=config):
            pass
        assert 0.2 <= rt.current_time() - begun + 0.01 < 2
        ended.set()


async def test_leaving_takes_no_longer_than_the_close_timeout_when_nobody_reads(rt: Runtime) -> None:
    ended = rt.Event()

    async def server(tcp: Tcp) -> None:
        await Peer.answer(tcp)
        await ended.wait()

    async with rt.listen(server) as port, rt.fail_after(5):
        config = HubConfig(close_timeout=0.2, max_message_size=None)
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, config=config) as client:
            async with rt.move_on_after(0.3) as outcome:
                for _ in range(1000):
                    await client.send("Length", "x" * 100_000)
            assert outcome.cancelled
        ended.set()


# by the server


async def test_a_shutdown_lets_a_running_call_finish_and_the_client_sees_the_end(rt: Runtime) -> None:
    hub = EndingHub(rt)
    results: list[str] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:

        async def call() -> None:
            results.append(await client.invoke("Gated"))

        tasks.start_soon(call)
        await rt.eventually(lambda: hub.begun == ["gated"])
        server.server.close()
        with pytest.raises(TransportError):
            async with rt.connect(server.url):
                pass
        assert results == []
        hub.gate.set()
        await rt.eventually(lambda: results == ["done"])
        await server.server.wait_closed()
        with pytest.raises(TransportError):
            await client.invoke("Add", 2, 3)
    assert len(hub.ended) == 1


async def test_a_shutdown_lets_a_stream_finish(rt: Runtime) -> None:
    hub = EndingHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Ticks") as items:
            assert await anext(items) == 0
            server.server.close()
            hub.gate.set()
            assert [item async for item in items] == [1]


async def test_a_shutdown_cancels_what_takes_too_long(rt: Runtime) -> None:
    hub = EndingHub(rt, HubConfig(shutdown_timeout=0.1))
    raised = Raised()
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:
        tasks.start_soon(raised.note, lambda: client.invoke("Gated"))
        await rt.eventually(lambda: hub.begun == ["gated"])
        begun = rt.current_time()
        server.server.close()
        await server.server.wait_closed()
        assert rt.current_time() - begun < 3
    assert len(hub.ended) == 1


async def test_a_shutdown_is_not_held_up_by_a_client_that_reads_nothing(rt: Runtime) -> None:
    hub = EndingHub(rt, HubConfig(shutdown_timeout=0.1, close_timeout=0.1))
    produced: list[int] = []

    @hub.method("Pieces")
    async def pieces() -> AsyncIterator[str]:
        while True:
            produced.append(1)
            yield "x" * 16384

    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 4, "invocationId": "1", "target": "Pieces", "arguments": []})
            await rt.settled(lambda: len(produced))
            server.server.close()
            await server.server.wait_closed()


async def test_close_twice_and_wait_twice(rt: Runtime) -> None:
    async with rt.serve(Hub()) as server:
        server.server.close()
        server.server.close()
        await server.server.wait_closed()
        await server.server.wait_closed()


async def test_a_server_left_by_an_exception_raises_it_as_it_is(rt: Runtime) -> None:
    mine = MineError("mine")
    with pytest.raises(MineError) as caught:
        async with rt.serve(Hub()) as server:
            async with rt.connect(server.url):
                raise mine
    assert caught.value is mine


async def test_a_port_in_use_is_an_oserror(rt: Runtime) -> None:
    async with rt.serve(Hub()) as server:
        with pytest.raises(OSError, match=r"in use|Address"):
            async with rt.serve(Hub(), port=server.port):
                pass


# by accident


async def test_a_call_ends_at_once_when_the_server_dies(rt: Runtime) -> None:
    hub = EndingHub(rt)
    raised = Raised()
    async with killable(rt, hub) as (server, task), rt.connect(server.url) as client, rt.tasks() as tasks:
        tasks.start_soon(raised.note, lambda: client.invoke("Gated"))
        await rt.eventually(lambda: hub.begun == ["gated"])
        begun = rt.current_time()
        task.cancel()
        await rt.eventually(lambda: raised.errors)
        assert rt.current_time() - begun < 1
        with pytest.raises(TransportError):
            await client.invoke("Add", 2, 3)
        with pytest.raises(TransportError):
            async with client.stream("Ticks"):
                pass
    assert isinstance(raised.errors[0], TransportError)


async def test_a_stream_gives_what_has_come_and_then_the_error_when_the_server_dies(rt: Runtime) -> None:
    hub = EndingHub(rt)
    async with killable(rt, hub) as (server, task), rt.connect(server.url) as client:
        async with client.stream("Ticks") as items:
            await rt.eventually(lambda: hub.begun == ["ticks"])
            assert await client.invoke("Add", 2, 3) == 5
            task.cancel()
            assert await anext(items) == 0
            with pytest.raises(TransportError):
                await anext(items)


async def test_a_sender_that_waits_for_the_socket_ends_when_the_connection_does(rt: Runtime) -> None:
    full = rt.Event()

    async def server(tcp: Tcp) -> None:
        await Peer.answer(tcp)
        await full.wait()
        tcp.reset()

    raised = Raised()
    sent = 0
    async with rt.listen(server) as port, rt.fail_after(5):
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client, rt.tasks() as tasks:

            async def send() -> None:
                nonlocal sent
                while True:
                    await client.send("Length", "x" * 100_000)
                    sent += 1

            tasks.start_soon(raised.note, send)
            await rt.settled(lambda: sent)
            full.set()
    assert isinstance(raised.errors[0], TransportError)


async def test_an_upload_that_waits_for_the_socket_ends_when_the_connection_does(rt: Runtime) -> None:
    full = rt.Event()
    produced = 0
    ended = False

    async def server(tcp: Tcp) -> None:
        await Peer.answer(tcp)
        await full.wait()
        tcp.reset()

    async def items() -> AsyncIterator[str]:
        nonlocal produced, ended
        try:
            while True:
                produced += 1
                yield "x" * 16384
        finally:
            ended = True

    async with rt.listen(server) as port, rt.fail_after(5):
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client, rt.tasks() as tasks:
            raised = Raised()
            tasks.start_soon(raised.note, lambda: client.invoke("Upload", client.upload(items())))
            await rt.settled(lambda: produced)
            full.set()
    assert ended
    assert isinstance(raised.errors[0], TransportError)


@pytest.mark.parametrize("reset", [False, True], ids=["cut off", "reset"])
async def test_a_connection_without_a_farewell_is_a_transport_error(rt: Runtime, reset: bool) -> None:
    called = rt.Event()

    async def server(tcp: Tcp) -> None:
        peer = await Peer.answer(tcp)
        await peer.read()
        called.set()
        if reset:
            tcp.reset()

    async with rt.listen(server) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            with pytest.raises(TransportError):
                await client.invoke("Add", 2, 3)
            assert called.is_set()


async def test_a_farewell_with_an_error_is_told(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        peer = await Peer.answer(tcp)
        await peer.read()
        await peer.send({"type": 7, "error": "go away"})
        await peer.read_until_closed()

    async with rt.listen(server) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            text = "^The server closed the connection with the following error: go away$"
            with pytest.raises(HubError, match=text):
                await client.invoke("Add", 2, 3)
            with pytest.raises(HubError, match=text):
                await client.invoke("Add", 2, 3)


async def test_a_message_over_the_servers_limit_closes_the_connection(rt: Runtime) -> None:
    hub = EndingHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as other:
        async with rt.connect(server.url) as client:
            assert await client.invoke("Length", "x" * 32_000) == 32_000
            with pytest.raises(HubError) as caught:
                await client.invoke("Length", "x" * 40_000)
        assert str(caught.value) == (
            "The server closed the connection with the following error: Connection closed with an error."
        )
        assert await other.invoke("Add", 2, 3) == 5


async def test_detailed_errors_tell_that_a_message_was_over_the_limit(rt: Runtime) -> None:
    async with rt.serve(EndingHub(rt, HubConfig(detailed_errors=True))) as server:
        async with rt.connect(server.url) as client:
            with pytest.raises(HubError) as caught:
                await client.invoke("Length", "x" * 40_000)
    assert str(caught.value) == (
        "The server closed the connection with the following error: Connection closed with an error. "
        "InvalidDataException: The maximum message size of 32768B was exceeded. "
        "The message size can be configured in AddHubOptions."
    )


async def test_a_message_over_the_clients_limit_ends_its_connection(rt: Runtime) -> None:
    hub = EndingHub(rt)
    hub.method("Big")(lambda size: "x" * size)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            assert len(await client.invoke("Big", 1_000_000)) == 1_000_000
        async with rt.connect(server.url, config=HubConfig(max_message_size=1000)) as client:
            with pytest.raises(Exception, match="maximum message size of 1000B was exceeded"):
                await client.invoke("Big", 2000)
