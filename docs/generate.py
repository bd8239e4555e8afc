"""Write into the pages of this folder what is generated in them: `python -m docs.generate`, in the project's root.

The tables of violations.md are the rows of tests/core/test_violations.py; the diagrams of states.md are the transition
tables of hubproto_core._states.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from hubproto_core import _states
from tests.core import test_violations as violations

HERE = Path(__file__).parent
PAGES = [HERE / "states.md", HERE / "violations.md"]

_PART = re.compile(r"(?<=<!-- generated: )(?P<name>[\w ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_LONGEST_EXAMPLE = 100

StateT = TypeVar("StateT", bound=StrEnum)
StepT = TypeVar("StepT", bound=StrEnum)


def generated(page: str) -> str:
    """Return the text of a page with all its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part['name']}{part[2]}\n{PARTS[part['name']]()}\n", page)


def diagram(table: Mapping[StateT, Mapping[StepT, StateT]]) -> str:
    """Draw a transition table.

    It begins in what nothing leads to, or else in the first state, and ends in what leads nowhere.
    """
    reached = {after for state, steps in table.items() for after in steps.values() if after is not state}
    begins = [state for state in table if state not in reached] or list(table)[:1]
    arrows: dict[tuple[str, str], list[StepT]] = {("[*]", state): [] for state in begins}
    for state, steps in table.items():
        for step, after in steps.items():
            arrows.setdefault((state, after if after in table else "[*]"), []).append(step)
        if not steps:
            arrows[state, "[*]"] = []
    lines = [f"    {one} --> {other}{' : ' * bool(by)}{'<br/>'.join(by)}" for (one, other), by in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```\n"])


def violation_table(rows: Iterable[violations.Violation]) -> str:
    """List what a peer may do wrong."""
    return _table(
        ("when", "what", "for example", "outcome", "text"),
        (
            (
                row.stage.value,
                row.title,
                _example(row.json) if row.json is not None else "",
                row.outcome.value,
                _code(f"{row.kind}: {row.text}" if row.kind else row.text),
            )
            for row in rows
        ),
    )


def packed_violation_table(rows: Iterable[violations.PackedViolation]) -> str:
    """List what a client may do wrong in MessagePack."""
    return _table(
        ("what", "for example", "outcome", "text"),
        (
            (
                row.title,
                _code(row.record),
                row.outcome.value,
                _code(f"{row.kind}: {row.text}" if row.kind and row.outcome is violations.CLOSES else row.text),
            )
            for row in rows
        ),
    )


def misuse_table(rows: Iterable[violations.Misuse]) -> str:
    """List what the user may do wrong."""
    return _table(("what", "text"), ((row.title, _code(row.text)) for row in rows))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _example(data: bytes) -> str:
    text = " ".join(data.decode("utf-8", "backslashreplace").split("\x1e")[:-1])
    return _code(text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…")


def _code(text: str) -> str:
    if not text:
        return ""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


PARTS: dict[str, Callable[[], str]] = {
    "client": lambda: diagram(_states.CLIENT),
    "connection": lambda: diagram(_states.CONNECTION),
    "our calls": lambda: diagram(_states.OUR_CALL),
    "our uploads": lambda: diagram(_states.OUR_UPLOAD),
    "their calls": lambda: diagram(_states.THEIR_CALL),
    "their uploads": lambda: diagram(_states.THEIR_UPLOAD),
    "clients": lambda: violation_table(violations.BY_CLIENTS),
    "clients in MessagePack": lambda: packed_violation_table(violations.IN_MESSAGEPACK),
    "servers": lambda: violation_table(violations.BY_SERVERS),
    "users": lambda: misuse_table(violations.MISUSES),
}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")
