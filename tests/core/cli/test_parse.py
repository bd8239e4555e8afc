"""What the arguments of the command line ask for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubproto_core import Hub, HubConfig, Transport
from hubproto_core.cli import (
    STDIN,
    CallCommand,
    ClientCommand,
    InvokeCommand,
    ListenCommand,
    SendCommand,
    ServeCommand,
    StreamCommand,
    Way,
    parse,
)

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
    assert not command.stateful
    assert command.config == HubConfig(max_parallel_calls=3)


def test_serve_takes_options() -> None:
    options = ["--host", "::1", "--port", "0", "--path", "/chat", "--detailed-errors", "--stateful"]
    options += ["--origin", "http://localhost:5173", "--origin", "https://app.example.com"]
    command = parse(["serve", "some_hubs:hub", *options], "prog")
    assert isinstance(command, ServeCommand)
    assert (command.host, command.port, command.path) == ("::1", 0, "/chat")
    assert command.origins == ("http://localhost:5173", "https://app.example.com")
    assert command.stateful
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


CALLS: dict[str, type[InvokeCommand | StreamCommand | SendCommand]] = {
    "invoke": InvokeCommand,
    "stream": StreamCommand,
    "send": SendCommand,
}
WAY = Way("http://h/chat")


def asked(*arguments: str) -> ClientCommand:
    """What the arguments of a client ask for."""
    command = parse(arguments, "prog")
    assert not isinstance(command, ServeCommand)
    return command


@pytest.mark.parametrize("name", CALLS)
def test_calls_take_json_arguments(name: str) -> None:
    command = asked(name, "http://h/chat", "Add", "1", "-1.5", '"x"', '{"a":[null]}')
    assert command == CALLS[name](WAY, "Add", (1, -1.5, "x", {"a": [None]}))
    assert asked(name, "http://h/chat", "Add") == CALLS[name](WAY, "Add")


def test_arguments_that_look_like_options_follow_two_dashes() -> None:
    assert asked("invoke", "http://h/chat", "Add", "--", "-1e5") == InvokeCommand(WAY, "Add", (-1e5,))


@pytest.mark.parametrize("name", ["invoke", "stream"])
def test_a_call_may_upload_what_comes_from_stdin(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = asked(name, "http://h/chat", "Upload", "1", "-")
    assert isinstance(command, CallCommand)
    assert command.arguments == (1, STDIN)
    assert command.filled(lambda: "an upload") == (1, "an upload")
    assert refused(capsys, name, "http://h/chat", "Upload", "-", "-").endswith(
        "error: there is only one stdin: - can be given once"
    )


def test_what_is_only_sent_takes_no_upload(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "send", "http://h/chat", "Upload", "-").endswith("and so sends no upload: invoke does")


def test_listening_takes_targets_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("listen", "http://h/chat") == ListenCommand(WAY, (), None)
    assert asked("listen", "http://h/chat", "said", "joined", "--count", "3") == ListenCommand(
        WAY, ("said", "joined"), 3
    )
    for count in ("0", "-1", "many"):
        assert refused(capsys, "listen", "http://h/chat", f"--count={count}").endswith(
            f"argument --count: {count!r} is no number of lines; write 1 or more"
        )


OPTIONS = {
    "--protocol messagepack": Way("http://h/chat", protocol="messagepack"),
    "--transport websockets": Way("http://h/chat", transports=(Transport.WEB_SOCKETS,)),
    "--transport sse": Way("http://h/chat", transports=(Transport.SERVER_SENT_EVENTS,)),
    "--transport longpolling": Way("http://h/chat", transports=(Transport.LONG_POLLING,)),
    "--token secret": Way("http://h/chat", access_token="secret"),
    "--header X-One:1 --header x-two:a:b": Way("http://h/chat", headers={"x-one": "1", "x-two": "a:b"}),
    "--header Empty:": Way("http://h/chat", headers={"empty": ""}),
    "--insecure": Way("http://h/chat", insecure=True),
    "--reconnect": Way("http://h/chat", reconnect=True),
    "--stateful": Way("http://h/chat", stateful=True),
    "--connect-timeout 0.5": Way("http://h/chat", connect_timeout=0.5),
    "--proxy env": Way("http://h/chat", proxy="env"),
    "--proxy http://me:word@p:3128": Way("http://h/chat", proxy="http://me:word@p:3128"),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_the_way_may_be_chosen_anywhere_among_the_arguments(options: str) -> None:
    way, words = OPTIONS[options], options.split()
    for name, kind in CALLS.items():
        assert asked(name, *words, "http://h/chat", "Add", "1") == kind(way, "Add", (1,))
        assert asked(name, "http://h/chat", "Add", *words, "1") == kind(way, "Add", (1,))
        assert asked(name, "http://h/chat", "Add", "1", *words) == kind(way, "Add", (1,))
    assert asked("listen", "http://h/chat", *words, "said") == ListenCommand(way, ("said",))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--protocol xml", "invalid choice: 'xml'"),
        ("--transport tcp", "invalid choice: 'tcp'"),
        ("--transport sse --protocol messagepack", "server-sent events carry text only, and messagepack is none"),
        ("--header X-One", "'X-One' is no header; write 'Name: value'"),
        ("--header :1", "':1' is no header; write 'Name: value'"),
        ("--header A:1 --header a:2", "a header can be given once"),
        ("--connect-timeout 0", "'0' is no time; write seconds, more than 0"),
        ("--connect-timeout nan", "'nan' is no time"),
        ("--connect-timeout soon", "'soon' is no time"),
    ],
)
def test_a_way_that_cannot_be_is_refused(options: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in refused(capsys, "invoke", *options.split(), "http://h/chat", "Now")


def test_a_way_is_the_options_of_a_client() -> None:
    words = ["--token", "secret", "--header", "a: b", "--reconnect", "--proxy", "http://me:secret@p"]
    command = asked("invoke", *words, "http://h/chat", "Now")
    assert command.way.options == {
        "protocol": "json",
        "transports": tuple(Transport),
        "access_token": "secret",
        "headers": {"a": "b"},
        "reconnect": True,
        "stateful": False,
        "connect_timeout": 30.0,
        "proxy": "http://me:secret@p",
    }
    assert "secret" not in repr(command)


@pytest.mark.parametrize("name", ["invoke", "stream", "send", "listen"])
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse([name, "--help"], "python -m adapter")
    assert not left.value.code
    text = capsys.readouterr().out
    assert f"\n  python -m adapter {name} http" in text
    assert "exit status: 0 in order" in text


def test_the_examples_of_help_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("invoke", "stream", "send", "listen"):
        with pytest.raises(SystemExit):
            parse([name, "--help"], "PROG")
        examples = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and "PROG" in line]
        for example in examples:
            command = example.partition("PROG")[2].partition(" | ")[0]
            assert asked(*shlex.split(command)).way.url.startswith("http")


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
