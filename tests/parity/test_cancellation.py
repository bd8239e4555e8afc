"""Calls that are given up: by the client, by the end of the connection, by the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from hubproto_core import Hub, HubConfig
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime


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


# what a method makes of its cancellation

GOODBYE = {"type": 7, "allowReconnect": True}


class WilfulHub(Hub):
    """Methods that do as they like when they are cancelled; their streams, too."""

    def __init__(self, rt: Runtime, **settings: float) -> None:
        super().__init__(HubConfig(**settings))  # type: ignore[arg-type]
        self.rt = rt
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.ended: list[str] = []
        self.gate: Event = rt.Event()
        self.method("Add")(lambda a, b: a + b)
        for name in ("Ends", "Answers", "Raises", "RunsOn"):
            self.method(name)(partial(self.call, name))
            self.method(f"Stream{name}")(partial(self.stream, name))

    async def call(self, name: str) -> str:
        self.begun.append(name)
        try:
            await self.rt.sleep_forever()
        except self.rt.Cancelled:
            self.cancelled.append(name)
            if name == "Ends":
                raise
            if name == "Raises":
                raise ValueError("in a huff") from None
            if name == "RunsOn":
                await self.despite_all()
        finally:
            self.ended.append(name)
        return "an answer"

    async def stream(self, name: str) -> AsyncIterator[str]:
        yield await self.call(name)

    async def despite_all(self) -> None:
        while not self.gate.is_set():
            with contextlib.suppress(self.rt.Cancelled):
                await self.rt.sleep(0.005)


ANSWER = {"type": 3, "invocationId": "1", "result": "an answer"}
FAILED = "An unexpected error occurred invoking '{}' on the server."
STREAM_FAILED = "An error occurred on the server while streaming results."
ITEM = {"type": 2, "invocationId": "1", "item": "an answer"}
END = {"type": 3, "invocationId": "1"}


def outcome(target: str, *, wished: bool) -> list[dict[str, object]]:
    """What the client hears of a call that it wished to be cancelled, or that the server cancels of itself."""
    text = STREAM_FAILED if target.startswith("Stream") else FAILED.format(target)
    if target.endswith("Ends"):
        return [END if wished else {**END, "error": text}]
    if target.endswith("Raises"):
        return [{**END, "error": text}]
    return [ITEM, END] if target.startswith("Stream") else [ANSWER]


TARGETS = [f"{prefix}{name}" for prefix in ("", "Stream") for name in ("Ends", "Answers", "Raises", "RunsOn")]


def call_of(target: str) -> dict[str, object]:
    return {"type": 4 if target.startswith("Stream") else 1, "invocationId": "1", "target": target, "arguments": []}


@pytest.mark.parametrize("target", TARGETS)
async def test_a_call_that_its_client_cancels_has_exactly_one_completion(rt: Runtime, target: str) -> None:
    hub = WilfulHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call_of(target))
            await rt.eventually(lambda: hub.begun)
            await peer.send({"type": 5, "invocationId": "1"})
            await rt.eventually(lambda: hub.cancelled)
            hub.gate.set()
            expected = outcome(target, wished=True)
            assert [await peer.read() for _ in expected] == expected
            await peer.send({"type": 5, "invocationId": "1"}, {"type": 1, "target": "Add", "arguments": [1, 2]})
            await peer.send({"type": 7})
            assert await peer.read_until_closed() == [{"type": 7}]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_call_that_a_shutdown_cancels_has_exactly_one_completion(rt: Runtime, target: str) -> None:
    """Not one that could be taken for success, unless the method says so."""
    hub = WilfulHub(rt, shutdown_timeout=0.05)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call_of(target))
            await rt.eventually(lambda: hub.begun)
            server.server.close()
            await rt.eventually(lambda: hub.cancelled)
            hub.gate.set()
            assert await peer.read_until_closed() == [*outcome(target, wished=False), GOODBYE]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_call_whose_client_leaves_has_no_completion(rt: Runtime, target: str) -> None:
    hub = WilfulHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call_of(target))
            await rt.eventually(lambda: hub.begun)
            await peer.send({"type": 7})
            assert await peer.read_until_closed() == [{"type": 7}]
            await rt.eventually(lambda: hub.cancelled)
            hub.gate.set()
            await rt.eventually(lambda: hub.ended)
    assert len(hub.begun) == len(hub.cancelled) == len(hub.ended) == 1


async def test_a_call_that_runs_on_though_it_is_cancelled_keeps_its_place(rt: Runtime) -> None:
    hub = WilfulHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call_of("RunsOn"), {"type": 5, "invocationId": "1"})
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            await rt.eventually(lambda: hub.cancelled)
            hub.gate.set()
            assert await peer.read() == ANSWER
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}
