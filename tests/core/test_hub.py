"""Names to functions."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError


def plain(x: int, y: str = "") -> None: ...
def untyped(x, y): ...  # type: ignore[no-untyped-def]
def with_call(call: Call, x: int) -> None: ...


def upload(items: AsyncIterator[int]) -> None: ...


async def generates(count: int) -> AsyncIterator[int]:
    yield count


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
    text = (
        r"^Duplicate definitions of 'ADD'\. Overloading is not supported\. It is tests\.core\.test_hub\.plain already, "
        r"in whatever case, and cannot be tests\.core\.test_hub\.untyped too$"
    )
    with pytest.raises(TypeError, match=text):
        hub.method("ADD")(untyped)
    assert hub.lookup("ADD").function is plain


def test_a_method_may_have_several_names() -> None:
    hub = Hub()

    @hub.method("Add")
    @hub.method("Plus", cancellable=False)
    @hub.method()
    def sum_of(x: int, y: int) -> int:
        return x + y

    methods = [hub.lookup(name) for name in ("add", "plus", "sum_of")]
    assert [method.name for method in methods] == ["Add", "Plus", "sum_of"]
    assert [method.cancellable for method in methods] == [True, False, True]
    assert {method.function for method in methods} == {sum_of}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: None, "<lambda>.* has no name that a client could call: write hub.method"),
        (functools.partial(plain, 1), "functools.partial.* has no name that a client could call"),
    ],
)
def test_what_has_no_name_must_be_given_one(function: Callable[..., Any], text: str) -> None:
    hub = Hub()
    with pytest.raises(TypeError, match=text):
        hub.method()(function)
    hub.method("Name")(function)
    assert hub.lookup("Name").function is function


def test_a_name_is_not_empty() -> None:
    with pytest.raises(TypeError, match="a client cannot call tests.core.test_hub.plain by an empty name"):
        Hub().method("")(plain)


def test_a_decorator_without_its_parentheses_is_noticed() -> None:
    with pytest.raises(TypeError, match=r"write @hub\.method\(\) above <function plain"):
        Hub().method(plain)  # type: ignore[arg-type]


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
def call_and_error(call: Call, error: HubError | ValueError | None) -> None: ...


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


def test_there_is_one_hook_of_each_kind() -> None:
    hub = Hub()
    hub.on_connected(nothing)
    text = (
        r"^on_connected is tests\.core\.test_hub\.nothing already, and cannot be tests\.core\.test_hub\.call_only too$"
    )
    with pytest.raises(TypeError, match=text):
        hub.on_connected(call_only)
    hub.on_disconnected(nothing)
    with pytest.raises(TypeError, match="^on_disconnected is "):
        hub.on_disconnected(call_only)


@pytest.mark.parametrize("function", [generates, upload, plain])
def test_hooks_take_and_give_no_streams(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="on_disconnected takes a Call and the error, not a stream"):
        Hub().on_disconnected(function)
