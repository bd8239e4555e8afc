"""`Carrier`: a client's session carried by requests: server-sent events, or long polling (SPEC 4.4 to 4.6).

What the session says leaves in POSTs, strictly one at a time; what it hears comes in the answer to a GET: a stream of
events, or one poll after the other. There are two sockets: one for the GETs, and one for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import SplitResult

from .._client_errors import ConnectionFailed, ServerGone
from .._client_session import ClientSession
from .._effects import Effect, EffectQueue, Wake
from .._errors import HubProtoError, RemoteProtocolError
from .._transport import Transport
from ._client_requests import Answer, OutgoingRequest, RequestSocket
from ._client_socket import ClientEffect, ClientSocket, SocketOwner
from ._sse import EventReader

__all__ = ["Carrier", "CarrierOwner"]

_POLL_LIMIT = 100.0
"""Seconds after which a poll is given up, and the next one sent: servers answer within 90 (SPEC 4.6)."""

_MAX_UNANSWERED = 2
"""Polls that may be given up one after the other; then the server is gone."""

_KEPT_FOR = 4.0
"""Seconds that the socket of the POSTs is kept while there is nothing to say: less than servers keep theirs, so that
none is closed while a POST is on its way."""

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


class Carrier:
    """Carries one session by requests to `target`, each with `headers`.

    `max_message_size` is that of the session, in bytes; None is no limit.
    """

    __slots__ = (
        "_deleted",
        "_effects",
        "_ended",
        "_farewell",
        "_get",
        "_headers",
        "_over",
        "_post",
        "_target",
        "_transport",
        "_unanswered",
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
        max_message_size: int | None,
    ) -> None:
        self.owner: CarrierOwner = owner
        self.max_message_size: int | None = max_message_size
        self.session: ClientSession | None = None
        self._transport = transport
        self._target = target
        self._headers = headers
        self._effects = effects
        self._get: _Listener
        self._post: _Poster | None = None
        self._ended = False  # the server has said all it had to say
        self._farewell = False  # the session is over: what it still says, and DELETE
        self._deleted = False
        self._over = False
        self._unanswered = 0  # polls that were given up, one after the other

    def start(self) -> None:
        """Ask the server for the transport; once."""
        self.listen()

    def abandon(self) -> None:
        """Be over at once, without a farewell."""
        self._over = True
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
        return not self._ended and not self._farewell and self.wants_more

    def request(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> OutgoingRequest:
        """Return a request, with what all of them carry."""
        return OutgoingRequest(method, {**self._headers, **headers}, body)

    def listen(self) -> None:
        """Open a socket for the GETs."""
        kind = _PollListener if self._transport is Transport.LONG_POLLING else _EventListener
        self._get = kind(self, self._target)
        self.owner.open(self._get)

    def listener_used_up(self, socket: RequestSocket) -> None:
        """The server does not keep the socket of the GETs: take another one, unless there is nothing more to hear."""
        if not self._ended:
            socket.abandon()
            if not self._farewell:
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
        if self._ended:
            return None
        data = self.session.data_to_send(now=now)
        if data:
            content_type = _CONTENT_TYPES[self.session.transfer_format]
            return self.request("POST", {"content-type": content_type, "content-length": str(len(data))}, data)
        if self.session.closed is None:
            return None
        if self._has_to_delete():
            self._deleted = True
            return self.request("DELETE", {})
        self.abandon()
        return None

    def said(self, error: HubProtoError | None, *, now: float) -> None:
        """The server has taken what was told, or will not take any more."""
        if self._deleted:
            self.abandon()
        elif error is not None and not self._ended:
            self.lost(error, now=now)

    def lost(self, error: HubProtoError | None, *, now: float) -> None:
        """The server says no more, in order or because of an error."""
        assert self.session is not None
        self._ended = True
        self.session.receive_eof(error, now=now)
        if error is not None:
            self.abandon()

    def turn(self, *, now: float) -> None:
        """Let the session go on with what it has held back, and do what is due."""
        if self.session is not None:
            self.session.handle_timeout(now=now)

    def look(self, socket: ClientSocket, *, now: float) -> None:
        """See what has become of the session."""
        if self.session is None:
            return
        if self.session.closed is not None and not self._over:
            begins, self._farewell = not self._farewell, True
            if self._ended:
                self.abandon()
            elif begins:
                self._wake()
        if self._post is None or self._post.idle:
            self._speak()  # a ping, for example, that nobody has asked for
        self.owner.session_moved(socket, now=now)

    def session_timeout(self) -> float | None:
        """When the session wants its turn, or None."""
        return None if self.session is None else self.session.next_timeout()

    # within

    def _has_to_delete(self) -> bool:
        return self._transport is Transport.LONG_POLLING and not self._deleted

    def _has_more_to_say(self) -> bool:
        session = self.session
        return session is not None and (session.unsent > 0 or (session.closed is not None and self._has_to_delete()))

    def _wake(self) -> None:
        if not self._over:
            self._effects.append(Wake(self._get))
            if self._farewell and not self._has_more_to_say() and (self._post is None or self._post.idle):
                self.abandon()
            self._speak()

    def _speak(self) -> None:
        if self._over or not self._has_more_to_say():
            return
        if self._post is None:
            self._post = _Poster(self, self._target)
            self.owner.open(self._post)
        else:
            self._effects.append(Wake(self._post))


class _CarrierSocket(RequestSocket):
    """What both sockets have in common."""

    __slots__ = ("_carrier",)

    def __init__(self, carrier: Carrier, target: SplitResult) -> None:
        super().__init__(target)
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

    def __init__(self, carrier: Carrier, target: SplitResult) -> None:
        super().__init__(carrier, target)
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

    def __init__(self, carrier: Carrier, target: SplitResult) -> None:
        super().__init__(carrier, target)
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
        elif answer.status == 204:
            self._carrier.lost(None, now=now)
        elif answer.status != 200:
            self._fail(self._refused("a poll", answer), now)


class _Poster(_CarrierSocket):
    """The socket of the POSTs, and of DELETE."""

    __slots__ = ("_kept_until",)

    def __init__(self, carrier: Carrier, target: SplitResult) -> None:
        super().__init__(carrier, target)
        self._kept_until: float | None = None  # if there is nothing to say

    def next_timeout(self) -> float | None:
        return None if self._finished else self._kept_until

    def handle_timeout(self, *, now: float) -> None:
        if self._kept_until is not None and now >= self._kept_until and not self._finished:
            self._carrier.poster_left(self)
            self._look(now)

    def _turn(self, now: float) -> None:
        pass

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
        refused = None if 200 <= answer.status < 300 else self._refused("what was posted", answer)
        self._carrier.said(refused, now=now)

    def _fail(self, error: ConnectionFailed, now: float) -> None:
        self.abandon()
        self._carrier.said(error, now=now)
        self._look(now)

    def _used_up(self, now: float) -> None:
        self._carrier.poster_left(self)
