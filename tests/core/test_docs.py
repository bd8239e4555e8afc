"""The generated parts of the docs are those of the code and the tests as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import PAGES, PARTS, generated


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == generated(text), f"docs/{page.name} is stale: run python -m docs.generate"


def test_every_part_is_on_one_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [text.count(f"<!-- generated: {name} -->\n") for name in PARTS] == [1] * len(PARTS)
    assert text.count("<!-- end -->") == len(PARTS)


def test_a_stale_part_is_written_again_and_nothing_else_is_touched() -> None:
    page = "before\n<!-- generated: our uploads -->\nold\n<!-- end -->\nafter\n"
    fresh = generated(page)
    assert fresh == generated(fresh)
    assert fresh == (
        "before\n<!-- generated: our uploads -->\n\n```mermaid\nstateDiagram-v2\n    [*] --> reserved\n"
        "    reserved --> upload : a call carries it\n    upload --> upload : StreamItem\n"
        "    upload --> [*] : Completion\n```\n\n<!-- end -->\nafter\n"
    )
