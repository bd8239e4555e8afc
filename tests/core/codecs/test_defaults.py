"""Arguments that a call leaves out, in both encodings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import (
    Codec,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    JsonCodec,
    MessagePackCodec,
    RemoteProtocolError,
    Shape,
)
from hubproto_core._binding import BINDING_ERROR, AnyBinder

CODECS: list[Codec] = [JsonCodec(), MessagePackCodec(rename="camel")]


@dataclass
class Point:
    pos_x: int
    pos_y: int = 0


SHAPES = {
    "Move": Shape.of_arguments((Point, float, str), 1),
    "Anything": Shape.of_arguments((Any, Any), 0),
    "Exact": Shape.of_arguments((int, int)),
}


class Binder(AnyBinder):
    def arguments_shape(self, target: str) -> Shape:
        return SHAPES[target]


def received(codec: Codec, target: str, *arguments: Any) -> HubMessage | None:
    data = codec.encode(Invocation(invocation_id="1", target=target, arguments=arguments))
    return codec.decode(data[:-1] if codec.name == "json" else data[1:], Binder(), 64)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("target", "arguments", "bound"),
    [
        ("Move", (Point(1, 2), 0.5, "a"), (Point(1, 2), 0.5, "a")),
        ("Move", (Point(1, 2), 0.5), (Point(1, 2), 0.5)),
        ("Move", ({"posX": 3},), (Point(3),)),
        ("Anything", (1, [2]), (1, [2])),
        ("Anything", ({"a": 1},), ({"a": 1},)),
        ("Anything", (), ()),
    ],
)
def test_what_is_left_out_is_not_bound(codec: Codec, target: str, arguments: Any, bound: Any) -> None:
    message = received(codec, target, *arguments)
    assert isinstance(message, Invocation)
    assert tuple(message.arguments) == bound


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("target", "arguments", "text"),
    [
        ("Move", (), "Invocation provides 0 argument(s) but target expects 3."),
        ("Move", (Point(1), 0.5, "a", 4), "Invocation provides 4 argument(s) but target expects 3."),
        ("Anything", (1, 2, 3), "Invocation provides 3 argument(s) but target expects 2."),
        ("Exact", (1,), "Invocation provides 1 argument(s) but target expects 2."),
        ("Move", (Point(1), "a"), BINDING_ERROR),
        ("Move", (5,), BINDING_ERROR),
        ("Move", (Point(1), 0.5, 7), BINDING_ERROR),
    ],
)
def test_too_few_too_many_and_wrong_ones_are_told_as_ever(codec: Codec, target: str, arguments: Any, text: str) -> None:
    message = received(codec, target, *arguments)
    assert isinstance(message, InvocationBindingFailure)
    assert isinstance(message.error, RemoteProtocolError)
    assert str(message.error) == text


def test_untyped_arguments_are_mended_here_too() -> None:
    record = b'{"type":1,"target":"Anything","arguments":["\xff"]}'
    message = JsonCodec().decode(record, Binder(), 64)
    assert isinstance(message, Invocation)
    assert message.arguments == ("\ufffd",)


@pytest.mark.parametrize("name", ["delay_ms", "DelayMs"])
def test_a_codec_tells_how_it_calls_members(name: str) -> None:
    assert JsonCodec().member_name(name) == "delayMs"
    assert JsonCodec(rename=None).member_name(name) == name
