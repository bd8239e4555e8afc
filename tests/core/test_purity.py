"""The core does no I/O and reads neither a clock nor a source of entropy: all that is handed to it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "packages/hubproto-core/src/hubproto_core"
MODULES = sorted(file.relative_to(CORE).as_posix() for file in CORE.rglob("*.py"))

FORBIDDEN = (
    *("asyncio", "trio", "anyio", "sniffio", "threading"),
    *("os", "socket", "ssl", "select", "selectors"),
    *("time", "datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow"),
    *("random", "secrets", "uuid.uuid1", "uuid.uuid4"),
)
"""A name here stands for all that is inside it, too."""

HOMES = {
    "h11": "http/",
    "wsproto": "http/",
    "msgpack": "_codecs/_msgpack",
    "opentelemetry": "opentelemetry.py",
    "rich": "cli/_console.py",
}
"""The only folder or module of the core that may import these."""


def impurities(source: str, module: str) -> list[str]:
    """What the core must not do and *source* does, if it stands in *module* (a path below the core's folder)."""
    tree = ast.parse(source)
    names = set(_outside_names(tree))
    forbidden = {ban for ban in FORBIDDEN for name in names if _is_within(name, ban)}
    misplaced = {
        library
        for library, home in HOMES.items()
        for name in names
        if _is_within(name, library) and not module.startswith(home)
    }
    return sorted(forbidden | misplaced | set(_async_syntax(tree)))


def _outside_names(tree: ast.Module) -> Iterator[str]:
    """Full dotted names of all that is imported, and of all attributes taken from it."""
    imported = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield alias.name
                    top = alias.name.partition(".")[0]
                    imported[alias.asname or top] = alias.name if alias.asname else top
            case ast.ImportFrom(module=str(parent), names=aliases, level=0):
                for alias in aliases:
                    yield f"{parent}.{alias.name}"
                    imported[alias.asname or alias.name] = f"{parent}.{alias.name}"

    def full_name(node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return imported.get(name, "")
            case ast.Attribute(value=owner, attr=attribute) if found := full_name(owner):
                return f"{found}.{attribute}"
        return ""

    yield from (full_name(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def _is_within(name: str, outer: str) -> bool:
    return name == outer or name.startswith(f"{outer}.")


def _async_syntax(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.comprehension(is_async=1):
                yield "async"
            case ast.Await():
                yield "await"


@pytest.mark.parametrize("module", MODULES)
def test_core_is_pure(module: str) -> None:
    assert impurities((CORE / module).read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        ("import time", "time"),
        ("import time as clock", "time"),
        ("from time import monotonic", "time"),
        ("def later():\n    import time", "time"),
        ("import concurrent.futures, asyncio.tasks", "asyncio"),
        ("from os import urandom", "os"),
        ("import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
        ("import datetime as dt\nnow = dt.datetime.utcnow", "datetime.datetime.utcnow"),
        ("from datetime import datetime as moment\nmoment.now(None)", "datetime.datetime.now"),
        ("from datetime import date\ndate.today()", "datetime.date.today"),
        ("from uuid import uuid4", "uuid.uuid4"),
        ("import h11", "h11"),
        ("from wsproto.events import Ping", "wsproto"),
        ("import msgpack", "msgpack"),
        ("from opentelemetry import trace", "opentelemetry"),
        ("from rich.console import Console", "rich"),
        ("async def f(): pass", "async"),
        ("lambda: [x async for x in y]", "async"),
        ("lambda: (await x)", "await"),
    ],
)
def test_impurity_is_reported(source: str, reported: str) -> None:
    assert impurities(source, "_connection.py") == [reported]


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)", "_hub.py"),
        ("from collections.abc import AsyncIterator", "_hub.py"),
        ("from . import time", "_hub.py"),
        ("def f(clock): return clock.now", "testing.py"),
        ("import timeit, osmium", "_hub.py"),
        ("import h11, wsproto", "http/_h11.py"),
        ("import msgpack", "_codecs/_msgpack.py"),
        ("from opentelemetry import trace", "opentelemetry.py"),
    ],
)
def test_pure_source_is_not_reported(source: str, module: str) -> None:
    assert impurities(source, module) == []
