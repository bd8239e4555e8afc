"""`Attempt`: one attempt to get from a URL to a session: token, negotiation, redirects, WebSocket (SPEC 4.2, 5.2)."""

from __future__ import annotations

from enum import Enum
from typing import Protocol
from urllib.parse import quote

import h11

from .._client_errors import (
    ConnectionFailed,
    ConnectTimeout,
    Forbidden,
    NoCommonTransport,
    NotAHub,
    TokenFailed,
    Unauthorized,
    handshake_refused,
)
from .._client_session import ClientSession
from .._connection import Role
from .._effects import EffectQueue, Wake
from .._errors import HubError, TransportError, WouldBlock
from .._logs import connection_facts
from .._timers import Timer, TimerTable
from ._access_token import TokenRequest, fits_a_header
from ._client_options import ClientOptions, Route
from ._client_socket import ClientEffect, ClientSocket, OpenSocket
from ._negotiate import NegotiateResponse, parse_response
from ._url import host_header, show_url, split_url, with_query
from ._websocket import WebSocketTransport, accept_token, new_key

__all__ = ["Attempt", "AttemptOwner", "Progress", "check_headers"]

_MAX_REDIRECTS = 100
_USER_AGENT = "hubproto"


class AttemptOwner(Protocol):
    """What an attempt reports to. `Wake` of it asks for `handle_timeout`."""

    def attempt_moved(self, attempt: Attempt, *, now: float) -> None:
        """The attempt is open, or over, or finished."""


class Progress(Enum):
    """How far an attempt has come."""

    AUTHORIZING = "authorizing"
    NEGOTIATING = "negotiating"
    CONNECTING = "connecting"
    OPEN = "open"
    """The hub's handshake is done: calls are legal."""
    OVER = "over"
    """There is no way to a session, or the session has ended. `Attempt.error` says why."""


class Attempt:
    """One attempt to get a session at the end of a route, and that session for as long as it lives."""

    __slots__ = (
        "_asked_again",
        "_effects",
        "_owner",
        "_redirects",
        "_route",
        "_socket",
        "_target",
        "_timers",
        "_token",
        "_token_request",
        "connection_id",
        "error",
        "progress",
        "session",
    )

    def __init__(self, owner: AttemptOwner, route: Route, effects: EffectQueue[ClientEffect]) -> None:
        self.progress: Progress = Progress.AUTHORIZING
        self.error: Exception | None = None
        """Why it is over; None for an end in order."""
        self.session: ClientSession | None = None
        self.connection_id: str | None = None
        """The public id that the server gave; None without negotiation."""
        self._owner = owner
        self._route = route
        self._effects = effects
        self._target = route.target
        self._token: str | None = None
        self._token_request: TokenRequest | None = None
        self._asked_again = False
        self._redirects = 0
        self._socket: ClientSocket | None = None
        self._timers = TimerTable()

    # facts

    @property
    def finished(self) -> bool:
        """It is over, and its socket too."""
        return self.progress is Progress.OVER and (self._socket is None or self._socket.finished)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._timers.next()

    @property
    def may_return(self) -> bool:
        """The connection was not ended for good, neither by the server nor by us (SPEC 5.9)."""
        closed = self.session.closed if self.session is not None else None
        return closed is not None and closed.allow_reconnect

    # commands of the client

    def start(self, *, now: float) -> None:
        """Set out; once."""
        self._timers.arm(Timer.HANDSHAKE, now + self._route.options.connect_timeout)
        self._ask_for_token()

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed, or the access token be there. Early and spurious calls change nothing."""
        for timer in self._timers.expire(now):
            if timer is Timer.HANDSHAKE:
                url, seconds = self._route.shown_url, self._route.options.connect_timeout
                self._end(ConnectTimeout(url, f"no connection to {url} within {seconds:g} s"), now)
            self._drop_socket(now)
        if self._token_request is not None:
            self._look_for_token(self._token_request, now)

    def stop(self, *, now: float) -> None:
        """Say farewell if there is anybody to say it to, and end within `HubConfig.close_timeout`."""
        if self.progress is Progress.OPEN and self.session is not None:
            self.session.close()
            self._timers.arm(Timer.CLOSE, now + self._route.config.close_timeout)
        else:
            url = self._route.shown_url
            self._end(ConnectionFailed(url, f"the connection to {url} was stopped before it was made"), now)
            self._drop_socket(now)

    def abandon(self, *, now: float) -> None:
        """Be over at once, whatever is still to be said."""
        url = self._route.shown_url
        self._end(ConnectionFailed(url, f"the connection to {url} was dropped"), now)
        self._drop_socket(now)

    # SocketOwner

    def socket_failed(self, socket: ClientSocket, error: Exception, *, now: float) -> None:
        """See `SocketOwner`."""
        self._end(error, now)

    def answered(self, socket: ClientSocket, status: int, body: bytes, *, now: float) -> None:
        """See `SocketOwner`."""
        try:
            if self.progress is Progress.NEGOTIATING and status == 200:
                self._negotiated(body)
            elif status == 401 and not self._asked_again and callable(self._route.options.access_token):
                self._asked_again = True
                self._ask_for_token()
            else:
                raise self._refusal(socket, status, body)
        except TransportError as error:
            self._end(error, now)

    def upgraded(self, socket: ClientSocket, trailing: bytes, *, now: float) -> WebSocketTransport:
        """See `SocketOwner`."""
        route = self._route
        self.session = ClientSession(
            route.codec,
            route.handlers,
            config=route.config,
            effects=self._effects,
            call_headers=route.options.call_headers,
            log_facts=connection_facts(route.shown_url, self.connection_id, None),
            now=now,
        )
        self.session.carrier = socket
        return WebSocketTransport(
            self.session, Role.CLIENT, close_timeout=route.config.close_timeout, trailing=trailing, now=now
        )

    def session_moved(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        session = self.session
        assert session is not None  # only a socket that carries it reports
        if self.progress is Progress.CONNECTING and session.is_open:
            self.progress = Progress.OPEN
            self._timers.disarm(Timer.HANDSHAKE)
            self._owner.attempt_moved(self, now=now)
        if session.closed is not None and self.progress is not Progress.OVER:
            error = session.error
            self._end(self._never_opened(error) if self.progress is Progress.CONNECTING else error, now)

    def socket_finished(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        if self.progress is Progress.OVER:
            self._timers.clear()
            self._owner.attempt_moved(self, now=now)

    # within

    def _ask_for_token(self) -> None:
        """Begin, possibly again, with the access token."""
        self.progress = Progress.AUTHORIZING
        self._target = self._route.target
        token = self._route.options.access_token
        if callable(token):
            self._token_request = TokenRequest(token, self._route.shown_url, self._owner, self._effects)
        else:
            self._set_out(token)

    def _look_for_token(self, request: TokenRequest, now: float) -> None:
        try:
            token = request.token()
        except WouldBlock:
            return
        except TokenFailed as error:
            self._end(error, now)
        else:
            self._token_request = None
            self._set_out(token)

    def _set_out(self, token: str | None) -> None:
        self._token = token
        if self._route.options.skip_negotiation:
            self._open_websocket(None)
        else:
            self._negotiate()

    def _negotiate(self) -> None:
        self.progress = Progress.NEGOTIATING
        target = self._target
        path = target.path.rstrip("/") + "/negotiate"
        target = target._replace(path=path, query=with_query(target.query, "negotiateVersion=1"))
        self._open(ClientSocket(self, target, "POST", {**self._headers(), "content-length": "0"}))

    def _negotiated(self, body: bytes) -> None:
        response = parse_response(body, show_url(self._target))
        if response.url is not None:
            self._redirect(response, response.url)
        else:
            self._require_websockets(response)
            self.connection_id = response.connection_id
            self._open_websocket(response.token)

    def _redirect(self, response: NegotiateResponse, url: str) -> None:
        self._redirects += 1
        if self._redirects > _MAX_REDIRECTS:
            url = self._route.shown_url
            raise ConnectionFailed(url, f"{url}: Negotiate redirection limit exceeded.")
        here = show_url(self._target)
        try:
            self._target = split_url(url)
        except ValueError as error:
            raise ConnectionFailed(here, f"{here} redirects to an address that is none: {error}") from error
        if response.access_token is not None:
            if not fits_a_header(response.access_token):
                raise ConnectionFailed(here, f"{here} redirects with an access token that no header can carry")
            self._token = response.access_token
        self._negotiate()

    def _require_websockets(self, response: NegotiateResponse) -> None:
        offered = response.available_transports or ()
        for transport in offered:
            wanted = self._route.codec.transfer_format.capitalize()
            if transport.transport == "WebSockets" and wanted in transport.transfer_formats:
                return
        names = ", ".join(t.transport for t in offered) or "nothing"
        url = show_url(self._target)
        raise NoCommonTransport(url, f"{url} offers {names}")

    def _open_websocket(self, token: str | None) -> None:
        self.progress = Progress.CONNECTING
        target = self._target
        if token is not None:
            target = target._replace(query=with_query(target.query, f"id={quote(token, safe='')}"))
        key = new_key(self._route.entropy)
        headers = {
            **self._headers(),
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        }
        self._open(ClientSocket(self, target, "GET", headers, accept=accept_token(key)))

    def _open(self, socket: ClientSocket) -> None:
        self._socket = socket
        self._effects.append(OpenSocket(socket))

    def _headers(self) -> dict[str, str]:
        return _headers(self._route.options, self._token)

    def _refusal(self, socket: ClientSocket, status: int, body: bytes) -> ConnectionFailed:
        text = body[:200].decode("utf-8", "replace").strip()
        what = "negotiation" if self.progress is Progress.NEGOTIATING else "WebSocket"
        said = f" ({text})" if text else ""
        kind = {401: Unauthorized, 403: Forbidden, 404: NotAHub}.get(status, ConnectionFailed)
        return kind(socket.url, f"{socket.url} refused the {what} with status {status}{said}")

    def _never_opened(self, error: Exception | None) -> Exception:
        """Say with the URL why there was a WebSocket, but no hub connection on it."""
        url = self._route.shown_url
        if isinstance(error, HubError):
            return handshake_refused(url, error, self._route.codec.name)
        if error is None:
            return ConnectionFailed(url, f"{url} accepted the connection and closed it at once")
        return error if isinstance(error, ConnectionFailed) else ConnectionFailed(url, f"{url}: {error}")

    def _drop_socket(self, now: float) -> None:
        if self._socket is not None:
            self._socket.abandon()
            self._effects.append(Wake(self._socket))
            if self.session is not None:
                self.session.handle_timeout(now=now)
                self.session_moved(self._socket, now=now)
        self._owner.attempt_moved(self, now=now)

    def _end(self, error: Exception | None, now: float) -> None:
        if self.progress is not Progress.OVER:
            self.progress = Progress.OVER
            self.error = error
            self._timers.disarm(Timer.HANDSHAKE)
            if self._token_request is not None:
                self._token_request.abandon()
                self._token_request = None
            if self.session is not None:
                self.session.close()
            self._owner.attempt_moved(self, now=now)


def check_headers(route: Route) -> None:
    """Raise ValueError, saying why, if the headers of a route's requests cannot be sent."""
    token = route.options.access_token
    headers = _headers(route.options, None if callable(token) else token)
    try:
        h11.Request(method="GET", target="/", headers=[("host", host_header(route.target)), *headers.items()])
    except (h11.LocalProtocolError, UnicodeEncodeError) as error:
        raise ValueError(f"these headers cannot be sent: {error}") from error


def _headers(options: ClientOptions, token: str | None) -> dict[str, str]:
    headers = {"user-agent": _USER_AGENT, "x-requested-with": "XMLHttpRequest"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    headers.update((name.lower(), value) for name, value in options.headers.items())
    return headers
