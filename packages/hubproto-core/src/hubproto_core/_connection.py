"""`HubConnection`: one hub connection as a state machine without I/O (SPEC 1.4, 1.5, 2, 3.11 to 3.13).

The contract: *after any call, take events until there are none, write `data_to_send()`, then wait for bytes if
`want_read`, for `next_timeout()`, or for a command of your own, whichever comes first. Calling any of them once too
often is harmless.*
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from msgspec import UNSET

from . import _handshake
from ._binding import AnyBinder, Binder
from ._calls import CallKind, CallTable
from ._codecs import Codec, TransferFormat
from ._config import HubConfig
from ._errors import HubError, HubProtoError, LocalProtocolError, RemoteProtocolError, TransportError, error_text
from ._events import ConnectionClosed, Event, HandshakeCompleted
from ._framing import RecordBuffer
from ._messages import (
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    Ping,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from ._timers import Timer, TimerTable

__all__ = ["HubConnection", "Role"]

_CLOSED_WITH_ERROR = "Connection closed with an error."


class Role(Enum):
    """Which end of the connection this is."""

    SERVER = "server"
    CLIENT = "client"


class _State(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"  # over, but ConnectionClosed has not been taken yet
    CLOSED = "closed"


class HubConnection:
    """One end of one hub connection.

    `codecs` are the encodings it may use: a server lets the client choose among them, a client asks for the first.
    `binder` knows the types of what arrives; without one every value arrives as plain Python.
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
        "_next_id",
        "_output",
        "_output_size",
        "_peer_pinged",
        "_role",
        "_state",
        "_timers",
    )

    def __init__(
        self,
        role: Role,
        codecs: Sequence[Codec],
        *,
        config: HubConfig | None = None,
        binder: Binder | None = None,
        now: float,
    ) -> None:
        if not codecs:
            raise ValueError("a HubConnection needs at least one codec, for example [JsonCodec()]")
        self._role = role
        self._codecs = {codec.name.lower(): codec for codec in codecs}
        self._codec: Codec = codecs[0]
        self._agreed = False  # the handshake has chosen
        self._config = config or HubConfig()
        self._binder: Binder = binder or AnyBinder()
        self._state = _State.HANDSHAKE
        self._buffer = RecordBuffer()
        self._drained = True  # everything received has been looked at
        self._output: list[bytes] = []
        self._output_size = 0
        self._timers = TimerTable()
        self._calls = CallTable()
        self._next_id = 1
        self._peer_pinged = False
        self._end: ConnectionClosed | None = None
        self._eof = False  # nothing follows what is in the buffer
        self._timers.arm(Timer.HANDSHAKE, now + self._config.handshake_timeout)
        if role is Role.CLIENT:
            self._write(_handshake.request(self._codec.name, 1))
        else:
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
        return self._state is _State.OPEN

    @property
    def is_over(self) -> bool:
        """One side has ended the connection; `ConnectionClosed` says how, once everything before it is taken."""
        return self._state in (_State.CLOSING, _State.CLOSED)

    @property
    def want_read(self) -> bool:
        """Everything received has been taken as events, and more is welcome.

        While this is False the peer is not held to be silent either.
        """
        return self._drained and self._state in (_State.HANDSHAKE, _State.OPEN)

    @property
    def unsent(self) -> int:
        """Bytes that `data_to_send()` would return."""
        return self._output_size

    # inputs

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the peer; any chunking is fine."""
        if self._state in (_State.HANDSHAKE, _State.OPEN) and not self._eof:
            self._buffer.append(data)
            self._drained = False

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """No more bytes will come. `error`: the transport broke, and this is the end. None: the peer ended it in order,
        and the end comes when everything before it has been taken.
        """
        if self._state not in (_State.HANDSHAKE, _State.OPEN):
            return
        if error is None:
            self._eof = True
            self._drained = False
        else:
            if self._role is Role.SERVER and self._state is _State.OPEN:
                self._write_close(error)
            self._finish(error, allow_reconnect=True)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        for timer in self._timers.expire(now):
            if timer is Timer.HANDSHAKE:
                if self._role is Role.SERVER:
                    self._write(_handshake.response(_handshake.CANCELED))
                self._finish(TransportError(f"no handshake within {self._config.handshake_timeout:g} s"))
            elif timer is Timer.KEEP_ALIVE:
                if self._state is _State.OPEN:
                    self._send(Ping())
                self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)
            elif not self._drained:
                continue  # it is our turn, not the peer's: `_drain` arms the timer again
            elif self._role is Role.SERVER:
                error = TransportError("Client hasn't sent a message/ping within the configured ClientTimeoutInterval.")
                self._write_close(error, kind="OperationCanceledException")
                self._finish(error, allow_reconnect=True)
            else:
                milliseconds = self._config.silence_timeout * 1000
                self._finish(
                    TransportError(
                        f"Server timeout ({milliseconds:.2f}ms) elapsed without receiving a message from the server."
                    ),
                    allow_reconnect=True,
                )
            if self._state not in (_State.HANDSHAKE, _State.OPEN):
                return

    # outputs

    def next_event(self, *, now: float) -> Event | None:
        """Return what happened next, or None when everything received has been looked at."""
        while self._state is _State.OPEN:
            try:
                record = self._codec.next_record(self._buffer, self._config.max_message_size)
                if record is None:
                    if self._eof:
                        self._end_of_input()
                        break
                    self._drain(now)
                    return None
                message = self._codec.decode(record, self._binder, self._config.max_depth)
            except RemoteProtocolError as error:
                self._fail(error)
                break
            self._timers.disarm(Timer.SILENCE)
            event = None if message is None else self._receive(message)
            if event is not None:
                return event
        if self._state is _State.HANDSHAKE:
            return self._shake_hands(now)
        if self._state is _State.CLOSING:
            self._state = _State.CLOSED
            return self._end
        return None

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget what must be written now: whole messages, in order, as one transport message."""
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
        return self._timers.next()

    # commands

    def send(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        stream_ids: Sequence[str] | None = None,
    ) -> None:
        """Call a method of the peer without waiting for an answer."""
        self._require_open()
        self._send_call(Invocation(target=target, arguments=arguments, stream_ids=stream_ids), stream_ids)

    def invoke(self, target: str, arguments: Sequence[Any] = (), *, stream_ids: Sequence[str] | None = None) -> str:
        """Call a method of the peer; its `Completion` will carry the id returned here."""
        self._require_open()
        invocation_id = self._new_id()
        self._send_call(
            Invocation(invocation_id=invocation_id, target=target, arguments=arguments, stream_ids=stream_ids),
            stream_ids,
        )
        self._calls.outgoing[invocation_id] = CallKind.CALL
        return invocation_id

    def stream(self, target: str, arguments: Sequence[Any] = (), *, stream_ids: Sequence[str] | None = None) -> str:
        """Call a streaming method of the server; `StreamItem`s and a `Completion` will carry the id returned here."""
        self._require_open()
        if self._role is Role.SERVER:
            raise LocalProtocolError("only a client can ask for a stream (SPEC 2.1)")
        invocation_id = self._new_id()
        self._send_call(
            StreamInvocation(invocation_id=invocation_id, target=target, arguments=arguments, stream_ids=stream_ids),
            stream_ids,
        )
        self._calls.outgoing[invocation_id] = CallKind.STREAM
        return invocation_id

    def cancel(self, invocation_id: str) -> None:
        """Give up a call or stream of ours: the peer is told, and what it still sends under this id is dropped."""
        self._require_open()
        kind = self._calls.outgoing.get(invocation_id)
        if kind is None or kind is CallKind.CANCELLED:
            raise LocalProtocolError(f"there is no call {invocation_id!r} to cancel")
        if self._role is Role.CLIENT:
            self._send(CancelInvocation(invocation_id=invocation_id))
            self._calls.outgoing[invocation_id] = CallKind.CANCELLED
        else:
            del self._calls.outgoing[invocation_id]  # a server only stops waiting (SPEC 3.10)

    def new_stream_id(self) -> str:
        """Reserve an id for an upload; hand it to one of the calls as one of its `stream_ids`."""
        self._require_open()
        if self._role is Role.SERVER:
            raise LocalProtocolError("only a client can upload a stream (SPEC 2.1)")
        stream_id = self._new_id()
        self._calls.outgoing_streams[stream_id] = False
        return stream_id

    def send_item(self, stream_id: str, item: Any) -> None:
        """Send the next item: of an upload of ours, or of a stream that the client has called for."""
        self._require_open()
        if not self._calls.outgoing_streams.get(stream_id):
            self._calls.require_incoming(stream_id, CallKind.STREAM)
        self._send(StreamItem(invocation_id=stream_id, item=item))

    def complete(self, invocation_id: str, result: Any = UNSET, *, error: str | None = None) -> None:
        """End a call or a stream of the peer's, or an upload of ours, with a result, an error, or neither."""
        self._require_open()
        if error is not None and result is not UNSET:
            raise LocalProtocolError("a completion carries a result or an error, not both")
        if self._calls.outgoing_streams.get(invocation_id):
            self._send(Completion(invocation_id=invocation_id, error=error))
            del self._calls.outgoing_streams[invocation_id]
            return
        self._calls.require_incoming(invocation_id)
        self._send(Completion(invocation_id=invocation_id, result=result, error=error))
        plain_end = result is UNSET and error is None
        self._calls.close_incoming(invocation_id, CallKind.STREAM if plain_end else CallKind.CALL)

    def ignore_stream(self, stream_id: str) -> None:
        """Drop whatever still arrives of this upload of the peer's (which cannot be told to stop, SPEC 3.8)."""
        self._calls.incoming_streams.pop(stream_id, None)

    def send_encoded(self, data: bytes) -> None:
        """Send a framed Invocation without id, encoded before with `codec`: broadcasts encode once for all."""
        self._require_open()
        self._write(data)

    def close(self, error: str | None = None, *, allow_reconnect: bool = False) -> None:
        """Say farewell and end the connection: only `ConnectionClosed` follows. Before the handshake: just end."""
        if self._state is _State.OPEN:
            self._send(Close(error=error, allow_reconnect=allow_reconnect))
        if self._state in (_State.HANDSHAKE, _State.OPEN):
            self._finish(None, allow_reconnect=allow_reconnect)

    # within

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            what = "the handshake is not done yet" if self._state is _State.HANDSHAKE else "the connection is closed"
            raise LocalProtocolError(f"nothing can be sent: {what}")

    def _new_id(self) -> str:
        number = self._next_id
        self._next_id += 1
        return str(number) if self._role is Role.CLIENT else f"s{number}"

    def _write(self, data: bytes) -> None:
        self._output.append(data)
        self._output_size += len(data)

    def _send(self, message: HubMessage) -> None:
        data = self._codec.encode(message)
        self._output.append(data)
        self._output_size += len(data)

    def _send_call(self, message: Invocation | StreamInvocation, stream_ids: Sequence[str] | None) -> None:
        data = self._codec.encode(message)
        if stream_ids:
            self._calls.announce(stream_ids)
        self._write(data)

    def _write_close(self, error: Exception | None, kind: str | None = None) -> None:
        text = None
        if error is not None:
            text = _CLOSED_WITH_ERROR
            if self._config.detailed_errors:
                text = f"{text} {kind or getattr(error, 'kind', type(error).__name__)}: {error}"
        self._send(Close(error=text, allow_reconnect=True))

    def _fail(self, error: Exception) -> None:
        """The peer broke the protocol."""
        if self._role is Role.SERVER:
            self._write_close(error)
        self._finish(error, allow_reconnect=True)

    def _end_of_input(self) -> None:
        """The peer has ended the transport in order, and nothing of what it sent is left."""
        error: HubProtoError | None = None
        if self._state is _State.HANDSHAKE:
            if self._role is Role.CLIENT:
                error = TransportError("The server disconnected before sending a handshake response")
            self._finish(error)
            return
        if len(self._buffer):
            error = RemoteProtocolError("Connection terminated while reading a message.")
        if self._role is Role.SERVER:
            self._write_close(error)
        self._finish(error, allow_reconnect=True)

    def _finish(self, error: Exception | None, *, allow_reconnect: bool = False) -> None:
        self._state = _State.CLOSING
        self._end = ConnectionClosed(error=error, allow_reconnect=allow_reconnect)
        self._timers.clear()
        self._buffer.clear()
        self._drained = True

    def _drain(self, now: float) -> None:
        """Wait for the peer again: from here on it may be held to be silent (SPEC 3.13, 5.7)."""
        self._drained = True
        waits = self._role is Role.CLIENT or self._peer_pinged
        if waits and not self._timers.armed(Timer.SILENCE):
            self._timers.arm(Timer.SILENCE, now + self._config.silence_timeout)

    def _shake_hands(self, now: float) -> Event | None:
        limit = self._config.max_message_size
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
                self._write(_handshake.response(_handshake.CANCELED))
            self._finish(error)
            return self.next_event(now=now)
        try:
            version = self._accept(record) if self._role is Role.SERVER else self._accepted(record)
        except (HubError, RemoteProtocolError) as error:
            self._finish(error)
            return self.next_event(now=now)
        self._state = _State.OPEN
        self._agreed = True
        self._timers.disarm(Timer.HANDSHAKE)
        if self._role is Role.CLIENT:
            self._send(Ping())
            self._timers.arm(Timer.KEEP_ALIVE, now + self._config.keep_alive_interval)
        else:
            self._write(_handshake.response())
        return HandshakeCompleted(protocol=self._codec.name, version=version)

    def _accept(self, record: bytes) -> int:
        """Choose what the client asks for, or answer why not (SPEC 1.4.2)."""
        try:
            name, version = _handshake.parse_request(record)
        except RemoteProtocolError as error:
            text = error_text(_handshake.FAILED, error, detailed=self._config.detailed_errors)
            self._write(_handshake.response(text))
            raise
        codec = self._codecs.get(name.lower())
        if codec is None:
            text = f"The protocol '{name}' is not supported."
        elif version > codec.version:
            text = f"The server does not support version {version} of the '{name}' protocol."
        else:
            self._codec = codec
            return version
        self._write(_handshake.response(text))
        raise RemoteProtocolError(text)

    def _accepted(self, record: bytes) -> int:
        _handshake.parse_response(record)
        return 1

    def _receive(self, message: HubMessage) -> Event | None:
        """Return the message as an event if it is one for the user now."""
        match message:
            case Invocation(invocation_id=invocation_id, stream_ids=stream_ids):
                self._calls.open_incoming(invocation_id, CallKind.CALL, stream_ids)
                return message
            case StreamItem(invocation_id=invocation_id):
                if self._role is Role.SERVER:
                    return message if invocation_id in self._calls.incoming_streams else None
                return message if self._calls.outgoing.get(invocation_id) is CallKind.STREAM else None
            case Completion(invocation_id=invocation_id):
                return message if self._completes(invocation_id) else None
            case Ping():
                self._peer_pinged = True
                return None
            case StreamInvocation(invocation_id=invocation_id, stream_ids=stream_ids):
                self._calls.open_incoming(invocation_id, CallKind.STREAM, stream_ids)
                return message
            case CancelInvocation(invocation_id=invocation_id):
                return message if invocation_id in self._calls.incoming else None
            case InvocationBindingFailure(invocation_id=invocation_id):
                self._calls.open_incoming(invocation_id, CallKind.CALL, None)
                return message
            case StreamBindingFailure(invocation_id=invocation_id):
                known = self._calls.incoming_streams if self._role is Role.SERVER else self._calls.outgoing
                return message if invocation_id in known else None
            case Close(error=error, allow_reconnect=allow_reconnect):
                self._closed_by_peer(error, allow_reconnect)
        return None  # Ack and Sequence without stateful reconnect change nothing (SPEC 4.7.4)

    def _completes(self, invocation_id: str) -> bool:
        """Close the id that the peer has completed; tell whether anybody waits for it."""
        if invocation_id in self._calls.incoming_streams:
            del self._calls.incoming_streams[invocation_id]
            return True
        kind = self._calls.outgoing.pop(invocation_id, CallKind.CANCELLED)
        return kind is not CallKind.CANCELLED

    def _closed_by_peer(self, error: str | None, allow_reconnect: bool) -> None:
        if self._role is Role.SERVER:
            self._send(Close())
            self._finish(HubError(error) if error else None)
        elif error is None:
            self._finish(None, allow_reconnect=allow_reconnect)
        else:
            text = f"The server closed the connection with the following error: {error}"
            self._finish(HubError(text), allow_reconnect=allow_reconnect)
