"""JSON token by token, as System.Text.Json reads it: up to the first mistake, and no byte further (SPEC 2.2, 1.4.1).

msgspec judges a text as a whole, and is much faster. This reader is for the texts that it refuses, and for those where
it matters what stands first. It accepts what nobody reads, such as a skipped member that is no UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import msgspec

from .._errors import RemoteProtocolError

__all__ = ["JsonReader", "MalformedJson"]

Kind = Literal[
    "StartObject", "EndObject", "StartArray", "EndArray", "PropertyName", "String", "Number", "True", "False", "Null"
]

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?=[,}\] \t\r\n/]|\Z)"
_match_value = re.compile(
    _SPACE + rb"(?:(\{)|(\[)|(" + _STRING + rb")|(" + _NUMBER + rb")|(true)|(false)|(null))"
).match
_match_name = re.compile(_SPACE + b"(" + _STRING + b")" + _SPACE + b":").match
_match_punctuation = re.compile(_SPACE + rb"([,\]}])").match
_VALUES: tuple[Kind, ...] = ("Null", "StartObject", "StartArray", "String", "Number", "True", "False", "Null")
_INTEGER = re.compile(rb"-?[0-9]{1,20}")
_decode_string = msgspec.json.Decoder(str).decode


class MalformedJson(ValueError):
    """The text is no JSON, or is nested too deep. What the reference makes of that depends on what is read."""


class JsonReader:
    """Reads the first value in `data`; what follows that value is nobody's business.

    Every method that reads raises `MalformedJson` where the text stops being JSON or is nested deeper than `max_depth`
    levels, and `RemoteProtocolError`, in the reference's words, where a token is not the one that is asked for.
    `names` are those of the members that are not skipped.
    """

    __slots__ = ("_data", "_end", "_in_object", "_max_depth", "_names", "_position", "_start", "kind")

    def __init__(self, data: bytes, max_depth: int, names: Collection[bytes] = ()) -> None:
        self.kind: Kind | None = None
        """The kind of the current token; None before the first."""
        self._data = data
        self._max_depth = max_depth
        self._names = names
        self._in_object: list[bool] = []  # for each array and object that is open, whether it is an object
        self._start = self._end = 0  # the current token
        self._position = 0  # how far we have read: behind a name's colon

    @property
    def token(self) -> bytes:
        """The current token as it is written."""
        return self._data[self._start : self._end]

    def read(self) -> Kind:
        """Go on to the next token, of which there must be one."""
        if self.kind == "PropertyName" or not self._in_object:
            return self._read_value()
        punctuation = _match_punctuation(self._data, self._position)
        if punctuation is not None:
            self._position = punctuation.end()
            if punctuation[1] != b",":
                return self._read_end(punctuation[1] == b"}")
        if (punctuation is None) != (self.kind == "StartObject" or self.kind == "StartArray"):
            raise MalformedJson
        return self._read_name() if self._in_object[-1] else self._read_value()

    def skip(self) -> None:
        """Go on to the end of the current value."""
        depth = len(self._in_object)
        if self.kind == "StartObject" or self.kind == "StartArray":
            while len(self._in_object) >= depth:
                self.read()

    def value(self) -> bytes:
        """Go on to the end of the current value; return it as it is written."""
        start = self._start
        self.skip()
        return self._data[start : self._end]

    def text(self) -> str:
        """Return the current token as text. Raises `RemoteProtocolError` for what is no string, or none in Unicode."""
        if self.kind != "String" and self.kind != "PropertyName":
            raise RemoteProtocolError(
                f"Cannot get the value of a token type '{self.kind}' as a string.", kind="InvalidOperationException"
            )
        try:
            return _decode_string(self.token)
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(
                "Cannot transcode invalid UTF-8 JSON text to UTF-16 string.", kind="InvalidOperationException"
            ) from error
        except msgspec.DecodeError as error:
            raise _no_utf16() from error

    def read_object(self) -> None:
        """Go on to a value that must be an object."""
        if self.read() != "StartObject":
            raise RemoteProtocolError(f"Unexpected JSON Token Type '{self._token_type()}'. Expected a JSON Object.")

    def read_array(self) -> None:
        """Go on to a value that must be an array."""
        if self.read() != "StartArray":
            raise RemoteProtocolError(f"Unexpected JSON Token Type '{self._token_type()}'. Expected a JSON Array.")

    def read_name(self) -> str | None:
        """Go on to the next member of an object and return its name; None at the object's end.

        What is no UTF-8 is nobody's name, and returned as "". So is a name with half of a surrogate pair, but the
        reference fails when it compares it with one that begins alike.
        """
        if self.read() == "EndObject":
            return None
        try:
            return _decode_string(self.token)
        except UnicodeDecodeError:
            return ""
        except msgspec.DecodeError as error:
            written = self.token[1:-1]
            start = written.partition(b"\\")[0]
            if any(len(written) // 6 <= len(name) <= len(written) and name.startswith(start) for name in self._names):
                raise _no_utf16() from error
            return ""

    def read_string(self, name: str) -> str:
        """Go on to the value of the member `name`, which must be a string."""
        if self.read() != "String":
            raise RemoteProtocolError(f"Expected '{name}' to be of type String.")
        return self.text()

    def read_boolean(self, name: str) -> bool:
        """Go on to the value of the member `name`, which must be true or false."""
        kind = self.read()
        if kind != "True" and kind != "False":
            raise RemoteProtocolError(f"Expected '{name}' to be true or false.")
        return kind == "True"

    def read_integer(self, name: str, bits: int) -> int | None:
        """Go on to the value of the member `name`, which must be null or a signed integer of 32 or 64 bits."""
        kind = self.read()
        if kind == "Null":
            return None
        if kind != "Number":
            raise RemoteProtocolError(f"Expected '{name}' to be of type Number.")
        limit = 1 << (bits - 1)
        number = int(self.token) if _INTEGER.fullmatch(self.token) else limit
        if not -limit <= number < limit:
            raise RemoteProtocolError(
                f"Either the JSON value is not in a supported format, or is out of bounds for an Int{bits}.",
                kind="FormatException",
            )
        return number

    def _token_type(self) -> str:
        return "Array" if self.kind == "StartArray" else str(self.kind)

    def _read_value(self) -> Kind:
        match = _match_value(self._data, self._position)
        if match is None or match.lastindex is None:
            raise MalformedJson
        self._start, self._end = match.span(match.lastindex)
        self._position = self._end
        self.kind = _VALUES[match.lastindex]
        if match.lastindex <= 2:
            if len(self._in_object) >= self._max_depth:
                raise MalformedJson
            self._in_object.append(match.lastindex == 1)
        return self.kind

    def _read_name(self) -> Kind:
        match = _match_name(self._data, self._position)
        if match is None:
            raise MalformedJson
        self._start, self._end = match.span(1)
        self._position = match.end()
        self.kind = "PropertyName"
        return self.kind

    def _read_end(self, of_object: bool) -> Kind:
        if self._in_object.pop() != of_object:
            raise MalformedJson
        self._end = self._position
        self._start = self._end - 1
        self.kind = "EndObject" if of_object else "EndArray"
        return self.kind


def _no_utf16() -> RemoteProtocolError:
    return RemoteProtocolError(
        "Cannot read incomplete UTF-16 JSON text as string with missing low surrogate.",
        kind="InvalidOperationException",
    )
