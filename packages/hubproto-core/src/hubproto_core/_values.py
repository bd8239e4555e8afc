"""Python types for values that .NET has and Python has not (SPEC appendix K)."""

from __future__ import annotations

from datetime import timedelta, timezone
from struct import Struct
from typing import Self

__all__ = ["ZERO_OFFSET", "Char", "Single"]

ZERO_OFFSET = timezone(timedelta(0), "+00:00")
"""The zone of a DateTimeOffset whose offset is zero. MessagePack tells it from a DateTime: `datetime.now(UTC)` is sent
as a DateTime, `datetime.now(ZERO_OFFSET)` as a DateTimeOffset, as are the times of all zones but UTC."""


class Char(str):
    """One UTF-16 code unit, .NET's `char`: a text of one character in JSON, a number in MessagePack.

    Annotate with it what a peer declares as `char`, and wrap in it what is sent to one. Raises ValueError for any other
    text than one character of the basic plane.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if len(text) != 1 or text > "\uffff":
            raise ValueError(f"a Char is one character of the basic plane, not {text!r}")


class Single(float):
    """A float of 32 bits, .NET's `float`: rounded to what it can hold, and written as what it is.

    .NET reads any number where it expects a `float`, so this is for peers that do not, and for bytes that must be the
    same. Raises OverflowError for a number that is too large.
    """

    __slots__ = ()

    def __new__(cls, value: float | str) -> Self:
        return super().__new__(cls, _as_single(float(value)))

    @property
    def shortest(self) -> float:
        """The number with the fewest digits that is rounded to this one."""
        for digits in range(6, 9):
            shorter = float(f"{self:.{digits}g}")
            if _as_single(shorter) == self:
                return shorter
        return float(f"{self:.9g}")


def _as_single(value: float) -> float:
    single: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    return single


_SINGLE = Struct("<f")  # not the native format, which makes infinity of what is too large
