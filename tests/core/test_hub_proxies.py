"""Objects with the methods of a Protocol, which call those of a hub.

The lines with `type: ignore` are tests too: mypy complains where there is nothing to be ignored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import pytest

from hubproto_core import Upload, hub_contract_of, one_way, wire_name

T = TypeVar("T")


@dataclass
class Point:
    x: float


class Stream(Generic[T]):
    """A stream as an adapter has it."""

    async def __aenter__(self) -> AsyncIterator[T]:
        raise AssertionError("it is only declared")

    async def __aexit__(self, *_: object) -> None:
        """Nothing to leave."""


Given = AsyncIterable[str] | Iterable[str]


class Base(Protocol):
    async def hello(self) -> None:
        """Say hello."""


class ChatHub(Base, Protocol):
    async def add(self, x: int, y: int = 1, mode: str = ...) -> int: ...

    def later(self, point: Point) -> Awaitable[Point]: ...

    async def anything(self): ...  # type: ignore[no-untyped-def]

    @one_way
    async def say(self, text: str) -> None: ...

    @one_way
    async def whisper(self, text: str): ...  # type: ignore[no-untyped-def]

    def counter(self, count: int) -> AbstractAsyncContextManager[AsyncIterator[int]]: ...

    def words(self) -> Annotated[Stream[str], "as an adapter has it"]: ...

    def objects(self) -> AbstractAsyncContextManager[AsyncIterator]: ...  # type: ignore[type-arg]

    def raw(self) -> AbstractAsyncContextManager: ...  # type: ignore[type-arg]

    async def total(self, first: AsyncIterator[int], name: str, second: Upload) -> int: ...

    async def maybe(self, items: Annotated[Given | None, "optional"] = None) -> int: ...

    def both(self, items: AsyncGenerator[str, None]) -> Stream[str]: ...

    async def several(self, *numbers: int) -> int: ...

    @wire_name("Custom!")
    async def renamed(self) -> None: ...


class Recorder:
    """A client."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def invoke(self, target: str, /, *arguments: Any, returns: Any) -> str:
        self.calls.append(("invoke", target, *arguments, returns))
        return "invoked"

    def send(self, target: str, /, *arguments: Any) -> str:
        self.calls.append(("send", target, *arguments))
        return "sent"

    def stream(self, target: str, /, *arguments: Any, returns: Any) -> str:
        self.calls.append(("stream", target, *arguments, returns))
        return "streamed"

    def upload(self, items: Any) -> Any:
        return ("upload", items)

    def __repr__(self) -> str:
        return "the client"


MARKED = Upload([1])


@pytest.mark.parametrize(
    ("call", "recorded", "returned"),
    [
        (lambda hub: hub.hello(), ("invoke", "hello", None), "invoked"),
        (lambda hub: hub.add(1, 2), ("invoke", "add", 1, 2, int), "invoked"),
        (lambda hub: hub.add(y=2, x=1, mode="m"), ("invoke", "add", 1, 2, "m", int), "invoked"),
        (lambda hub: hub.add(1), ("invoke", "add", 1, 1, int), "invoked"),
        (lambda hub: hub.later(Point(1)), ("invoke", "later", Point(1), Point), "invoked"),
        (lambda hub: hub.anything(), ("invoke", "anything", Any), "invoked"),
        (lambda hub: hub.say("hi"), ("send", "say", "hi"), "sent"),
        (lambda hub: hub.whisper("hi"), ("send", "whisper", "hi"), "sent"),
        (lambda hub: hub.counter(3), ("stream", "counter", 3, int), "streamed"),
        (lambda hub: hub.words(), ("stream", "words", str), "streamed"),
        (lambda hub: hub.objects(), ("stream", "objects", Any), "streamed"),
        (lambda hub: hub.raw(), ("stream", "raw", Any), "streamed"),
        (
            lambda hub: hub.total("a", "b", MARKED),
            ("invoke", "total", ("upload", "a"), "b", MARKED, int),
            "invoked",
        ),
        (lambda hub: hub.maybe(), ("invoke", "maybe", None, int), "invoked"),
        (lambda hub: hub.maybe(items=["a"]), ("invoke", "maybe", ("upload", ["a"]), int), "invoked"),
        (lambda hub: hub.both("a"), ("stream", "both", ("upload", "a"), str), "streamed"),
        (lambda hub: hub.several(1, 2), ("invoke", "several", 1, 2, int), "invoked"),
        (lambda hub: hub.renamed(), ("invoke", "Custom!", None), "invoked"),
    ],
)
def test_methods_call_those_of_the_hub(call: Callable[[Any], Any], recorded: tuple[Any, ...], returned: str) -> None:
    client = Recorder()
    assert call(hub_contract_of(ChatHub).proxy(client)) == returned
    assert client.calls == [recorded]


def test_names_follow_a_policy_and_a_contract_is_made_once() -> None:
    client = Recorder()
    hub = hub_contract_of(ChatHub, "pascal").proxy(client)
    hub.several(1)  # type: ignore[unused-coroutine]
    hub.renamed()  # type: ignore[unused-coroutine]
    assert client.calls == [("invoke", "Several", 1, int), ("invoke", "Custom!", None)]
    assert hub_contract_of(ChatHub, "pascal") is hub_contract_of(ChatHub, "pascal")
    assert repr(hub) == "<ChatHub for the client>"
    assert hub.hello.__doc__ == "Say hello."


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda hub: hub.add(), "missing a required argument: 'x'"),
        (lambda hub: hub.say("a", "b"), "too many positional arguments"),
        (lambda hub: hub.counter(times=3), "missing a required argument: 'count'"),
    ],
)
def test_arguments_must_be_as_declared(call: Callable[[Any], Any], error: str) -> None:
    client = Recorder()
    with pytest.raises(TypeError, match=error):
        call(hub_contract_of(ChatHub).proxy(client))
    assert client.calls == []


class Attribute(Protocol):
    name: str


class NoSelf(Protocol):
    async def add() -> None: ...  # type: ignore[misc]


class ByName(Protocol):
    async def add(self, *, x: int) -> int: ...


class Plain(Protocol):
    def add(self, x: int) -> int: ...


class Tells(Protocol):
    def tell(self) -> None: ...


class Iterates(Protocol):
    def counter(self) -> AsyncIterator[int]: ...


class Yields(Protocol):
    def counter(self) -> Iterable[int]: ...


class AwaitsStream(Protocol):
    async def counter(self) -> Stream[int]: ...


class OneWayStream(Protocol):
    @one_way
    def counter(self) -> Stream[int]: ...


class OneWayResult(Protocol):
    @one_way
    async def add(self) -> int: ...


class NoIterator(Protocol):
    def counter(self) -> AbstractAsyncContextManager[int]: ...


class ManyStreams(Protocol):
    async def upload(self, *items: AsyncIterable[int]) -> int: ...


class ArrayOrStream(Protocol):
    async def upload(self, items: Iterable[int]) -> int: ...


class Impossible(Protocol):
    async def ask(self) -> list[int] | set[int]: ...


class ImpossibleItems(Protocol):
    def ask(self) -> Stream[list[int] | set[int]]: ...


class Unresolved(Protocol):
    async def ask(self) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        (dict, "<class 'dict'> is no typing.Protocol"),
        (Attribute, "Attribute.name: only methods can be called over the wire"),
        (NoSelf, "NoSelf.add lacks `self`"),
        (ByName, "ByName.add: arguments travel by position, as x: int cannot"),
        (Plain, "Plain.add: declare it with `async def`, even if it returns nothing; say @one_way if .* a plain `def`"),
        (Tells, "Tells.tell: declare it with `async def`"),
        (Iterates, r"Iterates.counter: a stream ends .* AbstractAsyncContextManager\[AsyncIterator\[T\]\]$"),
        (Yields, "Yields.counter: a stream ends where its block is left"),
        (AwaitsStream, "AwaitsStream.counter returns a stream: declare it with a plain `def`, and not as one_way"),
        (OneWayStream, "OneWayStream.counter returns a stream: declare it with a plain `def`, and not as one_way"),
        (OneWayResult, "OneWayResult.add is one_way, so that nobody answers: it can only return None"),
        (NoIterator, "NoIterator.counter: entering a stream gives an iterator: annotate it to return Abstract"),
        (ManyStreams, r"ManyStreams.upload: '\*items: .*' takes any number of streams: give each a parameter"),
        (
            ArrayOrStream,
            r"ArrayOrStream.upload: 'items: .*' is to be annotated as AsyncIterable\[...\] for a stream, as ",
        ),
        (Impossible, "Impossible.ask: nothing that arrives can be converted to .*: Type unions may not contain"),
        (ImpossibleItems, "ImpossibleItems.ask: nothing that arrives can be converted to .*: Type unions may not"),
        (Unresolved, "Unresolved.ask: an annotation cannot be resolved: name 'Nowhere' is not defined"),
    ],
)
def test_what_cannot_be_called_is_refused_at_once(protocol: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        hub_contract_of(protocol)


async def wrong_calls(hub: ChatHub) -> None:
    """Never run: each line is a mistake that the type checker reports."""
    text: str = await hub.add(1, 2)  # type: ignore[assignment]
    await hub.add("1")  # type: ignore[arg-type]
    await hub.total([1], "", Upload([]))  # type: ignore[arg-type]
    await hub.maybe([1])  # type: ignore[list-item]
    await hub.nothing()  # type: ignore[attr-defined]
    async with hub.counter(3) as numbers:
        async for number in numbers:
            text = number  # type: ignore[assignment]
    async with hub.words() as words:
        async for word in words:
            text = word
    print(text)
