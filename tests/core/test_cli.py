"""The command line as data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubproto_core import Hub, HubConfig
from hubproto_core.cli import InvokeCommand, ServeCommand, StreamCommand, parse, to_json

MODULE = """
from hubproto_core import Hub, HubConfig
hub = Hub(HubConfig(max_parallel_calls=3))
open_hub = Hub(HubConfig(detailed_errors=True))
no_hub = 5
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "some_hubs.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_hubs.py").write_text("import broken", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("some_hubs", "broken_hubs"):
        sys.modules.pop(name, None)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is printed when the arguments ask for nothing sensible."""
    with pytest.raises(SystemExit) as left:
        parse(arguments, "python -m adapter")
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_serve_has_defaults() -> None:
    command = parse(["serve", "some_hubs:hub"], "prog")
    assert isinstance(command, ServeCommand)
    assert isinstance(command.hub, Hub)
    assert (command.host, command.port, command.path, command.origins) == ("127.0.0.1", 8000, "/", ())
    assert command.config == HubConfig(max_parallel_calls=3)


def test_serve_takes_options() -> None:
    options = ["--host", "::1", "--port", "0", "--path", "/chat", "--detailed-errors"]
    options += ["--origin", "http://localhost:5173", "--origin", "https://app.example.com"]
    command = parse(["serve", "some_hubs:hub", *options], "prog")
    assert isinstance(command, ServeCommand)
    assert (command.host, command.port, command.path) == ("::1", 0, "/chat")
    assert command.origins == ("http://localhost:5173", "https://app.example.com")
    assert command.config == HubConfig(max_parallel_calls=3, detailed_errors=True)


def test_serve_tells_details_if_the_hub_does() -> None:
    command = parse(["serve", "some_hubs:open_hub"], "prog")
    assert isinstance(command, ServeCommand)
    assert command.config.detailed_errors


def test_modules_are_found_beside_the_user_once() -> None:
    for _ in range(2):
        parse(["serve", "some_hubs:hub"], "prog")
    assert sys.path.count("") == 1


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("some_hubs", "'some_hubs' names no hub; write MODULE:HUB, for example chat.hubs:hub"),
        (":hub", "':hub' names no hub; write MODULE:HUB, for example chat.hubs:hub"),
        ("some_hubs:", "'some_hubs:' names no hub; write MODULE:HUB, for example chat.hubs:hub"),
        ("no_such.hubs:hub", "there is no module 'no_such.hubs' here or among the installed ones"),
        ("some_hubs:no_hub", "'some_hubs:no_hub' is no Hub but int"),
        ("some_hubs:nothing", "'some_hubs:nothing' is no Hub but NoneType"),
    ],
)
def test_what_is_no_hub_is_refused_in_one_line(reference: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "serve", reference) == f"python -m adapter: error: {text}"


def test_a_module_that_cannot_be_imported_shows_why() -> None:
    with pytest.raises(ModuleNotFoundError, match="'broken'"):
        parse(["serve", "broken_hubs:hub"], "prog")


def test_a_path_starts_with_a_slash(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "serve", "some_hubs:hub", "--path", "chat").endswith("--path starts with a slash: 'chat'")


@pytest.mark.parametrize(("name", "kind"), [("invoke", InvokeCommand), ("stream", StreamCommand)])
def test_calls_take_json_arguments(name: str, kind: type[InvokeCommand | StreamCommand]) -> None:
    command = parse([name, "http://h/chat", "Add", "1", '"x"', '{"a":[null]}'], "prog")
    assert command == kind("http://h/chat", "Add", (1, "x", {"a": [None]}))
    assert parse([name, "http://h/chat", "Add"], "prog") == kind("http://h/chat", "Add", ())


@pytest.mark.parametrize("name", ["invoke", "stream"])
def test_calls_take_an_encoding(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = parse([name, "--protocol", "messagepack", "http://h/chat", "Now"], "prog")
    assert isinstance(command, InvokeCommand | StreamCommand)
    assert command.protocol == "messagepack"
    assert "invalid choice: 'xml'" in refused(capsys, name, "--protocol", "xml", "http://h/chat", "Now")


def test_what_is_no_json_is_refused_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "invoke", "http://h/chat", "Echo", "hello")
    assert "'hello' is no JSON" in text
    assert text.endswith("text needs its quotes: '\"hello\"'")


def test_a_server_says_what_a_signal_does() -> None:
    command = parse(["serve", "some_hubs:hub"], "prog")
    assert isinstance(command, ServeCommand)
    assert command.farewell("SIGINT", again=False) == (
        "SIGINT: shutting down; running calls have 5 s to end, another signal cancels them at once"
    )
    assert command.farewell("SIGTERM", again=True) == "SIGTERM: cancelling what still runs"


def test_results_are_shown_as_one_line() -> None:
    assert to_json({"a": [1, None, "\n\u2603"]}) == '{"a":[1,null,"\\n\u2603"]}'
    assert to_json([b"hi", datetime(2024, 2, 29, tzinfo=UTC), 1j]) == '["aGk=","2024-02-29T00:00:00Z","1j"]'
