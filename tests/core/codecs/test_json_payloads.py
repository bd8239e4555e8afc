"""Payloads in JSON: the leaves that .NET writes in its own way."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core._codecs._json_payloads import JsonPayloads, ReceivedFloat

PAYLOADS = JsonPayloads.of("camel", None, None)


def written(value: Any) -> str:
    return msgspec.json.encode(PAYLOADS.write(value)).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (-1, "-1"),
        (2.0, "2"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (100.0, "100"),
        (1234.5, "1234.5"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (0.00001, "1E-05"),
        (1.25e-7, "1.25E-07"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (12345678901234567.0, "12345678901234568"),
        (1e17, "1E+17"),
        (-1.5e17, "-1.5E+17"),
        (1e100, "1E+100"),
        (5e-324, "5E-324"),
        (1.7976931348623157e308, "1.7976931348623157E+308"),
    ],
)
def test_floats_are_written_as_dotnet_writes_them(value: float, text: str) -> None:
    assert written(value) == text
    assert written({"a": [value, "x"]}) == f'{{"a":[{text},"x"]}}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_has_its_value(value: float) -> None:
    text = written(value)
    assert struct.pack("d", float(text)) == struct.pack("d", value)
    digits = re.sub(r"E.*|[-.]", "", text).strip("0")
    assert len(digits) <= 17
    if value != 0:
        assert ("E" in text) == (not 1e-4 <= abs(value) < 1e17) or math.isclose(abs(value), 1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        written([value])


@pytest.mark.parametrize("text", ["1.0", "1.50", "1E5", "1e+5", "1.5E-07", "-0.0", "1e400", "0.10000000000000000555"])
def test_floats_of_no_declared_type_are_sent_on_as_they_came(text: str) -> None:
    received = PAYLOADS.decoder(Any)(f'{{"a":[{text},1.0]}}')
    assert isinstance(received["a"][0], ReceivedFloat)
    assert received["a"][0] == float(text)
    assert written(received) == f'{{"a":[{text},1.0]}}'
