"""`invoke`, `stream`, `send` and `listen` of both adapters, as a person at a shell meets them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import ssl
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from tests.kit.command_line import HUB, next_line, run, running, serving

WAYS = [("websockets", "json"), ("sse", "json"), ("longpolling", "messagepack")]

TLS_SERVER = {
    "hubproto_trio": """
import ssl, sys, trio, my_hubs
from functools import partial
from hubproto_trio import serve

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, my_hubs.hub, ssl_context=context))
        print(server.port, flush=True)

trio.run(main)
""",
    "hubproto_asyncio": """
import asyncio, ssl, sys
from hubproto_asyncio import serve
import my_hubs

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
    async with serve(my_hubs.hub, ssl_context=context) as server:
        print(server.port, flush=True)
        await server.wait_closed()

asyncio.run(main())
""",
}


def eventually(probe: Callable[[], bool]) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + 10
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_until(server: subprocess.Popen[str], *lines: str) -> None:
    """Read what a server prints until it has printed all of these lines."""
    missing = list(lines)
    while missing:
        line = next_line(server.stdout)
        assert line, f"the server has ended without {missing}"
        if line in missing:
            missing.remove(line)


@pytest.mark.parametrize(("transport", "protocol"), WAYS)
def test_every_command_goes_over_every_transport(adapter: str, transport: str, protocol: str, tmp_path: Path) -> None:
    way = ("--transport", transport, "--protocol", protocol)
    with serving(adapter, tmp_path) as (url, server):
        assert run(adapter, "invoke", *way, url, "Add", "2", "3") == (0, "5\n", "")
        assert run(adapter, "stream", *way, url, "Count", "2") == (0, '{"i":0}\n{"i":1}\n', "")
        assert run(adapter, "invoke", *way, url, "Sum", "-", "10", stdin="1\n2\n\n3") == (0, "16\n", "")
        assert run(adapter, "send", *way, url, "Say", '"hi"') == (0, "", "")
        read_until(server, "said hi")
        with running(adapter, "listen", *way, "--count", "3", url) as client:
            assert json.loads(next_line(client.stdout)) == {"target": "welcome", "arguments": [1]}
            assert json.loads(next_line(client.stdout)) == {"target": "welcome", "arguments": [2]}
            assert run(adapter, "send", url, "Say", '"hi"')[0] == 0
            assert json.loads(next_line(client.stdout)) == {"target": "said", "arguments": ["hi", 2]}
            assert client.wait(10) == 0


def test_only_what_was_asked_for_is_listened_to(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        with running(adapter, "listen", url, "sAId", "--count", "2") as client:
            read_until(server, "connected")
            for text in ("a", "bc"):
                assert run(adapter, "invoke", url, "Say", f'"{text}"')[0] == 0
            assert client.communicate(timeout=10) == (
                '{"target":"said","arguments":["a",1]}\n{"target":"said","arguments":["bc",2]}\n',
                "",
            )
            assert client.returncode == 0


def test_items_go_up_and_down_as_they_come(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _), running(adapter, "stream", url, "Squares", "-") as client:
        assert client.stdin is not None
        for number in (3, 4, 5):
            client.stdin.write(f"{number}\n")
            assert next_line(client.stdout) == str(number**2)
        client.stdin.close()
        assert client.wait(10) == 0


def test_a_line_of_stdin_that_is_no_json_is_told(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _):
        status, output, error = run(adapter, "invoke", url, "Sum", "-", "0", stdin="1\ntwo\n3\n")
        assert (status, output, error.count("\n")) == (1, "", 1)
        assert error.startswith("line 2 of the input is no JSON: ")


def test_an_input_that_cannot_be_read_is_told(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _):
        for redirection, error in {"<&-": "there is no stdin", "0>/dev/null": "[Errno 9] Bad file descriptor"}.items():
            program = f'"$0" -m "$@" {redirection}'
            command = ["sh", "-c", program, sys.executable, adapter, "invoke", url, "Sum", "-", "0"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"the input cannot be read: {error}\n"


# errors


def test_errors_are_one_line(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _):
        assert run(adapter, "invoke", url, "Nothing") == (
            1,
            "",
            "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.\n",
        )
        status, _, error = run(adapter, "stream", url, "Add", "1", "2")
        assert (status, error.count("\n")) == (1, 1)
        for command in ("invoke", "stream", "send"):
            status, output, error = run(adapter, command, f"{url}/x", "Add", "1", "2")
            assert (status, output, error.count("\n")) == (1, "", 1)
            assert "404; is it the address of a SignalR hub?" in error


def test_who_may_not_come_in_is_told_how_to(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path, hub="closed_hub") as (url, _):
        status, output, error = run(adapter, "listen", "--token", "secret", url)
        assert (status, output, error.count("\n")) == (1, "", 1)
        assert "status 401; --token or --header gives it the access token that it wants" in error
        assert "secret" not in error


def test_headers_and_the_token_are_sent(adapter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/chat"
        options = ("--token", "secret", "--header", "X-Lab: one, two")
        with running(adapter, "invoke", *options, url, "Add") as client, listener.accept()[0] as server:
            request = b""
            while b"\r\n\r\n" not in request:
                request += server.recv(65536)
            server.close()
            assert client.wait(10) == 1
    lines = request.decode().lower().split("\r\n")
    assert "authorization: bearer secret" in lines
    assert "x-lab: one, two" in lines


def test_an_attempt_takes_only_so_long(adapter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/chat"
        status, output, error = run(adapter, "listen", "--connect-timeout", "0.2", url)
        assert (status, output) == (1, "")
        assert error.startswith(f"no connection to {url} within 0.2 s; ")


@contextmanager
def serving_tls(adapter: str, folder: Path) -> Iterator[str]:
    """A server whose certificate nobody knows."""
    (folder / "my_hubs.py").write_text(HUB)
    (folder / "tls_server.py").write_text(TLS_SERVER[adapter])
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "pem"))
    with subprocess.Popen(
        [sys.executable, "tls_server.py", "pem"], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            yield f"https://127.0.0.1:{next_line(server.stdout)}/"
        finally:
            server.kill()


@pytest.mark.parametrize("transport", ["websockets", "longpolling"])
def test_certificates_are_verified_unless_told_otherwise(adapter: str, transport: str, tmp_path: Path) -> None:
    with serving_tls(adapter, tmp_path) as url:
        status, output, error = run(adapter, "invoke", "--transport", transport, url, "Add", "2", "3")
        assert (status, output, error.count("\n")) == (1, "", 1)
        assert ssl.SSLCertVerificationError.__name__ not in error
        assert "certificate verify failed" in error
        assert error.endswith("; does the server speak TLS at this port? --insecure takes any certificate\n")
        warning = "warning: --insecure: nobody checks who the server is\n"
        assert run(adapter, "invoke", "--transport", transport, "--insecure", url, "Add", "2", "3") == (
            0,
            "5\n",
            warning,
        )


# the end


@pytest.mark.parametrize(
    ("transport", "number", "status"),
    [
        ("websockets", signal.SIGTERM, 143),
        ("websockets", signal.SIGINT, 130),
        ("sse", signal.SIGINT, 130),
        ("longpolling", signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_a_stream_in_order(
    adapter: str, transport: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    with serving(adapter, tmp_path) as (url, server):
        with running(adapter, "stream", "--transport", transport, url, "Ticks", "0.01") as client:
            assert next_line(client.stdout) == "0"
            begun = time.monotonic()
            client.send_signal(number)
            read_until(server, "ticks ended", "disconnected")
            assert client.wait(10) == status
            assert (
                time.monotonic() - begun < 10
            )  # without a farewell, a server of long polling waits 15 s for its client
            assert client.stderr is not None
            assert client.stderr.read() == ""


def test_a_signal_ends_listening(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server), running(adapter, "listen", url) as client:
        assert "welcome" in next_line(client.stdout)
        client.send_signal(signal.SIGINT)
        read_until(server, "disconnected")
        assert client.communicate(timeout=10)[1] == ""
        assert client.returncode == 130


def test_a_signal_ends_an_attempt_to_connect(adapter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/chat"
        with running(adapter, "listen", url) as client, silent.accept()[0]:
            client.send_signal(signal.SIGINT)
            assert client.communicate(timeout=10) == ("", "")
            assert client.returncode == 130


def test_a_signal_ends_an_upload_that_waits_for_stdin(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _), running(adapter, "stream", url, "Squares", "-") as client:
        assert client.stdin is not None
        client.stdin.write("2\n")
        assert next_line(client.stdout) == "4"
        client.send_signal(signal.SIGINT)
        assert client.wait(10) == 130
        assert client.stderr is not None
        assert client.stderr.read() == ""


def test_a_second_signal_does_not_wait_for_a_server_that_is_silent(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server), running(adapter, "listen", url) as client:
        assert "welcome" in next_line(client.stdout)
        server.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        client.send_signal(signal.SIGTERM)
        client.send_signal(signal.SIGINT)  # not the same, for two of one kind that come at once may count as one
        assert client.wait(10) in (130, 143)
        assert time.monotonic() - begun < 4  # the farewell may take 5 s


def test_a_reader_that_has_had_enough_ends_a_stream_quietly(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        with running(adapter, "stream", "--transport", "longpolling", url, "Ticks", "0.01") as client:
            assert client.stdout is not None
            assert next_line(client.stdout) == "0"
            client.stdout.close()
            read_until(server, "ticks ended", "disconnected")
            assert client.wait(10) == 0
            assert client.stderr is not None
            assert client.stderr.read() == ""


def test_a_reader_that_has_had_enough_ends_listening_quietly(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server), running(adapter, "listen", url) as client:
        assert client.stdout is not None
        assert "welcome" in next_line(client.stdout)
        client.stdout.close()
        read_until(server, "connected")
        assert run(adapter, "send", url, "Say", '"hi"')[0] == 0
        assert client.wait(10) == 0
        assert client.stderr is not None
        assert client.stderr.read() == ""


def test_a_reader_that_does_not_read_holds_up_no_signal(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server), running(adapter, "stream", url, "Ticks", "0") as client:
        assert client.stdout is not None
        pipe = client.stdout.fileno()
        full = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) if sys.platform == "linux" else 8192

        def is_full() -> bool:
            waiting = fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")
            return int.from_bytes(waiting, sys.byteorder) > full - select.PIPE_BUF

        eventually(is_full)
        client.send_signal(signal.SIGINT)
        read_until(server, "ticks ended", "disconnected")
        assert client.wait(10) == 130
        assert client.stderr is not None
        assert client.stderr.read() == ""


def test_output_that_cannot_be_written_is_told(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, _):
        command = ["sh", "-c", '"$0" -m "$@" >&-', sys.executable, adapter, "invoke", url, "Add", "2", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (1, "there is no stdout\n")
        if Path("/dev/full").exists():
            for arguments in (("stream", url, "Count", "2"), ("listen", url)):
                with open("/dev/full", "w") as full, running(adapter, *arguments, stdout=full) as client:
                    assert "No space left on device" in client.communicate(timeout=10)[1]
                    assert client.returncode == 1


# the connection


def test_listening_goes_on_when_the_server_is_back(adapter: str, tmp_path: Path) -> None:
    with ExitStack() as servers:
        url, server = servers.enter_context(serving(adapter, tmp_path))
        port = int(url.rpartition(":")[2].partition("/")[0])
        with running(adapter, "listen", "--reconnect", url, "said") as client:
            for text in ("one", "two"):
                read_until(server, "connected")
                assert run(adapter, "send", url, "Say", f'"{text}"')[0] == 0
                assert json.loads(next_line(client.stdout))["arguments"] == [text, 3]
                server.kill()
                server.wait()
                _, server = servers.enter_context(serving(adapter, tmp_path, port=port))
            client.send_signal(signal.SIGINT)
            assert client.communicate(timeout=10) == ("", "")
            assert client.returncode == 130


def test_what_a_hub_has_said_before_it_closes_the_connection_is_shown(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path, hub="brief_hub") as (url, _):
        status, output, error = run(adapter, "listen", url)
        assert (status, error.count("\n")) == (1, 1)
        assert [json.loads(line)["arguments"] for line in output.splitlines()] == [[i] for i in range(1000)]


@pytest.mark.parametrize("arguments", [("listen",), ("stream", "Ticks", "0.01")])
def test_a_server_that_ends_is_an_error(adapter: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        name, *rest = arguments
        with running(adapter, name, url, *rest) as client:
            assert next_line(client.stdout)
            server.kill()
            error = client.communicate(timeout=10)[1]
            assert client.returncode == 1
            assert error.count("\n") == 1
            assert error.startswith(f"{url} is gone: ")
            assert error.endswith("; did the server stop? With --reconnect, `listen` comes back by itself\n")


def test_a_person_at_a_terminal_sees_how_things_go(adapter: str, tmp_path: Path) -> None:
    with serving(adapter, tmp_path) as (url, server):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "dumb"}  # it has no colours
        options = ("--reconnect", "--transport", "longpolling")
        with open(ours, encoding="utf-8", newline="\n") as screen:
            with running(adapter, "listen", *options, url, stderr=theirs, env=environment) as client:
                os.close(theirs)
                assert next_line(client.stdout)
                server.kill()
                lines = [screen.readline().strip() for _ in range(3)]
                client.send_signal(signal.SIGINT)
                lines.append(screen.readline().strip())
                assert client.wait(10) == 130
    assert lines[0] == "connecting"
    assert lines[1].startswith("connected over LongPolling as ")
    assert lines[2].startswith(f"connection lost, reconnecting: {url}")
    assert lines[3] == "closed"
