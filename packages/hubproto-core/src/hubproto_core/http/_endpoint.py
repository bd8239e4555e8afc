"""`Endpoint`: one hub at one path: negotiation, ids, and who gets which session (SPEC 4.1, 4.2).

It knows no sockets and no HTTP parser: requests come as data, answers leave as data.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._call import ConnectionInfo
from .._clients import Registry
from .._config import HubConfig
from .._effects import EffectSink, Wake
from .._hub import Hub
from .._hub_session import HubSession
from . import _negotiate
from ._messages import Request, Response

__all__ = ["Endpoint", "WebSocketAccepted"]

_DISCONNECT_TIMEOUT = 15.0  # seconds that a negotiated id waits for its connection (SPEC 4.8)

_TRANSPORTS = (_negotiate.AvailableTransport("WebSockets", ("Text", "Binary")),)
_BAD_REQUEST_NO_ID = Response(400, b"Connection ID required")
_NOT_FOUND = Response(404, b"No Connection with that ID")


@dataclass(frozen=True, slots=True)
class WebSocketAccepted:
    """Switch the socket to a WebSocket and carry this session on it; `Endpoint.release` the token afterwards."""

    session: HubSession
    token: str


class Endpoint:
    """One hub as seen by HTTP."""

    __slots__ = ("_clock", "_codecs", "_config", "_effects", "_entropy", "_hub", "_reserved", "_sessions", "registry")

    def __init__(
        self,
        hub: Hub,
        *,
        effects: EffectSink,
        entropy: Callable[[int], bytes],
        registry: Registry,
        config: HubConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.registry: Registry = registry
        self._hub = hub
        self._effects = effects
        self._entropy = entropy
        self._config = config or hub.config
        self._codecs = hub.codecs
        self._clock = clock
        self._reserved: dict[str, tuple[str, float]] = {}  # token -> public id, deadline; oldest first
        self._sessions: dict[str, HubSession] = {}  # token -> connection in use

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
        connection_id = self._new_id()
        token = self._new_id() if version > 0 else connection_id
        self._reserved[token] = (connection_id, now + _DISCONNECT_TIMEOUT)
        self._effects.append(Wake(self.registry.owner))  # there is a deadline now
        body = _negotiate.encode_response(version, connection_id, token, _TRANSPORTS)
        return Response(200, body, "application/json")

    def handle(self, request: Request, principal: Any = None, *, now: float) -> Response | WebSocketAccepted:
        """Answer a request for the endpoint itself, in the reference's order of checks (SPEC 4.1).

        `principal` is what the authenticator says of the request.
        """
        token = request.query.get("id")
        if request.wants_websocket:
            return self._open_websocket(request, token, principal, now)
        if request.method not in ("GET", "POST", "DELETE"):
            return Response(405, headers={"allow": "GET, POST, DELETE"})
        if not token:
            return _BAD_REQUEST_NO_ID
        if token in self._sessions:
            return {
                "GET": Response(400, b"Cannot change transports mid-connection"),
                "POST": Response(405, b"POST requests are not allowed for WebSocket connections."),
                "DELETE": Response(400, b"Cannot terminate this connection using the DELETE endpoint."),
            }[request.method]
        if token not in self._reserved:
            return _NOT_FOUND
        wants_events = "text/event-stream" in [t.strip() for t in request.headers.get("accept", "").split(",")]
        name = "ServerSentEvents" if wants_events and request.method == "GET" else "LongPolling"
        return Response(404, f"{name} transport not supported by this end point type".encode())

    def release(self, token: str) -> None:
        """The socket of this connection is gone."""
        self._sessions.pop(token, None)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return next((deadline for _, deadline in self._reserved.values()), None)

    def handle_timeout(self, *, now: float) -> None:
        """Forget ids that nobody came for."""
        for token in [token for token, (_, deadline) in self._reserved.items() if deadline <= now]:
            del self._reserved[token]

    def _open_websocket(
        self, request: Request, token: str | None, principal: Any, now: float
    ) -> Response | WebSocketAccepted:
        if not token:
            token = connection_id = self._new_id()  # negotiation was skipped (SPEC 4.2.7)
        elif token in self._sessions:
            return Response(409)
        elif token in self._reserved:
            connection_id, _ = self._reserved.pop(token)
        else:
            return _NOT_FOUND
        info = ConnectionInfo(
            headers=request.headers,
            query=request.query,
            query_string=request.query_string,
            transport="WebSockets",
        )
        session = HubSession(
            self._hub,
            self._codecs,
            connection_id=connection_id,
            registry=self.registry,
            config=self._config,
            effects=self._effects,
            info=info,
            user=None if principal is None else self._hub.user_id(principal),
            principal=principal,
            expires=self._expiry(principal, now),
            now=now,
        )
        self._sessions[token] = session
        return WebSocketAccepted(session, token)

    def _expiry(self, principal: Any, now: float) -> float | None:
        """When a principal's time is up, by the clock of the machines."""
        expires_at: float | None = getattr(principal, "expires_at", None)
        if expires_at is None or self._clock is None:
            return None
        return now + expires_at - self._clock()

    def _new_id(self) -> str:
        return base64.urlsafe_b64encode(self._entropy(16)).rstrip(b"=").decode()
