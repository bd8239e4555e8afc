"""Peers that break off, say nonsense or fall silent: nobody else notices."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hubproto_core import Hub, HubConfig, HubError, HubSession, TransportError
from hubproto_core.http import HttpConfig, HttpServerConnection
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import pack

UPGRADE = (
    b"GET /hub HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
NUMBERS = {"type": 4, "invocationId": "1", "target": "Numbers", "arguments": []}


class BusyHub(Hub):
    """Knows how many of its endless streams run."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__()
        self.rt = rt
        self.running = 0
        self.connected = 0
        self.method("Add")(lambda a, b: a + b)
        self.method("Numbers")(self.numbers)
        self.on_connected(self.count_up)
        self.on_disconnected(self.count_down)

    async def numbers(self) -> AsyncIterator[int]:
        self.running += 1
        try:
            while True:
                yield 0
                await self.rt.sleep(0)
        finally:
            self.running -= 1

    def count_up(self) -> None:
        self.connected += 1

    def count_down(self) -> None:
        self.connected -= 1


async def half_a_request(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        await tcp.send(UPGRADE[:40])


async def half_a_request_and_eof(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        await tcp.send(UPGRADE[:40])
        tcp.send_eof()
        await tcp.receive_all()


async def nothing_at_all(rt: Runtime, port: int) -> None:
    with await rt.tcp(port):
        pass


async def garbage(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        await tcp.send(b"\x00\xff\x16\x03\x01 garbage \r\n\r\n" * 10)
        assert b"400" in await tcp.receive_all()


async def a_huge_header(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        try:
            await tcp.send(b"GET /hub HTTP/1.1\r\nX: " + b"x" * 1_000_000)
        except ConnectionError:
            return  # it has heard enough
        await tcp.receive_all()


async def garbage_behind_the_upgrade(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        await tcp.send(UPGRADE + b"\xff" * 100)
        assert b"101" in await tcp.receive_all()


async def garbage_behind_the_handshake(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        await peer.tcp.send(b"\xff" * 100)
        await peer.tcp.receive_all()


async def bad_json(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        await peer.write(b'{"type":1,"target":\x1e')
        assert (await peer.read_until_closed())[-1]["type"] == 7
        assert peer.closed == 1000


async def a_bad_handshake(rt: Runtime, port: int) -> None:
    with await rt.tcp(port) as tcp:
        peer = Peer(tcp, Peer.CLIENT)
        await peer.upgrade("/hub")
        await peer.write(pack({"protocol": "semaphore", "version": 1}))
        assert await peer.read_until_closed() == [{"error": "The protocol 'semaphore' is not supported."}]


async def cut_in_the_middle_of_a_stream(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        assert (await peer.read())["type"] == 2


async def reset_in_the_middle_of_a_stream(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        assert (await peer.read())["type"] == 2
        peer.tcp.reset()


async def half_closed_in_the_middle_of_a_stream(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        assert (await peer.read())["type"] == 2
        peer.tcp.send_eof()
        await peer.tcp.receive_all()


async def half_a_message(rt: Runtime, port: int) -> None:
    with await Peer.dial(rt, port) as peer:
        await peer.send(NUMBERS)
        await peer.write(b'{"type":1,"tar')


HOSTILE = [
    half_a_request,
    half_a_request_and_eof,
    nothing_at_all,
    garbage,
    a_huge_header,
    garbage_behind_the_upgrade,
    garbage_behind_the_handshake,
    bad_json,
    a_bad_handshake,
    cut_in_the_middle_of_a_stream,
    reset_in_the_middle_of_a_stream,
    half_closed_in_the_middle_of_a_stream,
    half_a_message,
]


@asynccontextmanager
async def bystander(rt: Runtime, url: str) -> AsyncIterator[Callable[[], bool]]:
    """A client that calls the hub all the time; asks whether it has been answered since it was asked last."""
    answers = 0
    seen = 0
    left = rt.Event()

    async def call() -> None:
        nonlocal answers
        async with rt.connect(url) as client:
            while not left.is_set():
                assert await client.invoke("Add", 2, 3) == 5
                answers += 1
                await rt.sleep(0)

    def answered() -> bool:
        nonlocal seen
        before, seen = seen, answers
        return answers > before

    async with rt.tasks() as tasks:
        tasks.start_soon(call)
        await rt.eventually(answered)
        yield answered
        await rt.eventually(answered)
        left.set()


@pytest.mark.parametrize("attack", HOSTILE, ids=[attack.__name__.replace("_", " ") for attack in HOSTILE])
async def test_twenty_bad_clients_disturb_nobody(
    rt: Runtime, attack: Callable[[Runtime, int], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    hub = BusyHub(rt)
    async with rt.serve(hub, config=HubConfig(close_timeout=0.05)) as server, bystander(rt, server.url):
        for _ in range(20):
            await attack(rt, server.port)
        await rt.eventually(lambda: hub.running == 0)
        await rt.eventually(lambda: hub.connected == 1)
    assert [record for record in caplog.records if record.exc_info] == []


def alive() -> int:
    """How many machines of server connections there are in memory."""
    gc.collect()
    return sum(type(thing) in (HubSession, HttpServerConnection) for thing in gc.get_objects())


async def test_bad_clients_leave_nothing_in_memory(rt: Runtime) -> None:
    before = alive()
    hub = BusyHub(rt)
    async with rt.serve(hub, config=HubConfig(close_timeout=0.05)) as server:
        for attack in HOSTILE:
            await attack(rt, server.port)
        with await Peer.dial(rt, server.port) as peer:  # what fails in the step that ends a call
            await peer.write(pack({"type": 1, "target": "Add", "arguments": [1, 2]}) + b"no JSON\x1e")
            await peer.read_until_closed()
        await rt.eventually(lambda: alive() == before)


async def test_twenty_silent_clients_at_once_disturb_nobody_and_are_let_go(rt: Runtime) -> None:
    hub = BusyHub(rt)
    http = HttpConfig(request_timeout=0.3)
    config = HubConfig(handshake_timeout=0.3, close_timeout=0.2)
    ended: list[int] = []

    async def say(port: int, data: bytes) -> None:
        with await rt.tcp(port) as tcp:
            await tcp.send(data)
            await tcp.receive_all()
            ended.append(1)

    async with rt.serve(hub, http=http, config=config) as server, bystander(rt, server.url), rt.tasks() as tasks:
        for number in range(20):
            tasks.start_soon(say, server.port, (b"", UPGRADE[:40], UPGRADE)[number % 3])
        await rt.eventually(lambda: len(ended) == 20)


@pytest.mark.parametrize("behind", [b"no JSON\x1e", b'{"type":7}\x1e'], ids=["a bad record", "a farewell"])
async def test_an_endless_stream_that_never_waits_ends_with_its_connection(rt: Runtime, behind: bytes) -> None:
    """Nothing but its connection can stop it; and the end of that is already there when it begins."""
    hub = BusyHub(rt)

    @hub.method("Zeros")
    async def zeros() -> AsyncIterator[int]:
        hub.running += 1
        try:
            while True:
                yield 0
        finally:
            hub.running -= 1

    async with rt.fail_after(5), rt.serve(hub) as server, bystander(rt, server.url) as answered:
        with await Peer.dial(rt, server.port) as peer:
            await peer.write(pack({**NUMBERS, "target": "Zeros"}) + behind)
            await peer.read_until_closed()
        await rt.eventually(lambda: hub.connected == 1)
        await rt.eventually(lambda: hub.running == 0)
        await rt.eventually(answered)


async def test_half_open_connections_hold_up_no_shutdown(rt: Runtime) -> None:
    config = HubConfig(close_timeout=0.1)
    async with rt.fail_after(5), rt.serve(BusyHub(rt), config=config) as server:
        with await rt.tcp(server.port) as silent, await rt.tcp(server.port) as half, await rt.tcp(server.port) as open_:
            await half.send(UPGRADE[:40])
            await open_.send(UPGRADE)
            assert b"101" in await open_.receive()
            server.server.close()
            assert await silent.receive_all() == b""
            await half.receive_all()
            await open_.receive_all()


# keep-alive


async def test_pings_keep_a_quiet_connection_up(rt: Runtime) -> None:
    config = HubConfig(keep_alive_interval=0.05, silence_timeout=0.5)
    async with rt.serve(BusyHub(rt), config=config) as server:
        async with rt.connect(server.url, config=config) as client:
            since = rt.current_time()
            await rt.eventually(lambda: rt.current_time() > since + 1.2)
            assert await client.invoke("Add", 2, 3) == 5


async def test_a_frozen_server_is_noticed(rt: Runtime) -> None:
    thawed = rt.Event()

    async def server(tcp: Tcp) -> None:
        await Peer.answer(tcp)
        await thawed.wait()

    config = HubConfig(keep_alive_interval=0.05, silence_timeout=0.3)
    async with rt.listen(server) as port:
        since = rt.current_time()
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, config=config) as client:
            with pytest.raises(TransportError, match=r"Server timeout \(300\.00ms\) elapsed"):
                await client.invoke("Add", 2, 3)
        assert 0.29 < rt.current_time() - since < 3
        thawed.set()


async def test_a_frozen_client_is_noticed(rt: Runtime) -> None:
    hub = BusyHub(rt)
    config = HubConfig(silence_timeout=0.3, close_timeout=0.1)
    async with rt.serve(hub, config=config) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 6})  # who pings once has to go on
            await rt.eventually(lambda: hub.connected == 1)
            await rt.eventually(lambda: hub.connected == 0)
            assert (await peer.read_until_closed())[-1]["type"] == 7


async def test_a_frozen_client_is_noticed_while_a_stream_waits_for_it_to_read(rt: Runtime) -> None:
    hub = Hub()
    produced: list[int] = []
    ended = rt.Event()

    @hub.method("Pieces")
    async def pieces() -> AsyncIterator[str]:
        try:
            while True:
                produced.append(1)
                yield "x" * 16384
        finally:
            ended.set()

    config = HubConfig(silence_timeout=0.5, close_timeout=0.1)
    async with rt.fail_after(8), rt.serve(hub, config=config) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 4, "invocationId": "1", "target": "Pieces", "arguments": []}
            await peer.send({"type": 6}, call)
            await rt.eventually(lambda: produced)
            await ended.wait()


async def test_a_handshake_that_is_refused_is_told(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        peer = await Peer.accept(tcp)
        await peer.read()
        await peer.write(pack({"error": "go away"}))
        await peer.read_until_closed()

    async with rt.listen(server) as port:
        with pytest.raises(HubError, match="go away"):
            async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True):
                pass
