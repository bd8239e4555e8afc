"""`Lifecycle`: tells what becomes of a client's connection (SPEC 5.1), to callbacks and to iterators."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from msgspec import Struct
from msgspec.structs import astuple

from ._auth import is_plain
from ._binding import ANY
from ._effects import CancelCall, EffectSink, StartCall, Wake
from ._logs import client_log, facts, one_line
from ._running import IncomingStream, PlainCallOwner, RunningCall

__all__ = [
    "ClientEvent",
    "Closed",
    "Connected",
    "Connecting",
    "EventStream",
    "Lifecycle",
    "Reconnected",
    "Reconnecting",
]


class Connecting(Struct, frozen=True):
    """`start` was called."""


class Connected(Struct, frozen=True):
    """The connection is made. `connection_id` is None if negotiation was skipped."""

    connection_id: str | None


class Reconnecting(Struct, frozen=True):
    """The connection is lost because of `error`, which is None if the server just closed it; it will be tried again."""

    error: Exception | None


class Reconnected(Struct, frozen=True):
    """There is a connection again: a new one, to which the hub's groups and calls of the old one mean nothing."""

    connection_id: str | None


class Closed(Struct, frozen=True):
    """A connection that was made is over for good; `error` is None if you or the server just closed it."""

    error: Exception | None


ClientEvent = Connecting | Connected | Reconnecting | Reconnected | Closed


class EventStream(IncomingStream):
    """The events that somebody has subscribed to, up to `Closed`. The subscription lasts as long as this object."""

    __slots__ = ("__weakref__",)


class Lifecycle(PlainCallOwner):
    """Who wants to hear what becomes of one client's connection.

    Callbacks get the fields of the event. They run one after another, in the order of the events. `Wake(host)` says
    that the last of them is done.
    """

    __slots__ = ("_callbacks", "_effects", "_host", "_log_facts", "_queue", "_running", "_streams")

    def __init__(self, host: object, effects: EffectSink, log_facts: Mapping[str, object]) -> None:
        self._host = host
        self._effects = effects
        self._log_facts = log_facts
        self._callbacks: dict[type[ClientEvent], list[Callable[..., Any]]] = {}
        self._queue: deque[RunningCall] = deque()
        self._running: RunningCall | None = None
        self._streams: WeakSet[EventStream] = WeakSet()

    @property
    def idle(self) -> bool:
        """No callback runs."""
        return self._running is None

    def add(self, kind: type[ClientEvent], callback: Callable[..., Any]) -> None:
        """Call `callback`, which may be plain or async, at each event of this kind."""
        self._callbacks.setdefault(kind, []).append(callback)

    def subscribe(self) -> EventStream:
        """Return a stream of all further events, up to and with `Closed`."""
        stream = EventStream(self, "events", ANY)
        self._streams.add(stream)
        return stream

    def tell(self, event: ClientEvent) -> None:
        """This has happened."""
        for callback in self._callbacks.get(type(event), ()):
            label = f"on_{type(event).__name__.lower()}"
            call = RunningCall(
                self, callback, astuple(event), invocation_id=None, label=label, inline=is_plain(callback)
            )
            self._queue.append(call)
        self._start_next()
        for stream in list(self._streams):
            stream.put(event)
            self._effects.append(Wake(stream))
        if isinstance(event, Closed):
            self.end()

    def end(self) -> None:
        """The streams of events end."""
        for stream in list(self._streams):
            stream.end()
            self._effects.append(Wake(stream))
        self._streams.clear()

    def cancel(self) -> None:
        """Cancel the callback that runs, and forget those that wait for it."""
        self._queue.clear()
        if self._running is not None:
            self._effects.append(CancelCall(self._running))

    # CallOwner

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """See `Session`."""
        self._ended(call)

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """See `Session`."""
        client_log.error(
            "the callback %s failed: %s: %s",
            call.label,
            type(error).__name__,
            one_line(error),
            exc_info=error,
            extra=facts(self._log_facts, error=error),
        )
        self._ended(call)

    def call_cancelled(self, call: RunningCall) -> None:
        """See `Session`."""
        self._ended(call)

    # StreamOwner

    def item_taken(self, stream: IncomingStream) -> None:
        """See `Session`; events are few, and none is held back."""

    def reader_waits(self) -> None:
        """See `Session`."""

    def abandon(self, invocation_id: str) -> None:
        """See `Session`; a subscription ends with its last reference."""

    # within

    def _start_next(self) -> None:
        if self._running is None and self._queue:
            self._running = self._queue.popleft()
            self._effects.append(StartCall(self._running))

    def _ended(self, call: RunningCall) -> None:
        if call is self._running:
            self._running = None
            self._start_next()
            if self._running is None:
                self._effects.append(Wake(self._host))
