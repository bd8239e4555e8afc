"""The JSON hub protocol (SPEC 2.2): read as System.Text.Json reads it, written as it writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .._binding import BINDING_ERROR, Binder, Shape
from .._errors import HubError, LocalProtocolError, RemoteProtocolError
from .._framing import RECORD_SEPARATOR, RecordBuffer
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
from ._json_payloads import JsonPayloads
from ._json_reader import JsonReader, MalformedJson
from ._json_text import dotnet_text, is_plain, repaired
from ._naming import Rename

__all__ = ["JsonCodec"]

_BRACKET = ord("[")
_ARGUMENTS = b'"arguments"'
_TARGET = b'"target"'


class _Record(Struct, gc=False):
    """Every member of every message: types are checked even where a message has no use for the member."""

    type: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | UnsetType = UNSET
    invocationId: str | UnsetType = UNSET  # noqa: N815 - the wire's name
    target: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    streamIds: tuple[str, ...] | UnsetType = UNSET  # noqa: N815
    item: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    allowReconnect: bool | UnsetType = UNSET  # noqa: N815
    sequenceId: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType | None = UNSET  # noqa: N815


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_elements = msgspec.json.Decoder(list[Raw]).decode


class JsonCodec:
    """The `json` protocol, versions 1 and 2.

    `rename` says how members of objects are called on the wire: "camel" by default, as in .NET; they are read in any
    case. `enc_hook(value)` turns a value of a type of your own into one that can be written; `dec_hook(type, value)`
    makes a value of such a type from what has arrived, or raises ValueError.
    """

    __slots__ = ("_encode", "_payloads")

    name: Literal["json"] = "json"
    version: Literal[2] = 2
    transfer_format: Literal["text"] = "text"

    def __init__(
        self,
        *,
        rename: Rename = "camel",
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
    ) -> None:
        self._payloads = JsonPayloads.of(rename, enc_hook, dec_hook)
        self._encode = msgspec.json.Encoder(enc_hook=self._payloads.write_custom).encode

    def member_name(self, name: str) -> str:
        """Return how a member of an object is called on the wire, by its declared name."""
        return self._payloads.wire_name(name)

    def next_record(self, buffer: RecordBuffer, limit: int | None) -> bytes | None:
        """Take one record, up to its 0x1E."""
        return buffer.take_text(limit)

    def decode(self, record: bytes, binder: Binder, max_depth: int) -> HubMessage | None:
        """Decode one record (SPEC 2.2.1, 2.2.2)."""
        suspect = (  # `find` is quicker than `in`
            not record.isascii() or record.find(b"\\u") >= 0 or record.count(b"[") + record.count(b"{") > max_depth
        )
        if suspect and not is_plain(record, max_depth):
            return _decode_in_order(record, self._payloads, binder, max_depth)
        try:
            fields = _decode_record(record)
        except (msgspec.DecodeError, RecursionError):
            return _decode_in_order(record, self._payloads, binder, max_depth)
        if fields.arguments is not UNSET and not _are_one_array_for_one_target(fields.arguments, record):
            return _decode_in_order(record, self._payloads, binder, max_depth)
        if fields.item is not UNSET and fields.type != 2:  # the reference binds it all the same
            return _decode_in_order(record, self._payloads, binder, max_depth)
        decode = _DECODERS.get(fields.type)  # type: ignore[arg-type]  # UNSET is no key
        if decode is not None:
            return decode(fields, self._payloads, binder)
        return _decode_in_order(record, self._payloads, binder, max_depth) if fields.type is UNSET else None

    def encode(self, message: HubMessage) -> bytes:
        """Encode one message with its 0x1E, members in the order of SPEC 2.2.3."""
        try:
            data = self._encode(self._prepared(message))
        except Exception as error:  # hooks and properties of the user's run here
            raise LocalProtocolError(f"{type(message).__name__} cannot be written as JSON: {error}") from error
        return dotnet_text(data) + RECORD_SEPARATOR

    def _prepared(self, message: HubMessage) -> HubMessage:
        """Return the message with its payload as msgspec must be given it, and without what .NET leaves out."""
        write = self._payloads.write
        if isinstance(message, StreamItem):
            headers = message.headers or None
            item = write(message.item)
            if item is message.item and headers is message.headers:
                return message
            return StreamItem(headers=headers, invocation_id=message.invocation_id, item=item)
        if isinstance(message, Completion):
            headers = message.headers or None
            result = write(message.result)
            error = message.error or None
            if result is message.result and error is message.error and headers is message.headers:
                return message
            return Completion(headers=headers, invocation_id=message.invocation_id, error=error, result=result)
        if isinstance(message, Invocation):
            return Invocation(
                headers=message.headers or None,
                invocation_id=message.invocation_id or None,
                target=message.target,
                arguments=[write(argument) for argument in message.arguments],
                stream_ids=message.stream_ids,
            )
        if isinstance(message, StreamInvocation):
            return StreamInvocation(
                headers=message.headers or None,
                invocation_id=message.invocation_id,
                target=message.target,
                arguments=[write(argument) for argument in message.arguments],
                stream_ids=message.stream_ids,
            )
        return message


def _are_one_array_for_one_target(arguments: Raw, record: bytes) -> bool:
    """Whether the arguments are an array, and they and their target come once: of several, msgspec tells the last."""
    if memoryview(arguments)[0] != _BRACKET:
        return False
    if record.count(_ARGUMENTS) == 1 == record.count(_TARGET):
        return True
    inside = bytes(arguments)
    return all(record.count(name) == inside.count(name) + 1 for name in (_ARGUMENTS, _TARGET))


def _decode_in_order(record: bytes, payloads: JsonPayloads, binder: Binder, max_depth: int) -> HubMessage | None:
    """Decode a record as the reference does, member by member up to the first mistake.

    What comes behind the object does not matter, nor what is in a member that nobody knows. An item that does not bind,
    or is no JSON, is a failure of its stream only, whatever follows, where the record has told its stream by then.
    """
    fields = _Record()
    try:
        failure = _read_members(JsonReader(record, max_depth, _NAMES), fields, payloads, binder)
    except MalformedJson as error:
        raise RemoteProtocolError("Error reading JSON.") from error
    if isinstance(failure, StreamBindingFailure):
        return failure
    if failure is not None and fields.target and (fields.type == 1 or fields.type == 4):
        return InvocationBindingFailure(invocation_id=fields.invocationId or None, target=fields.target, error=failure)
    if fields.type is UNSET:
        raise _required("type")
    decode = _DECODERS.get(fields.type)
    return None if decode is None else decode(fields, payloads, binder)


def _read_members(
    reader: JsonReader, fields: _Record, payloads: JsonPayloads, binder: Binder
) -> StreamBindingFailure | Exception | None:
    """Fill in the fields. Return why any of the arguments do not bind: the reference binds them each time they come."""
    failure: Exception | None = None
    early: Raw | None = None  # arguments whose target was not known yet
    reader.read_object()
    while (name := reader.read_name()) is not None:
        if name == "item":
            lost = _read_item(reader, fields, payloads, binder)
            if lost is not None:
                return lost
        elif name == "arguments":
            fields.arguments = _read_arguments(reader)
            if fields.target:
                failure = _decode_call(fields, payloads, binder)[1] or failure
            else:
                early = fields.arguments
        elif name in _MEMBERS:
            _MEMBERS[name](reader, fields)
        else:
            reader.read()
            reader.skip()
    if early is not None and fields.target:
        last, fields.arguments = fields.arguments, early
        failure = _decode_call(fields, payloads, binder)[1] or failure
        fields.arguments = last
    return failure


def _read_item(
    reader: JsonReader, fields: _Record, payloads: JsonPayloads, binder: Binder
) -> StreamBindingFailure | None:
    reader.read()
    try:
        fields.item = Raw(reader.value())
    except MalformedJson as error:
        if not fields.invocationId:
            raise
        wrong = RemoteProtocolError("Error reading JSON.", kind="JsonException")
        wrong.__cause__ = error
        return StreamBindingFailure(invocation_id=fields.invocationId, error=wrong)
    message = _stream_item(fields, payloads, binder) if fields.invocationId else None
    return message if isinstance(message, StreamBindingFailure) else None


def _read_arguments(reader: JsonReader) -> Raw:
    if reader.read() != "StartArray":
        raise RemoteProtocolError("Expected 'arguments' to be of type Array.")
    return Raw(reader.value())


def _read_type(reader: JsonReader, fields: _Record) -> None:
    number = reader.read_integer("type", 32)
    if number is None:
        raise RemoteProtocolError("Expected 'type' to be of type Number.")
    fields.type = number


def _read_invocation_id(reader: JsonReader, fields: _Record) -> None:
    fields.invocationId = reader.read_string("invocationId")


def _read_target(reader: JsonReader, fields: _Record) -> None:
    fields.target = reader.read_string("target")


def _read_stream_ids(reader: JsonReader, fields: _Record) -> None:
    if reader.read() != "StartArray":
        raise RemoteProtocolError("Expected 'streamIds' to be of type Array.")
    stream_ids: list[str] = []
    while (kind := reader.read()) != "EndArray":
        if kind == "Null":
            raise RemoteProtocolError("Null value for 'streamIds' is not valid.")
        stream_ids.append(reader.text())
    fields.streamIds = tuple(stream_ids)


def _read_result(reader: JsonReader, fields: _Record) -> None:
    reader.read()
    fields.result = Raw(reader.value())


def _read_error(reader: JsonReader, fields: _Record) -> None:
    fields.error = reader.read_string("error")


def _read_headers(reader: JsonReader, fields: _Record) -> None:
    if reader.read() != "StartObject":
        raise RemoteProtocolError("Expected 'headers' to be of type StartObject.")
    headers: dict[str, str] = {}
    while reader.read() != "EndObject":
        name = reader.text()
        if reader.read() != "String":
            raise RemoteProtocolError(f"Expected header '{name}' to be of type String.")
        headers[name] = reader.text()
    fields.headers = headers


def _read_allow_reconnect(reader: JsonReader, fields: _Record) -> None:
    fields.allowReconnect = reader.read_boolean("allowReconnect")


def _read_sequence_id(reader: JsonReader, fields: _Record) -> None:
    fields.sequenceId = reader.read_integer("sequenceId", 64)


_MEMBERS: dict[str, Callable[[JsonReader, _Record], None]] = {
    "type": _read_type,
    "invocationId": _read_invocation_id,
    "target": _read_target,
    "streamIds": _read_stream_ids,
    "result": _read_result,
    "error": _read_error,
    "headers": _read_headers,
    "allowReconnect": _read_allow_reconnect,
    "sequenceId": _read_sequence_id,
}
_NAMES = [name.encode() for name in (*_MEMBERS, "item", "arguments")]


def _required(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"Missing required property '{name}'.")


def _headers(fields: _Record) -> dict[str, str] | None:
    return fields.headers or None


def _id(fields: _Record) -> str:
    if not fields.invocationId:
        raise _required("invocationId")
    return fields.invocationId


def _decode_payload(raw: Raw, shape: Shape, payloads: JsonPayloads) -> Any:
    """Raises an exception of whatever kind for what does not fit, as `PayloadFormat.decoder` says."""
    decoder = shape.decoders.get(payloads)
    if decoder is None:
        decoder = shape.decoders[payloads] = payloads.decoder(shape.type)
    try:
        return decoder(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if not _takes_anything(shape.type):
            raise
    return decoder(repaired(bytes(raw)))


def _takes_anything(type: Any) -> bool:  # noqa: A002 - it is one
    """Whether this, or all that is in it, is of no declared type: such values are not refused for their text."""
    return type is Any or (get_origin(type) is tuple and all(one is Any or one is ... for one in get_args(type)))


def _decode_arguments(raw: Raw, shape: Shape, payloads: JsonPayloads) -> Any:
    try:
        return _decode_payload(raw, shape, payloads)
    except Exception as error:
        try:
            elements = _decode_elements(raw)
        except (msgspec.DecodeError, RecursionError):  # half a surrogate pair: JSON for the reference, no text
            raise RemoteProtocolError(BINDING_ERROR) from error
        shorter = shape.first(len(elements))
        if shorter is not None:
            return _decode_arguments(raw, shorter, payloads)
        types = shape.type.__args__ if shape.length is not None else ()
        values: list[Any] = []
        for element, expected in zip(elements, types, strict=False):
            try:
                values.append(_decode_payload(element, Shape.of(expected), payloads))
            except Exception:
                break  # a wrong type is reported before a wrong count
        else:
            if len(elements) != shape.length and shape.length is not None:
                raise RemoteProtocolError(
                    f"Invocation provides {len(elements)} argument(s) but target expects {shape.length}."
                ) from error
            if values:  # those of no declared type have been repaired
                return tuple(values)
        raise RemoteProtocolError(BINDING_ERROR) from error


def _decode_call(fields: _Record, payloads: JsonPayloads, binder: Binder) -> tuple[Any, Exception | None]:
    """Return the bound arguments, or the reason why they do not bind."""
    if not fields.target:
        raise _required("target")
    if fields.arguments is UNSET:
        raise _required("arguments")
    try:
        return _decode_arguments(fields.arguments, binder.arguments_shape(fields.target), payloads), None
    except (HubError, RemoteProtocolError) as error:
        return (), error


def _invocation(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    invocation_id = fields.invocationId or None
    arguments, error = _decode_call(fields, payloads, binder)
    target: str = fields.target  # type: ignore[assignment]  # checked by _decode_call
    if error is not None:
        return InvocationBindingFailure(invocation_id=invocation_id, target=target, error=error)
    stream_ids = None if fields.streamIds is UNSET else fields.streamIds
    return Invocation(
        headers=_headers(fields),
        invocation_id=invocation_id,
        target=target,
        arguments=arguments,
        stream_ids=stream_ids,
    )


def _stream_invocation(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    if fields.target == "" or (fields.target is not UNSET and fields.arguments is UNSET):
        _id(fields)  # is looked for before either of these
    message = _invocation(fields, payloads, binder)
    if isinstance(message, InvocationBindingFailure):
        return message
    assert isinstance(message, Invocation)
    return StreamInvocation(
        headers=message.headers,
        invocation_id=_id(fields),
        target=message.target,
        arguments=message.arguments,
        stream_ids=message.stream_ids,
    )


def _stream_item(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    invocation_id = _id(fields)
    if fields.item is UNSET:
        raise _required("item")
    try:
        item = _decode_payload(fields.item, binder.item_shape(invocation_id), payloads)
    except HubError as error:
        return StreamBindingFailure(invocation_id=invocation_id, error=error)
    except Exception as error:
        wrong = RemoteProtocolError(str(error), kind="JsonException")
        return StreamBindingFailure(invocation_id=invocation_id, error=wrong)
    return StreamItem(headers=_headers(fields), invocation_id=invocation_id, item=item)


def _completion(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    invocation_id = _id(fields)
    error = None if fields.error is UNSET else fields.error
    result: Any = UNSET
    if fields.result is not UNSET:
        if error is not None:
            raise RemoteProtocolError("The 'error' and 'result' properties are mutually exclusive.")
        try:
            shape = binder.result_shape(invocation_id)
        except HubError:
            return Completion(headers=_headers(fields), invocation_id=invocation_id, result=None)
        try:
            result = _decode_payload(fields.result, shape, payloads)
        except Exception as wrong:
            error = f"Error trying to deserialize result to {shape.name}. {wrong}"
    return Completion(headers=_headers(fields), invocation_id=invocation_id, error=error, result=result)


def _cancel(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    return CancelInvocation(headers=_headers(fields), invocation_id=_id(fields))


_PING = Ping()


def _ping(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    return _PING


def _close(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    return Close(
        error=None if fields.error is UNSET else fields.error,
        allow_reconnect=fields.allowReconnect is True,
    )


def _sequence_id(fields: _Record) -> int:
    if not isinstance(fields.sequenceId, int):
        raise _required("sequenceId")
    return fields.sequenceId


def _ack(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    return Ack(sequence_id=_sequence_id(fields))


def _sequence(fields: _Record, payloads: JsonPayloads, binder: Binder) -> HubMessage:
    return SequenceMessage(sequence_id=_sequence_id(fields))


_DECODERS = {
    1: _invocation,
    2: _stream_item,
    3: _completion,
    4: _stream_invocation,
    5: _cancel,
    6: _ping,
    7: _close,
    8: _ack,
    9: _sequence,
}
