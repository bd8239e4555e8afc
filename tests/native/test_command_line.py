"""`python -m hubproto_trio` and `python -m hubproto_asyncio`, as a person at a shell meets them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ADAPTERS = [name for name in ("hubproto_trio", "hubproto_asyncio") if find_spec(name)]

HUB = """
from collections.abc import AsyncIterator

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


@hub.method("Wait")
async def wait(items: AsyncIterator[int]) -> None:
    print("waiting", flush=True)
    async for _ in items:
        pass


@hub.method("Deaf")
async def deaf(items: AsyncIterator[int]) -> None:
    print("waiting", flush=True)
    told = False
    while True:
        try:
            async for _ in items:
                pass
        except BaseException:
            if not told:
                print("cancelled", flush=True)
            told = True
"""

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


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


@contextmanager
def waiting(server: subprocess.Popen[str], port: int, target: str) -> Iterator[socket.socket]:
    """A client whose call of a method runs, and waits for an upload in vain."""
    call = f'{{"type":1,"invocationId":"1","target":"{target}","arguments":[],"streamIds":["u"]}}'
    assert server.stdout is not None
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(UPGRADE)
        for record in ('{"protocol":"json","version":1}', call):
            payload = record.encode() + b"\x1e"
            client.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)
        assert server.stdout.readline() == "waiting\n"
        yield client


def stop_listening(server: subprocess.Popen[str], port: int, number: int) -> None:
    """Send a first signal, and return when it has been taken."""
    server.send_signal(number)
    with pytest.raises(ConnectionError):
        while True:
            socket.create_connection(("127.0.0.1", port), 10).close()
    assert server.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_second_signal_cancels_what_the_first_one_let_finish(adapter: str, tmp_path: Path, number: int) -> None:
    with serving(adapter, tmp_path) as (url, server):
        port = int(url.rpartition(":")[2].partition("/")[0])
        with waiting(server, port, "Wait") as client:
            since = time.monotonic()
            stop_listening(server, port, number)
            server.send_signal(number)
            assert server.wait(10) == 0
            assert time.monotonic() - since < 4  # the first alone would have waited for 5 s
            received = b""
            while data := client.recv(4096):
                received += data
    error = b"An unexpected error occurred invoking 'Wait' on the server."
    assert b'{"type":3,"invocationId":"1","error":"%s"}\x1e{"type":7,"allowReconnect":true}\x1e' % error in received


def test_a_third_signal_ends_a_process_that_does_not_want_to_end(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        port = int(url.rpartition(":")[2].partition("/")[0])
        with waiting(server, port, "Deaf"):
            stop_listening(server, port, signal.SIGTERM)
            server.send_signal(signal.SIGTERM)
            assert server.stdout is not None
            assert server.stdout.readline() == "cancelled\n"
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == -signal.SIGTERM


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
