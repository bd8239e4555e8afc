"""A client under test, its shell, and whoever is at the other end of its sockets."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event, TextMessage

from hubproto_core import (
    Effect,
    HubConfig,
    TransportError,
)
from hubproto_core.http import ClientOptions, ClientSocket, HubClient, OpenSocket
from hubproto_core.http._websocket import accept_token
from tests.http._site import Entropy, goes_on, split
from tests.kit.shell import Shell
from tests.kit.wire import pack

OFFER: dict[str, Any] = {
    "negotiateVersion": 1,
    "connectionId": "public",
    "connectionToken": "secret",
    "availableTransports": [
        {"transport": "WebSockets", "transferFormats": ["Text"]},
        {"transport": "LongPolling", "transferFormats": ["Text"]},
    ],
}


class Journey:
    """A client, its shell, and whoever is at the other end of its sockets."""

    def __init__(
        self,
        url: str = "http://h/chat",
        *,
        config: HubConfig | None = None,
        protocol: str = "json",
        start: bool = True,
        **options: Any,
    ) -> None:
        self.client = HubClient(
            url, entropy=Entropy(), options=ClientOptions(**options), config=config, protocol=protocol
        )
        self.shell = Shell()
        self.now = 0.0
        self.far: Connection
        self.sockets: list[ClientSocket] = []
        if start:
            self.start()

    def start(self) -> None:
        """Begin."""
        self.client.start(now=self.now)
        self.run()

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and do what falls due at the client."""
        self.now += seconds
        self.client.handle_timeout(now=self.now)
        self.run()

    def run(self) -> None:
        """Carry out all effects."""
        while (effect := self.client.effects.take()) is not None:
            if isinstance(effect, OpenSocket):
                self.sockets.append(effect.socket)
            else:
                plain: Effect = effect
                self.shell.effects.append(plain)
                self.shell.run()

    def woken(self, target: object) -> bool:
        """Whether there was a `Wake` for *target* since the last time this was asked."""
        self.run()
        return self.shell.was_woken(target)

    @property
    def socket(self) -> ClientSocket:
        """The socket opened last."""
        return self.sockets[-1]

    def request(self) -> tuple[str, str, dict[str, str]]:
        """The request on the socket opened last: its method, target and headers."""
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(self.socket.data_to_send(now=self.now))
        request = peer.next_event()
        assert isinstance(request, h11.Request)
        assert isinstance(peer.next_event(), h11.EndOfMessage)
        headers = {name.decode(): value.decode() for name, value in request.headers}
        return request.method.decode(), request.target.decode(), headers

    def answer(self, body: str | bytes | dict[str, Any], status: int = 200) -> None:
        """Answer the request on the socket opened last."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.receive(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def receive(self, data: bytes) -> None:
        """Bytes come on the socket opened last."""
        self.socket.receive_data(data, now=self.now)
        while goes_on(self.socket, self.now):
            pass
        self.run()

    def open(self, behind: bytes = b"", *, handshake: bool = True) -> None:
        """Accept the WebSocket on the socket opened last, and by default the hub handshake."""
        _, _, headers = self.request()
        self.far = Connection(ConnectionType.SERVER)
        self.accept = accept_token(headers["sec-websocket-key"])
        self.receive(switching(self.accept) + behind)
        if handshake:
            self.hear()
            self.say_text("{}\x1e")
            assert self.hear() == ([{"type": 6}], [])

    def say_text(self, text: str) -> None:
        """Send a text message."""
        self.receive(self.far.send(TextMessage(text)))

    def say(self, *messages: dict[str, Any]) -> None:
        """Send hub messages."""
        self.say_text(pack(*messages).decode())

    def hear(self, now: float | None = None) -> tuple[list[Any], list[tuple[int, str | None]]]:
        """Return the hub messages and the close frames that have come."""
        events: list[Event] = []
        while data := self.socket.data_to_send(now=self.now if now is None else now):
            self.run()
            self.far.receive_data(data)
            events += self.far.events()
        self.run()
        return split(events)

    def refused(self) -> str:
        """Why the client never started."""
        with pytest.raises(TransportError) as refused:
            self.client.started()
        return str(refused.value)

    def over(self) -> bool:
        """The socket is gone, and all is over."""
        self.socket.receive_eof(now=self.now)
        self.run()
        return self.client.stopped


class Opened(Journey):
    """A journey whose WebSocket is open, and by default its hub handshake done."""

    def __init__(self, *, handshake: bool = True, behind: bytes = b"", **options: Any) -> None:
        super().__init__(skip_negotiation=True, **options)
        self.open(behind, handshake=handshake)


def switching(accept: str) -> bytes:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()
