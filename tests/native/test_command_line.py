"""`python -m hubproto_trio` and `python -m hubproto_asyncio`, as a person at a shell meets them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ADAPTERS = [name for name in ("hubproto_trio", "hubproto_asyncio") if find_spec(name)]

HUB = """
from hubproto_core import Hub

hub = Hub()


@hub.method("Add")
def add(x: int, y: int) -> int:
    return x + y


@hub.method("Count")
async def count(n: int):
    for i in range(n):
        yield {"i": i}


@hub.method("Fail")
def fail() -> None:
    raise ValueError("the reason")
"""


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextmanager
def serving(adapter: str, folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of the hub above, and its address."""
    (folder / "my_hubs.py").write_text(HUB)
    command = [sys.executable, "-m", adapter, "serve", "my_hubs:hub", "--port", "0", "--path", "/chat", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            yield line.removeprefix("listening on ").strip(), server
        finally:
            server.kill()


def run(adapter: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", adapter, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


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


def test_what_cannot_be_is_one_line(adapter: str) -> None:
    status, output, error = run(adapter, "invoke", "http://127.0.0.1:1/chat", "Add", "1", "2")
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert "cannot connect to http://127.0.0.1:1/chat/negotiate" in error
    assert run(adapter, "invoke", "chat", "Add")[0] == 1
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
