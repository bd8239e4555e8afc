"""Streams from the hub to a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hubproto_core import Hub, HubError
from tests.kit.runtimes import Runtime, over_each_transport

pytestmark = over_each_transport

PIECE = "x" * 16384
PIECES = 2000  # more than all buffers on the way hold


@dataclass
class Point:
    x: int
    y: int


class StreamHub(Hub):
    """Streams, and how far they got."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__()
        self.rt = rt
        self.produced = 0
        self.ended: list[str] = []
        for name in ("Numbers", "Endless", "Failing", "Pieces", "Points", "Ticks", "Awaited"):
            self.method(name)(getattr(self, name.lower()))

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def endless(self) -> AsyncIterator[int]:
        try:
            while True:
                yield self.produced
                self.produced += 1
        finally:
            self.ended.append("endless")

    async def ticks(self) -> AsyncIterator[int]:
        try:
            yield 0
            await self.rt.sleep_forever()
        finally:
            self.ended.append("ticks")

    async def failing(self, good: int, text: str | None) -> AsyncIterator[int]:
        for number in range(good):
            yield number
        raise HubError(text) if text is not None else ValueError("secret detail")

    async def pieces(self, count: int) -> AsyncIterator[str]:
        try:
            for _ in range(count):
                self.produced += 1
                yield PIECE
        finally:
            self.ended.append("pieces")

    async def points(self) -> AsyncIterator[Point]:
        yield Point(1, 2)
        yield Point(3, 4)

    async def awaited(self) -> AsyncIterator[int]:
        return self.numbers(3)


async def test_all_items_in_order(rt: Runtime) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Numbers", 5) as items:
            assert [item async for item in items] == [0, 1, 2, 3, 4]
        async with client.stream("Numbers", 0) as items:
            assert [item async for item in items] == []


async def test_ten_thousand_items(rt: Runtime) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Numbers", 10_000) as items:
            assert [item async for item in items] == list(range(10_000))


async def test_items_are_converted(rt: Runtime) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Points", returns=Point) as points:
            assert [point async for point in points] == [Point(1, 2), Point(3, 4)]


async def test_a_method_may_return_its_stream(rt: Runtime) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Awaited") as items:
            assert [item async for item in items] == [0, 1, 2]


async def test_three_streams_at_once(rt: Runtime) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Numbers", 5) as a, client.stream("Numbers", 5) as b, client.stream("Numbers", 5) as c:
            taken = [(await anext(a), await anext(b), await anext(c)) for _ in range(5)]
        assert taken == [(number, number, number) for number in range(5)]


@pytest.mark.parametrize("name", ["Endless", "Ticks"])
async def test_leaving_a_stream_early_cancels_its_generator(rt: Runtime, name: str) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream(name) as items:
            assert await anext(items) == 0
            assert hub.ended == []
        await rt.eventually(lambda: hub.ended == [name.lower()])
        async with client.stream("Numbers", 2) as items:
            assert [item async for item in items] == [0, 1]


async def test_a_stream_left_by_an_exception_is_cancelled_too(rt: Runtime) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        with pytest.raises(KeyError, match="mine"):
            async with client.stream("Ticks") as items:
                await anext(items)
                raise KeyError("mine")
        await rt.eventually(lambda: hub.ended == ["ticks"])


async def test_a_stream_left_before_its_first_item_is_cancelled(rt: Runtime) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Endless"):
            pass
        async with client.stream("Numbers", 2) as items:
            assert [item async for item in items] == [0, 1]
        await rt.eventually(lambda: hub.ended == ["endless"] or hub.produced == 0)


ERRORS = {
    "a hub error": (
        "stream broke",
        "An error occurred on the server while streaming results. HubException: stream broke",
    ),
    "an exception": (None, "An error occurred on the server while streaming results."),
}


@pytest.mark.parametrize(("told", "text"), ERRORS.values(), ids=ERRORS)
async def test_an_error_comes_behind_the_items(rt: Runtime, told: str | None, text: str) -> None:
    async with rt.serve(StreamHub(rt)) as server, rt.connect(server.url) as client:
        received = []
        async with client.stream("Failing", 3, told) as items:
            with pytest.raises(HubError) as caught:
                async for item in items:
                    received.append(item)  # noqa: PERF401 - what came before the error counts
        assert str(caught.value) == text
        assert received == [0, 1, 2]


async def test_a_stream_that_is_none_is_refused(rt: Runtime) -> None:
    hub = StreamHub(rt)
    hub.method("Plain")(lambda: 1)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError, match="non-streaming 'Plain' method with a streaming invocation"):
            async with client.stream("Plain") as items:
                await anext(items)
        with pytest.raises(HubError, match="streaming 'Numbers' method with a non-streaming invocation"):
            await client.invoke("Numbers", 1)


async def test_a_generator_waits_for_a_client_that_does_not_read(rt: Runtime) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Pieces", PIECES) as items:
            paused_at = await rt.settled(lambda: hub.produced)
            assert paused_at < PIECES
            sizes = [len(item) async for item in items]
    assert sizes == [len(PIECE)] * PIECES
    assert hub.produced == PIECES


async def test_a_paused_generator_can_be_cancelled(rt: Runtime) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Pieces", PIECES):
            await rt.settled(lambda: hub.produced)
        await rt.eventually(lambda: hub.ended == ["pieces"])
        assert hub.produced < PIECES
        async with client.stream("Numbers", 2) as items:
            assert [item async for item in items] == [0, 1]


async def test_a_paused_generator_holds_up_no_other_client(rt: Runtime) -> None:
    hub = StreamHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as idle, rt.connect(server.url) as other:
        async with idle.stream("Pieces", PIECES):
            await rt.settled(lambda: hub.produced)
            async with other.stream("Numbers", 100) as items:
                assert [item async for item in items] == list(range(100))


async def test_a_stream_that_nobody_reads_blocks_neither_another_stream_nor_calls(rt: Runtime) -> None:
    hub = StreamHub(rt)
    hub.method("Add")(lambda a, b: a + b)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Numbers", 1000) as unread:
            assert await client.invoke("Add", 2, 3) == 5
            async with client.stream("Numbers", 100) as items:
                assert [item async for item in items] == list(range(100))
            assert await client.invoke("Add", 2, 3) == 5
            assert [item async for item in unread] == list(range(1000))


async def test_a_cancelled_reader_loses_no_item(rt: Runtime) -> None:
    hub = Hub()
    ready = rt.Event()

    @hub.method("Gated")
    async def gated() -> AsyncIterator[int]:
        yield 0
        await ready.wait()
        yield 1

    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with client.stream("Gated") as items:
            assert await anext(items) == 0
            async with rt.move_on_after(0.02) as outcome:
                await anext(items)
            assert outcome.cancelled
            ready.set()
            assert [item async for item in items] == [1]
