"""What a hub says that clients can call."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from msgspec import Meta, Struct

from hubproto_core import Call, Char, Hub, JsonCodec, MessagePackCodec, Single

T = TypeVar("T")


class Colour(IntEnum):
    RED = 1


class Money:
    pass


class Place(Struct):
    """Where it is."""

    street_name: str
    zip_code: str = msgspec.field(name="ZIP")
    format: str = "decimal"
    tags_of: list[str] = msgspec.field(default_factory=list)


@dataclass
class Order:
    total_sum: Decimal
    delay_max: timedelta | None = timedelta(seconds=1)
    placed_at: datetime | None = None
    next_one: Order | None = None
    place: Place = field(default_factory=lambda: Place("", ""))
    paid: bool = False


class Swapped(Struct):
    first_name: str = msgspec.field(name="last_name")
    last_name: str = msgspec.field(name="name")


class Box(Struct, Generic[T]):
    the_item: T


class Options(TypedDict):
    max_count: int


class Row(NamedTuple):
    first_order: Order


class Cell(Struct, array_like=True):
    at_x: int = 0


class Cat(Struct, tag=True):
    lives_left: int


class Dog(Struct, tag=True):
    bone_count: int


def schema_of(type_: Any, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of an argument, and what it refers to."""
    hub = Hub(**settings)

    def method(value): ...  # type: ignore[no-untyped-def]

    method.__annotations__["value"] = type_
    hub.method("Name")(method)
    described = hub.describe()
    return described["methods"]["Name"]["arguments"][0]["schema"], described["$defs"]


def test_an_empty_hub() -> None:
    assert Hub().describe() == {"methods": {}, "$defs": {}}


def test_methods_say_what_they_take_and_give() -> None:
    hub = Hub()

    @hub.method("Add")
    @hub.method("Plus")
    def add(x: int, call: Call, y: Annotated[int, Meta(ge=0)] = 2) -> int:
        """Add numbers.

        All of them.
        """
        return x + y

    @hub.method("Upload")
    async def upload(items: AsyncIterator[Place], label: str, more: AsyncIterator[Any]) -> None: ...

    @hub.method("Count")
    async def count(to: int) -> AsyncIterator[Place]:
        yield Place("", "")

    @hub.method("Sum")
    def sum_of(call: Call, *numbers: float): ...  # type: ignore[no-untyped-def]

    hub.method("Later")(functools.partial(add, 1))
    number = {"type": "integer"}
    added: dict[str, Any] = {
        "description": "Add numbers.\n\nAll of them.",
        "arguments": [
            {"name": "x", "schema": number, "required": True},
            {"name": "y", "schema": {"type": "integer", "minimum": 0}, "required": False},
        ],
        "uploads": [],
        "result": number,
    }
    described = hub.describe()
    assert described["methods"] == {
        "Plus": added,
        "Add": added,
        "Upload": {
            "arguments": [{"name": "label", "schema": {"type": "string"}, "required": True}],
            "uploads": [{"name": "items", "items": {"$ref": "#/$defs/Place"}}, {"name": "more", "items": {}}],
            "result": {"type": "null"},
        },
        "Count": {
            "arguments": [{"name": "to", "schema": number, "required": True}],
            "uploads": [],
            "items": {"$ref": "#/$defs/Place"},
        },
        "Sum": {
            "arguments": [{"name": "numbers", "schema": {"type": "number"}, "required": False, "variadic": True}],
            "uploads": [],
            "result": {},
        },
        "Later": {**added, "arguments": added["arguments"][1:]},
    }
    assert list(described["$defs"]) == ["Place"]
    assert msgspec.json.decode(msgspec.json.encode(described)) == described


def test_members_have_their_names_on_the_wire() -> None:
    schema, definitions = schema_of(list[Order])
    assert schema == {"type": "array", "items": {"$ref": "#/$defs/Order"}}
    span = {"type": "string", "pattern": r"^-?([0-9]{1,8}\.)?[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,7})?$"}
    assert definitions == {
        "Order": {
            "title": "Order",
            "type": "object",
            "properties": {
                "totalSum": {"type": "number"},
                "delayMax": {"anyOf": [span, {"type": "null"}]},
                "placedAt": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "nextOne": {"anyOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}], "default": None},
                "place": {"$ref": "#/$defs/Place"},
                "paid": {"type": "boolean", "default": False},
            },
            "required": ["totalSum"],
        },
        "Place": {
            "title": "Place",
            "description": "Where it is.",
            "type": "object",
            "properties": {
                "streetName": {"type": "string"},
                "ZIP": {"type": "string"},
                "format": {"type": "string", "default": "decimal"},
                "tagsOf": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["streetName", "ZIP"],
        },
    }


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "theItem"),
        ({"codecs": [MessagePackCodec(rename="camel"), JsonCodec(rename="pascal")]}, "TheItem"),
        ({"codecs": [JsonCodec(rename=None)]}, "the_item"),
        ({"codecs": [MessagePackCodec(rename="camel")]}, "the_item"),
    ],
)
def test_names_are_those_of_the_hub_s_own_json(settings: Any, name: str) -> None:
    _, definitions = schema_of(Box[int], **settings)
    assert definitions["Box_int_"]["properties"] == {name: {"type": "integer"}}
    assert definitions["Box_int_"]["required"] == [name]


def test_names_that_a_class_declares_itself_stay() -> None:
    _, definitions = schema_of(Swapped)
    assert list(definitions["Swapped"]["properties"]) == definitions["Swapped"]["required"] == ["last_name", "name"]


def test_generic_classes_are_told_apart() -> None:
    schema, definitions = schema_of(tuple[Box[int], Box[str]])
    assert schema["prefixItems"] == [{"$ref": "#/$defs/Box_int_"}, {"$ref": "#/$defs/Box_str_"}]
    assert [one["properties"]["theItem"]["type"] for one in definitions.values()] == ["integer", "string"]


def test_names_that_are_not_changed_on_the_wire_are_not_changed_here() -> None:
    _, definitions = schema_of(tuple[Options, Row, Cell])
    assert definitions["Options"]["properties"] == {"max_count": {"type": "integer"}}
    assert definitions["Row"]["prefixItems"] == [{"$ref": "#/$defs/Order"}]
    assert definitions["Cell"]["prefixItems"] == [{"type": "integer", "default": 0}]
    assert "totalSum" in definitions["Order"]["properties"]


def test_classes_with_tags() -> None:
    schema, definitions = schema_of(Cat | Dog)
    assert schema["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert definitions["Dog"]["properties"] == {"type": {"enum": ["Dog"]}, "boneCount": {"type": "integer"}}
    assert definitions["Dog"]["required"] == ["type", "boneCount"]


@pytest.mark.parametrize(
    ("type_", "schema"),
    [
        (Any, {}),
        (Char, {"type": "string", "minLength": 1, "maxLength": 1}),
        (Single, {"type": "number"}),
        (Money, {"title": "Money"}),
        (Money | None, {"anyOf": [{"title": "Money"}, {"type": "null"}]}),
        (Mapping[str, Money], {"type": "object", "additionalProperties": {"title": "Money"}}),
        (Colour, {"$ref": "#/$defs/Colour"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
    ],
)
def test_types_that_msgspec_does_not_know_have_a_schema_too(type_: Any, schema: Any) -> None:
    codec = JsonCodec(dec_hook=lambda kind, value: kind())
    assert schema_of(type_, codecs=[codec])[0] == schema


def test_a_result_of_no_one_type_may_be_anything() -> None:
    hub = Hub()

    def method() -> int | Money:
        raise NotImplementedError

    hub.method("Name")(method)
    assert hub.describe()["methods"]["Name"]["result"] == {}
