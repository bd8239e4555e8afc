"""Both ends of the HTTP machines, on bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h11
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, TextMessage

from hubproto_core import Hub, HubConfig
from hubproto_core.http import (
    AsgiApplication,
    Authenticator,
    EndpointConfig,
    HttpConfig,
    HttpServerConnection,
    HubServer,
    Mount,
    SocketMachine,
    WebSocketTransport,
)
from tests.kit.shell import Shell
from tests.kit.wire import HANDSHAKE, pack, unpack

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, section 1.3."""


class Entropy:
    """Not random at all, but never the same twice."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


def answers(data: bytes, method: str = "GET") -> list[Answer]:
    """Read whole responses, which must be framed by their length."""
    found = []
    while data:
        peer = h11.Connection(h11.CLIENT)
        peer.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        peer.send(h11.EndOfMessage())
        peer.receive_data(data)
        response = peer.next_event()
        while isinstance(response, h11.InformationalResponse):
            response = peer.next_event()
        assert isinstance(response, h11.Response), f"not a response: {data!r}"
        body = b""
        while isinstance(event := peer.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        headers = {name.decode(): value.decode() for name, value in response.headers}
        found.append(Answer(response.status_code, headers, body))
        data = peer.trailing_data[0]
    return found


def http(method: str, target: str, *headers: str, body: str = "") -> bytes:
    """A request as bytes."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *headers, *length, "", body]).encode()


def upgrade(target: str = "/chat", *headers: str, version: str = "13", key: str = KEY) -> bytes:
    """A request to switch to a WebSocket."""
    return http(
        "GET",
        target,
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        f"Sec-WebSocket-Version: {version}",
        *([f"Sec-WebSocket-Key: {key}"] if key else []),
        *headers,
    )


def masked(kind: int, data: bytes) -> bytes:
    """A client's frame, the same at every time: 1 is text, 8 a close frame, 9 a ping."""
    assert len(data) < 126
    return bytes([0x80 | kind, 0x80 | len(data), 0, 0, 0, 0]) + data


class Site:
    """A server of one hub at /chat, and its shell."""

    def __init__(
        self,
        hub: Hub | None = None,
        config: HubConfig | None = None,
        http: HttpConfig | None = None,
        authenticator: Authenticator | None = None,
        options: EndpointConfig | None = None,
        fallback: AsgiApplication | None = None,
    ) -> None:
        self.hub = hub or Hub()
        self.server = HubServer(
            {"/chat": Mount(self.hub, options) if options else self.hub},
            entropy=Entropy(),
            clock=lambda: 1_000_000.0,
            authenticator=authenticator,
            config=config,
            http=http,
            fallback=fallback,
        )
        self.shell = Shell(self.server.effects)

    def socket(self, now: float = 0.0) -> Socket:
        """A socket that has just been accepted."""
        return Socket(self, now)

    def websocket(self, target: str = "/chat", *headers: str) -> WebSocket:
        """A WebSocket whose hub handshake is done."""
        peer = WebSocket(self.socket(), target, *headers)
        peer.send_text(HANDSHAKE)
        assert peer.hear() == [{}]
        return peer


def goes_on(machine: SocketMachine | WebSocketTransport, now: float) -> bool:
    """Let a machine that wants no bytes yet do what is due, as a pump does; tell whether anything was."""
    deadline = machine.next_timeout()
    if machine.want_read or deadline is None or deadline > now:
        return False
    machine.handle_timeout(now=now)
    return True


class Socket:
    """The far end of an accepted socket."""

    def __init__(self, site: Site, now: float) -> None:
        self.site = site
        self.conn: HttpServerConnection = site.server.connection(now=now)

    def send(self, data: bytes, now: float = 0.0) -> bytes:
        """Send bytes and return what comes back."""
        self.conn.receive_data(data, now=now)
        return self.take(now)

    def take(self, now: float = 0.0) -> bytes:
        """Return what comes without being asked for."""
        taken = b""
        self.site.shell.run()
        while True:
            data = self.conn.data_to_send(now=now)
            if not self.site.shell.run() and not data and not goes_on(self.conn, now):
                return taken
            taken += data

    def ask(self, request: bytes, now: float = 0.0) -> Answer:
        """Send a request and return its answer."""
        (answer,) = answers(self.send(request, now), request.partition(b" ")[0].decode())
        return answer


class WebSocket:
    """The far end of a WebSocket."""

    def __init__(self, socket: Socket, target: str = "/chat", *headers: str, behind: bytes = b"") -> None:
        self.socket = socket
        self.ws = Connection(ConnectionType.CLIENT)
        head, _, rest = socket.send(upgrade(target, *headers) + behind).partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0] == b"HTTP/1.1 101 Switching Protocols"
        assert f"sec-websocket-accept: {ACCEPT}".encode() in head.lower().replace(
            ACCEPT.lower().encode(), ACCEPT.encode()
        )
        self._pending: list[Event] = []
        self._read(rest)

    def _read(self, data: bytes) -> None:
        if data:
            self.ws.receive_data(data)
            self._pending += self.ws.events()

    def exchange(self, *events: Event, now: float = 0.0) -> list[Event]:
        """Send frames and return the frames that come back."""
        return self.exchange_bytes(b"".join(self.ws.send(event) for event in events), now)

    def exchange_bytes(self, data: bytes, now: float = 0.0) -> list[Event]:
        """Send bytes and return the frames that come back."""
        if data:
            self.socket.conn.receive_data(data, now=now)
        self._read(self.socket.take(now))
        events, self._pending = self._pending, []
        return events

    def send_text(self, data: bytes, now: float = 0.0) -> None:
        """Send one text message."""
        self._pending = self.exchange(TextMessage(data.decode()), now=now)

    def hear(self, now: float = 0.0) -> list[Any]:
        """Return the hub messages that have come; nothing else may have."""
        heard = []
        for event in self.exchange_bytes(b"", now):
            assert isinstance(event, TextMessage | BytesMessage)
            assert event.message_finished
            assert isinstance(event, TextMessage)
            heard += unpack(event.data.encode())
        return heard

    def ask(self, *messages: dict[str, Any], now: float = 0.0) -> list[Any]:
        """Send hub messages and return the answers."""
        self.send_text(pack(*messages), now)
        return self.hear(now)


def split(events: list[Event]) -> tuple[list[Any], list[tuple[int, str | None]]]:
    """The hub messages among frames, and the close frames."""
    heard, closes = [], []
    for event in events:
        if isinstance(event, Message):
            heard += unpack(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
        else:
            assert isinstance(event, CloseConnection)
            closes.append((int(event.code), event.reason or None))
    return heard, closes


__all__ = [
    "ACCEPT",
    "KEY",
    "Answer",
    "Entropy",
    "Site",
    "Socket",
    "WebSocket",
    "answers",
    "http",
    "masked",
    "split",
    "upgrade",
]
