"""JSON text as System.Text.Json takes it and writes it, where that differs from msgspec (SPEC 2.2, 2.2.3)."""

from __future__ import annotations

import re
from typing import Any, Self

import msgspec
from msgspec import Raw

from .._errors import RemoteProtocolError

__all__ = ["ReceivedFloat", "check_text", "dotnet_text", "encode_unknown", "read_members"]

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_ESCAPED_NAME = re.compile(rb'[{,]\s*"[^"]*\\u')
_TOKENS = {b'"': "String", b"[": "Array", b"t": "True", b"f": "False", b"n": "Null"}


def check_text(record: bytes, max_depth: int) -> bytes:
    """Refuse what msgspec lets pass in the places it skips, and spell member names without escapes.

    Raises `RemoteProtocolError` for text that is not UTF-8 or nested deeper than `max_depth` levels.
    """
    if not record.isascii():
        try:
            record.decode()
        except UnicodeDecodeError as error:
            raise _malformed() from error
    if record.count(b"[") + record.count(b"{") > max_depth:
        depth = 0
        for bracket in _BRACKETS.finditer(record):
            if bracket[0] in b"[{":
                depth += 1
                if depth > max_depth:
                    raise _malformed()
            elif bracket[0] in b"]}":
                depth -= 1
    if b"\\u" in record and _ESCAPED_NAME.search(record):
        return _encode(read_members(record))
    return record


def read_members(record: bytes) -> dict[str, Raw]:
    """Return the members of an object, unread. Of duplicate members the last wins.

    Raises `RemoteProtocolError` with the reference's words for what is no object.
    """
    try:
        return _decode_members(record)
    except msgspec.ValidationError as error:
        token = _TOKENS.get(record.lstrip()[:1], "Number")
        raise RemoteProtocolError(f"Unexpected JSON Token Type '{token}'. Expected a JSON Object.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed() from error


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError("Error reading JSON.")


class ReceivedFloat(float):
    """A float of no declared type. It remembers its text, with which it is sent on, as the reference does."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def encode_unknown(value: Any) -> Raw:
    """Encode what msgspec does not know. Raises TypeError for what nobody knows."""
    if isinstance(value, ReceivedFloat):
        return Raw(f" {value.text}".encode())  # the space, which msgspec never writes, keeps `dotnet_text` off it
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_SPACE, _QUOTE = b' "'

# What the relaxed escaper of .NET escapes: control, private-use and separator characters, the byte order mark, and all
# beyond the basic plane, as pairs. (Also what Unicode leaves unassigned; that differs by release and is left raw here.)
_ESCAPED = re.compile(
    "[\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff0-\ufff8\ufffe\uffff"
    "\U00010000-\U0010ffff]"
)
_LOWER_HEX = re.compile(rb"\\(?:u00([01][a-f])|.)", re.DOTALL)
_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"| ?-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?', re.DOTALL)


def dotnet_text(data: bytes, *, numbers: bool) -> bytes:
    """Rewrite what msgspec has written the way .NET writes it. `numbers`: there may be floats in it."""
    if not data.isascii() or b"\x7f" in data:
        data = _ESCAPED.sub(_escape, data.decode()).encode()
    if b"\\u00" in data:
        data = _LOWER_HEX.sub(_upper_hex, data)
    if numbers:
        data = _NUMBER.sub(_number, data)
    return data


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex().upper()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _upper_hex(match: re.Match[bytes]) -> bytes:
    return b"\\u00" + match[1].upper() if match[1] else match[0]


def _number(match: re.Match[bytes]) -> bytes:
    """Write a float in the shortest form, with an exponent only outside of 1E-04 to 1E+17."""
    text = match[0]
    if text[0] == _SPACE:
        return text[1:]
    if text[0] == _QUOTE or not (b"." in text or b"e" in text):
        return text
    mantissa, _, exponent = repr(float(text)).partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # 0.d1d2... times ten to this
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0".encode()
    if not -4 < point <= 17:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}E{point - 1:+03d}".encode()
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}".encode()
    if len(digits) <= point:
        return f"{sign}{digits.ljust(point, '0')}".encode()
    return f"{sign}{digits[:point]}.{digits[point:]}".encode()
