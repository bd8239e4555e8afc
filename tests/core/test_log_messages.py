"""Each record that the core can write has its row in docs/hubs.md, and each row there is a record."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages/hubproto-core/src/hubproto_core"
LEVELS = ("debug", "info", "warning", "error")

Kind = tuple[str, str, str]  # logger, level, message


def documented(page: str) -> list[Kind]:
    """What the table of the page's section lists."""
    section = page.partition("\n## Logging\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (\w+) \| (\w+) \| `(.+?)` \|", section, re.MULTILINE)


def written(source: str) -> Iterator[Kind]:
    """What a module logs. A function that logs its parameter `text` logs what it is called with."""
    tree = ast.parse(source)
    passed_on: dict[str, list[tuple[str, str]]] = {}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for call, name, method in calls(function):
            if not re.fullmatch(r"(\w+_)?log", name) or method not in (*LEVELS, "log"):
                continue
            loggers = re.findall(r"\b(\w+)_log\b", ast.unparse(function) if name == "log" else name)
            level, message = call.args[:2] if method == "log" else (ast.Name(method.upper()), call.args[0])
            kinds = list(product(loggers, re.findall("debug|info|warning|error", ast.unparse(level).lower())))
            if ast.unparse(message) == "text":
                passed_on[function.name] = kinds
            else:
                yield from ((*kind, ast.literal_eval(message)) for kind in kinds)
    for call, _, method in calls(tree):
        yield from ((*kind, ast.literal_eval(call.args[0])) for kind in passed_on.get(method, ()))


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, str]]:
    """The calls of methods: the call, whose method it is, and which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, ast.unparse(node.func.value), node.func.attr


def test_every_record_has_its_row_and_every_row_its_record() -> None:
    rows = documented((ROOT / "docs/hubs.md").read_text(encoding="utf-8"))
    records = {kind for path in CORE.rglob("*.py") for kind in written(path.read_text(encoding="utf-8"))}
    assert sorted(rows) == sorted(records)


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("def f():\n    hub_log.info('a %s', 1)", [("hub", "info", "a %s")]),
        (
            "def f(bad):\n    http_log.log(ERROR if bad else DEBUG, 'a')",
            [("http", "error", "a"), ("http", "debug", "a")],
        ),
        (
            "def f(self, text):\n    log = hub_log if x else client_log\n    log.debug(text)\nself.f('a')\nself.f('b')",
            [("hub", "debug", "a"), ("client", "debug", "a"), ("hub", "debug", "b"), ("client", "debug", "b")],
        ),
        ("def f():\n    hub_log.isEnabledFor(DEBUG)\n    other.info('a')", []),
    ],
)
def test_records_are_found(source: str, kinds: list[Kind]) -> None:
    assert list(written(source)) == kinds


def test_a_message_that_cannot_be_found_is_no_message() -> None:
    with pytest.raises(ValueError, match="malformed"):
        list(written("def f(x):\n    hub_log.info(f'a {x}')"))


def test_nothing_is_logged_elsewhere() -> None:
    """The loggers are those of `_logs.py`; the adapters have one each, for the signals that the command line gets."""
    makers = {
        path.relative_to(ROOT / "packages").as_posix()
        for path in (ROOT / "packages").glob("*/src/**/*.py")
        if "getLogger(" in re.sub(r'"""[\s\S]*?"""', "", path.read_text(encoding="utf-8"))
    }
    assert makers == {
        "hubproto-core/src/hubproto_core/_logs.py",
        "hubproto-asyncio/src/hubproto_asyncio/__main__.py",
        "hubproto-trio/src/hubproto_trio/__main__.py",
    }
