"""A hub that is called as a Protocol declares it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import pytest

from hubproto_core import Hub, HubError, one_way, wire_name
from tests.kit.runtimes import Runtime, over_each_transport


@dataclass
class Point:
    x: int
    y: int


class ChatHub(Protocol):
    async def add(self, x: int, y: int = 1) -> int: ...

    async def move_point(self, point: Point, by: int) -> Point: ...

    @one_way
    async def note(self, text: str) -> None: ...

    @wire_name("Fail!")
    async def fail(self) -> None: ...

    def numbers(self, count: int) -> AbstractAsyncContextManager[AsyncIterator[int]]: ...

    async def total(self, items: AsyncIterable[int]) -> int: ...

    def doubled(self, items: AsyncIterable[int]) -> AbstractAsyncContextManager[AsyncIterator[int]]: ...


class TypedHub(Hub):
    """What `ChatHub` declares."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.left: list[str] = []
        self.method("Add")(lambda x, y: x + y)
        self.method("Note")(self.noted.append)
        self.method("MovePoint")(self.move_point)
        self.method("Fail!")(self.fail)
        self.method("Numbers")(self.numbers)
        self.method("Total")(self.total)
        self.method("Doubled")(self.doubled)

    def move_point(self, point: Point, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    def fail(self) -> None:
        raise HubError("told to the client")

    async def numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.left.append("numbers")

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def doubled(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield 2 * item


async def some(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@over_each_transport
async def test_a_hub_is_called_as_its_protocol_declares_it(rt: Runtime) -> None:
    hub = TypedHub()
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        chat = client.proxy(ChatHub, rename="pascal")
        assert await chat.add(2, 3) == 5
        assert await chat.add(2) == 3
        assert await chat.move_point(Point(1, 2), by=3) == Point(4, 5)
        with pytest.raises(HubError, match="told to the client"):
            await chat.fail()
        await chat.note("heard")
        assert await chat.total(some(100)) == 4950
        async with chat.numbers(10) as numbers:
            assert [number async for number in numbers] == list(range(10))
        async with chat.doubled(some(5)) as numbers:
            assert [number async for number in numbers] == [0, 2, 4, 6, 8]
        async with chat.numbers(1_000_000_000) as numbers:
            assert await anext(numbers) == 0
        await rt.eventually(lambda: hub.left == ["numbers", "numbers"])
        assert hub.noted == ["heard"]


class NotSo(Protocol):
    def add(self, x: int) -> int: ...


async def test_a_protocol_that_cannot_be_is_refused_before_there_is_a_connection(rt: Runtime) -> None:
    with pytest.raises(TypeError, match="^NotSo.add: declare it with `async def`"):
        rt.client("http://127.0.0.1:1/").proxy(NotSo)


async def test_results_must_be_as_declared(rt: Runtime) -> None:
    hub = Hub()
    hub.method("Add")(lambda x, y: "five")
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError):
            await client.proxy(ChatHub, rename="pascal").add(2, 3)
