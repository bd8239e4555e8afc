"""What the shells hold in their hands while user code runs: calls to run, results and streams to wait for.

Nothing here waits. What is not there yet raises `WouldBlock`; a `Wake` for the same object says when to look again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from types import MappingProxyType
from typing import Any, Protocol

from ._binding import Shape
from ._errors import EndOfStream, WouldBlock
from ._observer import ObservedCall

__all__ = [
    "CallOwner",
    "Departure",
    "IncomingStream",
    "OutgoingCall",
    "Pending",
    "PlainCallOwner",
    "RunningCall",
    "StreamOwner",
    "Upload",
    "Waiter",
]

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class OutgoingOwner(Protocol):
    """What a call of ours tells the session that made it."""

    def abandon(self, invocation_id: str) -> None: ...


class StreamOwner(OutgoingOwner, Protocol):
    """What a stream tells the session that fills it."""

    def item_taken(self, stream: IncomingStream) -> None: ...
    def reader_waits(self) -> None: ...


class CallOwner(Protocol):
    """What a shell that runs a call asks its session, and reports to it. `Session` documents each."""

    def must_wait(self, call: RunningCall) -> bool: ...
    def build_arguments(self, call: RunningCall, iterators: Sequence[Any]) -> Sequence[Any]: ...
    def open_stream(self, call: RunningCall, result: Any) -> Any: ...
    def send_item(self, call: RunningCall, item: Any) -> bool: ...
    def call_waits(self, call: RunningCall) -> None: ...
    def call_returned(self, call: RunningCall, result: Any = None) -> None: ...
    def call_failed(self, call: RunningCall, error: Exception) -> None: ...
    def call_cancelled(self, call: RunningCall) -> None: ...


class PlainCallOwner:
    """What every owner of calls that stream nothing has to say about streams. See `CallOwner`."""

    __slots__ = ()

    def must_wait(self, call: RunningCall) -> bool:
        """See `Session`; nothing here is a stream."""
        raise AssertionError(f"the {call.label} streams nothing")

    def build_arguments(self, call: RunningCall, iterators: Sequence[Any]) -> Sequence[Any]:
        """See `Session`."""
        return call.arguments

    def open_stream(self, call: RunningCall, result: Any) -> Any:
        """See `Session`; nothing here is a stream."""
        raise AssertionError(f"the {call.label} streams nothing")

    def send_item(self, call: RunningCall, item: Any) -> bool:
        """See `Session`; nothing here is a stream."""
        raise AssertionError(f"the {call.label} streams nothing")

    def call_waits(self, call: RunningCall) -> None:
        """See `Session`."""


class IncomingStream:
    """Items that the peer sends: an upload to a hub method, or a download of a client's. One reader."""

    __slots__ = ("_error", "_items", "ended", "session", "shape", "stream_id", "waiting")

    def __init__(self, session: StreamOwner, stream_id: str, shape: Shape) -> None:
        self.session: StreamOwner = session
        self._items: deque[Any] = deque()
        self._error: Exception | None = None
        self.stream_id: str = stream_id
        self.shape: Shape = shape
        self.ended: bool = False  # the peer sends no more, or nobody here reads any more
        self.waiting: bool = False  # the reader found nothing last time

    def __len__(self) -> int:
        return len(self._items)

    def receive_nowait(self) -> Any:
        """Return the next item.

        Raises `WouldBlock` when none is here yet, `EndOfStream` when none will come, and the peer's error, once the
        items before it have been taken.
        """
        if self._items:
            item = self._items.popleft()
            self.session.item_taken(self)
            return item
        if self.ended:
            if self._error is not None:
                raise self._error
            raise EndOfStream
        if not self.waiting:
            self.waiting = True
            self.session.reader_waits()
        raise WouldBlock

    def put(self, item: Any) -> None:
        """Append what has arrived."""
        self._items.append(item)
        self.waiting = False

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows what is already here; the first end is the one that counts."""
        if not self.ended:
            self.ended = True
            self._error = error
        self.waiting = False

    def discard(self) -> None:
        """The reader is gone: drop what is here and what still comes."""
        self.end()
        self._items.clear()


class Upload:
    """Marks an argument as a stream to the server: pass it in a call, its items are sent while the call runs."""

    __slots__ = ("source",)

    def __init__(self, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        self.source: AsyncIterable[Any] | Iterable[Any] = source


class RunningCall:
    """User code that the shell runs: a method the peer called, or an upload of ours that a call carries.

    The shell calls `function(*arguments)`, awaits the result if it can be awaited, and, if `streams`, sends what it
    yields by `Session.send_item`, all of it in `context` if that is not None. It reports exactly one outcome:
    `call_returned`, `call_failed` or `call_cancelled`.
    """

    __slots__ = (
        "arguments",
        "cancelled",
        "coalesces",
        "context",
        "done",
        "function",
        "headers",
        "holds_slot",
        "incoming",
        "inline",
        "invocation_id",
        "iterating",
        "label",
        "observed",
        "origin",
        "rests",
        "session",
        "streams",
    )

    def __init__(
        self,
        session: CallOwner,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        *,
        invocation_id: str | None,
        label: str,
        origin: Any = None,
        streams: bool = False,
        inline: bool = False,
        incoming: tuple[IncomingStream, ...] = (),
        coalesces: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.session: CallOwner = session
        self.function: Callable[..., Any] = function
        self.arguments: Sequence[Any] = arguments
        self.invocation_id: str | None = invocation_id
        self.label: str = label  # the method's name, for texts
        self.origin: Any = origin  # what the session knows about it
        self.streams: bool = streams
        self.inline: bool = inline  # a plain function: it cannot wait, so it needs no task
        self.incoming: tuple[IncomingStream, ...] = (
            incoming  # streams among its arguments, to be handed over as asynchronous iterators
        )
        self.coalesces: bool = coalesces  # of its items, a peer that is behind gets the latest only
        self.headers: Mapping[str, str] = headers or _NO_HEADERS  # of the message that called
        self.holds_slot: bool = False
        self.iterating: bool = False  # its stream has begun
        self.rests: bool = False  # it lets others have their turn before its next item
        self.cancelled: bool = False
        self.done: bool = False
        self.observed: ObservedCall | None = None
        self.context: Context | None = None


class OutgoingCall:
    """A call of ours that the peer has not answered yet."""

    __slots__ = ("_error", "_result", "done", "invocation_id", "session", "shape", "uploads")

    def __init__(self, session: OutgoingOwner, invocation_id: str, shape: Shape) -> None:
        self.session: OutgoingOwner = session
        self.invocation_id: str = invocation_id
        self.shape: Shape = shape
        self.done: bool = False
        self.uploads: list[RunningCall] = []
        self._result: Any = None
        self._error: Exception | None = None

    def outcome(self) -> Any:
        """Return the result or raise the error; `WouldBlock` while there is neither."""
        if not self.done:
            raise WouldBlock
        if self._error is not None:
            raise self._error
        return self._result

    def succeed(self, result: Any) -> None:
        """The peer answered."""
        self.done = True
        self._result = result

    def fail(self, error: Exception) -> None:
        """The peer answered with an error, or will never answer."""
        self.done = True
        self._error = error

    def abandon(self) -> None:
        """Nobody waits any more. Harmless when it is done."""
        self.session.abandon(self.invocation_id)


class Pending(Protocol):
    """What can be waited for: a call of ours, or anything else that ends at some time."""

    @property
    def done(self) -> bool: ...
    def outcome(self) -> Any: ...
    def abandon(self) -> None: ...


class Connection(Protocol):
    """What ends at some time: a session."""

    @property
    def is_over(self) -> bool: ...


class Departure:
    """The end of a connection, as something to wait for. Any number of callers may wait for the same one."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def done(self) -> bool:
        """It has ended, or is being ended."""
        return self._connection.is_over

    def outcome(self) -> None:
        """That it has ended is all there is to say."""

    def abandon(self) -> None:
        """Others may still wait for it."""


class Waiter(Protocol):
    """What runs user code, and so can let it wait: the runner of a shell."""

    def outcome_of(self, begin: Callable[[], Pending]) -> Coroutine[Any, Any, Any]:
        """Begin something when this is first awaited, and return its outcome when it is there.

        It is looked at again at each `Wake` of what `begin` returns. However the waiting ends, that is abandoned.
        """
