"""Streams from a client to the hub, and both ways at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Hub, HubError
from tests.kit.peer import Peer
from tests.kit.runtimes import Event, Runtime, over_each_transport

pytestmark = over_each_transport

PIECE = "x" * 16384
PIECES = 2000  # more than all buffers on the way hold


class UploadHub(Hub):
    """Methods that take streams, and what they saw."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__()
        self.rt = rt
        self.go_on: Event = rt.Event()
        self.seen: list[str] = []
        for name in ("Sum", "Join", "Two", "Adjacent", "Error", "First", "Count", "Patient", "Echo", "Whole"):
            self.method(name)(getattr(self, name.lower()))

    async def sum(self, items: AsyncIterator[int]) -> int:
        total = 0
        async for item in items:
            total += item
        return total

    async def join(self, items: AsyncIterator[str]) -> str:
        return "".join([item async for item in items])

    async def two(self, a: AsyncIterator[int], label: str, b: AsyncIterator[int]) -> str:
        return f"{label}:{await self.sum(a)}:{await self.sum(b)}"

    async def adjacent(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> str:
        return f"{await self.sum(a)}:{await self.sum(b)}"

    async def error(self, items: AsyncIterator[int]) -> str:
        received = 0
        try:
            async for _ in items:
                received += 1
        except HubError as error:
            return f"{error} after {received}"
        return "no error"

    async def first(self, items: AsyncIterator[int]) -> int:
        return await anext(items)

    async def count(self, items: AsyncIterator[str]) -> int:
        await self.go_on.wait()
        return len([item async for item in items])

    async def patient(self, items: AsyncIterator[int]) -> None:
        try:
            async for item in items:
                self.seen.append(f"item {item}")
        except BaseException as error:
            self.seen.append("cancelled" if isinstance(error, self.rt.Cancelled) else f"error {error!r}")
            raise

    async def echo(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in items:
            yield item

    async def whole(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        yield len([item async for item in items])


class Source:
    """An endless stream of numbers; notes how far it got and that it was ended."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.produced = 0
        self.ended = False

    async def items(self, wait_after: int | None = None) -> AsyncIterator[int]:
        try:
            while True:
                yield self.produced
                self.produced += 1
                if self.produced == wait_after:
                    await self.rt.sleep_forever()
        finally:
            self.ended = True

    async def pieces(self) -> AsyncIterator[str]:
        for _ in range(PIECES):
            self.produced += 1
            yield PIECE


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_a_list(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("Join", client.upload(["a", "", "b", "\U0001f600"])) == "ab\U0001f600"
        assert await client.invoke("Sum", client.upload([])) == 0


async def test_a_generator(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("Sum", client.upload(numbers(1000))) == 499_500
        assert await client.invoke("Sum", client.upload(number for number in range(10))) == 45


async def test_two_uploads_around_an_argument_and_two_adjacent_ones(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("Two", client.upload([1, 2]), "label", client.upload(numbers(10))) == "label:3:45"
        assert await client.invoke("Adjacent", client.upload(numbers(10)), client.upload([1, 2])) == "45:3"


async def test_an_upload_with_a_call_without_an_answer(rt: Runtime) -> None:
    hub = UploadHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        await client.send("Patient", client.upload([1, 2]))
        await rt.eventually(lambda: hub.seen == ["item 1", "item 2"])


async def test_an_error_in_the_source_reaches_the_method(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(error: Exception) -> AsyncIterator[int]:
        yield 1
        yield 2
        raise error

    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("Error", client.upload(failing(HubError("source broke")))) == "source broke after 2"
        assert caplog.records == []
        assert await client.invoke("Error", client.upload(failing(ValueError("no secret")))) == "no secret after 2"
        assert "the upload failed" in caplog.text
        assert await client.invoke("Error", client.upload([])) == "no error"


async def test_an_item_of_the_wrong_type_is_an_error_of_the_stream(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        text = await client.invoke("Error", client.upload([1, "two", 3]))
        assert text == "Failed to bind Stream message. after 1"


async def test_an_item_that_cannot_be_encoded_ends_the_upload(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert (await client.invoke("Error", client.upload([1, object()]))).endswith("after 1")
        assert await client.invoke("Sum", client.upload([1])) == 1


@pytest.mark.parametrize("wait_after", [None, 1], ids=["a busy source", "a waiting source"])
async def test_a_method_that_ends_early_stops_the_upload(rt: Runtime, wait_after: int | None) -> None:
    source = Source(rt)
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("First", client.upload(source.items(wait_after))) == 0
        await rt.eventually(lambda: source.ended)
        assert await client.invoke("Sum", client.upload([1, 2])) == 3


async def test_a_call_that_is_refused_stops_its_upload(rt: Runtime) -> None:
    source = Source(rt)
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError, match="Method does not exist"):
            await client.invoke("Missing", client.upload(source.items()))
        await rt.eventually(lambda: source.ended or source.produced == 0)
        assert await client.invoke("Sum", client.upload([1, 2])) == 3


async def test_a_slow_method_slows_the_upload(rt: Runtime) -> None:
    hub = UploadHub(rt)
    source = Source(rt)
    results: list[int] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:

        async def upload() -> None:
            results.append(await client.invoke("Count", client.upload(source.pieces())))

        tasks.start_soon(upload)
        assert await rt.settled(lambda: source.produced) < PIECES
        hub.go_on.set()
    assert results == [PIECES]


async def test_cancelling_the_call_cancels_the_upload_and_the_method(rt: Runtime) -> None:
    hub = UploadHub(rt)
    source = Source(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        async with rt.tasks() as tasks:
            call = tasks.start_soon(client.invoke, "Patient", client.upload(source.items(wait_after=2)))
            await rt.eventually(lambda: hub.seen == ["item 0", "item 1"])
            call.cancel()
        await rt.eventually(lambda: source.ended)
        await rt.eventually(lambda: hub.seen[2:] == ["cancelled"])
        assert await client.invoke("Sum", client.upload([1, 2])) == 3


async def test_a_method_whose_client_disappears_gets_an_error(rt: Runtime) -> None:
    hub = UploadHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            call = {"type": 1, "invocationId": "1", "target": "Patient", "arguments": [], "streamIds": ["u"]}
            await peer.send(call, {"type": 2, "invocationId": "u", "item": 0})
            await rt.eventually(lambda: hub.seen == ["item 0"])
            peer.tcp.reset()
            await rt.eventually(lambda: hub.seen[1:] == ["error HubError('The underlying connection was closed.')"])


async def test_both_ways_at_once(rt: Runtime) -> None:
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Echo", client.upload(numbers(1000))) as items:
            assert [item async for item in items] == list(range(1000))
        async with client.stream("Whole", client.upload(["no", "number"])) as items:
            with pytest.raises(HubError, match="An error occurred on the server while streaming results"):
                await anext(items)


async def test_both_ways_step_by_step(rt: Runtime) -> None:
    turn = [rt.Event() for _ in range(3)]

    async def questions() -> AsyncIterator[str]:
        for number, event in enumerate(turn):
            await event.wait()
            yield f"question {number}"

    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Echo", client.upload(questions())) as items:
            for number, event in enumerate(turn):
                event.set()
                assert await anext(items) == f"question {number}"
            with pytest.raises(StopAsyncIteration):
                await anext(items)


async def test_leaving_a_stream_stops_its_upload(rt: Runtime) -> None:
    source = Source(rt)
    async with rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Echo", client.upload(source.items())) as items:
            assert [await anext(items), await anext(items)] == [0, 1]
        await rt.eventually(lambda: source.ended)
        assert await client.invoke("Sum", client.upload([1, 2])) == 3


async def test_leaving_a_stream_frees_a_connection_that_is_full_in_both_directions(rt: Runtime) -> None:
    """Both ends have stopped reading, and so both wait for their sockets; reading on is all that helps."""
    source = Source(rt)
    async with rt.fail_after(8), rt.serve(UploadHub(rt)) as server, rt.connect(server.url) as client:
        async with client.stream("Echo", client.upload(source.pieces())):
            await rt.settled(lambda: source.produced)
        assert source.produced < PIECES
        assert await client.invoke("Sum", client.upload([1, 2])) == 3
