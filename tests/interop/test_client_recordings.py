"""What Microsoft's clients were recorded sending and receiving is read, written and answered alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hubproto_core import (
    CancelInvocation,
    Codec,
    Completion,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    Ping,
    StreamInvocation,
)
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RECORD_SEPARATOR, RecordBuffer
from tests.interop import _peers
from tests.interop._conversations import compare
from tests.interop._link import LIMIT, Link, Record
from tests.interop._vectors import MAX_DEPTH
from tests.interop.conftest import StartLab

FOLDER = _peers.folder("HUBPROTO_CONVERSATIONS")
FILES = sorted((FOLDER / "clients").glob("*.jsonl")) if FOLDER else []
CASES: list[Path | None] = [*FILES] or [None]
OTHERWISE_EACH_TIME = {"WhoAmI", "Stats", "Now", "AskClient"}
"""Methods whose results depend on who calls, and when; AskClient asks with ids that the server chooses."""


@dataclass(frozen=True)
class Said:
    """One record of a recording, framed, and what it means."""

    by: str
    """"client" or "server"."""
    channel: int | None
    """The WebSocket; None where requests carry the records."""
    data: bytes
    message: Any


@dataclass(frozen=True)
class Recording:
    """What one client and the server said to each other: whole records only, without handshakes."""

    client: str
    codec: Codec
    said: list[Said]


def load(path: Path) -> Recording:
    codec: Codec = MessagePackCodec() if "msgpack" in path.name else JsonCodec()
    said: list[Said] = []
    client = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        client = entry["client"]
        data = bytes.fromhex(entry["hex"]) if "hex" in entry else entry.get("text", "").encode()
        channel = entry.get("socket")
        if is_records(codec, data):
            said += [Said(entry["dir"], channel, *pair) for pair in split(codec, data)]
    return Recording(client, codec, said)


def is_records(codec: Codec, data: bytes) -> bool:
    """Whether these are hub messages, and no handshake, negotiation or piece of an event."""
    if codec.name == "messagepack":
        return bool(data) and not data.startswith(b"{")
    return data.startswith(b"{") and data.endswith(RECORD_SEPARATOR) and b'"type":' in data


def split(codec: Codec, data: bytes) -> Iterator[tuple[bytes, Any]]:
    buffer = RecordBuffer()
    buffer.append(data)
    while len(buffer):
        before = len(buffer)
        record = codec.next_record(buffer, None)
        assert record is not None, f"cut off: {data!r}"
        start = len(data) - before
        framed = data[start : len(data) - len(buffer)]
        if not record.startswith(b'{"protocol"') and record != b"{}":
            yield framed, codec.decode(record, AnyBinder(), MAX_DEPTH)


@pytest.fixture(params=CASES, ids=lambda path: path.stem if path else "none")
def recording(request: pytest.FixtureRequest) -> Recording:
    if request.param is None:
        _peers.missing("conversations", "HUBPROTO_CONVERSATIONS names no folder with recordings")
    return load(request.param)


def test_every_record_is_read_and_written_alike(recording: Recording) -> None:
    """What .NET wrote as JSON to the byte; what else there is with the same meaning."""
    codec = recording.codec
    assert len(recording.said) > 60
    for said in recording.said:
        assert said.message is not None, f"of no known type: {said.data!r}"
        written = codec.encode(said.message)
        [(_, read)] = split(codec, written)
        assert read == said.message
        if codec.name == "json" and (said.by == "server" or recording.client.startswith("dotnet")):
            assert written == said.data


def test_every_call_is_answered_alike(recording: Recording, start: StartLab, adapter: str) -> None:
    """The calls whose completions were recorded too, one after the other on one connection, as the client sent them."""
    del adapter
    codec = recording.codec
    url = f"{start().url}/hub"
    compared = 0
    with Link(url) as link:
        link.send(f'{{"protocol":"{codec.name}","version":1}}'.encode() + RECORD_SEPARATOR)
        assert [record.text for record in link.take(1)] == ["{}"]
        for call, completion in answered_calls(recording.said):
            link.send(call.data) if codec.name == "json" else link.send_binary(call.data)
            wanted = completion.message.invocation_id
            link.wait(lambda: any(id_of(codec, r) == wanted for r in link.records), f"the end of {call}", LIMIT)  # noqa: B023
            answers = [record for record in link.take(0) if id_of(codec, record) == wanted]
            assert not compare([as_record(codec, completion.data)], answers[-1:], ordered=True), call
            compared += 1
        assert not link.faults
    assert compared >= 4, "too little to mean anything"


def answered_calls(said: list[Said]) -> Iterator[tuple[Said, Said]]:
    """The calls that stand for themselves, each with its completion."""
    for place, call in enumerate(said):
        message = call.message
        if not isinstance(message, Invocation | StreamInvocation) or call.by == "server":
            continue
        if message.invocation_id is None or message.stream_ids or message.target in OTHERWISE_EACH_TIME:
            continue
        for later in said[place + 1 :]:
            if later.channel == call.channel and getattr(later.message, "invocation_id", None) == message.invocation_id:
                if later.by == "server" and isinstance(later.message, Completion):
                    yield call, later
                if later.by == "client" or isinstance(later.message, Completion | CancelInvocation):
                    break  # cancelled, or the id of another connection's call


def as_record(codec: Codec, data: bytes) -> Record:
    if codec.name == "json":
        return Record(data.removesuffix(RECORD_SEPARATOR).decode())
    buffer = RecordBuffer()
    buffer.append(data)
    record = codec.next_record(buffer, None)
    assert record is not None
    return Record(record.hex(), "binary")


def id_of(codec: Codec, record: Record) -> str | None:
    """The invocation id, if it is a completion."""
    data = bytes.fromhex(record.text) if record.frame == "binary" else record.text.encode()
    message = codec.decode(data, AnyBinder(), MAX_DEPTH)
    return message.invocation_id if isinstance(message, Completion) else None


def test_recordings_hold_what_they_are_asked_for() -> None:
    """Each kind of message is there, so that none goes untested."""
    if not FILES:
        _peers.missing("conversations", "HUBPROTO_CONVERSATIONS names no folder with recordings")
    kinds = {type(said.message) for path in FILES for said in load(path).said if said.by == "client"}
    assert {Invocation, StreamInvocation, CancelInvocation, Completion, Ping} <= kinds
