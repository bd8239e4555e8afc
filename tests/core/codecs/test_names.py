"""Members of objects are read whatever their case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import pytest

from hubproto_core._codecs._names import decoder_for


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


def decode(text: str, type: Any) -> Any:  # noqa: A002
    return decoder_for(type)(msgspec.Raw(text.encode()))


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
    assert decode(text, type_) == value


def test_text_that_looks_like_a_member_is_left_alone() -> None:
    assert decode('["X:",{"X":1,"yAxis":2}]', tuple[str, Point]) == ("X:", POINT)
    assert decode('["\\"X\\":",{"x":1,"yAxis":2}]', tuple[str, Point]) == ('"X":', POINT)


@pytest.mark.parametrize("text", ['{"X":1}', '{"X":"1","yAxis":2}', '[{"X":1,"yAxis":2}]', '{"Inner":{"X":1}}'])
def test_what_does_not_fit_does_not_fit_in_any_case(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(text, Point)


def test_too_many_elements_do_not_fit() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode('[{"X":1,"yAxis":2},2,3]', tuple[Point, int])
