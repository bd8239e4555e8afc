"""Our clients call Microsoft's servers: ASP.NET Core 10, and 3.1, the oldest that is still met.

One list of tests: each runs on every runtime and on every way of `WAYS`. A transport is a row of `TRANSPORTS`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec import defstruct, field
from msgspec.structs import fields
from wsproto import ConnectionType
from wsproto.connection import Connection as WebSocket
from wsproto.events import TextMessage

import hubproto_core
from hubproto_core import (
    ClientState,
    Codec,
    HubConfig,
    HubError,
    JsonCodec,
    MessagePackCodec,
    ReconnectPolicy,
    ServerGone,
    TransportError,
)
from tests.interop._lab import Labs, start_lab
from tests.interop.lab_hub import Zoo
from tests.kit.link import Link
from tests.kit.runtimes import Connection, Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import unpack

pytestmark = pytest.mark.timeout(600)  # the first test may have to build a server; the others end far sooner

MIB = 1024 * 1024


@dataclass(frozen=True)
class Microsofts:
    """One of Microsoft's servers, and what it is to be asked for."""

    name: str
    codecs: tuple[Codec, ...]
    zoo: type[Any]
    """A member of each type that it can read and write."""
    tells_upload_errors: bool
    """A method that an upload's error ends passes the error on."""


@dataclass(frozen=True)
class Transport:
    """How the messages travel."""

    name: str
    """As the server calls it."""
    options: Mapping[str, Any]
    """Of `connect`, so that it is this one."""
    elsewhere: str
    """A hub that does not offer it."""
    text_only: bool = False


OldZoo = defstruct(
    "OldZoo",
    [
        (member.name, member.type, field(default=member.default, default_factory=member.default_factory))  # type: ignore[call-overload]
        for member in fields(Zoo)
        if member.name not in ("span", "day", "clock", "by_number")
    ],
)
"""The types that System.Text.Json 3.1 has."""

TEN = Microsofts("reference", (JsonCodec(), MessagePackCodec(rename="pascal")), Zoo, tells_upload_errors=True)
OLDEST = Microsofts(
    "aspnetcore31",
    (JsonCodec(),),  # its MessagePack is no part of the SDK
    OldZoo,
    tells_upload_errors=False,
)
TRANSPORTS = [
    Transport("WebSockets", {"transports": [hubproto_core.Transport.WEB_SOCKETS]}, elsewhere="/lphub"),
    Transport(
        "ServerSentEvents",
        {"transports": [hubproto_core.Transport.SERVER_SENT_EVENTS]},
        elsewhere="/wshub",
        text_only=True,
    ),
    Transport("LongPolling", {"transports": [hubproto_core.Transport.LONG_POLLING]}, elsewhere="/wshub"),
]


@dataclass(frozen=True)
class Way:
    """A server, and a way to talk to it."""

    server: Microsofts
    transport: Transport
    codec: Codec

    def __str__(self) -> str:
        return f"{self.server.name}-{self.transport.name}-{self.codec.name}"


WAYS = [
    Way(server, transport, codec)
    for server in (TEN, OLDEST)
    for transport in TRANSPORTS
    for codec in server.codecs
    if codec.transfer_format == "text" or not transport.text_only
]


def only(condition: Callable[[Way], bool]) -> pytest.MarkDecorator:
    """Run the test for these ways only."""
    return pytest.mark.parametrize("reference", [way for way in WAYS if condition(way)], indirect=True, ids=str)


with_client_results = only(lambda way: way.server is TEN)
answers_close = only(lambda way: way.server is TEN)
"""Leaving another one takes longer."""
not_negotiated = only(lambda way: way.transport.name == "WebSockets")
"""Only a WebSocket can be opened without asking first."""


@dataclass
class Point:
    x: float
    y: float
    label: str | None = None


@dataclass(frozen=True)
class Reference:
    """A running server of Microsoft's, and the way to talk to it."""

    url: str
    way: Way


@pytest.fixture(params=WAYS, ids=str)
def reference(request: pytest.FixtureRequest, labs: Labs) -> Reference:
    """Every test runs on every way."""
    way: Way = request.param
    return Reference(labs.start(way.server.name).url, way)


@pytest.fixture
def unlimited(reference: Reference, labs: Labs) -> Reference:
    """A server that takes messages of any size."""
    return replace(reference, url=labs.start(reference.way.server.name, LAB_MAXRECV="0").url)


def connect(rt: Runtime, reference: Reference, path: str = "/hub", **options: Any) -> Connection:
    way = reference.way
    return rt.connect(f"{reference.url}{path}", **{"protocol": way.codec, **way.transport.options, **options})


@asynccontextmanager
async def hub(rt: Runtime, reference: Reference, path: str = "/hub", **options: Any) -> AsyncIterator[Connection]:
    async with connect(rt, reference, path, **options) as client:
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


class Lab(Protocol):
    async def add(self, a: int, b: int) -> int: ...
    async def move_point(self, point: Point, dx: float, dy: float) -> Point: ...
    async def nothing(self) -> None: ...
    def counter(self, count: int, delay: int = 0) -> AbstractAsyncContextManager[AsyncIterator[int]]: ...
    async def upload(self, items: AsyncIterable[str] | Iterable[str]) -> str: ...


async def test_a_hub_as_a_protocol_declares_it(rt: Runtime, reference: Reference) -> None:
    async def words() -> AsyncIterator[str]:
        for word in "abc":
            yield word

    async with hub(rt, reference) as client:
        lab = client.proxy(Lab, rename="pascal")
        assert await lab.add(2, b=3) == 5
        assert await lab.move_point(Point(1, 2, "p"), 10.5, 20) == Point(11.5, 22, "p")
        await lab.nothing()
        assert await lab.upload(words()) == "3:abc"
        assert await lab.upload(["d", "e"]) == "2:de"
        async with lab.counter(5) as numbers:
            assert [number async for number in numbers] == list(range(5))
        before = await cancelled(client)
        async with lab.counter(1000, 1) as numbers:
            assert await anext(numbers) == 0
        await wait_until_cancelled(rt, client, before + 1)


async def test_every_dotnet_type(rt: Runtime, reference: Reference) -> None:
    """Read as .NET writes it, and written as .NET reads it."""
    async with hub(rt, reference) as client:
        zoo = reference.way.server.zoo
        expected = zoo()
        lost = ""
        if reference.way.codec.name == "messagepack":  # which does not tell a time of no zone from one in UTC
            expected.unspecified = expected.unspecified.replace(tzinfo=UTC)
            lost = "Unspecified"
        assert await client.invoke("MakeZoo", returns=zoo) == expected
        assert await client.invoke("EchoZoo", expected, returns=zoo) == expected
        assert await client.invoke("SameZoo", expected) == lost
        async with client.stream("ZooStream", 2, returns=zoo) as zoos:
            assert [item.int_ async for item in zoos] == [0, 1]


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


REFUSED = "Failed to invoke '{}' due to an error on the server."
FAILED = "An unexpected error occurred invoking '{}' on the server."
NO_METHOD = " HubException: Method does not exist."

ERRORS = {
    "an exception": ("Throw", (), FAILED.format("Throw")),
    "a hub error": (
        "ThrowHubException",
        (),
        FAILED.format("ThrowHubException") + " HubException: told to the client",
    ),
    "no such method": ("Missing", (), REFUSED.format("Missing") + NO_METHOD),
    "not allowed": ("AdminOnly", (), "Failed to invoke 'AdminOnly' because user is unauthorized"),
    "too few arguments": ("Add", (1,), REFUSED.format("Add")),
    "too many arguments": ("Add", (1, 2, 3), REFUSED.format("Add")),
    "wrong type": ("Add", (1, "two"), REFUSED.format("Add")),
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


STREAM_ERRORS = {
    "no such method": ("Missing", (), REFUSED.format("Missing") + NO_METHOD),
    "wrong type": ("Counter", ("many", 0), REFUSED.format("Counter")),
    "no stream": (
        "Add",
        (1, 2),
        "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation.",
    ),
    "it fails at once": (
        "FailingStream",
        (0,),
        "An error occurred on the server while streaming results. HubException: stream broke",
    ),
}


@pytest.mark.parametrize(("target", "arguments", "text"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
async def test_errors_of_streams(
    rt: Runtime, reference: Reference, target: str, arguments: tuple[Any, ...], text: str
) -> None:
    async with hub(rt, reference) as client:
        async with client.stream(target, *arguments) as items:
            with pytest.raises(HubError) as caught:
                await anext(items)
        assert str(caught.value) == text
        assert await client.invoke("Add", 2, 3) == 5


async def test_text_of_every_plane_and_length(rt: Runtime, reference: Reference) -> None:
    missing = "f\u00fcr \U0001f600"
    text = 'na\u00efve \u0436 \u4e2d \U0001f600 \u2028 \x00 \x1e " \\ </script> e\u0301'
    received: list[str] = []
    async with hub(rt, reference) as client:
        client.on("zur\u00fcck \U0001f600", lambda text, number, point: received.append(text))
        client.on("message", received.append)
        await client.invoke("CallMeBack", "zur\u00fcck \U0001f600")
        await client.invoke("SendClient", client.connection_id, text)
        await rt.eventually(lambda: received == ["called back", text])
        assert await client.invoke("Length", text) == len(text.encode("utf-16-le")) // 2
        assert await client.invoke("Upload", client.upload([text, text])) == f"2:{text}{text}"
        with pytest.raises(HubError) as caught:
            await client.invoke(missing)
        assert str(caught.value) == REFUSED.format(missing) + NO_METHOD


async def test_big_messages(rt: Runtime, unlimited: Reference) -> None:
    """Far beyond every buffer on the way."""
    async with hub(rt, unlimited) as client:
        assert await client.invoke("Big", 2 * MIB) == "x" * (2 * MIB)
        assert await client.invoke("Length", "y" * (2 * MIB)) == 2 * MIB
        big = "\U0001f600\u0436z" * (2 * MIB // 7)
        assert await client.invoke("Echo", big) == big
        assert await client.invoke("Upload", client.upload(["z" * MIB, "z" * MIB])) == f"2:{'z' * (2 * MIB)}"


@only(lambda way: way.transport.name == "WebSockets" and way.codec.name == "json")
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


async def test_streams_side_by_side(rt: Runtime, reference: Reference) -> None:
    received: dict[int, list[int]] = {count: [] for count in (50, 60, 70)}
    sums: list[int] = []
    async with hub(rt, reference) as client, rt.tasks() as tasks:

        async def read(count: int) -> None:
            async with client.stream("Counter", count, 1, returns=int) as items:
                async for item in items:
                    received[count].append(item)
                    if item % 10 == 0:
                        sums.append(await client.invoke("Add", item, 1))

        for count in received:
            tasks.start_soon(read, count)
    assert received == {count: list(range(count)) for count in received}
    assert sorted(sums) == sorted(item + 1 for count in received for item in range(0, count, 10))


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
        with pytest.raises(HubError) as caught:
            await client.invoke("Upload", client.upload(failing()))
        more = " HubException: source broke" if reference.way.server.tells_upload_errors else ""
        assert str(caught.value) == FAILED.format("Upload") + more
        assert await client.invoke("Add", 2, 3) == 5


async def test_uploads_side_by_side(rt: Runtime, reference: Reference) -> None:
    results: dict[int, int] = {}
    async with hub(rt, reference) as client, rt.tasks() as tasks:

        async def upload(count: int) -> None:
            results[count] = await client.invoke("UploadSum", client.upload(numbers(count)))

        for count in range(0, 500, 50):
            tasks.start_soon(upload, count)
    assert results == {count: sum(range(count)) for count in range(0, 500, 50)}


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


@pytest.mark.parametrize("slow", [False, True], ids=["plain handler", "slow handler"])
async def test_a_flood_comes_in_order(rt: Runtime, reference: Reference, slow: bool) -> None:
    received: list[int] = []

    async def receive(number: int) -> None:
        if number % 100 == 0:
            await rt.sleep(0.001)
        received.append(number)

    async with hub(rt, reference) as client:
        client.on("flood", receive if slow else received.append)
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


async def test_a_group_and_a_user(rt: Runtime, reference: Reference) -> None:
    received: list[tuple[str, ...]] = []
    async with hub(rt, reference) as one, hub(rt, reference, access_token="token-ann") as ann:
        ann.on("groupMessage", lambda group, message: received.append((group, message)))
        ann.on("message", lambda message: received.append((message,)))
        await ann.invoke("JoinGroup", "blue")
        await one.invoke("SendGroup", "blue", "to the group")
        await ann.invoke("LeaveGroup", "blue")
        await one.invoke("SendGroup", "blue", "to nobody")
        await one.invoke("SendUser", "ann", "to ann")
        await rt.eventually(lambda: received == [("blue", "to the group"), ("to ann",)])


async def welcomed(rt: Runtime, reference: Reference, **options: Any) -> None:
    for _ in range(10):
        received: list[int] = []
        client = connect(rt, reference, headers={"X-Lab": "welcome"}, **options)
        client.on("welcome", received.append)
        async with client:
            await rt.eventually(lambda: received == [1, 2])  # noqa: B023
            assert (await client.invoke("WhoAmI"))["xLab"] == "welcome"


async def test_messages_right_behind_the_handshake_are_handled(rt: Runtime, reference: Reference) -> None:
    await welcomed(rt, reference)


@not_negotiated
async def test_messages_right_behind_the_handshake_are_handled_without_negotiation(
    rt: Runtime, reference: Reference
) -> None:
    await welcomed(rt, reference, skip_negotiation=True)


# client results


@with_client_results
async def test_a_client_answers(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:

        @client.on("AskMe")
        async def ask_me(question: str) -> str:
            assert await client.invoke("Add", 2, 3) == 5  # the server answers others while it waits
            return f"{question} \U0001f600"

        assert await client.invoke("AskClient", "how?") == "how? \U0001f600"
        client.off("AskMe")
        client.on("AskMe", lambda question: f"plainly: {question}")
        assert await client.invoke("AskClient", "how?") == "plainly: how?"


@with_client_results
async def test_another_client_answers(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as one, hub(rt, reference) as two:
        two.on("AskMe", lambda question: question.upper())
        assert await one.invoke("AskOther", two.connection_id, "how?") == "HOW?"
        with pytest.raises(HubError) as caught:
            await one.invoke("AskOther", "nobody", "how?")
        assert str(caught.value) == FAILED.format("AskOther")


@with_client_results
async def test_a_client_has_no_answer(rt: Runtime, reference: Reference) -> None:
    async def refuse(question: str) -> str:
        raise HubError("I do not know")

    async def asked() -> str:
        with pytest.raises(HubError) as caught:
            await client.invoke("AskClient", "how?")
        return str(caught.value)

    failed = FAILED.format("AskClient")
    async with hub(rt, reference) as client:
        assert await asked() == f"{failed} HubException: Client didn't provide a result."
        client.on("AskMe", refuse)
        assert await asked() == f"{failed} HubException: I do not know"
        client.off("AskMe")
        client.on("AskMe", lambda question: ["no text"])
        assert (await asked()).startswith(failed)
        assert await client.invoke("Add", 2, 3) == 5


# the connection


async def test_the_server_knows_us(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference, "/hub?room=blue") as client:
        seen = await client.invoke("WhoAmI")
        assert seen["connectionId"] == client.connection_id
        assert seen["transport"] == reference.way.transport.name
        assert seen["query"].startswith("?room=blue&id=")


@not_negotiated
async def test_without_negotiation(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference, skip_negotiation=True) as client:
        assert client.connection_id is None
        assert await client.invoke("Add", 2, 3) == 5
        async with client.stream("Counter", 5, 0) as items:
            assert [item async for item in items] == list(range(5))


async def test_a_connection_after_the_other(rt: Runtime, reference: Reference) -> None:
    ids = set()
    for number in range(5):
        async with hub(rt, reference) as client:
            ids.add(client.connection_id)
            assert await client.invoke("Add", number, 1) == number + 1
    assert len(ids) == 5


@answers_close
async def test_what_is_sent_right_before_leaving_arrives(rt: Runtime, reference: Reference) -> None:
    """A server that is left in another way than by a Close, and given time to answer it, drops some of this."""
    heard: list[str] = []
    said = [str(number) for number in range(200)]

    async def come_and_go(words: Iterable[str]) -> None:
        for word in words:
            async with hub(rt, reference) as client:
                await client.send("Broadcast", word)

    async with hub(rt, reference) as listener:
        listener.on("message", heard.append)
        async with rt.tasks() as tasks:
            for first in range(4):
                tasks.start_soon(come_and_go, said[first::4])
        await rt.eventually(lambda: len(heard) == len(said))
    assert sorted(heard) == sorted(said)


async def test_leaving_ends_the_connection_on_the_server(rt: Runtime, reference: Reference) -> None:
    async def wait_until_open(count: int) -> None:
        async with rt.fail_after(5):
            while (await observer.invoke("Stats"))["open"] != count:
                await rt.sleep(0.005)

    async with hub(rt, reference) as observer:
        await wait_until_open(1)  # other tests may have left some
        async with hub(rt, reference):
            await wait_until_open(2)  # the server counts a client when it has answered its handshake
        await wait_until_open(1)


async def test_the_server_aborts_the_connection(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        with pytest.raises(TransportError):
            await client.invoke("AbortMe")
        with pytest.raises(TransportError):
            await client.invoke("Add", 2, 3)


async def test_the_server_aborts_the_connection_of_a_running_stream(rt: Runtime, reference: Reference) -> None:
    received: list[int] = []
    async with hub(rt, reference) as client, client.stream("Counter", 1000, 5) as items:
        with pytest.raises(TransportError):
            async for item in items:
                received.append(item)
                if item == 3:
                    await client.send("AbortMe")
    assert received == list(range(len(received)))
    assert len(received) > 3


async def test_the_server_shuts_down(rt: Runtime, reference: Reference, tmp_path: Path) -> None:
    server = start_lab(reference.way.server.name, tmp_path)
    try:
        async with hub(rt, replace(reference, url=server.url)) as client, client.stream("Counter", 1000, 10) as items:
            assert await anext(items) == 0
            server.process.terminate()
            with pytest.raises(TransportError):
                async for _ in items:
                    pass
            with pytest.raises(TransportError):
                await client.invoke("Add", 2, 3)
    finally:
        server.stop()


async def test_pings_keep_a_silent_connection(rt: Runtime, reference: Reference, labs: Labs) -> None:
    """Nothing else is sent either way for longer than each side waits for the other."""
    server = labs.start(reference.way.server.name, LAB_TIMEOUT="1", LAB_KEEPALIVE="0.5")
    config = HubConfig(keep_alive_interval=0.25, silence_timeout=2, max_message_size=None)
    async with hub(rt, replace(reference, url=server.url), config=config) as client:
        async with client.stream("Counter", 2, 3000) as items:
            assert [await anext(items) for _ in range(2)] == [0, 1]
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_message_over_the_servers_limit_ends_the_connection(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference) as client:
        assert await client.invoke("Length", "x" * 32_000) == 32_000
        with pytest.raises((HubError, TransportError)) as caught:
            await client.invoke("Length", "x" * 40_000)
        assert "Connection closed with an error." in str(caught.value)


async def test_a_token_opens_the_door(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference, "/securehub", access_token="token-ann") as client:
        seen = await client.invoke("WhoAmI")
        assert (seen["user"], seen["auth"]) == ("ann", "Bearer token-ann")
    async with hub(rt, reference, "/securehub", access_token="token-admin") as client:
        assert await client.invoke("AdminOnly") == "secret of admin"


async def shut_out(rt: Runtime, reference: Reference, **options: Any) -> None:
    url = f"{reference.url}/securehub"
    with pytest.raises(TransportError, match=f"{re.escape(url)}.* 401.*access token"):
        async with hub(rt, reference, "/securehub", **options):
            pass


async def test_without_a_token_the_door_is_shut(rt: Runtime, reference: Reference) -> None:
    await shut_out(rt, reference)


@not_negotiated
async def test_without_a_token_and_negotiation_the_door_is_shut(rt: Runtime, reference: Reference) -> None:
    await shut_out(rt, reference, skip_negotiation=True)


async def test_a_redirect_is_followed_with_its_token(rt: Runtime, reference: Reference) -> None:
    async with hub(rt, reference, "/redirect") as client:
        assert (await client.invoke("WhoAmI"))["user"] == "redirected"


async def test_a_refused_negotiation_is_told(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match=f"{re.escape(reference.url)}/neg-error.*: negotiation refused$"):
        async with hub(rt, reference, "/neg-error"):
            pass


async def test_a_path_without_a_hub(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match=r"404.*is it the address of a SignalR hub"):
        async with hub(rt, reference, "/elsewhere"):
            pass


async def test_a_server_that_does_not_offer_the_transport(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(TransportError, match="None of the transports supported by the client are supported by the"):
        async with hub(rt, reference, reference.way.transport.elsewhere):
            pass


@only(lambda way: way.server is OLDEST and not way.transport.text_only)
async def test_an_encoding_that_the_server_does_not_have(rt: Runtime, reference: Reference) -> None:
    with pytest.raises(HubError, match=r" due to an error: The protocol 'messagepack' is not supported\."):
        async with hub(rt, reference, protocol=MessagePackCodec()):
            pass


# coming back


async def fails(call: Coroutine[Any, Any, Any], into: list[Exception]) -> None:
    """Wait for a call that a cut must end."""
    with pytest.raises(ServerGone) as caught:
        await call
    into.append(caught.value)


async def breaks_off(client: Connection, begun: list[str], into: list[Exception]) -> None:
    """Read a stream that a cut must end."""
    async with client.stream("Counter", 1_000_000, 5) as items:
        assert await anext(items) == 0
        begun.append("stream")
        with pytest.raises(ServerGone) as caught:
            async for _ in items:
                pass
    into.append(caught.value)


async def test_a_client_comes_back_whenever_its_connection_is_cut(rt: Runtime, reference: Reference) -> None:
    link = Link(rt, int(reference.url.rpartition(":")[2]))
    news: list[str] = []
    ids: list[str | None] = []
    errors: list[Exception] = []
    begun: list[str] = []
    async with rt.listen(link) as port, rt.tasks() as tasks:
        client = connect(rt, replace(reference, url=f"http://127.0.0.1:{port}"), reconnect=True)
        client.on("message", news.append)
        async with client:
            for count in range(1, 6):
                ids.append(client.connection_id)
                tasks.start_soon(breaks_off, client, begun, errors)
                await rt.eventually(lambda c=count: len(begun) == c)  # type: ignore[misc]
                tasks.start_soon(fails, client.invoke("Slow", 60_000), errors)  # 3.1 does one call at a time
                await rt.sleep(0)
                async with rt.fail_after(2):
                    await link.cut_until(lambda c=count: len(errors) == 2 * c)  # type: ignore[misc]
                await rt.eventually(lambda: client.state is ClientState.CONNECTED)
                assert await client.invoke("Add", count, 3) == count + 3
                await client.invoke("SendClient", client.connection_id, f"after {count}")
                await rt.eventually(lambda c=count: news[-1:] == [f"after {c}"])  # type: ignore[misc]
    assert len(set(ids)) == len(news) == 5
    assert all(f"http://127.0.0.1:{port}/hub is gone: " in str(error) for error in errors)


@pytest.mark.parametrize("server", [TEN, OLDEST], ids=lambda server: server.name)
async def test_a_server_that_is_killed_and_started_again_finds_its_clients(
    rt: Runtime, server: Microsofts, tmp_path: Path
) -> None:
    """A client over each transport; the kernel resets their sockets, and refuses new ones until the server is back."""
    lab = start_lab(server.name, tmp_path)
    policy = ReconnectPolicy(delays=[0.05], max_attempts=1000, growth=1)
    news: dict[str, list[str]] = {transport.name: [] for transport in TRANSPORTS}
    try:
        async with AsyncExitStack() as stack:
            clients = []
            for transport in TRANSPORTS:
                client = rt.connect(f"{lab.url}/hub", reconnect=policy, **transport.options)
                client.on("message", news[transport.name].append)
                clients.append(await stack.enter_async_context(client))
            for restart in range(5):
                for client in clients:
                    await client.invoke("SendClient", client.connection_id, f"before {restart}")
                await rt.eventually(lambda r=restart: all(heard[r:] == [f"before {r}"] for heard in news.values()))  # type: ignore[misc]
                lab.kill()
                await rt.eventually(lambda: all(client.state is ClientState.RECONNECTING for client in clients))
                lab = start_lab(server.name, tmp_path, port=lab.port)
                await rt.eventually(lambda: all(client.state is ClientState.CONNECTED for client in clients))
            for client in clients:
                assert await client.invoke("Add", 2, 3) == 5
    finally:
        lab.kill()
