"""What log records carry, and how what a peer has written looks in them."""

from __future__ import annotations

import logging

import pytest

from hubproto_core import HubError, RemoteProtocolError
from hubproto_core._logs import FACTS, NOBODY, connection_facts, error_kind, facts, one_line


def test_no_fact_is_in_the_way_of_what_a_record_has_itself() -> None:
    record = logging.getLogger("hubproto_core").makeRecord("n", 10, "f", 1, "m", (), None, extra=facts(NOBODY))
    assert {name: vars(record)[name] for name in FACTS} == dict.fromkeys(FACTS)


def test_every_record_has_all_facts() -> None:
    assert tuple(facts(NOBODY)) == FACTS
    assert set(facts(NOBODY).values()) == {None}
    connection = connection_facts("Chat", "c1", "ann")
    assert facts(connection, method="Add", error=HubError("no")) == {
        "hub": "Chat",
        "connection_id": "c1",
        "user_id": "ann",
        "hub_method": "Add",
        "error_kind": "HubException",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "ValueError"),
        (HubError("x"), "HubException"),
        (RemoteProtocolError("x"), "InvalidDataException"),
        (RemoteProtocolError("x", kind="FormatException"), "FormatException"),
    ],
)
def test_errors_are_called_as_the_reference_calls_them(error: Exception, kind: str) -> None:
    assert error_kind(error) == kind


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Add", "Add"),
        ("Größe", "Größe"),
        ("a\nERROR forged", r"a\nERROR forged"),
        ("\x1b[2J", r"\x1b[2J"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "..."),
        (ValueError("two\nlines"), r"two\nlines"),
    ],
)
def test_what_a_peer_has_written_is_one_short_line(value: object, shown: str) -> None:
    assert one_line(value) == shown
