"""The course of one `listen`."""

from __future__ import annotations

import pytest

from hubproto_core import TransportError
from hubproto_core.cli import ListenCommand, Listening, Way

WAY = Way("http://h")


def taken(listening: Listening) -> list[bytes]:
    """All lines that are there."""
    return list(iter(listening.take, None))


def test_every_call_is_a_line() -> None:
    listening = Listening(ListenCommand(WAY))
    listening.hear("said", ["bob", {"a": b"hi"}])
    listening.hear("left", [])
    assert taken(listening) == [
        b'{"target":"said","arguments":["bob",{"a":"aGk="}]}\n',
        b'{"target":"left","arguments":[]}\n',
    ]
    assert not listening.finished


def test_only_the_wanted_targets_are_lines_in_any_case() -> None:
    listening = Listening(ListenCommand(WAY, ("Said", "left")))
    for target in ("other", "sAID", "left"):
        listening.hear(target, [])
    assert taken(listening) == [b'{"target":"sAID","arguments":[]}\n', b'{"target":"left","arguments":[]}\n']


def test_the_last_line_that_counts_ends_it() -> None:
    listening = Listening(ListenCommand(WAY, ("said",), count=2))
    story = []
    for number in range(3):
        listening.hear("other", [])
        listening.hear("said", [number])
        story.append((taken(listening), listening.finished))
    assert story == [
        ([b'{"target":"said","arguments":[0]}\n'], False),
        ([b'{"target":"said","arguments":[1]}\n'], True),
        ([], True),
    ]
    listening.close(TransportError("gone"))
    listening.outcome()


@pytest.mark.parametrize(
    ("error", "text"), [(None, "the hub has closed the connection"), (TransportError("gone"), "gone")], ids=str
)
@pytest.mark.parametrize("count", [None, 2])
def test_a_connection_that_ends_too_soon_is_a_failure_behind_all_lines(
    error: TransportError | None, text: str, count: int | None
) -> None:
    listening = Listening(ListenCommand(WAY, count=count))
    listening.hear("said", [])
    listening.close(error)
    before = listening.finished
    assert len(taken(listening)) == 1
    assert (before, listening.finished) == (False, True)
    with pytest.raises(TransportError, match=text):
        listening.outcome()


def test_too_many_lines_are_to_be_waited_for() -> None:
    listening = Listening(ListenCommand(WAY))
    heard = 0
    while not listening.full:
        listening.hear("said", [])
        heard += 1
    assert heard == 100
    listening.take()
    assert not listening.full
