"""JSON text as .NET reads and writes it."""

import math
import re
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import RemoteProtocolError
from hubproto_core._codecs._json_text import (
    ReceivedFloat,
    check_text,
    dotnet_text,
    encode_unknown,
    read_members,
)


def as_dotnet(value: object) -> str:
    return dotnet_text(msgspec.json.encode(value), numbers=True).decode()


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
    assert as_dotnet(value) == text
    assert as_dotnet({"a": [value, "x"]}) == f'{{"a":[{text},"x"]}}'


def test_integers_and_numbers_in_strings_are_left_alone() -> None:
    assert (
        as_dotnet([10**17, -5, "1.50", '"2.0', "\\", "3.0e5"])
        == '[100000000000000000,-5,"1.50","\\"2.0","\\\\","3.0e5"]'
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_has_its_value(value: float) -> None:
    text = as_dotnet(value)
    assert struct.pack("d", float(text)) == struct.pack("d", value)
    digits = re.sub(r"E.*|[-.]", "", text).strip("0")
    assert len(digits) <= 17
    if value != 0:
        assert ("E" in text) == (not 1e-4 <= abs(value) < 1e17) or math.isclose(abs(value), 1e-4)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("caf\u00e9 \u0436 \u2603", '"caf\u00e9 \u0436 \u2603"'),
        ("<&>'+`/", '"<&>\'+`/"'),
        ("\U0001f600", '"\\uD83D\\uDE00"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("\x7f\x80\xa0", '"\\u007F\\u0080\\u00A0"'),
        ("\ue000\ufeff\uffff", '"\\uE000\\uFEFF\\uFFFF"'),
        ('\x00\x1f\x0b\n\t"\\', '"\\u0000\\u001F\\u000B\\n\\t\\"\\\\"'),
        ("\\u001f", '"\\\\u001f"'),
        ("\x1e", '"\\u001E"'),
    ],
)
def test_strings_are_escaped_as_dotnet_escapes_them(value: str, text: str) -> None:
    assert as_dotnet(value) == text
    assert msgspec.json.decode(text) == value


def test_only_what_may_hold_floats_is_searched_for_them() -> None:
    assert dotnet_text(b"[1.50]", numbers=False) == b"[1.50]"


def nested(depth: int) -> bytes:
    return b"[" * depth + b'"]\\""' + b"]" * depth


def test_text_may_be_nested_64_levels_deep() -> None:
    assert check_text(nested(5), 5) == nested(5)
    with pytest.raises(RemoteProtocolError, match=r"^Error reading JSON\.$"):
        check_text(nested(6), 5)


def test_many_values_side_by_side_are_not_deep() -> None:
    wide = b"[" + b"{},[]," * 100 + b"0]"
    assert check_text(wide, 5) == wide


@pytest.mark.parametrize("text", [b'"\xff"', b'{"a":"\xc3"}'])
def test_text_is_utf8(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^Error reading JSON\.$"):
        check_text(text, 64)


def test_escaped_names_are_spelled_out() -> None:
    assert check_text(b'{"\\u0061":"\\u0062"}', 64) == b'{"a":"\\u0062"}'
    assert check_text(b'{"a":"\\u0062"}', 64) == b'{"a":"\\u0062"}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        (b"{", "Error reading JSON."),
        (b"", "Error reading JSON."),
    ],
)
def test_what_is_no_object_has_no_members(text: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        read_members(text)
    assert str(refused.value) == reason


def test_of_repeated_members_the_last_wins() -> None:
    assert {name: bytes(value) for name, value in read_members(b'{"a":1,"b":[ 2 ],"a":{}}').items()} == {
        "a": b"{}",
        "b": b"[ 2 ]",
    }


@pytest.mark.parametrize("text", ["1.0", "1.50", "1E5", "1e+5", "1.5E-07", "-0.0", "1e400", "0.10000000000000000555"])
def test_floats_of_no_declared_type_are_sent_on_as_they_came(text: str) -> None:
    received = msgspec.json.Decoder(float_hook=ReceivedFloat).decode(f'{{"a":[{text},1.0]}}')
    assert isinstance(received["a"][0], float)
    assert received["a"][0] == float(text)
    again = msgspec.json.Encoder(enc_hook=encode_unknown).encode(received)
    assert dotnet_text(again, numbers=True).decode() == f'{{"a":[{text},1.0]}}'


def test_what_nobody_can_encode_is_refused() -> None:
    with pytest.raises(TypeError, match="Encoding objects of type object is unsupported"):
        encode_unknown(object())
