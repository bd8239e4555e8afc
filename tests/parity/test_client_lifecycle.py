"""A client's life: started, lost, back again, stopped; and who hears of it."""

from __future__ import annotations

import gc
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import (
    Call,
    ClientEvent,
    ClientSession,
    ClientState,
    Closed,
    Connected,
    Connecting,
    ConnectionFailed,
    ConnectTimeout,
    Hub,
    HubConfig,
    HubError,
    LocalProtocolError,
    NotConnected,
    Reconnected,
    ReconnectFailed,
    Reconnecting,
    ReconnectPolicy,
    Retry,
    ServerGone,
    Transport,
    TransportError,
)
from tests.kit.peer import Peer
from tests.kit.runtimes import Connection, Runtime, over_each_transport
from tests.kit.tcp import Tcp

SOON = ReconnectPolicy(delays=[0.0, 0.01], max_attempts=1000, growth=1)


def news_hub() -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)

    @hub.method("Tell")
    def tell(text: str, call: Call) -> None:
        call.clients.all.send("news", text)

    return hub


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A server at a port of its own, which treats the n-th connection by the n-th of its behaviours, the last for ever.

    All of its connections skip negotiation.
    """

    def __init__(self, *behaviours: Callable[[Peer], Any]) -> None:
        self.behaviours = list(behaviours)
        self.count = 0

    async def __call__(self, tcp: Tcp) -> None:
        behaviour = self.behaviours[min(self.count, len(self.behaviours) - 1)]
        self.count += 1
        await behaviour(await Peer.answer(tcp))


async def stays(peer: Peer) -> None:
    await peer.read_until_closed()


async def breaks_at_a_message(peer: Peer) -> None:
    await peer.read()
    peer.tcp.reset()


def says_farewell(**members: Any) -> Callable[[Peer], Any]:
    async def behaviour(peer: Peer) -> None:
        await peer.read()
        await peer.send({"type": 7, **members})
        await peer.read_until_closed()

    return behaviour


# --- start and stop --------------------------------------------------------------------------------------------------


@over_each_transport
async def test_a_client_starts_and_stops_again_and_again(rt: Runtime) -> None:
    async with rt.serve(news_hub()) as server, rt.client(server.url) as client:
        seen = [client.state]
        for _ in range(3):
            await client.start()
            seen.append(client.state)
            assert client.connection_id
            assert await client.invoke("Add", 2, 3) == 5
            await client.stop()
            seen.append(client.state)
            await client.stop()
            with pytest.raises(TransportError, match="is closed"):
                await client.invoke("Add", 2, 3)
    assert seen == [ClientState.DISCONNECTED] + [ClientState.CONNECTED, ClientState.DISCONNECTED] * 3


@over_each_transport
async def test_handlers_outlive_a_stop(rt: Runtime) -> None:
    news: list[str] = []
    async with rt.serve(news_hub()) as server, rt.client(server.url) as client:
        client.on("news", news.append)
        for text in ("one", "two"):
            await client.start()
            await client.send("Tell", text)
            await rt.eventually(lambda text=text: text in news)  # type: ignore[misc]
            await client.stop()
    assert news == ["one", "two"]


async def test_a_start_that_fails_can_be_tried_again(rt: Runtime) -> None:
    async with rt.serve(news_hub()) as server, rt.client(server.url.replace("/hub", "/elsewhere")) as client:
        for _ in range(2):
            with pytest.raises(ConnectionFailed, match="404"):
                await client.start()
            assert client.state is ClientState.DISCONNECTED


async def test_a_client_is_entered_before_it_starts(rt: Runtime) -> None:
    client = rt.client("http://127.0.0.1:1/hub")
    for verb in (client.start, client.stop):
        with pytest.raises(LocalProtocolError, match="enter the client first"):
            await verb()
    async with client:
        with pytest.raises(LocalProtocolError, match="only once"):
            await client.__aenter__()


async def test_a_client_starts_only_when_it_is_disconnected(rt: Runtime) -> None:
    async with rt.serve(news_hub()) as server, rt.connect(server.url) as client:
        with pytest.raises(LocalProtocolError, match="it is connected"):
            await client.start()
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_start_can_be_cancelled(rt: Runtime) -> None:
    async def silent(tcp: Tcp) -> None:
        await tcp.receive_all()

    async with rt.listen(silent) as port, rt.client(f"http://127.0.0.1:{port}/hub") as client:
        async with rt.move_on_after(0.05) as outcome:
            await client.start()
        assert outcome.cancelled
        await rt.eventually(lambda: client.state is ClientState.DISCONNECTED)


async def test_leaving_says_farewell_to_a_client_that_was_started(rt: Runtime) -> None:
    said: list[Any] = []

    async def listens(peer: Peer) -> None:
        said.extend(await peer.read_until_closed())

    async with rt.listen(Server(listens)) as port:
        async with rt.client(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            await client.start()
        await rt.eventually(lambda: said == [{"type": 7}])


# --- coming back -----------------------------------------------------------------------------------------------------


@over_each_transport
async def test_a_client_comes_back_and_its_handlers_fire(rt: Runtime) -> None:
    hub = news_hub()
    told: list[Any] = []
    news: list[str] = []
    ids: list[str | None] = []
    port = free_port()
    client = rt.client(f"http://127.0.0.1:{port}/hub", reconnect=SOON)
    client.on("news", news.append)
    client.on_connecting(lambda: told.append("connecting"))
    client.on_connected(lambda id_: told.append(("connected", id_)))
    client.on_reconnecting(lambda error: told.append(("reconnecting", error)))
    client.on_reconnected(lambda id_: told.append(("reconnected", id_)))
    client.on_closed(lambda error: told.append(("closed", error)))
    async with client:
        for text in ("one", "two"):
            async with rt.serve(hub, port=port):
                if not ids:
                    await client.start()
                await rt.eventually(lambda: client.state is ClientState.CONNECTED)
                ids.append(client.connection_id)
                assert await client.invoke("Add", 2, 3) == 5
                await client.send("Tell", text)
                await rt.eventually(lambda text=text: news[-1:] == [text])  # type: ignore[misc]
            await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
    assert news == ["one", "two"]
    assert ids[0] != ids[1]
    assert told == [
        "connecting",
        ("connected", ids[0]),
        ("reconnecting", None),  # the server said farewell
        ("reconnected", ids[1]),
        ("reconnecting", None),
        ("closed", None),
    ]


async def test_events_come_as_an_iterator_that_ends(rt: Runtime) -> None:
    events: list[ClientEvent] = []

    async def watch(client: Connection) -> None:
        events.extend([event async for event in client.events()])

    async with rt.tasks() as tasks, rt.listen(Server(breaks_at_a_message, stays)) as port:
        client = rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=SOON)
        before = client.events()
        async with client:
            assert await anext(before) == Connecting()
            assert await anext(before) == Connected(None)
            tasks.start_soon(watch, client)
            await rt.sleep(0)
            await client.send("Break")
            assert isinstance(await anext(before), Reconnecting)
            assert await anext(before) == Reconnected(None)
        assert await anext(before) == Closed(None)
        with pytest.raises(StopAsyncIteration):
            await anext(before)
    assert [type(event) for event in events[-2:]] == [Reconnected, Closed]


async def test_what_is_pending_at_a_cut_fails_at_once(rt: Runtime) -> None:
    async with rt.listen(Server(breaks_at_a_message, stays)) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=SOON) as client:
            with pytest.raises(ServerGone, match=f"http://127.0.0.1:{port}/hub is gone"):
                await client.invoke("Slow")
            await rt.eventually(lambda: client.state is ClientState.CONNECTED)
            async with client.stream("Ticks"):
                pass


async def test_a_stream_fails_at_a_cut_too(rt: Runtime) -> None:
    async def gives_one_item(peer: Peer) -> None:
        call = await peer.read()
        await peer.send({"type": 2, "invocationId": call["invocationId"], "item": 1})
        await peer.read()
        peer.tcp.reset()

    async with rt.listen(Server(gives_one_item, stays)) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=SOON) as client:
            items = []
            with pytest.raises(ServerGone):
                async with client.stream("Ticks") as stream:
                    async for item in stream:
                        items.append(item)
                        await client.send("Go")
            assert items == [1]


async def test_calls_between_two_connections_say_so(rt: Runtime) -> None:
    async with rt.listen(Server(breaks_at_a_message)) as port:
        policy = ReconnectPolicy(delays=[60])
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=policy) as client:
            await client.send("Break")
            await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
            with pytest.raises(NotConnected, match="it is reconnecting"):
                await client.invoke("Add", 2, 3)
            with pytest.raises(NotConnected):
                client.stream("Ticks")


@pytest.mark.parametrize("allow", [True, False])
async def test_the_server_decides_who_may_return(rt: Runtime, allow: bool) -> None:
    server = Server(says_farewell(error="enough", allowReconnect=allow), stays)
    async with rt.listen(server) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=SOON) as client:
            with pytest.raises(HubError, match="following error: enough"):
                await client.invoke("Ask")
            expected = ClientState.CONNECTED if allow else ClientState.DISCONNECTED
            await rt.eventually(lambda: client.state is expected)
        assert server.count == 1 + allow


@over_each_transport
async def test_a_client_gives_up_as_its_policy_says(rt: Runtime) -> None:
    asked: list[Retry] = []

    def policy(retry: Retry) -> float | None:
        asked.append(retry)
        return 0.0 if retry.count < 3 else None

    closed: list[Exception | None] = []
    port = free_port()
    async with rt.client(f"http://127.0.0.1:{port}/hub", reconnect=policy) as client:
        client.on_closed(closed.append)
        async with rt.serve(news_hub(), port=port):
            await client.start()
        await rt.eventually(lambda: closed)
        with pytest.raises(ReconnectFailed, match="not made again by 3 attempts") as failed:
            await client.invoke("Add", 2, 3)
        assert closed == [failed.value]
        assert [retry.count for retry in asked] == [0, 1, 2, 3]


async def test_the_budget_is_whole_again_after_a_success(rt: Runtime) -> None:
    policy = ReconnectPolicy(delays=[0.0, 0.0])
    async with rt.listen(Server(breaks_at_a_message)) as port:
        reconnected = 0
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=policy) as client:
            for _ in range(5):
                events = client.events()
                await client.send("Break")
                async for event in events:
                    if isinstance(event, Reconnected):
                        reconnected += 1
                        break
        assert reconnected == 5


async def test_without_reconnect_a_cut_is_the_end(rt: Runtime) -> None:
    server = Server(breaks_at_a_message)
    async with rt.listen(server) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            await client.send("Break")
            with pytest.raises(ServerGone):
                async for event in client.events():
                    assert isinstance(event, Closed)
                    assert event.error is not None
                    raise event.error
        assert server.count == 1


# --- callbacks -------------------------------------------------------------------------------------------------------


@over_each_transport
async def test_callbacks_may_wait_and_call_the_hub(rt: Runtime) -> None:
    sums: list[int] = []
    async with rt.serve(news_hub()) as server:
        client = rt.connect(server.url)

        @client.on_connected
        async def greet(connection_id: str) -> None:
            await rt.sleep(0)
            sums.append(await client.invoke("Add", 2, 3))

        async with client:
            await rt.eventually(lambda: sums == [5])


async def test_a_callback_may_stop_the_client(rt: Runtime) -> None:
    server = Server(breaks_at_a_message)
    stopped = rt.Event()
    async with rt.listen(server) as port:
        client = rt.connect(
            f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=ReconnectPolicy(delays=[60])
        )

        @client.on_reconnecting
        async def enough(error: Exception | None) -> None:
            await client.stop()
            stopped.set()

        async with client:
            await client.send("Break")
            await stopped.wait()
            assert client.state is ClientState.DISCONNECTED
        assert server.count == 1


async def test_a_callback_may_start_the_client_again(rt: Runtime) -> None:
    server = Server(breaks_at_a_message, stays)
    async with rt.listen(server) as port:
        client = rt.client(f"http://127.0.0.1:{port}/hub", skip_negotiation=True)

        @client.on_closed
        async def again(error: Exception | None) -> None:
            if error is not None:
                await client.start()

        async with client:
            await client.start()
            await client.send("Break")
            await rt.eventually(lambda: server.count == 2 and client.state is ClientState.CONNECTED)


async def test_leaving_waits_for_callbacks_but_not_for_ever(rt: Runtime) -> None:
    ended: list[str] = []
    config = HubConfig(close_timeout=0.2)
    async with rt.serve(news_hub()) as server:
        client = rt.connect(server.url, config=config)

        @client.on_closed
        async def short(error: Exception | None) -> None:
            await rt.sleep(0.05)
            ended.append("short")

        @client.on_closed
        async def endless(error: Exception | None) -> None:
            try:
                await rt.sleep_forever()
            finally:
                ended.append("endless")

        async with rt.fail_after(3), client:
            pass
    assert ended == ["short", "endless"]


# --- stopping in each state ------------------------------------------------------------------------------------------


async def test_stopping_while_connecting(rt: Runtime) -> None:
    async def silent(tcp: Tcp) -> None:
        await tcp.receive_all()

    errors: list[Exception] = []
    async with rt.listen(silent) as port, rt.client(f"http://127.0.0.1:{port}/hub") as client, rt.tasks() as tasks:

        async def start() -> None:
            try:
                await client.start()
            except ConnectionFailed as error:
                errors.append(error)

        tasks.start_soon(start)
        await rt.eventually(lambda: client.state is ClientState.CONNECTING)
        async with rt.fail_after(3):
            await client.stop()
        assert client.state is ClientState.DISCONNECTED
        await rt.eventually(lambda: errors)
    assert "was stopped before it was made" in str(errors[0])


@pytest.mark.parametrize("during", ["the wait", "the attempt"])
async def test_stopping_while_reconnecting(rt: Runtime, during: str) -> None:
    count = 0

    async def server(tcp: Tcp) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await breaks_at_a_message(await Peer.answer(tcp))
        else:
            await tcp.receive_all()

    policy = ReconnectPolicy(delays=[60 if during == "the wait" else 0])
    async with rt.listen(server) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, reconnect=policy) as client:
            closed: list[Exception | None] = []
            client.on_closed(closed.append)
            await client.send("Break")
            await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
            await rt.eventually(lambda: count == 2 or during == "the wait")
            async with rt.fail_after(3):
                await client.stop()
            assert closed == [None]


async def test_stopping_a_frozen_server_s_client_takes_the_close_timeout(rt: Runtime) -> None:
    async def frozen(peer: Peer) -> None:
        await thawed.wait()

    thawed = rt.Event()
    config = HubConfig(close_timeout=0.2)
    async with rt.listen(Server(frozen)) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, config=config) as client:
            async with rt.fail_after(2):
                await client.stop()
            assert client.state is ClientState.DISCONNECTED
        thawed.set()


async def test_stopping_can_be_cancelled(rt: Runtime) -> None:
    async def frozen(peer: Peer) -> None:
        await thawed.wait()

    thawed = rt.Event()
    async with rt.listen(Server(frozen)) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            async with rt.move_on_after(0.05) as outcome:
                await client.stop()
            assert outcome.cancelled
            assert client.state is ClientState.DISCONNECTED
        thawed.set()


async def test_an_attempt_to_an_address_that_swallows_everything_ends_in_time(rt: Runtime) -> None:
    async def silent(tcp: Tcp) -> None:
        await tcp.receive_all()

    async with rt.listen(silent) as port:
        with pytest.raises(ConnectTimeout, match=r"within 0\.1 s"):
            async with rt.connect(f"http://127.0.0.1:{port}/hub", connect_timeout=0.1):
                pass


# --- nothing is left behind ------------------------------------------------------------------------------------------


class Killed(Exception):
    """Of a server."""


@dataclass(frozen=True)
class Belongings:
    """What a program has at one time."""

    files: int
    tasks: int
    objects: Counter[type]

    @classmethod
    def now(cls, rt: Runtime) -> Belongings:
        """Count them."""
        gc.collect()
        return cls(
            len(os.listdir("/proc/self/fd")), rt.living_tasks(), Counter(type(thing) for thing in gc.get_objects())
        )

    def grown(self, before: Belongings, by: int) -> dict[type, int]:
        """Of which types there are so many more objects.

        But for deadlines that were called off, which runtimes forget in bunches, and the weak references by which
        abstract classes remember the types that they were asked about.
        """
        more = (self.objects - before.objects).items()
        deadlines = {"CancelReason", "CancelScope", "Context", "TimerHandle", "tuple"}
        memories = {"ReferenceType", "builtin_function_or_method"}
        return {kind: count for kind, count in more if count >= by and kind.__name__ not in deadlines | memories}


@over_each_transport
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the open files of Linux")
@pytest.mark.parametrize("abruptly", [False, True], ids=["in order", "abruptly"])
async def test_a_server_that_restarts_50_times_leaves_nothing_behind_at_its_client(
    rt: Runtime, transport: Transport, abruptly: bool
) -> None:
    restarts = 50 if transport is Transport.WEB_SOCKETS else 25
    news: list[str] = []
    port = free_port()
    hub = news_hub()
    counts: list[Belongings] = []
    async with rt.client(f"http://127.0.0.1:{port}/hub", reconnect=SOON) as client:
        machine, runner = client._machine, client._runner  # type: ignore[attr-defined]
        client.on("news", news.append)
        for restart in range(restarts):
            with suppress(Killed):
                async with rt.serve(hub, port=port):
                    if restart == 0:
                        await client.start()
                    await rt.eventually(lambda: client.state is ClientState.CONNECTED)
                    await client.send("Tell", str(restart))
                    await rt.eventually(lambda restart=restart: news[-1:] == [str(restart)])  # type: ignore[misc]
                    if restart in (4, restarts - 1):
                        assert await client.invoke("Add", 2, 3) == 5
                        await rt.eventually(lambda: len(machine._attempts) == 1)
                        counts.append(Belongings.now(rt))
                    if abruptly:
                        raise Killed
            await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
        await rt.eventually(lambda: len(runner._pumps) <= 2)  # of the client itself, and of an attempt
        await rt.eventually(lambda: len(runner._waiters) <= 2)
    assert news == [str(n) for n in range(restarts)]
    early, late = counts
    assert late.files <= early.files + 1
    assert late.tasks <= early.tasks + 1
    assert late.grown(early, by=restarts // 2) == {}
    assert late.objects[ClientSession] == 1


# --- waiting for a connection ----------------------------------------------------------------------------------------


async def test_whoever_waits_goes_on_when_the_connection_is_made(rt: Runtime) -> None:
    said: list[ClientState] = []

    async def wait() -> None:
        await client.wait_connected()
        said.append(client.state)

    async with rt.serve(news_hub()) as server, rt.client(server.url) as client:
        with pytest.raises(LocalProtocolError, match="is not open yet"):
            await client.wait_connected()
        async with rt.tasks() as tasks:
            client.on_connecting(lambda: [tasks.start_soon(wait) for _ in range(3)])
            await client.start()
        assert said == [ClientState.CONNECTED] * 3
        await client.wait_connected()
        await client.stop()
        with pytest.raises(TransportError, match="is closed"):
            await client.wait_connected()


async def test_whoever_waits_goes_on_when_there_is_a_connection_again(rt: Runtime) -> None:
    states: list[ClientState] = []
    async with rt.listen(Server(breaks_at_a_message, stays)) as port:
        url = f"http://127.0.0.1:{port}/hub"
        async with rt.connect(url, skip_negotiation=True, reconnect=ReconnectPolicy(delays=[0.05])) as client:
            with pytest.raises(ServerGone):
                await client.invoke("Slow")
            states.append(client.state)
            with pytest.raises(NotConnected):
                await client.invoke("Slow")
            await client.wait_connected()
            states.append(client.state)
    assert states == [ClientState.RECONNECTING, ClientState.CONNECTED]


async def test_whoever_waits_for_a_connection_that_never_comes_is_told_why(rt: Runtime) -> None:
    port = free_port()
    async with rt.client(
        f"http://127.0.0.1:{port}/hub", reconnect=ReconnectPolicy(delays=[0.3], max_attempts=1)
    ) as client:
        async with rt.serve(news_hub(), port=port):
            await client.start()
        await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
        with pytest.raises(ReconnectFailed):
            await client.wait_connected()
        assert client.state is ClientState.DISCONNECTED


async def test_waiting_for_a_connection_can_be_cancelled(rt: Runtime) -> None:
    async with rt.listen(Server(breaks_at_a_message, stays)) as port:
        url = f"http://127.0.0.1:{port}/hub"
        async with rt.connect(url, skip_negotiation=True, reconnect=ReconnectPolicy(delays=[60.0])) as client:
            with pytest.raises(ServerGone):
                await client.invoke("Slow")
            async with rt.move_on_after(0.02) as outcome:
                await client.wait_connected()
            assert outcome.cancelled
            assert client.state is ClientState.RECONNECTING
