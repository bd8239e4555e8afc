"""Conversations recorded from Microsoft's server hold on our lab hub, over real WebSockets, on both adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from tests.interop import _conversations, _peers
from tests.interop._conversations import Conversation, compare
from tests.interop._link import Record
from tests.interop.conftest import StartLab

NOT_YET: dict[str, str] = {}
"""Recordings whose methods or types the lab hub does not have yet."""

DIFFERENCES: dict[str, str] = {
    "random / 11-36": (
        "a stream without items and a bad record in one message: a generator begins in a task of its own, "
        "after the bad record has ended the connection; the reference runs a method's first step at once"
    ),
}
"""Recordings that we answer in another way, each with the reason. Fewer than eight."""

BETTER_LATER: dict[str, str] = {}
"""Recordings of the reference's errors (`better`) for which conversations/better.jsonl says nothing yet."""


def title(conversation: Conversation) -> str:
    """The name in the tables above and in the names of the tests."""
    return f"{conversation.topic} / {conversation.name}"


def cases(folder: Path | None, *files: str) -> list[Conversation]:
    """The conversations of a folder's files."""
    return [entry for file in files for entry in _conversations.load(folder / file)] if folder else []


RECORDINGS = cases(_peers.folder("HUBPROTO_CONVERSATIONS"), "websocket.jsonl", "random.jsonl")
OWN = cases(_conversations.OWN, *sorted(path.name for path in _conversations.OWN.glob("*.jsonl")))
NONE = Conversation(topic="no", name="recordings", steps=[], closed=None)


def parametrized(conversations: list[Conversation]) -> pytest.MarkDecorator:
    """One test a conversation, called by its title."""
    return pytest.mark.parametrize("conversation", conversations, ids=title)


def check(conversation: Conversation, start: StartLab) -> None:
    """Play a conversation and fail with the differences."""
    lab = start(LAB_DETAILED="1") if conversation.detailed else start()
    differences = _conversations.play(conversation, lab.url)
    if differences and title(conversation) in DIFFERENCES:
        pytest.xfail(DIFFERENCES[title(conversation)])
    assert not differences, "\n".join(differences)


@parametrized(OWN)
def test_own(conversation: Conversation, start: StartLab, adapter: str) -> None:
    """The project's own conversations."""
    if conversation.better and adapter == "reference":
        pytest.skip("states what is right where the reference errs")
    check(conversation, start)


@parametrized([entry for entry in RECORDINGS if not entry.better] or [NONE])
def test_recorded(conversation: Conversation, start: StartLab, adapter: str) -> None:
    """The recordings that HUBPROTO_CONVERSATIONS names."""
    if conversation is NONE:
        _peers.missing("conversations", "HUBPROTO_CONVERSATIONS names no folder with recordings")
    if adapter != "reference" and title(conversation) in NOT_YET:
        pytest.skip(f"not yet: {NOT_YET[title(conversation)]}")
    check(conversation, start)


def test_tables() -> None:
    """The tables name existing recordings, and what the reference does wrong has a better conversation of our own."""
    if not RECORDINGS:
        _peers.missing("conversations", "there is nothing to compare the tables with")
    titles = {title(entry) for entry in RECORDINGS}
    assert {*NOT_YET, *DIFFERENCES, *BETTER_LATER} <= titles
    assert len(DIFFERENCES) < 8
    ours = {entry.name for entry in OWN if entry.better}
    assert {title(entry) for entry in RECORDINGS if entry.better and entry.name not in ours} == set(BETTER_LATER)


def completion(call: str, result: int) -> Record:
    """A completion as a server would write it."""
    return Record(f'{{"type":3,"invocationId":"{call}","result":{result}}}')


def packed(*elements: Any) -> Record:
    """A MessagePack record."""
    return Record(msgpack.packb(elements).hex(), "binary")


A1, A2, B1, CLOSE = completion("a", 1), completion("a", 2), completion("b", 1), Record('{"type":7}')


@pytest.mark.parametrize(
    ("wanted", "got", "ordered", "difference"),
    [
        ([A1, B1], [A1, B1], True, None),
        ([A1, B1], [B1, A1], False, None),
        ([A1, B1], [B1, A1], True, "differs: "),
        ([A1, A2], [A2, A1], False, "differs: "),
        ([A1, B1], [A1], False, "missing "),
        ([A1], [A1, B1], False, "unexpected "),
        ([A1, CLOSE], [CLOSE, A1], False, "a record follows a Close: "),
        ([A1], [Record(A1.text, "binary")], True, "expected a text message, got a binary message: "),
        ([A1], [Record(A1.text.replace(":", ": "))], True, "the text differs: "),
        ([packed(3, {}, "a", 3, 1)], [packed(3, {}, "a", 3, 1)], True, None),
        ([packed(3, {}, "a", 3, 1)], [packed(3, {}, "a", 3, 2)], True, "differs: "),
        ([packed(3, {}, "a", 3, 1)], [packed(3, {}, "a", 3, 1.0)], True, "the text differs: "),
        ([Record("950380a16103d200000001", "binary")], [packed(3, {}, "a", 3, 1)], True, None),
        ([packed(3, {}, "a", 2), packed(3, {}, "b", 2)], [packed(3, {}, "b", 2), packed(3, {}, "a", 2)], False, None),
        (
            [packed(5, {}, "a"), packed(7, None)],
            [packed(7, None), packed(5, {}, "a")],
            False,
            "a record follows a Close: ",
        ),
        ([Record("X JsonException: theirs.")], [Record("X JsonException: ours.")], True, None),
        ([Record("X JsonException: theirs.")], [Record("Y JsonException: ours.")], True, "differs: "),
    ],
)
def test_comparison(wanted: list[Record], got: list[Record], ordered: bool, difference: str | None) -> None:
    """The comparison sees what it must see."""
    found = compare(wanted, got, ordered)
    assert len(found) <= 1 if difference is None else found
    assert [line for line in found if not line.startswith(difference or "?")] == []
