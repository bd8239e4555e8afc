"""Shapes of payloads."""

from typing import Any
from uuid import UUID

import pytest

from hubproto_core._binding import ANY, ANY_ARGUMENTS, AnyBinder, Shape


def test_arguments_have_types_and_a_number() -> None:
    shape = Shape.of_arguments((int, str))
    assert (shape.type, shape.length) == (tuple[int, str], 2)


def test_the_first_arguments_may_suffice() -> None:
    shape = Shape.of_arguments((int, str, bytes), 1)
    assert (shape.type, shape.length) == (tuple[int, str, bytes], 3)
    shorter = [shape.first(count) for count in range(5)]
    assert [one and (one.type, one.length) for one in shorter] == [
        None,
        (tuple[int], 1),
        (tuple[int, str], 2),
        None,
        None,
    ]
    assert shape.first(1) is shorter[1]
    assert [Shape.of_arguments((int,)).first(count) for count in range(3)] == [None] * 3
    assert ANY_ARGUMENTS.first(0) is None


def test_no_arguments_have_a_shape_too() -> None:
    shape = Shape.of_arguments(())
    assert (shape.type, shape.length) == (tuple[()], 0)


def test_without_declarations_everything_is_taken() -> None:
    binder = AnyBinder()
    assert binder.arguments_shape("Anything") is ANY_ARGUMENTS
    assert binder.item_shape("1") is binder.result_shape("1") is ANY
    assert (ANY.type, ANY.length, ANY_ARGUMENTS.length) == (Any, None, None)


def test_shapes_of_a_type_are_made_once() -> None:
    assert Shape.of(int) is Shape.of(int)
    assert Shape.of(int).type is int


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (Any, "Object"),
        (str, "String"),
        (bytes, "Byte[]"),
        (UUID, "UUID"),
        (list[int], "list"),
        (int | None, "int | None"),
    ],
)
def test_error_texts_call_types_as_dotnet_does_if_it_can(type_: Any, name: str) -> None:
    assert Shape(type_).name == name


@pytest.mark.parametrize("type_", [int | float | str | bytes | tuple[int, str] | list[int], type[int] | int])
def test_types_that_no_payload_can_be_converted_to_are_refused(type_: Any) -> None:
    with pytest.raises(TypeError):
        Shape(type_)
    with pytest.raises(TypeError):
        Shape.of_arguments((type_,))
