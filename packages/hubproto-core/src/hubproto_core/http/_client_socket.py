"""`ClientSocket`: one socket of a client. `ExchangeSocket`: one HTTP exchange on it, which may make it a WebSocket.

Sockets are the shell's: it opens the one that `OpenSocket` describes and pumps bytes through it with the verbs that
every machine here has (SPEC 4.2, 4.3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol
from urllib.parse import SplitResult, urlunsplit

import h11
from msgspec import Struct

from .._client_errors import (
    ConnectionFailed,
    ConnectionRefused,
    HostNotFound,
    NotAHub,
    ProxyFailed,
    ServerGone,
    TlsFailed,
)
from .._effects import Effect
from .._errors import HubProtoError
from ._cookies import CookieJar
from ._proxy import Proxies
from ._tunnel import Tunnel
from ._url import host_header, show_url
from ._websocket import WebSocketTransport

__all__ = [
    "ClientEffect",
    "ClientSocket",
    "ExchangeSocket",
    "Obstacle",
    "OpenSocket",
    "OutgoingRequest",
    "Reach",
    "SocketOwner",
]

_MAX_RESPONSE = 1024 * 1024


class OpenSocket(Struct, frozen=True):
    """Open this socket, pump it until it is finished, and close it."""

    socket: ClientSocket


ClientEffect = Effect | OpenSocket


class Obstacle(Enum):
    """Why a socket could not be opened."""

    REFUSED = ConnectionRefused
    NO_HOST = HostNotFound
    TLS = TlsFailed
    OTHER = ConnectionFailed


@dataclass(frozen=True, slots=True)
class Reach:
    """What all sockets of a client have in common: the proxies that lead to servers, and the servers' cookies."""

    proxies: Proxies = field(default_factory=Proxies)
    cookies: CookieJar = field(default_factory=CookieJar)


class SocketOwner(Protocol):
    """What a socket reports to."""

    def socket_failed(self, socket: ClientSocket, error: Exception, *, now: float) -> None:
        """The socket could not be opened, or broke before it had its answer."""

    def answered(self, socket: ClientSocket, status: int, body: bytes, *, now: float) -> None:
        """The server's answer is complete, and is no WebSocket. The socket is finished."""

    def upgraded(self, socket: ClientSocket, trailing: bytes, *, now: float) -> WebSocketTransport:
        """The server accepted the WebSocket; `trailing` came right behind."""

    def session_moved(self, socket: ClientSocket, *, now: float) -> None:
        """Something may have happened on the session that the WebSocket carries."""

    def socket_finished(self, socket: ClientSocket, *, now: float) -> None:
        """The socket is gone, whatever was reported before."""


class OutgoingRequest(Struct, frozen=True):
    """A request, but for where it goes; the names of its headers are in lower case."""

    method: str
    headers: Mapping[str, str]
    body: bytes = b""


class ClientSocket(ABC):
    """Where a shell is to connect to, and the verbs with which it pumps bytes through the socket (`SocketMachine`).

    It connects to `address`, pumps the `tunnel`, if there is one, until that is finished, and then, unless the socket
    is `finished`, speaks TLS if `tls` says so.
    """

    __slots__ = ("_cookies", "_target", "address", "host", "port", "tls", "tunnel", "url")

    def __init__(self, target: SplitResult, reach: Reach) -> None:
        self.tls: bool = target.scheme == "https"
        """Speak TLS, with `host` as the name to verify."""
        self.host: str = target.hostname or ""
        self.port: int = target.port or (443 if self.tls else 80)
        self.url: str = show_url(target)
        """For messages; without what may be secret in it."""
        self._target = target
        self._cookies = reach.cookies
        proxy = reach.proxies.to(target)
        self.tunnel: Tunnel | None = None if proxy is None else Tunnel(self, proxy, self.host, self.port)
        """The way through a proxy, if there is one."""
        self.address: tuple[str, int] = (self.host, self.port) if proxy is None else (proxy.host, proxy.port)
        """The host and the port to open a TCP connection to: those of the server, or of its proxy."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Nothing more will be sent or read: close the socket once the output is written."""

    @property
    @abstractmethod
    def want_read(self) -> bool:
        """Bytes are welcome."""

    def open_failed(self, error: Exception, obstacle: Obstacle = Obstacle.OTHER, *, now: float) -> None:
        """The shell could not open the socket; `error` says why."""
        reason = str(error) or type(error).__name__
        if self.tunnel is not None and not self.tunnel.open:
            self.tunnel.not_opened(reason, now=now)
        else:
            what = f"cannot connect to {self.url} ({self.host} port {self.port}): {reason}"
            self._fail(obstacle.value(self.url, what), now)

    def tunnel_failed(self, error: ProxyFailed, *, now: float) -> None:
        """See `TunnelOwner`."""
        self._fail(error, now)

    @abstractmethod
    def abandon(self) -> None:
        """Nobody waits for this socket any more, or not any longer: nothing more is sent."""

    @abstractmethod
    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""

    @abstractmethod
    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes, in order or because of an error; also to be called when it is closed."""

    @abstractmethod
    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""

    @abstractmethod
    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget the bytes to be written now."""

    @abstractmethod
    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""

    @abstractmethod
    def _fail(self, error: ConnectionFailed, now: float) -> None:
        """The socket is of no use any more."""

    # for those who inherit

    def _encode(self, connection: h11.Connection, request: OutgoingRequest, now: float) -> bytes:
        """Return the bytes of a whole request; with the cookies of the server, which may have changed until now."""
        target = self._target
        cookie = self._cookies.header(target, request.headers.get("cookie"), now=now)
        lines = {"host": host_header(target), **request.headers}
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in lines.items() if name != "cookie"]
        if cookie is not None:
            headers.append((b"cookie", cookie))
        path = urlunsplit(("", "", target.path or "/", target.query, ""))
        data = connection.send(h11.Request(method=request.method, target=path, headers=headers)) or b""
        if request.body:
            data += connection.send(h11.Data(request.body)) or b""
        return data + (connection.send(h11.EndOfMessage()) or b"")

    def _take_cookies(self, answer: h11.Response | h11.InformationalResponse, now: float) -> None:
        """Keep what an answer sets."""
        self._cookies.take(self._target, answer.headers, now=now)


class ExchangeSocket(ClientSocket):
    """One HTTP exchange, which may make the socket a WebSocket.

    `accept` is the Sec-WebSocket-Accept that must answer a request to upgrade; None if it is none.
    """

    __slots__ = ("_accept", "_body", "_finished", "_h11", "_output", "_owner", "_request", "_status", "_transport")

    def __init__(
        self,
        owner: SocketOwner,
        target: SplitResult,
        method: str,
        headers: Mapping[str, str],
        accept: str | None = None,
        *,
        reach: Reach,
    ) -> None:
        super().__init__(target, reach)
        self._owner = owner
        self._accept = accept
        self._status = 0
        self._body = bytearray()
        self._finished = False
        self._transport: WebSocketTransport | None = None
        self._h11 = h11.Connection(h11.CLIENT)
        self._request: OutgoingRequest | None = OutgoingRequest(method, headers)  # until it is encoded
        self._output = b""

    @property
    def finished(self) -> bool:
        return self._transport.finished if self._transport else self._finished

    @property
    def want_read(self) -> bool:
        return self._transport.want_read if self._transport else not self._finished

    def abandon(self) -> None:
        self._finished = True
        self._request = None
        self._output = b""
        if self._transport is not None:
            self._transport.finished = True

    def receive_data(self, data: bytes, *, now: float) -> None:
        if self._transport is not None:
            self._transport.receive_data(data, now=now)
            self._owner.session_moved(self, now=now)
        elif not self._finished:
            if self._request is not None:
                self._set_out(self._request, now)
            self._h11.receive_data(data)
            self._advance(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        if self._transport is not None:
            why = error or "the WebSocket was cut off without a close frame"
            self._transport.receive_eof(ServerGone(self.url, f"{self.url} is gone: {why}"), now=now)
            self._owner.session_moved(self, now=now)
        elif not self._finished:
            if error is None:
                if self._request is not None:
                    self._set_out(self._request, now)
                self._h11.receive_data(b"")
                self._advance(now)
            if not self._finished:
                why = error or "it closed the connection before it answered"
                self._fail(ConnectionFailed(self.url, f"{self.url} failed: {why}"), now)
        self._owner.socket_finished(self, now=now)

    def handle_timeout(self, *, now: float) -> None:
        if self._transport is not None:
            self._transport.handle_timeout(now=now)
            self._owner.session_moved(self, now=now)

    def data_to_send(self, *, now: float) -> bytes:
        if self._request is not None:
            self._set_out(self._request, now)
        data, self._output = self._output, b""
        if self._transport is not None and not self._finished:
            data += self._transport.data_to_send(now=now)
            self._owner.session_moved(self, now=now)
        return data

    def next_timeout(self) -> float | None:
        return self._transport.next_timeout() if self._transport else None

    def _set_out(self, request: OutgoingRequest, now: float) -> None:
        """Encode the request, once: only now is it known which cookies go with it."""
        self._request = None
        self._output = self._encode(self._h11, request, now)

    def _advance(self, now: float) -> None:
        while not self._finished and self._transport is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if self._h11.trailing_data[1]:
                    self._fail(ConnectionFailed(self.url, f"{self.url} failed: {error}"), now)
                else:
                    self._fail(NotAHub(self.url, f"{self.url} does not answer in HTTP: {error}"), now)
                return
            match event:
                case h11.InformationalResponse(status_code=101):
                    self._upgrade(event, now)
                case h11.Response(status_code=status):
                    self._take_cookies(event, now)
                    self._status = status
                case h11.Data(data=data):
                    self._body += data
                    if len(self._body) > _MAX_RESPONSE:
                        too_much = f"{self.url} answers with more than {_MAX_RESPONSE} bytes"
                        self._fail(NotAHub(self.url, too_much), now)
                case h11.EndOfMessage():
                    self._finished = True
                    self._owner.answered(self, self._status, bytes(self._body), now=now)
                case h11.InformationalResponse():
                    pass
                case _:
                    return

    def _upgrade(self, event: h11.InformationalResponse, now: float) -> None:
        self._take_cookies(event, now)
        headers = dict(event.headers.raw_items())
        answer = {name.lower(): value for name, value in headers.items()}.get(b"sec-websocket-accept", b"")
        if self._accept is None or answer.decode("latin-1") != self._accept:
            what = f"{self.url} answered the upgrade with a wrong Sec-WebSocket-Accept"
            self._fail(ConnectionFailed(self.url, what), now)
            return
        self._transport = self._owner.upgraded(self, self._h11.trailing_data[0], now=now)
        self._owner.session_moved(self, now=now)

    def _fail(self, error: ConnectionFailed, now: float) -> None:
        self._finished = True
        self._request = None
        self._owner.socket_failed(self, error, now=now)
