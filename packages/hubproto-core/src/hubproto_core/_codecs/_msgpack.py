"""The MessagePack hub protocol (SPEC 2.3): read as the reference reads it, element by element, written as it writes it.

What is in order is decoded by msgspec in one call. Anything else goes to `_Reader`, which reads a record as far as the
reference does: it stops at the first mistake with the reference's words, and does not look at what is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgpack  # type: ignore[import-untyped]
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .._binding import Binder, Shape
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
from ._msgpack_payloads import MessagePackPayloads
from ._naming import Rename

__all__ = ["MessagePackCodec"]

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_ERROR, _VOID, _VALUE = 1, 2, 3  # the kinds of completions
_BINDING_ERROR = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)  # what Unpacker raises

Headers = dict[str, str]


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
    sequence_id: Annotated[int, Meta(le=_INT64.stop - 1)]


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
_decode_elements = msgspec.msgpack.Decoder(list[Raw]).decode
_PING = Ping()
_PING_RECORD = b"\x91\x06"


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
        return self._read(_Reader(record), binder, max_depth)

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

    def _read(self, reader: _Reader, binder: Binder, max_depth: int) -> HubMessage | None:
        """Read a record as the reference does; raise `RemoteProtocolError` at its first mistake."""
        length = reader.array()
        kind = reader.integer("messageType", _INT32)
        if kind == 6:
            return _PING
        if kind == 7:
            error = reader.text("error")
            return Close(error=error, allow_reconnect=length > 2 and reader.boolean("allowReconnect"))
        if kind in (8, 9):
            return _numbered(kind, reader.integer("sequenceId", _INT64))
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
        arguments, failure = self._bind(target, reader.value(), binder, max_depth)
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
        self, reader: _Reader, headers: Headers, invocation_id: str, binder: Binder, max_depth: int
    ) -> Completion:
        kind = reader.integer("resultKind", _INT32)
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
            return (), _why_arguments_do_not_bind(raw, shape, error)

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
            return Completion(headers=headers or None, invocation_id=invocation_id, result=None)
        try:
            result = self._decode_payload(raw, shape, max_depth)
        except Exception as error:
            text = f"Error trying to deserialize result to {_type_name(shape)}. {_unfit('argument', shape, error)}"
            return Completion(headers=headers or None, invocation_id=invocation_id, error=text)
        return Completion(headers=headers or None, invocation_id=invocation_id, result=result)

    def _decode_payload(self, raw: Raw | None, shape: Shape, max_depth: int) -> Any:
        """Raises an exception of whatever kind for what does not fit, as `PayloadFormat.decoder` says."""
        if raw is None:
            raise ValueError("it is cut off")
        if _is_deeper(raw, max_depth - 1):
            raise ValueError(f"it is nested deeper than {max_depth} levels")
        decoder = shape.decoders.get(self._payloads)
        if decoder is None:
            decoder = shape.decoders[self._payloads] = self._payloads.decoder(shape.type)
        try:
            return decoder(raw)
        except UnicodeDecodeError:
            return decoder(_repaired(raw))
        except ValueError:
            data = bytes(raw)
            if _LAST_TICK not in data:
                raise
            return decoder(data.replace(_LAST_TICK, _LAST_MICROSECOND))


class _Reader:
    """Reads the elements of one record in order. Raises `RemoteProtocolError` for what is not what it must be."""

    __slots__ = ("_record", "_unpacker")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=len(record) or 1, use_list=False, strict_map_key=False, unicode_errors="replace"
        )
        self._unpacker.feed(record)

    def array(self) -> int:
        """The length of the array that is the message."""
        if not self._record:
            raise _past_the_end()
        try:
            length: int = self._unpacker.read_array_header()
        except msgpack.OutOfData as error:
            raise _past_the_end() from error
        except _UNREADABLE as error:
            raise _unexpected(self._record[0]) from error
        if self._left() < length:
            raise _past_the_end()
        return length

    def integer(self, name: str, allowed: range) -> int:
        value = self._next()
        if type(value) is not int or value not in allowed:
            raise RemoteProtocolError(f"Reading '{name}' as Int{32 if allowed is _INT32 else 64} failed.")
        return value

    def text(self, name: str) -> str | None:
        value = self._next()
        if value is not None and not isinstance(value, str):
            raise RemoteProtocolError(f"Reading '{name}' as String failed.")
        return value

    def boolean(self, name: str) -> bool:
        value = self._next()
        if not isinstance(value, bool):
            raise RemoteProtocolError(f"Reading '{name}' as Boolean failed.")
        return value

    def headers(self, behind: int) -> Headers:
        """The headers; `behind` is how many elements the message has after them."""
        count = self._length(self._unpacker.read_map_header, 2, behind)
        if count is None:
            raise RemoteProtocolError("Reading map length for 'headers' failed.")
        headers: Headers = {}
        for i in range(count):
            key = self.text(f"headers[{i}].Key")
            if not key:
                raise RemoteProtocolError("Null or empty key in header.")
            value = self.text(f"headers[{i}].Value")
            if not value:
                raise RemoteProtocolError("Null or empty value in header.")
            headers[key] = value
        return headers

    def stream_ids(self) -> tuple[str, ...] | None:
        """The ids of uploads, None if there are none."""
        count = self._length(self._unpacker.read_array_header, 1, 0)
        if count is None:
            raise RemoteProtocolError("Reading array length for 'streamIds' failed.")
        stream_ids = []
        for _ in range(count):
            start = self._unpacker.tell()
            try:
                stream_id = self._unpacker.unpack()
            except _UNREADABLE as error:
                raise _past_the_end() from error
            if stream_id is not None and not isinstance(stream_id, str):
                raise _unexpected(self._record[start])
            if not stream_id:
                raise RemoteProtocolError("Null or empty value in streamIds received.")
            stream_ids.append(stream_id)
        return tuple(stream_ids) or None

    def value(self) -> Raw | None:
        """The next value, unread; None if there is none."""
        start = self._unpacker.tell()
        try:
            self._unpacker.skip()
        except _UNREADABLE:
            return None
        return Raw(self._record[start : self._unpacker.tell()])

    def _next(self) -> Any:
        """The next value; something of no expected type if there is none."""
        try:
            return self._unpacker.unpack()
        except _UNREADABLE:
            return ...

    def _length(self, read: Callable[[], int], values: int, behind: int) -> int | None:
        """The length of an array or a map with so many values an entry; None if there cannot be enough bytes for them
        and for the elements behind."""
        try:
            length = read()
        except _UNREADABLE:
            return None
        return length if length * values + max(behind, 0) <= self._left() else None

    def _left(self) -> int:
        left: int = len(self._record) - self._unpacker.tell()
        return left


_NAMES = {
    1: "Invocation",
    2: "StreamItem",
    3: "Completion",
    4: "StreamInvocation",
    5: "CancelInvocation",
}


def _past_the_end() -> RemoteProtocolError:
    return RemoteProtocolError("Attempted to read past the end of the stream.", kind="EndOfStreamException")


def _unexpected(code: int) -> RemoteProtocolError:
    if code < 0x80:
        name = "positive fixint"
    elif code < 0xC0:
        name = "fixmap" if code < 0x90 else "fixarray" if code < 0xA0 else "fixstr"
    else:
        name = "negative fixint" if code >= 0xE0 else _FORMATS[code - 0xC0]
    return RemoteProtocolError(
        f"Unexpected msgpack code {code} ({name}) encountered.", kind="MessagePackSerializationException"
    )


_FORMATS = (  # from 0xC0 on
    *("nil", "(never used)", "false", "true"),
    *(f"{kind} {bits}" for kind in ("bin", "ext") for bits in (8, 16, 32)),
    *("float 32", "float 64"),
    *(f"{kind} {bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)),
    *(f"fixext {length}" for length in (1, 2, 4, 8, 16)),
    *("str 8", "str 16", "str 32", "array 16", "array 32", "map 16", "map 32"),
)


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


def _why_arguments_do_not_bind(raw: Raw | None, shape: Shape, error: Exception) -> RemoteProtocolError:
    """The reference counts the arguments before it reads the first one."""
    try:
        count = len(_decode_elements(raw))  # type: ignore[arg-type]  # None is no bytes either
    except (msgspec.DecodeError, TypeError, RecursionError):
        return RemoteProtocolError(_BINDING_ERROR)
    if shape.length is not None and count != shape.length:
        return RemoteProtocolError(f"Invocation provides {count} argument(s) but target expects {shape.length}.")
    wrong = RemoteProtocolError(_BINDING_ERROR)
    wrong.__cause__ = error
    return wrong


def _type_name(shape: Shape) -> str:
    return "Object" if shape.type is Any else getattr(shape.type, "__name__", str(shape.type))


def _unfit(what: str, shape: Shape, error: Exception) -> str:
    text = f"Deserializing object of the `{_type_name(shape)}` type for '{what}' failed."
    return f"{text} {error}" if isinstance(error, msgspec.ValidationError) else text


# DateTime.MaxValue, a favourite of .NET, would be rounded to the year 10000.
_LAST_TICK = bytes.fromhex("c7 0c ff 3b 9a c9 9c 00 00 00 3a ff f4 41 7f")
_LAST_MICROSECOND = bytes.fromhex("c7 0c ff 3b 9a c6 18 00 00 00 3a ff f4 41 7f")


def _repaired(raw: Raw) -> bytes:
    """The same value with U+FFFD for what is no UTF-8, as the reference reads it."""
    value = msgpack.unpackb(raw, use_list=False, strict_map_key=False, unicode_errors="replace")
    packed: bytes = msgpack.packb(value)
    return packed


_NOT_NESTING = bytes(code for code in range(256) if not (0x80 <= code <= 0x9F or 0xDC <= code <= 0xDF))


def _is_deeper(raw: Raw, levels: int) -> bool:
    """Whether a payload's arrays and maps are nested in each other more than so many levels deep."""
    if memoryview(raw).nbytes <= levels:
        return False
    data = bytes(raw)
    if len(data.translate(None, _NOT_NESTING)) <= levels:
        return False
    around: list[int] = []  # values still to come, of each array and map around the current one
    left = 1  # values still to come here
    position = 0
    while True:
        size, values = _EXTENTS[data[position]] or _extent(data, position)
        position += size
        left -= 1
        if values is not None:
            if len(around) == levels:
                return True
            if values:
                around.append(left)
                left = values
        while not left:
            if not around:
                return False
            left = around.pop()


def _extent(data: bytes, position: int) -> tuple[int, int | None]:
    """Of a value whose length is not in its first byte: its own bytes, and for arrays and maps the values in it."""
    header, length_bytes, values_per_length = _LAYOUTS[data[position]]
    length = int.from_bytes(data[position + 1 : position + 1 + length_bytes])
    return (header + length, None) if values_per_length is None else (header, length * values_per_length)


_LAYOUTS: dict[
    int, tuple[int, int, int | None]
] = {  # the header's bytes, those in it that are a length, values for each
    **dict(zip(range(0xC4, 0xC7), ((2, 1, None), (3, 2, None), (5, 4, None)), strict=True)),  # bin
    **dict(zip(range(0xC7, 0xCA), ((3, 1, None), (4, 2, None), (6, 4, None)), strict=True)),  # ext
    **dict(zip(range(0xD9, 0xDC), ((2, 1, None), (3, 2, None), (5, 4, None)), strict=True)),  # str
    **dict(zip(range(0xDC, 0xE0), ((3, 2, 1), (5, 4, 1), (3, 2, 2), (5, 4, 2)), strict=True)),  # array, map
}
_EXTENTS: list[tuple[int, int | None] | None] = [
    *[(1, None)] * 0x80,  # positive integers
    *[(1, 2 * length) for length in range(16)],  # maps
    *[(1, length) for length in range(16)],  # arrays
    *[(1 + length, None) for length in range(32)],  # str
    *[(1, None)] * 4,  # nil, (never used), false, true
    *[None] * 6,  # bin, ext
    *[(1 + length, None) for length in (4, 8)],  # float
    *[(1 + length, None) for length in (1, 2, 4, 8) * 2],  # unsigned and signed integers
    *[(2 + length, None) for length in (1, 2, 4, 8, 16)],  # ext of fixed lengths
    *[None] * 7,  # str, array, map
    *[(1, None)] * 0x20,  # negative integers
]
