"""`HubConnection`: one hub connection as a state machine without I/O (SPEC 1.4, 1.5, 2, 3.11 to 3.13, 4.7).

The contract: *after any call, take events until there are none, write `data_to_send()`, then wait for bytes if
`want_read`, for `next_timeout()`, or for a command of your own, whichever comes first. Calling any of them once too
often is harmless.*
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from logging import DEBUG
from typing import Any, assert_never

from msgspec import UNSET

from . import _handshake
from ._binding import AnyBinder, Binder
from ._calls import CallTable
from ._codecs import Codec, TransferFormat
from ._config import HubConfig
from ._errors import (
    HubError,
    HubProtoError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    error_text,
    forget_frames,
)
from ._events import ConnectionClosed, Event, HandshakeCompleted
from ._framing import RecordBuffer
from ._limits import check_headers, check_id, limited, sendable
from ._logs import NOBODY, client_log, facts, hub_log, one_line
from ._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    Ping,
    SequenceMessage,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from ._replay import Replay
from ._states import CONNECTION, Cause, IdState, State, Step
from ._timers import Timer, TimerTable
from ._transport import Transport

__all__ = ["HubConnection", "Role"]

_CLOSED_WITH_ERROR = "Connection closed with an error."


class Role(Enum):
    """Which end of the connection this is."""

    SERVER = "server"
    CLIENT = "client"


_REST = 0.002  # seconds until the next turn, if none of the records of the last one said anything
_OPEN = (State.OPEN, State.LOST)
_OVER = (State.CLOSING, State.CLOSED)

_NOT_TRACKED = (Ping, Close, Ack, SequenceMessage)
"""What stateful reconnect does not count (SPEC 2.4). What does not bind counts: its sender has counted it."""


class HubConnection:
    """One end of one hub connection.

    `codecs` are the encodings it may use: a server lets the client choose among them, a client asks for the first.
    `binder` knows the types of what arrives; without one every value arrives as plain Python.
    `transport`: which formats it carries, and whether pings are needed; any stream of bytes is like WebSockets.
    `stateful`: the transport may be replaced by another one when it breaks, if the handshake agrees on version 2 of the
    protocol (SPEC 4.7).
    `log_facts` is what its log records carry in their `extra`: `hub`, `connection_id` and `user_id`.
    `turn_size`: how many messages are looked at before others, whom the same loop serves, have their turn; None is all.
    When a turn is over, `next_event` returns None though there is more, and `next_timeout` says when to call
    `handle_timeout`, with which the next one begins: at once, or soon if no message was an event.
    `now` is the time at which the transport was established, in seconds of any clock that does not go backwards; all
    later times are of the same clock.
    """

    __slots__ = (
        "_agreed",
        "_binder",
        "_buffer",
        "_calls",
        "_codec",
        "_codecs",
        "_config",
        "_drained",
        "_end",
        "_eof",
        "_later",
        "_log_facts",
        "_lost_by",
        "_next_id",
        "_output",
        "_output_size",
        "_peer_pinged",
        "_replay",
        "_resumes",
        "_role",
        "_silent",
        "_state",
        "_timers",
        "_transport",
        "_turn",
        "_turn_began",
        "_turn_size",
        "_wants_replay",
        "said_farewell",
        "timed_out",
    )

    def __init__(
        self,
        role: Role,
        codecs: Sequence[Codec],
        *,
        config: HubConfig | None = None,
        binder: Binder | None = None,
        transport: Transport = Transport.WEB_SOCKETS,
        stateful: bool = False,
        log_facts: Mapping[str, object] | None = None,
        turn_size: int | None = None,
        now: float,
    ) -> None:
        if not codecs:
            raise ValueError("a HubConnection needs at least one codec, for example [JsonCodec()]")
        self._role = role
        self._transport = transport
        self._codecs = {codec.name.lower(): codec for codec in codecs}
        self._codec: Codec = codecs[0]
        self._agreed = False  # the handshake has chosen
        self._config = config or HubConfig()
        self._binder: Binder = binder or AnyBinder()
        self._state = State.HANDSHAKE
        self._buffer = RecordBuffer()
        self._later: list[RecordBuffer] = []  # bytes of the transports after that of `_buffer`
        self._drained = True  # everything received has been looked at
        self._turn = 0  # records looked at in this turn
        self._silent = 0  # those of them that were no events
        self._turn_began = now
        self._turn_size = turn_size
        self._resumes: float | None = None  # when the next turn may begin, as this one is over
        self._output: list[bytes] = []
        self._output_size = 0
        self._timers = TimerTable()
        self._calls = CallTable()
        self._next_id = 1
        self._peer_pinged = False
        self._end: ConnectionClosed | None = None
        self.said_farewell: bool = False
        """It was `close` that ended the connection, and the peer has been told, or will be: it may answer."""
        self.timed_out: bool = False
        """A deadline ended the connection: nothing in time of the handshake, of the peer, or of a new transport."""
        self._log_facts = NOBODY if log_facts is None else log_facts
        self._eof = False  # nothing follows what is in the buffer
        self._wants_replay = stateful
        self._replay: Replay | None = None  # only with stateful reconnect
        self._lost_by: HubProtoError | None = None  # the last time
        self._timers.arm(Timer.HANDSHAKE, now + self._config.handshake_timeout)
        if role is Role.CLIENT:
            self._append(_handshake.request(self._codec.name, 2 if stateful else 1))
        elif not transport.shows_life:
            self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)

    # facts

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._role

    @property
    def codec(self) -> Codec:
        """The encoding in use; until the handshake has chosen, the first one offered."""
        return self._codec

    @property
    def transfer_format(self) -> TransferFormat:
        """The kind of WebSocket frame in which `data_to_send()` must travel (SPEC 1.4)."""
        return self._codec.transfer_format if self._agreed else "text"

    @property
    def is_open(self) -> bool:
        """The handshake is done and neither side has ended the connection: commands are legal."""
        return self._state in _OPEN

    @property
    def is_over(self) -> bool:
        """One side has ended the connection; `ConnectionClosed` says how, once everything before it is taken."""
        return self._state in _OVER

    @property
    def stateful(self) -> bool:
        """A transport that breaks may be replaced: both sides agreed to it, and neither has ended the connection."""
        return self._replay is not None and not self._eof

    @property
    def is_lost(self) -> bool:
        """The transport is gone, and `resume()` is awaited; what is said meanwhile is kept."""
        return self._state is State.LOST

    @property
    def lost_by(self) -> HubProtoError | None:
        """What broke the transport that was lost last; None if none was."""
        return self._lost_by

    @property
    def resumed(self) -> bool:
        """The peer has answered `resume()`: its Sequence message has come on the present transport.

        True as long as nothing was resumed.
        """
        return self._replay is None or self._replay.resumed

    @property
    def want_read(self) -> bool:
        """Everything received has been taken as events, and more is welcome.

        While this is False the peer is not held to be silent either.
        """
        return self._drained and (self._state is State.OPEN or self._state is State.HANDSHAKE)

    @property
    def turn_is_over(self) -> bool:
        """More has come than is looked at in one turn: `next_timeout` says when the next one begins."""
        return self._resumes is not None

    @property
    def unsent(self) -> int:
        """Bytes that are still to be written, now or when the peer has acknowledged others, or on a new transport."""
        replay = self._replay
        return self._output_size if replay is None else self._output_size + replay.waiting_size

    @property
    def waits_for_ack(self) -> bool:
        """Messages wait until the peer has acknowledged others: only reading on can let them go (SPEC 4.7.3)."""
        return self._replay is not None and self._replay.waiting_size > 0 and self._state is State.OPEN

    # inputs

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the peer; any chunking is fine."""
        if (self._state is State.OPEN or self._state is State.HANDSHAKE) and not self._eof:
            self._newest_buffer().append(data)
            self._drained = False
            if now > self._turn_began and self._resumes is None:  # all that comes at one time is one turn's
                self._begin_turn(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """No more bytes will come.

        `error`: the transport broke, and this is the end, or, on a stateful connection, the beginning of the
        `resume_window`. None: the peer ended it in order, and the end comes when everything before it has been taken.
        """
        if self._state is not State.OPEN and self._state is not State.HANDSHAKE:
            return
        if error is None:
            self._eof = True
            self._drained = False
        elif self.stateful:
            self._lose(error, now)
        else:
            farewell = None
            if self._role is Role.SERVER and self._state is State.OPEN:
                farewell = self._farewell(error)
            self._finish(Cause.GONE, error, farewell=farewell, allow_reconnect=True)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        if self._resumes is not None and now >= self._resumes:
            self._begin_turn(now)
        for timer in self._timers.expire(now):
            match timer:
                case Timer.HANDSHAKE:
                    if self._role is Role.SERVER:
                        self._append(_handshake.response(_handshake.CANCELED))
                    overdue = TransportError(f"no handshake within {self._config.handshake_timeout:g} s")
                    self._finish(Cause.EXPIRED, overdue)
                case Timer.KEEP_ALIVE:
                    if self._state is State.OPEN:
                        self._append(self._codec.encode(Ping()))
                    self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)
                case Timer.ACK:
                    assert self._replay is not None
                    self._acknowledge(self._replay, now)
                case Timer.RESUME:
                    self._resume_too_late()
                case _:
                    self._silence(now)
            if self._state in _OVER:
                return

    # outputs

    def next_event(self, *, now: float) -> Event | None:
        """Return what happened next, or None when everything received has been looked at, or the turn is over."""
        while self._state in _OPEN:
            if self._turn == self._turn_size and len(self._buffer):
                if self._resumes is None:
                    self._resumes = now + _REST if self._silent == self._turn else now
                return None
            try:
                record = self._codec.next_record(self._buffer, self._config.max_message_size)
                if record is None:
                    if self._later:  # whatever is left of the old transport has been cut off
                        self._buffer = self._later.pop(0)
                        continue
                    if self._eof:
                        self._end_of_input()
                        break
                    self._drain(now)
                    return None
                self._turn += 1
                message = self._codec.decode(record, self._binder, self._config.max_depth)
                self._timers.disarm(Timer.SILENCE)
                if message is None or (self._replay is not None and not self._is_new(message, self._replay, now)):
                    self._silent += 1
                    continue
                event = self._receive(message)
            except RemoteProtocolError as error:
                self._fail(error)
                break
            if event is not None:
                return event
            self._silent += 1
        if self._state is State.HANDSHAKE:
            return self._shake_hands(now)
        if self._state is State.CLOSING:
            self._go(Cause.TAKEN)
            return self._end
        return None

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget what must be written now: whole messages, in order, as one transport message."""
        if self._replay is not None:
            self._replay.all_left()
            self._arm_ack(self._replay, now)
        if not self._output:
            return b""
        data = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        if self._role is Role.CLIENT and self._timers.armed(Timer.KEEP_ALIVE):
            self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)
        return data

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._timers.next() if self._resumes is None else self._resumes

    # commands

    def send(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        stream_ids: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Call a method of the peer without waiting for an answer.

        `headers` travel in the message. Names and values are texts that are not empty (SPEC 2.1); otherwise
        `LocalProtocolError` is raised.
        """
        self._require_open()
        headers = sendable(headers)
        self._send_call(
            Invocation(headers=headers, target=target, arguments=arguments, stream_ids=stream_ids), stream_ids
        )

    def invoke(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        stream_ids: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Call a method of the peer; its `Completion` will carry the id returned here."""
        self._require_open()
        headers = sendable(headers)
        invocation_id = self._new_id()
        self._send_call(
            Invocation(
                headers=headers,
                invocation_id=invocation_id,
                target=target,
                arguments=arguments,
                stream_ids=stream_ids,
            ),
            stream_ids,
        )
        self._calls.outgoing[invocation_id] = IdState.CALL
        return invocation_id

    def stream(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        stream_ids: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Call a streaming method of the server; `StreamItem`s and a `Completion` will carry the id returned here."""
        self._require_open()
        headers = sendable(headers)
        if self._role is Role.SERVER:
            raise LocalProtocolError("only a client can ask for a stream (SPEC 2.1)")
        invocation_id = self._new_id()
        self._send_call(
            StreamInvocation(
                headers=headers,
                invocation_id=invocation_id,
                target=target,
                arguments=arguments,
                stream_ids=stream_ids,
            ),
            stream_ids,
        )
        self._calls.outgoing[invocation_id] = IdState.STREAM
        return invocation_id

    def cancel(self, invocation_id: str) -> None:
        """Give up a call or stream of ours: the peer is told, and what it still sends under this id is dropped."""
        self._require_open()
        self._calls.require_cancellable(invocation_id)
        if self._role is Role.CLIENT:
            self._send(CancelInvocation(invocation_id=invocation_id))
            self._calls.step(invocation_id, Step.CANCEL)
        else:
            self._calls.step(invocation_id, Step.FORGET)  # a server only stops waiting (SPEC 3.10)

    def new_stream_id(self) -> str:
        """Reserve an id for an upload; hand it to one of the calls as one of its `stream_ids`."""
        self._require_open()
        if self._role is Role.SERVER:
            raise LocalProtocolError("only a client can upload a stream (SPEC 2.1)")
        stream_id = self._new_id()
        self._calls.outgoing_streams[stream_id] = IdState.RESERVED
        return stream_id

    def send_item(self, stream_id: str, item: Any) -> None:
        """Send the next item: of an upload of ours, or of a stream that the client has called for."""
        self._require_open()
        if not self._calls.is_uploading(stream_id):
            self._calls.require_incoming_stream(stream_id)
        self._write(self._codec.encode(StreamItem(invocation_id=stream_id, item=item)), item_of=stream_id)

    def complete(self, invocation_id: str, result: Any = UNSET, *, error: str | None = None) -> None:
        """End a call or a stream of the peer's, or an upload of ours, with a result, an error, or neither."""
        self._require_open()
        if error is not None and result is not UNSET:
            raise LocalProtocolError("a completion carries a result or an error, not both")
        if self._calls.is_uploading(invocation_id):
            self._send(Completion(invocation_id=invocation_id, error=error))
            self._calls.complete_upload(invocation_id)
            return
        self._calls.require_incoming(invocation_id)
        data = self._codec.encode(Completion(invocation_id=invocation_id, result=result, error=error))
        self._write(data, end_of=invocation_id)
        plain_end = result is UNSET and error is None
        self._calls.close_incoming(invocation_id, IdState.STREAM if plain_end else IdState.CALL)

    def ignore_stream(self, stream_id: str) -> None:
        """Drop whatever still arrives of this upload of the peer's (which cannot be told to stop, SPEC 3.8)."""
        self._calls.incoming_streams.pop(stream_id, None)

    def send_encoded(self, data: bytes) -> None:
        """Send a framed Invocation without id, encoded before with `codec`: broadcasts encode once for all."""
        self._require_open()
        self._write(data)

    def resume(self) -> None:
        """A new transport has taken the place of the old one, whether that had broken or not (SPEC 4.7).

        What has been received whole is still delivered; a message that was cut in two will be sent again. The first
        that `data_to_send()` returns is the Sequence message, then whatever the peer has not acknowledged. Completions
        of nothing, which the peer drops, and more Sequence messages may come in between: see `Replay`.
        """
        if self._replay is None or self._eof:
            raise LocalProtocolError(
                "the transport cannot be replaced: stateful reconnect was not agreed on, or is over"
            )
        self._go(Cause.REPLACED)
        self._timers.disarm(Timer.RESUME)
        self._timers.disarm(Timer.ACK)
        self._output.clear()
        self._output_size = 0
        if len(self._newest_buffer()):
            self._later.append(RecordBuffer())
        self._drained = False
        self._append(self._codec.encode(SequenceMessage(sequence_id=self._replay.resume())))
        self._write_on(self._replay)

    def give_up(self, error: HubProtoError) -> None:
        """No other transport will replace the lost one: the connection ends because of `error`, and may be made anew.

        Does nothing unless `is_lost`.
        """
        if self._state is State.LOST:
            self._finish(Cause.GIVEN_UP, error, allow_reconnect=True)

    def close(self, error: str | None = None, *, allow_reconnect: bool = False, discard: bool = False) -> None:
        """Say farewell and end the connection: only `ConnectionClosed` follows. Before the handshake: just end.

        `discard`: forget what has not been written yet, for a peer that does not read it.
        """
        if self._state in _OVER:
            return
        if discard:
            self._output.clear()
            self._output_size = 0
            self._replay = None
        farewell = None
        if self._state is not State.HANDSHAKE:
            farewell = self._codec.encode(Close(error=error, allow_reconnect=allow_reconnect))
        self._finish(Cause.CLOSE, None, farewell=farewell, allow_reconnect=allow_reconnect)

    # within

    def _go(self, cause: Cause) -> None:
        self._state = CONNECTION[self._state][cause]

    def _require_open(self) -> None:
        if self._state not in _OPEN:
            what = "the handshake is not done yet" if self._state is State.HANDSHAKE else "the connection is closed"
            raise LocalProtocolError(f"nothing can be sent: {what}")

    def _new_id(self) -> str:
        number = self._next_id
        self._next_id += 1
        return str(number) if self._role is Role.CLIENT else f"s{number}"

    def _newest_buffer(self) -> RecordBuffer:
        """Return where the bytes of the present transport go."""
        return self._later[-1] if self._later else self._buffer

    def _append(self, data: bytes) -> None:
        """Write what no Ack is about, past all that waits for one."""
        self._output.append(data)
        self._output_size += len(data)

    def _write(self, data: bytes, *, item_of: str | None = None, end_of: str | None = None) -> None:
        """Write a message that counts (SPEC 2.4); it may be part of a stream."""
        if self._replay is None:
            self._output.append(data)
            self._output_size += len(data)
        else:
            self._replay.add(data, item_of=item_of, end_of=end_of)
            if self._state is State.OPEN:
                self._write_on(self._replay)

    def _write_on(self, replay: Replay, *, over_limit: bool = False) -> None:
        """Write what waits, as far as the peer's acknowledgements allow."""
        if stand_ins := replay.stand_ins():
            self._append(stand_ins)
        while (data := replay.take(over_limit=over_limit)) is not None:
            self._append(data)

    def _send(self, message: HubMessage) -> None:
        self._write(self._codec.encode(message))

    def _send_call(self, message: Invocation | StreamInvocation, stream_ids: Sequence[str] | None) -> None:
        data = self._codec.encode(message)
        if stream_ids:
            self._calls.announce(stream_ids)
        self._write(data)

    def _farewell(self, error: Exception | None, kind: str | None = None) -> bytes:
        """Return the Close message with which a server ends a connection that may come back."""
        text = None
        if error is not None:
            text = _CLOSED_WITH_ERROR
            if self._config.detailed_errors:
                text = f"{text} {kind or getattr(error, 'kind', type(error).__name__)}: {error}"
        return self._codec.encode(Close(error=text, allow_reconnect=True))

    def _fail(self, error: Exception) -> None:
        """The peer broke the protocol."""
        farewell = self._farewell(error) if self._role is Role.SERVER else None
        self._finish(Cause.VIOLATED, error, farewell=farewell, allow_reconnect=True)

    def _end_of_input(self) -> None:
        """The peer has ended the transport in order, and nothing of what it sent is left."""
        error: HubProtoError | None = None
        if self._state is State.HANDSHAKE:
            if self._role is Role.CLIENT:
                error = TransportError("The server disconnected before sending a handshake response")
            self._finish(Cause.GONE, error)
            return
        if len(self._buffer):
            error = RemoteProtocolError("Connection terminated while reading a message.")
        farewell = self._farewell(error) if self._role is Role.SERVER else None
        self._finish(Cause.GONE, error, farewell=farewell, allow_reconnect=True)

    def _silence(self, now: float) -> None:
        """The peer's time is up, unless it is our turn: then `_drain` arms the timer again."""
        if not self._drained:
            return
        if self._role is Role.SERVER:
            error = TransportError("Client hasn't sent a message/ping within the configured ClientTimeoutInterval.")
            farewell = self._farewell(error, kind="OperationCanceledException")
            self._finish(Cause.EXPIRED, error, farewell=farewell, allow_reconnect=True)
        else:
            milliseconds = self._config.silence_timeout * 1000
            text = f"Server timeout ({milliseconds:.2f}ms) elapsed without receiving a message from the server."
            if self.stateful:  # perhaps it is only this transport that carries nothing any more
                self._lose(TransportError(text), now)
            else:
                self._finish(Cause.EXPIRED, TransportError(text), allow_reconnect=True)

    def _lose(self, error: HubProtoError, now: float) -> None:
        """The transport is gone; wait for another one. Messages already received whole can still be taken."""
        assert self._replay is not None
        self._go(Cause.BROKEN)
        self._lost_by = error
        self._replay.rewind()
        self._output.clear()
        self._output_size = 0
        self._timers.disarm(Timer.SILENCE)
        self._timers.disarm(Timer.ACK)
        self._timers.arm(Timer.RESUME, now + self._config.resume_window)

    def _resume_too_late(self) -> None:
        seconds = self._config.resume_window
        error = TransportError(f"the transport was lost, and not replaced within {seconds:g} s: {self._lost_by}")
        error.__cause__ = self._lost_by
        self._finish(Cause.EXPIRED, error, allow_reconnect=True)

    def _finish(
        self,
        cause: Cause,
        error: Exception | None,
        *,
        farewell: bytes | None = None,
        allow_reconnect: bool = False,
    ) -> None:
        """End the connection. `farewell` is the last message, behind all that has been said before."""
        if self._state is not State.LOST:  # otherwise there is nobody to hear it
            if self._replay is not None:
                self._write_on(self._replay, over_limit=True)
            if farewell is not None:
                self._append(farewell)
        self._go(cause)
        self.said_farewell = cause is Cause.CLOSE and farewell is not None
        self.timed_out = cause is Cause.EXPIRED
        if isinstance(error, RemoteProtocolError):  # raised here; others belong to whoever gave them to us
            forget_frames(error)
        self._end = ConnectionClosed(error=error, allow_reconnect=allow_reconnect)
        self._timers.clear()
        self._replay = None
        self._later.clear()
        self._buffer.clear()
        self._drained = True
        self._resumes = None

    def _begin_turn(self, now: float) -> None:
        self._turn = self._silent = 0
        self._turn_began = now
        self._resumes = None

    def _drain(self, now: float) -> None:
        """Wait for the peer again: from here on it may be held to be silent (SPEC 3.13, 5.7)."""
        self._drained = True
        pings = self._role is Role.CLIENT or self._peer_pinged
        if (
            pings
            and not self._transport.shows_life
            and self._state is State.OPEN
            and not self._timers.armed(Timer.SILENCE)
        ):
            self._timers.arm(Timer.SILENCE, now + self._config.silence_timeout)

    def _shake_hands(self, now: float) -> Event | None:
        limit = self._config.max_handshake_size
        if self._config.max_message_size is not None:
            limit = min(limit, self._config.max_message_size)
        try:
            record = self._buffer.take_text(limit)
            if record is None:
                if self._eof:
                    self._end_of_input()
                    return self.next_event(now=now)
                self._drained = True
                return None
        except RemoteProtocolError as error:
            if self._role is Role.SERVER:
                self._append(_handshake.response(_handshake.CANCELED))
            self._finish(Cause.REFUSED, error)
            return self.next_event(now=now)
        try:
            version = self._accept(record) if self._role is Role.SERVER else self._accepted(record)
        except (HubError, RemoteProtocolError) as error:
            self._finish(Cause.REFUSED, error)
            return self.next_event(now=now)
        self._go(Cause.ACCEPTED)
        self._agreed = True
        self._timers.disarm(Timer.HANDSHAKE)
        if self._wants_replay and version >= 2:
            self._replay = Replay(
                self._config.replay_buffer,
                self._codec.encode,
                any_stream_may_end=self._role is Role.CLIENT,
                ack_interval=self._config.ack_interval,
                now=now,
            )
        if self._role is Role.SERVER:
            self._append(_handshake.response())
        elif not self._transport.shows_life:
            self._append(self._codec.encode(Ping()))
            self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)
        return HandshakeCompleted(protocol=self._codec.name, version=version)

    def _accept(self, record: bytes) -> int:
        """Choose what the client asks for, or answer why not (SPEC 1.4.2)."""
        try:
            name, version = _handshake.parse_request(record)
        except RemoteProtocolError as error:
            text = error_text(_handshake.FAILED, error, detailed=self._config.detailed_errors)
            self._append(_handshake.response(text))
            raise
        codec = self._codecs.get(name.lower())
        if codec is None:
            text = f"The protocol '{name}' is not supported."
        elif version > codec.version:
            text = f"The server does not support version {version} of the '{name}' protocol."
        elif codec.transfer_format not in self._transport.transfer_formats:
            wanted = codec.transfer_format.capitalize()
            text = (
                f"Cannot use the '{name}' protocol on the current transport. "
                f"The transport does not support '{wanted}' transfer format."
            )
        else:
            self._codec = codec
            return version
        self._append(_handshake.response(text))
        raise RemoteProtocolError(text)

    def _accepted(self, record: bytes) -> int:
        _handshake.parse_response(record)
        return 2 if self._wants_replay else 1

    def _arm_ack(self, replay: Replay, now: float) -> None:
        if replay.ack_due and self._state is State.OPEN and not self._timers.armed(Timer.ACK):
            self._timers.arm(Timer.ACK, replay.next_ack(now=now))

    def _acknowledge(self, replay: Replay, now: float) -> None:
        sequence_id = replay.acknowledgement(now=now)
        if sequence_id is not None:
            self._append(self._codec.encode(Ack(sequence_id=sequence_id)))

    def _is_new(self, message: HubMessage, replay: Replay, now: float) -> bool:
        """Count the message; False if it has been here before, or is only about the counting."""
        if not isinstance(message, _NOT_TRACKED):
            new = replay.receive()
            self._arm_ack(replay, now)
            return new
        match message:
            case Ack(sequence_id=sequence_id):
                replay.acknowledge(sequence_id)
                if self._state is State.OPEN:
                    self._write_on(replay)
                    if replay.resumed and replay.resending:
                        self._timers.disarm(Timer.ACK)
                        self._acknowledge(replay, now)
                return False
            case SequenceMessage(sequence_id=sequence_id):
                if not replay.resumed:
                    self._timers.disarm(Timer.ACK)
                replay.receive_sequence(sequence_id, now=now)
                return False
            case _:
                return True

    def _receive(self, message: HubMessage) -> Event | None:
        """Return the message as an event if it is one for the user now."""
        match message:
            case Invocation():
                return self._receive_call(message, IdState.CALL)
            case StreamItem(invocation_id=invocation_id):
                if message.headers is not None:
                    check_headers(message.headers, self._config)
                if self._role is Role.SERVER:
                    wanted = invocation_id in self._calls.incoming_streams
                else:
                    wanted = self._calls.has_items(invocation_id)
                if wanted:
                    return message
                self._ignore("an item", invocation_id)
            case Completion(invocation_id=invocation_id):
                if message.headers is not None:
                    check_headers(message.headers, self._config)
                if self._completes(invocation_id):
                    return message
                self._ignore("a completion", invocation_id)
            case Ping():
                self._peer_pinged = True
            case StreamInvocation():
                return self._receive_call(message, IdState.STREAM)
            case CancelInvocation(invocation_id=invocation_id):
                if message.headers is not None:
                    check_headers(message.headers, self._config)
                if invocation_id in self._calls.incoming:
                    return message
                self._ignore("a cancellation", invocation_id)
            case InvocationBindingFailure():
                return self._receive_call(message, IdState.CALL)
            case StreamBindingFailure(invocation_id=invocation_id):
                known = self._calls.incoming_streams if self._role is Role.SERVER else self._calls.outgoing
                if invocation_id in known:
                    return message
                self._ignore("an item", invocation_id)
            case Close(error=error, allow_reconnect=allow_reconnect):
                self._closed_by_peer(error, allow_reconnect)
            case Ack() | SequenceMessage():
                pass  # nothing is counted here
            case _ as never:
                assert_never(never)
        return None

    def _receive_call(
        self, message: Invocation | StreamInvocation | InvocationBindingFailure, state: IdState
    ) -> Event | None:
        """Open the peer's call, unless it is more than we are ready for."""
        config = self._config
        calls = self._calls
        message = limited(message, config)
        invocation_id = message.invocation_id
        stream_ids = None if isinstance(message, InvocationBindingFailure) else message.stream_ids
        if invocation_id is not None and calls.open_incoming_calls >= config.max_open_calls:
            self._refuse_call(message, f"at most {config.max_open_calls} calls may be open on a connection.")
            return None
        if stream_ids and len(calls.incoming_streams) + len(stream_ids) > config.max_open_streams:
            self._refuse_call(message, f"at most {config.max_open_streams} streams may be open on a connection.")
            return None
        calls.open_incoming(invocation_id, state, stream_ids)
        return message

    def _refuse_call(self, message: Invocation | StreamInvocation | InvocationBindingFailure, reason: str) -> None:
        self._log("connection %s: a call of %s is refused: %s", one_line(message.target), reason)
        if message.invocation_id is not None:
            text = f"Failed to invoke '{message.target}': {reason}"
            self._send(Completion(invocation_id=message.invocation_id, error=text))

    def _log(self, text: str, *arguments: str) -> None:
        log = hub_log if self._role is Role.SERVER else client_log
        if log.isEnabledFor(DEBUG):
            log.debug(text, self._log_facts["connection_id"], *arguments, extra=facts(self._log_facts))

    def _ignore(self, what: str, invocation_id: str) -> None:
        """Nobody waits for this. An id that is too long cannot be one of those that are known."""
        check_id(invocation_id, self._config)
        self._log("connection %s: %s of %s is ignored: nobody waits for it", what, one_line(invocation_id))

    def _completes(self, invocation_id: str) -> bool:
        """Close the id that the peer has completed; tell whether anybody waits for it."""
        if invocation_id in self._calls.incoming_streams:
            del self._calls.incoming_streams[invocation_id]
            return True
        return self._calls.complete_outgoing(invocation_id)

    def _closed_by_peer(self, error: str | None, allow_reconnect: bool) -> None:
        if self._role is Role.SERVER:
            farewell = self._codec.encode(Close())
            self._finish(Cause.CLOSE_RECEIVED, HubError(error) if error else None, farewell=farewell)
        elif error is None:
            self._finish(Cause.CLOSE_RECEIVED, None, allow_reconnect=allow_reconnect)
        else:
            text = f"The server closed the connection with the following error: {error}"
            self._finish(Cause.CLOSE_RECEIVED, HubError(text), allow_reconnect=allow_reconnect)
