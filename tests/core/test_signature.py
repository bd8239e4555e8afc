"""What functions take from the wire and give back."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

import pytest
from msgspec import Meta

from hubproto_core import Call, Char, Hub, JsonCodec, Single
from hubproto_core._signature import Signature, where

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")


def plain(x: int, y: str = "") -> None: ...
def untyped(x, y): ...  # type: ignore[no-untyped-def]
def with_call(call: Call, x: int) -> None: ...


def upload(items: AsyncIterator[int], label: str, more: AsyncIterable[str]) -> int:
    raise NotImplementedError


def bare_upload(items: AsyncGenerator) -> None: ...  # type: ignore[type-arg]
def rest(*values: int) -> None: ...
def call_and_rest(call: Call, *values: Any) -> None: ...
def options(x: int, *, debug: bool = False, **more: Any) -> None: ...
def call_last(x: int = 1, call: Call | None = None) -> None: ...
def old_call(call: Optional[Call], x: Annotated[int, Meta(ge=0)]) -> None: ...  # noqa: UP045 - it is what is tested
def noted(items: Annotated[AsyncIterator[int], "of the client"], kind: Literal["a", "b"]) -> None: ...
def later_list(x: "list['Later']") -> None: ...  # noqa: UP037
def later(x: "Later") -> "Later":  # noqa: UP037 - a reference forward in either way
    raise NotImplementedError


def returns_stream(count: int) -> AsyncIterator[int]:
    raise NotImplementedError


def returns_bare_stream() -> AsyncIterable:  # type: ignore[type-arg]
    raise NotImplementedError


async def waits(x: int) -> None: ...


async def generates(count: int) -> AsyncIterator[int]:
    yield count


class Later:
    pass


class Source(AsyncIterator[T]):
    async def __anext__(self) -> T:
        raise StopAsyncIteration


def returns_source() -> Source[int]:
    raise NotImplementedError


async def returns_annotated() -> Annotated[AsyncIterable[int], "soon"]:
    raise NotImplementedError


def returns_awaitable() -> Awaitable[int]:
    raise NotImplementedError


def returns_stream_later() -> Coroutine[Any, Any, AsyncIterator[int]]:
    raise NotImplementedError


def returns_object() -> object:
    raise NotImplementedError


class Greeter:
    greeting = "Hello"

    def greet(self, name: str) -> str:
        return f"{self.greeting}, {name}"

    async def wait(self, name: str) -> str:
        return self.greet(name)

    async def __call__(self, name: str) -> str:
        return self.greet(name)

    @classmethod
    def make(cls, name: str) -> Greeter:
        return cls()


class Counter:
    async def __call__(self, count: int) -> AsyncIterator[int]:
        yield count


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def noted_partial(function: Callable[..., Any]) -> functools.partial[Any]:
    """One that another one does not take the place of."""
    found = functools.partial(function)
    found.note = "kept"  # type: ignore[attr-defined]
    return found


elsewhere: dict[str, Any] = {"functools": functools}
exec(
    "def decorated_elsewhere(function):\n"
    "    @functools.wraps(function)\n"
    "    def wrapper(*arguments): ...\n"
    "    return wrapper\n",
    elsewhere,
)


def in_quotes(x: "X") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


in_quotes.__type_params__ = (TypeVar("X"),)  # type: ignore[attr-defined]  # as `def in_quotes[X](x: "X")` has it

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
        (call_last, tuple[int], ("argument", "call"), [], False),
        (old_call, tuple[Annotated[int, Meta(ge=0)]], ("call", "argument"), [], False),
        (noted, tuple[Literal["a", "b"]], ("stream", "argument"), [int], False),
        (later, tuple[Later], ("argument",), [], True),
        (Greeter().greet, tuple[str], ("argument",), [], True),
        (Greeter(), tuple[str], ("argument",), [], True),
        (Greeter.make, tuple[str], ("argument",), [], True),
        (later_list, tuple[list[Later]], ("argument",), [], True),
        (functools.partial(plain, 5), tuple[str], ("argument",), [], True),
        (functools.partial(functools.partial(plain, y="b")), tuple[int], ("argument",), [], True),
        (functools.partial(Greeter().greet, "World"), tuple[()], (), [], True),
        pytest.param(decorated(with_call), tuple[int], ("call", "argument"), [], False, id="decorated"),
        (elsewhere["decorated_elsewhere"](later), tuple[Later], ("argument",), [], True),
        ([].append, tuple[Any], ("argument",), [], True),
        (str.upper, tuple[Any], ("argument",), [], True),
        (Later, tuple[()], (), [], True),
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
        (returns_source, True, False),
        (returns_annotated, True, False),
        (returns_stream_later, True, False),
        (returns_awaitable, False, True),
        (returns_object, False, True),
        (Greeter().greet, False, True),
        (Greeter().wait, False, False),
        (Greeter(), False, False),
        (Counter(), True, False),
        (functools.partial(waits, 5), False, False),
        (functools.partial(generates, 5), True, False),
        (functools.partial(Greeter(), "World"), False, False),
        (functools.partial(noted_partial(Greeter()), "World"), False, False),
        pytest.param(decorated(waits), False, True, id="decorated waits"),  # what it returns can be awaited still
        pytest.param(decorated(generates), True, False, id="decorated generates"),
        (Later, False, True),
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


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (plain, type(None)),
        (untyped, Any),
        (generates, int),
        (returns_source, int),
        (returns_bare_stream, Any),
        (returns_annotated, int),
        (returns_awaitable, int),
        (returns_stream_later, int),
        (later, Later),
    ],
)
def test_annotations_say_what_comes_back(function: Callable[..., Any], result: Any) -> None:
    assert Signature.of(function, "Name").result == result


def test_arguments_left_out_at_the_end_have_their_default_values() -> None:
    def function(a: int, call: Call | None = None, b: int = 2, c: str = "three") -> None: ...

    signature = Signature.of(function, "Name")
    assert (signature.arguments.length, signature.defaults) == (3, (2, "three"))
    assert signature.completed((1, 5, "c")) == (1, 5, "c")
    assert signature.completed((1, 5)) == (1, 5, "three")
    assert signature.completed((1,)) == (1, 2, "three")
    assert [signature.arguments.first(count) is not None for count in range(5)] == [False, True, True, False, False]
    assert Signature.of(call_and_rest, "Name").completed((1, 2)) == (1, 2)


def test_each_parameter_is_filled_from_where_it_comes() -> None:
    def function(a: int, items: AsyncIterator[int], call: Call, b: int = 2) -> None: ...

    def rest(call: Call, *values: int) -> None: ...

    assert Signature.of(function, "Name").filled((1,), ["items"], "call") == [1, "items", "call", 2]
    assert Signature.of(rest, "Name").filled((1, 2), (), "call") == ["call", 1, 2]


def keyword_only(x: int, *, y: int) -> None: ...
def call_by_keyword(x: int, *, call: Call) -> None: ...
def rest_after_argument(x: int, *values: int) -> None: ...
def optional_stream(items: AsyncIterator[int] | None) -> None: ...
def stream_in_a_list(items: list[AsyncIterator[int]]) -> None: ...
def stream_of_streams(items: AsyncIterator[AsyncIterator[int]]) -> None: ...
def call_or_number(call: Call | int | None) -> None: ...
def any_of(x: T, y: T) -> None: ...
def list_of_any(x: list[T]) -> None: ...
def stream_of_any(x: AsyncIterator[T]) -> None: ...
def not_convertible(x: int, y: int | Later) -> None: ...
def rest_not_convertible(*values: int | Later) -> None: ...
def items_not_convertible(items: AsyncIterator[int | Later]) -> None: ...
def nowhere(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
def for_type_checkers(x: Decimal) -> None: ...
def result_nowhere(x: int) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821, UP037
def attribute_nowhere(x: "functools.nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: UP037
def no_annotation(x: "what it is") -> None: ...  # type: ignore[valid-type]  # noqa: F722


@dataclass
class Unresolved:
    value: Decimal


def member_nowhere(x: list[Unresolved]) -> None: ...
def perhaps_a_stream() -> AsyncIterator[int] | None: ...
async def perhaps_a_stream_later() -> Annotated[int | AsyncIterator[int], "either"]: ...  # type: ignore[empty-body]


WRONG: list[tuple[Any, str]] = [
    (keyword_only, "nothing can fill the parameter 'y: int' of tests.core.test_signature.keyword_only"),
    (call_by_keyword, "nothing can fill the parameter 'call: .*' of .*: arguments are positional"),
    (rest_after_argument, r"nothing can fill the parameter '\*values: int' .* take all of them or none"),
    (optional_stream, "in 'items: .*' a stream or Call is part of another type.*: annotate the parameter with Async"),
    (stream_in_a_list, "is part of another type"),
    (stream_of_streams, "is part of another type"),
    (call_or_number, "is part of another type"),
    (not_convertible, "nothing that arrives can be converted to 'y: .*Later': Type unions"),
    (rest_not_convertible, r"nothing that arrives can be converted to '\*values: .*Later': Type unions"),
    (items_not_convertible, "nothing that arrives can be converted to 'items: .*Later.*': Type unions"),
    (nowhere, "an annotation of tests.core.test_signature.nowhere cannot be resolved: name 'Nowhere' is not defined"),
    (for_type_checkers, "cannot be resolved: name 'Decimal' is not defined. .*\\(not only for type checkers\\)"),
    (result_nowhere, "cannot be resolved: name 'Nowhere' is not defined"),
    (attribute_nowhere, "cannot be resolved: module 'functools' has no attribute 'nowhere'"),
    (no_annotation, "cannot be resolved: Forward reference must be an expression"),
    (member_nowhere, "nothing that arrives can be converted to 'x: .*': name 'Decimal' is not defined"),
    (perhaps_a_stream, "tests.core.test_signature.perhaps_a_stream returns a stream or something else.*: annotate it"),
    (perhaps_a_stream_later, "returns a stream or something else"),
    (Greeter.greet, "tests.core.test_signature.Greeter.greet is bound to no instance, so nothing can fill its 'self'"),
    (staticmethod(plain), "tests.core.test_signature.plain is a staticmethod still: put @staticmethod above"),
    (
        vars(Greeter)["make"],
        "tests.core.test_signature.Greeter.make is a classmethod still: put @classmethod above",
    ),
    (min, "builtins.min does not tell its parameters"),
    ("Add", "'Add' cannot be called"),
]


@pytest.mark.parametrize(("function", "text"), WRONG)
def test_what_no_call_could_reach_is_refused_with_its_name_and_what_to_do(function: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^'Name': .*{text}"):
        Signature.of(function, "Name")


@dataclass
class Tree:
    children: list[Tree]
    label: Later | None = None


@dataclass
class Known:
    char: Char
    single: Single
    anything: object
    key: Hashable
    more: tuple[Known, ...]


def of_later(x: Later) -> None: ...
def members_of_later(x: dict[str, Tree]) -> None: ...
def items_of_later(items: AsyncIterator[Later]) -> None: ...
def rest_of_later(*values: Later) -> None: ...
def known(x: Known, y: object, z: Any) -> None: ...


@pytest.mark.parametrize("function", [of_later, members_of_later, items_of_later, rest_of_later])
def test_classes_that_nobody_knows_need_a_hook(function: Callable[..., Any]) -> None:
    text = r"^'Name': nothing that arrives can be converted to '.*': make tests.core.test_signature.Later a dataclass"
    with pytest.raises(TypeError, match=text):
        Hub().method("Name")(function)
    hub = Hub(codecs=[JsonCodec(dec_hook=lambda kind, value: kind())])
    assert hub.method("Name")(function) is function


def test_what_every_codec_knows_needs_none() -> None:
    assert Signature.of(known, "Name", foreign=False).arguments.type == tuple[Known, object, Any]


@pytest.mark.parametrize("function", [any_of, list_of_any, stream_of_any, in_quotes])
def test_generic_functions_are_refused_with_the_reference_s_text(function: Any) -> None:
    text = "^Method 'Name' is a generic method which is not supported on a Hub. .* what 'x: .*' is: annotate it"
    with pytest.raises(TypeError, match=text):
        Signature.of(function, "Name")


def test_types_do_not_matter_where_nothing_is_converted() -> None:
    assert Signature.of(not_convertible, "Name", converts=False).arguments.type == tuple[Any, Any]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (plain, "tests.core.test_signature.plain"),
        (Greeter().greet, "tests.core.test_signature.Greeter.greet"),
        ([].append, "list.append"),
        (functools.partial(plain, 1), "functools.partial(<function plain"),
    ],
)
def test_functions_are_called_by_their_full_names(function: Any, text: str) -> None:
    assert where(function).startswith(text)
