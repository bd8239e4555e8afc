"""Our clients call Microsoft's server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection as WebSocket
from wsproto.events import TextMessage

from hubproto_core import Codec, HubError, JsonCodec, MessagePackCodec, TransportError
from tests.interop.lab_hub import Zoo
from tests.kit.runtimes import Connection, Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import unpack


@dataclass
class Point:
    x: float
    y: float
    label: str | None = None


@dataclass(frozen=True)
class Reference:
    """Microsoft's server, and the encoding to talk to it."""

    url: str
    protocol: Codec


@pytest.fixture(params=[JsonCodec(), MessagePackCodec(rename="pascal")], ids=lambda codec: codec.name)
def reference(request: pytest.FixtureRequest, reference_server: str) -> Reference:
    return Reference(reference_server, request.param)


@asynccontextmanager
async def hub(rt: Runtime, reference: Reference, **options: Any) -> AsyncIterator[Connection]:
    async with rt.connect(f"{reference.url}/hub", protocol=reference.protocol, **options) as client:
        yield client


async def cancelled(client: Connection) -> int:
    """How many streams have been cancelled on the server so far."""
    count: int = (await client.invoke("Stats"))["cancelled"]
    return count


async def wait_until_cancelled(rt: Runtime, client: Connection, count: int) -> None:
    """Wait until so many streams have been cancelled on the server."""
    async with rt.fail_after(5):
        while await cancelled(client) < count:
            await rt.sleep(0.005)


class Relay:
    """A TCP relay in front of the server that remembers what the client sent."""

    def __init__(self, rt: Runtime, port: int) -> None:
        self._rt = rt
        self._port = port
        self._sent = bytearray()

    async def __call__(self, client: Tcp) -> None:
        with await self._rt.tcp(self._port) as server:
            async with self._rt.tasks() as tasks:
                back = tasks.start_soon(self._copy, server, client)
                while data := await client.receive():
                    self._sent += data
                    await server.send(data)
                back.cancel()

    async def _copy(self, source: Tcp, target: Tcp) -> None:
        while data := await source.receive():
            await target.send(data)

    def messages(self) -> list[Any]:
        """The hub messages that the client sent, of a connection that was not negotiated."""
        websocket = WebSocket(ConnectionType.SERVER)
        websocket.receive_data(bytes(self._sent).partition(b"\r\n\r\n")[2])
        return unpack("".join(e.data for e in websocket.events() if isinstance(e, TextMessage)).encode())


# calls


@pytest.mark.parametrize(
    "value", ["plain", "\U0001f600 \u00e9 \u2028 \x1e", 1, 1.5, True, None, [1, "a", None], {"a": {"b": [1]}}], ids=repr
)
async def test_echo(rt: Runtime, reference: Reference, value: Any) -> None:
    async with hub(rt, reference) as client:
        assert await client.invoke("Echo", value) == value


async def test_typed_values(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        assert await client.invoke("Add", 2, 3, returns=int) == 5
        moved = await client.invoke("MovePoint", Point(1, 2, "p"), 10.5, 20, returns=Point)
        assert moved == Point(11.5, 22, "p")
        assert await client.invoke("Nothing") is None
        assert await client.invoke("Bytes", 5, returns=bytes) == b"\x00\x01\x02\x03\x04"
        assert await client.invoke("Big", 100_000) == "x" * 100_000


async def test_every_dotnet_type(rt: Runtime, reference: Reference) -> None:
    """Read as .NET writes it, and written as .NET reads it."""
    async with hub(rt, reference) as client:
        expected = Zoo()
        lost = ""
        if reference.protocol.name == "messagepack":  # which does not tell a time of no zone from one in UTC
            expected.unspecified = expected.unspecified.replace(tzinfo=UTC)
            lost = "Unspecified"
        assert await client.invoke("MakeZoo", returns=Zoo) == expected
        assert await client.invoke("EchoZoo", expected, returns=Zoo) == expected
        assert await client.invoke("SameZoo", expected) == lost
        async with client.stream("ZooStream", 2, returns=Zoo) as zoos:
            assert [zoo.int_ async for zoo in zoos] == [0, 1]


async def test_a_hundred_calls_in_flight_that_end_out_of_order(rt: Runtime, reference: Reference) -> None:
    results: dict[int, int] = {}
    async with hub(rt, reference) as client, rt.tasks() as tasks:

        async def add(number: int) -> None:
            if number % 10 == 0:
                await client.invoke("Slow", 20)
            results[number] = await client.invoke("Add", number, 1)

        for number in range(100):
            tasks.start_soon(add, number)
    assert results == {number: number + 1 for number in range(100)}


ERRORS = {
    "an exception": ("Throw", (), "An unexpected error occurred invoking 'Throw' on the server."),
    "a hub error": (
        "ThrowHubException",
        (),
        "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: told to the client",
    ),
    "no such method": (
        "Missing",
        (),
        "Failed to invoke 'Missing' due to an error on the server. HubException: Method does not exist.",
    ),
    "wrong count": ("Add", (1,), "Failed to invoke 'Add' due to an error on the server."),
    "wrong type": ("Add", (1, "two"), "Failed to invoke 'Add' due to an error on the server."),
    "a stream": (
        "Counter",
        (1, 0),
        "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.",
    ),
}


@pytest.mark.parametrize(("target", "arguments", "text"), ERRORS.values(), ids=ERRORS)
async def test_errors(rt: Runtime, reference: Reference, target: str, arguments: tuple[Any, ...], text: str) -> None:
    async with hub(rt, reference) as client:
        with pytest.raises(HubError) as caught:
            await client.invoke(target, *arguments)
        assert str(caught.value) == text
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_call_given_up_is_cancelled_on_the_wire_and_the_connection_lives_on(
    rt: Runtime, reference: Reference
) -> None:
    relay = Relay(rt, int(reference.url.rpartition(":")[2]))
    async with rt.listen(relay) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True) as client:
            async with rt.move_on_after(0.05) as outcome:
                await client.invoke("Slow", 1000)
            assert outcome.cancelled
            assert await client.invoke("Add", 2, 3) == 5
        sent = [message for message in relay.messages() if message.get("type") != 6]
    assert sent == [
        {"protocol": "json", "version": 1},
        {"type": 1, "invocationId": "1", "target": "Slow", "arguments": [1000]},
        {"type": 5, "invocationId": "1"},
        {"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]},
        {"type": 7},
    ]


# streams


@pytest.mark.parametrize("count", [0, 5, 10_000])
async def test_a_stream(rt: Runtime, reference: Reference, count: int) -> None:
    async with hub(rt, reference) as client:
        async with client.stream("Counter", count, 0, returns=int) as items:
            assert [item async for item in items] == list(range(count))
        async with client.stream("CounterChannel", min(count, 100)) as items:
            assert [item async for item in items] == list(range(min(count, 100)))


async def test_a_failing_stream_gives_its_items_before_its_error(rt: Runtime, reference: Reference) -> None:
    received: list[int] = []
    async with hub(rt, reference) as client:
        async with client.stream("FailingStream", 3) as items:
            with pytest.raises(HubError) as caught:
                async for item in items:
                    received.append(item)  # noqa: PERF401 - what came before the error counts
    assert received == [0, 1, 2]
    assert str(caught.value) == "An error occurred on the server while streaming results. HubException: stream broke"


async def test_a_stream_left_half_way_is_cancelled(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        before = await cancelled(client)
        async with client.stream("Counter", 1000, 5) as items:
            assert [await anext(items) for _ in range(3)] == [0, 1, 2]
        await wait_until_cancelled(rt, client, before + 1)
        assert await cancelled(client) == before + 1


async def test_a_stream_whose_reader_times_out_is_cancelled(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        before = await cancelled(client)
        async with rt.move_on_after(0.2) as outcome:
            async with client.stream("Counter", 2, 100_000) as items:
                assert await anext(items) == 0
                await anext(items)
        assert outcome.cancelled
        await wait_until_cancelled(rt, client, before + 1)
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_stream_that_ends_by_itself_is_not_cancelled(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        before = await cancelled(client)
        async with client.stream("Counter", 3, 0) as items:
            assert [item async for item in items] == [0, 1, 2]
        assert await cancelled(client) == before


# uploads


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_uploads(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        assert await client.invoke("Upload", client.upload(["a", "\U0001f600", ""])) == "3:a\U0001f600"
        assert await client.invoke("Upload", client.upload([])) == "0:"
        assert await client.invoke("UploadSum", client.upload(numbers(1000))) == 499_500
        assert await client.invoke("UploadTwo", client.upload([1, 2]), "label", client.upload([3, 4])) == "label:3:7"
        assert await client.invoke("UploadAdjacent", client.upload([1, 2]), client.upload(numbers(4))) == "3:6"


async def test_an_upload_that_fails(rt: Runtime, reference: Reference) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise HubError("source broke")

    async with hub(rt, reference) as client:
        assert await client.invoke("UploadError", client.upload(["a"])) == "no error"
        assert await client.invoke("UploadError", client.upload(failing())) == "error:source broke"


async def test_both_ways_at_once(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        async with client.stream("StreamEcho", client.upload(numbers(1000))) as items:
            assert [item async for item in items] == list(range(1000))


async def test_both_ways_step_by_step_and_then_left(rt: Runtime, reference: Reference) -> None:
    turn = [rt.Event() for _ in range(3)]
    ended = rt.Event()

    async def questions() -> AsyncIterator[int]:
        try:
            for number, event in enumerate(turn):
                await event.wait()
                yield number
            await rt.sleep_forever()
        finally:
            ended.set()

    async with hub(rt, reference) as client:
        async with client.stream("StreamEcho", client.upload(questions())) as items:
            for number, event in enumerate(turn):
                event.set()
                assert await anext(items) == number
        await ended.wait()
        assert await client.invoke("Add", 2, 3) == 5


# what the server calls


async def test_the_server_calls_back(rt: Runtime, reference: Reference) -> None:
    received: list[tuple[Any, ...]] = []
    async with hub(rt, reference) as client:

        @client.on("back")
        async def back(text: str, number: int, point: Point) -> None:
            received.append((text, number, point))

        await client.invoke("CallMeBack", "back")
        await rt.eventually(lambda: received == [("called back", 42, Point(1, 2, "p"))])


async def test_a_flood_comes_in_order(rt: Runtime, reference: Reference) -> None:
    received: list[int] = []
    async with hub(rt, reference) as client:
        client.on("flood", received.append)
        await client.invoke("Flood", 2000)
        await rt.eventually(lambda: len(received) == 2000)
    assert received == list(range(2000))


async def test_a_broadcast_reaches_everybody(rt: Runtime, reference: Reference) -> None:
    received: list[list[str]] = [[], []]
    async with hub(rt, reference) as one, hub(rt, reference) as two:
        one.on("message", received[0].append)
        two.on("message", received[1].append)
        await one.invoke("Broadcast", "hello")
        await rt.eventually(lambda: received == [["hello"], ["hello"]])
        await one.invoke("SendOthers", "others")
        await rt.eventually(lambda: received == [["hello"], ["hello", "others"]])


@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_messages_right_behind_the_handshake_are_handled(
    rt: Runtime, reference: Reference, skip_negotiation: bool
) -> None:
    for _ in range(10):
        received: list[int] = []
        client = rt.connect(f"{reference.url}/hub", headers={"X-Lab": "welcome"}, skip_negotiation=skip_negotiation)
        client.on("welcome", received.append)
        async with client:
            await rt.eventually(lambda: received == [1, 2])  # noqa: B023
            assert (await client.invoke("WhoAmI"))["xLab"] == "welcome"


# the connection


async def test_the_server_knows_us(rt: Runtime, reference: Reference) -> None:
    async with rt.connect(f"{reference.url}/hub?room=blue") as client:
        seen = await client.invoke("WhoAmI")
        assert seen["connectionId"] == client.connection_id
        assert seen["transport"] == "WebSockets"
        assert seen["query"].startswith("?room=blue&id=")
    async with rt.connect(f"{reference.url}/hub", skip_negotiation=True) as client:
        assert client.connection_id is None
        assert await client.invoke("Add", 2, 3) == 5


async def test_the_server_aborts_the_connection(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        with pytest.raises(TransportError):
            await client.invoke("AbortMe")
        with pytest.raises(TransportError):
            await client.invoke("Add", 2, 3)


async def test_a_message_over_the_servers_limit_ends_the_connection(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        assert await client.invoke("Length", "x" * 32_000) == 32_000
        with pytest.raises((HubError, TransportError)) as caught:
            await client.invoke("Length", "x" * 40_000)
        assert "Connection closed with an error." in str(caught.value)


async def test_a_token_opens_the_door(rt: Runtime, reference: Reference) -> None:
    async with rt.connect(f"{reference.url}/securehub", access_token="token-ann") as client:
        seen = await client.invoke("WhoAmI")
        assert (seen["user"], seen["auth"]) == ("ann", "Bearer token-ann")


@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_without_a_token_the_door_is_shut(rt: Runtime, reference: Reference, skip_negotiation: bool) -> None:
    url = f"{reference.url}/securehub"
    with pytest.raises(TransportError, match=f"{re.escape(url)}.* 401.*access token"):
        async with rt.connect(url, skip_negotiation=skip_negotiation):
            pass


async def test_a_redirect_is_followed_with_its_token(rt: Runtime, reference: Reference) -> None:
    async with rt.connect(f"{reference.url}/redirect") as client:
        assert (await client.invoke("WhoAmI"))["user"] == "redirected"


async def test_a_refused_negotiation_is_told(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match=f"{re.escape(reference.url)}/neg-error.*: negotiation refused$"):
        async with rt.connect(f"{reference.url}/neg-error"):
            pass


async def test_a_path_without_a_hub(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match=r"404.*is it the address of a SignalR hub"):
        async with rt.connect(f"{reference.url}/elsewhere"):
            pass


async def test_a_server_that_offers_no_websockets(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match="None of the transports supported by the client are supported by the"):
        async with rt.connect(f"{reference.url}/lphub"):
            pass
