"""The MessagePack hub protocol: what is read, what is written."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from hubproto_core import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubError,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    LocalProtocolError,
    MessagePackCodec,
    Ping,
    RemoteProtocolError,
    SequenceMessage,
    Shape,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from hubproto_core._binding import AnyBinder
from hubproto_core._codecs._msgpack_reader import MessagePackReader
from hubproto_core._framing import RecordBuffer

CODEC = MessagePackCodec()
NO_ARGUMENTS = "Reading array length for 'arguments' failed."
BINDING_ERROR = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)


@dataclass
class Point:
    x: int
    y: int


class Grumpy(msgspec.Struct):
    """Its own code fails in a way that nobody expects."""

    x: int

    def __post_init__(self) -> None:
        raise KeyError(self.x)


class Declared:
    """Knows some methods, three streams and some calls."""

    def arguments_shape(self, target: str) -> Shape:
        types: dict[str, tuple[Any, ...]] = {
            "Add": (int, int),
            "Move": (Point, str),
            "Nothing": (),
            "Wait": (timedelta,),
            "Grumble": (Grumpy,),
        }
        if target == "Log":
            return Shape(tuple[str, ...])
        if target not in types:
            raise HubError("Method does not exist.")
        return Shape.of_arguments(types[target])

    def item_shape(self, stream_id: str) -> Shape:
        shapes = {"s": Shape(int), "t": Shape(timedelta), "g": Shape(Grumpy)}
        if stream_id not in shapes:
            raise HubError("no such stream")
        return shapes[stream_id]

    def result_shape(self, invocation_id: str) -> Shape:
        shapes = {"1": Shape(int), "2": Shape(int | None), "3": Shape(Any), "4": Shape(Point), "5": Shape(Grumpy)}
        if invocation_id not in shapes:
            raise HubError("no such call")
        return shapes[invocation_id]


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def decode(record: str | bytes, max_depth: int = 64) -> HubMessage | None:
    return CODEC.decode(bytes.fromhex(record) if isinstance(record, str) else record, AnyBinder(), max_depth)


def decode_declared(*elements: Any) -> HubMessage | None:
    return CODEC.decode(packed(elements), Declared(), 64)


def read_slowly(record: bytes) -> HubMessage | None:
    return CODEC._read(MessagePackReader(record), AnyBinder(), 64)


def refusal(record: str | bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as refused:
        decode(record)
    return refused.value


def written(message: HubMessage) -> str:
    """The record in hexadecimal digits, without the length before it."""
    data = CODEC.encode(message)
    buffer = RecordBuffer()
    buffer.append(data)
    record = buffer.take_binary(None)
    assert record is not None
    assert len(buffer) == 0
    return record.hex(" ")


def test_facts() -> None:
    assert (CODEC.name, CODEC.version, CODEC.transfer_format) == ("messagepack", 2, "binary")


def test_records_are_taken_by_their_length() -> None:
    buffer = RecordBuffer()
    buffer.append(b"\x02\x91\x06\x02\x91")
    assert CODEC.next_record(buffer, 100) == b"\x91\x06"
    assert CODEC.next_record(buffer, 100) is None


# --- both ways -------------------------------------------------------------------------------------------------------

CANONICAL: list[tuple[str, HubMessage]] = [
    (
        "96 01 80 a3 78 79 7a a6 6d 65 74 68 6f 64 91 2a 90",
        Invocation(invocation_id="xyz", target="method", arguments=(42,)),
    ),
    ("96 01 80 c0 a6 6d 65 74 68 6f 64 91 2a 90", Invocation(target="method", arguments=(42,))),
    (
        "96 01 82 a1 78 a1 79 a1 7a a1 7a a3 78 79 7a a6 6d 65 74 68 6f 64 91 2a 90",
        Invocation(headers={"x": "y", "z": "z"}, invocation_id="xyz", target="method", arguments=(42,)),
    ),
    ("96 01 80 c0 a1 75 90 92 a1 61 a1 62", Invocation(target="u", arguments=(), stream_ids=("a", "b"))),
    ("96 04 80 a1 31 a1 75 91 03 90", StreamInvocation(invocation_id="1", target="u", arguments=(3,))),
    (
        "96 04 81 a1 68 a1 76 a1 31 a1 75 90 91 a1 61",
        StreamInvocation(headers={"h": "v"}, invocation_id="1", target="u", arguments=(), stream_ids=("a",)),
    ),
    ("94 02 80 a3 78 79 7a 2a", StreamItem(invocation_id="xyz", item=42)),
    ("94 02 80 a1 31 c0", StreamItem(invocation_id="1", item=None)),
    ("95 03 80 a3 78 79 7a 01 a5 45 72 72 6f 72", Completion(invocation_id="xyz", error="Error")),
    ("95 03 80 a1 31 01 a0", Completion(invocation_id="1", error="")),
    ("94 03 80 a3 78 79 7a 02", Completion(invocation_id="xyz")),
    ("95 03 80 a3 78 79 7a 03 2a", Completion(invocation_id="xyz", result=42)),
    ("95 03 81 a1 68 a1 76 a1 31 03 c0", Completion(headers={"h": "v"}, invocation_id="1", result=None)),
    ("93 05 80 a3 78 79 7a", CancelInvocation(invocation_id="xyz")),
    ("93 05 81 a1 68 a1 76 a1 31", CancelInvocation(headers={"h": "v"}, invocation_id="1")),
    ("91 06", Ping()),
    ("93 07 c0 c2", Close()),
    ("93 07 a3 78 79 7a c3", Close(error="xyz", allow_reconnect=True)),
    ("92 08 24", Ack(sequence_id=36)),
    ("92 08 cf 7f ff ff ff ff ff ff ff", Ack(sequence_id=2**63 - 1)),
    ("92 09 13", SequenceMessage(sequence_id=19)),
    ("92 09 d3 80 00 00 00 00 00 00 00", SequenceMessage(sequence_id=-(2**63))),
]


@pytest.mark.parametrize(("record", "message"), CANONICAL)
def test_messages_are_written_and_read(record: str, message: HubMessage) -> None:
    assert written(message) == record
    assert decode(record) == message
    assert read_slowly(bytes.fromhex(record)) == message


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Invocation(target="Target", arguments=[1]), 15),
        (Invocation(invocation_id="1", target="Target", arguments=[1]), 16),
        (Invocation(invocation_id="1", target="Target", arguments=[1], stream_ids=["2"]), 18),
        (StreamItem(invocation_id="1", item=None), 7),
        (Completion(invocation_id="1"), 7),
        (Completion(invocation_id="1", result=None), 8),
        (Completion(invocation_id="1", error="error"), 13),
        (CancelInvocation(invocation_id="1"), 6),
        (Close(), 5),
        (Close(error="error"), 10),
        (Ping(), 3),
        (StreamItem(invocation_id="1", item="x" * 200), 209),
    ],
)
def test_the_length_goes_first(message: HubMessage, size: int) -> None:
    assert len(CODEC.encode(message)) == size


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("95 01 80 c0 a4 53 65 6e 64 91 2a", Invocation(target="Send", arguments=(42,))),
        ("95 04 80 a1 31 a1 75 90", StreamInvocation(invocation_id="1", target="u", arguments=())),
        ("96 01 80 a0 a1 75 90 90", Invocation(target="u", arguments=())),
        ("92 07 c0", Close()),
        ("92 07 a3 78 79 7a", Close(error="xyz")),
        ("95 03 80 a1 31 01 c0", Completion(invocation_id="1")),
        ("92 08 cc 24", Ack(sequence_id=36)),
    ],
)
def test_optional_elements_may_be_missing(record: str, message: HubMessage) -> None:
    assert decode(record) == message
    assert read_slowly(bytes.fromhex(record)) == message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("97 01 80 c0 a1 75 91 2a 90 c3", Invocation(target="u", arguments=(42,))),
        ("95 02 80 a1 31 2a c3", StreamItem(invocation_id="1", item=42)),
        ("96 03 80 a1 31 03 2a c3", Completion(invocation_id="1", result=42)),
        ("95 03 80 a1 31 02 c3", Completion(invocation_id="1")),
        ("94 05 80 a1 31 c3", CancelInvocation(invocation_id="1")),
        ("92 06 c3", Ping()),
        ("94 07 c0 c3 81 c0 c0", Close(allow_reconnect=True)),
        ("93 08 24 c3", Ack(sequence_id=36)),
    ],
)
@pytest.mark.parametrize("garbage", ["", "c1", "ff ff", "91 06", "a5 31"])
def test_what_stands_behind_is_ignored(record: str, message: HubMessage, garbage: str) -> None:
    assert decode(record + garbage) == message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("dc 00 01 06", Ping()),
        ("dd 00 00 00 01 06", Ping()),
        ("91 cc 06", Ping()),
        ("91 cd 00 06", Ping()),
        ("91 ce 00 00 00 06", Ping()),
        ("91 cf 00 00 00 00 00 00 00 06", Ping()),
        ("91 d0 06", Ping()),
        ("91 d1 00 06", Ping()),
        ("91 d2 00 00 00 06", Ping()),
        ("91 d3 00 00 00 00 00 00 00 06", Ping()),
        ("95 d0 03 de 00 00 d9 01 31 d2 00 00 00 03 2a", Completion(invocation_id="1", result=42)),
        ("95 03 df 00 00 00 00 da 00 01 31 cc 01 db 00 00 00 02 6e 6f", Completion(invocation_id="1", error="no")),
        ("92 08 d3 00 00 00 00 00 00 00 24", Ack(sequence_id=36)),
        ("92 cc 09 13", SequenceMessage(sequence_id=19)),
        ("96 01 80 c0 a1 75 dc 00 01 d1 00 2a dd 00 00 00 00", Invocation(target="u", arguments=(42,))),
    ],
)
def test_numbers_texts_and_arrays_may_be_of_any_width(record: str, message: HubMessage) -> None:
    assert decode(record) == message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("93 05 80 a1 ff", CancelInvocation(invocation_id="\ufffd")),
        ("92 07 a2 c3 28", Close(error="\ufffd(")),
        (
            "95 01 81 a1 ff a1 ff c0 a2 75 ff 91 a1 ff",
            Invocation(headers={"\ufffd": "\ufffd"}, target="u\ufffd", arguments=("\ufffd",)),
        ),
        (
            "94 02 80 a1 31 82 a1 ff a1 ff 01 ca 3f c0 00 00",
            StreamItem(invocation_id="1", item={"\ufffd": "\ufffd", 1: 1.5}),
        ),
        ("95 03 80 a1 31 01 a1 ff", Completion(invocation_id="1", error="\ufffd")),
        ("96 01 80 c0 a1 75 90 91 a1 ff", Invocation(target="u", arguments=(), stream_ids=("\ufffd",))),
    ],
)
def test_text_that_is_no_utf8_is_read_all_the_same(record: str, message: HubMessage) -> None:
    assert decode(record) == message


@pytest.mark.parametrize("kind", ["00", "0a", "63", "ff", "ce 7f ff ff ff"])
def test_unknown_types_are_no_message(kind: str) -> None:
    assert decode(f"92 {kind} a1 31") is None


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("90", "Reading 'messageType' as Int32 failed."),
        ("91 c0", "Reading 'messageType' as Int32 failed."),
        ("91 a1 36", "Reading 'messageType' as Int32 failed."),
        ("91 c3", "Reading 'messageType' as Int32 failed."),
        ("91 ce 80 00 00 00", "Reading 'messageType' as Int32 failed."),
        ("91 cb 40 18 00 00 00 00 00 00", "Reading 'messageType' as Int32 failed."),
        ("96 01 c0 c0 a1 75 90 90", "Reading map length for 'headers' failed."),
        ("96 01 90 c0 a1 75 90 90", "Reading map length for 'headers' failed."),
        ("96 01 8f c0 a1 75 90 90", "Reading map length for 'headers' failed."),
        ("96 01 81 01 a1 76 c0 a1 75 90 90", "Reading 'headers[0].Key' as String failed."),
        ("96 01 81 a1 68 01 c0 a1 75 90 90", "Reading 'headers[0].Value' as String failed."),
        ("96 01 82 a1 68 a1 76 a1 69 c3 c0 a1 75 90 90", "Reading 'headers[1].Value' as String failed."),
        ("96 01 81 a0 a1 76 c0 a1 75 90 90", "Null or empty key in header."),
        ("96 01 81 c0 a1 76 c0 a1 75 90 90", "Null or empty key in header."),
        ("96 01 81 a1 68 a0 c0 a1 75 90 90", "Null or empty value in header."),
        ("96 01 81 a1 68 c0 c0 a1 75 90 90", "Null or empty value in header."),
        ("96 01 80 01 a1 75 90 90", "Reading 'invocationId' as String failed."),
        ("96 01 80 c4 01 31 a1 75 90 90", "Reading 'invocationId' as String failed."),
        ("96 04 80 c0 a1 75 90 90", "Null or empty invocation ID for StreamInvocation message."),
        ("96 04 80 a0 a1 75 90 90", "Null or empty invocation ID for StreamInvocation message."),
        ("94 02 80 c0 2a", "Null or empty invocation ID for StreamItem message."),
        ("94 02 80 a0 2a", "Null or empty invocation ID for StreamItem message."),
        ("94 03 80 c0 02", "Null or empty invocation ID for Completion message."),
        ("93 05 80 c0", "Null or empty invocation ID for CancelInvocation message."),
        ("93 05 80 a0", "Null or empty invocation ID for CancelInvocation message."),
        ("92 05 80", "Reading 'invocationId' as String failed."),
        ("96 01 80 c0 01 90 90", "Reading 'target' as String failed."),
        ("93 01 80 c0", "Reading 'target' as String failed."),
        ("96 01 80 c0 a0 90 90", "Null or empty target for Invocation message."),
        ("96 01 80 c0 c0 90 90", "Null or empty target for Invocation message."),
        ("96 04 80 a1 31 a0 90 90", "Null or empty target for StreamInvocation message."),
        ("96 01 80 c0 a1 75 90 c0", "Reading array length for 'streamIds' failed."),
        ("96 01 80 c0 a1 75 90 9f", "Reading array length for 'streamIds' failed."),
        ("96 01 80 c0 a1 75 90 91 a0", "Null or empty value in streamIds received."),
        ("96 01 80 c0 a1 75 90 91 c0", "Null or empty value in streamIds received."),
        ("95 03 80 a1 31 c0 2a", "Reading 'resultKind' as Int32 failed."),
        ("93 03 80 a1 31", "Reading 'resultKind' as Int32 failed."),
        ("95 03 80 a1 31 00 2a", "Invalid invocation result kind."),
        ("95 03 80 a1 31 04 2a", "Invalid invocation result kind."),
        ("94 03 80 a1 31 04", "Invalid invocation result kind."),
        ("95 03 80 a1 31 01 2a", "Reading 'error' as String failed."),
        ("94 03 80 a1 31 01", "Reading 'error' as String failed."),
        ("93 07 01 c2", "Reading 'error' as String failed."),
        ("91 07", "Reading 'error' as String failed."),
        ("93 07 c0 c0", "Reading 'allowReconnect' as Boolean failed."),
        ("93 07 c0 01", "Reading 'allowReconnect' as Boolean failed."),
        ("91 08", "Reading 'sequenceId' as Int64 failed."),
        ("92 08 c0", "Reading 'sequenceId' as Int64 failed."),
        ("92 08 cf 80 00 00 00 00 00 00 00", "Reading 'sequenceId' as Int64 failed."),
        ("92 09 a1 31", "Reading 'sequenceId' as Int64 failed."),
    ],
)
def test_malformed_records_are_refused_in_the_reference_s_words(record: str, reason: str) -> None:
    refused = refusal(record)
    assert (str(refused), refused.kind) == (reason, "InvalidDataException")


@pytest.mark.parametrize(
    "record", ["", "dc 00", "92 08", "dd ff ff ff ff 06", "96 01 80 c0 a1 75 90 91 a5 31", "96 01 80 c0 a1 75 90 91 c1"]
)
def test_what_is_cut_off_is_refused(record: str) -> None:
    refused = refusal(record)
    assert str(refused) == "Attempted to read past the end of the stream."
    assert refused.kind == "EndOfStreamException"


@pytest.mark.parametrize(
    ("record", "code", "name"),
    [
        ("06", 6, "positive fixint"),
        ("80", 128, "fixmap"),
        ("a1 31", 161, "fixstr"),
        ("c0", 192, "nil"),
        ("c1", 193, "(never used)"),
        ("c4 01 00", 196, "bin 8"),
        ("cb 00 00 00 00 00 00 00 00", 203, "float 64"),
        ("d2 00 00 00 01", 210, "int 32"),
        ("d4 01 00", 212, "fixext 1"),
        ("df 00 00 00 00", 223, "map 32"),
        ("ff", 255, "negative fixint"),
        ("96 01 80 c0 a1 75 90 91 01", 1, "positive fixint"),
        ("96 01 80 c0 a1 75 90 92 a1 61 91 a1 62", 145, "fixarray"),
    ],
)
def test_what_is_no_array_and_ids_that_are_no_texts_are_refused(record: str, code: int, name: str) -> None:
    refused = refusal(record)
    assert str(refused) == f"Unexpected msgpack code {code} ({name}) encountered."
    assert refused.kind == "MessagePackSerializationException"


# --- binding ---------------------------------------------------------------------------------------------------------


def test_arguments_get_their_declared_types() -> None:
    assert decode_declared(1, {}, None, "Add", [1, 2]) == Invocation(target="Add", arguments=(1, 2))
    assert decode_declared(1, {}, "7", "Move", [{"x": 1, "y": 2}, "a"], []) == Invocation(
        invocation_id="7", target="Move", arguments=(Point(1, 2), "a")
    )
    assert decode_declared(4, {}, "7", "Nothing", []) == StreamInvocation(
        invocation_id="7", target="Nothing", arguments=()
    )
    assert decode_declared(1, {}, None, "Log", ["a", "b", "c"]) == Invocation(target="Log", arguments=("a", "b", "c"))
    assert decode_declared(1, {}, None, "Wait", [15_000_000]) == Invocation(
        target="Wait", arguments=(timedelta(seconds=1.5),)
    )


@pytest.mark.parametrize(
    ("target", "arguments", "reason"),
    [
        ("Add", [1], "Invocation provides 1 argument(s) but target expects 2."),
        ("Add", [1, 2, 3], "Invocation provides 3 argument(s) but target expects 2."),
        ("Add", ["one"], "Invocation provides 1 argument(s) but target expects 2."),
        ("Nothing", [None], "Invocation provides 1 argument(s) but target expects 0."),
        ("Add", [1, "two"], BINDING_ERROR),
        ("Add", {}, NO_ARGUMENTS),
        ("Add", None, NO_ARGUMENTS),
        ("Add", 5, NO_ARGUMENTS),
        ("Log", ["a", 1], BINDING_ERROR),
        ("Move", [{"x": 1}, "a"], BINDING_ERROR),
        ("Wait", ["soon"], BINDING_ERROR),
        ("Grumble", [{"x": 1}], BINDING_ERROR),
    ],
)
@pytest.mark.parametrize("invocation_id", [None, "7"])
def test_arguments_that_do_not_fit_are_a_failure_of_this_call_only(
    target: str, arguments: Any, reason: str, invocation_id: str | None
) -> None:
    failure = decode_declared(1, {}, invocation_id, target, arguments, ["a"])
    assert isinstance(failure, InvocationBindingFailure)
    assert (failure.invocation_id, failure.target) == (invocation_id, target)
    assert isinstance(failure.error, RemoteProtocolError)
    assert str(failure.error) == reason


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("94 01 80 c0 a3 41 64 64", NO_ARGUMENTS),
        ("95 01 80 c0 a3 41 64 64", NO_ARGUMENTS),  # announced, but missing
        ("95 01 80 c0 a3 41 64 64 92 01", NO_ARGUMENTS),  # one of two missing
        ("95 01 80 c0 a3 41 64 64 92 01 a5 31", BINDING_ERROR),  # the second cut off
        ("95 01 80 c0 a3 41 64 64 c1", NO_ARGUMENTS),  # no value at all
        ("95 01 80 c0 a3 41 64 64 dd ff ff ff ff", NO_ARGUMENTS),
        ("95 01 80 c0 a3 41 64 64 " + "91" * 3000 + "c0", BINDING_ERROR),
    ],
)
def test_arguments_that_cannot_be_read_are_a_failure_of_this_call_only(record: str, reason: str) -> None:
    failure = CODEC.decode(bytes.fromhex(record), Declared(), 64)
    assert isinstance(failure, InvocationBindingFailure)
    assert failure.target == "Add"
    assert str(failure.error) == reason


def test_unknown_targets_are_a_failure_of_this_call_only() -> None:
    for kind in (1, 4):
        failure = decode_declared(kind, {}, "7", "Fly", [1])
        assert isinstance(failure, InvocationBindingFailure)
        assert (failure.invocation_id, failure.target) == ("7", "Fly")
        assert isinstance(failure.error, HubError)


def test_stream_ids_behind_arguments_that_do_not_fit_are_not_looked_at() -> None:
    assert isinstance(decode_declared(1, {}, "7", "Fly", [1], None), InvocationBindingFailure)


def test_items_get_their_declared_type() -> None:
    assert decode_declared(2, {}, "s", 5) == StreamItem(invocation_id="s", item=5)
    assert decode_declared(2, {"h": "v"}, "t", 10) == StreamItem(
        headers={"h": "v"}, invocation_id="t", item=timedelta(microseconds=1)
    )


@pytest.mark.parametrize(
    ("stream_id", "item", "reason"),
    [
        ("s", "five", "Deserializing object of the `Int64` type for 'item' failed. Expected `int`, got `str`"),
        (
            "t",
            True,
            "Deserializing object of the `timedelta` type for 'item' failed. Expected `duration`, got `bool`",
        ),
        ("g", {"x": 1}, "Deserializing object of the `Grumpy` type for 'item' failed."),
    ],
)
def test_items_that_do_not_fit_are_a_failure_of_their_stream_only(stream_id: str, item: Any, reason: str) -> None:
    failure = decode_declared(2, {}, stream_id, item)
    assert isinstance(failure, StreamBindingFailure)
    assert failure.invocation_id == stream_id
    assert isinstance(failure.error, RemoteProtocolError)
    assert str(failure.error) == reason


@pytest.mark.parametrize("record", ["93 02 80 a1 73", "94 02 80 a1 73", "94 02 80 a1 73 a5 31"])
def test_a_missing_item_is_a_failure_of_its_stream_only(record: str) -> None:
    failure = CODEC.decode(bytes.fromhex(record), Declared(), 64)
    assert isinstance(failure, StreamBindingFailure)
    assert failure.invocation_id == "s"


def test_items_of_unknown_streams_are_a_failure_of_their_stream_only() -> None:
    failure = decode_declared(2, {}, "x", 5)
    assert isinstance(failure, StreamBindingFailure)
    assert (failure.invocation_id, str(failure.error)) == ("x", "no such stream")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (("1", 3, 5), Completion(invocation_id="1", result=5)),
        (("2", 3, None), Completion(invocation_id="2", result=None)),
        (("3", 3, [1, {"a": 2.5}]), Completion(invocation_id="3", result=[1, {"a": 2.5}])),
        (("4", 3, {"x": 1, "y": 2}), Completion(invocation_id="4", result=Point(1, 2))),
        (("9", 3, "never asked for"), Completion(invocation_id="9", result=None)),
        (("9", 2), Completion(invocation_id="9")),
        (("1", 2), Completion(invocation_id="1")),
        (("9", 1, "no"), Completion(invocation_id="9", error="no")),
    ],
)
def test_results_get_their_declared_type(elements: tuple[Any, ...], message: Completion) -> None:
    assert decode_declared(3, {}, *elements) == message


@pytest.mark.parametrize(
    ("invocation_id", "result", "reason"),
    [
        (
            "1",
            "five",
            "Int64. Deserializing object of the `Int64` type for 'argument' failed. Expected `int`, got `str`",
        ),
        (
            "2",
            "five",
            (
                "int | None. Deserializing object of the `int | None` type for 'argument' failed. "
                "Expected `int | null`, got `str`"
            ),
        ),
        ("5", {"x": 1}, "Grumpy. Deserializing object of the `Grumpy` type for 'argument' failed."),
    ],
)
def test_results_that_do_not_fit_are_an_error_of_the_call(invocation_id: str, result: Any, reason: str) -> None:
    message = decode_declared(3, {}, invocation_id, 3, result)
    assert message == Completion(invocation_id=invocation_id, error=f"Error trying to deserialize result to {reason}")


@pytest.mark.parametrize("record", ["94 03 80 a1 39 03", "95 03 80 a1 39 03 a5 31"])
def test_a_missing_result_of_an_unknown_call_ends_the_connection(record: str) -> None:
    with pytest.raises(RemoteProtocolError, match="Attempted to read past the end of the stream"):
        CODEC.decode(bytes.fromhex(record), Declared(), 64)


@pytest.mark.parametrize("record", ["94 03 80 a1 33 03", "95 03 80 a1 33 03", "95 03 80 a1 33 03 a5 31"])
def test_a_missing_result_is_an_error_of_the_call(record: str) -> None:
    message = CODEC.decode(bytes.fromhex(record), Declared(), 64)
    assert message == Completion(
        invocation_id="3",
        error=(
            "Error trying to deserialize result to Object. "
            "Deserializing object of the `Object` type for 'argument' failed."
        ),
    )


@pytest.mark.parametrize("type_", [Any, datetime, list[datetime] | datetime])
def test_the_last_moment_of_dotnet_is_the_last_one_of_python(type_: Any) -> None:
    class Moments(AnyBinder):
        def item_shape(self, stream_id: str) -> Shape:
            return Shape(type_)

    last = "c7 0c ff 3b 9a c9 9c 00 00 00 3a ff f4 41 7f"
    item = CODEC.decode(bytes.fromhex(f"94 02 80 a1 31 {last}"), Moments(), 64)
    assert item == StreamItem(invocation_id="1", item=datetime.max.replace(tzinfo=UTC))
    beyond = "c7 0c ff 3b 9a c9 ff 00 00 00 3a ff f4 41 7f"
    assert isinstance(CODEC.decode(bytes.fromhex(f"94 02 80 a1 31 {beyond}"), Moments(), 64), StreamBindingFailure)


# --- depth -----------------------------------------------------------------------------------------------------------


def nested(levels: int, innermost: bytes = b"\xc0") -> bytes:
    """Arrays in each other, so many."""
    return b"\x91" * levels + innermost


@pytest.mark.parametrize("max_depth", [4, 64, 100])
@pytest.mark.parametrize("too_many", [0, 1])
def test_values_may_be_nested_so_many_levels_deep(max_depth: int, too_many: int) -> None:
    levels = max_depth - 1 + too_many  # the message itself is one
    accepted = not too_many
    call = decode(b"\x95\x01\x80\xc0\xa1u" + nested(levels), max_depth)
    assert isinstance(call, Invocation if accepted else InvocationBindingFailure)
    item = decode(b"\x94\x02\x80\xa1s" + nested(levels), max_depth)
    assert isinstance(item, StreamItem if accepted else StreamBindingFailure)
    item = decode(b"\x94\x02\x80\xa1s" + nested(levels - 1, b"\x80"), max_depth)
    assert isinstance(item, StreamItem if accepted else StreamBindingFailure)
    result = decode(b"\x95\x03\x80\xa11\x03" + nested(levels), max_depth)
    assert isinstance(result, Completion)
    assert (result.error is None) == accepted


# --- writing ---------------------------------------------------------------------------------------------------------


def test_absent_members_are_written_as_dotnet_writes_them() -> None:
    assert written(Invocation(headers={}, invocation_id="", target="u", arguments=[])) == "96 01 80 c0 a1 75 90 90"
    assert written(Completion(headers={}, invocation_id="1", error=None)) == "94 03 80 a1 31 02"


def test_members_may_be_any_mapping_and_any_sequence() -> None:
    message = Invocation(
        headers=MappingProxyType({"h": "v"}), target="u", arguments=deque([1]), stream_ids=deque(["a"])
    )
    assert written(message) == "96 01 81 a1 68 a1 76 c0 a1 75 91 01 91 a1 61"
    call = StreamInvocation(
        headers=OrderedDict(h="v"), invocation_id="1", target="u", arguments=(1,), stream_ids=deque(["a"])
    )
    assert written(call) == "96 04 81 a1 68 a1 76 a1 31 a1 75 91 01 91 a1 61"


class Money:
    """A type that the codec knows nothing of."""

    def __init__(self, text: str) -> None:
        self.text = text


@dataclass
class Price:
    net_price: Money


class Broken:
    @property
    def text(self) -> str:
        raise KeyError("no text")


def hook(value: Any) -> Any:
    return value.text


@pytest.mark.parametrize("value", [object(), {1, object()}, 1j, "\ud800", 2**64, -(2**63) - 1, UNSET, Ping])
def test_what_is_no_messagepack_is_a_local_error(value: Any) -> None:
    for message in (
        Invocation(target="u", arguments=[value]),
        StreamInvocation(invocation_id="1", target="u", arguments=[[value]]),
        StreamItem(invocation_id="1", item={"a": value}),
        Completion(invocation_id="1", result=(value,)),
    ):
        with pytest.raises(LocalProtocolError, match=f"^{type(message).__name__} cannot be written as MessagePack: "):
            CODEC.encode(message)


@pytest.mark.parametrize(
    "message",
    [
        InvocationBindingFailure(invocation_id="1", target="u", error=HubError("no")),
        StreamBindingFailure(invocation_id="1", error=HubError("no")),
    ],
)
def test_what_is_no_message_of_the_wire_is_a_local_error(message: HubMessage) -> None:
    with pytest.raises(LocalProtocolError, match=r"BindingFailure cannot be written as MessagePack: "):
        CODEC.encode(message)


def test_values_that_contain_themselves_are_a_local_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(LocalProtocolError):
        CODEC.encode(StreamItem(invocation_id="1", item=loop))


def test_hooks_that_fail_are_a_local_error() -> None:
    codec = MessagePackCodec(enc_hook=hook)
    with pytest.raises(LocalProtocolError, match="no text"):
        codec.encode(StreamItem(invocation_id="1", item=Broken()))


def test_names_and_types_of_one_s_own() -> None:
    def read(type_: type, value: Any) -> Any:
        return type_(value)

    class Prices(AnyBinder):
        def item_shape(self, stream_id: str) -> Shape:
            return Shape(Price)

    codec = MessagePackCodec(rename="pascal", enc_hook=hook, dec_hook=read)
    data = codec.encode(StreamItem(invocation_id="1", item=Price(Money("5 EUR"))))
    assert msgpack.unpackb(data[1:]) == [2, {}, "1", {"NetPrice": "5 EUR"}]
    item = codec.decode(data[1:], Prices(), 64)
    assert isinstance(item, StreamItem)
    assert item.item.net_price.text == "5 EUR"


# --- properties ------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), values, max_size=4),
    max_leaves=12,
)
ids = st.text(min_size=1, max_size=4)
headers = st.none() | st.dictionaries(ids, ids, min_size=1, max_size=2)
arguments = st.lists(values, max_size=3).map(tuple)
stream_ids = st.none() | st.lists(ids, min_size=1, max_size=2).map(tuple)
sequence_ids = st.integers(-(2**63), 2**63 - 1)
messages: st.SearchStrategy[HubMessage] = st.one_of(
    st.builds(
        Invocation,
        headers=headers,
        invocation_id=st.none() | ids,
        target=ids,
        arguments=arguments,
        stream_ids=stream_ids,
    ),
    st.builds(
        StreamInvocation, headers=headers, invocation_id=ids, target=ids, arguments=arguments, stream_ids=stream_ids
    ),
    st.builds(StreamItem, headers=headers, invocation_id=ids, item=values),
    st.builds(Completion, headers=headers, invocation_id=ids, result=st.just(UNSET) | values),
    st.builds(Completion, headers=headers, invocation_id=ids, error=st.text()),
    st.builds(CancelInvocation, headers=headers, invocation_id=ids),
    st.just(Ping()),
    st.builds(Close, error=st.none() | st.text(), allow_reconnect=st.booleans()),
    st.builds(Ack, sequence_id=sequence_ids),
    st.builds(SequenceMessage, sequence_id=sequence_ids),
)


def unframed(data: bytes) -> bytes:
    buffer = RecordBuffer()
    buffer.append(data)
    record = buffer.take_binary(None)
    assert record is not None
    return record


@settings(deadline=None)
@given(messages)
def test_what_is_written_is_read_back(message: HubMessage) -> None:
    record = unframed(CODEC.encode(message))
    assert decode(record) == message
    assert read_slowly(record) == message
    assert isinstance(msgpack.unpackb(record, strict_map_key=False, timestamp=3), list)


def outcome(read: Any, record: bytes) -> Any:
    """What has become of a record; of what does not bind, that it does not."""
    try:
        message = read(record)
    except RemoteProtocolError as error:
        return str(error), error.kind
    if isinstance(message, InvocationBindingFailure | StreamBindingFailure):
        return type(message), message.invocation_id
    return re.sub(r" at 0x[0-9a-f]+", "", repr(message))  # where an `Ext` is does not matter


elements = st.lists(values | st.integers(0, 9) | st.just({}) | ids, max_size=7)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=40)
    | elements.map(packed)
    | st.tuples(messages.map(CODEC.encode).map(unframed), st.integers(0, 60), st.binary(max_size=3)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
    )
)
@example(bytes.fromhex("96 01 80 c0 a1 75 91 c7 03 ff aa bb cc"))  # a timestamp of no known size
@example(bytes.fromhex("94 02 80 a1 73 81 81 01 02 03"))  # a map as a key
@example(bytes.fromhex("94 02 80 a1 73 82 80 01 a1 ff 03"))  # beside text that is no UTF-8
def test_any_bytes_are_a_message_or_a_mistake_of_the_peer_and_both_readers_agree(record: bytes) -> None:
    assert outcome(decode, record) == outcome(read_slowly, record)
    outcome(lambda record: CODEC.decode(record, Declared(), 64), record)
