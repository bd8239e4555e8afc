"""Stateful reconnect on a server: the client's sockets break, and what runs for it does not notice (SPEC 4.7)."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from hubproto_core import Call, Hub, HubConfig, HubSession
from hubproto_core.http import EndpointConfig, Mount
from tests.kit.asgi import Host
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import HANDSHAKE_2, pack

STATEFUL = EndpointConfig(stateful=True)
ITEMS = 400


class LastingHub(Hub):
    """Counts, collects, waits, and notes what becomes of that."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.diary: list[str] = []
        self.gate: Event = rt.Event()
        self.calls: list[Call] = []
        self.method("Counter")(self.counter)
        self.method("Collect")(self.collect)
        self.method("Gated")(self.gated)
        self.method("Abort")(self.abort)
        self.on_disconnected(self.gone)

    async def counter(self) -> AsyncIterator[int]:
        for i in range(ITEMS):
            yield i
            if i % 20 == 19:
                await self.rt.sleep(0.001)

    async def collect(self, items: AsyncIterator[int]) -> list[int]:
        return [item async for item in items]

    async def gated(self) -> str:
        self.diary.append("begun")
        try:
            await self.gate.wait()
        finally:
            self.diary.append("ended")
        return "through"

    async def abort(self, call: Call) -> None:
        await self.gate.wait()
        call.abort()

    def gone(self, error: Exception | None) -> None:
        self.diary.append(str(error))


async def negotiate(rt: Runtime, port: int) -> str:
    """The token of a connection that may reconnect statefully."""
    with await rt.tcp(port) as tcp:
        query = "negotiateVersion=1&useStatefulReconnect=true"
        await tcp.send(f"POST /hub/negotiate?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n".encode())
        await tcp.send(b"Connection: close\r\n\r\n")
        body = (await tcp.receive_all()).partition(b"\r\n\r\n")[2]
    members = json.loads(body)
    assert members["useStatefulReconnect"] is True
    token: str = members["connectionToken"]
    return token


class Client:
    """A client by hand: it counts what comes, and repeats what it has sent, all of it, on each socket."""

    def __init__(self, rt: Runtime, port: int, token: str) -> None:
        self.rt = rt
        self.port = port
        self.token = token
        self.peer: Peer
        self.sent: list[dict[str, Any]] = []
        self.latest = 0  # what has come
        self.next = 1

    @classmethod
    async def dial(cls, rt: Runtime, port: int) -> Self:
        """As far as the hub handshake is done."""
        client = cls(rt, port, await negotiate(rt, port))
        await client.open(await rt.tcp(port))
        await client.peer.write(HANDSHAKE_2)
        assert await client.peer.read() == {}
        return client

    async def open(self, tcp: Tcp) -> None:
        self.peer = Peer(tcp, Peer.CLIENT)
        await self.peer.upgrade(f"/hub?id={self.token}")

    async def reopen(self) -> None:
        """Come back on another socket, and repeat what nobody has asked about."""
        await self.open(await self.rt.tcp(self.port))
        await self.peer.send({"type": 9, "sequenceId": 1}, *self.sent)

    async def say(self, *messages: dict[str, Any]) -> None:
        """Say what counts."""
        self.sent += messages
        await self.peer.send(*messages)

    async def hear(self) -> dict[str, Any] | None:
        """The next message that has not been here before; None when the socket is at its end."""
        while (message := await self.peer.read()) is not None:
            if message["type"] == 9:
                assert message["sequenceId"] <= self.latest + 1
                self.next = message["sequenceId"]
            elif message["type"] != 8:
                self.next += 1
                if self.next > self.latest + 1:
                    self.latest += 1
                    heard: dict[str, Any] = message
                    return heard
        return None

    def cut(self) -> None:
        self.peer.tcp.reset()


def call(target: str, id_: str, kind: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": kind, "invocationId": id_, "target": target, "arguments": [], **more}


@pytest.mark.parametrize("half_open", [False, True], ids=["cut", "half open"])
async def test_a_stream_and_an_upload_go_on_over_one_socket_after_the_other(rt: Runtime, half_open: bool) -> None:
    """Each socket lives for a few messages; in the middle of one, it is cut, or left as it is."""
    dice = random.Random(7)
    hub = LastingHub(rt)
    sockets: list[Tcp] = []
    async with rt.serve(Mount(hub, STATEFUL)) as server:
        client = await Client.dial(rt, server.port)
        await client.say(call("Counter", "down", 4), call("Collect", "up", streamIds=["s"]))
        heard: list[dict[str, Any]] = []
        uploaded = 0
        while len(heard) < ITEMS + 2:
            if uploaded <= 50:
                item: dict[str, Any] = {"type": 2, "invocationId": "s", "item": uploaded}
                await client.say(item if uploaded < 50 else {"type": 3, "invocationId": "s"})
                uploaded += 1
            for _ in range(dice.randrange(20)):
                if len(heard) < ITEMS + 2 - (uploaded <= 50):
                    message = await client.hear()
                    assert message is not None
                    heard.append(message)
            frame = pack({"type": 6})
            await client.peer.tcp.send(bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame[: dice.randrange(9)])
            if half_open:
                sockets.append(client.peer.tcp)
            else:
                client.cut()
            await client.reopen()
        items = [message["item"] for message in heard if message["type"] == 2]
        assert items == list(range(ITEMS))
        assert {"type": 3, "invocationId": "up", "result": list(range(50))} in heard
        assert {"type": 3, "invocationId": "down"} in heard
        told = 0
        for tcp in sockets:  # each has ended: by a close frame, or at once where it was just being written to
            with tcp:
                told += (await tcp.receive_all()).endswith(b"\x88\x02\x03\xe8")
        assert told > 0 or not half_open
        assert hub.diary == []
        client.peer.tcp.close()
        server.server.close()
        async with rt.fail_after(2):
            await server.server.wait_closed()


async def test_an_old_socket_that_is_stuck_is_dropped(rt: Runtime) -> None:
    """Its client takes nothing, so that the server's write does not end."""
    hub = Hub(HubConfig(replay_buffer=4_000_000, send_buffer=4_000_000))

    @hub.method("Large")
    def large() -> str:
        return "x" * 2_000_000

    async with rt.serve(Mount(hub, STATEFUL)) as server:
        client = Client(rt, server.port, await negotiate(rt, server.port))
        await client.open(await Tcp.connect_cramped(rt, server.port))
        with client.peer:
            await client.peer.write(HANDSHAKE_2)
            assert await client.peer.read() == {}
            await client.say(call("Large", "1"))
            old = client.peer.tcp
            await rt.wait_readable(old._socket)
            await client.reopen()
            with client.peer:
                message = await client.hear()
                assert message is not None
                assert message["result"] == "x" * 2_000_000
                async with rt.fail_after(2):
                    assert len(await old.receive_all()) < 1_500_000  # cut off, with what the kernel had of it


async def test_who_does_not_come_back_leaves_nothing_behind(rt: Runtime) -> None:
    hub = LastingHub(rt, HubConfig(resume_window=0.1))
    async with rt.serve(Mount(hub, STATEFUL)) as server:
        client = await Client.dial(rt, server.port)
        await client.say(call("Gated", "1"))
        await rt.eventually(lambda: hub.diary == ["begun"])
        client.cut()
        await rt.eventually(lambda: len(hub.diary) == 3)
        _, ended, reason = sorted(hub.diary)  # the last two side by side
        assert ended == "ended"
        assert reason.startswith("the transport was lost, and not replaced within 0.1 s: ")
        assert server.server.context(hub).connections == []
        with await rt.tcp(server.port) as tcp:
            await tcp.send(f"GET /hub?id={client.token} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            assert (await tcp.receive_all()).startswith(b"HTTP/1.1 404")
        await rt.eventually(lambda: not living_sessions(hub))


def living_sessions(hub: Hub) -> list[HubSession]:
    """The sessions of a hub that are still in memory."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, HubSession) and thing._hub is hub]


async def test_who_is_lost_is_reached_later(rt: Runtime) -> None:
    hub = LastingHub(rt)
    async with rt.serve(Mount(hub, STATEFUL)) as server:
        client = await Client.dial(rt, server.port)
        await client.say(call("Gated", "1"))
        await rt.eventually(lambda: hub.diary == ["begun"])
        client.cut()
        server.server.context(hub).clients.all.send("News", 1)
        hub.gate.set()
        await rt.eventually(lambda: hub.diary == ["begun", "ended"])
        await client.reopen()
        with client.peer:
            assert await client.hear() == {"type": 1, "target": "News", "arguments": [1]}
            assert await client.hear() == {"type": 3, "invocationId": "1", "result": "through"}


async def test_who_is_lost_can_be_sent_away(rt: Runtime) -> None:
    hub = LastingHub(rt)
    async with rt.serve(Mount(hub, STATEFUL)) as server:
        client = await Client.dial(rt, server.port)
        await client.say(call("Abort", "1"))
        client.cut()
        hub.gate.set()
        await rt.eventually(lambda: hub.diary == ["None"])
        assert server.server.context(hub).connections == []


async def test_a_shutdown_does_not_wait_for_who_is_lost(rt: Runtime) -> None:
    hub = LastingHub(rt, HubConfig(shutdown_timeout=60))
    async with rt.serve(Mount(hub, STATEFUL)) as server:
        lost, there = await Client.dial(rt, server.port), await Client.dial(rt, server.port)
        await lost.say(call("Gated", "1"))
        await there.say(call("Gated", "1"))
        await rt.eventually(lambda: hub.diary == ["begun"] * 2)
        lost.cut()
        server.server.close()
        await rt.eventually(lambda: sorted(hub.diary[2:]) == ["None", "ended"])
        there.cut()  # nobody can come back now
        async with rt.fail_after(2):
            await server.server.wait_closed()
        assert sorted(hub.diary[4:]) == ["None", "ended"]


async def test_a_server_that_is_dropped_drops_who_is_lost(rt: Runtime) -> None:
    hub = LastingHub(rt)

    async def serve() -> None:
        async with rt.serve(Mount(hub, STATEFUL)) as server:
            client = await Client.dial(rt, server.port)
            await client.say(call("Gated", "1"))
            await rt.eventually(lambda: hub.diary == ["begun"])
            client.cut()
            hub.diary.append("lost")
            await rt.sleep_forever()

    async with rt.tasks() as tasks:
        task = tasks.start_soon(serve)
        await rt.eventually(lambda: "lost" in hub.diary)
        task.cancel()
    assert hub.diary[:3] == ["begun", "lost", "ended"]


async def test_the_same_in_an_asgi_server(rt: Runtime) -> None:
    hub = LastingHub(rt, HubConfig(resume_window=0.3))
    app = rt.app({"/": Mount(hub, STATEFUL)})
    async with app.running():
        _, body = await Host.answer(rt, app, "POST", "/negotiate?negotiateVersion=1&useStatefulReconnect=True")
        target = f"/?id={json.loads(body)['connectionToken']}"
        async with Host.of(rt, app, "websocket", target) as first:
            first.say("websocket.connect")
            first.say("websocket.receive", text=HANDSHAKE_2.decode())
            await first.hears("websocket.accept")
            assert await first.read() == [{}]
            first.write(call("Gated", "1"))
            await rt.eventually(lambda: hub.diary == ["begun"])
            async with Host.of(rt, app, "websocket", target) as second:
                second.say("websocket.connect")
                await second.hears("websocket.accept")
                assert await second.read() == [{"type": 9, "sequenceId": 1}]
                assert await first.hears("websocket.close") == {"type": "websocket.close", "code": 1000}
                first.say("websocket.disconnect", code=1000)
                await first.end()
                second.say("websocket.disconnect", code=1006)
                await second.end()
        hub.gate.set()
        await rt.eventually(lambda: hub.diary == ["begun", "ended"])
        async with Host.of(rt, app, "websocket", target) as third:
            third.say("websocket.connect")
            await third.hears("websocket.accept")
            assert (await third.read())[:2] == [
                {"type": 9, "sequenceId": 1},
                {"type": 3, "invocationId": "1", "result": "through"},
            ]
            third.say("websocket.disconnect", code=1006)
            await third.end()
        await rt.eventually(lambda: len(hub.diary) == 3)
        assert hub.diary[2].startswith("the transport was lost, and not replaced within 0.3 s: ")
        await rt.eventually(lambda: not living_sessions(hub))
