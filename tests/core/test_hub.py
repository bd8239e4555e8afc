"""Names to functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError
from hubproto_core._hub import Signature


def plain(x: int, y: str = "") -> None: ...
def untyped(x, y): ...  # type: ignore[no-untyped-def]
def with_call(call: Call, x: int) -> None: ...


def upload(items: AsyncIterator[int], label: str, more: AsyncIterable[str]) -> int:
    raise NotImplementedError


def bare_upload(items: AsyncGenerator) -> None: ...  # type: ignore[type-arg]
def rest(*values: int) -> None: ...
def call_and_rest(call: Call, *values: Any) -> None: ...
def options(x: int, *, debug: bool = False, **more: Any) -> None: ...


def returns_stream(count: int) -> AsyncIterator[int]:
    raise NotImplementedError


def returns_bare_stream() -> AsyncIterable:  # type: ignore[type-arg]
    raise NotImplementedError


async def waits(x: int) -> None: ...


async def generates(count: int) -> AsyncIterator[int]:
    yield count


ALL = "all arguments"


@pytest.mark.parametrize(
    ("function", "arguments", "slots", "streams", "is_plain"),
    [
        (plain, tuple[int, str], ("argument", "argument"), [], True),
        (untyped, tuple[Any, Any], ("argument", "argument"), [], True),
        (with_call, tuple[int], ("call", "argument"), [], False),
        (upload, tuple[str], ("stream", "argument", "stream"), [int, str], False),
        (bare_upload, tuple[()], ("stream",), [Any], False),
        (rest, tuple[int, ...], (ALL,), [], True),
        (call_and_rest, tuple[Any, ...], ("call", ALL), [], False),
        (options, tuple[int], ("argument",), [], True),
        (lambda: None, tuple[()], (), [], True),
    ],
)
def test_parameters_say_what_a_call_carries(
    function: Callable[..., Any], arguments: Any, slots: tuple[str, ...], streams: list[Any], is_plain: bool
) -> None:
    signature = Signature.of(function, "Name")
    assert signature.arguments.type == arguments
    assert signature.slots == slots
    assert [shape.type for shape in signature.streams] == streams
    assert signature.plain is is_plain


@pytest.mark.parametrize(
    ("function", "is_stream", "inline"),
    [
        (plain, False, True),
        (waits, False, False),
        (generates, True, False),
        (returns_stream, True, False),
        (returns_bare_stream, True, False),
    ],
)
def test_a_function_answers_at_once_later_or_with_a_stream(
    function: Callable[..., Any], is_stream: bool, inline: bool
) -> None:
    signature = Signature.of(function, "Name")
    assert (signature.is_stream, signature.inline) == (is_stream, inline)


def test_arguments_of_any_number_have_no_length() -> None:
    assert Signature.of(rest, "Name").arguments.length is None
    assert Signature.of(plain, "Name").arguments.length == 2


def keyword_only(x: int, *, y: int) -> None: ...
def rest_after_argument(x: int, *values: int) -> None: ...


@pytest.mark.parametrize("function", [keyword_only, rest_after_argument])
def test_parameters_that_nothing_can_fill_are_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="'Name': nothing can fill the parameter"):
        Hub().method("Name")(function)


def test_methods_are_found_in_any_case() -> None:
    hub = Hub()
    assert hub.method("MoveTo")(plain) is plain
    hub.method()(with_call)
    assert hub.lookup("MoveTo") is hub.lookup("moveto") is hub.lookup("MOVETO")
    assert hub.lookup("MoveTo").name == "MoveTo"
    assert hub.lookup("With_Call").function is with_call
    with pytest.raises(HubError, match=r"^Method does not exist\.$"):
        hub.lookup("MoveFrom")


def test_a_name_can_be_given_once() -> None:
    hub = Hub()
    hub.method("Add")(plain)
    with pytest.raises(TypeError, match=r"^Duplicate definitions of 'ADD'\. Overloading is not supported\.$"):
        hub.method("ADD")(untyped)
    assert hub.lookup("ADD").function is plain


def test_methods_may_refuse_to_be_cancelled() -> None:
    hub = Hub()
    hub.method("A")(plain)
    hub.method("B", cancellable=False)(untyped)
    assert (hub.lookup("A").cancellable, hub.lookup("B").cancellable) == (True, False)


def test_a_hub_has_settings() -> None:
    assert Hub().config == HubConfig()
    config = HubConfig(max_parallel_calls=5)
    assert Hub(config).config is config


def nothing() -> None: ...
def call_only(call: Call) -> None: ...
def call_and_error(call: Call, error: Exception | None) -> None: ...


@pytest.mark.parametrize("function", [nothing, call_only])
def test_hooks_may_take_a_call(function: Callable[..., Any]) -> None:
    hub = Hub()
    assert (hub.connected_hook, hub.disconnected_hook) == (None, None)
    assert hub.on_connected(function) is function
    assert hub.on_disconnected(function) is function
    assert hub.connected_hook is not None
    assert hub.disconnected_hook is not None


def test_the_last_hook_may_take_the_error() -> None:
    hub = Hub()
    hub.on_disconnected(call_and_error)
    with pytest.raises(TypeError, match="on_connected takes a Call and nothing else, not a stream"):
        hub.on_connected(call_and_error)


@pytest.mark.parametrize("function", [generates, upload, plain])
def test_hooks_take_and_give_no_streams(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="on_disconnected takes a Call and the error, not a stream"):
        Hub().on_disconnected(function)
