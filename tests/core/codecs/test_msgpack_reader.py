"""MessagePack element by element: what is read, and where reading stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hubproto_core import RemoteProtocolError
from hubproto_core._codecs._msgpack_reader import INT32, INT64, MessagePackReader


def reader(record: str) -> MessagePackReader:
    return MessagePackReader(bytes.fromhex(record))


def refusal(read: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(RemoteProtocolError) as refused:
        read()
    return str(refused.value), refused.value.kind


def test_elements_are_read_in_order() -> None:
    read = reader("97 01 81 a1 68 a1 76 c0 a1 75 92 01 c0 91 a1 73 c3 c1")
    assert read.array() == 7
    assert read.integer("messageType", INT32) == 1
    assert read.headers(behind=5) == {"h": "v"}
    assert read.text("invocationId") is None
    assert read.text("target") == "u"
    arguments = read.value()
    assert arguments is not None
    assert bytes(arguments) == b"\x92\x01\xc0"
    assert read.stream_ids() == ("s",)
    assert read.boolean("more") is True
    assert read.value() is None


@pytest.mark.parametrize(("record", "number"), [("01", 1), ("ff", -1), ("d3 ff ff ff ff 80 00 00 00", -(2**31))])
def test_integers_may_have_any_width(record: str, number: int) -> None:
    assert reader(record).integer("x", INT32) == number


@pytest.mark.parametrize("record", ["", "c3", "c0", "a1 31", "ce 80 00 00 00", "cb 00 00 00 00 00 00 00 00", "c1"])
def test_what_is_no_integer_in_range_is_refused(record: str) -> None:
    assert refusal(lambda: reader(record).integer("x", INT32)) == (
        "Reading 'x' as Int32 failed.",
        "InvalidDataException",
    )


def test_integers_of_64_bits_have_a_range_too() -> None:
    assert reader("cf 7f ff ff ff ff ff ff ff").integer("x", INT64) == 2**63 - 1
    read = reader("cf 80 00 00 00 00 00 00 00")
    assert refusal(lambda: read.integer("x", INT64))[0] == "Reading 'x' as Int64 failed."


@pytest.mark.parametrize("record", ["", "01", "c4 01 61", "91 a1 61"])
def test_what_is_no_text_is_refused(record: str) -> None:
    assert refusal(lambda: reader(record).text("x"))[0] == "Reading 'x' as String failed."


def test_text_that_is_no_utf8_is_read_with_replacements() -> None:
    assert reader("a2 61 ff").text("x") == "a\ufffd"


@pytest.mark.parametrize("record", ["", "c0", "01"])
def test_what_is_no_boolean_is_refused(record: str) -> None:
    assert refusal(lambda: reader(record).boolean("x"))[0] == "Reading 'x' as Boolean failed."


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("", "Attempted to read past the end of the stream."),
        ("dc 00", "Attempted to read past the end of the stream."),
        ("92 01", "Attempted to read past the end of the stream."),
        ("a1 31", "Unexpected msgpack code 161 (fixstr) encountered."),
        ("01", "Unexpected msgpack code 1 (positive fixint) encountered."),
        ("81 01 01", "Unexpected msgpack code 129 (fixmap) encountered."),
        ("c2", "Unexpected msgpack code 194 (false) encountered."),
        ("ff", "Unexpected msgpack code 255 (negative fixint) encountered."),
    ],
)
def test_a_message_is_an_array_that_is_all_there(record: str, reason: str) -> None:
    assert refusal(reader(record).array)[0] == reason


@pytest.mark.parametrize(
    ("record", "behind", "reason"),
    [
        ("90", 0, "Reading map length for 'headers' failed."),
        ("82 a1 61 a0", 0, "Reading map length for 'headers' failed."),
        ("81 a1 61 a1 62", 3, "Reading map length for 'headers' failed."),
        ("81 01 a1 62", 0, "Reading 'headers[0].Key' as String failed."),
        ("81 a1 61 01", 0, "Reading 'headers[0].Value' as String failed."),
        ("81 a0 a1 62", 0, "Null or empty key in header."),
        ("81 a1 61 a0", 0, "Null or empty value in header."),
    ],
)
def test_headers_are_a_map_of_texts(record: str, behind: int, reason: str) -> None:
    assert refusal(lambda: reader(record).headers(behind))[0] == reason


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("c0", "Reading array length for 'streamIds' failed."),
        ("92 a1", "Reading array length for 'streamIds' failed."),
        ("91 a5 31", "Attempted to read past the end of the stream."),
        ("91 92 01 02", "Unexpected msgpack code 146 (fixarray) encountered."),
        ("91 c0", "Null or empty value in streamIds received."),
        ("91 a0", "Null or empty value in streamIds received."),
    ],
)
def test_stream_ids_are_an_array_of_texts(record: str, reason: str) -> None:
    assert refusal(reader(record).stream_ids)[0] == reason


@pytest.mark.parametrize(
    ("record", "there"), [("90", True), ("9f", True), ("dc", True), ("dd 00", True), ("80", False), ("", False)]
)
def test_what_begins_like_an_array_is_seen(record: str, there: bool) -> None:
    assert reader(record).is_at_array() == there


def test_no_stream_ids_are_none() -> None:
    assert reader("90").stream_ids() is None
