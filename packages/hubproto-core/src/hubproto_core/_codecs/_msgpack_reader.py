"""MessagePack element by element, as the reference reads it: up to the first mistake, and no further (SPEC 2.3.3).

msgspec takes a message in one call, but all of it or nothing. This reader is for the records that it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]
from msgspec import Raw

from .._errors import RemoteProtocolError

__all__ = ["INT32", "INT64", "Headers", "MessagePackReader", "past_the_end"]

INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)  # what Unpacker raises

Headers = dict[str, str]


class MessagePackReader:
    """Reads the elements of one record in order. Raises `RemoteProtocolError` for what is not what it must be."""

    __slots__ = ("_record", "_unpacker")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=len(record) or 1, use_list=False, strict_map_key=False, unicode_errors="replace"
        )
        self._unpacker.feed(record)

    def array(self) -> int:
        """The length of the array that is the message."""
        if not self._record:
            raise past_the_end()
        try:
            length: int = self._unpacker.read_array_header()
        except msgpack.OutOfData as error:
            raise past_the_end() from error
        except _UNREADABLE as error:
            raise _unexpected(self._record[0]) from error
        if self._left() < length:
            raise past_the_end()
        return length

    def integer(self, name: str, allowed: range) -> int:
        value = self._next()
        if type(value) is not int or value not in allowed:
            raise RemoteProtocolError(f"Reading '{name}' as Int{32 if allowed is INT32 else 64} failed.")
        return value

    def text(self, name: str) -> str | None:
        value = self._next()
        if value is not None and not isinstance(value, str):
            raise RemoteProtocolError(f"Reading '{name}' as String failed.")
        return value

    def boolean(self, name: str) -> bool:
        value = self._next()
        if not isinstance(value, bool):
            raise RemoteProtocolError(f"Reading '{name}' as Boolean failed.")
        return value

    def headers(self, behind: int) -> Headers:
        """The headers; `behind` is how many elements the message has after them."""
        count = self._length(self._unpacker.read_map_header, 2, behind)
        if count is None:
            raise RemoteProtocolError("Reading map length for 'headers' failed.")
        headers: Headers = {}
        for i in range(count):
            key = self.text(f"headers[{i}].Key")
            if not key:
                raise RemoteProtocolError("Null or empty key in header.")
            value = self.text(f"headers[{i}].Value")
            if not value:
                raise RemoteProtocolError("Null or empty value in header.")
            headers[key] = value
        return headers

    def stream_ids(self) -> tuple[str, ...] | None:
        """The ids of uploads, None if there are none."""
        count = self.array_length()
        if count is None:
            raise RemoteProtocolError("Reading array length for 'streamIds' failed.")
        stream_ids = []
        for _ in range(count):
            start = self._unpacker.tell()
            try:
                stream_id = self._unpacker.unpack()
            except _UNREADABLE as error:
                raise past_the_end() from error
            if stream_id is not None and not isinstance(stream_id, str):
                raise _unexpected(self._record[start])
            if not stream_id:
                raise RemoteProtocolError("Null or empty value in streamIds received.")
            stream_ids.append(stream_id)
        return tuple(stream_ids) or None

    def is_at_array(self) -> bool:
        """Whether the next element is an array that can be all there."""
        return MessagePackReader(self._record[self._unpacker.tell() :]).array_length() is not None

    def array_length(self) -> int | None:
        """The length of the next array; None if there is none, or not all of it."""
        return self._length(self._unpacker.read_array_header, 1, 0)

    def value(self) -> Raw | None:
        """The next value, unread; None if there is none."""
        start = self._unpacker.tell()
        try:
            self._unpacker.skip()
        except _UNREADABLE:
            return None
        return Raw(self._record[start : self._unpacker.tell()])

    def _next(self) -> Any:
        """The next value; something of no expected type if there is none."""
        try:
            return self._unpacker.unpack()
        except _UNREADABLE:
            return ...

    def _length(self, read: Callable[[], int], values: int, behind: int) -> int | None:
        """The length of an array or a map with so many values an entry; None if there cannot be enough bytes for them
        and for the elements behind."""
        try:
            length = read()
        except _UNREADABLE:
            return None
        return length if length * values + max(behind, 0) <= self._left() else None

    def _left(self) -> int:
        left: int = len(self._record) - self._unpacker.tell()
        return left


def past_the_end() -> RemoteProtocolError:
    return RemoteProtocolError("Attempted to read past the end of the stream.", kind="EndOfStreamException")


def _unexpected(code: int) -> RemoteProtocolError:
    if code < 0x80:
        name = "positive fixint"
    elif code < 0xC0:
        name = "fixmap" if code < 0x90 else "fixarray" if code < 0xA0 else "fixstr"
    else:
        name = "negative fixint" if code >= 0xE0 else _FORMATS[code - 0xC0]
    return RemoteProtocolError(
        f"Unexpected msgpack code {code} ({name}) encountered.", kind="MessagePackSerializationException"
    )


_FORMATS = (  # from 0xC0 on
    *("nil", "(never used)", "false", "true"),
    *(f"{kind} {bits}" for kind in ("bin", "ext") for bits in (8, 16, 32)),
    *("float 32", "float 64"),
    *(f"{kind} {bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)),
    *(f"fixext {length}" for length in (1, 2, 4, 8, 16)),
    *("str 8", "str 16", "str 32", "array 16", "array 32", "map 16", "map 32"),
)
