"""Payloads in JSON, as System.Text.Json has them (SPEC 2.2.6, appendix K)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Self

import msgspec
from msgspec import Raw, UnsetType, inspect

from .._values import Char, Single
from ._payloads import PayloadFormat, decimal_text, member_names, offset_minutes, time_span

__all__ = ["JsonPayloads", "ReceivedFloat"]

_STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:)?')
_TIME_SPAN = re.compile(
    r"(-?)(?:([0-9]{1,8})\.)?([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,7}))?", re.ASCII
)
_ALMOST_OVER = re.compile(r"((?:9999-12-31T)?23:59:59\.999999)[0-9]+")
_decode_string = msgspec.json.Decoder(str).decode


class ReceivedFloat(float):
    """A float of no declared type. It remembers its text, with which it is sent on, as the reference does."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


class JsonPayloads(PayloadFormat):
    """camelCase names unless told otherwise; names are read whatever their case."""

    __slots__ = ()

    plain = frozenset({str, int, bool, type(None), bytes, Raw, UnsetType})
    str_keys = True
    any_case = True
    foreign = frozenset({inspect.TimeType})

    def leaf_writers(self) -> Mapping[type, Callable[[Any], Any]]:
        """See `PayloadFormat`."""
        return {
            float: _write_float,
            ReceivedFloat: _write_received,
            Single: _write_single,
            Char: str,
            Decimal: _write_decimal,
            datetime: _write_datetime,
            date: date.isoformat,
            time: _write_time,
            timedelta: _write_timedelta,
        }

    def write_enum(self, value: Enum) -> Any:
        """Enumerations are numbers, or whatever their values are."""
        return self.write(value.value)

    def read_char(self, value: Any) -> Char:
        """See `PayloadFormat`."""
        if not isinstance(value, str):
            raise ValueError(f"Expected a character, got {type(value).__name__}")
        return Char(value)

    def native_decoder(self, type_: Any, dec_hook: Callable[[type, Any], Any]) -> Callable[[Any], Any]:
        """See `PayloadFormat`."""
        return msgspec.json.Decoder(type_, float_hook=ReceivedFloat, dec_hook=dec_hook).decode

    def write_key(self, key: Any) -> Any:
        """Names of enumerations, and the text of numbers."""
        if isinstance(key, Enum):
            return key.value if isinstance(key.value, str) else member_names(key)
        written = self.write(key)
        return bytes(written).decode() if isinstance(written, Raw) else written

    def must_prepare(self, raw: Any, names: Mapping[str, str | None]) -> bool:
        """See `PayloadFormat`."""
        for string in _STRING.finditer(raw):
            if string[2] is not None:
                name = _decode_string(string[0][: -len(string[2])]) if b"\\" in string[1] else string[1].decode()
                if names.get(name.lower(), name) != name:
                    return True
        return False


def _read_timedelta(value: Any) -> Any:
    """.NET's constant format, `[-][d.]hh:mm:ss[.fffffff]`."""
    found = _TIME_SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    sign, days, hours, minutes, seconds, fraction = found.groups()
    span = timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(6, "0")[:6]),
    )
    return -span if sign else span


def _read_clock(value: Any) -> Any:
    """Seven digits are rounded to six, but the last moment of time and of the day are not rounded away."""
    almost_over = _ALMOST_OVER.match(value) if isinstance(value, str) else None
    return value if almost_over is None else almost_over[1] + value[almost_over.end() :]


def _read_float(value: Any) -> Any:
    return float(value) if isinstance(value, ReceivedFloat) else value


def _read_decimal(value: Any) -> Any:
    return Decimal(value.text) if isinstance(value, ReceivedFloat) else value


JsonPayloads.leaves = {
    inspect.TimeDeltaType: _read_timedelta,
    inspect.DateTimeType: _read_clock,
    inspect.TimeType: _read_clock,
    inspect.FloatType: _read_float,
    inspect.DecimalType: _read_decimal,
}


def _write_received(value: ReceivedFloat) -> Raw:
    return Raw(value.text.encode())


def _write_single(value: Single) -> Raw:
    return _write_float(value.shortest)


def _write_float(value: float) -> Raw:
    """Write a float in the shortest form, with an exponent only outside of 1E-04 to 1E+17."""
    if not isfinite(value):
        raise ValueError(f"JSON has no number {value}")
    mantissa, _, exponent = repr(value).partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # 0.d1d2... times ten to this
    digits = digits.rstrip("0")
    if not digits:
        text = f"{sign}0"
    elif not -4 < point <= 17:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{sign}{digits[0]}{tail}E{point - 1:+03d}"
    elif point <= 0:
        text = f"{sign}0.{'0' * -point}{digits}"
    elif len(digits) <= point:
        text = f"{sign}{digits.ljust(point, '0')}"
    else:
        text = f"{sign}{digits[:point]}.{digits[point:]}"
    return Raw(text.encode())


def _write_decimal(value: Decimal) -> Raw:
    return Raw(decimal_text(value).encode())


def _write_datetime(value: datetime) -> str:
    clock = value.replace(tzinfo=None).isoformat()
    if value.microsecond:
        clock = clock.rstrip("0")
    minutes = offset_minutes(value)
    if not minutes:
        return clock if minutes is None else f"{clock}Z"
    hours, rest = divmod(abs(minutes), 60)
    return f"{clock}{'+' if minutes > 0 else '-'}{hours:02d}:{rest:02d}"


def _write_time(value: time) -> str:
    if value.tzinfo is not None:
        raise ValueError(".NET's TimeOnly has no zone")
    return _clock(value.hour, value.minute, value.second, value.microsecond)


def _write_timedelta(value: timedelta) -> str:
    sign = "-" if value.days < 0 else ""
    value = abs(time_span(value))
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = f"{value.days}." if value.days else ""
    return f"{sign}{days}{_clock(hours, minutes, seconds, value.microseconds)}"


def _clock(hours: int, minutes: int, seconds: int, microseconds: int) -> str:
    fraction = f".{microseconds:06d}0" if microseconds else ""
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"
