"""`HubServer` and `HttpServerConnection`: HTTP/1.1 sockets in front of endpoints, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h11

from .._clients import Clients, Registry
from .._config import HubConfig
from .._connection import Role
from .._effects import Effect, EffectQueue, Wake
from .._errors import HubProtoError
from .._hub import Hub
from .._hub_session import HubSession
from .._running import Waiter
from .._timers import Timer, TimerTable
from ._admission import Admission, Authenticator
from ._endpoint import Endpoint, WebSocketAccepted
from ._messages import Request, Response
from ._websocket import WebSocketTransport, accept_token

__all__ = ["HttpConfig", "HttpServerConnection", "HubServer"]

_NO_HTTP = b"This is no valid HTTP/1.1 request."
_BAD_REQUESTS = {
    431: b"The request line and the headers are too large.",
    501: b"Only the transfer encoding 'chunked' is supported.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Limits of HTTP itself. Durations are seconds, sizes are bytes."""

    max_header_size: int = 32768
    """Request line and headers together; more is answered 431."""

    max_body_size: int = 65536
    """Body of a request; more is answered 413."""

    request_timeout: float = 15.0
    """Seconds that a request may take to arrive whole, from the opening of the connection or its first byte."""

    idle_timeout: float = 120.0
    """Seconds that a connection is kept for another request."""


class HubServer:
    """Hubs at their paths, and the effects of all their connections. One for each listening server.

    `entropy` returns so many random bytes, `clock` the Unix time in seconds. `authenticator` says who sends a request.
    """

    __slots__ = ("_authenticator", "_connections", "_draining", "_endpoints", "_http", "_registries", "effects")

    def __init__(
        self,
        hubs: Mapping[str, Hub],
        *,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float] | None = None,
        authenticator: Authenticator | None = None,
        config: HubConfig | None = None,
        http: HttpConfig | None = None,
    ) -> None:
        self._authenticator = authenticator
        self.effects: EffectQueue[Effect] = EffectQueue()
        self._http = http or HttpConfig()
        self._connections: dict[HttpServerConnection, None] = {}
        self._draining = False
        self._registries: dict[Hub, Registry] = {}
        self._endpoints: dict[str, Endpoint] = {}
        for path, hub in hubs.items():
            if not path.startswith("/"):
                raise ValueError(f"a hub's path starts with a slash: {path!r}")
            self._endpoints[path.rstrip("/").lower()] = Endpoint(
                hub,
                effects=self.effects,
                entropy=entropy,
                registry=self._registries.setdefault(hub, Registry(self)),
                config=config,
                clock=clock,
            )

    @property
    def closed(self) -> bool:
        """`shut_down` was asked for and is done. Wait for `Wake` of this server until it is."""
        return self._draining and not self._connections and not any(r.connections for r in self._registries.values())

    def clients(self, hub: Hub) -> Clients:
        """Return the clients of one of the hubs. Raises KeyError for a hub that is not served here."""
        return Clients(self._registries[hub])

    def let_wait(self, waiter: Waiter) -> None:
        """From now on user code waits by this runner for what clients answer; see `Registry.waiter`."""
        for registry in self._registries.values():
            registry.waiter = waiter

    def connection(self, *, now: float) -> HttpServerConnection:
        """Return the machine for a socket that has just been accepted."""
        connection = HttpServerConnection(self, self._http, now=now)
        self._connections[connection] = None
        if self._draining:
            connection.shut_down(now=now)
        return connection

    def admission(self, endpoint: Endpoint, request: Request, host: HttpServerConnection) -> Admission | None:
        """Return what decides about a request; None where everybody is let in and nobody is known."""
        if self._authenticator is None and endpoint.hub.policy is None:
            return None
        return Admission(endpoint.hub, self._authenticator, request, host, self.effects)

    def forget(self, connection: HttpServerConnection) -> None:
        """A socket is finished."""
        if self._connections.pop(connection, connection) is None:
            self.effects.append(Wake(self))

    def find(self, path: str) -> tuple[Endpoint | None, bool]:
        """Return the endpoint that a path belongs to, and whether it is its negotiation."""
        path = path.rstrip("/").lower()
        endpoint = self._endpoints.get(path)
        if endpoint is None and path.endswith("/negotiate"):
            return self._endpoints.get(path.removesuffix("/negotiate")), True
        return endpoint, False

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return min((d for e in self._endpoints.values() if (d := e.next_timeout()) is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline of an endpoint may have passed."""
        for endpoint in self._endpoints.values():
            endpoint.handle_timeout(now=now)

    def shut_down(self, *, now: float) -> None:
        """Let every connection end in order; see `HubSession.shut_down`."""
        if not self._draining:
            self._draining = True
            for connection in list(self._connections):
                connection.shut_down(now=now)
            self.effects.append(Wake(self))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and where it belongs."""

    request: Request
    endpoint: Endpoint
    negotiates: bool


class HttpServerConnection:
    """One accepted socket: HTTP/1.1 requests, until one of them makes it a WebSocket."""

    __slots__ = (
        "_accepted",
        "_admission",
        "_asked",
        "_body",
        "_config",
        "_endpoint",
        "_finished",
        "_h11",
        "_output",
        "_request",
        "_server",
        "_timers",
        "_transport",
    )

    def __init__(self, server: HubServer, config: HttpConfig, *, now: float) -> None:
        self._server = server
        self._config = config
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=config.max_header_size)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._output = bytearray()
        self._finished = False
        self._timers = TimerTable()
        self._timers.arm(Timer.HANDSHAKE, now + config.request_timeout)
        self._transport: WebSocketTransport | None = None
        self._endpoint: Endpoint | None = None
        self._accepted: WebSocketAccepted | None = None
        self._admission: Admission | None = None  # it is being decided about
        self._asked: _Asked | None = None  # what waits for it

    @property
    def session(self) -> HubSession | None:
        """The session that this socket carries."""
        return self._accepted.session if self._accepted else None

    @property
    def finished(self) -> bool:
        """Nothing more will be sent or read: close the socket once the output is written."""
        return self._transport.finished if self._transport else self._finished

    @property
    def want_read(self) -> bool:
        """Bytes are welcome. While a request waits, they may only say that the client has gone away."""
        if self._transport is not None:
            return self._transport.want_read
        return not self._finished and (self._admission is None or not self._h11.trailing_data[0])

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""
        if self._transport is not None:
            self._transport.receive_data(data, now=now)
        elif not self._finished:
            self._h11.receive_data(data)
            if self._admission is not None:
                return
            self._advance(now)
            if self._h11.trailing_data[0] and self._timers.armed(Timer.KEEP_ALIVE):  # the next request has begun
                self._timers.clear()
                self._timers.arm(Timer.HANDSHAKE, now + self._config.request_timeout)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes, in order or because of an error. Nothing is owed to a half request."""
        if self._transport is not None:
            self._transport.receive_eof(error, now=now)
        self._finish()

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        if self._transport is not None:
            self._transport.handle_timeout(now=now)
            return
        for timer in self._timers.expire(now):
            if self._admission is not None:
                self._admission.abandon(timed_out=True)
                self._go_on(now)
            if timer is Timer.HANDSHAKE and self._h11.their_state is not h11.IDLE:
                self._respond(Response(408), now)
            self._finish()

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget the bytes to be written now."""
        self._go_on(now)
        data = bytes(self._output)
        self._output.clear()
        if self._transport is not None:
            data += self._transport.data_to_send(now=now)
            if self._transport.finished:
                self._finish()
        return data

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._transport.next_timeout() if self._transport else self._timers.next()

    def shut_down(self, *, now: float) -> None:
        """Take no further request; let the session, if there is one, end in order."""
        if self.session is not None:
            self.session.shut_down(now=now)
        else:
            self._finish()
        self._server.effects.append(Wake(self))

    def _finish(self) -> None:
        self._server.forget(self)
        if self._admission is not None:
            self._admission.abandon()
            self._admission = None
        self._finished = True
        self._timers.clear()
        if self._accepted is not None and self._endpoint is not None:
            self._endpoint.release(self._accepted.token)

    def _advance(self, now: float) -> None:
        while not self._finished and self._transport is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint
                self._respond(Response(status, _BAD_REQUESTS.get(status, _NO_HTTP)), now)
                self._finish()
                return
            match event:
                case h11.Request():
                    self._request = event
                    self._body.clear()
                    if self._h11.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > self._config.max_body_size:
                        self._respond(Response(413), now)
                        self._finish()
                case h11.EndOfMessage():
                    self._handle(now)
                case h11.ConnectionClosed():
                    self._finish()
                case _:  # NEED_DATA; PAUSED cannot be: every request is answered as soon as it is whole
                    return

    def _handle(self, now: float) -> None:
        assert self._request is not None
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._request.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        request = Request(
            self._request.method.decode("ascii"), self._request.target.decode("latin-1"), headers, bytes(self._body)
        )
        endpoint, negotiates = self._server.find(request.path)
        if endpoint is None:
            self._respond(Response(404), now)
            return
        self._admission = self._server.admission(endpoint, request, self)
        asked = _Asked(request, endpoint, negotiates)
        if self._admission is None:
            self._answer(asked, None, now)
        else:
            self._asked = asked

    def _go_on(self, now: float) -> None:
        """Answer the request that has been decided about, if it has."""
        admission, asked = self._admission, self._asked
        if admission is None or asked is None or not admission.decided:
            return
        self._admission = self._asked = None
        if admission.answer is not None:
            self._respond(admission.answer, now)
        else:
            self._answer(asked, admission.principal, now)
        self._advance(now)

    def _answer(self, asked: _Asked, principal: Any, now: float) -> None:
        request, endpoint, negotiates = asked.request, asked.endpoint, asked.negotiates
        if request.wants_websocket and not negotiates:
            wrong = _wrong_upgrade(request)
            if wrong is not None:
                self._respond(wrong, now)
                return
        answer = endpoint.negotiate(request, now=now) if negotiates else endpoint.handle(request, principal, now=now)
        if isinstance(answer, Response):
            self._respond(answer, now)
            return
        self._endpoint = endpoint
        self._accepted = answer
        answer.session.carrier = self
        accept = accept_token(request.headers["sec-websocket-key"])
        switch = h11.InformationalResponse(
            status_code=101,
            reason=b"Switching Protocols",
            headers=[("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)],
        )
        self._write(switch)
        self._timers.clear()
        self._transport = WebSocketTransport(
            answer.session,
            Role.SERVER,
            close_timeout=endpoint.config.close_timeout,
            trailing=self._h11.trailing_data[0],
            now=now,
        )

    def _respond(self, response: Response, now: float) -> None:
        headers = [("content-length", str(len(response.body))), *response.headers.items()]
        if response.content_type is not None:
            headers.append(("content-type", response.content_type))
        self._write(h11.Response(status_code=response.status, headers=headers))
        if self._request is None or self._request.method != b"HEAD":
            self._write(h11.Data(data=response.body))
        self._write(h11.EndOfMessage())
        if self._h11.states == {h11.SERVER: h11.DONE, h11.CLIENT: h11.DONE}:
            self._h11.start_next_cycle()
            self._request = None
            self._timers.clear()
            self._timers.arm(Timer.KEEP_ALIVE, now + self._config.idle_timeout)
        else:
            self._finish()

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._output += data


def _wrong_upgrade(request: Request) -> Response | None:
    """Return the answer to a WebSocket upgrade that RFC 6455 does not allow."""
    if request.headers.get("sec-websocket-version") != "13":
        return Response(426, headers={"sec-websocket-version": "13", "upgrade": "websocket"})
    if not request.headers.get("sec-websocket-key"):
        return Response(400, b"Sec-WebSocket-Key required")
    return None
