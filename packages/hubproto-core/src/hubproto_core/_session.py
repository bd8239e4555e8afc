"""`Session`: what both ends of a connection do with its events. Policy only; what must be run leaves as effects.

A session offers the verbs of its `HubConnection` to the transport below, and to the shell: effects to carry out, and
commands that report what became of them. Every command is synchronous; one that makes output wakes the carrier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, assert_never

from msgspec import UNSET

from ._binding import ANY, Shape
from ._codecs import Codec, TransferFormat
from ._config import HubConfig
from ._connection import HubConnection
from ._effects import CancelCall, EffectSink, StartCall, Wake
from ._errors import HubError, HubProtoError, LocalProtocolError, TransportError, error_text
from ._events import ConnectionClosed, Event, HandshakeCompleted
from ._latest import Latest
from ._messages import (
    CancelInvocation,
    Completion,
    Invocation,
    InvocationBindingFailure,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from ._running import IncomingStream, OutgoingCall, RunningCall, Upload

__all__ = ["Session"]


class Session(ABC):
    """One end of a connection, with everything that runs and waits on it."""

    __slots__ = (
        "_announced_output",
        "_call_headers",
        "_closed",
        "_config",
        "_conn",
        "_full",
        "_inline",
        "_latest",
        "_now",
        "_outgoing",
        "_running",
        "_streams",
        "carrier",
        "effects",
        "error",
    )

    def __init__(
        self,
        config: HubConfig,
        effects: EffectSink,
        call_headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._config = config
        self._call_headers = call_headers
        self._conn: HubConnection
        self.effects: EffectSink = effects
        self.carrier: object = self
        """What takes this session's output: `Wake(carrier)` says that there is some."""
        self.error: Exception | None = None
        """What ended the connection; None while it lives and after an orderly end."""
        self._closed: ConnectionClosed | None = None
        self._announced_output = False
        self._now = 0.0  # of the turn that is going on
        self._inline: RunningCall | None = None  # plain functions end before the next event is looked at
        self._full: IncomingStream | None = None  # reading stopped for this reader
        self._latest: Latest | None = None  # what a peer that is behind gets the latest of, while any waits
        self._outgoing: dict[str, OutgoingCall] = {}
        self._streams: dict[str, IncomingStream] = {}
        self._running: dict[RunningCall, None] = {}

    # facts

    @property
    def codec(self) -> Codec:
        """The encoding in use."""
        return self._conn.codec

    @property
    def transfer_format(self) -> TransferFormat:
        """See `HubConnection.transfer_format`."""
        return self._conn.transfer_format

    @property
    def closed(self) -> ConnectionClosed | None:
        """How the hub connection ended, once it has."""
        return self._closed

    @property
    def is_over(self) -> bool:
        """See `HubConnection.is_over`."""
        return self._conn.is_over

    @property
    def said_farewell(self) -> bool:
        """See `HubConnection.said_farewell`."""
        return self._conn.said_farewell

    @property
    def stateful(self) -> bool:
        """See `HubConnection.stateful`."""
        return self._conn.stateful

    @property
    def is_lost(self) -> bool:
        """See `HubConnection.is_lost`: everything goes on, and what is said is kept for the next transport."""
        return self._conn.is_lost

    @property
    def lost_by(self) -> HubProtoError | None:
        """See `HubConnection.lost_by`."""
        return self._conn.lost_by

    @property
    def resumed(self) -> bool:
        """See `HubConnection.resumed`."""
        return self._conn.resumed

    @property
    def writable(self) -> bool:
        """There is room for more output; otherwise wait for this session's `Wake` before sending the next item.

        True after the end too: there is nothing to wait for.
        """
        return self._conn.is_over or self._conn.unsent <= self._config.send_buffer

    @property
    def unsent(self) -> int:
        """Bytes that wait to be written: see `HubConnection.unsent`, and of what is coalesced the latest."""
        return self._conn.unsent if self._latest is None else self._conn.unsent + self._latest.size

    @property
    def want_read(self) -> bool:
        """See `HubConnection.want_read`: False while calls, readers or the socket are behind."""
        return self._conn.want_read

    # inputs and outputs

    def receive_data(self, data: bytes, *, now: float) -> None:
        """See `HubConnection.receive_data`."""
        self._conn.receive_data(data, now=now)
        self._dispatch(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """See `HubConnection.receive_eof`."""
        self._conn.receive_eof(error, now=now)
        self._dispatch(now)

    def handle_timeout(self, *, now: float) -> None:
        """See `HubConnection.handle_timeout`. Takes up again what was held back, even while output is stuck."""
        self._conn.handle_timeout(now=now)
        self._dispatch(now)

    def data_to_send(self, *, now: float) -> bytes:
        """See `HubConnection.data_to_send`. Takes up again what was held back while somebody was behind."""
        self._dispatch(now)
        waited_for = not self.writable
        data = self._conn.data_to_send(now=now)
        self._announced_output = False
        if self._latest is not None:
            data += self._write_latest(self._latest, now)
        if waited_for and self.writable:  # senders look again, and so must the dispatch above
            self.effects.append(Wake(self))
            self._output_made()
        return data

    def next_timeout(self) -> float | None:
        """See `HubConnection.next_timeout`."""
        return self._conn.next_timeout()

    # commands: what became of running calls

    def send_item(self, call: RunningCall, item: Any) -> bool:
        """Send one item that a running call yields. False: nobody takes items any more, so yield no more.

        Raises `LocalProtocolError` for an item that cannot be encoded.
        """
        if call.done or not self._conn.is_open:
            return False
        assert call.invocation_id is not None
        if call.coalesces and (self._latest is not None or not self.writable):
            self._hold(call, self._conn.codec.encode(StreamItem(invocation_id=call.invocation_id, item=item)))
            call.rests = True
        else:
            self._conn.send_item(call.invocation_id, item)
        self._output_made()
        return True

    def must_wait(self, call: RunningCall) -> bool:
        """Whether a running call is to wait for this session's `Wake`, and then ask again, before its next item.

        One whose items are coalesced is never behind; it waits only until others have had their turn.
        """
        if not call.coalesces:
            return not self.writable
        rests, call.rests = call.rests, False
        if rests:
            self.effects.append(Wake(self))
        return rests

    def open_stream(self, call: RunningCall, result: Any) -> Any:
        """Accept what a streaming call has returned, to be iterated. Raises `HubError` for what is no stream."""
        if not hasattr(result, "__aiter__"):
            raise HubError(
                f"The value returned by the streaming method '{call.label}' is not a ChannelReader<> or "
                "IAsyncEnumerable<>."
            )
        call.iterating = True
        return result

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """A running call came to its end."""
        if self._end_call(call):
            try:
                self._complete_call(call, result)
            except LocalProtocolError as error:
                self._fail_call(call, error)
            self._settle()
            self._go_on_after(call)

    def call_waits(self, call: RunningCall) -> None:
        """What was taken for a plain function has returned something to be awaited."""
        self._go_on_after(call)

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """A running call raised."""
        if self._end_call(call):
            self._fail_call(call, error)
            self._settle()
            self._go_on_after(call)

    def call_cancelled(self, call: RunningCall) -> None:
        """A running call was cancelled, by `CancelCall` or by whoever cancels everything."""
        if self._end_call(call):
            self._cancel_call(call)
            self._settle()
            self._go_on_after(call)

    # commands: calls of ours

    def send(self, target: str, arguments: Sequence[Any] = ()) -> None:
        """Call a method of the peer; there is no answer. `Upload`s among the arguments are sent as streams."""
        self._require_connection()
        headers = None if self._call_headers is None else self._call_headers()
        plain, stream_ids, uploads = self._split(arguments)
        self._conn.send(target, plain, stream_ids=stream_ids, headers=headers)
        self._start_uploads(stream_ids, uploads)
        self._output_made()

    def invoke(self, target: str, arguments: Sequence[Any] = (), shape: Shape = ANY) -> OutgoingCall:
        """Call a method of the peer. Wait for the `Wake` of what is returned, then ask for its `outcome()`."""
        self._require_connection()
        headers = None if self._call_headers is None else self._call_headers()
        plain, stream_ids, uploads = self._split(arguments)
        invocation_id = self._conn.invoke(target, plain, stream_ids=stream_ids, headers=headers)
        call = OutgoingCall(self, invocation_id, shape)
        self._outgoing[call.invocation_id] = call
        call.uploads = self._start_uploads(stream_ids, uploads)
        self._output_made()
        self.reader_waits()
        return call

    def stream(self, target: str, arguments: Sequence[Any] = (), shape: Shape = ANY) -> IncomingStream:
        """Call a streaming method of the server. Wait for the `Wake` of what is returned, then take its items."""
        self._require_connection()
        headers = None if self._call_headers is None else self._call_headers()
        plain, stream_ids, uploads = self._split(arguments)
        invocation_id = self._conn.stream(target, plain, stream_ids=stream_ids, headers=headers)
        stream = self._streams[invocation_id] = IncomingStream(self, invocation_id, shape)
        call = self._outgoing[invocation_id] = OutgoingCall(self, invocation_id, shape)
        call.uploads = self._start_uploads(stream_ids, uploads)
        self._output_made()
        return stream

    def abandon(self, invocation_id: str) -> None:
        """Nobody waits any more for this call or stream of ours: cancel it unless it has ended already."""
        call = self._outgoing.pop(invocation_id, None)
        stream = self._streams.pop(invocation_id, None)
        if stream is not None:
            stream.discard()
            self._resume_reading(stream)
        if call is not None and not call.done:
            self._cancel_uploads(call)
            if self._conn.is_open:
                self._conn.cancel(invocation_id)
                self._output_made()

    # commands: the transport, and the end

    def resume(self) -> None:
        """See `HubConnection.resume`; `carrier` is already the new transport, or what wakes it."""
        self._conn.resume()
        self._look_again()

    def give_up(self, error: HubProtoError) -> None:
        """See `HubConnection.give_up`."""
        self._conn.give_up(error)
        self._look_again()

    def close(self, error: str | None = None, *, allow_reconnect: bool = False) -> None:
        """Say farewell; everything that still runs or waits ends."""
        while self._latest and self._conn.is_open:
            self._conn.send_encoded(self._latest.take_first())
        self._conn.close(error, allow_reconnect=allow_reconnect)
        self._look_again()

    # for IncomingStream

    def item_taken(self, stream: IncomingStream) -> None:
        """A reader made room."""
        if stream is self._full and len(stream) <= self._config.stream_buffer:
            self._resume_reading(stream)

    def reader_waits(self) -> None:
        """Somebody waits for what only reading can bring: do not let a slow reader of another stream prevent it."""
        if self._conn.want_read or not self._somebody_waits():
            return
        if self._full is not None and len(self._full) <= self._config.stream_buffer_limit:
            self._full = None
        self._look_again()

    # Binder

    @abstractmethod
    def arguments_shape(self, target: str) -> Shape:
        """See `Binder`."""

    def item_shape(self, stream_id: str) -> Shape:
        """See `Binder`."""
        stream = self._streams.get(stream_id)
        if stream is None:
            raise HubError(f"there is no stream {stream_id!r}")
        return stream.shape

    def result_shape(self, invocation_id: str) -> Shape:
        """See `Binder`."""
        call = self._outgoing.get(invocation_id)
        if call is None:
            raise HubError(f"there is no call {invocation_id!r}")
        return call.shape

    # what the two ends do differently

    @abstractmethod
    def build_arguments(self, call: RunningCall, iterators: Sequence[Any]) -> Sequence[Any]:
        """Return what the function takes, with the shell's iterator for each of `call.incoming` in its place."""

    @abstractmethod
    def _receive_call(self, event: Invocation | StreamInvocation) -> None:
        """The peer calls."""

    @abstractmethod
    def _receive_bad_call(self, event: InvocationBindingFailure) -> None:
        """The peer calls, wrongly."""

    @abstractmethod
    def _opened(self) -> None:
        """The handshake is done."""

    @abstractmethod
    def _somebody_waits(self) -> bool:
        """Whether anybody but a slow reader waits for what only reading can bring."""

    def _completion_error(self, event: Completion) -> HubError | None:
        """The error with which the peer ended a call or stream, if it did; an empty one is none (SPEC 5.3)."""
        return HubError(event.error) if event.error else None

    def _succeed(self, call: OutgoingCall, result: Any) -> None:
        """The peer answered without an error; `UNSET` is no result at all."""
        call.succeed(None if result is UNSET else result)

    @abstractmethod
    def _ended(self, event: ConnectionClosed) -> None:
        """The connection is over; what ran on it is being cancelled."""

    @abstractmethod
    def _held_back(self) -> bool:
        """Whether this end has a reason of its own to handle no further event now."""

    @abstractmethod
    def _complete_call(self, call: RunningCall, result: Any) -> None:
        """Tell the peer what its call returned."""

    @abstractmethod
    def _failure_text(self, call: RunningCall, error: Exception) -> str:
        """What the peer is told of an exception."""

    # within

    def _dispatch(self, now: float) -> None:
        self._now = now
        while not (self._conn.is_open and self._waits_for_something()):
            event = self._conn.next_event(now=now)
            if event is None:
                return
            self._handle(event)

    def _waits_for_something(self) -> bool:
        """Whether no further event can be handled before somebody has caught up."""
        if self._full is not None and not (
            self._conn.waits_for_ack and len(self._full) <= self._config.stream_buffer_limit
        ):
            return True  # a slow reader may be slow because it waits, for an Ack, to write
        return self._inline is not None or self._held_back()

    def _handle(self, event: Event) -> None:
        match event:
            case Invocation() | StreamInvocation():
                self._receive_call(event)
            case StreamItem(invocation_id=stream_id, item=item):
                stream = self._streams.get(stream_id)
                if stream is not None and not stream.ended:
                    self._receive_item(stream, item)
            case Completion():
                self._receive_completion(event)
            case CancelInvocation(invocation_id=invocation_id):
                for call in self._running:
                    if call.invocation_id == invocation_id:
                        self._cancel_on_request(call)
                        break
            case InvocationBindingFailure():
                self._receive_bad_call(event)
            case StreamBindingFailure(invocation_id=stream_id, error=error):
                stream = self._streams.get(stream_id)
                if stream is not None:
                    text = error_text("Failed to bind Stream message.", error, detailed=self._config.detailed_errors)
                    stream.end(HubError(text))
                    self.effects.append(Wake(stream))
            case HandshakeCompleted():
                self._opened()
            case ConnectionClosed():
                self._receive_end(event)
            case _ as never:
                assert_never(never)

    def _receive_item(self, stream: IncomingStream, item: Any) -> None:
        waited = stream.waiting
        stream.put(item)
        if waited:
            self.effects.append(Wake(stream))
        size = len(stream)
        if size > self._config.stream_buffer and not (
            size <= self._config.stream_buffer_limit and self._somebody_waits()
        ):
            self._full = stream

    def _receive_completion(self, event: Completion) -> None:
        error = self._completion_error(event)
        call = self._outgoing.pop(event.invocation_id, None)
        stream = self._streams.pop(event.invocation_id, None)
        if call is not None:
            if error is not None:
                call.fail(error)
            else:
                self._succeed(call, event.result)
            self._cancel_uploads(call)
            self.effects.append(Wake(call))
        if stream is not None:
            stream.end(error)
            self.effects.append(Wake(stream))

    def _receive_end(self, event: ConnectionClosed) -> None:
        self._closed = event
        self.error = event.error
        self._latest = None
        lost = event.error or TransportError("Invocation canceled due to the underlying connection being closed.")
        for stream in self._streams.values():
            stream.end(self._lost_stream_error(lost))
            self.effects.append(Wake(stream))
        self._streams.clear()
        for running in self._running:
            self._cancel_at_end(running)
        for call in self._outgoing.values():  # last: who is cancelled and waits for an answer is just cancelled
            call.fail(self._lost_call_error(lost))
            self.effects.append(Wake(call))
        self._outgoing.clear()
        self._ended(event)
        self.effects.append(Wake(self))

    def _lost_call_error(self, lost: Exception) -> Exception:
        return lost

    def _lost_stream_error(self, lost: Exception) -> Exception:
        return lost

    def _cancel_on_request(self, call: RunningCall) -> None:
        self._cancel_running(call)

    def _cancel_at_end(self, call: RunningCall) -> None:
        self._cancel_running(call)

    def _cancel_running(self, call: RunningCall) -> None:
        if not call.cancelled:
            call.cancelled = True
            self.effects.append(CancelCall(call))

    def _start(self, call: RunningCall) -> None:
        self._running[call] = None
        if call.inline:
            self._inline = call
        self.effects.append(StartCall(call))

    def _end_call(self, call: RunningCall) -> bool:
        """Note the one outcome of a call; tell whether the peer can still hear of it."""
        if call.done:
            return False
        call.done = True
        self._running.pop(call, None)
        if call.coalesces and self._latest is not None:  # its end must not overtake its last item
            last = self._latest.take(call)
            if last is not None and self._conn.is_open:
                self._conn.send_encoded(last)
        for stream in call.incoming:
            stream.discard()
            self._resume_reading(stream)
            if self._streams.get(stream.stream_id) is stream:  # no later call has taken the id over
                del self._streams[stream.stream_id]
                self._conn.ignore_stream(stream.stream_id)
        return True

    def _settle(self) -> None:
        """A call has ended: do what waited for that."""
        self._output_made()

    def _go_on_after(self, call: RunningCall) -> None:
        """A plain function is done, in the turn in which it was started: look at the next event."""
        if self._inline is call:
            self._inline = None
            self._dispatch(self._now)
            if self._conn.turn_is_over:
                self._look_again()

    def _fail_call(self, call: RunningCall, error: Exception) -> None:
        if call.invocation_id is not None and self._conn.is_open:
            self._conn.complete(call.invocation_id, error=self._failure_text(call, error))

    def _cancel_call(self, call: RunningCall) -> None:
        if call.invocation_id is not None and self._conn.is_open:
            self._conn.complete(call.invocation_id)

    def _split(self, arguments: Sequence[Any]) -> tuple[Sequence[Any], list[str] | None, list[Upload]]:
        """Take the uploads out of the arguments (SPEC 5.5)."""
        uploads = [argument for argument in arguments if isinstance(argument, Upload)]
        if not uploads:
            return arguments, None, uploads
        plain = [argument for argument in arguments if not isinstance(argument, Upload)]
        return plain, [self._conn.new_stream_id() for _ in uploads], uploads

    def _start_uploads(self, stream_ids: list[str] | None, uploads: list[Upload]) -> list[RunningCall]:
        started = []
        for stream_id, upload in zip(stream_ids or (), uploads, strict=True):
            call = RunningCall(
                self, _source_of, (upload,), invocation_id=stream_id, label="upload", origin=upload, streams=True
            )
            started.append(call)
            self._start(call)
        return started

    def _cancel_uploads(self, call: OutgoingCall) -> None:
        for upload in call.uploads:
            if not upload.done:
                self._cancel_running(upload)

    def _hold(self, key: Hashable, message: bytes) -> None:
        """Let a message wait until the peer catches up, or until there is a newer one with the same key."""
        if self._latest is None:
            self._latest = Latest()
        self._latest.put(key, message)

    def _write_latest(self, latest: Latest, now: float) -> bytes:
        """The transport is ready for more: return some of what waits for that. The rest may still be replaced."""
        while latest and self._conn.is_open and self.writable:
            self._conn.send_encoded(latest.take_first())
        data = self._conn.data_to_send(now=now)
        if not latest:
            self._latest = None
        elif self.writable:
            self._output_made()
        return data

    def _resume_reading(self, stream: IncomingStream) -> None:
        if stream is self._full:
            self._full = None
            self._look_again()

    def _look_again(self) -> None:
        """See to it that the carrier lets us handle further events, and tell it our deadline, even if it is stuck."""
        self.effects.append(Wake(self.carrier))

    def _output_made(self) -> None:
        """See to it that the transport asks `data_to_send` soon."""
        if not self._announced_output:
            self._announced_output = self.unsent > 0  # who carries it need not ask where there is none
            self.effects.append(Wake(self.carrier))

    def _require_connection(self) -> None:
        if self._conn.is_over:
            raise self._lost_call_error(self.error or TransportError("The connection is closed."))


def _source_of(upload: Upload) -> Any:
    return upload.source
