"""Payloads in MessagePack, as MessagePack-CSharp has them for SignalR (SPEC 2.3.5, appendix K)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
from msgspec import Raw, inspect

from .._values import ZERO_OFFSET, Char, Single
from ._msgpack_bytes import SINGLE, mark_singles
from ._payloads import PayloadFormat, decimal_text, member_names, offset_minutes, time_span

__all__ = ["MessagePackPayloads"]

_MICROSECOND = timedelta(microseconds=1)
_TICKS = 10  # of 100 ns, in a microsecond


class MessagePackPayloads(PayloadFormat):
    """Names as they are declared unless told otherwise, and no other name will do."""

    __slots__ = ()

    plain = frozenset({str, int, bool, float, type(None), bytes, Raw, msgspec.msgpack.Ext})
    str_keys = False
    any_case = False
    foreign = frozenset({inspect.TimeDeltaType, inspect.DateType, inspect.TimeType})

    def leaf_writers(self) -> Mapping[type, Callable[[Any], Any]]:
        """See `PayloadFormat`."""
        return {
            float: float.__float__,
            Decimal: decimal_text,
            Single: _write_single,
            Char: ord,
            datetime: _write_datetime,
            date: _write_date,
            time: _write_time,
            timedelta: _write_timedelta,
        }

    def write_enum(self, value: Enum) -> Any:
        """Enumerations are the names of their members, unless their values are texts."""
        return value.value if isinstance(value.value, str) else member_names(value)

    def read_char(self, value: Any) -> Char:
        """See `PayloadFormat`."""
        match value:
            case str():
                return Char(value)
            case int() if 0 <= value <= 0xFFFF:
                return Char(chr(value))
        raise ValueError(f"Expected a character, got {value!r:.20}")

    def native_decoder(self, type_: Any, dec_hook: Callable[[type, Any], Any]) -> Callable[[Any], Any]:
        """See `PayloadFormat`."""
        return msgspec.msgpack.Decoder(type_, dec_hook=dec_hook).decode

    def decoder(self, type_: Any) -> Callable[[Any], Any]:
        """See `PayloadFormat`. A float of 32 bits and of no declared type is received as a `Single`, and so sent on."""
        decode = super().decoder(type_)
        if not _takes_any_float(inspect.type_info(type_)):
            return decode
        return _UntypedDecoder(decode, msgspec.msgpack.Decoder(type_, ext_hook=_read_extension).decode).decode

    def write_key(self, key: Any) -> Any:
        """See `PayloadFormat`. An array may be a key."""
        return tuple(map(self.write_key, key)) if isinstance(key, tuple) else self.write(key)

    def must_prepare(self, raw: Any, names: Mapping[str, str | None]) -> bool:
        """See `PayloadFormat`."""
        return True


def _read_timedelta(value: Any) -> Any:
    """TimeSpan: ticks of 100 ns."""
    if type(value) is not int:
        return value
    microseconds = abs(value) // _TICKS * _MICROSECOND
    return microseconds if value > 0 else -microseconds


def _read_date(value: Any) -> Any:
    """DateOnly: days since the first one."""
    return date.fromordinal(value + 1) if type(value) is int else value


def _read_time(value: Any) -> Any:
    """TimeOnly: ticks since midnight."""
    if type(value) is not int:
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
    minutes = offset_minutes(value)
    return clock if minutes is None or value.tzname() == "UTC" else [clock, minutes]


def _write_date(value: date) -> int:
    return value.toordinal() - 1


def _write_time(value: time) -> int:
    if value.tzinfo is not None:
        raise ValueError(".NET's TimeOnly has no zone")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 1_000_000 + value.microsecond) * _TICKS


def _write_timedelta(value: timedelta) -> int:
    return time_span(value) // _MICROSECOND * _TICKS


class _UntypedDecoder:
    """Decodes payloads in which floats may stand where nothing says of how many bits they are."""

    __slots__ = ("_decode", "_decode_marked")

    def __init__(self, decode: Callable[[Any], Any], decode_marked: Callable[[Any], Any]) -> None:
        self._decode = decode
        self._decode_marked = decode_marked

    def decode(self, raw: Any) -> Any:
        data = bytes(raw)
        if _SINGLE_CODE not in data:
            return self._decode(raw)
        return self._decode_marked(mark_singles(data))


_SINGLE_CODE = b"\xca"
_NO_FLOATS = (inspect.StrType, inspect.IntType, inspect.BoolType, inspect.BytesType, inspect.NoneType)


def _takes_any_float(info: inspect.Type) -> bool:
    """Whether the floats in values of this type are of no declared type, all of them."""
    match info:
        case inspect.AnyType():
            return True
        case inspect.TupleType(item_types=types):
            untyped = [t for t in types if not isinstance(t, _NO_FLOATS)]
            return bool(untyped) and all(map(_takes_any_float, untyped))
        case inspect.DictType(key_type=key_type, value_type=value_type):
            return isinstance(key_type, (*_NO_FLOATS, inspect.AnyType)) and _takes_any_float(value_type)
        case inspect.CollectionType(item_type=item_type):
            return _takes_any_float(item_type)
    return False


def _read_extension(code: int, data: memoryview) -> Any:
    return Single(struct.unpack(">f", data)[0]) if code == SINGLE else msgspec.msgpack.Ext(code, bytes(data))
