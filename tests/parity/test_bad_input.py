"""What a client gets wrong is answered, or closes its connection, as docs/violations.md says; it is logged once, and
other connections do not notice.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from hubproto_core import (
    Close,
    Codec,
    Completion,
    Hub,
    HubConfig,
    HubMessage,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    StreamInvocation,
    StreamItem,
)
from hubproto_core._framing import frame_binary
from tests.kit.raw import RawClient
from tests.kit.runtimes import Runtime

JSON, MESSAGEPACK = JsonCodec(), MessagePackCodec()
CONFIG = HubConfig(detailed_errors=True, close_timeout=0.1)
UNLIMITED = HubConfig(detailed_errors=True, close_timeout=0.1, max_message_size=None)


def make_hub(rt: Runtime) -> Hub:
    hub = Hub()
    hub.method("Sum")(lambda *numbers: sum(numbers))

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Echo")
    def echo(value: Any) -> Any:
        return value

    @hub.method("Endless")
    async def endless() -> AsyncIterator[int]:
        yield 0
        await rt.sleep_forever()

    @hub.method("Collect")
    async def collect(items: AsyncIterator[int], only: int | None) -> list[int]:
        return [item async for item in items if only is None or item == only]

    return hub


def call(target: str, *arguments: Any, number: str = "9", stream_ids: list[str] | None = None) -> Invocation:
    return Invocation(invocation_id=number, target=target, arguments=arguments, stream_ids=stream_ids)


def bytes_of(codec: Codec, message: list[Any] | dict[str, Any]) -> bytes:
    """One record of what no codec of ours would write."""
    if codec is JSON:
        return msgspec.json.encode(message) + b"\x1e"
    return frame_binary(msgspec.msgpack.encode(message))


def nested(codec: Codec, levels: int) -> bytes:
    """A call of Echo whose argument has so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    if codec is JSON:
        return bytes_of(codec, {"type": 1, "invocationId": "9", "target": "Echo", "arguments": [value]})
    return bytes_of(codec, [1, {}, "9", "Echo", [value]])


@dataclass(frozen=True, kw_only=True)
class Case:
    """`said` in answer to `sent`, which comes behind `before`; then one line in the log. `code`: it is closed, so."""

    name: str
    codec: Codec
    before: tuple[HubMessage, ...] = ()
    answers_before: int = 0
    sent: tuple[HubMessage, ...] | bytes
    said: tuple[HubMessage, ...]
    level: int = logging.DEBUG
    line: str
    closes: bool = False
    config: HubConfig = field(default=CONFIG)


def failed(text: str) -> tuple[HubMessage, ...]:
    return (Completion(invocation_id="9", error=text),)


def closed(text: str) -> tuple[HubMessage, ...]:
    return (Close(error=f"Connection closed with an error. InvalidDataException: {text}", allow_reconnect=True),)


BIND = "Failed to invoke '{}' due to an error on the server. InvalidDataException: {}"
MISFIT = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)
LONG_ID = "An id is longer than 1024 characters."
TOO_LARGE = "The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions."
IGNORED = "is ignored: nothing is open under this id"


def cases(codec: Codec) -> list[Case]:
    many = list(range(10_000))
    in_json = codec is JSON
    return [
        Case(
            name="10,000 arguments for two",
            codec=codec,
            sent=(call("Add", *many),),
            said=failed(BIND.format("Add", "Invocation provides 10000 argument(s) but target expects 2.")),
            line="Invocation provides 10000 argument(s) but target expects 2.",
            config=UNLIMITED,
        ),
        Case(
            name="10,000 arguments for any number",
            codec=codec,
            sent=(call("Sum", *many),),
            said=failed(BIND.format("Sum", "Invocation provides 10000 argument(s) but at most 1024 are accepted.")),
            line="Invocation provides 10000 argument(s) but at most 1024 are accepted.",
            config=UNLIMITED,
        ),
        Case(
            name="an argument 100 levels deep",
            codec=codec,
            sent=nested(codec, 100),
            said=closed("Error reading JSON.") if in_json else failed(BIND.format("Echo", MISFIT)),
            level=logging.INFO if in_json else logging.DEBUG,
            line="Error reading JSON." if in_json else MISFIT,
            closes=in_json,
        ),
        Case(
            name="the id of a stream that runs",
            codec=codec,
            before=(StreamInvocation(invocation_id="9", target="Endless", arguments=()),),
            answers_before=1,
            sent=(StreamInvocation(invocation_id="9", target="Endless", arguments=()),),
            said=failed("Invocation ID '9' is already in use."),
            line="Invocation ID '9' is already in use.",
        ),
        Case(
            name="a completion of what is unknown",
            codec=codec,
            sent=(Completion(invocation_id="77", result=1), call("Add", 2, 3)),
            said=(Completion(invocation_id="9", result=5),),
            line=f"'77' {IGNORED}",
        ),
        Case(
            name="an item after the end",
            codec=codec,
            before=(call("Collect", None, stream_ids=["u"]), StreamItem(invocation_id="u", item=1)),
            sent=(Completion(invocation_id="u"), StreamItem(invocation_id="u", item=2), call("Add", 2, 3, number="10")),
            said=(Completion(invocation_id="9", result=[1]), Completion(invocation_id="10", result=5)),
            line=f"'u' {IGNORED}",
        ),
        Case(
            name="an id of 1 MiB",
            codec=codec,
            sent=(call("Add", 2, 3, number="x" * 2**20),),
            said=closed(TOO_LARGE),
            level=logging.INFO,
            line=TOO_LARGE,
            closes=True,
        ),
        Case(
            name="an id of 1 MiB in a message of any size",
            codec=codec,
            sent=(call("Add", 2, 3, number="x" * 2**20),),
            said=closed(LONG_ID),
            level=logging.INFO,
            line=LONG_ID,
            closes=True,
            config=UNLIMITED,
        ),
        Case(
            name="a completion of an id of 1 MiB",
            codec=codec,
            sent=(Completion(invocation_id="x" * 2**20),),
            said=closed(LONG_ID),
            level=logging.INFO,
            line=LONG_ID,
            closes=True,
            config=UNLIMITED,
        ),
    ]


CASES = [case for codec in (JSON, MESSAGEPACK) for case in cases(codec)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.codec.name}: {case.name}")
async def test_bad_input_is_answered_and_logged_once_and_nobody_else_notices(
    rt: Runtime, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hubproto_core")
    async with rt.serve(make_hub(rt), config=case.config) as server, rt.connect(server.url) as other:
        with await RawClient.dial(rt, server.port, case.codec) as client:
            await client.send(*case.before)
            for _ in range(case.answers_before):
                assert await client.read() is not None
            await (client.write(case.sent) if isinstance(case.sent, bytes) else client.send(*case.sent))
            expected = list(case.said)
            while expected:
                expected.remove(await client.read())  # type: ignore[arg-type]
            if case.closes:
                assert await client.read_until_closed() == []
                assert client.closed == 1000
            else:
                await client.send(call("Add", 1, 1, number="still there"))
                assert await client.read() == Completion(invocation_id="still there", result=2)
            assert await other.invoke("Add", 2, 3) == 5
            (record,) = [record for record in caplog.records if record.name.startswith("hubproto")]
            assert record.levelno == case.level
            assert case.line in record.getMessage()
            assert len(record.getMessage()) < 1000


@pytest.mark.parametrize("codec", [JSON, MESSAGEPACK], ids=lambda codec: codec.name)
async def test_an_upload_takes_the_id_of_another_over(rt: Runtime, codec: Codec) -> None:
    """As in the reference: what comes from now on is the later one's."""
    async with rt.serve(make_hub(rt), config=CONFIG) as server, rt.connect(server.url) as other:
        with await RawClient.dial(rt, server.port, codec) as client:
            await client.send(
                call("Collect", None, number="1", stream_ids=["u"]), StreamItem(invocation_id="u", item=1)
            )
            await client.send(
                call("Collect", None, number="2", stream_ids=["u"]), StreamItem(invocation_id="u", item=2)
            )
            await client.send(Completion(invocation_id="u"))
            assert await client.read() == Completion(invocation_id="2", result=[2])
            assert await other.invoke("Add", 2, 3) == 5
