"""The hub that real peers are driven against, on either adapter: Microsoft's lab hub, method for method.

`hub` runs up to ten calls of a client at once, `serial_hub` one at a time.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct, field

from hubproto_core import (
    ZERO_OFFSET,
    Call,
    Char,
    Codec,
    Hub,
    HubConfig,
    HubError,
    JsonCodec,
    MessagePackCodec,
    Requirement,
    Single,
)

__all__ = ["Point", "Zoo", "build", "hub", "serial_hub"]

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class InvalidOperationException(Exception):
    """Named as the reference's lab hub names it, for detailed errors."""


@dataclass
class Point:
    x: float = 0.0
    y: float = 0.0
    label: str | None = None


class Color(Enum):
    Red = 0
    Green = 5
    Blue = 6


class Zoo(Struct):
    """A member of each type that people put in hub messages, with the values that the reference's lab hub has."""

    flag: bool = True
    small: int = 200
    short: int = -300
    int_: int = 70000
    long: int = 9007199254740993
    u_long: int = 18446744073709551615
    float_: Single = Single(1.5)
    double: float = 0.1
    decimal: Decimal = Decimal("79.9900")
    char: Char = Char("\u0436")
    text: str = "na\u00efve \u2603 \U0001f600"
    bytes_: bytes = b"\x00\x01\xfe\xff"
    guid: UUID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
    utc: datetime = datetime(2024, 2, 29, 12, 34, 56, 789000, UTC)
    unspecified: datetime = datetime(2024, 2, 29, 12, 34, 56)  # noqa: DTZ001 - of no zone, as some are
    offset: datetime = datetime(2024, 2, 29, 12, 34, 56, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    span: timedelta = timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=500)
    day: date = date(2024, 2, 29)
    clock: time = time(12, 34, 56, 789000)
    color: Color = Color.Blue
    nothing: int | None = None
    numbers: list[int] = field(default_factory=lambda: [1, 2, 3])
    names: list[str] = field(default_factory=lambda: ["a", "b"])
    counts: dict[str, int] = field(default_factory=lambda: {"One": 1, "two": 2})
    by_number: dict[int, str] = field(default_factory=lambda: {7: "seven"})
    link: str = "https://example.org/a?b=c"
    inner: Point = field(default_factory=lambda: Point(1.0, -2.0, "p"))
    anything: Any = field(default_factory=lambda: {"k": 1})


async def sleep(seconds: float) -> None:
    """Sleep by the means of whichever runtime runs this hub."""
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
        await sys.modules["trio"].sleep(seconds)
    else:
        await sys.modules["asyncio"].sleep(seconds)


class Counts:
    """What `Stats` tells, of all hubs of this process."""

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0
        self.cancelled = 0

    def as_dict(self) -> dict[str, int]:
        return {"open": self.open, "cancelled": self.cancelled, "opened": self.opened}


counts = Counts()


def build(config: HubConfig, requires: Requirement | None = None) -> Hub:
    """Return the lab hub with these settings, for those who meet the requirement."""
    codecs: list[Codec] = [JsonCodec(), MessagePackCodec(rename="pascal")]  # names in MessagePack as in .NET
    hub = Hub(config, requires=requires, codecs=codecs)
    add_lifecycle(hub)
    add_calls(hub)
    add_types(hub)
    add_sending(hub)
    add_client_results(hub)
    add_streams(hub)
    add_uploads(hub)
    return hub


def add_lifecycle(hub: Hub) -> None:
    @hub.on_connected
    def connected(call: Call) -> None:
        counts.open += 1
        counts.opened += 1
        if call.connection.headers.get("x-lab") == "welcome":
            call.clients.caller.send("welcome", 1)
            call.clients.caller.send("welcome", 2)

    @hub.on_disconnected
    def disconnected() -> None:
        counts.open -= 1


def add_calls(hub: Hub) -> None:
    @hub.method("Echo")
    def echo(value: Any) -> Any:
        return value

    @hub.method("Add")
    def add(a: Int32, b: Int32) -> int:
        return a + b

    @hub.method("MovePoint")
    def move_point(point: Point | None, dx: float, dy: float) -> Point:
        if point is None:
            raise ValueError("there is no point to move")
        return Point(point.x + dx, point.y + dy, point.label)

    @hub.method("Nothing")
    def nothing() -> None:
        pass

    @hub.method("Now")
    def now() -> datetime:
        return datetime.now(ZERO_OFFSET)  # a DateTimeOffset, as the reference's

    @hub.method("Bytes")
    def first_bytes(n: Int32) -> bytes:
        return bytes(i % 256 for i in range(n))

    @hub.method("Big")
    def big(n: Int32) -> str:
        return "x" * n

    @hub.method("Length")
    def length(text: str | None) -> int:
        return -1 if text is None else len(text.encode("utf-16-le")) // 2

    @hub.method("Slow", cancellable=False)
    async def slow(ms: Int32) -> str:
        await sleep(ms / 1000)
        return f"slept {ms}"

    @hub.method("Stats")
    def stats() -> dict[str, int]:
        return counts.as_dict()

    @hub.method("renamed.method")
    def renamed() -> str:
        return "renamed"

    @hub.method("WhoAmI")
    def who_am_i(call: Call) -> dict[str, str | None]:
        headers, query = call.connection.headers, call.connection.query
        return {
            "connectionId": call.connection_id,
            "user": call.user,
            "name": call.user,
            "transport": call.connection.transport,
            "auth": headers.get("authorization"),
            "authQuery": query.get("access_token"),
            "xLab": headers.get("x-lab"),
            "userAgent": headers.get("user-agent"),
            "xRequestedWith": headers.get("x-requested-with"),
            "query": f"?{call.connection.query_string}" if call.connection.query_string else "",
        }

    @hub.method("AdminOnly", requires=["admin"])
    def admin_only(call: Call) -> str:
        return f"secret of {call.user}"

    @hub.method("Throw")
    def throw() -> None:
        raise InvalidOperationException("secret detail")

    @hub.method("ThrowHubException")
    def throw_hub_exception() -> None:
        raise HubError("told to the client")

    @hub.method("AbortMe")
    def abort_me(call: Call) -> None:
        call.abort()


def add_types(hub: Hub) -> None:
    @hub.method("MakeZoo")
    def make_zoo() -> Zoo:
        return Zoo()

    @hub.method("EchoZoo")
    def echo_zoo(zoo: Zoo) -> Zoo:
        return zoo

    @hub.method("SameZoo")
    def same_zoo(zoo: Zoo) -> str:
        wanted = Zoo()
        different = [name for name in Zoo.__struct_fields__ if getattr(zoo, name) != getattr(wanted, name)]
        return ",".join(name for name in different if name not in ("anything", "inner"))


def add_sending(hub: Hub) -> None:
    @hub.method("Broadcast")
    def broadcast(message: str, call: Call) -> None:
        call.clients.all.send("message", message)

    @hub.method("Send")
    def send(message: str, call: Call) -> None:
        call.clients.all.send("message", message)

    @hub.method("SendOthers")
    def send_others(message: str, call: Call) -> None:
        call.clients.others.send("message", message)

    @hub.method("SendUser")
    def send_user(user: str, message: str, call: Call) -> None:
        call.clients.user(user).send("message", message)

    @hub.method("SendClient")
    def send_client(connection_id: str, message: str, call: Call) -> None:
        call.clients.client(connection_id).send("message", message)

    @hub.method("JoinGroup")
    def join_group(group: str, call: Call) -> None:
        call.groups.add(group)

    @hub.method("AddToGroup")
    def add_to_group(connection_id: str, group: str, call: Call) -> None:
        call.groups.add(group, connection_id)

    @hub.method("LeaveGroup")
    def leave_group(group: str, call: Call) -> None:
        call.groups.remove(group)

    @hub.method("SendGroup")
    def send_group(group: str, message: str, call: Call) -> None:
        call.clients.group(group).send("groupMessage", group, message)

    @hub.method("SendOthersInGroup")
    def send_others_in_group(group: str, message: str, call: Call) -> None:
        call.clients.others_in_group(group).send("groupMessage", group, message)

    @hub.method("CallMeBack")
    def call_me_back(name: str, call: Call) -> None:
        call.clients.caller.send(name, "called back", 42, Point(1, 2, "p"))

    @hub.method("Flood")
    def flood(n: Int32, call: Call) -> None:
        for i in range(n):
            call.clients.caller.send("flood", i)


def add_client_results(hub: Hub) -> None:
    @hub.method("AskClient")
    async def ask_client(question: str | None, call: Call) -> str:
        return await call.clients.caller.invoke("AskMe", question, returns=str)

    @hub.method("AskOther")
    async def ask_other(connection_id: str, question: str | None, call: Call) -> str:
        return await call.clients.client(connection_id).invoke("AskMe", question, returns=str)


def add_streams(hub: Hub) -> None:
    @hub.method("Counter")
    async def counter(count: Int32, delay_ms: Int32) -> AsyncIterator[int]:
        whole = False
        try:
            for i in range(count):
                yield i
                if delay_ms > 0:
                    await sleep(delay_ms / 1000)
            whole = True
        finally:
            if not whole:
                counts.cancelled += 1

    @hub.method("CounterChannel")
    async def counter_channel(count: Int32) -> AsyncIterator[int]:
        for i in range(count):
            yield i

    @hub.method("ZooStream")
    async def zoo_stream(n: Int32) -> AsyncIterator[Zoo]:
        for i in range(n):
            yield Zoo(int_=i)

    @hub.method("FailingStream")
    async def failing_stream(good: Int32) -> AsyncIterator[int]:
        for i in range(good):
            yield i
        raise HubError("stream broke")


def add_uploads(hub: Hub) -> None:
    @hub.method("Upload")
    async def upload(items: AsyncIterator[str | None]) -> str:
        received = [item or "" async for item in items]
        return f"{len(received)}:{''.join(received)}"

    @hub.method("UploadSum")
    async def upload_sum(items: AsyncIterator[Int32]) -> int:
        return await total(items)

    @hub.method("UploadTwo")
    async def upload_two(a: AsyncIterator[Int32], label: str, b: AsyncIterator[Int32]) -> str:
        return f"{label}:{await total(a)}:{await total(b)}"

    @hub.method("UploadAdjacent")
    async def upload_adjacent(a: AsyncIterator[Int32], b: AsyncIterator[Int32]) -> str:
        return f"{await total(a)}:{await total(b)}"

    @hub.method("UploadError")
    async def upload_error(items: AsyncIterator[str | None]) -> str:
        try:
            async for _ in items:
                pass
        except Exception as error:
            return f"error:{error}"
        return "no error"

    @hub.method("StreamEcho")
    async def stream_echo(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in items:
            yield item


async def total(items: AsyncIterator[Int32]) -> int:
    result = 0
    async for item in items:
        result += item
    return result


hub = build(HubConfig(max_parallel_calls=10))
serial_hub = build(HubConfig())
