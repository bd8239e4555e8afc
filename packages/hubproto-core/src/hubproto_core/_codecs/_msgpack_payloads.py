"""Payloads in MessagePack, as MessagePack-CSharp has them for SignalR (SPEC 2.3.5, appendix K)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import Enum
from functools import lru_cache
from typing import Any, Self

import msgspec
from msgspec import Raw, inspect

from .._values import ZERO_OFFSET, Char, Single
from ._naming import Rename
from ._payloads import PayloadFormat

__all__ = ["MessagePackPayloads"]

_MICROSECOND = timedelta(microseconds=1)
_TICKS = 10  # of 100 ns, in a microsecond


class MessagePackPayloads(PayloadFormat):
    """Names as they are declared unless told otherwise, and no other name will do."""

    __slots__ = ()

    plain = frozenset({str, int, bool, float, type(None), bytes, Raw})
    str_keys = False

    @classmethod
    @lru_cache(maxsize=32)
    def of(
        cls,
        rename: Rename,
        enc_hook: Callable[[Any], Any] | None,
        dec_hook: Callable[[type, Any], Any] | None,
    ) -> Self:
        """The format with these settings, made once: the decoders of all types are kept under it."""
        return cls(rename, enc_hook, dec_hook)

    def leaf_writers(self) -> Mapping[type, Callable[[Any], Any]]:
        """See `PayloadFormat`."""
        return {
            float: float,
            Single: _write_single,
            Char: ord,
            datetime: _write_datetime,
            date: _write_date,
            time: _write_time,
            timedelta: _write_timedelta,
        }

    def write_enum(self, value: Enum) -> Any:
        """Enumerations are the names of their members, unless their values are texts."""
        if isinstance(value.value, str):
            return value.value
        name: str | None = value.name  # a combination of flags may have none
        return str(value.value) if name is None else name.replace("|", ", ")

    def read_char(self, value: Any) -> Char:
        """See `PayloadFormat`."""
        return Char(chr(value) if isinstance(value, int) else str(value))

    def native_decoder(self, type_: Any, dec_hook: Callable[[type, Any], Any]) -> Callable[[Any], Any]:
        """See `PayloadFormat`."""
        return msgspec.msgpack.Decoder(type_, dec_hook=dec_hook).decode

    def compared(self, name: str) -> str:
        """Names must be the same."""
        return name

    def may_differ(self, raw: Any, names: frozenset[str], compared: frozenset[str]) -> bool:
        """See `PayloadFormat`."""
        return names != compared


def _read_timedelta(value: Any) -> Any:
    """TimeSpan: ticks of 100 ns."""
    return value // _TICKS * _MICROSECOND if isinstance(value, int) else value


def _read_date(value: Any) -> Any:
    """DateOnly: days since the first one."""
    return date.fromordinal(value + 1) if isinstance(value, int) else value


def _read_time(value: Any) -> Any:
    """TimeOnly: ticks since midnight."""
    if not isinstance(value, int):
        return value
    seconds, microseconds = divmod(value // _TICKS, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return time(hours, minutes, seconds, microseconds)


def _read_datetime(value: Any) -> Any:
    """DateTimeOffset: the clock time there, as if it were UTC, and the offset in minutes."""
    match value:
        case [datetime() as clock, int() as offset]:
            zone = timezone(timedelta(minutes=offset)) if offset else ZERO_OFFSET
            return clock.replace(tzinfo=zone)
    return value


MessagePackPayloads.leaves = {
    inspect.TimeDeltaType: _read_timedelta,
    inspect.DateType: _read_date,
    inspect.TimeType: _read_time,
    inspect.DateTimeType: _read_datetime,
}


def _write_single(value: Single) -> Raw:
    return Raw(struct.pack(">Bf", 0xCA, value))


def _write_datetime(value: datetime) -> datetime | list[Any]:
    """DateTime, which is UTC or of no zone; for any other zone DateTimeOffset."""
    clock = value.replace(tzinfo=UTC)
    offset = value.utcoffset()
    if offset is None or (not offset and value.tzname() != ZERO_OFFSET.tzname(None)):
        return clock
    minutes, rest = divmod(offset, timedelta(minutes=1))
    if rest:
        raise ValueError(f".NET knows no offset of {offset}")
    return [clock, minutes]


def _write_date(value: date) -> int:
    return value.toordinal() - 1


def _write_time(value: time) -> int:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 1_000_000 + value.microsecond) * _TICKS


def _write_timedelta(value: timedelta) -> int:
    return value // _MICROSECOND * _TICKS
