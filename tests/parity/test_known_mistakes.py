"""Mistakes that were seen in another server of this protocol, each with the test that it is not made here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wsproto.events import BytesMessage, Event, TextMessage

from hubproto_core import Call, Codec, Completion, Hub, HubConfig, Invocation, JsonCodec, MessagePackCodec
from hubproto_core.http import EndpointConfig, Mount
from tests.kit.peer import CodecPeer, Peer
from tests.kit.runtimes import Runtime

CODECS = pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    return hub


def http(method: str, target: str, *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: h", "Content-Length: 0", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def ask(rt: Runtime, port: int, method: str, target: str) -> tuple[int, bytes]:
    """Send a request on a socket of its own; return the status and the body."""
    with await rt.tcp(port) as tcp:
        await tcp.send(http(method, target))
        head, _, body = (await tcp.receive_all()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def negotiate(rt: Runtime, port: int) -> dict[str, Any]:
    status, body = await ask(rt, port, "POST", "/hub/negotiate?negotiateVersion=1")
    assert status == 200
    members: dict[str, Any] = json.loads(body)
    return members


async def upgrade(rt: Runtime, port: int, token: str) -> int:
    """Ask for a WebSocket with this id; return the status."""
    with await rt.tcp(port) as tcp:
        await tcp.send(
            f"GET /hub?id={token} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        return int((await tcp.receive()).split()[1])


# JSON answers sent in binary frames


@CODECS
async def test_answers_come_in_frames_of_the_kind_that_the_encoding_wants(rt: Runtime, codec: Codec) -> None:
    expected: type[Event] = TextMessage if codec.name == "json" else BytesMessage
    hub = make_hub()
    async with rt.serve(hub) as server:
        with await CodecPeer.dial_in(rt, server.port, codec) as peer:
            handshake = len(peer.kinds)
            for number in range(3):
                await peer.say(Invocation(invocation_id=str(number), target="Add", arguments=[2, 3]))
                assert await peer.hear() == Completion(invocation_id=str(number), result=5)
            server.server.context(hub).clients.all.send("news")
            assert await peer.hear() == Invocation(target="news", arguments=())
            assert set(peer.kinds[handshake:]) == {expected}


async def test_json_asked_for_in_binary_frames_is_answered_in_text_frames_all_the_same(rt: Runtime) -> None:
    async with rt.serve(make_hub()) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = b'{"type":1,"invocationId":"1","target":"Add","arguments":[2,3]}\x1e'
            await peer._send(BytesMessage(call))
            assert (await peer.read())["result"] == 5
            assert set(peer.kinds) == {TextMessage}


# the public connectionId accepted where the secret connectionToken belongs


async def test_the_public_id_opens_nothing(rt: Runtime) -> None:
    async with rt.serve(make_hub()) as server:
        members = await negotiate(rt, server.port)
        public, secret = members["connectionId"], members["connectionToken"]
        assert public != secret
        assert await upgrade(rt, server.port, public) == 404
        for method in ("GET", "POST", "DELETE"):
            assert (await ask(rt, server.port, method, f"/hub?id={public}"))[0] == 404
        assert await upgrade(rt, server.port, secret) == 101


async def test_the_public_id_of_a_connection_in_use_opens_nothing_either(rt: Runtime) -> None:
    async with rt.serve(make_hub()) as server, rt.connect(server.url) as client:
        public = client.connection_id
        assert public is not None
        assert await upgrade(rt, server.port, public) == 404
        assert (await ask(rt, server.port, "POST", f"/hub?id={public}"))[0] == 404
        assert await client.invoke("Add", 2, 3) == 5


# messages sent in `on_connected` lost


@CODECS
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a while"])
async def test_messages_sent_in_on_connected_arrive_before_any_answer(rt: Runtime, codec: Codec, waits: bool) -> None:
    hub = make_hub()

    async def connected(call: Call) -> None:
        call.clients.caller.send("welcome", call.connection_id)
        call.groups.add("all")
        if waits:
            await rt.sleep(0)
        call.clients.group("all").send("news", 1)

    hub.on_connected(connected)
    async with rt.serve(hub) as server:
        with await CodecPeer.dial_in(rt, server.port, codec) as peer:
            await peer.say(Invocation(invocation_id="1", target="Add", arguments=[2, 3]))
            heard = [await peer.hear() for _ in range(3)]
        assert [getattr(message, "target", "") for message in heard] == ["welcome", "news", ""]
        assert heard[2] == Completion(invocation_id="1", result=5)


async def test_a_client_hears_what_is_sent_to_it_before_it_has_entered_its_block(rt: Runtime) -> None:
    hub = Hub()
    heard: list[str] = []

    @hub.on_connected
    def connected(call: Call) -> None:
        call.clients.caller.send("welcome", "hello")

    async with rt.serve(hub) as server:
        client = rt.connect(server.url)
        client.on("welcome", heard.append)
        async with client:
            await rt.eventually(lambda: heard == ["hello"])


# negotiated or never-handshaken connections kept for ever


async def test_an_id_that_nobody_comes_for_is_forgotten(rt: Runtime) -> None:
    async with rt.serve(Mount(make_hub(), EndpointConfig(disconnect_timeout=0.2))) as server:
        token = (await negotiate(rt, server.port))["connectionToken"]
        while (await ask(rt, server.port, "POST", f"/hub?id={token}"))[1] != b"No Connection with that ID":
            await rt.sleep(0)
        assert await upgrade(rt, server.port, token) == 404


async def test_a_connection_that_never_shakes_hands_is_closed_and_its_hub_never_hears_of_it(rt: Runtime) -> None:
    hub = make_hub()
    connected: list[str] = []
    hub.on_connected(lambda: connected.append("connected"))
    hub.on_disconnected(lambda: connected.append("disconnected"))
    config = HubConfig(handshake_timeout=0.1, close_timeout=0.1)
    async with rt.fail_after(5), rt.serve(hub, config=config) as server:
        with await rt.tcp(server.port) as tcp:
            peer = Peer(tcp, Peer.CLIENT)
            await peer.upgrade("/hub")
            assert await peer.read_until_closed() == [{"error": "Handshake was canceled."}]
            assert await tcp.receive_all() == b""
    assert connected == []


# a broadcast that waits for one reader


async def test_a_broadcast_waits_for_nobody_and_reaches_those_who_read(rt: Runtime) -> None:
    hub = make_hub()
    heard: list[int] = []
    async with rt.fail_after(10), rt.serve(hub, config=HubConfig(close_timeout=0.1)) as server:
        with await Peer.dial(rt, server.port):  # it never reads again
            async with rt.connect(server.url) as client:

                @client.on("news")
                def news(number: int, text: str) -> None:
                    heard.append(number)

                assert await client.invoke("Add", 2, 3) == 5
                for number in range(1000):
                    server.server.context(hub).clients.all.send("news", number, "x" * 8192)  # more than sockets hold
                    await rt.eventually(lambda: len(heard) > number - 100)  # noqa: B023 - it is over before the next
                await rt.eventually(lambda: heard == list(range(1000)))


# a result lost because the method had no return annotation


async def test_results_and_streams_need_no_annotation(rt: Runtime) -> None:
    hub = Hub()

    @hub.method("Plain")
    def plain(a, b):  # type: ignore[no-untyped-def]
        return a + b

    @hub.method("Later")
    async def later(a, b):  # type: ignore[no-untyped-def]
        await rt.sleep(0)
        return {"sum": a + b}

    @hub.method("Items")
    async def items(count):  # type: ignore[no-untyped-def]
        for number in range(count):
            yield number

    @hub.method("Wrong")
    def wrong() -> None:
        return "all the same"  # type: ignore[return-value]

    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        assert await client.invoke("Plain", 2, 3) == 5
        assert await client.invoke("Later", 2, 3) == {"sum": 5}
        assert await client.invoke("Wrong") == "all the same"
        async with client.stream("Items", 3) as stream:
            assert [item async for item in stream] == [0, 1, 2]
