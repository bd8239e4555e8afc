"""`on_connected` and `on_disconnected`."""

from __future__ import annotations

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime

ADD = {"type": 1, "invocationId": "1", "target": "Add", "arguments": [2, 3]}


class DiaryHub(Hub):
    """Notes what happens to its connections."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.diary: list[str] = []
        self.errors: list[Exception | None] = []
        self.gate = rt.Event()
        self.gate.set()
        self.trouble: Exception | None = None
        self.on_connected(self.connected)
        self.on_disconnected(self.disconnected)
        self.method("Add")(self.add)
        self.method("Slow")(self.slow)

    async def connected(self, call: Call) -> None:
        call.items["name"] = "kept"
        self.diary.append("connecting")
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.diary.append("connected")

    async def disconnected(self, error: Exception | None, call: Call) -> None:
        self.diary.append("disconnecting")
        await self.rt.sleep(0)
        assert call.items["name"] == "kept"
        self.diary.append("disconnected")
        self.errors.append(error)

    def add(self, a: int, b: int) -> int:
        self.diary.append("add")
        return a + b

    async def slow(self) -> None:
        self.diary.append("slow")
        try:
            await self.rt.sleep_forever()
        finally:
            self.diary.append("slow ended")


async def test_calls_run_between_the_two(rt: Runtime) -> None:
    hub = DiaryHub(rt)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            await client.invoke("Add", 2, 3)
        await rt.eventually(lambda: hub.errors == [None])
    assert hub.diary == ["connecting", "connected", "add", "disconnecting", "disconnected"]


async def test_no_call_is_taken_before_on_connected_has_ended(rt: Runtime) -> None:
    hub = DiaryHub(rt)
    hub.gate = rt.Event()
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(ADD)
            await rt.eventually(lambda: hub.diary == ["connecting"])
            hub.gate.set()
            assert await peer.read() == {"type": 3, "invocationId": "1", "result": 5}
    assert hub.diary[:3] == ["connecting", "connected", "add"]


@pytest.mark.parametrize(
    ("error", "detailed", "text"),
    [
        (ValueError("secret detail"), False, "Connection closed with an error."),
        (ValueError("secret detail"), True, "Connection closed with an error. ValueError: secret detail"),
        (HubError("not today"), False, "Connection closed with an error. HubException: not today"),
    ],
    ids=["an exception", "in detail", "a hub error"],
)
async def test_an_error_in_on_connected_closes_the_connection(
    rt: Runtime, error: Exception, detailed: bool, text: str
) -> None:
    hub = DiaryHub(rt, HubConfig(detailed_errors=detailed))
    hub.trouble = error
    hub.gate = rt.Event()
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(ADD)
            hub.gate.set()
            assert await peer.read_until_closed() == [{"type": 7, "error": text}]
            assert peer.closed == 1000
    assert hub.diary == ["connecting"]


async def test_a_client_is_told_why_on_connected_closed_the_connection(rt: Runtime) -> None:
    hub = DiaryHub(rt)
    hub.trouble = HubError("not today")
    async with rt.serve(hub) as server:
        with pytest.raises(HubError, match=r"The server closed the connection with the following error: .*not today"):
            async with rt.connect(server.url) as client:
                await client.invoke("Add", 2, 3)


async def test_on_disconnected_comes_last_and_gets_what_went_wrong(rt: Runtime) -> None:
    hub = DiaryHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Slow", "arguments": []})
            await rt.eventually(lambda: hub.diary[-1:] == ["slow"])
            peer.tcp.reset()
        await rt.eventually(lambda: hub.errors)
    assert isinstance(hub.errors[0], TransportError)
    assert sorted(hub.diary[3:]) == ["disconnected", "disconnecting", "slow ended"]


async def test_each_connection_has_a_beginning_and_an_end_of_its_own(rt: Runtime) -> None:
    hub = DiaryHub(rt)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as one, rt.connect(server.url) as two:
            await one.invoke("Add", 1, 1)
            await two.invoke("Add", 1, 1)
            assert hub.diary.count("connected") == 2
    assert hub.diary.count("disconnected") == 2


async def test_a_failing_on_disconnected_is_logged_and_holds_up_nothing(
    rt: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()

    @hub.on_disconnected
    async def disconnected() -> None:
        raise ValueError("broken end")

    async with rt.fail_after(5), rt.serve(hub) as server:
        async with rt.connect(server.url):
            pass
    assert "broken end" in caplog.text


async def test_a_connection_that_ends_while_on_connected_runs_is_not_disconnected_before_it_has_ended(
    rt: Runtime,
) -> None:
    hub = DiaryHub(rt)
    hub.gate = rt.Event()
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await rt.eventually(lambda: hub.diary == ["connecting"])
            peer.tcp.reset()
        async with rt.connect(server.url):  # the server goes on meanwhile
            await rt.eventually(lambda: hub.diary.count("connecting") == 2)
            hub.gate.set()
    assert hub.diary.count("connected") == hub.diary.count("disconnected") >= 1
