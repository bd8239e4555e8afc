"""`Endpoint`: one hub at one path: negotiation, ids, and which request belongs to which connection (SPEC 4.1, 4.2).

It knows no sockets and no HTTP parser: requests come as data, answers leave as data.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from .._call import ConnectionInfo
from .._clients import Registry
from .._config import HubConfig
from .._effects import EffectSink, Wake
from .._hub import Hub
from .._hub_session import HubSession
from .._logs import one_line
from .._transport import Transport
from . import _negotiate
from ._admission import failed
from ._connection import NO_CACHE, Connection, WebSocketHost
from ._cors import AllowedOrigins, Cors
from ._exchange import Exchange
from ._messages import Request, Response

__all__ = ["Endpoint", "EndpointConfig", "WebSocketAccepted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointConfig:
    """How a hub is reached at one path. Durations are seconds, sizes are bytes."""

    transports: tuple[Transport, ...] = tuple(Transport)
    """The transports that are offered, in the order of preference that the clients are told."""

    poll_timeout: float = 90.0
    """Seconds that a poll waits for something to say (SPEC 4.6)."""

    disconnect_timeout: float = 15.0
    """Seconds that a negotiated id waits for its client, and that a client may stay away between two polls
    (SPEC 4.8)."""

    stateful: bool = False
    """Let clients that ask for it reconnect statefully, AllowStatefulReconnects: a WebSocket that breaks may be
    replaced within `HubConfig.resume_window`, and nothing is lost (SPEC 4.7). For each of them, up to
    `HubConfig.replay_buffer` bytes are kept that may have to be sent again."""

    receive_buffer: int = 65536
    """Bytes of posted bodies kept for a connection whose transport has not been chosen, ApplicationMaxBufferSize."""

    allowed_origins: AllowedOrigins = ()
    """Which other origins' pages in browsers may use the hub: a list like `["https://app.example.com"]`, or a function
    that is asked about each. Pages of the hub's own host always may, and whatever is no browser. (The reference lets
    any page open a WebSocket, SPEC 4.10.)"""

    allow_credentials: bool = True
    """Those pages may send their user's cookies, as Microsoft's JavaScript client does unless told otherwise."""


class WebSocketAccepted:
    """Switch the socket to a WebSocket and carry this session on it: `attach` it first, `detach` it when it is gone.

    The session may have been carried by another WebSocket before (SPEC 4.7.7).
    """

    __slots__ = ("_connection", "session")

    def __init__(self, connection: Connection, session: HubSession) -> None:
        self._connection = connection
        self.session: HubSession = session

    def attach(self, socket: WebSocketHost, *, now: float) -> None:
        """From now on this WebSocket carries the session; what did so before is told that it is `replaced`."""
        self._connection.attach(socket, now=now)

    def detach(self, socket: WebSocketHost, *, now: float) -> None:
        """This WebSocket is gone, and knows the session no longer; nothing happens if it has been replaced."""
        self._connection.detach(socket, now=now)


@dataclass(frozen=True, slots=True)
class _Sender:
    """Whom a request's connection belongs to, and when (by the machines' clock) that is true no longer."""

    user: str | None
    expires: float | None


_OTHER_TRANSPORT = b"Cannot change transports mid-connection"


class Endpoint:
    """One hub as seen by HTTP. `clock` returns the Unix time, by which principals expire.

    Raises ValueError if `EndpointConfig.allowed_origins` lists what is no origin.
    """

    __slots__ = (
        "_available",
        "_clock",
        "_codecs",
        "_config",
        "_connections",
        "_deadlines",
        "_due",
        "_effects",
        "_entropy",
        "_hub",
        "_options",
        "_schedule",
        "cors",
        "description",
        "registry",
    )

    def __init__(
        self,
        hub: Hub,
        *,
        effects: EffectSink,
        entropy: Callable[[int], bytes],
        registry: Registry,
        config: HubConfig | None = None,
        options: EndpointConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.registry: Registry = registry
        self._hub = hub
        self._effects = effects
        self._entropy = entropy
        self._config = config or hub.config
        self._options = options or EndpointConfig()
        self._codecs = hub.codecs
        self._clock = clock
        self.cors: Cors = Cors(self._options.allowed_origins, credentials=self._options.allow_credentials)
        """What pages of other origins may do here. Ask it before anything else."""
        self.description: bytes | None = msgspec.json.encode(hub.describe()) if hub.described else None
        """What `describe` answers, if the hub lets itself be described."""
        self._available = [
            _negotiate.AvailableTransport(transport, tuple(name.capitalize() for name in transport.transfer_formats))
            for transport in self._options.transports
        ]
        self._connections: dict[str, Connection] = {}  # by token
        self._due: dict[Connection, None] = {}  # to be driven soon
        self._deadlines: dict[Connection, float] = {}  # when they are to be driven at the latest
        self._schedule: list[tuple[float, int, Connection]] = []  # a heap of these, and of some that hold no longer

    @property
    def config(self) -> HubConfig:
        """What connections to this endpoint obey."""
        return self._config

    @property
    def hub(self) -> Hub:
        """The hub that is served here."""
        return self._hub

    def negotiate(self, request: Request, *, now: float) -> Response:
        """Answer `POST .../negotiate`."""
        if request.method != "POST":
            return Response(405, headers={"allow": "POST"})
        try:
            version = _negotiate.requested_version(request.query)
        except ValueError as error:
            return Response(200, _negotiate.encode_error(str(error)), "application/json")
        stateful = self._options.stateful and _negotiate.asks_for_stateful_reconnect(request.query)
        connection = self._new_connection(public_token=version == 0, stateful=stateful, now=now)
        body = _negotiate.encode_response(
            version, connection.connection_id, connection.token, self._available, use_stateful_reconnect=stateful
        )
        return Response(200, body, "application/json")

    def describe(self, request: Request) -> Response:
        """Answer a request for the description."""
        if request.method != "GET":
            return Response(405, headers={"allow": "GET"})
        return Response(200, self.description or b"", "application/json")

    def answer(
        self, part: str, request: Request, host: object, principal: Any = None, *, now: float
    ) -> Response | WebSocketAccepted | Exchange:
        """Answer a request for a part of it: "negotiate", "description", or "", which is `handle`d."""
        match part:
            case "negotiate":
                return self.negotiate(request, now=now)
            case "description":
                return self.describe(request)
            case _:
                return self.handle(request, host, principal, now=now)

    def handle(
        self, request: Request, host: object, principal: Any = None, *, now: float
    ) -> Response | WebSocketAccepted | Exchange:
        """Answer a request for the endpoint itself, in the reference's order of checks (SPEC 4.1).

        Its body has not been read: an `Exchange` takes it, no other answer depends on it. `host` is who is woken when
        an exchange can go on, `principal` what the authenticator says of the request.
        """
        match request.method:
            case "GET":
                if request.wants_websocket:
                    return self._open_websocket(request, principal, now)
                if request.wants_events:
                    return self._open_events(request, host, principal, now)
                return self._poll(request, host, principal, now)
            case "POST":
                found = self._find(request)
                if isinstance(found, Response):
                    return found
                if found.transport is Transport.WEB_SOCKETS:
                    return Response(405, b"POST requests are not allowed for WebSocket connections.")
                return found.post(host)
            case "DELETE":
                found = self._find(request)
                if isinstance(found, Response):
                    return found
                if found.transport is not Transport.LONG_POLLING:
                    return Response(400, b"Cannot terminate this connection using the DELETE endpoint.")
                found.terminate(now=now)
                return Response(202)
            case _:
                return Response(405, headers={"allow": "GET, POST, DELETE"})

    def reopen(self) -> None:
        """Begin anew after a shutdown: forget the ids of connections that have ended, and their deadlines."""
        self._connections.clear()
        self._due.clear()
        self._deadlines.clear()
        self._schedule.clear()

    def shut_down(self, *, now: float) -> None:
        """Let the connections that no WebSocket carries end in order; see `HubSession.shut_down`."""
        for connection in list(self._connections.values()):
            if connection.session is None:
                connection.abandon(now=now)
            elif connection.transport is not Transport.WEB_SOCKETS or not connection.is_carried:
                connection.session.shut_down(now=now)
                self.due(connection)

    # time

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        while self._schedule and self._deadlines.get(self._schedule[0][2]) != self._schedule[0][0]:
            heapq.heappop(self._schedule)
        return self._schedule[0][0] if self._schedule else None

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed, or a connection may need attention that no request gives it."""
        while (upcoming := self.next_timeout()) is not None and upcoming <= now:
            connection = heapq.heappop(self._schedule)[2]
            del self._deadlines[connection]
            self._due[connection] = None
        while self._due:
            connection, _ = self._due.popitem()
            connection.drive(now=now)
            self._arm(connection)

    # for Connection

    def due(self, connection: Connection) -> None:
        """See `ConnectionOwner`."""
        self._due[connection] = None
        self._arm(connection)
        self._effects.append(Wake(self.registry.owner))

    def ended(self, connection: Connection) -> None:
        """See `ConnectionOwner`."""
        self._connections.pop(connection.token, None)

    # within

    def _arm(self, connection: Connection) -> None:
        deadline = connection.next_timeout()
        if deadline is None:
            self._deadlines.pop(connection, None)
        elif self._deadlines.get(connection) != deadline:
            self._deadlines[connection] = deadline
            heapq.heappush(self._schedule, (deadline, id(connection), connection))

    def _open_websocket(self, request: Request, principal: Any, now: float) -> Response | WebSocketAccepted:
        if not request.query.get("id"):  # negotiation was skipped (SPEC 4.2.7)
            connection = self._new_connection(public_token=True, stateful=False, now=now)
        else:
            found = self._find(request)
            if isinstance(found, Response):
                return found
            connection = found
            if connection.session is not None and connection.session.stateful:
                return self._take_over(connection, connection.session, request, principal, now)
        refusal = self._refusal(connection, Transport.WEB_SOCKETS)
        if refusal is not None:
            return refusal
        opened = self._open(connection, request, Transport.WEB_SOCKETS, self._effects, principal, now)
        return opened if isinstance(opened, Response) else WebSocketAccepted(connection, opened)

    def _take_over(
        self, connection: Connection, session: HubSession, request: Request, principal: Any, now: float
    ) -> Response | WebSocketAccepted:
        """Another WebSocket is to carry the session."""
        sender = self._sender(request, principal, now)
        if isinstance(sender, Response):
            return sender
        session.renew(sender.user, principal, sender.expires)
        return WebSocketAccepted(connection, session)

    def _open_events(self, request: Request, host: object, principal: Any, now: float) -> Response | Exchange:
        found = self._find(request)
        if isinstance(found, Response):
            return found
        refusal = self._refusal(found, Transport.SERVER_SENT_EVENTS)
        if refusal is not None:
            return refusal
        opened = self._open(found, request, Transport.SERVER_SENT_EVENTS, found, principal, now)
        return opened if isinstance(opened, Response) else found.stream_events(host, now=now)

    def _poll(self, request: Request, host: object, principal: Any, now: float) -> Response | Exchange:
        found = self._find(request)
        refusal = found if isinstance(found, Response) else self._refusal(found, Transport.LONG_POLLING)
        if refusal is not None:
            return replace(refusal, headers=NO_CACHE)
        assert isinstance(found, Connection)
        if found.session is not None:
            sender = self._sender(request, principal, now)
            if isinstance(sender, Response):
                return sender
            found.session.renew(sender.user, principal, sender.expires)
            return found.poll(host, now=now)
        opened = self._open(found, request, Transport.LONG_POLLING, found, principal, now)
        return opened if isinstance(opened, Response) else found.first_poll(host, now=now)

    def _find(self, request: Request) -> Connection | Response:
        token = request.query.get("id")
        if not token:
            return Response(400, b"Connection ID required")
        return self._connections.get(token) or Response(404, b"No Connection with that ID")

    def _refusal(self, connection: Connection, transport: Transport) -> Response | None:
        """Return why a connection cannot be carried by this transport, if so. Only polls come more than once."""
        if transport not in self._options.transports:
            return Response(404, f"{transport} transport not supported by this end point type".encode())
        if connection.transport is None or connection.transport is transport is Transport.LONG_POLLING:
            return None
        return Response(409) if connection.transport is transport else Response(400, _OTHER_TRANSPORT)

    def _new_connection(self, *, public_token: bool, stateful: bool, now: float) -> Connection:
        connection_id = self._new_id()
        token = connection_id if public_token else self._new_id()
        connection = Connection(
            token,
            connection_id,
            self,
            self._effects,
            stateful=stateful,
            body_limit=self._options.receive_buffer,
            poll_timeout=self._options.poll_timeout,
            absence_timeout=self._options.disconnect_timeout,
            farewell_timeout=self._config.close_timeout,
            now=now,
        )
        self._connections[token] = connection
        self.due(connection)
        return connection

    def _open(
        self,
        connection: Connection,
        request: Request,
        transport: Transport,
        effects: EffectSink,
        principal: Any,
        now: float,
    ) -> HubSession | Response:
        sender = self._sender(request, principal, now)
        if isinstance(sender, Response):
            return sender
        info = ConnectionInfo(
            headers=request.headers,
            query=request.query,
            query_string=request.query_string,
            transport=transport,
        )
        session = HubSession(
            self._hub,
            self._codecs,
            connection_id=connection.connection_id,
            registry=self.registry,
            config=self._config,
            effects=effects,
            info=info,
            user=sender.user,
            principal=principal,
            expires=sender.expires,
            stateful=connection.stateful and transport is Transport.WEB_SOCKETS,
            now=now,
        )
        connection.open(session, transport, now=now)
        return session

    def _sender(self, request: Request, principal: Any, now: float) -> _Sender | Response:
        try:
            return _Sender(self._user(principal), self._expiry(principal, now))
        except Exception as error:  # of the hub's `user_id`, or of an `expires_at` that is no number
            return failed(self._hub, "principal", one_line(request.path), error)

    def _user(self, principal: Any) -> str | None:
        user = None if principal is None else self._hub.user_id(principal)
        return None if user is None else str(user)

    def _expiry(self, principal: Any, now: float) -> float | None:
        """When a principal's time is up, by the clock of the machines."""
        expires_at: float | None = getattr(principal, "expires_at", None)
        if expires_at is None or self._clock is None:
            return None
        return now + expires_at - self._clock()

    def _new_id(self) -> str:
        return base64.urlsafe_b64encode(self._entropy(16)).rstrip(b"=").decode()
