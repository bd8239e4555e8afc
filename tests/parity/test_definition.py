"""Hubs as their authors define them: default values, names, classes, and their description."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubError, hub_method, on_connected, on_disconnected
from tests.kit.runtimes import Runtime

PROTOCOLS = pytest.mark.parametrize("protocol", ["json", "messagepack"])


@dataclass
class Point:
    pos_x: int
    pos_y: int = 0


class Chat(Hub):
    """A hub that is a class."""

    def __init__(self, rt: Runtime, **options: Any) -> None:
        super().__init__(**options)
        self.rt = rt
        self.diary: list[Any] = []

    @on_connected
    async def arrive(self, call: Call) -> None:
        await self.rt.sleep(0)
        self.diary.append(call.connection_id)

    @on_disconnected
    def leave(self, call: Call, error: Exception | None) -> None:
        self.diary.append(error)

    @hub_method("Pick")
    def pick(self, first: int, second: int = 2, third: list[int] | None = None) -> list[Any]:
        """Give back what came."""
        return [first, second, third]

    @hub_method("Mixed")
    async def mixed(self, first: int, call: Call | None = None, second: str = "b", *, quiet: bool = True) -> list[Any]:
        await self.rt.sleep(0)
        assert call is not None
        return [first, call.connection_id in self.diary, second]

    @hub_method("Upload")
    async def upload(self, items: AsyncIterator[int], more: AsyncIterator[int], label: str = "sum", by: int = 1) -> Any:
        return [label, by * sum([item async for item in items]), [item async for item in more]]

    @hub_method("Count")
    @hub_method("CountTo")
    async def count(self, to: int = 3, step: int = 1) -> AsyncIterator[int]:
        for number in range(0, to, step):
            yield number

    @hub_method("Move")
    async def move(self, point: Point, by: int = 1) -> Point:
        return self.moved(point, by)

    def moved(self, point: Point, by: int) -> Point:
        return Point(point.pos_x + by, point.pos_y + by)


class LoudChat(Chat):
    def pick(self, first: int, second: int = 20, third: list[int] | None = None) -> list[Any]:
        return ["loud", *super().pick(first, second, third)]


@PROTOCOLS
async def test_arguments_that_are_left_out_have_their_default_values(rt: Runtime, protocol: str) -> None:
    async with rt.serve(Chat(rt)) as server, rt.connect(server.url, protocol=protocol) as client:
        assert await client.invoke("Pick", 1) == [1, 2, None]
        assert await client.invoke("Pick", 1, 5) == [1, 5, None]
        assert await client.invoke("Pick", 1, 5, [6]) == [1, 5, [6]]
        assert await client.invoke("Mixed", 1) == [1, True, "b"]
        assert await client.invoke("Mixed", 1, "c") == [1, True, "c"]
        uploads = partial(client.upload, [1, 2]), partial(client.upload, [3])
        for given, taken in (((), ["sum", 3]), (("twice", 2), ["twice", 6])):
            assert await client.invoke("Upload", *(upload() for upload in uploads), *given) == [*taken, [3]]
        async with client.stream("Count") as items:
            assert [item async for item in items] == [0, 1, 2]
        async with client.stream("CountTo", 5, 2) as items:
            assert [item async for item in items] == [0, 2, 4]
        assert await client.invoke("Move", Point(1), returns=Point) == Point(2, 1)


@PROTOCOLS
@pytest.mark.parametrize("arguments", [(), (1, 2, [3], 4), ("1",), (1, "2")])
async def test_too_few_too_many_and_wrong_ones_are_refused(
    rt: Runtime, protocol: str, arguments: tuple[Any, ...]
) -> None:
    async with rt.serve(Chat(rt)) as server, rt.connect(server.url, protocol=protocol) as client:
        with pytest.raises(HubError, match=r"^Failed to invoke 'Pick' due to an error on the server\.$"):
            await client.invoke("pick", *arguments)
        assert await client.invoke("Pick", 1) == [1, 2, None]


async def test_a_class_is_a_hub(rt: Runtime) -> None:
    hub = LoudChat(rt)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url) as client:
            assert await client.invoke("Pick", 1) == ["loud", 1, 20, None]
            assert hub.diary == [client.connection_id]
            for name in ("moved", "arrive", "leave", "describe"):
                with pytest.raises(HubError, match="Method does not exist"):
                    await client.invoke(name)
        await rt.eventually(lambda: hub.diary[1:] == [None])


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_result_needs_no_annotation_but_a_stream_does(
    rt: Runtime, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()

    async def items() -> AsyncIterator[int]:
        yield 1

    async def later(value):  # type: ignore[no-untyped-def]
        return items() if value == "stream" else value

    def at_once(value):  # type: ignore[no-untyped-def]
        return items() if value == "stream" else value

    async def annotated(count: int) -> AsyncIterator[int]:
        return items()

    def annotated_plain(count: int) -> AsyncIterator[int]:
        return items()

    hub.method("Echo")(later if is_async else at_once)
    hub.method("Items")(annotated if is_async else annotated_plain)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        assert await client.invoke("Echo", [1, {"a": None}]) == [1, {"a": None}]
        with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'Echo' on the server\.$"):
            await client.invoke("Echo", "stream")
        assert "the annotation -> AsyncIterator" in caplog.text
        async with client.stream("Items", 1) as stream:
            assert [item async for item in stream] == [1]


class Adder:
    def __init__(self, more: int) -> None:
        self.more = more

    async def __call__(self, number: int) -> int:
        return number + self.more

    def add(self, number: int, by: int = 1) -> int:
        return number + by + self.more


async def test_whatever_can_be_called_can_be_a_method(rt: Runtime) -> None:
    hub = Hub()
    hub.method("Object")(Adder(10))
    hub.method("Bound")(Adder(20).add)
    hub.method("Partial")(partial(Adder(30).add, by=3))
    hub.method("PartialObject")(partial(Adder(40), 2))
    hub.method("Class")(Point)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        assert await client.invoke("Object", 1) == 11
        assert await client.invoke("Bound", 1) == 22
        assert await client.invoke("Partial", 1) == 34
        assert await client.invoke("PartialObject") == 42
        assert await client.invoke("Class", 1) == {"posX": 1, "posY": 0}


async def get(rt: Runtime, port: int, path: str) -> tuple[str, dict[str, str], bytes]:
    """Get a document as any program would."""
    with await rt.tcp(port) as tcp:
        await tcp.send(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await tcp.receive_all()).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


async def test_a_hub_is_described_when_asked_for(rt: Runtime) -> None:
    hub = Chat(rt, described=True)
    async with rt.serve({"/chat": hub, "/quiet": Chat(rt)}) as server:
        status, headers, body = await get(rt, server.port, "/chat/description")
        assert status.startswith("HTTP/1.1 200")
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == hub.describe()
        described = json.loads(body)["methods"]
        assert described.keys() == {"Pick", "Mixed", "Upload", "Count", "CountTo", "Move"}
        assert described["Pick"]["description"] == "Give back what came."
        assert described["CountTo"]["items"] == {"type": "integer"}
        assert json.loads(body)["$defs"]["Point"]["properties"].keys() == {"posX", "posY"}
        for path in ("/quiet/description", "/description"):
            status, _, _ = await get(rt, server.port, path)
            assert status.startswith("HTTP/1.1 404")
