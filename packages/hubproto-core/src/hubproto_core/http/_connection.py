"""`Connection`: one connection of an endpoint, from its negotiation to its end, as requests carry it (SPEC 4.4 to 4.7).

A WebSocket carries a session by itself, and with stateful reconnect one after another; here the session is looked after
in between. Otherwise it is carried by requests that come and go: what the client says comes in posted bodies, what the
session says leaves in the answer to a GET: a stream of events, or one poll after another.
"""

from __future__ import annotations

from typing import Protocol

from .._effects import Effect, EffectSink, Wake
from .._hub_session import HubSession
from .._transport import Transport
from ._exchange import Exchange
from ._messages import Response
from ._sse import encode_event

__all__ = ["NO_CACHE", "Connection", "ConnectionOwner", "WebSocketHost"]

NO_CACHE = {"cache-control": "no-cache, no-store", "pragma": "no-cache", "expires": "Thu, 01 Jan 1970 00:00:00 GMT"}
"""The headers of every answer to a poll."""

_DATA = "application/octet-stream"
_FIRST = Response(200, content_type=_DATA, headers=NO_CACHE)
_NOTHING_NEW = Response(200, headers=NO_CACHE)
_NOTHING_MORE = Response(204, headers=NO_CACHE)
_EVENTS = Response(
    200,
    b":\r\n",  # a comment, so that the headers leave at once
    "text/event-stream",
    {"cache-control": "no-cache,no-store", "pragma": "no-cache", "content-encoding": "identity"},
)


class WebSocketHost(Protocol):
    """What carries a session as a WebSocket, as its connection sees it."""

    def replaced(self, *, now: float) -> None:
        """Another WebSocket carries the session from now on. Leave it alone, and close this one."""


class ConnectionOwner(Protocol):
    """What a connection tells the endpoint."""

    def due(self, connection: Connection) -> None:
        """Nobody else sees to it now: call `drive` soon, and at `next_timeout`."""

    def ended(self, connection: Connection) -> None:
        """Requests for its token are answered 404 from now on."""


class Connection:
    """One connection. `token` is the secret name under which requests find it.

    `stateful`: its client has asked for stateful reconnect, and may have it. `body_limit` is how many bytes of bodies
    are kept before there is a session. A poll waits up to `poll_timeout` seconds for something to say; a client that is
    not there for `absence_timeout` seconds is gone (one that had a WebSocket, when its session says so). The last of it
    must be taken within `farewell_timeout` seconds.
    """

    __slots__ = (
        "_absence_timeout",
        "_body_limit",
        "_effects",
        "_expires",
        "_farewell_timeout",
        "_get",
        "_gone",
        "_kept",
        "_lapsed",
        "_owner",
        "_poll_timeout",
        "_posts",
        "_socket",
        "_terminated",
        "_visitors",
        "connection_id",
        "session",
        "stateful",
        "token",
        "transport",
    )

    def __init__(
        self,
        token: str,
        connection_id: str,
        owner: ConnectionOwner,
        effects: EffectSink,
        *,
        stateful: bool = False,
        body_limit: int,
        poll_timeout: float,
        absence_timeout: float,
        farewell_timeout: float,
        now: float,
    ) -> None:
        self.token: str = token
        self.stateful: bool = stateful
        self.connection_id: str = connection_id
        self.transport: Transport | None = None  # not chosen yet
        self.session: HubSession | None = None
        self._owner = owner
        self._effects = effects
        self._body_limit = body_limit
        self._poll_timeout = poll_timeout
        self._absence_timeout = absence_timeout
        self._farewell_timeout = farewell_timeout
        self._expires = now + absence_timeout  # unless there is a GET
        self._get: Poll | EventStream | None = None
        self._socket: WebSocketHost | None = None
        self._posts: list[Post] = []  # few; a deque would be as large as all the rest of a connection that only waits
        self._kept = bytearray()
        self._gone = False
        self._lapsed = False  # gone because its client stayed away
        self._terminated = False
        self._visitors: dict[type[_Exchange], object] = {}  # who was host of the last request of each kind

    # facts

    @property
    def goes_on(self) -> bool:
        """There is, or will be, something to say to its client, or to hear of it."""
        session = self.session
        return not self._gone and session is not None and (session.closed is None or session.unsent > 0)

    @property
    def farewell_timeout(self) -> float:
        """Seconds that its client has to take the last of it."""
        return self._farewell_timeout

    # the effects of its session

    def append(self, effect: Effect) -> None:
        """Pass an effect of the session on; a `Wake` of its carrier goes to whoever can do something about it."""
        if not (isinstance(effect, Wake) and effect.target is self):
            self._effects.append(effect)
            return
        if self._get is None:
            self._owner.due(self)
        else:
            self._wake(self._get)
        if self._posts:
            self._wake(self._posts[0])

    # requests

    def open(self, session: HubSession, transport: Transport, *, now: float) -> None:
        """The first GET has come, and with it the session, whose effects come here (but for those of a WebSocket)."""
        self.transport = transport
        self.session = session
        if transport is not Transport.WEB_SOCKETS:
            session.carrier = self
            if self._kept:
                session.receive_data(bytes(self._kept), now=now)
        self._kept.clear()
        if self._posts:
            self._wake(self._posts[0])

    def attach(self, socket: WebSocketHost, *, now: float) -> None:
        """A WebSocket carries the session from now on, the first one or the next (SPEC 4.7.7).

        The one before may be thought alive still: a client notices a cut long before its server may.
        """
        assert self.session is not None
        previous, self._socket = self._socket, socket
        if previous is not None:
            previous.replaced(now=now)
        self.session.effects = self._effects
        self.session.carrier = socket
        if self.session.stateful:  # which it cannot be before its handshake
            self.session.resume()
        self._owner.due(self)

    def detach(self, socket: WebSocketHost, *, now: float) -> None:
        """A WebSocket is gone. A session that waits for the next one, or for its last event, is looked after here."""
        if socket is not self._socket:
            return
        assert self.session is not None
        self._socket = None
        if self.session.closed is None:
            self.session.effects = self.session.carrier = self
            self._owner.due(self)
        else:
            self._owner.ended(self)

    def first_poll(self, host: object, *, now: float) -> Exchange:
        """Answer the GET with which long polling begins: at once, with nothing."""
        poll = Poll(self, host, now)
        poll.answer = _FIRST
        self._leave(now)
        return poll

    def poll(self, host: object, *, now: float) -> Exchange:
        """A client asks for what there is to say. Its last poll, if it still waits, ends with nothing."""
        if isinstance(self._get, Poll):
            self._get.answer = _NOTHING_MORE
            self._wake(self._get)
        self._get = Poll(self, host, now + self._poll_timeout)
        return self._get

    def stream_events(self, host: object, *, now: float) -> Exchange:
        """A client listens to all there will be to say."""
        self._get = EventStream(self, host, now)
        self._owner.due(self)
        return self._get

    def post(self, host: object) -> Exchange:
        """A request with a body has begun."""
        post = Post(self, host)
        self._posts.append(post)
        return post

    def terminate(self, *, now: float) -> None:
        """The client wants to go (DELETE). A poll that waits still hears the farewell."""
        assert self.session is not None
        self._terminated = True
        self._owner.ended(self)
        self.session.receive_eof(now=now)
        if self._get is None:
            self._go(now)

    def abandon(self, *, now: float) -> None:
        """Nobody serves it any longer."""
        self._go(now)

    @property
    def is_carried(self) -> bool:
        """A GET or a WebSocket sees to the session."""
        return self._get is not None or self._socket is not None

    # time

    def next_timeout(self) -> float | None:
        """When `drive` wants to be called, or None; what carries the session tells its own."""
        if self.is_carried:
            return None
        session = None if self.session is None else self.session.next_timeout()
        if self._gone or self.transport is Transport.WEB_SOCKETS:
            return session
        return self._expires if session is None else min(self._expires, session)

    def drive(self, *, now: float) -> None:
        """See to a session that no WebSocket carries. Early and spurious calls change nothing."""
        if self._socket is not None:
            return
        if self.session is not None:
            self.session.handle_timeout(now=now)
            if self._gone:
                self.session.data_to_send(now=now)  # to nobody
        self.take_posts(now)
        if self.transport is Transport.WEB_SOCKETS:
            if self.session is not None and self.session.closed is not None:
                self._go(now)
        elif self._get is None and not self._gone and now >= self._expires:
            self._lapsed = True
            self._go(now)

    # for the exchanges

    def take_posts(self, now: float) -> None:
        """Hand over as much of the bodies as the session takes now, and answer those that it has taken whole."""
        while self._posts:
            post = self._posts[0]
            if not self._gone:
                if post.held:
                    if not self._take(post, now):
                        return
                    if not post.ended:
                        self._wake(post)  # there is room for more of it
                if not post.ended:
                    return
            lost = self._lapsed or (self._gone and (post.held or not post.was_taken))
            post.answer = Response(404 if lost else 200)
            self._posts.pop(0)
            self._wake(post)
            if self._posts:
                self._wake(self._posts[0])

    def is_turn_of(self, post: Post) -> bool:
        """Whether this body is the one that is handed over now; bodies never mix."""
        return bool(self._posts) and self._posts[0] is post

    def fill(self, poll: Poll, now: float) -> None:
        """Answer a poll, if there is anything to say or never will be, or it has waited long enough."""
        assert self.session is not None
        data = self._said(self.session, now)
        if data:
            poll.answer = Response(200, data, _DATA, NO_CACHE)
        elif self.session.closed is not None:
            poll.answer = _NOTHING_MORE
        elif now >= poll.deadline:
            poll.answer = _NOTHING_NEW
        if poll.answer is not None:
            self._leave(now)
            if poll.answer is _NOTHING_MORE:
                self._go(now)
            elif not self.goes_on:
                self._dismiss()

    def next_events(self, stream: EventStream, now: float) -> bytes:
        """Return what there is to say to a listener. The stream ends with the session."""
        assert self.session is not None
        payload = self._said(self.session, now)
        if self.session.closed is not None:
            stream.finished = True
            self._get = None
            self._go(now)
        return encode_event(payload) if payload else b""

    def hung_up(self, exchange: Exchange, now: float) -> None:
        """The client has closed the socket of a request that was not answered."""
        if isinstance(exchange, Post):
            if exchange in self._posts:
                self._posts.remove(exchange)
                if self._posts:
                    self._wake(self._posts[0])
        elif exchange is self._get:
            self._leave(now)
            if isinstance(exchange, EventStream):
                self._go(now)

    # within

    def _said(self, session: HubSession, now: float) -> bytes:
        self.take_posts(now)
        data = session.data_to_send(now=now)
        if self._posts:
            self.take_posts(now)  # the session may have caught up just now, and take more
        return data

    def _wake(self, exchange: Exchange) -> None:
        self._effects.append(Wake(exchange.host))

    def _take(self, post: Post, now: float) -> bool:
        if self.session is None:
            if len(self._kept) + len(post.held) > self._body_limit:
                return False
            self._kept += post.held
        elif self.session.want_read or self.session.is_over:
            self.session.receive_data(post.held, now=now)
            if self._get is None:
                self._owner.due(self)  # there may be more to be looked at in its next turn
            else:
                self._wake(self._get)  # there may be an answer already
        else:
            return False
        post.held = b""
        post.was_taken = True
        return True

    def _leave(self, now: float) -> None:
        """There is no GET; the client has to come back in time."""
        self._get = None
        self._expires = now + self._absence_timeout
        self._owner.due(self)
        if self._terminated:
            self._go(now)

    def _go(self, now: float) -> None:
        """The client is gone for good, or knows all there was to know."""
        if not self._gone:
            self._gone = True
            self._owner.ended(self)
            if self.session is not None:
                self.session.receive_eof(now=now)
                self._owner.due(self)
            self.take_posts(now)
            self._dismiss()
            self._visitors.clear()  # who refer to it, too

    def _dismiss(self) -> None:
        """Let sockets that are only kept for it see that nothing more comes."""
        for host in self._visitors.values():
            self._effects.append(Wake(host))


class _Exchange:
    """What the exchanges have in common; a GET has no body that anybody wants."""

    __slots__ = ("_connection", "finished", "host")

    def __init__(self, connection: Connection, host: object) -> None:
        self._connection = connection
        self.host: object = host
        self.finished: bool = False
        connection._visitors[type(self)] = host

    @property
    def goes_on(self) -> bool:
        return self._connection.goes_on

    @property
    def farewell_timeout(self) -> float:
        return self._connection.farewell_timeout

    @property
    def want_read(self) -> bool:
        return True

    def receive_data(self, data: bytes, *, now: float) -> None:
        pass

    def receive_end(self, *, now: float) -> None:
        pass

    def data_to_send(self, *, now: float) -> bytes:
        return b""

    def next_timeout(self) -> float | None:
        return None


class Post(_Exchange):
    """One body for a connection; answered when all of it has been taken."""

    __slots__ = ("answer", "ended", "held", "was_taken")

    def __init__(self, connection: Connection, host: object) -> None:
        super().__init__(connection, host)
        self.held: bytes = b""  # what has come and has not been taken
        self.ended: bool = False  # all has come
        self.was_taken: bool = False  # something has been taken: if that ended the connection, it is no failure
        self.answer: Response | None = None

    @property
    def want_read(self) -> bool:
        return self.answer is not None or (not self.held and self._connection.is_turn_of(self))

    def receive_data(self, data: bytes, *, now: float) -> None:
        if self.answer is None:
            self.held += data
            self._connection.take_posts(now)

    def receive_end(self, *, now: float) -> None:
        self.ended = True
        self._connection.take_posts(now)

    def receive_eof(self, *, now: float) -> None:
        self.finished: bool = True
        self._connection.hung_up(self, now)

    def response(self, *, now: float) -> Response | None:
        self._connection.take_posts(now)
        self.finished = self.answer is not None
        return self.answer

    def handle_timeout(self, *, now: float) -> None:
        self._connection.take_posts(now)


class Poll(_Exchange):
    """One poll of a connection."""

    __slots__ = ("answer", "deadline")

    def __init__(self, connection: Connection, host: object, deadline: float) -> None:
        super().__init__(connection, host)
        self.deadline: float = deadline
        self.answer: Response | None = None

    def response(self, *, now: float) -> Response | None:
        if self.answer is None:
            self._connection.fill(self, now)
        self.finished = self.answer is not None
        return self.answer

    def receive_eof(self, *, now: float) -> None:
        self.finished: bool = True
        self._connection.hung_up(self, now)

    def next_timeout(self) -> float | None:
        if self.answer is not None:
            return None
        session = _timeout_of(self._connection)
        return self.deadline if session is None else min(self.deadline, session)

    def handle_timeout(self, *, now: float) -> None:
        if self.answer is None:
            self._connection.drive(now=now)


class EventStream(_Exchange):
    """Server-sent events: all that is said on a connection, in the answer to one request."""

    __slots__ = ("_seen",)

    def __init__(self, connection: Connection, host: object, now: float) -> None:
        super().__init__(connection, host)
        self._seen = now  # when the client last took something

    def response(self, *, now: float) -> Response | None:
        return _EVENTS

    def data_to_send(self, *, now: float) -> bytes:
        self._seen = now
        return b"" if self.finished else self._connection.next_events(self, now)

    def receive_eof(self, *, now: float) -> None:
        if not self.finished:
            self.finished: bool = True
            self._connection.hung_up(self, now)

    def next_timeout(self) -> float | None:
        if self.finished:
            return None
        deadline = self._farewell()
        return _timeout_of(self._connection) if deadline is None else deadline

    def handle_timeout(self, *, now: float) -> None:
        self._connection.drive(now=now)
        deadline = self._farewell()
        if deadline is not None and now >= deadline:
            self.receive_eof(now=now)

    def _farewell(self) -> float | None:
        """When it is too late for the last of it: the connection is over, but nothing has been taken since."""
        session = self._connection.session
        return self._seen + self.farewell_timeout if session is not None and session.is_over else None


def _timeout_of(connection: Connection) -> float | None:
    return None if connection.session is None else connection.session.next_timeout()
