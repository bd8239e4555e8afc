"""`python -m hubproto_trio` and `python -m hubproto_asyncio`, as a person at a shell meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.command_line import HUB, run, serving


def test_a_hub_is_served_and_called(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        assert run(adapter, "invoke", url, "Add", "2", "3") == (0, "5\n", "")
        assert run(adapter, "invoke", "--protocol", "messagepack", url, "Add", "2", "3") == (0, "5\n", "")
        assert run(adapter, "stream", url, "Count", "2") == (0, '{"i":0}\n{"i":1}\n', "")
        masked = "An unexpected error occurred invoking 'Fail' on the server.\n"
        assert run(adapter, "invoke", url, "Fail") == (1, "", masked)
        status, output, error = run(adapter, "stream", url + "x", "Count", "2")
        assert (status, output) == (1, "")
        assert "404; is it the address of a SignalR hub?" in error
        assert error.count("\n") == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def test_detailed_errors_are_asked_for(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path, "--detailed-errors") as (url, _):
        error = "An unexpected error occurred invoking 'Fail' on the server. ValueError: the reason\n"
        assert run(adapter, "invoke", url, "Fail") == (1, "", error)


@pytest.mark.parametrize("options", [[], ["--stateful"]])
def test_clients_may_be_let_reconnect_statefully(adapter: str, tmp_path: Path, options: list[str]) -> None:
    with serving(adapter, tmp_path, *options) as (url, _):
        wish = "negotiateVersion=1&useStatefulReconnect=true"
        with urllib.request.urlopen(urllib.request.Request(f"{url}/negotiate?{wish}", method="POST")) as answer:
            assert json.load(answer).get("useStatefulReconnect", False) is bool(options)


def test_pages_of_other_origins_may_be_let_in(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path, "--origin", "http://localhost:5173") as (url, _):
        request = urllib.request.Request(f"{url}/negotiate", method="POST", headers={"Origin": "http://localhost:5173"})
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    command = [sys.executable, "-m", adapter, "serve", "my_hubs:hub", "--origin", "*"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'*' is no origin" in done.stderr


def test_what_cannot_be_is_one_line(adapter: str) -> None:
    status, output, error = run(adapter, "invoke", "http://127.0.0.1:1/chat", "Add", "1", "2")
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert "cannot connect to http://127.0.0.1:1/chat/negotiate" in error
    assert run(adapter, "invoke", "chat", "Add") == (2, "", "'chat' is no http:// or https:// URL\n")
    status, _, error = run(adapter, "invoke", "http://127.0.0.1:1/chat", "Add", "two")
    assert status == 2
    assert "'two' is no JSON" in error


def test_a_port_that_is_taken_is_one_line(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _):
        port = url.rpartition(":")[2].partition("/")[0]
        (tmp_path / "my_hubs.py").write_text(HUB)
        command = [sys.executable, "-m", adapter, "serve", "my_hubs:hub", "--port", port]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


# signals


@contextmanager
def calling_slow(adapter: str, url: str, server: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A client that waits for a call which never ends."""
    command = [sys.executable, "-m", adapter, "invoke", url, "Slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        try:
            assert server.stdout is not None
            assert [server.stdout.readline() for _ in range(2)] == ["connected\n", "begun\n"]
            yield client
        finally:
            client.kill()


def log_of(server: subprocess.Popen[str], adapter: str) -> list[str]:
    """What the adapter has logged, without the time; nothing else may be there."""
    assert server.stderr is not None
    lines = server.stderr.read().splitlines()
    assert all(f" {adapter}: " in line for line in lines), lines
    return [line.partition(f" {adapter}: ")[2] for line in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_in_order_and_one_line_says_so(
    adapter: str, number: signal.Signals, tmp_path: Path
) -> None:
    with serving(adapter, tmp_path) as (_, server):
        server.send_signal(number)
        assert server.wait(10) == 0
        assert log_of(server, adapter) == [
            f"{number.name}: shutting down; running calls have 5 s to end, another signal cancels them at once"
        ]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_cancels_everything_at_once(adapter: str, second: signal.Signals, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server), calling_slow(adapter, url, server) as client:
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None
        assert "SIGTERM: shutting down" in server.stderr.readline()
        server.send_signal(second)
        assert server.wait(4) == 128 + second
        assert log_of(server, adapter) == [f"{second.name}: cancelling what still runs"]
        assert server.stdout is not None
        assert sorted(server.stdout.read().splitlines()) == ["disconnected", "ended"]
        assert client.wait(10) == 1
