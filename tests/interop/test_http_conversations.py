"""What Microsoft's server was recorded answering over plain HTTP holds on our lab hub, on both adapters."""

from __future__ import annotations

import pytest

from tests.interop import _http_conversations, _peers
from tests.interop._http_conversations import Conversation
from tests.interop.conftest import StartLab, everywhere

FOLDER = _peers.folder("HUBPROTO_CONVERSATIONS")
RECORDINGS = _http_conversations.load(FOLDER / "http.jsonl") if FOLDER else []
DIFFERENCES: dict[str, str] = {
    "connect / WebSocket with an unknown id": "the text is said to be text/plain, as it is in all other answers",
}
"""Recordings that we answer in another way, each with the reason."""

UNSTEADY = {
    "long polling / a conversation": "soon after a DELETE the id is either unknown or that of a disposed connection"
}
"""Recordings that the reference itself does not always repeat."""

NONE = Conversation(topic="no", name="recordings", steps=[])


def title(conversation: Conversation) -> str:
    """The name in the tables above and in the names of the tests."""
    return f"{conversation.topic} / {conversation.name}"


@everywhere
@pytest.mark.parametrize("conversation", RECORDINGS or [NONE], ids=title)
def test_recorded(conversation: Conversation, start: StartLab, adapter: str) -> None:
    """The recordings that HUBPROTO_CONVERSATIONS names."""
    if conversation is NONE:
        _peers.missing("conversations", "HUBPROTO_CONVERSATIONS names no folder with recordings")
    if adapter == "reference" and title(conversation) in UNSTEADY:
        pytest.skip(UNSTEADY[title(conversation)])
    differences = _http_conversations.play(conversation, start().url)
    if adapter != "reference" and title(conversation) in DIFFERENCES:
        assert len(differences) == 1, "the table names a recording that we answer alike, or otherwise than it says"
        return
    assert not differences, "\n".join(differences)


def test_tables() -> None:
    """The tables name existing recordings."""
    if not RECORDINGS:
        _peers.missing("conversations", "there is nothing to compare the tables with")
    assert {*DIFFERENCES, *UNSTEADY} <= {title(entry) for entry in RECORDINGS}
