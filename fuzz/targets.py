"""What is fuzzed, by name: each target takes any bytes, and fails where the code keeps none of its promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

import hubproto_core as hp
from fuzz.endpoint import endpoint
from fuzz.scripts import LIMITS, Script, tell
from hubproto_core import _handshake
from hubproto_core._framing import RecordBuffer

CODECS: list[hp.Codec] = [hp.JsonCodec()]
SHAPES = {
    "Add": hp.Shape.of_arguments((int, int)),
    "Text": hp.Shape.of_arguments((str,)),
    "Many": hp.Shape.of_arguments((dict[str, list[float]], bool | None, bytes)),
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
    """A JSON record: read as the standard library reads it, and the same again when written and read once more."""
    message = decoded(CODECS[0], data)
    if message is None or isinstance(message, hp.InvocationBindingFailure | hp.StreamBindingFailure):
        return
    plain = json.loads(data)
    wire = json.loads(CODECS[0].encode(message)[:-1])
    for name in ("type", "invocationId", "target", "sequenceId"):
        assert (plain.get(name) or None) == wire.get(name), f"{name}: {plain} was read as {wire}"


def decoded(codec: hp.Codec, record: bytes) -> hp.HubMessage | None:
    """The record's message, if it is one; it must survive being written and read again."""
    try:
        message = codec.decode(record, BINDER, 64)
    except hp.RemoteProtocolError:
        return None
    if message is None or isinstance(message, hp.InvocationBindingFailure | hp.StreamBindingFailure):
        return message
    buffer = RecordBuffer()
    buffer.append(codec.encode(message))
    again = codec.next_record(buffer, None)
    assert again is not None, "the record is incomplete"
    assert not len(buffer), "there is something behind the record"
    second = codec.decode(again, BINDER, 64)
    if isinstance(message, hp.Completion) and message.error == "":
        message = msgspec.structs.replace(message, error=None)  # it counts as none, and is written as none
    assert second == message or repr(second) == repr(message), (
        f"{message} was written as {again!r} and read as {second}"
    )
    return message


def text_framing(data: bytes) -> None:
    """Records that end with 0x1E, in pieces, within a limit."""
    script = Script(data)
    limit = LIMITS[script.flags & 1]

    def naive(stream: bytes) -> tuple[list[bytes], bool]:
        *records, rest = stream.split(b"\x1e")
        for index, record in enumerate(records):
            if len(record) + 1 > limit:
                return records[:index], True
        return records, len(rest) > limit

    framing(CODECS[0], script, limit, naive)


def framing(
    codec: hp.Codec, script: Script, limit: int, naive: Callable[[bytes], tuple[list[bytes], bool]]
) -> None:
    """Cut anywhere, the stream gives the records that a simple reader finds in it, and fails where that does."""
    expected = naive(script.stream)
    for size in (None, script.small):
        buffer = RecordBuffer()
        records = []
        failed = False
        for piece, _ in script.pieces(size):
            buffer.append(piece)
            try:
                while (record := codec.next_record(buffer, limit)) is not None:
                    records.append(record)
            except hp.RemoteProtocolError:
                failed = True
                break
            assert len(buffer) <= limit, "more is held than one message may have"
        assert (records, failed) == expected, f"{(records, failed)} instead of {expected}"


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
    codec = CODECS[(data[0] >> 5 if data else 0) % len(CODECS)]
    tell(hp.Role.CLIENT, [codec], data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json_body,
    "text-framing": text_framing,
    "handshake": handshake,
    "server": server,
    "client": client,
    "endpoint": endpoint,
}
