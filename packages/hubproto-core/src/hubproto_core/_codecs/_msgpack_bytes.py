"""What the bytes of a MessagePack payload show without being decoded: its depth, and what is to be mended in it."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
from msgspec import Raw

__all__ = ["SINGLE", "is_deeper", "mark_singles", "mend"]

SINGLE = -128
"""The type of the extension that `mark_singles` makes of a float of 32 bits."""

_SINGLE_CODE, _MARKED_SINGLE = 0xCA, b"\xd6\x80"

# DateTime.MaxValue, a favourite of .NET, would be rounded to the year 10000.
_LAST_TICK = bytes.fromhex("c7 0c ff 3b 9a c9 9c 00 00 00 3a ff f4 41 7f")
_LAST_MICROSECOND = bytes.fromhex("c7 0c ff 3b 9a c6 18 00 00 00 3a ff f4 41 7f")


def mend(raw: Raw, error: Exception) -> bytes | None:
    """Return a payload that could not be decoded as the reference understands it, None if it is no better then.

    What is no UTF-8 is read as U+FFFD, and the last tick of time as the last microsecond.
    """
    if isinstance(error, UnicodeDecodeError):
        value = msgpack.unpackb(raw, use_list=False, strict_map_key=False, unicode_errors="replace")
        packed: bytes = msgpack.packb(value)
        return packed
    data = bytes(raw)
    return data.replace(_LAST_TICK, _LAST_MICROSECOND) if _LAST_TICK in data else None


def mark_singles(data: bytes) -> bytes:
    """Return a payload with an extension in the place of each float of 32 bits, to tell it from one of 64."""
    pieces: list[bytes] = []
    start = position = 0
    while position < len(data):
        size, _ = _EXTENTS[data[position]] or _extent(data, position)
        if data[position] == _SINGLE_CODE:
            pieces += (data[start:position], _MARKED_SINGLE, data[position + 1 : position + size])
            start = position + size
        position += size
    return b"".join((*pieces, data[start:]))


_NOT_NESTING = bytes(code for code in range(256) if not (0x80 <= code <= 0x9F or 0xDC <= code <= 0xDF))


def is_deeper(raw: Raw, levels: int) -> bool:
    """Whether a payload's arrays and maps are nested in each other more than so many levels deep."""
    if memoryview(raw).nbytes <= levels:
        return False
    data = bytes(raw)
    if len(data.translate(None, _NOT_NESTING)) <= levels:
        return False
    around: list[int] = []  # values still to come, of each array and map around the current one
    left = 1  # values still to come here
    position = 0
    while True:
        size, values = _EXTENTS[data[position]] or _extent(data, position)
        position += size
        left -= 1
        if values is not None:
            if len(around) == levels:
                return True
            if values:
                around.append(left)
                left = values
        while not left:
            if not around:
                return False
            left = around.pop()


def _extent(data: bytes, position: int) -> tuple[int, int | None]:
    """Of a value whose length is not in its first byte: its own bytes, and for arrays and maps the values in it."""
    header, length_bytes, values_per_length = _LAYOUTS[data[position]]
    length = int.from_bytes(data[position + 1 : position + 1 + length_bytes])
    return (header + length, None) if values_per_length is None else (header, length * values_per_length)


_LAYOUTS: dict[
    int, tuple[int, int, int | None]
] = {  # the header's bytes, those in it that are a length, values for each
    **dict(zip(range(0xC4, 0xC7), ((2, 1, None), (3, 2, None), (5, 4, None)), strict=True)),  # bin
    **dict(zip(range(0xC7, 0xCA), ((3, 1, None), (4, 2, None), (6, 4, None)), strict=True)),  # ext
    **dict(zip(range(0xD9, 0xDC), ((2, 1, None), (3, 2, None), (5, 4, None)), strict=True)),  # str
    **dict(zip(range(0xDC, 0xE0), ((3, 2, 1), (5, 4, 1), (3, 2, 2), (5, 4, 2)), strict=True)),  # array, map
}
_EXTENTS: list[tuple[int, int | None] | None] = [
    *[(1, None)] * 0x80,  # positive integers
    *[(1, 2 * length) for length in range(16)],  # maps
    *[(1, length) for length in range(16)],  # arrays
    *[(1 + length, None) for length in range(32)],  # str
    *[(1, None)] * 4,  # nil, (never used), false, true
    *[None] * 6,  # bin, ext
    *[(1 + length, None) for length in (4, 8)],  # float
    *[(1 + length, None) for length in (1, 2, 4, 8) * 2],  # unsigned and signed integers
    *[(2 + length, None) for length in (1, 2, 4, 8, 16)],  # ext of fixed lengths
    *[None] * 7,  # str, array, map
    *[(1, None)] * 0x20,  # negative integers
]
