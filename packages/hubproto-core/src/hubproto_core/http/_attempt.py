"""`Attempt`: one attempt to get from a URL to a session: token, negotiation, redirects, transports (SPEC 4.2, 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol
from urllib.parse import SplitResult, quote

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
from .._effects import EffectQueue, EffectSink, Wake
from .._errors import HubError, TransportError, WouldBlock
from .._logs import connection_facts
from .._timers import Timer, TimerTable
from .._transport import Transport
from ._access_token import TokenRequest, fits_a_header
from ._client_carrier import Carrier
from ._client_options import ClientOptions, Route
from ._client_socket import ClientEffect, ClientSocket, ExchangeSocket, OpenSocket
from ._negotiate import AvailableTransport, NegotiateResponse, parse_response
from ._url import host_header, show_url, split_url, with_query
from ._websocket import WebSocketTransport, accept_token, new_key

__all__ = ["Attempt", "AttemptOwner", "Progress", "check_options"]

_MAX_REDIRECTS = 100
_USER_AGENT = "hubproto"
_KNOWN = {transport.value: transport for transport in Transport}
_NAMES = {
    Transport.WEB_SOCKETS: "WebSocket",
    Transport.SERVER_SENT_EVENTS: "server-sent events",
    Transport.LONG_POLLING: "long polling",
}


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
        "_carrier",
        "_due",
        "_effects",
        "_failures",
        "_offers",
        "_owner",
        "_redirects",
        "_route",
        "_sockets",
        "_target",
        "_timers",
        "_token",
        "_token_is_theirs",
        "_token_request",
        "_transport",
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
        self._token_is_theirs = False  # of a redirect
        self._token_request: TokenRequest | None = None
        self._asked_again = False
        self._redirects = 0
        self._transport: Transport | None = None  # the one that is tried, or has been taken
        self._offers: Sequence[AvailableTransport] = ()
        self._failures: dict[Transport, Exception] = {}  # why those tried before it did not do
        self._carrier: Carrier | None = None  # unless it is a WebSocket
        self._sockets: list[ClientSocket] = []  # that are not gone
        self._due = 0.0  # when it must be open
        self._timers = TimerTable()

    # facts

    @property
    def finished(self) -> bool:
        """It is over, and its sockets too."""
        return self.progress is Progress.OVER and all(socket.finished for socket in self._sockets)

    @property
    def transport(self) -> Transport | None:
        """The one that is tried, or has been taken; None before that."""
        return self._transport

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
        self._due = now + self._route.options.connect_timeout
        self._timers.arm(Timer.HANDSHAKE, self._due)
        self._ask_for_token(now)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed, or the access token be there. Early and spurious calls change nothing."""
        for timer in self._timers.expire(now):
            if timer is Timer.TRANSPORT:
                self._give_transport_up(now)
                continue
            if timer is Timer.HANDSHAKE:
                url, seconds = self._route.shown_url, self._route.options.connect_timeout
                proxy = self._route.reach.proxies.to(self._target)
                through = "" if proxy is None else f" through the proxy {proxy}"
                self._end(ConnectTimeout(url, f"no connection to {url}{through} within {seconds:g} s"), now)
            self._drop_sockets(now)
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
            self._drop_sockets(now)

    def abandon(self, *, now: float) -> None:
        """Be over at once, whatever is still to be said."""
        url = self._route.shown_url
        if self._carrier is not None:
            self._carrier.abandon()
        self._end(ConnectionFailed(url, f"the connection to {url} was dropped"), now)
        self._drop_sockets(now)

    # CarrierOwner

    def socket_failed(self, socket: ClientSocket, error: Exception, *, now: float) -> None:
        """See `SocketOwner`."""
        self._fall_back(error, now)

    def answered(self, socket: ClientSocket, status: int, body: bytes, *, now: float) -> None:
        """See `SocketOwner`."""
        try:
            if self.progress is Progress.NEGOTIATING and status == 200:
                self._negotiated(body, now)
            elif status == 401 and not self._asked_again and callable(self._route.options.access_token):
                self._asked_again = True
                self._ask_for_token(now)
            else:
                self._try_another(self._refusal(socket, status, body))
        except TransportError as error:
            self._end(error, now)

    def upgraded(self, socket: ClientSocket, trailing: bytes, *, now: float) -> WebSocketTransport:
        """See `SocketOwner`."""
        session = self._new_session(self._effects, socket, now)
        return WebSocketTransport(
            session, Role.CLIENT, close_timeout=self._route.config.close_timeout, trailing=trailing, now=now
        )

    def accepted(self, carrier: Carrier, *, now: float) -> ClientSession:
        """See `CarrierOwner`."""
        return self._new_session(carrier, carrier, now)

    def renew_token(self, carrier: Carrier) -> TokenRequest | None:
        """See `CarrierOwner`."""
        token = self._route.options.access_token
        if not callable(token) or self._token_is_theirs:
            return None
        return TokenRequest(token, self._route.shown_url, carrier, carrier)

    def headers_with(self, token: str | None) -> dict[str, str]:
        """See `CarrierOwner`."""
        return _headers(self._route.options, token)

    def open(self, socket: ClientSocket) -> None:
        """See `CarrierOwner`."""
        self._sockets.append(socket)
        self._effects.append(OpenSocket(socket))

    def session_moved(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        self._look(now)

    def socket_finished(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        if socket in self._sockets:
            self._sockets.remove(socket)
        if self.finished:
            self._timers.clear()
            self._owner.attempt_moved(self, now=now)

    # within

    def _look(self, now: float) -> None:
        """See what has become of the session."""
        session = self.session
        assert session is not None  # only what carries it reports
        if self.progress is Progress.CONNECTING and session.is_open:
            self.progress = Progress.OPEN
            self._timers.disarm(Timer.HANDSHAKE)
            self._owner.attempt_moved(self, now=now)
        if session.closed is not None and self.progress is not Progress.OVER:
            error = session.error
            self._end(self._never_opened(error) if self.progress is Progress.CONNECTING else error, now)

    def _ask_for_token(self, now: float) -> None:
        """Begin, possibly again, with the access token."""
        self.progress = Progress.AUTHORIZING
        self._timers.disarm(Timer.TRANSPORT)
        self._target = self._route.target
        token = self._route.options.access_token
        if callable(token):
            self._token_request = TokenRequest(token, self._route.shown_url, self._owner, self._effects)
        else:
            self._set_out(token, now)

    def _look_for_token(self, request: TokenRequest, now: float) -> None:
        try:
            token = request.token()
        except WouldBlock:
            return
        except TokenFailed as error:
            self._end(error, now)
        else:
            self._token_request = None
            self._set_out(token, now)

    def _set_out(self, token: str | None, now: float) -> None:
        self._token = token
        self._token_is_theirs = False
        if self._route.options.skip_negotiation:
            self._connect(Transport.WEB_SOCKETS, None, now)
        else:
            self._negotiate()

    def _negotiate(self) -> None:
        self.progress = Progress.NEGOTIATING
        self._timers.disarm(Timer.TRANSPORT)
        target = self._target
        path = target.path.rstrip("/") + "/negotiate"
        target = target._replace(path=path, query=with_query(target.query, "negotiateVersion=1"))
        headers = {**self._headers(), "content-length": "0"}
        self.open(ExchangeSocket(self, target, "POST", headers, reach=self._route.reach))

    def _negotiated(self, body: bytes, now: float) -> None:
        response = parse_response(body, show_url(self._target))
        if response.url is not None:
            self._redirect(response, response.url)
        else:
            self._offers = response.available_transports or ()
            transport = self._choose()
            self.connection_id = response.connection_id
            self._connect(transport, response.token, now)

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
            self._token_is_theirs = True
        self._negotiate()

    def _choose(self) -> Transport:
        """Return the first transport of the server's that may do, and was not tried. Raises the reasons if none is."""
        reasons: list[str] = []
        wanted = self._route.codec.transfer_format.capitalize()
        for offer in self._offers:
            transport = _KNOWN.get(offer.transport)
            if transport in self._failures:
                reasons.append(f"({transport} failed: {self._failures[transport]})")
            elif transport is None:
                reasons.append(f"('{offer.transport}' is not known to the client.)")
            elif transport not in self._route.options.transports:
                reasons.append(f"('{transport}' is disabled by the client.)")
            elif not self._may_do(offer):
                reasons.append(f"('{transport}' does not support {wanted}.)")
            else:
                return transport
        url = show_url(self._target)
        if not self._failures:
            names = ", ".join(offer.transport for offer in self._offers) or "nothing"
            raise NoCommonTransport(url, " ".join([f"{url} offers {names}", *reasons]))
        *_, last = self._failures.values()
        if len(reasons) == 1:
            raise last
        kinds = {type(error) for error in self._failures.values()}
        kind = kinds.pop() if len(kinds) == 1 else ConnectionFailed
        text = "Unable to connect to the server with any of the available transports."
        raise kind(url, f"{url}: {text} {' '.join(reasons)}") from last

    def _may_do(self, offer: AvailableTransport) -> bool:
        """Whether a transport of the server's can carry this client."""
        transport = _KNOWN.get(offer.transport)
        wanted = self._route.codec.transfer_format
        return (
            transport is not None
            and transport in self._route.options.transports
            and wanted.capitalize() in offer.transfer_formats
            and wanted in transport.transfer_formats
        )

    def _share_time(self, now: float) -> None:
        """See to it that a transport that the server does not answer leaves time for those that may come after it."""
        left = [offer for offer in self._offers if _KNOWN.get(offer.transport) not in self._failures]
        count = sum(self._may_do(offer) for offer in left)
        if count > 1:
            self._timers.arm(Timer.TRANSPORT, now + (self._due - now) / count)
            self._effects.append(Wake(self._owner))  # whose deadline is an earlier one now

    def _give_transport_up(self, now: float) -> None:
        """The server has not answered the transport within its share of the time."""
        assert self._transport is not None  # it is being connected
        url = show_url(self._target)
        error = ConnectTimeout(url, f"{url} did not accept the {_NAMES[self._transport]} in time")
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.abandon()
        for socket in self._sockets:
            socket.abandon()
            self._effects.append(Wake(socket))
        self._fall_back(error, now)

    def _fall_back(self, error: Exception, now: float) -> None:
        try:
            self._try_another(error)
        except TransportError as reason:
            self._end(reason, now)

    def _try_another(self, error: Exception) -> None:
        """What is being tried has failed: ask the server again, for another transport. Raises if that is hopeless."""
        if self.progress is not Progress.CONNECTING or self._route.options.skip_negotiation:
            raise error
        assert self._transport is not None  # it is being connected
        self._failures[self._transport] = error
        self._choose()  # there is another one
        self._negotiate()

    def _connect(self, transport: Transport, token: str | None, now: float) -> None:
        self.progress = Progress.CONNECTING
        self._transport = transport
        self._share_time(now)
        target = self._target
        if token is not None:
            target = target._replace(query=with_query(target.query, f"id={quote(token, safe='')}"))
        if transport is Transport.WEB_SOCKETS:
            self._open_websocket(target)
        else:
            self._carrier = Carrier(
                self,
                transport,
                target,
                self._headers(),
                self._effects,
                reach=self._route.reach,
                max_message_size=self._route.config.max_message_size,
                token_timeout=self._route.options.connect_timeout,
            )
            self._carrier.start()

    def _open_websocket(self, target: SplitResult) -> None:
        key = new_key(self._route.entropy)
        headers = {
            **self._headers(),
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        }
        self.open(ExchangeSocket(self, target, "GET", headers, accept_token(key), reach=self._route.reach))

    def _new_session(self, effects: EffectSink, carrier: object, now: float) -> ClientSession:
        route, transport = self._route, self._transport
        assert transport is not None  # it is what has been connected
        self._timers.disarm(Timer.TRANSPORT)
        self.session = ClientSession(
            route.codec,
            route.handlers,
            config=route.config,
            effects=effects,
            transport=transport,
            call_headers=route.options.call_headers,
            log_facts=connection_facts(route.shown_url, self.connection_id, None),
            now=now,
        )
        self.session.carrier = carrier
        return self.session

    def _headers(self) -> dict[str, str]:
        return _headers(self._route.options, self._token)

    def _refusal(self, socket: ClientSocket, status: int, body: bytes) -> ConnectionFailed:
        text = body[:200].decode("utf-8", "replace").strip()
        connecting = self._transport if self.progress is Progress.CONNECTING else None
        what = "negotiation" if connecting is None else _NAMES[connecting]
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

    def _drop_sockets(self, now: float) -> None:
        for socket in self._sockets:
            socket.abandon()
            self._effects.append(Wake(socket))
        if self.session is not None:
            self.session.handle_timeout(now=now)
            self._look(now)
        self._owner.attempt_moved(self, now=now)

    def _end(self, error: Exception | None, now: float) -> None:
        if self.progress is not Progress.OVER:
            self.progress = Progress.OVER
            self.error = error
            self._timers.disarm(Timer.HANDSHAKE)
            self._timers.disarm(Timer.TRANSPORT)
            if self._token_request is not None:
                self._token_request.abandon()
                self._token_request = None
            if self.session is not None:
                self.session.close()
                if self._carrier is not None:
                    self._timers.arm(Timer.CLOSE, now + self._route.config.close_timeout)
            self._owner.attempt_moved(self, now=now)


def check_options(route: Route) -> None:
    """Raise ValueError, saying why, if the headers of a route's requests cannot be sent, or no transport is wanted."""
    transports = route.options.transports
    if not transports:
        raise ValueError("a client needs at least one transport")
    if route.options.skip_negotiation and Transport.WEB_SOCKETS not in transports:
        raise ValueError("Negotiation can only be skipped when using the WebSocket transport directly.")
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
