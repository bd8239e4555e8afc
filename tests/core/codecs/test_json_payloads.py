"""Payloads in JSON: the leaves that .NET writes in its own way."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import ZERO_OFFSET, Char, Single
from hubproto_core._codecs._json_payloads import JsonPayloads, ReceivedFloat

PAYLOADS = JsonPayloads.of("camel", None, None)


def read(type_: Any, text: str) -> Any:
    return PAYLOADS.decoder(type_)(msgspec.Raw(text.encode()))


def written(value: Any) -> str:
    return msgspec.json.encode(PAYLOADS.write(value)).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (-1, "-1"),
        (2.0, "2"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (100.0, "100"),
        (1234.5, "1234.5"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (0.00001, "1E-05"),
        (1.25e-7, "1.25E-07"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (12345678901234567.0, "12345678901234568"),
        (1e17, "1E+17"),
        (-1.5e17, "-1.5E+17"),
        (1e100, "1E+100"),
        (5e-324, "5E-324"),
        (1.7976931348623157e308, "1.7976931348623157E+308"),
    ],
)
def test_floats_are_written_as_dotnet_writes_them(value: float, text: str) -> None:
    assert written(value) == text
    assert written({"a": [value, "x"]}) == f'{{"a":[{text},"x"]}}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_has_its_value(value: float) -> None:
    text = written(value)
    assert struct.pack("d", float(text)) == struct.pack("d", value)
    digits = re.sub(r"E.*|[-.]", "", text).strip("0")
    assert len(digits) <= 17
    if value != 0:
        assert ("E" in text) == (not 1e-4 <= abs(value) < 1e17) or math.isclose(abs(value), 1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        written([value])


@pytest.mark.parametrize("text", ["1.0", "1.50", "1E5", "1e+5", "1.5E-07", "-0.0", "1e400", "0.10000000000000000555"])
def test_floats_of_no_declared_type_are_sent_on_as_they_came(text: str) -> None:
    received = read(Any, f'{{"a":[{text},1.0]}}')
    assert isinstance(received["a"][0], ReceivedFloat)
    assert received["a"][0] == float(text)
    assert written(received) == f'{{"a":[{text},1.0]}}'


def test_a_float_of_no_declared_type_is_a_float_where_one_is_declared() -> None:
    declared, anything, _ = read(tuple[float, Any, timedelta], '[1.50,1.50,"00:00:01"]')
    assert (type(declared), type(anything)) == (float, ReceivedFloat)
    assert written([declared, anything]) == "[1.5,1.50]"


# --- .NET's types ----------------------------------------------------------------------------------------------------

IST = timezone(timedelta(hours=5, minutes=30))
MOMENT = datetime(2024, 2, 29, 12, 34, 56)  # noqa: DTZ001 - of no zone


class Color(Enum):
    Red = 0
    Blue = 6


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (bool, True, "true"),
        (type(None), None, "null"),
        (str, "na\u00efve \u2603", '"na\u00efve \u2603"'),
        (int, -300, "-300"),
        (int, 2**63 - 1, "9223372036854775807"),
        (int, 2**64 - 1, "18446744073709551615"),
        (int, 10**30, "1" + "0" * 30),
        (float, 1.5, "1.5"),
        (float, 2.0, "2"),
        (Single, Single(0.1), "0.1"),
        (Single, Single(1.5), "1.5"),
        (Single, Single(16777216), "16777216"),
        (Decimal, Decimal("79.9900"), "79.9900"),
        (Decimal, Decimal(-5), "-5"),
        (Decimal, Decimal(79228162514264337593543950335), "79228162514264337593543950335"),
        (Char, Char("\u0436"), '"\u0436"'),
        (bytes, b"", '""'),
        (bytes, b"\0\1\xfe\xff", '"AAH+/w=="'),
        (UUID, UUID("0f8fad5b-d9cb-469f-a165-70867728950e"), '"0f8fad5b-d9cb-469f-a165-70867728950e"'),
        (datetime, MOMENT.replace(microsecond=789000, tzinfo=UTC), '"2024-02-29T12:34:56.789Z"'),
        (datetime, MOMENT.replace(microsecond=1, tzinfo=UTC), '"2024-02-29T12:34:56.000001Z"'),
        (datetime, MOMENT.replace(second=10, tzinfo=UTC), '"2024-02-29T12:34:10Z"'),
        (datetime, MOMENT, '"2024-02-29T12:34:56"'),
        (datetime, MOMENT.replace(microsecond=500000), '"2024-02-29T12:34:56.5"'),
        (datetime, MOMENT.replace(tzinfo=IST), '"2024-02-29T12:34:56+05:30"'),
        (datetime, MOMENT.replace(microsecond=70, tzinfo=IST), '"2024-02-29T12:34:56.00007+05:30"'),
        (datetime, MOMENT.replace(tzinfo=timezone(-timedelta(hours=9, minutes=30))), '"2024-02-29T12:34:56-09:30"'),
        (datetime, MOMENT.replace(tzinfo=timezone(-timedelta(minutes=15))), '"2024-02-29T12:34:56-00:15"'),
        (datetime, MOMENT.replace(tzinfo=ZERO_OFFSET), '"2024-02-29T12:34:56Z"'),
        (datetime, datetime(1, 1, 1), '"0001-01-01T00:00:00"'),  # noqa: DTZ001
        (timedelta, timedelta(days=1, hours=2, minutes=3, seconds=4.5), '"1.02:03:04.5000000"'),
        (timedelta, timedelta(0), '"00:00:00"'),
        (timedelta, timedelta(seconds=-1.5), '"-00:00:01.5000000"'),
        (timedelta, timedelta(days=-2, hours=23), '"-1.01:00:00"'),
        (timedelta, timedelta(microseconds=1), '"00:00:00.0000010"'),
        (timedelta, timedelta(days=10675199), '"10675199.00:00:00"'),
        (date, date(2024, 2, 29), '"2024-02-29"'),
        (time, time(12, 34, 56, 789000), '"12:34:56.7890000"'),
        (time, time(0), '"00:00:00"'),
        (Color, Color.Blue, "6"),
        (int | None, None, "null"),
        (list[int], [1, 2, 3], "[1,2,3]"),
        (dict[str, int], {"One": 1, "two": 2}, '{"One":1,"two":2}'),
        (dict[int, str], {7: "seven"}, '{"7":"seven"}'),
        (dict[UUID, int], {UUID(int=7): 1}, '{"00000000-0000-0000-0000-000000000007":1}'),
        (dict[date, int], {date(2024, 2, 29): 1}, '{"2024-02-29":1}'),
        (dict[timedelta, int], {timedelta(seconds=1): 1}, '{"00:00:01":1}'),
        (dict[float, int], {1.5: 1}, '{"1.5":1}'),
        (dict[Decimal, int], {Decimal("1.50"): 1}, '{"1.50":1}'),
        (dict[Color, int], {Color.Blue: 1}, '{"Blue":1}'),
    ],
)
def test_values_are_written_and_read_as_dotnet_does(type_: Any, value: Any, text: str) -> None:
    assert written(value) == text
    received = read(type_, text)
    assert received == value
    assert type(received) is type(value)
    if isinstance(value, datetime):
        assert received.utcoffset() == value.utcoffset()
    assert read(tuple[type_, timedelta], f'[{text},"00:00:01"]') == (value, timedelta(seconds=1))


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (datetime, '"2024-02-29T12:34:56.1234567Z"', MOMENT.replace(microsecond=123457, tzinfo=UTC)),
        (datetime, '"2024-02-29T12:34:56.1234567+05:30"', MOMENT.replace(microsecond=123457, tzinfo=IST)),
        (datetime, '"2024-02-29T12:34:55.9999999Z"', MOMENT.replace(tzinfo=UTC)),
        (datetime, '"2024-02-29T12:34:56+00:00"', MOMENT.replace(tzinfo=UTC)),
        (datetime, '"9999-12-31T23:59:59.9999999"', datetime.max),  # noqa: DTZ901
        (datetime, '"9999-12-31T23:59:59.9999999Z"', datetime.max.replace(tzinfo=UTC)),
        (datetime, '"9999-12-31T23:59:59.99999995+05:30"', datetime.max.replace(tzinfo=IST)),
        (datetime, '"0001-01-01T00:00:00+05:30"', datetime.min.replace(tzinfo=IST)),
        (time, '"23:59:59.9999999"', time.max),
        (time, '"12:34:56.1234567"', time(12, 34, 56, 123457)),
        (time | None, '"23:59:59.9999999"', time.max),
        (timedelta, '"10675199.02:48:05.4775807"', timedelta(microseconds=(2**63 - 1) // 10)),
        (timedelta, '"-10675199.02:48:05.4775808"', -timedelta(microseconds=(2**63 - 1) // 10)),
        (timedelta, '"00:00:00.1234567"', timedelta(microseconds=123456)),
        (timedelta, '"-00:00:00.0000019"', timedelta(microseconds=-1)),
        (timedelta, '"00:00:00.5"', timedelta(seconds=0.5)),
        (timedelta, '"PT1.5S"', timedelta(seconds=1.5)),
        (float, "5", 5.0),
        (float, "1e3", 1000.0),
        (Decimal, "5", Decimal(5)),
        (Decimal, '"5.50"', Decimal("5.50")),
        (Single, "5", Single(5)),
        (Single, "0.1", Single(0.1)),
        (Color, '"blue"', Color.Blue),
        (dict[Color, int], '{"6":1,"red":2}', {Color.Blue: 1, Color.Red: 2}),
    ],
)
def test_other_texts_of_the_same_values_are_read(type_: Any, text: str, value: Any) -> None:
    received = read(type_, text)
    assert received == value
    assert str(received) == str(value)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (timedelta, '"1:02:03"'),
        (timedelta, '"24:00:00"'),
        (timedelta, '"00:60:00"'),
        (timedelta, '"00:00:60"'),
        (timedelta, '"00:00:00."'),
        (timedelta, '"00:00:00.12345678"'),
        (timedelta, '"1.2.03:00:00"'),
        (timedelta, '"+00:00:01"'),
        (timedelta, '"123456789.00:00:00"'),
        (timedelta, '"\u0661\u0662:00:00"'),
        (timedelta, "5"),
        (timedelta, "true"),
        (timedelta, "null"),
        (date, '"2024-02-30"'),
        (date, "738944"),
        (time, '"25:00:00"'),
        (datetime, '"0000-01-01T00:00:00"'),
        (datetime, '"tomorrow"'),
        (datetime, "1709210096"),
        (UUID, '"0f8fad5b"'),
        (bytes, '"?"'),
        (bytes, "[1,2]"),
        (int, "1.5"),
        (int, '"1"'),
        (int, "1" * 5000),
        (float, '"1.5"'),
        (float, "NaN"),
        (Decimal, '"one"'),
        (Char, '"ab"'),
        (Char, '""'),
        (Char, '"\\ud83d\\ude00"'),
        (Char, "1078"),
        (Single, '"1.5"'),
        (Single, "true"),
        (Color, '"Green"'),
        (Color, "7"),
        (bool, "1"),
    ],
)
def test_what_is_no_such_value_is_refused(type_: Any, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are msgspec's
        read(type_, text)
    with pytest.raises(ValueError):  # noqa: PT011
        read(tuple[type_, timedelta], f'[{text},"00:00:01"]')


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        Single(math.inf),
        Decimal("NaN"),
        Decimal("Infinity"),
        timedelta.max,
        timedelta.min,
        MOMENT.replace(tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=15))),
        MOMENT.replace(tzinfo=timezone(timedelta(microseconds=1))),
        time(12, tzinfo=UTC),
        "\ud800",
    ],
)
def test_what_dotnet_does_not_write_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each in its own words
        written([value])


@given(st.datetimes() | st.datetimes(timezones=st.sampled_from([UTC, IST])))
def test_times_are_read_as_they_were_written(value: datetime) -> None:
    received = read(datetime, written(value))
    assert (received, received.utcoffset()) == (value, value.utcoffset())


@given(
    st.timedeltas(timedelta(days=-10675199), timedelta(days=10675199)),
    st.times(),
    st.dates(),
    st.decimals(allow_nan=False, allow_infinity=False),
)
def test_spans_and_clocks_are_read_as_they_were_written(
    span: timedelta, clock: time, day: date, price: Decimal
) -> None:
    text = written([span, clock, day, price])
    assert read(tuple[timedelta, time, date, Decimal], text) == (span, clock, day, price)


@dataclass
class Zoo:
    flag: bool
    u_long: int
    float_: float
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
        float_=1.5,
        decimal=Decimal("79.9900"),
        char=Char("\u0436"),
        bytes_=b"\0\1\xfe\xff",
        guid=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
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
    text = (
        '{"flag":true,"uLong":18446744073709551615,"float":1.5,"decimal":79.9900,"char":"\u0436","bytes":"AAH+/w==",'
        '"guid":"0f8fad5b-d9cb-469f-a165-70867728950e","utc":"2024-02-29T12:34:56Z",'
        '"offset":"2024-02-29T12:34:56+05:30","span":"01:00:00","day":"2024-02-29","clock":"12:34:56","color":6,'
        '"nothing":null,"byNumber":{"7":"seven"},"anything":{"k":1}}'
    )
    assert written(zoo) == text
    assert read(Zoo, text) == zoo


# --- names -----------------------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    yAxis: int  # noqa: N815


class Shape(msgspec.Struct, rename="camel"):
    top_left: Point
    other_points: list[Point] = []
    by_name: dict[str, Point] = {}
    inner: Shape | None = None


class Options(TypedDict):
    Depth: int
    label: NotRequired[str]


POINT = Point(1, 2)


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ('{"x":1,"yAxis":2}', Point, POINT),
        ('{"X":1,"YAXIS":2}', Point, POINT),
        ('{ "X" : 1 , "yaxis":2, "Z":[{"X":5}]}', Point, POINT),
        ('{"TopLeft":{"X":1,"yaxis":2}}', Shape, Shape(POINT)),
        ('{"topLeft":{"X":1,"YAxis":2}}', Shape, Shape(POINT)),
        (
            '{"TOPLEFT":{"x":1,"yAxis":2},"otherPoints":[{"X":1,"yAxis":2}],"ByName":{"X":{"X":1,"YAXIS":2}}}',
            Shape,
            Shape(POINT, [POINT], {"X": POINT}),
        ),
        (
            '{"topLeft":{"x":1,"yAxis":2},"Inner":{"TopLeft":{"x":1,"yAxis":2}}}',
            Shape,
            Shape(POINT, inner=Shape(POINT)),
        ),
        ('[{"X":1,"yAxis":2},"X"]', tuple[Point, str], (POINT, "X")),
        ('["X",{"X":1,"yAxis":2}]', tuple[str, Point], ("X", POINT)),
        ('[{"X":1,"yAxis":2},{"x":1,"YAXIS":2}]', tuple[Point, ...], (POINT, POINT)),
        ('[[{"X":1,"yAxis":2}]]', Sequence[list[Point]], [[POINT]]),
        ('{"X":{"X":1,"yAxis":2}}', Mapping[str, Point], {"X": POINT}),
        ('[{"X":1,"yAxis":2}]', list[Point] | None, [POINT]),
        ("null", Point | None, None),
        ('{"DEPTH":1,"Label":"X"}', Options, {"Depth": 1, "label": "X"}),
        ('{"X":1,"yAxis":2}', Annotated[Point, msgspec.Meta(title="a point")], POINT),
        ('[{"X":1,"yAxis":2},{"X":"as it is"}]', tuple[Point, Any], (POINT, {"X": "as it is"})),
        ('{"X":1}', dict[str, int], {"X": 1}),
        ('{"X":1}', Any, {"X": 1}),
        ("[]", tuple[()], ()),
    ],
)
def test_declared_members_are_found_and_other_names_are_left_alone(text: str, type_: Any, value: Any) -> None:
    assert read(type_, text) == value


def test_text_that_looks_like_a_member_is_left_alone() -> None:
    assert read(tuple[str, Point], '["X:",{"X":1,"yAxis":2}]') == ("X:", POINT)
    assert read(tuple[str, Point], '["\\"X\\":",{"x":1,"yAxis":2}]') == ('"X":', POINT)


@pytest.mark.parametrize("text", ['{"X":1}', '{"X":"1","yAxis":2}', '[{"X":1,"yAxis":2}]', '{"Inner":{"X":1}}'])
def test_what_does_not_fit_does_not_fit_in_any_case(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(Point, text)


def test_too_many_elements_do_not_fit() -> None:
    with pytest.raises(msgspec.ValidationError):
        read(tuple[Point, int], '[{"X":1,"yAxis":2},2,3]')


def test_names_that_are_spelt_with_escapes_are_read_in_any_case_too() -> None:
    assert read(Point, r'{"\u0058":1,"y\u0041xis":2}') == POINT
    assert read(Point, r'{"x":1,"y\u0041xis":2,"\"x\"":3}') == POINT
