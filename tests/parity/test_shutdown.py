"""A server that shuts down: what is let finish, what is cancelled, and what everybody hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack

from hubproto_core import Call, Hub, HubConfig
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime

GOODBYE = {"type": 7, "allowReconnect": True}
FOR_EVER = 1000.0


def invoke(target: str, number: str = "1", **members: object) -> dict[str, object]:
    return {"type": 1, "invocationId": number, "target": target, "arguments": [], **members}


class ClosingHub(Hub):
    """Methods that do not end by themselves, and how they ended; when a client has been said farewell."""

    def __init__(self, rt: Runtime, **settings: float) -> None:
        super().__init__(HubConfig(**settings))  # type: ignore[arg-type]
        self.rt = rt
        self.gate: Event = rt.Event()
        self.last_gate: Event = rt.Event()
        self.last_gate.set()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.connected: set[str] = set()
        self.disconnected: list[str] = []
        self.method("Slow")(self.slow)
        self.method("Gated")(self.gated)
        self.method("Endless")(self.endless)
        self.method("Upload")(self.upload)
        self.method("Deaf")(self.deaf)
        self.on_connected(self.come)
        self.on_disconnected(self.go)

    def come(self, call: Call) -> None:
        self.connected.add(call.connection_id)

    async def go(self, call: Call) -> None:
        try:
            await self.last_gate.wait()
        except self.rt.Cancelled:
            self.ended.append("on_disconnected")
            raise
        self.disconnected.append(call.connection_id)

    async def slow(self) -> None:
        self.begun.append("slow")
        try:
            await self.rt.sleep_forever()
        finally:
            self.ended.append("slow")

    async def gated(self) -> str:
        self.begun.append("gated")
        await self.gate.wait()
        return "done"

    async def endless(self) -> AsyncIterator[int]:
        self.begun.append("endless")
        try:
            while True:
                yield 0
                await self.rt.sleep(0.01)
        finally:
            self.ended.append("endless")

    async def upload(self, items: AsyncIterator[int]) -> None:
        self.begun.append("upload")
        try:
            async for _ in items:
                pass
        finally:
            self.ended.append("upload")

    async def deaf(self) -> str:
        self.begun.append("deaf")
        while not self.gate.is_set():
            try:
                await self.rt.sleep(0.01)
            except self.rt.Cancelled:
                self.ended.append("cancelled in vain")
        return "done"


def without_items(records: list[dict[str, object]]) -> list[dict[str, object]]:
    return [record for record in records if record["type"] != 2]


async def test_an_idle_client_is_sent_away_at_once_while_the_call_of_another_may_finish(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=FOR_EVER)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as idle, await Peer.dial(rt, server.port) as busy:
            await busy.send(invoke("Gated"))
            await rt.eventually(lambda: hub.begun)
            server.server.close()
            assert await idle.read_until_closed() == [GOODBYE]
            assert idle.closed == 1000
            await busy.send(invoke("Slow", "2"))  # is not begun any more
            hub.gate.set()
            assert await busy.read_until_closed() == [{"type": 3, "invocationId": "1", "result": "done"}, GOODBYE]
            assert busy.closed == 1000
    assert hub.begun == ["gated"]
    assert sorted(hub.disconnected) == sorted(hub.connected)


async def test_an_endless_stream_has_the_time_of_a_shutdown(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=0.2, close_timeout=0.1)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({**invoke("Endless"), "type": 4})
            assert (await peer.read())["type"] == 2
            since = rt.current_time()
            server.server.close()
            error = "An error occurred on the server while streaming results."
            cancelled = {"type": 3, "invocationId": "1", "error": error}  # it must not be taken for a stream's end
            assert without_items(await peer.read_until_closed()) == [cancelled, GOODBYE]
            assert 0.19 < rt.current_time() - since < 3
    assert hub.ended == ["endless"]
    assert len(hub.disconnected) == 1


async def test_a_second_close_cancels_everything_and_waits_for_no_client(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=FOR_EVER, close_timeout=FOR_EVER)
    async with rt.fail_after(10), rt.serve(hub) as server:
        with ExitStack() as stack:
            peers = [stack.enter_context(await Peer.dial(rt, server.port)) for _ in range(4)]
            await peers[0].send(invoke("Slow"))
            await peers[1].send({**invoke("Endless"), "type": 4})
            await peers[2].send(invoke("Upload", streamIds=["u"]))
            await rt.eventually(lambda: sorted(hub.begun) == ["endless", "slow", "upload"])
            server.server.close()
            assert await peers[3].read_until_closed() == [GOODBYE]  # and does not answer the close frame
            assert hub.ended == []
            server.server.close()
            await server.server.wait_closed()
            assert sorted(hub.ended) == ["endless", "slow", "upload"]
            for peer in peers[:3]:
                completion, goodbye = without_items(await peer.read_until_closed())
                assert (completion["type"], completion["invocationId"], goodbye) == (3, "1", GOODBYE)
                assert str(completion["error"]).startswith(("An unexpected error", "An error"))
                assert peer.closed == 1000
    assert len(hub.connected) == 4
    assert sorted(hub.disconnected) == sorted(hub.connected)


async def test_a_client_that_does_not_answer_the_close_frame_holds_up_a_shutdown_for_a_while_only(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=FOR_EVER, close_timeout=0.2)
    async with rt.fail_after(10), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            server.server.close()
            assert await peer.read_until_closed() == [GOODBYE]
            await server.server.wait_closed()
            assert await peer.tcp.receive() == b""
    assert len(hub.disconnected) == 1


async def test_a_method_that_ends_for_nothing_does_not_keep_its_client_and_is_waited_for(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=0.1, close_timeout=0.1)
    closed = rt.Event()

    async def wait() -> None:
        await server.server.wait_closed()
        closed.set()

    async with rt.serve(hub) as server, rt.tasks() as tasks:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(invoke("Deaf"))
            await rt.eventually(lambda: hub.begun)
            server.server.close()
            tasks.start_soon(wait)
            assert await peer.read_until_closed() == [GOODBYE]
            assert "cancelled in vain" in hub.ended
            assert not closed.is_set()
            hub.gate.set()
            await closed.wait()
    assert len(hub.disconnected) == 1


async def test_an_on_disconnected_that_does_not_end_is_cancelled_though_its_client_is_gone(rt: Runtime) -> None:
    hub = ClosingHub(rt, shutdown_timeout=0.2, close_timeout=0.1)
    hub.last_gate = rt.Event()
    async with rt.fail_after(10), rt.serve(hub) as server:
        with await Peer.dial(rt, server.port):
            await rt.eventually(lambda: hub.connected)
        since = rt.current_time()
        server.server.close()
        await server.server.wait_closed()
        assert rt.current_time() - since > 0.19
    assert hub.ended == ["on_disconnected"]
