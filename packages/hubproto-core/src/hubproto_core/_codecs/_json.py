"""The JSON hub protocol (SPEC 2.2): read as System.Text.Json reads it, written as it writes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from .._binding import Binder, Shape
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
from ._json_text import check_text, dotnet_text, read_members
from ._names import decoder_for
from ._naming import Rename

__all__ = ["JsonCodec"]

_BRACKET = ord("[")
_INT32 = range(-(2**31), 2**31)
_BINDING_ERROR = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)


class _Record(Struct, gc=False):
    """Every member of every message: types are checked even where a message has no use for the member."""

    type: int | UnsetType = UNSET
    invocationId: str | UnsetType = UNSET  # noqa: N815 - the wire's name
    target: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    streamIds: tuple[str, ...] | UnsetType = UNSET  # noqa: N815
    item: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    allowReconnect: bool | UnsetType = UNSET  # noqa: N815
    sequenceId: int | UnsetType | None = UNSET  # noqa: N815


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_elements = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class JsonCodec:
    """The `json` protocol, versions 1 and 2.

    `rename` says how members of objects are called on the wire: "camel" by default, as in .NET; they are read in any
    case. `enc_hook(value)` turns a value of a type of your own into one that can be written; `dec_hook(type, value)`
    makes a value of such a type from what has arrived, or raises ValueError.
    """

    __slots__ = ("_payloads",)

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

    def next_record(self, buffer: RecordBuffer, limit: int | None) -> bytes | None:
        """Take one record, up to its 0x1E."""
        return buffer.take_text(limit)

    def decode(self, record: bytes, binder: Binder, max_depth: int) -> HubMessage | None:
        """Decode one record (SPEC 2.2.1, 2.2.2)."""
        try:
            if b"\\u" in record or not record.isascii() or record.count(b"[") + record.count(b"{") > max_depth:
                record = check_text(record, max_depth)
            fields = _decode_record(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            _explain(record)
        if fields.arguments is not UNSET and memoryview(fields.arguments)[0] != _BRACKET:
            _explain(record)
        decode = _DECODERS.get(fields.type)  # type: ignore[arg-type]  # UNSET is no key
        if decode is None:
            if fields.type is UNSET or fields.type not in _INT32:
                _explain(record)
            return None
        return decode(fields, record, binder)

    def encode(self, message: HubMessage) -> bytes:
        """Encode one message with its 0x1E, members in the order of SPEC 2.2.3."""
        try:
            data = _encode(self._prepared(message))
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise LocalProtocolError(f"{type(message).__name__} cannot be written as JSON: {error}") from error
        return dotnet_text(data) + RECORD_SEPARATOR

    def _prepared(self, message: HubMessage) -> HubMessage:
        """Return the message with its payload as msgspec must be given it, and without what .NET leaves out."""
        write = self._payloads.write
        match message:
            case Invocation():
                return Invocation(
                    headers=message.headers or None,
                    invocation_id=message.invocation_id or None,
                    target=message.target,
                    arguments=[write(argument) for argument in message.arguments],
                    stream_ids=message.stream_ids,
                )
            case StreamItem():
                return StreamItem(
                    headers=message.headers or None,
                    invocation_id=message.invocation_id,
                    item=write(message.item),
                )
            case Completion():
                return Completion(
                    headers=message.headers or None,
                    invocation_id=message.invocation_id,
                    error=message.error or None,
                    result=write(message.result),
                )
            case StreamInvocation():
                return StreamInvocation(
                    headers=message.headers or None,
                    invocation_id=message.invocation_id,
                    target=message.target,
                    arguments=[write(argument) for argument in message.arguments],
                    stream_ids=message.stream_ids,
                )
        return message


def _explain(record: bytes) -> NoReturn:
    """Raise the reference's words for a record that is no message."""
    members = read_members(record)
    for name, value in members.items():
        kind = _MEMBER_KINDS.get(name)
        if kind is not None:
            kind(name, bytes(value))
    raise RemoteProtocolError("Missing required property 'type'.")


def _expect_string(name: str, value: bytes) -> None:
    if value[:1] != b'"':
        raise RemoteProtocolError(f"Expected '{name}' to be of type String.")


def _expect_array(name: str, value: bytes) -> None:
    if value[:1] != b"[":
        raise RemoteProtocolError(f"Expected '{name}' to be of type Array.")


def _expect_number(name: str, value: bytes) -> None:
    if name == "sequenceId" and value == b"null":
        return
    if value[:1] not in b"-0123456789":
        raise RemoteProtocolError(f"Expected '{name}' to be of type Number.")
    limit = 2**63 if name == "sequenceId" else 2**31
    if not re.fullmatch(rb"-?[0-9]+", value) or not -limit <= int(value[:32]) < limit:
        raise RemoteProtocolError(f"The value of '{name}' is not an integer in range.", kind="FormatException")


def _expect_bool(name: str, value: bytes) -> None:
    if value not in (b"true", b"false"):
        raise RemoteProtocolError(f"Expected '{name}' to be true or false.")


def _expect_string_array(name: str, value: bytes) -> None:
    _expect_array(name, value)
    for element in _decode_elements(value):
        if bytes(element) == b"null":
            raise RemoteProtocolError(f"Null value for '{name}' is not valid.")
        if bytes(element)[:1] != b'"':
            raise RemoteProtocolError("Error reading JSON.")


def _expect_headers(name: str, value: bytes) -> None:
    if value[:1] != b"{":
        raise RemoteProtocolError(f"Expected '{name}' to be of type StartObject.")
    for key, header in read_members(value).items():
        if bytes(header)[:1] != b'"':
            raise RemoteProtocolError(f"Expected header '{key}' to be of type String.")


_MEMBER_KINDS = {
    "type": _expect_number,
    "invocationId": _expect_string,
    "target": _expect_string,
    "error": _expect_string,
    "arguments": _expect_array,
    "streamIds": _expect_string_array,
    "headers": _expect_headers,
    "allowReconnect": _expect_bool,
    "sequenceId": _expect_number,
}


def _required(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"Missing required property '{name}'.")


def _headers(fields: _Record) -> dict[str, str] | None:
    return fields.headers or None


def _id(fields: _Record) -> str:
    if not fields.invocationId:
        raise _required("invocationId")
    return fields.invocationId


def _decode_payload(raw: Raw, shape: Shape) -> Any:
    decoder = shape.decoders.get("json")
    if decoder is None:
        decoder = shape.decoders["json"] = decoder_for(shape.type)
    return decoder(raw)


def _decode_arguments(raw: Raw, shape: Shape) -> Any:
    try:
        return _decode_payload(raw, shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        elements = _decode_elements(raw)
        types = shape.type.__args__ if shape.length is not None else ()
        for element, expected in zip(elements, types, strict=False):
            try:
                msgspec.json.decode(element, type=expected)
            except (ValueError, RecursionError):
                break  # a wrong type is reported before a wrong count
        else:
            if len(elements) != shape.length and shape.length is not None:
                raise RemoteProtocolError(
                    f"Invocation provides {len(elements)} argument(s) but target expects {shape.length}."
                ) from error
        raise RemoteProtocolError(_BINDING_ERROR) from error


def _decode_call(fields: _Record, binder: Binder) -> tuple[Any, Exception | None]:
    """Return the bound arguments, or the reason why they do not bind."""
    if not fields.target:
        raise _required("target")
    if fields.arguments is UNSET:
        raise _required("arguments")
    try:
        return _decode_arguments(fields.arguments, binder.arguments_shape(fields.target)), None
    except (HubError, RemoteProtocolError) as error:
        return (), error


def _invocation(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    invocation_id = fields.invocationId or None
    arguments, error = _decode_call(fields, binder)
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


def _stream_invocation(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    message = _invocation(fields, record, binder)
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


def _stream_item(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    invocation_id = _id(fields)
    if fields.item is UNSET:
        raise _required("item")
    try:
        item = _decode_payload(fields.item, binder.item_shape(invocation_id))
    except HubError as error:
        return StreamBindingFailure(invocation_id=invocation_id, error=error)
    except (ValueError, RecursionError) as error:
        wrong = RemoteProtocolError(str(error), kind="JsonException")
        return StreamBindingFailure(invocation_id=invocation_id, error=wrong)
    return StreamItem(headers=_headers(fields), invocation_id=invocation_id, item=item)


def _completion(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
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
            result = _decode_payload(fields.result, shape)
        except (ValueError, RecursionError) as wrong:
            type_name = getattr(shape.type, "__name__", str(shape.type))
            error = f"Error trying to deserialize result to {type_name}. {wrong}"
    return Completion(headers=_headers(fields), invocation_id=invocation_id, error=error, result=result)


def _cancel(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    return CancelInvocation(headers=_headers(fields), invocation_id=_id(fields))


_PING = Ping()


def _ping(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    return _PING


def _close(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    return Close(
        error=None if fields.error is UNSET else fields.error,
        allow_reconnect=fields.allowReconnect is True,
    )


def _sequence_id(fields: _Record, record: bytes) -> int:
    if not isinstance(fields.sequenceId, int):
        raise _required("sequenceId")
    if not -(2**63) <= fields.sequenceId < 2**63:
        _explain(record)
    return fields.sequenceId


def _ack(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    return Ack(sequence_id=_sequence_id(fields, record))


def _sequence(fields: _Record, record: bytes, binder: Binder) -> HubMessage:
    return SequenceMessage(sequence_id=_sequence_id(fields, record))


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
