"""JSON text as .NET reads and writes it."""

import msgspec
import pytest

from hubproto_core import RemoteProtocolError
from hubproto_core._codecs._json_text import (
    check_text,
    dotnet_text,
    read_members,
)


def as_dotnet(value: object) -> str:
    return dotnet_text(msgspec.json.encode(value)).decode()


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
