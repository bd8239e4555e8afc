"""Mistakes that a Python server has been seen to make, and that its clients paid for: none of them is made here."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from wsproto.events import BytesMessage, TextMessage

from hubproto_core import (
    Call,
    Codec,
    Completion,
    Hub,
    HubConfig,
    HubSession,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    StreamInvocation,
    StreamItem,
)
from hubproto_core.http import HttpServerConnection, HubServer
from tests.kit.peer import Peer
from tests.kit.raw import RawClient, upgrade
from tests.kit.runtimes import Runtime, Served
from tests.kit.wire import HANDSHAKE

CODECS = [JsonCodec(), MessagePackCodec()]


def greeting_hub() -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)

    @hub.method("Count")
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @hub.method("Shout")
    def shout(text: str, call: Call) -> None:
        call.clients.all.send("Heard", text)

    return hub


# JSON in binary frames


@pytest.mark.parametrize(
    ("codec", "in_text_frames"),
    [(CODECS[0], True), (CODECS[0], False), (CODECS[1], False)],
    ids=["json asked in text frames", "json asked in binary frames", "messagepack"],
)
async def test_json_is_answered_in_text_frames_and_messagepack_in_binary_ones(
    rt: Runtime, codec: Codec, in_text_frames: bool
) -> None:
    """Browsers give text to the client for one kind and an ArrayBuffer for the other, whatever was sent to them."""
    async with rt.serve(greeting_hub()) as server:
        with await RawClient.dial(rt, server.port, codec, in_text_frames=in_text_frames) as client:
            await client.send(Invocation(invocation_id="1", target="Add", arguments=[2, 3]))
            assert await client.read() == Completion(invocation_id="1", result=5)
            await client.send(StreamInvocation(invocation_id="2", target="Count", arguments=[1]))
            assert await client.read() == StreamItem(invocation_id="2", item=0)
            assert await client.read() == Completion(invocation_id="2")
            await client.send(Invocation(target="Shout", arguments=["hey"]))
            assert await client.read() == Invocation(target="Heard", arguments=("hey",))
            server.server.close()
            await client.read_until_closed()
    assert set(client.frames) == {TextMessage if codec.name == "json" else BytesMessage}


def machine_of(server: Served) -> HubServer:
    machine: HubServer = vars(server.server)["_machine"]
    return machine


# the public id as a key


async def negotiate(rt: Runtime, server: Served) -> dict[str, Any]:
    with await rt.tcp(server.port) as tcp:
        request = f"POST {server.path}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        await tcp.send(request.encode() + b"Content-Length: 0\r\n\r\n")
        answer: dict[str, Any] = json.loads((await tcp.receive_all()).partition(b"\r\n\r\n")[2])
        return answer


async def status_of_upgrade(rt: Runtime, server: Served, connection_id: str) -> int:
    status, tcp, _ = await upgrade(rt, server.port, f"{server.path}?id={connection_id}")
    tcp.close()
    return status


async def test_the_public_connection_id_opens_no_connection_and_takes_none_over(rt: Runtime) -> None:
    """Everybody in a room may learn the `connectionId`; the `connectionToken` is known to its client alone."""
    async with rt.serve(greeting_hub()) as server:
        ids = await negotiate(rt, server)
        assert ids["connectionId"] != ids["connectionToken"]
        assert await status_of_upgrade(rt, server, ids["connectionId"]) == 404
        with await Peer.dial(rt, server.port, f"/hub?id={ids['connectionToken']}") as peer:
            assert await status_of_upgrade(rt, server, ids["connectionId"]) == 404
            for method in ("GET", "POST", "DELETE"):
                with await rt.tcp(server.port) as tcp:
                    request = f"{method} /hub?id={ids['connectionId']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    await tcp.send(request.encode() + b"Content-Length: 0\r\n\r\n")
                    assert (await tcp.receive_all()).startswith(b"HTTP/1.1 404 ")
            await peer.send({"type": 1, "invocationId": "1", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "1", "result": 5}


# messages of on_connected


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("waits", [False, True], ids=["a plain function", "a coroutine"])
async def test_what_on_connected_sends_arrives_first_and_at_once(rt: Runtime, codec: Codec, waits: bool) -> None:
    hub = greeting_hub()
    gate = rt.Event()

    def greet(call: Call) -> None:
        call.groups.add("everybody")
        call.clients.caller.send("Welcome", 1)
        call.clients.group("everybody").send("Welcome", 2)
        call.clients.all.send("Welcome", 3)

    async def greet_and_wait(call: Call) -> None:
        greet(call)
        await gate.wait()
        call.clients.caller.send("Welcome", 4)

    hub.on_connected(greet_and_wait if waits else greet)
    async with rt.serve(hub) as server:
        with await RawClient.dial(rt, server.port, codec) as client:
            await client.send(Invocation(invocation_id="1", target="Add", arguments=[2, 3]))
            for number in (1, 2, 3):  # though on_connected has not ended yet
                assert await client.read() == Invocation(target="Welcome", arguments=(number,))
            gate.set()
            if waits:
                assert await client.read() == Invocation(target="Welcome", arguments=(4,))
            assert await client.read() == Completion(invocation_id="1", result=5)


# connections that are kept for ever


def alive() -> int:
    """How many machines of server connections there are in memory."""
    gc.collect()
    return sum(type(thing) in (HubSession, HttpServerConnection) for thing in gc.get_objects())


async def test_an_id_that_nobody_comes_for_is_forgotten(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubproto_core.http._endpoint._DISCONNECT_TIMEOUT", 0.2)
    async with rt.serve(greeting_hub()) as server:
        tokens = [(await negotiate(rt, server))["connectionToken"] for _ in range(10)]
        (endpoint,) = machine_of(server)._endpoints.values()
        await rt.eventually(lambda: not endpoint._reserved)
        for token in tokens:
            assert await status_of_upgrade(rt, server, token) == 404


@pytest.mark.parametrize("said", [b"", HANDSHAKE[:10]], ids=["nothing", "half a handshake"])
async def test_a_websocket_that_never_shakes_hands_is_let_go(rt: Runtime, said: bytes) -> None:
    config = HubConfig(handshake_timeout=0.2, close_timeout=0.1)
    before = alive()
    async with rt.serve(greeting_hub(), config=config) as server:
        peers = []
        for _ in range(10):
            peers.append(Peer(await rt.tcp(server.port), Peer.CLIENT))
            await peers[-1].upgrade("/hub")
            if said:
                await peers[-1].write(said)
        await rt.eventually(lambda: alive() == before)  # though none of them answers the close frame
        for peer in peers:
            with peer:
                assert await peer.read_until_closed() == [{"error": "Handshake was canceled."}]
                assert peer.closed == 1000


# a broadcast that waits for its slowest reader


async def test_a_broadcast_waits_for_nobody_who_does_not_read(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    hub = greeting_hub()
    heard: list[str] = []
    config = HubConfig(send_limit=8_000_000, close_timeout=0.1, max_message_size=None)
    async with rt.serve(hub, config=config) as server, rt.connect(server.url) as reader:
        reader.on("Heard", lambda text: heard.append(text[:1]))
        await reader.invoke("Add", 1, 1)
        with await Peer.dial(rt, server.port):  # and reads nothing of what follows
            for _ in range(20):  # 20 MB: more than the kernel and the server hold for anybody
                await reader.invoke("Shout", "x" * 1_000_000)
        await rt.eventually(lambda: len(heard) == 20)
    (record,) = [r for r in caplog.records if "is given up" in r.getMessage()]
    assert record.levelname == "WARNING"


# a result that has no annotation


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
async def test_results_do_not_depend_on_annotations(rt: Runtime, codec: Codec) -> None:
    hub = Hub()

    @hub.method("Plain")
    def plain(a, b):  # type: ignore[no-untyped-def]
        return a + b

    @hub.method("Slow")
    async def slow(a, b):  # type: ignore[no-untyped-def]
        await rt.sleep(0)
        return {"sum": a + b}

    @hub.method("Wrong")
    def wrong(a: int, b: int) -> None:
        return a + b  # type: ignore[return-value]

    @hub.method("Items")
    async def items(a, b):  # type: ignore[no-untyped-def]
        yield a + b

    async with rt.serve(hub) as server:
        with await RawClient.dial(rt, server.port, codec) as client:
            for target, result in (("Plain", 5), ("Slow", {"sum": 5}), ("Wrong", 5)):
                await client.send(Invocation(invocation_id=target, target=target, arguments=[2, 3]))
                assert await client.read() == Completion(invocation_id=target, result=result)
            await client.send(StreamInvocation(invocation_id="s", target="Items", arguments=[2, 3]))
            assert await client.read() == StreamItem(invocation_id="s", item=5)
            assert await client.read() == Completion(invocation_id="s")
