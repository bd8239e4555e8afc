"""`Carrier`: a client's session carried by requests: server-sent events, or long polling (SPEC 4.4 to 4.6).

What the session says leaves in POSTs, strictly one at a time; what it hears comes in the answer to a GET: a stream of
events, or one poll after the other. There are two sockets: one for the GETs, and one for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Protocol
from urllib.parse import SplitResult

from .._client_errors import ConnectionFailed, ServerGone, TokenFailed
from .._client_session import FAREWELL_GRACE, ClientSession
from .._effects import Effect, EffectQueue, Wake
from .._errors import HubProtoError, RemoteProtocolError, WouldBlock
from .._transport import Transport
from ._access_token import TokenRequest
from ._client_requests import Answer, RequestSocket
from ._client_socket import ClientEffect, ClientSocket, OutgoingRequest, Reach, SocketOwner
from ._sse import EventReader

__all__ = ["Carrier", "CarrierOwner"]

_POLL_LIMIT = 100.0
"""Seconds after which a poll is given up, and the next one sent: servers answer within 90 (SPEC 4.6)."""

_MAX_UNANSWERED = 2
"""Polls that may be given up one after the other; then the server is gone."""

_KEPT_FOR = 4.0
"""Seconds that the socket of the POSTs is kept while there is nothing to say: less than servers keep theirs, so that
none is closed while a POST is on its way."""

_MOMENT = 1.0
"""Seconds that a server which does not know the connection any more has to say why: its Close may be on its way."""

_MAX_EVENT = 1024 * 1024
"""Bytes that an event may have beyond the longest message; a server says all that it has to say in one."""

_EVENT_STREAM = "text/event-stream"
_CONTENT_TYPES = {"text": "text/plain;charset=UTF-8", "binary": "application/octet-stream"}


class CarrierOwner(SocketOwner, Protocol):
    """What a carrier reports to; of its sockets, too."""

    def accepted(self, carrier: Carrier, *, now: float) -> ClientSession:
        """The server has accepted the transport: here is the session that it is to carry."""

    def open(self, socket: ClientSocket) -> None:
        """This socket is to be opened."""

    def renew_token(self, carrier: Carrier) -> TokenRequest | None:
        """Ask for another access token, of which the carrier is told; None if there will be none."""

    def headers_with(self, token: str | None) -> Mapping[str, str]:
        """What all requests carry, with this access token."""


class Carrier:
    """Carries one session by requests to `target`, each with `headers`.

    `max_message_size` is that of the session, in bytes; None is no limit. `token_timeout` is how many seconds a new
    access token may take, when the server does not accept the old one any more; what was refused is then said again.
    """

    __slots__ = (
        "_close_due",
        "_deleted",
        "_effects",
        "_ended",
        "_farewell",
        "_get",
        "_grace_due",
        "_headers",
        "_over",
        "_post",
        "_reach",
        "_refusal",
        "_renewal",
        "_saying",
        "_sent_with",
        "_target",
        "_token_due",
        "_token_timeout",
        "_transport",
        "_unanswered",
        "_unauthorized",
        "max_message_size",
        "owner",
        "session",
    )

    def __init__(
        self,
        owner: CarrierOwner,
        transport: Transport,
        target: SplitResult,
        headers: Mapping[str, str],
        effects: EffectQueue[ClientEffect],
        *,
        reach: Reach,
        max_message_size: int | None,
        token_timeout: float,
    ) -> None:
        self.owner: CarrierOwner = owner
        self.max_message_size: int | None = max_message_size
        self.session: ClientSession | None = None
        self._transport = transport
        self._target = target
        self._headers = headers
        self._reach = reach
        self._effects = effects
        self._token_timeout = token_timeout
        self._renewal: TokenRequest | None = None  # while an access token is asked for
        self._token_due = inf
        self._sent_with: dict[str, Mapping[str, str]] = {}  # the headers of the last "GET", and of the last "POST"
        self._unauthorized: set[str] = set()  # of these, those that were refused, and are to be repeated once
        self._saying: tuple[str, Mapping[str, str], bytes] | None = None  # what the server has not taken yet
        self._refusal: ConnectionFailed | None = None  # why it will not take anything any more
        self._close_due = inf  # if that was all
        self._get: _Listener
        self._post: _Poster | None = None
        self._ended = False  # the server has said all it had to say
        self._farewell = False  # the session is over: what it still says, and DELETE
        self._grace_due = inf  # the server has been told, and is expected to end the connection
        self._deleted = False
        self._over = False
        self._unanswered = 0  # polls that were given up, one after the other

    def start(self) -> None:
        """Ask the server for the transport; once."""
        self.listen()

    def abandon(self) -> None:
        """Be over at once, without a farewell."""
        self._over = True
        if self._renewal is not None:
            self._renewal.abandon()
        for socket in (self._get, self._post):
            if socket is not None:
                socket.abandon()
                self._effects.append(Wake(socket))

    # the effects of its session

    def append(self, effect: Effect) -> None:
        """Pass an effect of the session on; a `Wake` of its carrier goes to the sockets, and may open one."""
        if isinstance(effect, Wake) and effect.target is self:
            self._wake()
        else:
            self._effects.append(effect)

    # for the sockets

    @property
    def wants_more(self) -> bool:
        """What the server has to say is welcome."""
        session = self.session
        return session is None or session.want_read or session.closed is not None

    @property
    def may_ask(self) -> bool:
        """There may be more to hear."""
        is_over = self._farewell and not self._waits_for_end
        return not self._ended and not is_over and self._renewal is None and self.wants_more

    def request(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> OutgoingRequest:
        """Return a request, with what all of them carry."""
        self._sent_with["GET" if method == "GET" else "POST"] = self._headers
        return OutgoingRequest(method, {**self._headers, **headers}, body)

    def listen(self) -> None:
        """Open a socket for the GETs."""
        kind = _PollListener if self._transport is Transport.LONG_POLLING else _EventListener
        self._get = kind(self, self._target, self._reach)
        self.owner.open(self._get)

    def listener_used_up(self, socket: RequestSocket) -> None:
        """The server does not keep the socket of the GETs: take another one, unless there is nothing more to hear."""
        if not self._ended:
            socket.abandon()
            if not self._farewell or self._awaits_end:
                self.listen()

    def poster_left(self, socket: RequestSocket) -> None:
        """The socket of the POSTs is not kept any longer, neither by the server nor by us."""
        socket.abandon()
        self._post = None
        self._wake()

    def poll_answered(self) -> None:
        """The server is there."""
        self._unanswered = 0

    def poll_given_up(self, socket: RequestSocket, *, now: float) -> None:
        """A poll has no answer. Another one, on another socket, shows whether only the way to the server was lost."""
        self._unanswered += 1
        if self._unanswered == _MAX_UNANSWERED and self.session is not None:
            seconds = _MAX_UNANSWERED * _POLL_LIMIT
            self.lost(ServerGone(socket.url, f"{socket.url} is gone: no poll was answered for {seconds:g} s"), now=now)
        else:
            self.listener_used_up(socket)

    def accept(self, *, now: float) -> None:
        """The server has accepted the transport."""
        self.session = self.owner.accepted(self, now=now)
        self._wake()

    def hear(self, data: bytes, *, now: float) -> None:
        """The server says something; before there is a session, that can be nothing."""
        if self.session is not None:
            self.session.receive_data(data, now=now)

    def next_saying(self, *, now: float) -> OutgoingRequest | None:
        """What to tell the server next; behind all else, that it may forget the connection (SPEC 4.6)."""
        assert self.session is not None
        if self._must_wait:
            return None
        if self._saying is None:
            data = self.session.data_to_send(now=now)
            if data:
                content_type = _CONTENT_TYPES[self.session.transfer_format]
                self._saying = "POST", {"content-type": content_type, "content-length": str(len(data))}, data
            elif self.session.closed is None or self._waits_for_end:
                return None
            elif self._has_to_delete():
                self._deleted = True
                self._saying = "DELETE", {}, b""
            else:
                self.abandon()
                return None
        return self.request(*self._saying)

    def said(self, error: HubProtoError | None, *, now: float) -> None:
        """The server has taken what was told, or will not take any more."""
        self._saying = None
        self._unauthorized.discard("POST")
        if self._deleted:
            self.abandon()
        elif error is not None and not self._ended:
            self.lost(error, now=now)
        elif self.session is not None and self.session.said_farewell and not self.session.unsent:
            self._grace_due = now + FAREWELL_GRACE
            self._wake()

    def heard(self) -> None:
        """The server has answered a GET in order."""
        self._unauthorized.discard("GET")

    def forgotten(self, error: ConnectionFailed, *, now: float) -> None:
        """The server does not know the connection any more: let it say why, if it does so in a moment."""
        assert self.session is not None
        if self._deleted or self._ended or self.session.closed is not None:
            self.said(error, now=now)
        else:
            self._refusal = error
            self._close_due = now + _MOMENT
            self._effects.append(Wake(self._get))  # which keeps the time

    def may_repeat(self, method: str, *, now: float) -> bool:
        """Tell whether a GET, or what was said, which the server answered 401, may be repeated with another token."""
        if self._ended or method in self._unauthorized:
            return False
        self._unauthorized.add(method)
        if self._sent_with[method] is self._headers and self._renewal is None:  # else there is another one already
            self._renewal = self.owner.renew_token(self)
            self._token_due = now + self._token_timeout
            self._effects.append(Wake(self._get))  # which keeps the time
            return self._renewal is not None
        return True

    def lost(self, error: HubProtoError | None, *, now: float) -> None:
        """The server says no more, in order or because of an error."""
        assert self.session is not None
        self._ended = True
        self.session.receive_eof(error or self._refusal, now=now)
        if error is not None:
            self.abandon()

    def turn(self, *, now: float) -> None:
        """Let the session go on with what it has held back, and do what is due."""
        self.look_for_token(now=now)
        if now >= self._close_due and not self._ended:
            self.lost(self._refusal, now=now)
        if now >= self._grace_due:
            self._grace_due = inf
            self._wake()
        if self.session is not None:
            self.session.handle_timeout(now=now)

    def look(self, socket: ClientSocket, *, now: float) -> None:
        """See what has become of the session."""
        if self.session is None:
            return
        if self.session.closed is not None and not self._over:
            begins, self._farewell = not self._farewell, True
            if self._ended or self._refusal is not None:
                self.abandon()
            elif begins:
                self._wake()
        if self._post is None or self._post.idle:
            self._speak()  # a ping, for example, that nobody has asked for
        self.owner.session_moved(socket, now=now)

    def look_for_token(self, *, now: float) -> None:
        """There may be another access token."""
        if self._renewal is not None:
            self._renew(self._renewal, now)

    def session_timeout(self) -> float | None:
        """When the session wants its turn, or None."""
        deadlines = [] if self.session is None else [self.session.next_timeout()]
        if self._renewal is not None:
            deadlines.append(self._token_due)
        if self._refusal is not None and not self._ended:
            deadlines.append(self._close_due)
        if self._waits_for_end:
            deadlines.append(self._grace_due)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # within

    @property
    def _must_wait(self) -> bool:
        """Nothing can be said now, or ever."""
        return self._ended or self._renewal is not None or self._refusal is not None

    @property
    def _awaits_end(self) -> bool:
        """The server is told, or about to be, that this is the end: it may still answer."""
        return self.session is not None and self.session.said_farewell and not self._deleted

    @property
    def _waits_for_end(self) -> bool:
        return self._grace_due < inf

    def _has_to_delete(self) -> bool:
        return self._transport is Transport.LONG_POLLING and not self._deleted and not self._waits_for_end

    def _renew(self, renewal: TokenRequest, now: float) -> None:
        try:
            token = renewal.token()
        except WouldBlock:
            if now >= self._token_due:
                url, seconds = self._get.url, self._token_timeout
                self._renewal = None
                renewal.abandon()
                self.lost(
                    TokenFailed(url, f"the access-token provider for {url} took longer than {seconds:g} s"), now=now
                )
        except TokenFailed as error:
            self._renewal = None
            self.lost(error, now=now)
        else:
            self._renewal = None
            self._headers = self.owner.headers_with(token)
            self._wake()

    def _has_more_to_say(self) -> bool:
        session = self.session
        if self._saying is not None and (self._post is None or self._post.idle):
            return True  # once more
        return session is not None and (session.unsent > 0 or (session.closed is not None and self._has_to_delete()))

    def _wake(self) -> None:
        if not self._over:
            self._effects.append(Wake(self._get))
            nothing_to_do = not self._waits_for_end and not self._has_more_to_say()
            if self._farewell and nothing_to_do and (self._post is None or self._post.idle):
                self.abandon()
            self._speak()

    def _speak(self) -> None:
        if self._over or self._must_wait or not self._has_more_to_say():
            return
        if self._post is None:
            self._post = _Poster(self, self._target, self._reach)
            self.owner.open(self._post)
        else:
            self._effects.append(Wake(self._post))


class _CarrierSocket(RequestSocket):
    """What both sockets have in common."""

    __slots__ = ("_carrier",)

    def __init__(self, carrier: Carrier, target: SplitResult, reach: Reach) -> None:
        super().__init__(target, reach)
        self._carrier = carrier

    def _look(self, now: float) -> None:
        self._carrier.look(self, now=now)

    def _left(self, now: float) -> None:
        self._carrier.owner.socket_finished(self, now=now)

    def _break(self, why: str, now: float) -> None:
        self._fail(ServerGone(self.url, f"{self.url} is gone: {why}"), now)


class _Listener(_CarrierSocket):
    """The socket of the GETs. It keeps the time of the session, too."""

    __slots__ = ()

    def next_timeout(self) -> float | None:
        return None if self._finished else self._carrier.session_timeout()

    def handle_timeout(self, *, now: float) -> None:
        if not self._finished:
            self._turn(now)
            self._look(now)

    def _turn(self, now: float) -> None:
        self._carrier.turn(now=now)

    def _welcome(self) -> bool:
        return self._carrier.wants_more

    def _used_up(self, now: float) -> None:
        self._carrier.listener_used_up(self)

    def _break(self, why: str, now: float) -> None:
        if self._carrier.session is None:
            self._fail(ConnectionFailed(self.url, f"{self.url} failed: {why}"), now)
        else:
            super()._break(why, now)

    def _fail(self, error: ConnectionFailed, now: float) -> None:
        self.abandon()
        if self._carrier.session is None:
            self._carrier.owner.socket_failed(self, error, now=now)
        else:
            self._carrier.lost(error, now=now)
            self._look(now)

    def _turned_down(self, answer: Answer, now: float) -> None:
        """The server does not want this transport."""
        self.abandon()
        self._carrier.owner.answered(self, answer.status, answer.text, now=now)


class _EventListener(_Listener):
    """One GET, whose answer is all that the server says."""

    __slots__ = ("_events", "_sent")

    def __init__(self, carrier: Carrier, target: SplitResult, reach: Reach) -> None:
        super().__init__(carrier, target, reach)
        limit = carrier.max_message_size
        self._events = EventReader(None if limit is None else limit + _MAX_EVENT)
        self._sent = False

    def _next_request(self, now: float) -> OutgoingRequest | None:
        if self._sent:
            return None
        self._sent = True
        return self._carrier.request("GET", {"accept": _EVENT_STREAM, "cache-control": "no-cache"})

    def _begun(self, answer: Answer, now: float) -> None:
        if answer.status == 200:
            if answer.content_type.partition(";")[0].strip().lower() == _EVENT_STREAM:
                self._carrier.accept(now=now)
            else:
                what = f"{self.url} answers with {answer.content_type or 'something'}, not with server-sent events"
                self._fail(ConnectionFailed(self.url, what), now)

    def _received(self, data: bytes, now: float) -> None:
        try:
            payloads = self._events.feed(data)
        except RemoteProtocolError as error:
            self._carrier.lost(error, now=now)
        else:
            for payload in payloads:
                self._carrier.hear(payload, now=now)

    def _answered(self, answer: Answer, now: float) -> None:
        if answer.status != 200:
            self._turned_down(answer, now)
        elif self._events.incomplete:
            self._break("its events end in the middle of one", now)
        else:
            self._carrier.lost(None, now=now)


class _PollListener(_Listener):
    """One poll after the other; 204 is the end (SPEC 4.6)."""

    __slots__ = ("_deadline",)

    def __init__(self, carrier: Carrier, target: SplitResult, reach: Reach) -> None:
        super().__init__(carrier, target, reach)
        self._deadline: float | None = None  # of a poll that has no answer yet

    def next_timeout(self) -> float | None:
        deadlines = [d for d in (super().next_timeout(), self._deadline) if d is not None]
        return None if self._finished else min(deadlines, default=None)

    def handle_timeout(self, *, now: float) -> None:
        if self._deadline is not None and now >= self._deadline and not self._finished:
            self._carrier.poll_given_up(self, now=now)
            self._look(now)
        super().handle_timeout(now=now)

    def _next_request(self, now: float) -> OutgoingRequest | None:
        if not self._carrier.may_ask:
            return None
        self._deadline = now + _POLL_LIMIT
        return self._carrier.request("GET", {"cache-control": "no-cache"})

    def _begun(self, answer: Answer, now: float) -> None:
        self._deadline = None
        self._carrier.poll_answered()

    def _received(self, data: bytes, now: float) -> None:
        self._carrier.hear(data, now=now)

    def _answered(self, answer: Answer, now: float) -> None:
        if self._carrier.session is None:
            if answer.status == 200:
                self._carrier.accept(now=now)
            else:
                self._turned_down(answer, now)
        elif answer.status == 200:
            self._carrier.heard()
        elif answer.status == 204:
            self._carrier.lost(None, now=now)
        elif answer.status != 401 or not self._carrier.may_repeat("GET", now=now):
            self._fail(self._refused("a poll", answer), now)


class _Poster(_CarrierSocket):
    """The socket of the POSTs, and of DELETE."""

    __slots__ = ("_kept_until",)

    def __init__(self, carrier: Carrier, target: SplitResult, reach: Reach) -> None:
        super().__init__(carrier, target, reach)
        self._kept_until: float | None = None  # if there is nothing to say

    def next_timeout(self) -> float | None:
        return None if self._finished else self._kept_until

    def handle_timeout(self, *, now: float) -> None:
        if self._kept_until is not None and now >= self._kept_until and not self._finished:
            self._carrier.poster_left(self)
            self._look(now)

    def _turn(self, now: float) -> None:
        self._carrier.look_for_token(now=now)

    def _welcome(self) -> bool:
        return True

    def _next_request(self, now: float) -> OutgoingRequest | None:
        request = self._carrier.next_saying(now=now)
        if request is not None:
            self._kept_until = None
        elif self._kept_until is None:
            self._kept_until = now + _KEPT_FOR
        return request

    def _begun(self, answer: Answer, now: float) -> None:
        pass

    def _received(self, data: bytes, now: float) -> None:
        pass

    def _answered(self, answer: Answer, now: float) -> None:
        if 200 <= answer.status < 300:
            self._carrier.said(None, now=now)
        elif answer.status == 404:
            self._carrier.forgotten(self._refused("what was posted", answer), now=now)
        elif answer.status != 401 or not self._carrier.may_repeat("POST", now=now):
            self._carrier.said(self._refused("what was posted", answer), now=now)

    def _fail(self, error: ConnectionFailed, now: float) -> None:
        self.abandon()
        self._carrier.said(error, now=now)
        self._look(now)

    def _used_up(self, now: float) -> None:
        self._carrier.poster_left(self)
