"""The MessagePack hub protocol (SPEC 2.3): read as the reference reads it, element by element, written as it writes it.

What is in order is decoded by msgspec in one call. Anything else goes to `MessagePackReader`, which reads a record as
far as the reference does: it stops at the first mistake, and does not look at what is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .._binding import BINDING_ERROR, Binder, Shape
from .._errors import HubError, LocalProtocolError, RemoteProtocolError
from .._framing import RecordBuffer, frame_binary
from .._messages import (
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
from ._msgpack_bytes import is_deeper, mend
from ._msgpack_payloads import MessagePackPayloads
from ._msgpack_reader import INT32, INT64, Headers, MessagePackReader, past_the_end
from ._naming import Rename

__all__ = ["MessagePackCodec"]

_ERROR, _VOID, _VALUE = 1, 2, 3  # the kinds of completions
_NO_ARGUMENTS = "Reading array length for 'arguments' failed."


class _Call(Struct, array_like=True, gc=False):
    type: int
    headers: Headers
    invocation_id: str | None
    target: str
    arguments: Raw
    stream_ids: tuple[str, ...] = ()


class _Item(Struct, array_like=True, gc=False):
    type: int
    headers: Headers
    invocation_id: str
    item: Raw


class _Completed(Struct, array_like=True, gc=False):
    type: int
    headers: Headers
    invocation_id: str
    kind: int
    value: Raw | UnsetType = UNSET


class _Cancel(Struct, array_like=True, gc=False):
    type: int
    headers: Headers
    invocation_id: str


class _Close(Struct, array_like=True, gc=False):
    type: int
    error: str | None
    allow_reconnect: bool = False


class _Numbered(Struct, array_like=True, gc=False):
    type: int
    sequence_id: Annotated[int, Meta(le=INT64.stop - 1)]


_QUICK: dict[int, Callable[[bytes], Any]] = {
    number: msgspec.msgpack.Decoder(fields).decode
    for number, fields in {
        1: _Call,
        2: _Item,
        3: _Completed,
        4: _Call,
        5: _Cancel,
        7: _Close,
        8: _Numbered,
        9: _Numbered,
    }.items()
}
_decode_text = msgspec.msgpack.Decoder(str | None).decode
_PING = Ping()
_PING_RECORD = b"\x91\x06"


class _TooDeep(ValueError):
    """A payload whose arrays and maps are nested too deep in each other."""


class MessagePackCodec:
    """The `messagepack` protocol, versions 1 and 2.

    `rename` says how members of objects are called on the wire: as they are declared, by default, as .NET does. A hub
    for .NET clients whose classes have names in Python's manner wants "pascal".
    `enc_hook(value)` turns a value of a type of your own into one that can be written; `dec_hook(type, value)` makes a
    value of such a type from what has arrived, or raises ValueError.
    """

    __slots__ = ("_encode", "_payloads")

    name: Literal["messagepack"] = "messagepack"
    version: Literal[2] = 2
    transfer_format: Literal["binary"] = "binary"

    def __init__(
        self,
        *,
        rename: Rename = None,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
    ) -> None:
        self._payloads = MessagePackPayloads.of(rename, enc_hook, dec_hook)
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._payloads.write_custom).encode

    def next_record(self, buffer: RecordBuffer, limit: int | None) -> bytes | None:
        """Take one record, as long as the number before it says."""
        return buffer.take_binary(limit)

    def decode(self, record: bytes, binder: Binder, max_depth: int) -> HubMessage | None:
        """Decode one record (SPEC 2.3.1, 2.3.3)."""
        if record == _PING_RECORD:
            return _PING
        if len(record) > 1 and record[0] & 0xF0 == 0x90:
            quick = _QUICK.get(record[1])
            if quick is not None:
                try:
                    message = self._build(quick(record), binder, max_depth)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    message = None
                if message is not None:
                    return message
        return self._read(MessagePackReader(record), binder, max_depth)

    def encode(self, message: HubMessage) -> bytes:
        """Encode one message with its length before it, elements in the order of SPEC 2.3.1."""
        try:
            return frame_binary(self._encode(self._elements(message)))
        except Exception as error:  # hooks and properties of the user's run here
            raise LocalProtocolError(f"{type(message).__name__} cannot be written as MessagePack: {error}") from error

    # within

    def _elements(self, message: HubMessage) -> tuple[Any, ...]:
        write = self._payloads.write
        match message:
            case Invocation():
                return (
                    1,
                    dict(message.headers) if message.headers else {},
                    message.invocation_id or None,
                    message.target,
                    [write(argument) for argument in message.arguments],
                    list(message.stream_ids) if message.stream_ids else (),
                )
            case StreamItem():
                return 2, dict(message.headers or ()), message.invocation_id, write(message.item)
            case Completion(error=str()):
                return 3, dict(message.headers or ()), message.invocation_id, _ERROR, message.error
            case Completion():
                if message.result is UNSET:
                    return 3, dict(message.headers or ()), message.invocation_id, _VOID
                return 3, dict(message.headers or ()), message.invocation_id, _VALUE, write(message.result)
            case StreamInvocation():
                return (
                    4,
                    dict(message.headers or ()),
                    message.invocation_id,
                    message.target,
                    [write(argument) for argument in message.arguments],
                    list(message.stream_ids or ()),
                )
            case CancelInvocation():
                return 5, dict(message.headers or ()), message.invocation_id
            case Ping():
                return (6,)
            case Close():
                return 7, message.error, message.allow_reconnect
            case Ack():
                return 8, message.sequence_id
            case SequenceMessage():
                return 9, message.sequence_id
        raise TypeError("it is what has become of a message here, and no message of the wire")

    def _build(self, fields: Any, binder: Binder, max_depth: int) -> HubMessage | None:
        """Return the message of a record that is in order as far as its types go; None if it must be read slowly."""
        if fields.type > 6:
            if isinstance(fields, _Close):
                return Close(error=fields.error, allow_reconnect=fields.allow_reconnect)
            return _numbered(fields.type, fields.sequence_id)
        headers: Headers = fields.headers
        if headers and ("" in headers or "" in headers.values()):
            return None
        if not fields.invocation_id and fields.type != 1:
            return None
        if isinstance(fields, _Call):
            if not fields.target or "" in fields.stream_ids:
                return None
            arguments, error = self._bind(fields.target, fields.arguments, binder, max_depth)
            if error is not None:
                return _bad_call(fields.invocation_id, fields.target, error)
            return _call(
                fields.type, headers, fields.invocation_id, fields.target, arguments, fields.stream_ids or None
            )
        if isinstance(fields, _Item):
            return self._item(headers, fields.invocation_id, fields.item, binder, max_depth)
        if isinstance(fields, _Cancel):
            return CancelInvocation(headers=headers or None, invocation_id=fields.invocation_id)
        return self._completion(headers, fields, binder, max_depth)

    def _completion(self, headers: Headers, fields: _Completed, binder: Binder, max_depth: int) -> Completion | None:
        if fields.kind == _VOID:
            return Completion(headers=headers or None, invocation_id=fields.invocation_id)
        if fields.value is UNSET:
            return None
        if fields.kind == _ERROR:
            error = _decode_text(fields.value)
            return Completion(headers=headers or None, invocation_id=fields.invocation_id, error=error)
        if fields.kind != _VALUE:
            return None
        return self._result(headers, fields.invocation_id, fields.value, binder, max_depth)

    def _read(self, reader: MessagePackReader, binder: Binder, max_depth: int) -> HubMessage | None:
        """Read a record as the reference does; raise `RemoteProtocolError` at its first mistake."""
        length = reader.array()
        kind = reader.integer("messageType", INT32)
        if kind == 6:
            return _PING
        if kind == 7:
            error = reader.text("error")
            return Close(error=error, allow_reconnect=length > 2 and reader.boolean("allowReconnect"))
        if kind in (8, 9):
            return _numbered(kind, reader.integer("sequenceId", INT64))
        if kind not in _NAMES:
            return None
        headers = reader.headers(behind=length - 2)
        invocation_id = reader.text("invocationId") or None
        if invocation_id is None:
            if kind != 1:
                raise RemoteProtocolError(f"Null or empty invocation ID for {_NAMES[kind]} message.")
        elif kind == 5:
            return CancelInvocation(headers=headers or None, invocation_id=invocation_id)
        elif kind == 2:
            return self._item(headers, invocation_id, reader.value(), binder, max_depth)
        elif kind == 3:
            return self._read_completion(reader, headers, invocation_id, binder, max_depth)
        target = reader.text("target")
        if not target:
            raise RemoteProtocolError(f"Null or empty target for {_NAMES[kind]} message.")
        there = reader.is_at_array()
        arguments, failure = self._bind(target, reader.value(), binder, max_depth)
        if isinstance(failure, RemoteProtocolError) and not there:
            failure = RemoteProtocolError(_NO_ARGUMENTS)
        if failure is not None:
            return _bad_call(invocation_id, target, failure)
        return _call(
            kind,
            headers,
            invocation_id,
            target,
            arguments,
            reader.stream_ids() if length > 5 else None,
        )

    def _read_completion(
        self, reader: MessagePackReader, headers: Headers, invocation_id: str, binder: Binder, max_depth: int
    ) -> Completion:
        kind = reader.integer("resultKind", INT32)
        if kind == _ERROR:
            return Completion(headers=headers or None, invocation_id=invocation_id, error=reader.text("error"))
        if kind == _VOID:
            return Completion(headers=headers or None, invocation_id=invocation_id)
        if kind != _VALUE:
            raise RemoteProtocolError("Invalid invocation result kind.")
        return self._result(headers, invocation_id, reader.value(), binder, max_depth)

    def _bind(self, target: str, raw: Raw | None, binder: Binder, max_depth: int) -> tuple[Any, Exception | None]:
        """Return the bound arguments, or the reason why they do not bind."""
        try:
            shape = binder.arguments_shape(target)
        except HubError as error:
            return (), error
        try:
            return self._decode_payload(raw, shape, max_depth), None
        except Exception as error:
            return self._bind_fewer(raw, shape, error, max_depth)

    def _bind_fewer(
        self, raw: Raw | None, shape: Shape, error: Exception, max_depth: int
    ) -> tuple[Any, Exception | None]:
        """Bind what did not bind as it is. The reference counts the arguments before it reads the first one."""
        if raw is None or isinstance(error, _TooDeep):
            return (), RemoteProtocolError(BINDING_ERROR)
        count = MessagePackReader(bytes(raw)).array_length()
        if count is None:
            return (), RemoteProtocolError(_NO_ARGUMENTS)
        fewer = shape.first(count)
        if fewer is not None:
            try:
                return self._decode_payload(raw, fewer, max_depth), None
            except Exception as other:
                error = other
        elif shape.length is not None and count != shape.length:
            text = f"Invocation provides {count} argument(s) but target expects {shape.length}."
            return (), RemoteProtocolError(text)
        wrong = RemoteProtocolError(BINDING_ERROR)
        wrong.__cause__ = error
        return (), wrong

    def _item(
        self, headers: Headers, stream_id: str, raw: Raw | None, binder: Binder, max_depth: int
    ) -> StreamItem | StreamBindingFailure:
        try:
            shape = binder.item_shape(stream_id)
        except HubError as error:
            return StreamBindingFailure(invocation_id=stream_id, error=error)
        try:
            item = self._decode_payload(raw, shape, max_depth)
        except Exception as error:
            return StreamBindingFailure(
                invocation_id=stream_id, error=RemoteProtocolError(_unfit("item", shape, error))
            )
        return StreamItem(headers=headers or None, invocation_id=stream_id, item=item)

    def _result(
        self, headers: Headers, invocation_id: str, raw: Raw | None, binder: Binder, max_depth: int
    ) -> Completion:
        try:
            shape = binder.result_shape(invocation_id)
        except HubError:
            if raw is None:
                raise past_the_end() from None
            return Completion(headers=headers or None, invocation_id=invocation_id, result=None)
        try:
            result = self._decode_payload(raw, shape, max_depth)
        except Exception as error:
            text = f"Error trying to deserialize result to {shape.name}. {_unfit('argument', shape, error)}"
            return Completion(headers=headers or None, invocation_id=invocation_id, error=text)
        return Completion(headers=headers or None, invocation_id=invocation_id, result=result)

    def _decode_payload(self, raw: Raw | None, shape: Shape, max_depth: int) -> Any:
        """Raises an exception of whatever kind for what does not fit, as `PayloadFormat.decoder` says."""
        if raw is None:
            raise ValueError("it is cut off")
        if is_deeper(raw, max_depth - 1):
            raise _TooDeep(f"it is nested deeper than {max_depth} levels")
        decoder = shape.decoders.get(self._payloads)
        if decoder is None:
            decoder = shape.decoders[self._payloads] = self._payloads.decoder(shape.type)
        try:
            return decoder(raw)
        except ValueError as error:
            mended = mend(raw, error)
            if mended is None:
                raise
            return decoder(mended)


_NAMES = {
    1: "Invocation",
    2: "StreamItem",
    3: "Completion",
    4: "StreamInvocation",
    5: "CancelInvocation",
}


def _call(
    kind: int,
    headers: Headers,
    invocation_id: str | None,
    target: str,
    arguments: Any,
    stream_ids: tuple[str, ...] | None,
) -> Invocation | StreamInvocation:
    if kind == 1:
        return Invocation(
            headers=headers or None,
            invocation_id=invocation_id or None,
            target=target,
            arguments=arguments,
            stream_ids=stream_ids,
        )
    assert invocation_id is not None
    return StreamInvocation(
        headers=headers or None,
        invocation_id=invocation_id,
        target=target,
        arguments=arguments,
        stream_ids=stream_ids,
    )


def _bad_call(invocation_id: str | None, target: str, error: Exception) -> InvocationBindingFailure:
    return InvocationBindingFailure(invocation_id=invocation_id or None, target=target, error=error)


def _numbered(kind: int, sequence_id: int) -> Ack | SequenceMessage:
    return Ack(sequence_id=sequence_id) if kind == 8 else SequenceMessage(sequence_id=sequence_id)


def _unfit(what: str, shape: Shape, error: Exception) -> str:
    text = f"Deserializing object of the `{shape.name}` type for '{what}' failed."
    return f"{text} {error}" if isinstance(error, msgspec.ValidationError) else text
