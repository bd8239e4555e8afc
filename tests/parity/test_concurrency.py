"""What runs side by side, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hubproto_core import Hub, HubConfig
from tests.kit.runtimes import Runtime


class Gates:
    """Calls that have begun, and those that may end."""

    def __init__(self, rt: Runtime) -> None:
        self.begun: list[int] = []
        self.running = 0
        self.most = 0
        self._make = rt.Event
        self._gates = {number: rt.Event() for number in range(20)}

    def open(self, number: int) -> None:
        self._gates[number].set()

    async def enter(self, number: int) -> int:
        self.begun.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        await self._gates[number].wait()
        self.running -= 1
        return number


def gated_hub(gates: Gates, config: HubConfig | None = None) -> Hub:
    hub = Hub(config)
    hub.method("Enter")(gates.enter)

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Numbers")
    async def numbers(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @hub.method("Gated")
    async def gated(number: int) -> AsyncIterator[int]:
        yield await gates.enter(number)

    @hub.method("Sum")
    async def total(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    return hub


async def test_one_call_at_a_time_and_in_order(rt: Runtime) -> None:
    gates = Gates(rt)
    async with rt.serve(gated_hub(gates)) as server, rt.connect(server.url) as client:
        for number in range(5):
            await client.send("Enter", number)
        await rt.eventually(lambda: gates.begun == [0])
        for number in reversed(range(5)):
            gates.open(number)
        assert await client.invoke("Add", 2, 3) == 5  # whose turn comes behind theirs
    assert gates.begun == [0, 1, 2, 3, 4]
    assert gates.most == 1


async def test_as_many_calls_at_once_as_the_hub_allows(rt: Runtime) -> None:
    gates = Gates(rt)
    results: list[int] = []
    config = HubConfig(max_parallel_calls=3)
    async with rt.serve(gated_hub(gates, config)) as server, rt.connect(server.url) as client, rt.tasks() as tasks:

        async def enter(number: int) -> None:
            results.append(await client.invoke("Enter", number))

        for number in range(5):
            tasks.start_soon(enter, number)
        await rt.eventually(lambda: gates.running == 3)
        first, _, third = gates.begun
        gates.open(third)
        await rt.eventually(lambda: results == [third])
        await rt.eventually(lambda: len(gates.begun) == 4)
        gates.open(first)
        await rt.eventually(lambda: results == [third, first])
        for number in range(5):
            gates.open(number)
    assert len(results) == 5
    assert gates.most == 3


async def test_a_hundred_calls_in_flight(rt: Runtime) -> None:
    hub = Hub(HubConfig(max_parallel_calls=10))

    @hub.method("Twice")
    async def twice(number: int) -> int:
        await rt.sleep(0)
        return 2 * number

    results: dict[int, int] = {}
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:

        async def call(number: int) -> None:
            results[number] = await client.invoke("Twice", number)

        for number in range(100):
            tasks.start_soon(call, number)
    assert results == {number: 2 * number for number in range(100)}


async def test_a_slow_call_holds_up_neither_streams_nor_uploads_that_came_before_the_next_call(rt: Runtime) -> None:
    gates = Gates(rt)
    async with rt.serve(gated_hub(gates)) as server, rt.connect(server.url) as client, rt.tasks() as tasks:
        tasks.start_soon(client.invoke, "Enter", 0)
        await rt.eventually(lambda: gates.begun)
        async with client.stream("Numbers", 3) as items:
            assert [item async for item in items] == [0, 1, 2]
        assert await client.invoke("Sum", client.upload([1, 2, 3])) == 6
        assert gates.running == 1
        gates.open(0)


async def test_a_slow_stream_holds_up_no_call(rt: Runtime) -> None:
    gates = Gates(rt)
    async with rt.serve(gated_hub(gates)) as server, rt.connect(server.url) as client:
        async with client.stream("Gated", 0) as items:
            await rt.eventually(lambda: gates.begun)
            assert await client.invoke("Add", 2, 3) == 5
            gates.open(0)
            assert [item async for item in items] == [0]


async def test_a_slow_call_of_one_client_holds_up_no_other_client(rt: Runtime) -> None:
    gates = Gates(rt)
    async with rt.serve(gated_hub(gates)) as server, rt.connect(server.url) as slow, rt.connect(server.url) as other:
        async with rt.tasks() as tasks:
            tasks.start_soon(slow.invoke, "Enter", 0)
            await rt.eventually(lambda: gates.begun)
            assert await other.invoke("Add", 2, 3) == 5
            gates.open(0)
