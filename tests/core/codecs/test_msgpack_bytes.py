"""What a MessagePack payload shows without being decoded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hubproto_core._codecs._msgpack_bytes import SINGLE, is_deeper, mark_singles, mend

packed = msgspec.msgpack.encode

WIDE: list[Any] = [
    None,
    True,
    1,
    -1,
    -200,
    200,
    70_000,
    -70_000,
    2**33,
    -(2**33),
    1.5,
    "text",
    "long text " * 5,
    "long text " * 50,
    "long text " * 7000,
    b"\x91" * 20,
    b"\x91" * 300,
    b"\x91" * 70_000,
    {"a": 1, "b": 2},
    [],
    list(range(20)),
    list(range(70_000)),
    {i: i for i in range(20)},
    {i: -i for i in range(70_000)},
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 2, 29, microsecond=5, tzinfo=UTC),
    datetime(1900, 2, 28, tzinfo=UTC),
    *(msgspec.msgpack.Ext(5, b"\x91" * length) for length in (1, 2, 4, 8, 16, 3, 300, 70_000)),
]


@pytest.mark.parametrize("position", range(len(WIDE)))
def test_values_beside_each_other_are_not_nested(position: int) -> None:
    value = WIDE[position]
    assert not is_deeper(Raw(packed([[[], [value], b"\x91" * 9], value, *[[0]] * 9])), 4)
    assert is_deeper(Raw(packed([value, [[value, [[value]]]]])), 4)


@pytest.mark.parametrize("innermost", [b"\xc0", b"\x90", b"\x80"])
def test_levels_are_counted_and_an_empty_one_is_one_too(innermost: bytes) -> None:
    levels = 5 + (innermost != b"\xc0")
    assert not is_deeper(Raw(b"\x91" * 5 + innermost), levels)
    assert is_deeper(Raw(b"\x91" * 5 + innermost), levels - 1)


def test_a_value_shorter_than_its_levels_is_not_looked_at() -> None:
    assert not is_deeper(Raw(b"\x91\x91\xc0"), 64)


# floats of 32 bits


@pytest.mark.parametrize(
    ("payload", "marked"),
    [
        ("ca 3f 80 00 00", "d6 80 3f 80 00 00"),
        ("c0", "c0"),
        ("a1 ca", "a1 ca"),
        ("c4 05 ca 3f 80 00 00", "c4 05 ca 3f 80 00 00"),
        ("93 ca 00 00 00 00 a1 ca ca ff ff ff ff", "93 d6 80 00 00 00 00 a1 ca d6 80 ff ff ff ff"),
        ("81 ca 00 00 00 00 cd 00 ca", "81 d6 80 00 00 00 00 cd 00 ca"),
        ("dc 00 01 ca 00 00 00 01", "dc 00 01 d6 80 00 00 00 01"),
    ],
)
def test_singles_are_marked_and_nothing_else(payload: str, marked: str) -> None:
    assert mark_singles(bytes.fromhex(payload)) == bytes.fromhex(marked)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_has_no_singles_is_left_as_it_is(value: Any) -> None:
    data = packed(value)
    assert mark_singles(data) == data
    marked = mark_singles(b"\x92" + data + b"\xca\x3f\x80\x00\x00")
    again, mark = msgspec.msgpack.decode(marked)
    assert again == value
    assert (mark.code, bytes(mark.data)) == (SINGLE, b"\x3f\x80\x00\x00")


# mending


def test_what_is_no_utf8_is_mended() -> None:
    error = UnicodeDecodeError("utf-8", b"", 0, 1, "why")
    assert mend(Raw(b"\x92\xa2a\xff\x01"), error) == packed(["a\ufffd", 1])


def test_the_last_tick_becomes_the_last_microsecond() -> None:
    tick = bytes.fromhex("91 c7 0c ff 3b 9a c9 9c 00 00 00 3a ff f4 41 7f")
    mended = mend(Raw(tick), msgspec.ValidationError())
    assert mended is not None
    assert msgspec.msgpack.decode(mended) == [datetime.max.replace(tzinfo=UTC)]


def test_nothing_else_is_mended() -> None:
    assert mend(Raw(b"\x91\x01"), msgspec.ValidationError()) is None
