"""Conversations with stateful reconnect, recorded from Microsoft's server, hold on our lab hub in all servers."""

from __future__ import annotations

import pytest

from tests.interop import _conversations, _peers, _stateful
from tests.interop._stateful import Conversation
from tests.interop.conftest import StartLab, everywhere

FOLDER = _peers.folder("HUBPROTO_CONVERSATIONS")
RECORDINGS = _stateful.load(FOLDER / "stateful.jsonl") if FOLDER else []
BETTER = _stateful.load(_conversations.OWN / "stateful" / "better.jsonl")
"""What is right where the reference errs."""

HYPERCORN = {"a close frame ends it for good": "hypercorn does not tell a close frame from a cut"}
"""Recordings that cannot hold there."""

NONE = Conversation(topic="no", name="recordings", steps=[])


def title(conversation: Conversation) -> str:
    """The name in the names of the tests."""
    return conversation.name


@everywhere
@pytest.mark.timeout(60)
@pytest.mark.parametrize("conversation", [entry for entry in RECORDINGS if not entry.better] or [NONE], ids=title)
def test_recorded(conversation: Conversation, start: StartLab, adapter: str) -> None:
    """The recordings that HUBPROTO_CONVERSATIONS names."""
    if conversation is NONE:
        _peers.missing("conversations", "HUBPROTO_CONVERSATIONS names no folder with recordings")
    differences = _stateful.play(conversation, start().url)
    if adapter.startswith("hypercorn") and conversation.name in HYPERCORN:
        assert differences, "the table names a recording that holds"
        return
    assert not differences, "\n".join(differences)


@everywhere
@pytest.mark.parametrize("conversation", BETTER, ids=title)
def test_better(conversation: Conversation, start: StartLab, adapter: str) -> None:
    """What is right where the reference errs."""
    if adapter == "reference":
        pytest.skip("states what is right where the reference errs")
    differences = _stateful.play(conversation, start().url)
    assert not differences, "\n".join(differences)


def test_tables() -> None:
    """What the reference does wrong has a better conversation of our own; the table names existing recordings."""
    if not RECORDINGS:
        _peers.missing("conversations", "there is nothing to compare the tables with")
    assert [(entry.name, entry.better) for entry in RECORDINGS if entry.better] == [
        (entry.name, entry.better) for entry in BETTER
    ]
    assert HYPERCORN.keys() <= {entry.name for entry in RECORDINGS}
