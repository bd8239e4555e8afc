"""Filters around calls and connections."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, HubFilter, HubInvocation, Next, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime

PROTOCOLS = pytest.mark.parametrize("protocol", ["json", "messagepack"])


class Log(HubFilter):
    """Notes what comes by, and gives others their turn."""

    def __init__(self, rt: Runtime, name: str, noted: list[Any]) -> None:
        self.rt = rt
        self.name = name
        self.noted = noted

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        self.noted.append(f"{self.name}: {invocation.method}")
        await self.rt.sleep(0)
        try:
            return await call_next(invocation)
        finally:
            self.noted.append(f"{invocation.method}: {self.name}")

    async def connected(self, call: Call, call_next: Next) -> None:
        self.noted.append(f"{self.name}: connected")
        await self.rt.sleep(0)
        await call_next(call)
        self.noted.append(f"connected: {self.name}")

    async def disconnected(self, call: Call, error: Exception | None, call_next: Next) -> None:
        self.noted.append(f"{self.name}: disconnected")
        await self.rt.sleep(0)
        await call_next(call, error)
        self.noted.append(f"disconnected: {self.name}")


def make_hub(rt: Runtime, *filters: HubFilter, config: HubConfig | None = None) -> Hub:
    hub = Hub(config)
    for one in filters:
        hub.add_filter(one)

    @hub.method("Add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    @hub.method("Wait")
    async def wait(x: int, call: Call) -> list[Any]:
        await rt.sleep(0)
        return [x, call.connection_id]

    @hub.method("Fail")
    def fail() -> None:
        raise ValueError("secret")

    @hub.method("Count")
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
            await rt.sleep(0)

    @hub.method("Upload")
    async def upload(items: AsyncIterator[int], label: str = "sum") -> list[Any]:
        return [label, sum([item async for item in items])]

    return hub


async def test_the_first_filter_is_the_outermost(rt: Runtime) -> None:
    noted: list[str] = []
    hub = make_hub(rt, Log(rt, "a", noted), Log(rt, "b", noted))
    hub.on_connected(lambda: noted.append("hello"))
    hub.on_disconnected(lambda: noted.append("bye"))
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 2) == 3
            assert noted == [
                *["a: connected", "b: connected", "hello", "connected: b", "connected: a"],
                *["a: Add", "b: Add", "Add: b", "Add: a"],
            ]
            noted.clear()
            assert await client.invoke("Wait", 2) == [2, client.connection_id]
            with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'Fail' on the server\.$"):
                await client.invoke("Fail")
            assert noted == [f"{one}" for name in ("Wait", "Fail") for one in _around(name)]
            noted.clear()
        await rt.eventually(lambda: len(noted) == 5)
    assert noted == ["a: disconnected", "b: disconnected", "bye", "disconnected: b", "disconnected: a"]


def _around(name: str) -> list[str]:
    return [f"a: {name}", f"b: {name}", f"{name}: b", f"{name}: a"]


class Change(HubFilter):
    """Changes arguments, results and streams."""

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        invocation.arguments = [
            _ten_times(argument) if isinstance(argument, AsyncIterator) else argument * 10
            for argument in invocation.arguments
        ]
        result = await call_next(invocation)
        return _ten_times(result) if invocation.is_stream else {"changed": result}


async def _ten_times(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item * 10


@PROTOCOLS
async def test_arguments_results_and_streams_may_be_changed(rt: Runtime, protocol: str) -> None:
    async with rt.serve(make_hub(rt, Change())) as server, rt.connect(server.url, protocol=protocol) as client:
        assert await client.invoke("Add", 2) == {"changed": 30}
        assert await client.invoke("Upload", client.upload([1, 2])) == {"changed": ["sum" * 10, 30]}
        async with client.stream("Count", 1) as items:
            assert [item async for item in items] == [number * 10 for number in range(10)]


class Cache(HubFilter):
    """Does not go on when it knows the answer."""

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        key = invocation.method, *invocation.arguments
        if key not in self.known:
            self.known[key] = await call_next(invocation)
        return self.known[key]


class Retry(HubFilter):
    """Goes on once more."""

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        try:
            return await call_next(invocation)
        except ConnectionError:
            return await call_next(invocation)


async def test_a_filter_may_go_on_not_at_all_or_twice(rt: Runtime) -> None:
    hub = make_hub(rt, Cache(), Retry())
    calls: list[int] = []

    @hub.method("Flaky")
    async def flaky(x: int) -> int:
        calls.append(x)
        await rt.sleep(0)
        if len(calls) == 1:
            raise ConnectionError
        return x

    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        assert await client.invoke("Flaky", 7) == 7
        assert await client.invoke("Flaky", 7) == 7
        assert await client.invoke("Add", 7) == 8
    assert calls == [7, 7]


class Guard(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        if invocation.method == "Add":
            raise HubError("not today")
        raise ValueError("secret")

    async def connected(self, call: Call, call_next: Next) -> None:
        if "name" not in call.connection.query:
            raise HubError("who are you?")
        await call_next(call)


async def test_what_a_filter_raises_counts_as_the_method_s(rt: Runtime) -> None:
    async with rt.serve(make_hub(rt, Guard())) as server, rt.connect(f"{server.url}?name=n") as client:
        with pytest.raises(HubError) as caught:
            await client.invoke("Add", 1)
        assert str(caught.value) == "An unexpected error occurred invoking 'Add' on the server. HubException: not today"
        with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'Wait' on the server\.$"):
            await client.invoke("Wait", 1)
        with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'Count' on the server\.$"):
            async with client.stream("Count", 1) as items:
                await anext(items)


async def test_a_client_that_is_not_let_in_never_leaves(rt: Runtime) -> None:
    noted: list[str] = []
    hub = make_hub(rt, Log(rt, "a", noted), Guard())
    hub.on_connected(lambda: noted.append("hello"))
    hub.on_disconnected(lambda: noted.append("bye"))
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            assert await peer.read() == {
                "type": 7,
                "error": "Connection closed with an error. HubException: who are you?",
            }
        async with rt.connect(f"{server.url}?name=n") as client:
            with pytest.raises(HubError):
                await client.invoke("Wait", 1)
        await rt.eventually(lambda: noted[-1:] == ["disconnected: a"])
    assert noted == [
        "a: connected",
        *["a: connected", "hello", "connected: a"],
        *["a: Wait", "Wait: a"],
        *["a: disconnected", "bye", "disconnected: a"],
    ]


class Hold(HubFilter):
    """Waits for ever, and notes how that ends."""

    def __init__(self, rt: Runtime, swallows: bool = False) -> None:
        self.rt = rt
        self.swallows = swallows
        self.noted: list[str] = []

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        if invocation.method == "Add":
            return await call_next(invocation)
        self.noted.append("begun")
        try:
            await self.rt.sleep_forever()
        except self.rt.Cancelled:
            self.noted.append("cancelled")
            if not self.swallows:
                raise
        return "carried on"


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("early", [False, True], ids=["when it has begun", "before its first step"])
async def test_a_cancelled_call_has_one_answer(rt: Runtime, swallows: bool, early: bool) -> None:
    hold = Hold(rt, swallows)
    async with rt.serve(make_hub(rt, hold)) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 1, "invocationId": "1", "target": "Wait", "arguments": [1]}
            cancel = {"type": 5, "invocationId": "1"}
            if early:
                await peer.send(call, cancel)
            else:
                await peer.send(call)
                await rt.eventually(lambda: hold.noted == ["begun"])
                await peer.send(cancel)
            answer = {"type": 3, "invocationId": "1"}
            assert await peer.read() == (answer | {"result": "carried on"} if swallows else answer)
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 3}
    assert hold.noted == ["begun", "cancelled"]


async def test_a_client_that_leaves_cancels_what_waits_in_a_filter(rt: Runtime) -> None:
    hold = Hold(rt)
    async with rt.serve(make_hub(rt, hold)) as server:
        async with rt.tasks() as tasks:
            async with rt.connect(server.url) as client:
                call = tasks.start_soon(_fails, client.invoke("Wait", 1))
                await rt.eventually(lambda: hold.noted == ["begun"])
            call.cancel()
        await rt.eventually(lambda: hold.noted == ["begun", "cancelled"])


async def _fails(waiting: Any) -> None:
    with pytest.raises(TransportError):
        await waiting


class Background(HubFilter):
    """Goes on in a task of its own."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        done = self.rt.Event()
        result: list[Any] = []

        async def work() -> None:
            result.append(await call_next(invocation))
            done.set()

        async with self.rt.tasks() as tasks:
            tasks.start_soon(work)
            await done.wait()
            tasks.start_soon(call_next, invocation)
        return result


async def test_what_comes_next_may_run_in_another_task(rt: Runtime) -> None:
    async with rt.serve(make_hub(rt, Background(rt))) as server, rt.connect(server.url) as client:
        assert await client.invoke("Add", 2) == [3]
        assert await client.invoke("Wait", 2) == [[2, client.connection_id]]


class Watched(HubFilter):
    """Notes when a stream is closed."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        return self.watched(await call_next(invocation))

    async def watched(self, items: Any) -> AsyncIterator[int]:
        try:
            async for item in items:
                self.noted.append(item)
                yield item
        finally:
            await items.aclose()
            self.noted.append("closed")


async def test_a_wrapped_stream_is_closed_when_its_client_turns_away(rt: Runtime) -> None:
    watched = Watched()
    async with rt.serve(make_hub(rt, watched)) as server, rt.connect(server.url) as client:
        async with client.stream("Count", 10**9) as items:
            assert await anext(items) == 0
        await rt.eventually(lambda: watched.noted[-1] == "closed")


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_plain_function_behind_a_filter_runs_in_a_task(rt: Runtime, slots: int) -> None:
    """So it no more ends before the next call begins, unless calls run one after another."""
    noted: list[str] = []
    hub = make_hub(rt, Log(rt, "a", noted), config=HubConfig(max_parallel_calls=slots))
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            calls = [{"type": 1, "invocationId": str(i), "target": "Add", "arguments": [i]} for i in range(2)]
            await peer.send(*calls)
            answers = [await peer.read(), await peer.read()]
            assert sorted(answer["result"] for answer in answers) == [1, 2]
    calls_only = [one for one in noted if "Add" in one]
    assert calls_only == (["a: Add", "Add: a"] * 2 if slots == 1 else ["a: Add"] * 2 + ["Add: a"] * 2)


class FailAtTheEnd(HubFilter):
    async def disconnected(self, call: Call, error: Exception | None, call_next: Next) -> None:
        raise ValueError("too late")


async def test_a_failure_at_the_end_is_logged_and_harms_nobody(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.serve(make_hub(rt, FailAtTheEnd())) as server:
        with caplog.at_level(logging.ERROR):
            async with rt.connect(server.url) as client:
                assert await client.invoke("Add", 1) == 2
            await rt.eventually(lambda: "too late" in caplog.text)
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 1) == 2
