"""What is fuzzed, by name: each target takes any bytes, and fails where the code keeps none of its promises."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

import hubproto_core as hp
from fuzz.endpoint import endpoint
from fuzz.scripts import BINARY, LIMITS, Script, same, tell
from hubproto_core import _handshake
from hubproto_core._codecs._json import _decode_in_order
from hubproto_core._codecs._msgpack_reader import MessagePackReader
from hubproto_core._framing import RecordBuffer

JSON = hp.JsonCodec()
MESSAGE_PACK = hp.MessagePackCodec()
CODECS: list[hp.Codec] = [JSON, MESSAGE_PACK]
MEMBERS = {
    "invocationId": "invocation_id",
    "target": "target",
    "sequenceId": "sequence_id",
    "headers": "headers",
}


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


@dataclass
class Thing:
    kind: Kind
    name: str = ""
    data: bytes = b""
    parts: dict[int, Thing] = field(default_factory=dict)


SHAPES = {
    "Add": hp.Shape.of_arguments((int, int)),
    "Text": hp.Shape.of_arguments((str,)),
    "Many": hp.Shape.of_arguments((dict[str, list[float]], bool | None, bytes)),
    "Times": hp.Shape.of_arguments((datetime.datetime, datetime.timedelta, datetime.date, datetime.time)),
    "Money": hp.Shape.of_arguments((decimal.Decimal, uuid.UUID, hp.Single, hp.Char)),
    "Things": hp.Shape.of_arguments((list[Thing], Kind)),
}
ITEM = hp.Shape(int | str)


class TypedBinder:
    """Some methods have types, most have none, and one is not there."""

    def arguments_shape(self, target: str) -> hp.Shape:
        if target == "Gone":
            raise hp.HubError("Method does not exist.")
        return SHAPES.get(target) or hp.Shape.of(tuple[Any, ...])

    def item_shape(self, stream_id: str) -> hp.Shape:
        return ITEM if stream_id < "5" else hp.Shape.of(Any)

    result_shape = item_shape


BINDER = TypedBinder()


def json_body(data: bytes) -> None:
    """A JSON record: the quick way of reading it comes to the same as the slow one, and as the standard library."""
    try:
        message = JSON.decode(data, BINDER, 64)
    except hp.RemoteProtocolError:
        return
    slow = _decode_in_order(data, JSON._payloads, BINDER, 64)
    assert same(message, slow), f"{message} quickly, {slow} slowly"
    survives(JSON, message)
    try:
        plain = json.loads(data)
    except ValueError:
        return  # it looks at what nobody needs, too
    for name, attribute in MEMBERS.items():
        value, expected = getattr(message, attribute, None), plain.get(name)
        equal = value == expected or not (value or expected)  # what is empty counts as absent
        assert equal or not hasattr(message, attribute), f"{name} of {plain} was read as {value!r}"


def message_pack_body(data: bytes) -> None:
    """A MessagePack record: the quick way of reading it comes to the same as the slow one."""
    try:
        message = MESSAGE_PACK.decode(data, BINDER, 64)
    except hp.RemoteProtocolError:
        return
    slow = MESSAGE_PACK._read(MessagePackReader(data), BINDER, 64)
    assert same(message, slow), f"{message} quickly, {slow} slowly"
    survives(MESSAGE_PACK, message)


def survives(codec: hp.Codec, message: hp.HubMessage | None) -> None:
    """What has been read in whole can be written and read again."""
    if message is None or isinstance(message, hp.InvocationBindingFailure | hp.StreamBindingFailure):
        return
    try:
        written = codec.encode(message)
    except hp.LocalProtocolError:
        return  # documented for what Python cannot hold otherwise: a map with arrays as keys
    buffer = RecordBuffer()
    buffer.append(written)
    again = codec.next_record(buffer, None)
    assert again is not None, "the record is incomplete"
    assert not len(buffer), "there is something behind the record"
    second = codec.decode(again, BINDER, 64)
    if isinstance(message, hp.Completion) and isinstance(second, hp.Completion) and not message.error:
        second = msgspec.structs.replace(second, error=message.error)  # an empty error counts as none
    assert same(second, message), f"{message} was written as {again!r} and read as {second}"


def text_framing(data: bytes) -> None:
    """Records that end with 0x1E."""
    script = Script(data)
    limit = LIMITS[script.flags & 1]
    *records, rest = script.stream.split(b"\x1e")
    good = [len(record) < limit for record in [*records, rest[:-1]]]
    failed = not all(good)
    framing(JSON, script, limit, records[: good.index(False)] if failed else records, failed)


def binary_framing(data: bytes) -> None:
    """Records that have their length before them."""
    script = Script(data)
    limit = LIMITS[script.flags & 1]
    records = []
    failed = False
    rest = script.stream
    while (number := re.match(rb"[\x80-\xff]{0,4}[\x00-\x7f]|[\x80-\xff]{5}", rest)) is not None:
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(number[0]))
        end = number.end() + size
        if size > 0x7FFFFFFF or number[0][-1] > 0x7F or end > limit:
            failed = True
            break
        if end > len(rest):
            break
        records.append(rest[number.end() : end])
        rest = rest[end:]
    framing(MESSAGE_PACK, script, limit, records, failed)


def framing(codec: hp.Codec, script: Script, limit: int, records: list[bytes], failed: bool) -> None:
    """Cut anywhere, the stream gives the records that a simple reader finds in it, and fails where that does."""
    for size in (None, script.small):
        buffer = RecordBuffer()
        found: list[bytes] = []
        refused = False
        for piece, _ in script.pieces(size):
            buffer.append(piece)
            try:
                while (record := codec.next_record(buffer, limit)) is not None:
                    found.append(record)
            except hp.RemoteProtocolError:
                refused = True
                break
            assert len(buffer) <= limit, "more is held than one message may have"
        assert (found, refused) == (records, failed), f"{found} and {refused} instead of {records} and {failed}"


def handshake(data: bytes) -> None:
    """A handshake's record, as a request and as a response."""
    try:
        protocol, version = _handshake.parse_request(data)
        assert _handshake.parse_request(_handshake.request(protocol, version)[:-1]) == (protocol, version)
    except hp.RemoteProtocolError:
        protocol = ""
    try:
        _handshake.parse_response(data)
    except (hp.RemoteProtocolError, hp.HubError):
        return
    assert b"{" in data, "what is no object was accepted"


def server(data: bytes) -> None:
    """A server's whole connection."""
    tell(hp.Role.SERVER, CODECS, data)


def client(data: bytes) -> None:
    """A client's whole connection."""
    tell(hp.Role.CLIENT, [MESSAGE_PACK if Script(data).flags & BINARY else JSON], data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json_body,
    "messagepack": message_pack_body,
    "text-framing": text_framing,
    "binary-framing": binary_framing,
    "handshake": handshake,
    "server": server,
    "client": client,
    "endpoint": endpoint,
}
