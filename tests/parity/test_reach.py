"""Reaching clients from anywhere, knowing who is there, and clients that are slower than what they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from hubproto_core import Call, Hub, HubConfig, LocalProtocolError, wire_name
from tests.kit.peer import Peer
from tests.kit.runtimes import Connection, Runtime

KIB = "x" * 1024


class ChatClient(Protocol):
    def said(self, who: str, text: str) -> None: ...

    async def ask_me(self, question: str) -> int: ...

    @wire_name("Custom")
    async def ask_again(self, question: str) -> int: ...


class RoomHub(Hub):
    """Methods that use their context, and what they have seen."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.notes: list[Any] = []
        self.calls: list[Call] = []
        self.produced = 0
        self.gate = rt.Event()
        self.method("Join")(self.join)
        self.method("Keep")(self.keep)
        self.method("Linger")(self.linger)
        self.method("AskTyped")(self.ask_typed)
        self.method("Endless")(self.endless)
        self.method("Ticker", coalesce=True)(self.ticker)
        self.method("Rush", coalesce=True)(self.rush)
        self.on_disconnected(self.gone)

    def join(self, group: str, call: Call) -> list[str]:
        call.groups.add(group)
        return call.hub.members(group)

    def keep(self, text: str, call: Call) -> None:
        call.items["kept"] = text
        self.calls.append(call)

    async def linger(self, call: Call) -> None:
        await call.wait_disconnected()
        self.notes.append("the client of a call has gone")

    async def ask_typed(self, call: Call) -> list[int]:
        chat = call.clients.typed(ChatClient, rename="pascal")
        chat.caller.said("hub", text="hi")
        return [await chat.caller.ask_me("1"), await chat.client(call.connection_id).ask_again(question="2")]

    async def endless(self) -> AsyncIterator[str]:
        while True:
            self.produced += 1
            yield KIB

    async def ticker(self, count: int) -> AsyncIterator[str]:
        for number in range(count):
            self.produced += 1
            yield f"{number} {KIB}"
        await self.gate.wait()
        yield "last"

    async def rush(self) -> AsyncIterator[str]:
        while not self.gate.is_set():  # without ever waiting for anything
            self.produced += 1
            yield KIB

    def gone(self, call: Call) -> None:
        self.notes.append((call.items.get("kept"), call.is_disconnected))


def stream(target: str, *arguments: Any) -> dict[str, Any]:
    return {"type": 4, "invocationId": "1", "target": target, "arguments": arguments}


def name_of(client: Connection) -> str:
    assert client.connection_id is not None
    return client.connection_id


def note(client: Connection, target: str, heard: list[str], label: str = "") -> None:
    client.on(target, lambda text: heard.append(label + text))


async def test_who_is_there_is_known_outside_of_any_call(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as a:
        context = server.server.context(hub)
        async with rt.connect(server.url) as b:
            assert await a.invoke("Join", "red") == [name_of(a)]
            assert await b.invoke("Join", "red") == [name_of(a), name_of(b)]
            assert context.members("red") == context.connections == [name_of(a), name_of(b)]
        await rt.eventually(lambda: context.members("red") == [name_of(a)])
        await rt.eventually(lambda: context.connections == [name_of(a)])
        assert (context.users, context.connections_of("ann")) == ([], [])


async def test_groups_are_filled_from_outside_of_any_call(rt: Runtime) -> None:
    hub = RoomHub(rt)
    heard: list[str] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as a, rt.connect(server.url) as b:
        context = server.server.context(hub)
        for client, label in ((a, "a"), (b, "b")):
            note(client, "told", heard, label)
            await client.invoke("Join", "all")
        context.groups.add("some", name_of(b))
        context.groups.add("some", name_of(b))
        context.groups.add("some", "nobody")
        context.clients.group("some").send("told", "1")
        context.groups.remove("some", name_of(b))
        context.clients.group("some").send("told", "2")
        context.clients.group("all").send("told", "3")
        await rt.eventually(lambda: sorted(heard) == ["a3", "b1", "b3"])


async def test_typed_clients(rt: Runtime) -> None:
    hub = RoomHub(rt)
    heard: list[Any] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        client.on("Said", lambda who, text: heard.append((who, text)))
        client.on("AskMe", lambda question: int(question) + 10)
        client.on("Custom", lambda question: int(question) + 20)
        assert await client.invoke("AskTyped") == [11, 22]
        assert heard == [("hub", "hi")]
        chat = server.server.context(hub).clients.typed(ChatClient, rename="pascal")
        assert await chat.client(name_of(client)).ask_me("5") == 15
        with pytest.raises(LocalProtocolError, match="'ask_me' asks for a result: only one client can be asked"):
            await chat.all.ask_me("5")


async def test_the_end_of_a_connection_is_waited_for_by_what_outlives_its_calls(rt: Runtime) -> None:
    hub = RoomHub(rt, HubConfig(max_parallel_calls=2))
    seen: list[str] = []

    async def watch(label: str) -> None:
        await hub.calls[0].wait_disconnected()
        seen.append(label)

    async with rt.serve(hub) as server, rt.tasks() as tasks:
        async with rt.connect(server.url) as client:
            await client.invoke("Keep", "this")
            await client.send("Linger")
            tasks.start_soon(watch, "watching")
            cancelled = tasks.start_soon(watch, "cancelled")
            await client.invoke("Join", "red")
            cancelled.cancel()
            assert (hub.calls[0].is_disconnected, seen) == (False, [])
        await rt.eventually(lambda: seen == ["watching"])
        await rt.eventually(lambda: len(hub.notes) == 2)
        assert ("this", True) in hub.notes
        assert "the client of a call has gone" in hub.notes
        await watch("late")
        assert seen == ["watching", "late"]


async def test_a_call_is_aborted_from_outside_of_it(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Keep", "arguments": ["it"]})
            await peer.read()
            hub.calls[0].abort()
            await hub.calls[0].wait_disconnected()
            assert await peer.read_until_closed() == [{"type": 7}]
        await rt.eventually(lambda: hub.notes == [("it", True)])


async def test_a_message_has_headers(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 1, "invocationId": "1", "target": "Keep", "arguments": ["it"]}
            await peer.send({**call, "headers": {"traceparent": "00-a-b-01"}})
            await peer.read()
    assert hub.calls[0].headers == {"traceparent": "00-a-b-01"}


# --- slow clients ----------------------------------------------------------------------------------------------------


async def test_a_broadcast_waits_for_nobody(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    hub = RoomHub(rt, HubConfig(send_limit=100_000))
    heard: list[list[Any]] = []
    async with rt.serve(hub) as server, AsyncExitStack() as stack:
        context = server.server.context(hub)
        deaf = [stack.enter_context(await Peer.dial(rt, server.port)) for _ in range(3)]
        readers = [await stack.enter_async_context(rt.connect(server.url)) for _ in range(20)]
        for client in readers:
            heard.append([])
            note(client, "news", heard[-1])
        for number in range(600):
            context.clients.all.send("news", f"{number} {KIB}")
            await rt.sleep(0)
        await rt.eventually(lambda: all(len(told) == 600 for told in heard))
        assert heard == [[f"{number} {KIB}" for number in range(600)]] * 20
        given_up = [text for text in caplog.messages if "is given up" in text]
        assert len(set(given_up)) == len(given_up) == len(deaf)
        await rt.eventually(lambda: len(context.connections) == 20)


async def test_a_generator_for_a_client_that_never_reads_is_paused(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(stream("Endless"))
            assert await rt.settled(lambda: hub.produced) < 1024  # KiB, of which the kernel has its part


async def test_a_coalesced_stream_is_not_paused_and_its_last_item_arrives(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(stream("Ticker", 5000))
            await rt.eventually(lambda: hub.produced == 5000)
            numbers: list[int] = []
            while not numbers or numbers[-1] < 4999:
                numbers.append(int((await peer.read())["item"].split()[0]))
            assert numbers == sorted(set(numbers))
            assert len(numbers) < 1000  # KiB
            hub.gate.set()
            assert (await peer.read())["item"] == "last"
            assert await peer.read() == {"type": 3, "invocationId": "1"}


async def test_a_coalesced_stream_that_never_waits_lets_others_have_their_turn(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send(stream("Rush"))
            async with rt.connect(server.url) as other:
                assert await other.invoke("Join", "red") == [name_of(other)]
            assert await rt.settled(lambda: min(hub.produced, 2000), quiet=0) > 0
            hub.gate.set()
            messages = [await peer.read()]
            while messages[-1]["type"] != 3:
                messages.append(await peer.read())
            assert len(messages) < 1000


async def test_a_slow_member_of_a_group_gets_the_latest(rt: Runtime) -> None:
    hub = RoomHub(rt)
    async with rt.serve(hub) as server:
        context = server.server.context(hub)
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "Join", "arguments": ["eur"]})
            await peer.read()
            for number in range(3000):
                for pair in ("EURUSD", "EURJPY"):
                    context.clients.group("eur").coalesce(pair).send("price", pair, number, KIB)
                await rt.sleep(0)
            latest = {"EURUSD": -1, "EURJPY": -1}
            count = 0
            while set(latest.values()) != {2999}:
                pair, number, _ = (await peer.read())["arguments"]
                assert number > latest[pair]
                latest[pair] = number
                count += 1
            assert count < 1000
