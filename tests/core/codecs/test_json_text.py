"""JSON text as .NET reads and writes it."""

import msgspec
import pytest

from hubproto_core._codecs._json_text import dotnet_text, is_plain, repaired


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


def test_plain_text_is_nested_as_deep_as_is_allowed() -> None:
    assert is_plain(nested(5), 5)
    assert not is_plain(nested(6), 5)


def test_many_values_side_by_side_are_not_deep() -> None:
    assert is_plain(b"[" + b"{},[]," * 100 + b"0]", 5)


def test_brackets_in_strings_are_no_depth() -> None:
    assert is_plain(b'["[[[[[[\\"{{{{"]', 5)


def test_a_string_without_end_is_gone_through_once() -> None:
    assert is_plain(b"[]" * 70 + b'"' + b'\\"' * 500_000, 64)
    assert is_plain(b"[]" * 70 + b'"[[' + b"\\", 1)
    assert not is_plain(b"[]" * 70 + b'"[["[[', 1)


@pytest.mark.parametrize("text", [b'"\xff"', b'{"a":"\xc3"}'])
def test_plain_text_is_utf8(text: bytes) -> None:
    assert not is_plain(text, 64)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (b'{"\\u0061":1}', False),
        (b'{"a":1, "b\\u0061":1}', False),
        (b'{"a":"\\u0062"}', True),
        (b'{"a":["\\u0062"]}', True),
        ('{"\u00e9":1}'.encode(), True),
    ],
)
def test_names_are_plain_without_escapes(text: bytes, plain: bool) -> None:
    assert is_plain(text, 64) == plain


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (b'"a\xffb\xc3"', '"a\ufffdb\ufffd"'),
        (b'"\\ud800"', '"\ufffd"'),
        (b'"\\uDFFF\\ud800\\u0061"', '"\ufffd\ufffd\\u0061"'),
        (b'"\\ud83d\\ude00\\\\ud800\\""', '"\\ud83d\\ude00\\\\ud800\\""'),
        ('["\u00e9",1]'.encode(), '["\u00e9",1]'),
    ],
)
def test_what_is_no_text_is_repaired(text: bytes, whole: str) -> None:
    assert repaired(text).decode() == whole
    msgspec.json.decode(repaired(text))
