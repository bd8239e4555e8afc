"""What a person sees beside the results."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from io import StringIO
from typing import Any

import pytest

from hubproto_core import (
    ConnectionRefused,
    HubError,
    NoCommonTransport,
    ProtocolNotSupported,
    ServerGone,
    TlsFailed,
    Transport,
    Unauthorized,
)
from hubproto_core.cli import Console, _console


class Screen(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Client:
    """A client that a test lets pass through its states."""

    transport = Transport.WEB_SOCKETS

    def __init__(self) -> None:
        self.tell: dict[str, Callable[..., None]] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda callback: self.tell.setdefault(name, callback)


STORY: list[tuple[str, tuple[Any, ...], str]] = [
    ("on_connecting", (), "connecting"),
    ("on_connected", ("abc",), "connected over WebSockets as abc"),
    ("on_reconnecting", (ServerGone("u", "u is gone: reset"),), "connection lost, reconnecting: u is gone: reset"),
    ("on_reconnecting", (HubError("too\nlate"),), "connection lost, reconnecting: too late"),
    ("on_reconnected", (None,), "reconnected over WebSockets"),
    ("on_reconnecting", (None,), "connection lost, reconnecting: the server has closed it"),
    ("on_closed", (HubError("too late"),), "closed"),
]  # fmt: skip


def tell_story(stream: StringIO) -> list[str]:
    """What is written about a client that passes through its states."""
    client = Client()
    Console(stream).watch(client)
    for name, arguments, _ in STORY:
        if client.tell:
            client.tell[name](*arguments)
    return stream.getvalue().splitlines()


@pytest.fixture
def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_console, "find_spec", lambda name: None)


@pytest.mark.usefixtures("without_rich")
def test_at_a_terminal_a_person_is_told_how_things_go() -> None:
    assert tell_story(Screen()) == [text for *_, text in STORY]


def test_elsewhere_nothing_is_told() -> None:
    assert tell_story(StringIO()) == []


@pytest.mark.skipif(not find_spec("rich"), reason="rich is not installed")
def test_rich_gives_it_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    first, second, *others = tell_story(Screen())
    assert first == "\x1b[2mconnecting\x1b[0m"
    assert second == "\x1b[32mconnected over WebSockets as abc\x1b[0m"
    assert len(others) == len(STORY) - 2  # nothing is wrapped
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in "".join(tell_story(Screen()))


@pytest.mark.skipif(not find_spec("rich"), reason="rich is not installed")
def test_rich_takes_texts_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    assert Console(screen).fail(HubError("[red]a[/] :smile: [/nothing]")) == 1
    assert screen.getvalue() == "[red]a[/] :smile: [/nothing]\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (HubError("no such\n  method\x1b[2J"), 1, "no such method [2J"),
        (HubError(""), 1, "HubError"),
        (OSError("there is no stdout"), 1, "there is no stdout"),
        (ValueError("'x' is no URL"), 2, "'x' is no URL"),
        (ConnectionRefused("u", "cannot connect to u"), 1,
         "cannot connect to u; is the server running, and is it the right port?"),
        (Unauthorized("u", "u says 401"), 1, "u says 401; --token or --header gives it the access token that it wants"),
        (ServerGone("u", "u is gone"), 1,
         "u is gone; did the server stop? With --reconnect, `listen` comes back by itself"),
        (TlsFailed("u", "u: no"), 1, "u: no; does the server speak TLS at this port? --insecure takes any certificate"),
        (NoCommonTransport("u", "u offers nothing"), 1,
         "u offers nothing; --transport and --protocol choose among what the server offers"),
        (ProtocolNotSupported("'x' is not supported"), 1,
         "'x' is not supported; --protocol chooses the other encoding"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_and_a_status(error: Exception, status: int, text: str) -> None:
    stream = StringIO()
    assert Console(stream).fail(error) == status
    assert stream.getvalue() == text + "\n"


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    stream = StringIO()
    assert Console(stream).fail(BrokenPipeError()) == 0
    assert stream.getvalue() == ""


def test_warnings_are_said_in_any_case() -> None:
    stream = StringIO()
    Console(stream).warn("look out")
    assert stream.getvalue() == "warning: look out\n"


def test_a_program_without_stderr_is_silent() -> None:
    console = Console(None)
    console.warn("look out")
    assert console.fail(HubError("no")) == 1
