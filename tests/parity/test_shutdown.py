"""Servers that shut down: gracefully, and at once when they are asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime
from tests.parity.test_bad_peers import UPGRADE

GOODBYE = {"type": 7, "allowReconnect": True}


class ClosingHub(Hub):
    """Calls that end when the test wants, or never, and what became of everything."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.gate: Event = rt.Event()
        self.hold: Event = rt.Event()
        self.hold.set()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.left: list[Exception | None] = []
        self.method("Gated")(self.gated)
        self.method("Slow")(self.slow)
        self.method("Ticks")(self.ticks)
        self.method("Stubborn")(self.stubborn)
        self.method("Angry")(self.angry)
        self.method("Add")(lambda a, b: a + b)
        self.on_disconnected(self.disconnected)

    async def gated(self) -> str:
        self.begun.append("gated")
        await self.gate.wait()
        return "done"

    async def slow(self) -> None:
        await self._last("slow")

    async def ticks(self) -> AsyncIterator[int]:
        yield 0
        await self._last("ticks")

    async def stubborn(self) -> str:
        try:
            await self._last("stubborn")
        except self.rt.Cancelled:
            return "carried on"
        return ""

    async def angry(self) -> None:
        try:
            await self._last("angry")
        except self.rt.Cancelled:
            raise HubError("not now") from None

    async def disconnected(self, error: Exception | None, call: Call) -> None:
        self.begun.append("disconnected")
        await self.hold.wait()
        self.left.append(error)

    async def _last(self, name: str) -> None:
        self.begun.append(name)
        try:
            await self.rt.sleep_forever()
        finally:
            self.ended.append(name)


def call(target: str, *arguments: object, id: str | None = "1", kind: int = 1) -> dict[str, object]:  # noqa: A002
    named = {} if id is None else {"invocationId": id}
    return {"type": kind, **named, "target": target, "arguments": list(arguments)}


async def test_idle_connections_of_every_kind_are_closed_at_once(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60, close_timeout=60))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await rt.tcp(server.port) as tcp, await Peer.dial(rt, server.port) as one:
            with await Peer.dial(rt, server.port) as two:
                server.server.close()
                assert server.server.closing
                assert await tcp.receive_all() == b""
                for peer in (one, two):
                    assert await peer.read_until_closed() == [GOODBYE]
                    assert peer.closed == 1000
        await server.server.wait_closed()
    assert hub.left == [None, None]


async def test_what_runs_may_end_and_what_comes_is_not_begun(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as busy, await Peer.dial(rt, server.port) as idle:
            await busy.send(call("Gated"))
            await rt.eventually(lambda: hub.begun == ["gated"])
            server.server.close()
            assert await idle.read_until_closed() == [GOODBYE]
            await busy.send(call("Add", 2, 3, id="2"))
            hub.gate.set()
            assert await busy.read_until_closed() == [{"type": 3, "invocationId": "1", "result": "done"}, GOODBYE]


async def test_streams_that_never_end_are_cancelled_in_the_end_and_have_one_completion(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=0.1))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call("Ticks", kind=4))
            await rt.eventually(lambda: hub.begun == ["ticks"])
            server.server.close()
            assert await peer.read_until_closed() == [
                {"type": 2, "invocationId": "1", "item": 0},
                {"type": 3, "invocationId": "1", "error": "An error occurred on the server while streaming results."},
                GOODBYE,
            ]
        await rt.eventually(lambda: hub.left == [None])
    assert hub.ended == ["ticks"]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("Slow", {"error": "An unexpected error occurred invoking 'Slow' on the server."}),
        ("Stubborn", {"result": "carried on"}),
        ("Angry", {"error": "An unexpected error occurred invoking 'Angry' on the server. HubException: not now"}),
    ],
    ids=["one that gives in", "one that answers", "one that fails"],
)
async def test_a_call_cancelled_by_the_shutdown_has_one_completion(
    rt: Runtime, target: str, answer: dict[str, str]
) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=0.1))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call(target))
            await rt.eventually(lambda: hub.begun)
            server.server.close()
            assert await peer.read_until_closed() == [{"type": 3, "invocationId": "1", **answer}, GOODBYE]


async def test_a_client_that_does_not_answer_the_close_frame_is_not_waited_for_long(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(close_timeout=0.1))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            server.server.close()
            await server.server.wait_closed()
            assert await peer.read_until_closed() == [GOODBYE]
    assert hub.left == [None]


async def test_what_a_client_had_sent_before_it_left_is_cancelled_too(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=0.1))
    async with rt.fail_after(5), rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            await client.send("Slow")
            await rt.eventually(lambda: hub.begun == ["slow"])
        await rt.eventually(lambda: hub.left == [None])
        server.server.close()
        await server.server.wait_closed()
    assert hub.ended == ["slow"]


async def test_a_last_hook_that_does_not_end_is_cancelled_in_the_end(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=0.1, close_timeout=0.1))
    hub.hold = rt.Event()
    async with rt.fail_after(5), rt.serve(hub) as server, rt.connect(server.url):
        server.server.close()
        await server.server.wait_closed()
    assert (hub.begun, hub.left) == (["disconnected"], [])


# a second time


async def test_closing_a_second_time_cancels_everything_at_once(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60, close_timeout=60, max_parallel_calls=2))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as busy, await Peer.dial(rt, server.port) as silent:
            await busy.send(call("Slow"), call("Slow", id=None), call("Ticks", id="2", kind=4))
            await rt.eventually(lambda: sorted(hub.begun) == ["slow", "slow", "ticks"])
            server.server.close()
            assert await silent.read() == GOODBYE  # and it does not answer the close frame
            assert hub.ended == []
            server.server.close()
            await server.server.wait_closed()
            assert sorted(hub.ended) == ["slow", "slow", "ticks"]
            assert await busy.read_until_closed() == [{"type": 2, "invocationId": "2", "item": 0}, GOODBYE]
    assert hub.begun[3:] == ["disconnected"] * 2


async def test_closing_a_second_time_waits_for_no_client_that_reads_nothing(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60, close_timeout=60))
    produced: list[int] = []

    @hub.method("Pieces")
    async def pieces() -> AsyncIterator[str]:
        while True:
            produced.append(1)
            yield "x" * 16384

    async with rt.fail_after(8), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call("Pieces", kind=4))
            await rt.settled(lambda: len(produced))
            server.server.close()
            server.server.close()
            await server.server.wait_closed()
    assert hub.begun == ["disconnected"]


async def test_closing_a_second_time_cancels_last_hooks_too(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60, close_timeout=60))
    hub.hold = rt.Event()
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as left:
            await left.send({"type": 7})
            await rt.eventually(lambda: hub.begun == ["disconnected"])
        with await Peer.dial(rt, server.port) as busy:
            await busy.send(call("Slow"))
            await rt.eventually(lambda: hub.begun[1:] == ["slow"])
            server.server.close()
            server.server.close()
            await server.server.wait_closed()
    assert hub.begun == ["disconnected", "slow", "disconnected"]
    assert hub.left == []


async def test_a_call_that_swallows_its_cancellation_holds_up_the_end_but_not_its_client(rt: Runtime) -> None:
    hub = Hub(HubConfig(shutdown_timeout=60, close_timeout=60))
    swallowed = rt.Event()
    result: list[str] = []

    @hub.method("Stubborn")
    async def stubborn() -> str:
        try:
            await rt.sleep_forever()
        except rt.Cancelled:
            swallowed.set()
        result.append("carried on")
        return "nobody hears it"

    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call("Stubborn"))
            await peer.send(call("Missing", id="2"))
            assert (await peer.read())["invocationId"] == "2"
            server.server.close()
            server.server.close()
            assert await peer.read_until_closed() == [GOODBYE]
            await server.server.wait_closed()
    assert result == ["carried on"]


async def test_a_socket_in_the_middle_of_its_upgrade_holds_up_nothing(rt: Runtime) -> None:
    config = HubConfig(shutdown_timeout=60, close_timeout=60)
    async with rt.fail_after(5), rt.serve(ClosingHub(rt), config=config) as server:
        with await rt.tcp(server.port) as half, await rt.tcp(server.port) as open_:
            await half.send(UPGRADE[:40])
            await open_.send(UPGRADE)
            assert b"101" in await open_.receive()
            server.server.close()
            server.server.close()
            await server.server.wait_closed()
            await half.receive_all()
            await open_.receive_all()


async def test_nobody_gets_in_while_a_call_may_still_end(rt: Runtime) -> None:
    hub = ClosingHub(rt, HubConfig(shutdown_timeout=60))
    async with rt.fail_after(5), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(call("Gated"))
            await rt.eventually(lambda: hub.begun == ["gated"])
            server.server.close()
            with pytest.raises(TransportError):
                async with rt.connect(server.url):
                    pass
            hub.gate.set()
            await peer.read_until_closed()
