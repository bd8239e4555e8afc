"""Where a server listens, and what it speaks there."""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from hubproto_core import Hub
from hubproto_core.http import EndpointConfig, HttpConfig, Mount
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import HANDSHAKE, pack

ADD = {"type": 1, "invocationId": "1", "target": "Add", "arguments": [2, 3]}
SUM = {"type": 3, "invocationId": "1", "result": 5}

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")


def small_hub() -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)
    return hub


async def add(tcp: Tcp) -> None:
    """Call a method over a WebSocket, and leave."""
    with Peer(tcp, Peer.CLIENT) as peer:
        await peer.upgrade("/hub")
        await peer.write(HANDSHAKE)
        assert await peer.read() == {}
        await peer.send(ADD)
        assert await peer.read() == SUM


# --- Unix sockets ----------------------------------------------------------------------------------------------------


@needs_unix
async def test_a_unix_socket_is_there_as_long_as_its_server(rt: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    async with rt.serve(small_hub(), unix=path) as server:
        assert server.port == 0
        await add(await Tcp.connect_unix(rt, str(path)))
    assert not path.exists()


@needs_unix
async def test_what_a_killed_server_left_is_replaced(rt: Runtime, tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    async with rt.serve(small_hub(), unix=path):
        await add(await Tcp.connect_unix(rt, path))


@needs_unix
async def test_a_path_has_one_server(rt: Runtime, tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    async with rt.serve(small_hub(), unix=path):
        with pytest.raises(OSError, match="in use"):
            async with rt.serve(small_hub(), unix=path):
                pass
        await add(await Tcp.connect_unix(rt, path))


@needs_unix
async def test_another_file_is_left_alone(rt: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me", encoding="utf-8")
    with pytest.raises(OSError, match="in use"):
        async with rt.serve(small_hub(), unix=path):
            pass
    assert path.read_text(encoding="utf-8") == "keep me"


@needs_unix
async def test_a_server_does_not_remove_the_socket_of_its_successor(rt: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    async with rt.serve(small_hub(), unix=path):
        path.rename(tmp_path / "old.sock")
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path))
    with successor:
        assert path.exists()


# --- sockets that are open already -----------------------------------------------------------------------------------


async def test_a_socket_may_be_open_already(rt: Runtime) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with rt.serve(small_hub(), sockets=[sock]) as server:
        assert server.port == port
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 2, 3) == 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@needs_unix
async def test_a_server_listens_at_several_places(rt: Runtime, tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    ports = [sock.getsockname()[1] for sock in (first, second)]
    async with rt.serve(small_hub(), unix=path, sockets=[first, second]) as server:
        assert server.port == ports[0]
        for tcp in [await rt.tcp(ports[0]), await rt.tcp(ports[1]), await Tcp.connect_unix(rt, path)]:
            await add(tcp)


# --- TLS -------------------------------------------------------------------------------------------------------------


class Tls:
    """A client of TLS on a TCP connection."""

    def __init__(self, tcp: Tcp, context: ssl.SSLContext) -> None:
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    async def send(self, data: bytes) -> None:
        while True:
            try:
                self._tls.write(data)
                break
            except ssl.SSLWantReadError:  # in the handshake
                await self._tcp.send(self._outgoing.read())
                self._incoming.write(await self._tcp.receive())
        await self._tcp.send(self._outgoing.read())

    async def receive_until(self, pattern: bytes) -> bytes:
        """Return all that comes until something matches."""
        received = b""
        while not re.search(pattern, received, re.DOTALL):
            try:
                received += self._tls.read()
            except ssl.SSLWantReadError:
                data = await self._tcp.receive()
                assert data, f"the server ended the connection behind {received!r}"
                self._incoming.write(data)
        return received

    async def ask(self, method: str, target: str, body: bytes = b"") -> bytes:
        """Make a request and return the body of its answer."""
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)
        answer = await self.receive_until(rb"\r\n\r\n")
        head_bytes, _, body = answer.partition(b"\r\n\r\n")
        assert head_bytes.startswith(b"HTTP/1.1 20")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head_bytes)[0])
        while len(body) < length:
            body += await self.receive_until(rb".")
        return body

    async def negotiate(self) -> str:
        """Return the address of a new connection."""
        answer = json.loads(await self.ask("POST", "/hub/negotiate?negotiateVersion=1"))
        return f"/hub?id={answer['connectionToken']}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_long_polling_over_tls(
    rt: Runtime, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with rt.serve(small_hub(), ssl_context=server_context) as server:
        with await rt.tcp(server.port) as tcp:
            client = Tls(tcp, client_context)
            target = await client.negotiate()
            assert await client.ask("GET", target) == b""
            await client.ask("POST", target, HANDSHAKE + pack(ADD))
            heard = b""
            while heard.count(b"\x1e") < 2:
                heard += await client.ask("GET", target)
            assert heard == b"{}\x1e" + pack(SUM).replace(b" ", b"")
            assert await client.ask("DELETE", target) == b""


async def test_server_sent_events_over_tls(
    rt: Runtime, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with rt.serve(small_hub(), ssl_context=server_context) as server:
        with await rt.tcp(server.port) as events, await rt.tcp(server.port) as posts:
            listener, poster = Tls(events, client_context), Tls(posts, client_context)
            target = await poster.negotiate()
            await listener.send(f"GET {target} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n".encode())
            assert b"text/event-stream" in await listener.receive_until(rb"\r\n\r\n.*:\r\n")
            await poster.ask("POST", target, HANDSHAKE)
            await poster.ask("POST", target, pack(ADD))
            assert b"data: " in await listener.receive_until(rb'"result":5}\x1e\r\n\r\n')


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_closed_at_once(rt: Runtime) -> None:
    hub = small_hub()
    async with rt.serve(hub, http=HttpConfig(max_connections=1)) as server:
        with await Peer.dial(rt, server.port) as peer:
            with await rt.tcp(server.port) as tcp:
                assert await tcp.receive_all() == b""
            await peer.send(ADD)
            assert await peer.read() == SUM
        await rt.eventually(lambda: not server.server.context(hub).connections)
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(ADD)
            assert await peer.read() == SUM


async def test_a_socket_that_does_not_take_its_last_answer_is_dropped(rt: Runtime) -> None:
    async with rt.serve(small_hub(), http=HttpConfig(idle_timeout=0.6, send_timeout=0.3)) as server:
        with await Tcp.connect_cramped(rt, server.port) as tcp:
            await tcp.send(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n" * 1500 + b"nonsense\r\n\r\n")
            with await rt.tcp(server.port) as idle:
                await idle.send(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                await idle.receive_all()  # until it has been idle for as long, which began later
            heard = await tcp.receive_all()
    assert heard.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 400 " not in heard


async def test_a_body_that_does_not_come_is_answered(rt: Runtime) -> None:
    async with rt.serve(small_hub(), http=HttpConfig(request_timeout=0.3)) as server:
        with await rt.tcp(server.port) as tcp:
            await tcp.send(b"POST /hub/negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
            assert (await tcp.receive_all()).startswith(b"HTTP/1.1 408 ")


# --- pages of other origins ------------------------------------------------------------------------------------------


async def test_a_hub_alone_may_be_mounted_with_its_origins(rt: Runtime) -> None:
    options = EndpointConfig(allowed_origins=["https://app.example.com"])
    async with rt.serve(Mount(small_hub(), options)) as server:
        with await rt.tcp(server.port) as tcp:
            await tcp.send(
                b"OPTIONS /hub/negotiate HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example.com\r\n"
                b"Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
            )
            assert b"access-control-allow-origin: https://app.example.com\r\n" in (await tcp.receive_all()).lower()
