"""Recorded conversations: the format (see README.md), playing one over a real WebSocket, comparing the answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec

from hubproto_core._framing import frame_binary
from tests.interop._link import LIMIT, Closed, Link, Record, Refused

OWN = Path(__file__).parent / "conversations"
QUIET = 0.05
"""How long (s) a silence must last to show that nothing else comes."""
PLATFORM_TEXT = re.compile(r"(?:JsonException: |deserialize result to \w+\. )(.*)")
"""What follows is the words of the reference's own JSON serializer, which nobody else needs to repeat."""
EMPTY_TEXT = "a0"
"""The empty string in MessagePack, in hex."""
PLACEHOLDER = re.compile(r"\$\{id\d+\}")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A handshake response, with the kind of the message that it comes in; or a MessagePack record."""

    handshake: str = ""
    frame: str = ""
    hex: str = ""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client sends, or how long (ms) it waits, and the records that come before the next step."""

    send: str = ""
    send_hex: str = msgspec.field(default="", name="sendHex")
    send_text_frame_hex: str = msgspec.field(default="", name="sendTextFrameHex")
    wait: int = 0
    receive: list[str | Answer] | None = None

    def perform(self, link: Link, ids: dict[str, str]) -> None:
        """Send what the step sends, with the ids that the server has chosen filled in."""
        if self.send:
            link.send(PLACEHOLDER.sub(lambda found: ids.get(found[0], found[0]), self.send))
        if self.send_text_frame_hex:
            link.send(bytes.fromhex(self.send_text_frame_hex))
        if self.send_hex:
            link.send_binary(_filled_in(self.send_hex, ids))

    @property
    def expected(self) -> list[Record]:
        """The answers as records."""
        return [_expected(answer) for answer in self.receive or []]


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a file of conversations."""

    topic: str
    name: str
    steps: list[Step]
    closed: Closed | None
    hub: str = "hub"
    detailed: bool = False
    protocol: str = "json"
    better: str = ""

    def ordered(self, step: Step) -> bool:
        """Whether the whole order of a step's answers is guaranteed, and not only that inside each id."""
        ids = {_invocation_id(record) for record in step.expected} - {None}
        return len(ids) < 2 or self.hub == "serialhub" or self.topic == "order"


def load(path: Path) -> list[Conversation]:
    """The conversations of a file, one a line."""
    return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[Conversation])


def play(conversation: Conversation, base: str) -> list[str]:
    """Play a conversation against the server at `base`; the differences, one a line."""
    differences: list[str] = []
    ids: dict[str, str] = {}
    try:
        link = Link(f"{base}/{conversation.hub}")
    except Refused as refused:
        return [f"the WebSocket was refused: {refused}"]
    with link:
        for number, step in enumerate(conversation.steps):
            last = number == len(conversation.steps) - 1
            if link.closed is None:
                step.perform(link, ids)
            got = _answers(link, step, closes=last and conversation.closed is not None)
            wanted = [Record(_resolve(record.text, got, ids), record.frame) for record in step.expected]
            differences += [f"step {number}: {line}" for line in compare(wanted, got, conversation.ordered(step))]
        if conversation.closed is not None:
            link.until(lambda: False, LIMIT)
            differences += [f"after the last step: unexpected {record.text}" for record in link.records]
        if link.closed != conversation.closed:
            differences.append(f"closed: expected {conversation.closed}, got {link.closed}")
        differences += link.faults
    return differences


def record(conversation: Conversation, base: str, pause: float = 0.3) -> Conversation:
    """Play a conversation and fill in what the server at `base` answers."""
    steps: list[Step] = []
    heard = 0
    with Link(f"{base}/{conversation.hub}") as link:
        for step in conversation.steps:
            if link.closed is None:
                step.perform(link, {})
            answers: list[str | Answer] = []
            silence = pause + step.wait / 1000
            while new := link.take(1, silence):
                answers += [_answer(entry, first=heard + i == 0) for i, entry in enumerate(new)]
                heard += len(new)
                silence = pause
            steps.append(msgspec.structs.replace(step, receive=answers))
        assert not link.faults, link.faults
        return msgspec.structs.replace(conversation, steps=steps, closed=link.closed)


def compare(wanted: list[Record], got: list[Record], ordered: bool) -> list[str]:
    """The differences between two lists of records, in the whole order or in that of each id."""
    if ordered:
        return _in_order(wanted, got)
    groups: dict[str | None, tuple[list[Record], list[Record]]] = {}
    for side, records in enumerate((wanted, got)):
        for entry in records:
            groups.setdefault(_invocation_id(entry), ([], []))[side].append(entry)
    differences = [line for pair in groups.values() for line in _in_order(*pair)]
    if got and any(_is_close(entry) for entry in got[:-1]):
        differences.append(f"a record follows a Close: {got[-1].text}")
    return differences


def _expected(answer: str | Answer) -> Record:
    if isinstance(answer, str):
        return Record(answer)
    return Record(answer.hex, "binary") if answer.hex else Record(answer.handshake, answer.frame)


def _filled_in(sent: str, ids: dict[str, str]) -> bytes:
    """The bytes to send. With an id in it a record may have got longer, and so its length must be put in anew."""
    filled = PLACEHOLDER.sub(lambda found: ids.get(found[0], found[0]), sent)
    return bytes.fromhex(filled) if filled == sent else frame_binary(bytes.fromhex(filled[2:]))


def _answers(link: Link, step: Step, closes: bool) -> list[Record]:
    wait = step.wait / 1000
    if step.receive:
        return link.take(len(step.receive), LIMIT + wait, 0.0 if closes else QUIET)
    return link.take(1, max(wait, QUIET), 0.0)


def _in_order(wanted: list[Record], got: list[Record]) -> list[str]:
    differences = [line for pair in zip(wanted, got, strict=False) for line in _difference(*pair)]
    differences += [f"missing {entry.text}" for entry in wanted[len(got) :]]
    differences += [f"unexpected {entry.text}" for entry in got[len(wanted) :]]
    return differences


def _difference(wanted: Record, got: Record) -> list[str]:
    if wanted.frame != got.frame:
        return [f"expected a {wanted.frame} message, got a {got.frame} message: {got.text}"]
    platform = PLATFORM_TEXT.search(wanted.text)
    if wanted.text == got.text or (platform and got.text.startswith(wanted.text[: platform.start(1)])):
        return []
    if wanted.frame == "binary" and repr(_message(wanted)) == repr(_message(got)):
        return []  # an int that .NET writes in its full width, as it does where the type is `object`
    kind = "the text differs" if _message(wanted) == _message(got) else "differs"
    return [f"{kind}: expected {wanted.text}, got {got.text}"]


def _resolve(text: str, got: list[Record], ids: dict[str, str]) -> str:
    """Fill in the ids that the server chose; one met for the first time is read from the record that fits."""
    for placeholder in PLACEHOLDER.findall(text):
        if placeholder not in ids:
            fitting = re.escape(text).replace(re.escape(placeholder), '([^"]+)')
            found = next(filter(None, (re.fullmatch(fitting, entry.text) for entry in got)), None)
            if found is None:
                return text
            ids[placeholder] = found[1]
        text = text.replace(placeholder, ids[placeholder])
    return text


def _answer(entry: Record, first: bool) -> str | Answer:
    if first:
        return Answer(handshake=entry.text, frame=entry.frame)
    assert entry.frame == "text", f"a {entry.frame} message on a JSON connection: {entry.text}"
    return entry.text


def _message(entry: Record) -> Any:
    """What a record says: an object of JSON, an array of MessagePack."""
    if entry.frame == "binary" and not entry.text.startswith("{"):
        text = PLACEHOLDER.sub(EMPTY_TEXT, entry.text)  # an id that is not known yet
        return msgpack.unpackb(bytes.fromhex(text), strict_map_key=False)
    try:
        return json.loads(entry.text)
    except ValueError:
        return entry.text


def _invocation_id(entry: Record) -> str | None:
    value = _message(entry)
    if isinstance(value, dict):
        return value.get("invocationId")
    return value[2] if isinstance(value, list) and len(value) > 2 and value[0] < 6 else None


def _is_close(entry: Record) -> bool:
    value = _message(entry)
    return value.get("type") == 7 if isinstance(value, dict) else isinstance(value, list) and value[0] == 7
