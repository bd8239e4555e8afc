"""Input that is odd, large or late, in both encodings: answered or closed as docs/violations.md says, logged once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import (
    Call,
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
from hubproto_core._logs import FACTS
from tests.kit.peer import CodecPeer
from tests.kit.runtimes import Runtime
from tests.parity.test_bad_peers import bystander

CODECS = pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)
FAILED = "Failed to invoke '{}' due to an error on the server."
CLOSED = Close(error="Connection closed with an error.", allow_reconnect=True)
DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]


def call(target: str, *arguments: Any, id: str | None = "1", uploads: list[str] | None = None) -> Invocation:  # noqa: A002
    return Invocation(invocation_id=id, target=target, arguments=arguments, stream_ids=uploads)


def item(id: str, value: int) -> StreamItem:  # noqa: A002
    return StreamItem(invocation_id=id, item=value)


@dataclass(frozen=True)
class Row:
    """What is sent, what comes back, and what is logged: once, at this level, in these words."""

    name: str
    sent: list[HubMessage]
    answers: Callable[[Codec], list[HubMessage]]
    logged: Callable[[Codec], tuple[int, str, str | None]]
    limits: Callable[[], dict[str, Any]] = dict


def is_json(codec: Codec) -> bool:
    return codec.name == "json"


ROWS = [
    Row(
        "10,000 arguments",
        [call("Add", *range(10_000))],
        lambda codec: [Completion(invocation_id="1", error=FAILED.format("Add"))],
        lambda codec: (logging.DEBUG, "a call of Add is refused: Invocation provides 10000", "InvalidDataException"),
        lambda: {"max_message_size": 100_000},
    ),
    Row(
        "10,000 arguments for a method that takes any number",
        [call("Count", *range(10_000))],
        lambda codec: [Completion(invocation_id="1", error=FAILED.format("Count"))],
        lambda codec: (
            logging.DEBUG,
            "a call of Count is refused: Invocation provides 10000 argument(s) but at most 1024 are accepted.",
            "InvalidDataException",
        ),
        lambda: {"max_message_size": 100_000},
    ),
    Row(
        "an argument 100 levels deep",
        [call("Echo", DEEP)],
        lambda codec: [CLOSED] if is_json(codec) else [Completion(invocation_id="1", error=FAILED.format("Echo"))],
        lambda codec: (
            (logging.INFO, "ended: Error reading JSON.", "InvalidDataException")
            if is_json(codec)
            else (logging.DEBUG, "a call of Echo is refused: Error binding arguments.", "InvalidDataException")
        ),
    ),
    Row(
        "the id of a stream that runs",
        [
            StreamInvocation(invocation_id="1", target="Endless", arguments=[]),
            StreamInvocation(invocation_id="1", target="Endless", arguments=[]),
        ],
        lambda codec: [
            StreamItem(invocation_id="1", item=0),
            Completion(invocation_id="1", error="Invocation ID '1' is already in use."),
        ],
        lambda codec: (logging.DEBUG, "a call of Endless is refused: Invocation ID '1' is already in use.", None),
    ),
    Row(
        "the id of an upload that runs",
        [
            call("Sum", id=None, uploads=["7"]),
            call("Sum", uploads=["7"]),
            item("7", 1),
            item("7", 2),
            Completion(invocation_id="7"),
        ],
        lambda codec: [Completion(invocation_id="1", result=3)],
        lambda codec: (logging.DEBUG, "a call of Sum takes over the upload 7 from an earlier one", None),
    ),
    Row(
        "a completion of what is not known",
        [Completion(invocation_id="s7", result=1)],
        lambda codec: [],
        lambda codec: (logging.DEBUG, "a completion of s7 is ignored: nobody waits for it", None),
    ),
    Row(
        "an item after the end",
        [call("Sum", uploads=["7"]), item("7", 1), Completion(invocation_id="7"), item("7", 2)],
        lambda codec: [Completion(invocation_id="1", result=1)],
        lambda codec: (logging.DEBUG, "an item of 7 is ignored: nobody waits for it", None),
    ),
    Row(
        "an id of 1 MiB",
        [call("Add", 2, 3, id="x" * 2**20)],
        lambda codec: [CLOSED],
        lambda codec: (logging.INFO, "ended: The maximum message size of 32768B was exceeded.", "InvalidDataException"),
    ),
    Row(
        "an id of 1 MiB where messages may have any size",
        [call("Add", 2, 3, id="x" * 2**20)],
        lambda codec: [CLOSED],
        lambda codec: (logging.INFO, "ended: An id is longer than 1024 characters.", "InvalidDataException"),
        lambda: {"max_message_size": None},
    ),
]


def make_hub(rt: Runtime) -> Hub:
    hub = Hub(name="Bad")

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Count")
    def count(*numbers: int) -> int:
        return len(numbers)

    @hub.method("Echo")
    def echo(value: Any) -> Any:
        return value

    @hub.method("Id")
    def id_(call: Call) -> str:
        return call.connection_id

    @hub.method("Endless")
    async def endless() -> AsyncIterator[int]:
        yield 0
        await rt.sleep_forever()

    @hub.method("Sum")
    async def sum_(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    return hub


def records_about(caplog: pytest.LogCaptureFixture, connection_id: str) -> Iterator[logging.LogRecord]:
    """What was logged about one connection but for its quiet beginning and end."""
    for record in caplog.records:
        if vars(record).get("connection_id") == connection_id:
            quiet = (f"connection {connection_id} is open, in", f"connection {connection_id} ended")
            if record.levelno > logging.DEBUG or not record.getMessage().startswith(quiet):
                yield record


@CODECS
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_it_is_answered_and_logged_once_and_nobody_else_notices(
    rt: Runtime, row: Row, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = HubConfig(**row.limits())
    async with rt.serve(make_hub(rt), config=config) as server, bystander(rt, server.url) as answered:
        with await CodecPeer.dial_in(rt, server.port, codec) as peer:
            await peer.say(call("Id"))
            named = await peer.hear()
            assert isinstance(named, Completion)
            connection_id = str(named.result)
            expected = row.answers(codec)
            for message in row.sent:
                await peer.say(message)
            if expected[-1:] == [CLOSED]:
                assert await peer.hear_all() == expected
                assert peer.closed == 1000
            else:
                answers = [await peer.hear() for _ in expected]
                assert sorted(map(repr, answers)) == sorted(map(repr, expected))
                await peer.say(call("Add", 2, 3, id="still here"))
                assert await peer.hear() == Completion(invocation_id="still here", result=5)
            (record,) = records_about(caplog, connection_id)
        await rt.eventually(answered)
    level, words, kind = row.logged(codec)
    assert record.levelno == level
    assert words in record.getMessage()
    assert len(record.getMessage()) < 400
    assert record.exc_info is None
    facts = {name: vars(record)[name] for name in FACTS}
    assert (facts["hub"], facts["user_id"], facts["error_kind"]) == ("Bad", None, kind)
    others = [other for other in caplog.records if vars(other).get("connection_id") != connection_id]
    assert not [other for other in others if other.levelno > logging.DEBUG]
