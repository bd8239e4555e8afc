"""What a client does when the hub calls it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, Transport
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime, over_each_transport
from tests.kit.tcp import Tcp


@dataclass
class Point:
    x: int
    y: int


def calling_hub() -> Hub:
    hub = Hub(HubConfig(max_parallel_calls=2))

    @hub.on_connected
    def connected(call: Call) -> None:
        call.clients.caller.send("welcome", 1)
        call.clients.caller.send("welcome", 2)

    @hub.method("CallMeBack")
    def call_me_back(target: str, call: Call, arguments: list[Any]) -> str:
        call.clients.caller.send(target, *arguments)
        return "called"

    @hub.method("Flood")
    def flood(count: int, call: Call) -> None:
        for number in range(count):
            call.clients.caller.send("flood", number)

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    return hub


@over_each_transport
async def test_handlers_registered_before_entering_get_what_on_connected_sends(rt: Runtime) -> None:
    for _ in range(20):
        received: list[int] = []
        async with rt.serve(calling_hub()) as server:
            client = rt.connect(server.url)
            client.on("welcome", received.append)
            async with client:
                await rt.eventually(lambda: received == [1, 2])  # noqa: B023


async def test_a_handler_is_found_in_any_case_and_gets_typed_arguments(rt: Runtime) -> None:
    received: list[object] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("Move")
        def move(point: Point, label: str | None) -> None:
            received.append((point, label))

        await client.invoke("CallMeBack", "mOVE", [{"x": 1, "y": 2}, None])
        await rt.eventually(lambda: received == [(Point(1, 2), None)])


async def test_what_the_hub_sends_before_a_result_is_handled_before_the_call_returns(rt: Runtime) -> None:
    received: list[int] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:
        client.on("flood", received.append)
        await client.invoke("Flood", 2000)
        assert received == list(range(2000))


async def test_async_handlers_run_one_after_another_while_answers_flow(rt: Runtime) -> None:
    begun: list[int] = []
    ended: list[int] = []
    gate = rt.Event()
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("flood")
        async def flood(number: int) -> None:
            begun.append(number)
            await gate.wait()
            await rt.sleep(0)
            ended.append(number)

        await client.invoke("Flood", 3)
        assert await client.invoke("Add", 2, 3) == 5
        await rt.eventually(lambda: begun == [0])
        assert ended == []
        gate.set()
        await rt.eventually(lambda: ended == [0, 1, 2])
    assert begun == [0, 1, 2]


async def test_a_waiting_handler_keeps_no_connection_from_staying_alive(rt: Runtime) -> None:
    config = HubConfig(keep_alive_interval=0.02, silence_timeout=0.25)
    waiting, gate = rt.Event(), rt.Event()
    async with rt.serve(calling_hub(), config=config) as server:
        async with rt.connect(server.url, config=config) as client:

            @client.on("wait")
            async def wait() -> None:
                waiting.set()
                await gate.wait()

            await client.invoke("CallMeBack", "wait", [])
            await waiting.wait()
            begun = rt.current_time()
            while rt.current_time() < begun + 3 * config.silence_timeout:
                assert await client.invoke("Add", 2, 3) == 5
                await rt.sleep(config.keep_alive_interval)
            gate.set()


@over_each_transport
async def test_a_handler_may_call_the_hub(rt: Runtime) -> None:
    received: list[int] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("ask")
        async def ask(a: int, b: int) -> None:
            received.append(await client.invoke("Add", a, b))

        await client.invoke("CallMeBack", "ask", [2, 3])
        await rt.eventually(lambda: received == [5])


async def test_several_handlers_run_in_the_order_of_their_adding(rt: Runtime) -> None:
    received: list[str] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("note")
        async def first(text: str) -> None:
            await rt.sleep(0.01)
            received.append(f"first {text}")

        @client.on("note")
        def second(text: str) -> None:
            received.append(f"second {text}")

        await client.invoke("CallMeBack", "note", ["a"])
        await client.invoke("CallMeBack", "note", ["b"])
        await rt.eventually(lambda: len(received) == 4)
    assert received == ["first a", "second a", "first b", "second b"]


async def test_off_forgets_one_handler_or_all(rt: Runtime) -> None:
    first: list[str] = []
    second: list[str] = []
    last: list[str] = []

    def note_first(text: str) -> None:
        first.append(text)

    def note_second(text: str) -> None:
        second.append(text)

    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:
        client.on("last", last.append)
        client.on("note", note_first)
        client.on("note", note_second)
        await client.invoke("CallMeBack", "note", ["a"])
        client.off("note", note_first)
        await client.invoke("CallMeBack", "note", ["b"])
        client.off("note")
        await client.invoke("CallMeBack", "note", ["c"])
        client.off("unknown")
        await client.invoke("CallMeBack", "last", ["d"])
        await rt.eventually(lambda: last == ["d"])
    assert first == ["a"]
    assert second == ["a", "b"]


@over_each_transport
async def test_whoever_listens_to_everything_hears_what_has_no_handler(rt: Runtime, transport: Transport) -> None:
    calls: list[tuple[str, Any]] = []
    async with rt.serve(calling_hub()) as server:
        client = rt.connect(server.url, transports=[transport])

        @client.on_any
        async def listen(target: str, arguments: list[Any]) -> None:
            await rt.sleep(0)
            calls.append((target, arguments))

        client.on("note", lambda text: calls.append(("handler", text)))
        transports = [client.transport]
        async with client:
            transports.append(client.transport)
            await client.invoke("CallMeBack", "note", ["a"])
            await client.invoke("CallMeBack", "other", [1, [2]])
            await rt.eventually(lambda: len(calls) == 5)
            client.off_any(listen)
            await client.invoke("CallMeBack", "note", ["b"])
            await rt.eventually(lambda: len(calls) == 6)
    assert transports == [None, transport]
    assert calls == [
        ("welcome", [1]),
        ("welcome", [2]),
        ("note", ["a"]),
        ("handler", "a"),
        ("other", [1, [2]]),
        ("handler", "b"),
    ]


async def test_a_failing_handler_is_logged_and_the_next_one_runs(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    received: list[str] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("note")
        async def fail(text: str) -> None:
            raise ValueError(f"no {text}")

        client.on("note", received.append)
        await client.invoke("CallMeBack", "note", ["a"])
        await rt.eventually(lambda: received == ["a"])
        assert await client.invoke("Add", 2, 3) == 5
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "handler of 'note' failed" in record.getMessage()
    assert record.exc_info is not None


async def test_calls_that_fit_no_handler_are_logged_and_dropped(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    received: list[int] = []
    async with rt.serve(calling_hub()) as server, rt.connect(server.url) as client:

        @client.on("typed")
        def typed(number: int) -> None:
            received.append(number)

        with caplog.at_level(logging.WARNING):
            await client.invoke("CallMeBack", "missing", [])
            await client.invoke("CallMeBack", "typed", ["text"])
            await client.invoke("CallMeBack", "typed", [1])
            await rt.eventually(lambda: received == [1])
    warnings = [record.getMessage() for record in caplog.records if "welcome" not in record.getMessage()]
    assert [text.partition("called ")[2].split()[0] for text in warnings] == ["'missing',", "'typed'"]


async def test_a_hub_can_ask_a_client(rt: Runtime) -> None:
    """The hub here is a peer by hand: whatever a server asks, a handler's result answers it."""
    answers: list[Any] = []
    asked = rt.Event()

    async def server(tcp: Tcp) -> None:
        peer = await Peer.answer(tcp)
        for number, target in enumerate(["double", "fail", "missing"]):
            await peer.send({"type": 1, "invocationId": f"s{number}", "target": target, "arguments": [21]})
            answers.append(await peer.read())
        asked.set()
        await peer.read_until_closed()

    async with rt.listen(server) as port:
        client = rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True)

        @client.on("double")
        async def double(number: int) -> int:
            await rt.sleep(0)
            return 2 * number

        @client.on("fail")
        def fail(number: int) -> int:
            raise ValueError("cannot")

        async with client:
            await asked.wait()
    assert answers == [
        {"type": 3, "invocationId": "s0", "result": 42},
        {"type": 3, "invocationId": "s1", "error": "cannot"},
        {"type": 3, "invocationId": "s2", "error": "Client didn't provide a result."},
    ]


async def test_leaving_cancels_a_handler_that_waits(rt: Runtime) -> None:
    ended = rt.Event()
    begun = rt.Event()
    async with rt.serve(calling_hub()) as server:
        async with rt.connect(server.url) as client:

            @client.on("wait")
            async def wait() -> None:
                begun.set()
                try:
                    await rt.sleep_forever()
                finally:
                    ended.set()

            await client.invoke("CallMeBack", "wait", [])
            await begun.wait()
        assert ended.is_set()
