"""What is asyncio's own: tasks, timeouts, TaskGroups, other event loops and eager tasks."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from hubproto_asyncio import Connection, HubApp, HubClient, connect, serve
from hubproto_asyncio._client import _ClientRunner
from hubproto_asyncio._pump import SocketPump
from hubproto_core import Call, Hub, HubConfig, HubError, TransportError
from tests.kit.asgi import Host
from tests.kit.runtimes import Runtime, runtimes


@pytest.fixture(params=runtimes("asyncio"), ids=str)
def rt(request: pytest.FixtureRequest) -> Runtime:
    runtime: Runtime = request.param
    return runtime


class NativeHub(Hub):
    """Notes what was cancelled."""

    def __init__(self) -> None:
        super().__init__(HubConfig(max_parallel_calls=10))
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.method("Add")(self.add)
        self.method("Throw")(self.throw)
        self.method("Slow")(self.slow)
        self.method("Numbers")(self.numbers)
        self.method("Sum")(self.sum)
        self.method("Call")(self.call)

    async def add(self, a: int, b: int) -> int:
        return a + b

    async def throw(self) -> None:
        raise HubError("told to the client")

    async def slow(self) -> None:
        self.begun.append("slow")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.append("slow")
            raise

    async def numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
            if count == 3:
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.append("numbers")
            raise

    async def sum(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    def call(self, call: Call) -> None:
        call.clients.caller.send("back", 1)


async def everything_works(rt: Runtime, hub: NativeHub, client: Connection) -> None:
    """A call, an error, a stream, an upload, a handler and two cancellations."""
    assert await client.invoke("Add", 2, 3) == 5
    with pytest.raises(HubError, match="told to the client"):
        await client.invoke("Throw")
    async with client.stream("Numbers", 1000) as items:
        assert [item async for item in items] == list(range(1000))

    async def numbers() -> AsyncIterator[int]:
        for number in range(1000):
            yield number

    assert await client.invoke("Sum", client.upload(numbers())) == 499_500
    assert await client.invoke("Sum", client.upload(range(10))) == 45
    received: list[int] = []

    @client.on("back")
    async def back(number: int) -> None:
        received.append(await client.invoke("Add", number, 1))

    await client.invoke("Call")
    await rt.eventually(lambda: received == [2])
    task = asyncio.create_task(client.invoke("Slow"))
    await rt.eventually(lambda: hub.begun == ["slow"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await rt.eventually(lambda: hub.cancelled == ["slow"])
    async with client.stream("Numbers", 3) as items:
        assert [await anext(items), await anext(items), await anext(items)] == [0, 1, 2]
    await rt.eventually(lambda: hub.cancelled == ["slow", "numbers"])
    assert await asyncio.gather(*[client.invoke("Add", number, 1) for number in range(50)]) == list(range(1, 51))


async def test_everything_works(rt: Runtime) -> None:
    hub = NativeHub()
    async with serve(hub, "/hub") as server, connect(f"http://127.0.0.1:{server.port}/hub") as client:
        await everything_works(rt, hub, client)


if sys.version_info >= (3, 12):

    async def test_everything_works_with_eager_tasks(rt: Runtime) -> None:
        if "uvloop" in rt.name:
            pytest.skip("uvloop calls task factories with an argument that asyncio's own eager one does not take")
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        hub = NativeHub()
        async with serve(hub, "/hub") as server, connect(f"http://127.0.0.1:{server.port}/hub") as client:
            await everything_works(rt, hub, client)


async def test_everything_works_in_debug_mode(rt: Runtime) -> None:
    asyncio.get_running_loop().set_debug(True)
    hub = NativeHub()
    async with serve(hub, "/hub") as server, connect(f"http://127.0.0.1:{server.port}/hub") as client:
        await everything_works(rt, hub, client)


async def test_a_socket_may_open_just_as_nobody_wants_it_any_more(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = NativeHub()
    made = SocketPump.connection_made
    opened = asyncio.Event()
    async with rt.serve(hub) as server:
        client = HubClient(server.url)

        def connection_made(pump: SocketPump, transport: asyncio.BaseTransport) -> None:
            made(pump, transport)
            if isinstance(pump._runner, _ClientRunner):
                opened.set()
                for opening in pump._runner._openings:
                    opening.task.cancel()

        monkeypatch.setattr(SocketPump, "connection_made", connection_made)
        async with client:
            starting = asyncio.create_task(client.start())
            await opened.wait()
            await client.stop()
        with pytest.raises(TransportError):
            await starting


async def test_timeout_and_wait_for_end_a_call(rt: Runtime) -> None:
    hub = NativeHub()
    async with rt.serve(hub) as server, connect(server.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.invoke("Slow")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.invoke("Slow"), 0.02)
        await rt.eventually(lambda: hub.cancelled == ["slow"] * len(hub.begun))
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_failing_task_group_cancels_its_calls(rt: Runtime) -> None:
    hub = NativeHub()
    async with rt.serve(hub) as server, connect(server.url) as client:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(client.invoke("Slow"))
                await rt.eventually(lambda: hub.begun == ["slow"])
                group.create_task(client.invoke("Throw"))
        assert [type(error) for error in caught.value.exceptions] == [HubError]
        await rt.eventually(lambda: hub.cancelled == ["slow"])


async def test_cancelling_a_task_inside_its_connection_drops_it(rt: Runtime) -> None:
    hub = NativeHub()
    entered = asyncio.Event()

    async def stay(url: str) -> None:
        async with connect(url) as client:
            await client.invoke("Add", 2, 3)
            entered.set()
            await client.invoke("Slow")

    async with rt.serve(hub) as server:
        task = asyncio.create_task(stay(server.url))
        await entered.wait()
        await rt.eventually(lambda: hub.begun == ["slow"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rt.eventually(lambda: hub.cancelled == ["slow"])


async def test_a_task_cancelled_before_it_connects(rt: Runtime) -> None:
    async def stay(url: str) -> None:
        async with connect(url):
            pytest.fail("it was cancelled before")

    async with rt.serve(NativeHub()) as server:
        task = asyncio.create_task(stay(server.url))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_task_that_serves_can_be_cancelled(rt: Runtime) -> None:
    ports: list[int] = []

    async def run() -> None:
        async with serve(NativeHub(), "/hub") as server:
            ports.append(server.port)
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(run())
    await rt.eventually(lambda: ports)
    async with connect(f"http://127.0.0.1:{ports[0]}/hub") as client:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TransportError):
            await client.invoke("Add", 2, 3)


async def test_a_cancelled_call_leaves_the_cancellation_count_alone(rt: Runtime) -> None:
    async with rt.serve(NativeHub()) as server, connect(server.url) as client:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.invoke("Slow")
        assert task.cancelling() == 0


def test_an_application_needs_no_lifespan_and_goes_on_in_another_loop(rt: Runtime) -> None:
    """As in a framework's test client, which may run each request in a loop of its own."""
    app = HubApp(NativeHub())

    async def call() -> None:
        async with Host.websocket(rt, app) as client:
            client.write({"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]})
            assert await client.read() == [{"type": 3, "invocationId": "1", "result": 3}]
            client.say("websocket.disconnect", code=1000)
            await client.end()

    for _ in range(2):
        rt.run(call, 10.0)


async def test_small_pieces_of_a_client_go_at_once(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    hurries: list[int] = []

    class Pump(SocketPump):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sock = transport.get_extra_info("socket")
            hurries.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    monkeypatch.setattr("hubproto_asyncio._client.SocketPump", Pump)
    async with rt.serve(Hub()) as server, connect(server.url):
        pass
    assert len(hurries) == 2
    assert all(hurries)
