"""Payloads in MessagePack: the types of .NET, byte by byte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import ZERO_OFFSET, Char, Single
from hubproto_core._codecs._msgpack_payloads import MessagePackPayloads

PAYLOADS = MessagePackPayloads.of(None, None, None)
IST = timezone(timedelta(hours=5, minutes=30))
MOMENT = datetime(2024, 2, 29, 12, 34, 56)  # noqa: DTZ001 - of no zone
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def written(value: Any, payloads: MessagePackPayloads = PAYLOADS) -> str:
    return msgspec.msgpack.encode(payloads.write(value)).hex(" ")


def read(type_: Any, data: str, payloads: MessagePackPayloads = PAYLOADS) -> Any:
    return payloads.decoder(type_)(msgspec.Raw(bytes.fromhex(data)))


class Color(Enum):
    Red = 0
    Blue = 6


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (bool, True, "c3"),
        (type(None), None, "c0"),
        (str, "na\u00efve", "a6 6e 61 c3 af 76 65"),
        (int, 200, "cc c8"),
        (int, -300, "d1 fe d4"),
        (int, 70000, "ce 00 01 11 70"),
        (int, 2**53 + 1, "cf 00 20 00 00 00 00 00 01"),
        (int, 2**64 - 1, "cf ff ff ff ff ff ff ff ff"),
        (int, -(2**63), "d3 80 00 00 00 00 00 00 00"),
        (float, 0.1, "cb 3f b9 99 99 99 99 99 9a"),
        (float, math.inf, "cb 7f f0 00 00 00 00 00 00"),
        (Single, Single(1.5), "ca 3f c0 00 00"),
        (Single, Single(0.1), "ca 3d cc cc cd"),
        (Single, Single(math.inf), "ca 7f 80 00 00"),
        (Decimal, Decimal("79.9900"), "a7 37 39 2e 39 39 30 30"),
        (Decimal, Decimal(100), "a3 31 30 30"),
        (Char, Char("\u0436"), "cd 04 36"),
        (Char, Char("a"), "61"),
        (bytes, b"\0\1\xfe\xff", "c4 04 00 01 fe ff"),
        (UUID, UUID(GUID), "d9 24 " + GUID.encode().hex(" ")),
        (datetime, MOMENT.replace(tzinfo=UTC), "d6 ff 65 e0 79 f0"),
        (datetime, MOMENT.replace(microsecond=789000, tzinfo=UTC), "d7 ff bc 1c bd 00 65 e0 79 f0"),
        (datetime, datetime(1969, 12, 31, tzinfo=UTC), "c7 0c ff 00 00 00 00 ff ff ff ff ff fe ae 80"),
        (datetime, datetime.min.replace(tzinfo=UTC), "c7 0c ff 00 00 00 00 ff ff ff f1 88 6e 09 00"),
        (datetime, MOMENT.replace(tzinfo=IST), "92 d6 ff 65 e0 79 f0 cd 01 4a"),
        (datetime, MOMENT.replace(tzinfo=timezone(-timedelta(minutes=570))), "92 d6 ff 65 e0 79 f0 d1 fd c6"),
        (datetime, MOMENT.replace(tzinfo=ZERO_OFFSET), "92 d6 ff 65 e0 79 f0 00"),
        (timedelta, timedelta(days=1, hours=2, minutes=3, seconds=4.5), "cf 00 00 00 da 5b eb 07 40"),
        (timedelta, timedelta(microseconds=-1), "f6"),
        (timedelta, timedelta(0), "00"),
        (date, date(2024, 2, 29), "ce 00 0b 46 80"),
        (date, date.min, "00"),
        (date, date.max, "ce 00 37 b9 da"),
        (time, time(12, 34, 56, 789000), "cf 00 00 00 69 76 fd 7c 50"),
        (time, time.min, "00"),
        (Color, Color.Blue, "a4 42 6c 75 65"),
        (int | None, None, "c0"),
        (list[int], [1, 2, 3], "93 01 02 03"),
        (tuple[int, str], (1, "a"), "92 01 a1 61"),
        (dict[str, int], {"One": 1, "two": 2}, "82 a3 4f 6e 65 01 a3 74 77 6f 02"),
        (dict[int, str], {7: "seven"}, "81 07 a5 73 65 76 65 6e"),
        (dict[date, int], {date.min: 1}, "81 00 01"),
        (dict[Color, int], {Color.Red: 1}, "81 a3 52 65 64 01"),
        (dict[UUID, int], {UUID(GUID): 1}, "81 d9 24 " + GUID.encode().hex(" ") + " 01"),
        (dict[Char, int], {Char("a"): 1}, "81 61 01"),
        (dict[timedelta, int], {timedelta(0): 1}, "81 00 01"),
    ],
)
def test_values_are_written_and_read_as_dotnet_does(type_: Any, value: Any, data: str) -> None:
    assert written(value) == data
    received = read(type_, data)
    assert received == value
    assert type(received) is type(value)
    assert str(received) == str(value)
    beside_a_time_span = read(tuple[type_, timedelta], f"92 {data} 0a")
    assert beside_a_time_span == (value, timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("type_", "data", "value"),
    [
        (float, "05", 5.0),
        (float, "ca 3f c0 00 00", 1.5),
        (Single, "cb 3f b9 99 99 99 99 99 9a", Single(0.1)),
        (Single, "05", Single(5)),
        (Decimal, "05", Decimal(5)),
        (Char, "a1 61", Char("a")),
        (int, "d3 00 00 00 00 00 00 00 05", 5),
        (timedelta, "13", timedelta(microseconds=1)),
        (timedelta, "d0 ed", timedelta(microseconds=-1)),
        (timedelta, "cf 7f ff ff ff ff ff ff ff", timedelta(microseconds=(2**63 - 1) // 10)),
        (timedelta, "d3 80 00 00 00 00 00 00 00", -timedelta(microseconds=(2**63 - 1) // 10)),
        (time, "cf 00 00 00 c9 2a 69 bf ff", time.max),
        (datetime, "92 d6 ff 65 e0 79 f0 cd 03 48", MOMENT.replace(tzinfo=timezone(timedelta(hours=14)))),
        (list[datetime] | datetime, "91 d6 ff 65 e0 79 f0", [MOMENT.replace(tzinfo=UTC)]),
        (Any, "92 d6 ff 65 e0 79 f0 0a", [MOMENT.replace(tzinfo=UTC), 10]),
    ],
)
def test_other_forms_of_the_same_values_are_read(type_: Any, data: str, value: Any) -> None:
    received = read(type_, data)
    assert received == value
    assert str(received) == str(value)


def test_times_of_no_zone_are_read_as_utc() -> None:
    assert written(MOMENT) == written(MOMENT.replace(tzinfo=UTC))
    assert read(datetime, written(MOMENT)) == MOMENT.replace(tzinfo=UTC)


def test_a_zone_is_not_utc_only_because_it_is_winter() -> None:
    assert written(MOMENT.replace(tzinfo=timezone(timedelta(0), "GMT"))) == "92 d6 ff 65 e0 79 f0 00"
    assert written(MOMENT.replace(tzinfo=timezone(timedelta(0), "UTC"))) == "d6 ff 65 e0 79 f0"


def test_names_must_be_the_same() -> None:
    class Named(msgspec.Struct):
        userName: str = ""  # noqa: N815

    pascal = MessagePackPayloads.of("pascal", None, None)
    assert read(Named, "81 a8 75 73 65 72 4e 61 6d 65 a1 61") == Named("a")
    assert read(Named, "81 a8 75 73 65 72 4e 61 6d 65 a1 61", pascal) == Named()
    assert read(Named, "81 a8 55 73 65 72 4e 61 6d 65 a1 61", pascal) == Named("a")


def test_a_number_may_be_none_in_messagepack() -> None:
    assert math.isnan(read(float, written(math.nan)))
    assert math.isnan(read(Single, written(Single(math.nan))))


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (timedelta, "c3"),
        (timedelta, "a3 31 3a 32"),
        (timedelta, "cb 3f b9 99 99 99 99 99 9a"),
        (timedelta, "c0"),
        (date, "ce 00 37 b9 db"),
        (date, "ff"),
        (date, "cf ff ff ff ff ff ff ff ff"),
        (date, "c2"),
        (time, "cf 00 00 00 c9 2a 69 c0 00"),
        (time, "ff"),
        (time, "cf ff ff ff ff ff ff ff ff"),
        (time, "c2"),
        (datetime, "05"),
        (datetime, "91 d6 ff 65 e0 79 f0"),
        (datetime, "92 d6 ff 65 e0 79 f0 a1 31"),
        (datetime, "92 05 05"),
        (datetime, "92 d6 ff 65 e0 79 f0 cd 05 a0"),
        (datetime, "92 d6 ff 65 e0 79 f0 cf ff ff ff ff ff ff ff ff"),
        (datetime, "c7 03 ff aa bb cc"),
        (datetime, "d6 05 65 e0 79 f0"),
        (datetime, "c7 0c ff ff ff ff ff 00 00 00 00 00 00 00 00"),
        (datetime, "c7 0c ff 00 00 00 00 7f ff ff ff ff ff ff ff"),
        (UUID, "a2 31 32"),
        (UUID, "05"),
        (bytes, "93 01 02 03"),
        (int, "cb 3f f0 00 00 00 00 00 00"),
        (int, "a1 31"),
        (Decimal, "a3 6f 6e 65"),
        (Char, "a2 61 62"),
        (Char, "a0"),
        (Char, "ce 00 01 f6 00"),
        (Char, "cf ff ff ff ff ff ff ff ff"),
        (Char, "ff"),
        (Char, "c0"),
        (Single, "a1 31"),
        (Single, "cb 7e 37 e4 3c 88 00 75 9c"),
        (Color, "a5 47 72 65 65 6e"),
        (Color, "07"),
        (dict[date, int], "81 ff 01"),
        (list[int], "c1"),
        (list[int], "93 01 02"),
    ],
)
def test_what_is_no_such_value_is_refused(type_: Any, data: str) -> None:
    for refused, encoded in ((type_, data), (tuple[type_, timedelta], f"92 {data} 0a")):
        with pytest.raises((ValueError, OverflowError)):
            read(refused, encoded)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("-Infinity"),
        timedelta.max,
        timedelta.min,
        MOMENT.replace(tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=15))),
        time(12, tzinfo=UTC),
        2**64,
        -(2**63) - 1,
        "\ud800",
    ],
)
def test_what_dotnet_does_not_write_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        written([value])


def test_extensions_are_passed_through() -> None:
    data = "c7 03 05 aa bb cc"
    extension = read(Any, data)
    assert (extension.code, extension.data) == (5, b"\xaa\xbb\xcc")
    assert written(extension, MessagePackPayloads.of(None, str, None)) == data


@given(
    st.datetimes(timezones=st.sampled_from([UTC, ZERO_OFFSET, IST])),
    st.timedeltas(timedelta(days=-10675199), timedelta(days=10675199)),
    st.times(),
    st.dates(),
    st.decimals(allow_nan=False, allow_infinity=False),
)
def test_values_are_read_as_they_were_written(
    moment: datetime, span: timedelta, clock: time, day: date, price: Decimal
) -> None:
    received = read(tuple[datetime, timedelta, time, date, Decimal], written([moment, span, clock, day, price]))
    assert received == (moment, span, clock, day, price)
    assert received[0].tzinfo == moment.tzinfo


@dataclass
class Zoo:
    flag: bool
    u_long: int
    float_: Single
    decimal: Decimal
    char: Char
    bytes_: bytes
    guid: UUID
    utc: datetime
    offset: datetime
    span: timedelta
    day: date
    clock: time
    color: Color
    nothing: int | None
    by_number: dict[int, str]
    anything: Any


def test_all_of_dotnet_s_types_together() -> None:
    zoo = Zoo(
        flag=True,
        u_long=2**64 - 1,
        float_=Single(1.5),
        decimal=Decimal("79.9900"),
        char=Char("\u0436"),
        bytes_=b"\0\1\xfe\xff",
        guid=UUID(GUID),
        utc=MOMENT.replace(tzinfo=UTC),
        offset=MOMENT.replace(tzinfo=IST),
        span=timedelta(hours=1),
        day=date(2024, 2, 29),
        clock=time(12, 34, 56),
        color=Color.Blue,
        nothing=None,
        by_number={7: "seven"},
        anything={"k": 1},
    )
    pascal = MessagePackPayloads.of("pascal", None, None)
    members = [
        ("Flag", "c3"),
        ("ULong", "cf ff ff ff ff ff ff ff ff"),
        ("Float", "ca 3f c0 00 00"),
        ("Decimal", "a7 37 39 2e 39 39 30 30"),
        ("Char", "cd 04 36"),
        ("Bytes", "c4 04 00 01 fe ff"),
        ("Guid", "d9 24 " + GUID.encode().hex(" ")),
        ("Utc", "d6 ff 65 e0 79 f0"),
        ("Offset", "92 d6 ff 65 e0 79 f0 cd 01 4a"),
        ("Span", "cf 00 00 00 08 61 c4 68 00"),
        ("Day", "ce 00 0b 46 80"),
        ("Clock", "cf 00 00 00 69 76 85 18 00"),
        ("Color", "a4 42 6c 75 65"),
        ("Nothing", "c0"),
        ("ByNumber", "81 07 a5 73 65 76 65 6e"),
        ("Anything", "81 a1 6b 01"),
    ]
    data = "de 00 10 " + " ".join(f"{0xA0 + len(name):02x} {name.encode().hex(' ')} {data}" for name, data in members)
    assert written(zoo, pascal) == data
    assert read(Zoo, data, pascal) == zoo


# --- floats of no declared type --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        (Any, "ca 3f c0 00 00"),
        (tuple[Any, ...], "92 ca 3f c0 00 00 cb 3f f8 00 00 00 00 00 00"),
        (tuple[str, Any], "92 a2 ca 80 ca 3f c0 00 00"),
        (list[Any], "91 91 ca 3f c0 00 00"),
        (list[dict[str, Any]], "91 81 a1 61 ca 3f c0 00 00"),
        (dict[Any, Any], "81 01 ca 3f c0 00 00"),
        (tuple[int, list[Any]], "92 05 91 ca 3f c0 00 00"),
    ],
    ids=str,
)
def test_singles_of_no_declared_type_are_sent_on_as_they_came(type_: Any, payload: str) -> None:
    payloads = MessagePackPayloads.of(None, None, None)
    value = payloads.decoder(type_)(msgspec.Raw(bytes.fromhex(payload)))
    assert msgspec.msgpack.encode(payloads.write(value)) == bytes.fromhex(payload)


@pytest.mark.parametrize(
    ("type_", "payload", "value"),
    [
        (float, "ca 3f c0 00 00", 1.5),
        (list[float], "91 ca 3f c0 00 00", [1.5]),
        (tuple[float, Any], "92 ca 3f c0 00 00 ca 3f c0 00 00", (1.5, 1.5)),
        (tuple[int, str], "92 01 a2 c3 8a", (1, "\u00ca")),
        (tuple[()], "90", ()),
    ],
    ids=str,
)
def test_declared_floats_are_floats(type_: Any, payload: str, value: Any) -> None:
    read = MessagePackPayloads.of(None, None, None).decoder(type_)(msgspec.Raw(bytes.fromhex(payload)))
    assert read == value
    assert not any(isinstance(element, Single) for element in (read if isinstance(read, tuple | list) else [read]))


def test_other_extensions_beside_a_single_are_left_as_they_are() -> None:
    payload = bytes.fromhex("93 ca 3f c0 00 00 d4 05 aa d6 ff 65 e0 79 f0")
    single, extension, moment = MessagePackPayloads.of(None, None, None).decoder(Any)(msgspec.Raw(payload))
    assert (type(single), single) == (Single, 1.5)
    assert extension == msgspec.msgpack.Ext(5, b"\xaa")
    assert moment == datetime(2024, 2, 29, 12, 34, 56, tzinfo=UTC)
