"""Calls that are given up: by the client, by the end of the connection, by the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from hubproto_core import Hub, HubConfig, HubError
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime, over_each_transport

pytestmark = over_each_transport


class SlowHub(Hub):
    """Methods that take for ever, and how they ended."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gate: Event = rt.Event()
        self.method("Slow")(self.slow)
        self.method("Ticks")(self.ticks)
        self.method("Stubborn")(self.stubborn)
        self.method("Angry")(self.angry)
        self.method("Lingering")(self.lingering)
        self.method("Steady", cancellable=False)(self.steady)
        self.method("Gated")(self.gated)
        self.method("Add")(lambda a, b: a + b)

    def has_begun(self, count: int) -> bool:
        return len(self.begun) == count

    async def slow(self) -> None:
        await self._last("slow")

    async def steady(self) -> None:
        await self._last("steady")

    async def ticks(self) -> AsyncIterator[int]:
        yield 0
        await self._last("ticks")

    async def stubborn(self) -> str:
        try:
            await self._last("stubborn")
        except self.rt.Cancelled:
            return "carried on"
        return ""

    async def angry(self) -> str:
        try:
            await self._last("angry")
        except self.rt.Cancelled:
            raise HubError("not now") from None
        return ""

    async def lingering(self) -> AsyncIterator[int]:
        yield 0
        try:
            await self._last("lingering")
        except self.rt.Cancelled:
            self.ended.append("carried on")
        yield 1

    async def gated(self) -> str:
        self.begun.append("gated")
        await self.gate.wait()
        self.ended.append("gated")
        return "done"

    async def _last(self, name: str) -> None:
        self.begun.append(name)
        try:
            await self.rt.sleep_forever()
        finally:
            self.ended.append(name)


async def test_a_cancelled_call_is_cancelled_on_the_hub_too(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with rt.tasks() as tasks:
            call = tasks.start_soon(client.invoke, "Slow")
            await rt.eventually(lambda: hub.begun == ["slow"])
            call.cancel()
        await rt.eventually(lambda: hub.ended == ["slow"])
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_call_that_times_out_is_cancelled_on_the_hub_too(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with rt.move_on_after(0.05) as outcome:
            await client.invoke("Slow")
        assert outcome.cancelled
        await rt.eventually(lambda: hub.ended == hub.begun == ["slow"])
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_cancelled_call_makes_room_for_the_next(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        for number in range(1, 21):
            async with rt.tasks() as tasks:
                call = tasks.start_soon(client.invoke, "Slow")
                await rt.eventually(partial(hub.has_begun, number))
                call.cancel()
        assert await client.invoke("Add", 2, 3) == 5
    assert hub.ended == ["slow"] * 20


async def test_a_method_that_is_not_cancellable_goes_on(rt: Runtime) -> None:
    hub = SlowHub(rt, HubConfig(max_parallel_calls=2))
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with rt.tasks() as tasks:
            call = tasks.start_soon(client.invoke, "Steady")
            await rt.eventually(lambda: hub.begun == ["steady"])
            call.cancel()
        assert await client.invoke("Add", 2, 3) == 5
        assert hub.ended == []
    await rt.eventually(lambda: hub.ended == ["steady"])


@pytest.mark.parametrize("target", ["Slow", "Stubborn"])
async def test_a_call_cancelled_before_its_first_step_has_exactly_one_completion(rt: Runtime, target: str) -> None:
    async with rt.serve(SlowHub(rt)) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 1, "invocationId": "1", "target": target, "arguments": []}
            await peer.send(call, {"type": 5, "invocationId": "1"})
            answer = await peer.read()
            assert (answer["type"], answer["invocationId"]) == (3, "1")
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


async def test_a_stream_cancelled_before_its_first_step_has_exactly_one_completion(rt: Runtime) -> None:
    async with rt.serve(SlowHub(rt)) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 4, "invocationId": "1", "target": "Ticks", "arguments": []}
            await peer.send(call, {"type": 5, "invocationId": "1"})
            answers = [await peer.read()]
            if answers[-1]["type"] == 2:
                answers.append(await peer.read())
            assert answers[-1] == {"type": 3, "invocationId": "1"}
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


async def test_a_method_that_catches_its_cancellation_answers(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Stubborn", "arguments": []})
            await rt.eventually(lambda: hub.begun == ["stubborn"])
            await peer.send({"type": 5, "invocationId": "1"})
            assert await peer.read() == {"type": 3, "invocationId": "1", "result": "carried on"}
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


async def test_a_method_that_fails_when_it_is_cancelled_answers_with_that_once(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Angry", "arguments": []})
            await rt.eventually(lambda: hub.begun == ["angry"])
            await peer.send({"type": 5, "invocationId": "1"}, {"type": 5, "invocationId": "1"})
            error = "An unexpected error occurred invoking 'Angry' on the server. HubException: not now"
            assert await peer.read() == {"type": 3, "invocationId": "1", "error": error}
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


async def test_a_stream_that_carries_on_when_it_is_cancelled_has_one_completion_behind_all_its_items(
    rt: Runtime,
) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 4, "invocationId": "1", "target": "Lingering", "arguments": []})
            await rt.eventually(lambda: hub.begun == ["lingering"])
            await peer.send({"type": 5, "invocationId": "1"})
            heard = [await peer.read()]
            while heard[-1]["type"] == 2:
                heard.append(await peer.read())
            assert heard[-1] == {"type": 3, "invocationId": "1"}
            assert hub.ended == ["lingering", "carried on"]
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


@pytest.mark.parametrize("target", ["Stubborn", "Angry"])
async def test_what_swallows_the_end_of_its_connection_answers_nobody(
    rt: Runtime, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub = SlowHub(rt)
    left: list[Exception | None] = []
    hub.on_disconnected(lambda error: left.append(error))
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": target, "arguments": []})
            await rt.eventually(lambda: hub.begun)
            await peer.send({"type": 7})
            assert await peer.read_until_closed() == [{"type": 7}]
        await rt.eventually(lambda: left == [None])
    assert hub.ended == [target.lower()]
    assert caplog.records == []


async def test_a_cancelled_call_is_answered_once(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Slow", "arguments": []})
            await rt.eventually(lambda: hub.begun == ["slow"])
            await peer.send({"type": 5, "invocationId": "1"}, {"type": 5, "invocationId": "1"})
            assert (await peer.read())["type"] == 3
            await peer.send({"type": 5, "invocationId": "1"})
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


@pytest.mark.parametrize("farewell", [True, False], ids=["by closing", "by disappearing"])
async def test_a_client_that_leaves_cancels_what_it_called(rt: Runtime, farewell: bool) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Slow", "arguments": []})
            await peer.send({"type": 4, "invocationId": "2", "target": "Ticks", "arguments": []})
            await rt.eventually(lambda: len(hub.begun) == 2)
            if farewell:
                await peer.send({"type": 7})
            else:
                peer.tcp.reset()
            await rt.eventually(lambda: sorted(hub.ended) == ["slow", "ticks"])


async def test_a_call_without_an_id_sent_just_before_the_farewell_is_run(rt: Runtime) -> None:
    hub = SlowHub(rt)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            await client.send("Gated")
        await rt.eventually(lambda: hub.begun == ["gated"])
        assert hub.ended == []
        hub.gate.set()
        await rt.eventually(lambda: hub.ended == ["gated"])


async def test_several_calls_without_an_id_sent_just_before_the_farewell_are_run(rt: Runtime) -> None:
    hub = Hub()
    received: list[int] = []
    hub.method("Note")(received.append)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            for number in range(10):
                await client.send("Note", number)
        await rt.eventually(lambda: received == list(range(10)))


async def test_a_server_that_is_dropped_cancels_all_that_runs(rt: Runtime) -> None:
    hub = SlowHub(rt)
    served = rt.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with rt.serve(hub) as server:
            ports.append(server.port)
            served.set()
            await rt.sleep_forever()

    async with rt.tasks() as tasks:
        serving = tasks.start_soon(serve)
        await served.wait()
        with await Peer.dial(rt, ports[0]) as peer:
            await peer.send({"type": 1, "target": "Slow", "arguments": []})
            await peer.send({"type": 4, "invocationId": "2", "target": "Ticks", "arguments": []})
            await rt.eventually(lambda: len(hub.begun) == 2)
            serving.cancel()
            await peer.read_until_closed()
            await rt.eventually(lambda: sorted(hub.ended) == ["slow", "ticks"])
