"""Python types for values that .NET has and Python has not."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import ZERO_OFFSET, Char, Single


@pytest.mark.parametrize("text", ["a", "ж", "\0", "\uffff", "\ud800"])
def test_a_char_is_the_text_of_one_character(text: str) -> None:
    assert Char(text) == text
    assert isinstance(Char(text), str)


@pytest.mark.parametrize("text", ["", "ab", "\U0001f600"])
def test_other_texts_are_no_char(text: str) -> None:
    with pytest.raises(ValueError, match="a Char is one character of the basic plane, not"):
        Char(text)


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (1.5, 1.5),
        (0.1, 0.10000000149011612),
        ("0.25", 0.25),
        (16777217, 16777216.0),
        (1e-50, 0.0),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
    ],
)
def test_a_single_is_rounded_to_32_bits(value: float | str, held: float) -> None:
    assert Single(value) == held
    assert isinstance(Single(value), float)


def test_a_single_may_be_no_number() -> None:
    assert math.isnan(Single(math.nan))
    assert math.isnan(Single(math.nan).shortest)


@pytest.mark.parametrize("value", [1e300, -3.5e38])
def test_what_32_bits_cannot_hold_is_no_single(value: float) -> None:
    with pytest.raises(OverflowError):
        Single(value)


@pytest.mark.parametrize("value", [0.1, 1.5, -2.0, 0.3333333333333333, 3.4028235e38, 1e-45, 16777216.0, 0.0])
def test_the_shortest_number_has_no_digits_of_64_bits(value: float) -> None:
    digits = f"{Single(value).shortest!r}".replace("-", "").replace(".", "").partition("e")[0].strip("0")
    assert len(digits) <= 9
    assert Single(Single(value).shortest) == Single(value)


@given(st.floats(width=32, allow_nan=False))
def test_the_shortest_number_is_rounded_to_the_single(value: float) -> None:
    single = Single(value)
    assert single == value
    assert struct.pack("<f", single.shortest) == struct.pack("<f", value)


def test_the_zone_without_an_offset_is_not_utc_but_counts_the_same() -> None:
    moment = datetime(2024, 2, 29, 12, tzinfo=ZERO_OFFSET)
    assert moment.utcoffset() == timedelta(0)
    assert moment.tzname() == "+00:00"
    assert moment == datetime(2024, 2, 29, 12, tzinfo=UTC)
