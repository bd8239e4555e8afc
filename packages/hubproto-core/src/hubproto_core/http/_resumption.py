"""`Resumption`: how a stateful session that has lost its WebSocket gets another one (SPEC 4.7.8, appendix E.31).

The .NET client gives up when its first attempt fails. Here there are further ones, as long as the server keeps the
connection: `HubConfig.resume_window`. Calls and streams notice nothing but that it takes longer.
"""

from __future__ import annotations

import math
from typing import Protocol

from .._client_errors import ConnectionFailed, ServerGone, TokenFailed
from .._client_session import ClientSession
from .._connection import Role
from .._effects import EffectSink, Wake
from .._errors import WouldBlock
from .._logs import client_log, connection_facts, facts, one_line
from .._reconnect import ReconnectPolicy, Retry
from .._timers import Timer, TimerTable
from ._access_token import AccessToken, TokenRequest
from ._client_options import Route
from ._client_socket import ClientSocket
from ._websocket import WebSocketTransport

__all__ = ["Resumable", "Resumption"]

_DELAYS = (0.0, 0.1)
_LONGEST_DELAY = 1.0
_JITTER = 0.5
_TRIES = 3  # that fit into the window even if each of them is met by silence
_PASSING = (408, 425, 429)  # what may be answered otherwise a moment later, as may all from 500


class Resumable(Protocol):
    """The attempt whose session it is."""

    def dial(self, owner: Resumption, token: str | None) -> ClientSocket:
        """Open another WebSocket to the same connection."""

    def session_moved(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""

    def socket_finished(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""


class Resumption:
    """One stateful session of an attempt, and whatever it takes to give it another WebSocket each time it needs one.

    `token` is the access token, or who is asked for it before each try. While it is `active` the session belongs to
    nobody's pump: `Wake(host)` asks for `handle_timeout`, which drives the session, too.
    """

    __slots__ = (
        "_asked_again",
        "_attempt",
        "_effects",
        "_failure",
        "_host",
        "_log_facts",
        "_policy",
        "_request",
        "_route",
        "_session",
        "_since",
        "_socket",
        "_timers",
        "_token",
        "_tries",
        "active",
    )

    def __init__(
        self,
        attempt: Resumable,
        session: ClientSession,
        route: Route,
        token: AccessToken | None,
        effects: EffectSink,
        host: object,
        connection_id: str | None,
    ) -> None:
        self.active: bool = False
        """The session has no WebSocket, and another one is sought."""
        self._attempt = attempt
        self._session = session
        self._route = route
        self._token = token
        self._effects = effects
        self._host = host
        self._log_facts = connection_facts(route.shown_url, connection_id, None)
        self._policy = ReconnectPolicy(
            delays=_DELAYS,
            max_attempts=math.inf,
            max_delay=_LONGEST_DELAY,
            jitter=_JITTER,
            max_elapsed=route.config.resume_window,
        )
        self._since = 0.0  # when the last WebSocket was lost that was of any use
        self._tries = 0  # since then
        self._failure: Exception | None = None  # of the last try
        self._request: TokenRequest | None = None
        self._asked_again = False  # for a token that is not refused
        self._socket: ClientSocket | None = None  # that is being tried
        self._timers = TimerTable()

    def lost(self, *, now: float) -> None:
        """The session has lost its WebSocket, of which nothing is wanted any more."""
        reason = self._session.lost_by
        self._session.carrier = self._host
        if self._session.resumed:
            self._since, self._tries = now, 0
            self._asked_again = False
        self._failure = None
        self.active = True
        self._timers.arm(Timer.RESUME, self._since + self._route.config.resume_window)
        client_log.info(
            "connection %s has lost its socket, another one is opened: %s",
            self._log_facts["connection_id"],
            one_line(reason),
            extra=facts(self._log_facts, error=reason),
        )
        self._schedule(reason, now)

    def abandon(self) -> None:
        """The session is over: stop trying."""
        self.active = False
        self._timers.clear()
        self._drop()

    # time

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        if not self.active:
            return None
        deadlines = (self._timers.next(), self._session.next_timeout())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed, or the access token be there. Early calls change nothing. Only while `active`."""
        expired = self._timers.expire(now)
        if Timer.RESUME in expired:
            failure = "" if self._failure is None else f": {self._failure}"
            seconds = self._route.config.resume_window
            self._give_up(f"it could not be reached again within {seconds:g} s{failure}", now)
        elif Timer.RECONNECT in expired:
            self._try(now)
        elif Timer.HANDSHAKE in expired:
            url = self._route.shown_url
            self._failed(ConnectionFailed(url, f"no answer from {url} within {self._limit:g} s"), now)
        if self._request is not None:
            self._look_for_token(self._request, now)
        self._session.handle_timeout(now=now)

    # SocketOwner

    def socket_failed(self, socket: ClientSocket, error: Exception, *, now: float) -> None:
        """See `SocketOwner`."""
        if socket is self._socket:
            self._failed(error, now)

    def answered(self, socket: ClientSocket, status: int, body: bytes, *, now: float) -> None:
        """See `SocketOwner`."""
        said = body[:200].decode("utf-8", "replace").strip()
        what = f"status {status}" + (f", {said}" if said else "")
        if status in _PASSING or status >= 500:
            self._failed(ConnectionFailed(socket.url, f"{socket.url} refused the WebSocket with {what}"), now)
        elif status == 401 and callable(self._token) and not self._asked_again:
            self._asked_again = True
            self._try(now)
        else:
            self._give_up(
                f"it {'has forgotten' if status == 404 else 'refuses to resume'} the connection ({what})", now
            )
            self._attempt.session_moved(socket, now=now)

    def upgraded(self, socket: ClientSocket, trailing: bytes, *, now: float) -> WebSocketTransport:
        """See `SocketOwner`."""
        session = self._session
        self._socket = None
        self.abandon()
        session.carrier = socket
        if session.is_lost:
            session.resume()
            client_log.info(
                "connection %s goes on over another socket",
                self._log_facts["connection_id"],
                extra=facts(self._log_facts),
            )
        limit = self._route.config.close_timeout
        return WebSocketTransport(session, Role.CLIENT, close_timeout=limit, trailing=trailing, now=now)

    def session_moved(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        self._attempt.session_moved(socket, now=now)

    def socket_finished(self, socket: ClientSocket, *, now: float) -> None:
        """See `SocketOwner`."""
        self._attempt.socket_finished(socket, now=now)

    # within

    @property
    def _limit(self) -> float:
        """Seconds after which a try is given up."""
        return min(self._route.options.connect_timeout, self._route.config.resume_window / _TRIES)

    def _schedule(self, reason: Exception | None, now: float) -> None:
        """Arm the next try, unless the window ends before it."""
        retry = Retry(count=self._tries, elapsed=now - self._since, reason=reason, random=self._route.random())
        delay = self._policy(retry)
        if delay is not None:
            self._timers.arm(Timer.RECONNECT, now + delay)
        self._effects.append(Wake(self._host))

    def _try(self, now: float) -> None:
        self._tries += 1
        self._timers.arm(Timer.HANDSHAKE, now + self._limit)
        if callable(self._token):
            self._request = TokenRequest(self._token, self._route.shown_url, self._host, self._effects)
        else:
            self._socket = self._attempt.dial(self, self._token)

    def _look_for_token(self, request: TokenRequest, now: float) -> None:
        try:
            token = request.token()
        except WouldBlock:
            return
        except TokenFailed as error:
            self._failed(error, now)
        else:
            self._request = None
            self._socket = self._attempt.dial(self, token)

    def _failed(self, error: Exception, now: float) -> None:
        self._drop()
        self._failure = error
        client_log.debug(
            "connection %s has no other socket yet: %s",
            self._log_facts["connection_id"],
            one_line(error),
            extra=facts(self._log_facts, error=error),
        )
        self._schedule(error, now)

    def _drop(self) -> None:
        """Stop the try that is under way, if one is."""
        self._timers.disarm(Timer.HANDSHAKE)
        if self._request is not None:
            self._request.abandon()
            self._request = None
        if self._socket is not None:
            self._socket.abandon()
            self._effects.append(Wake(self._socket))
            self._socket = None

    def _give_up(self, why: str, now: float) -> None:
        """The session ends."""
        lost = self._session.lost_by
        url, reason = self._route.shown_url, lost.what if isinstance(lost, ConnectionFailed) else str(lost)
        error = ServerGone(url, f"{reason}; {why}" if url in reason else f"{url} is gone: {reason}; {why}")
        error.__cause__ = lost
        self.abandon()
        self._session.give_up(error)
        self._session.handle_timeout(now=now)
