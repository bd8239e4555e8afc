"""The course of one `listen`."""

from __future__ import annotations

import pytest

from hubproto_core import TransportError
from hubproto_core.cli import ListenCommand, Listening, Way

WAY = Way("http://h")


def test_every_call_is_a_line() -> None:
    listening = Listening(ListenCommand(WAY))
    assert listening.line("said", ["bob", {"a": b"hi"}]) == b'{"target":"said","arguments":["bob",{"a":"aGk="}]}\n'
    assert listening.line("left", []) == b'{"target":"left","arguments":[]}\n'
    assert not listening.finished


def test_only_the_wanted_targets_are_lines_in_any_case() -> None:
    listening = Listening(ListenCommand(WAY, ("Said", "left"), count=2))
    assert listening.line("other", []) is None
    assert listening.line("sAID", []) == b'{"target":"sAID","arguments":[]}\n'
    assert listening.line("other", []) is None
    before = listening.finished
    assert listening.line("left", []) is not None
    assert (before, listening.finished) == (False, True)
    listening.outcome()


def test_after_the_last_line_nothing_counts() -> None:
    listening = Listening(ListenCommand(WAY, count=1))
    assert listening.line("said", []) is not None
    assert listening.line("said", []) is None
    listening.close(TransportError("gone"))
    listening.outcome()


def test_a_connection_that_ends_too_soon_is_a_failure() -> None:
    listening = Listening(ListenCommand(WAY, count=2))
    listening.line("said", [])
    listening.close(None)
    assert listening.finished
    with pytest.raises(TransportError, match="the hub has closed the connection"):
        listening.outcome()
    listening = Listening(ListenCommand(WAY))
    listening.close(TransportError("gone"))
    with pytest.raises(TransportError, match="gone"):
        listening.outcome()


def test_output_that_fails_is_the_end() -> None:
    listening = Listening(ListenCommand(WAY))
    listening.fail(BrokenPipeError())
    assert listening.finished
    assert listening.line("said", []) is None
    with pytest.raises(BrokenPipeError):
        listening.outcome()
