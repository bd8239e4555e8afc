"""What we make of mutated records and handshakes, beside what Microsoft's parsers make of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop import _peers, _vectors
from tests.interop.differences import TEXTS, VERDICTS

ENOUGH = 4000 - 40
"""How many verdicts must agree in class and envelope."""


@pytest.fixture(scope="module")
def verdicts() -> list[_vectors.Verdict]:
    """The recorded verdicts."""
    found = _vectors.load_verdicts()
    if not found:
        _peers.missing("vectors", "HUBPROTO_VECTORS names no folder (tests/interop/README.md says what it holds)")
    return found


@pytest.mark.parametrize("protocol", ["json", "handshake", "messagepack"])
def test_verdicts(verdicts: list[_vectors.Verdict], protocol: str) -> None:
    """Every input is judged as the table says: like the reference, or differently for a reason."""
    if protocol in _vectors.NOT_YET:
        pytest.skip(f"not yet: {_vectors.NOT_YET[protocol]}")
    cases = [verdict for verdict in verdicts if verdict.protocol == protocol]
    assert cases
    wrong: dict[str, str] = {}
    wrong_text: dict[str, str] = {}
    for case in cases:
        got = _vectors.verdict_on(protocol, case.data)
        if (difference := _vectors.differs(case.verdict, got)) is not None:
            wrong[case.name] = difference
        elif (difference := _vectors.text_differs(case.verdict, got)) is not None:
            wrong_text[case.name] = difference
    assert not _surprises(wrong, VERDICTS, protocol), "class or envelope"
    assert not _surprises(wrong_text, TEXTS, protocol), "text of the error"


def test_tables(verdicts: list[_vectors.Verdict]) -> None:
    """The tables name existing inputs, and few of them."""
    names = {verdict.name for verdict in verdicts}
    assert {*VERDICTS, *TEXTS} <= names
    assert len(verdicts) - len(VERDICTS) >= ENOUGH
    assert len(TEXTS) < 40


def _surprises(found: dict[str, str], expected: dict[str, str], protocol: str) -> list[str]:
    """Differences that no table names, and entries of the table that do not differ any more."""
    new = [f"{name!r}: {difference}" for name, difference in found.items() if name not in expected]
    listed = [name for name in expected if name.partition(" ")[0] == protocol]
    return new + [f"{name!r} agrees now" for name in listed if name not in found]


INVALID = "InvalidDataException"


@pytest.mark.parametrize(
    ("wanted", "got", "differs", "text_differs"),
    [
        ({"error": "a", "exception": INVALID}, {"error": "a", "exception": INVALID}, False, False),
        ({"error": "a", "exception": INVALID}, {"error": "b", "exception": INVALID}, False, True),
        ({"error": "a", "exception": "X"}, {"error": "b", "exception": "X"}, False, False),
        ({"error": "a", "exception": "X"}, {"error": "a", "exception": INVALID}, False, True),
        ({"error": "a" * 160, "exception": INVALID}, {"error": "a" * 200, "exception": INVALID}, False, False),
        ({"error": "a", "exception": INVALID}, {"kind": "ignored", "left": 0}, True, False),
        ({"kind": "incomplete", "left": 1}, {"kind": "incomplete", "left": 1}, False, False),
        ({"kind": "incomplete", "left": 1}, {"kind": "ignored", "left": 1}, True, False),
        ({"kind": "ignored", "left": 0}, {"kind": "ignored", "left": 1}, True, False),
        ({"type": "ping", "left": 0}, {"type": "close", "left": 0}, True, False),
        ({"type": "x", "invocationId": ""}, {"type": "x", "invocationId": None}, False, False),
        ({"type": "x", "streamIds": []}, {"type": "x", "streamIds": None}, True, False),
        ({"hasResult": True}, {"hasResult": False}, True, False),
        ({"completionError": "no"}, {"completionError": "yes"}, True, False),
        (
            {"completionError": "Error trying to deserialize result to Object. Theirs."},
            {"completionError": "Error trying to deserialize result to Any. Ours."},
            False,
            False,
        ),
    ],
)
def test_comparison(wanted: dict[str, Any], got: dict[str, Any], differs: bool, text_differs: bool) -> None:
    """The comparison sees what it must see."""
    assert (_vectors.differs(wanted, got) is not None) == differs
    assert (_vectors.text_differs(wanted, got) is not None) == text_differs
