"""A broadcast to many clients of which some never read: `python -m benchmarks.slow_consumers`.

The server runs in a process of its own, the clients in this one. What must come out: everybody who reads gets every
message, who does not is given up with one line in the log, and the server holds little for them meanwhile.
"""

from __future__ import annotations

import argparse
import re
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from hubproto_core import Call, Hub, HubConfig

SEND_LIMIT = 256 * 1024  # bytes that the server holds for one client: a quarter of what each is sent
ROUND = 50  # messages, after which all readers catch up: a reader must not be taken for one who does not read
BURST = 10  # messages sent in one step of the server
TIME_LIMIT = 120.0  # seconds for anything at all
MIB = 1024 * 1024
ROOT = Path(__file__).parents[1]
RUNTIMES = ("trio", "asyncio", "asyncio-uvloop")

UPGRADE = (
    b"GET /hub HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MARK = b'"Heard"'  # once in each message of the broadcast
RESULT = re.compile(rb'\{"type":3,"invocationId":"(\d+)","result":(\d+|null)\}')


# --- the server ------------------------------------------------------------------------------------------------------


def make_hub(sleep: Callable[[float], Awaitable[None]]) -> Hub:
    """A hub that broadcasts, and says how it fares."""
    hub = Hub(HubConfig(send_limit=SEND_LIMIT, close_timeout=1.0))
    connected: set[str] = set()

    @hub.on_connected
    def come(call: Call) -> None:
        connected.add(call.connection_id)

    @hub.on_disconnected
    def go(call: Call) -> None:
        connected.discard(call.connection_id)

    @hub.method("Broadcast")
    async def broadcast(count: int, size: int, call: Call) -> None:
        text = "x" * size
        for number in range(count):
            call.clients.all.send("Heard", text)
            if number % BURST == BURST - 1:
                await sleep(0)

    @hub.method("Connected")
    def how_many() -> int:
        return len(connected)

    @hub.method("PeakMemory")
    def peak_memory() -> int:
        (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(line) * 1024

    return hub


def serve(runtime: str) -> None:
    """Serve until the process is ended; the port is the first line of output."""
    allow_many_files()
    if runtime == "trio":
        import trio

        import hubproto_trio

        async def serve_on_trio() -> None:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(hubproto_trio.serve, make_hub(trio.sleep), "/hub")
                print(server.port, flush=True)

        trio.run(serve_on_trio)
        return
    import asyncio

    import hubproto_asyncio

    async def serve_on_asyncio() -> None:
        async with hubproto_asyncio.serve(make_hub(asyncio.sleep), "/hub") as server:
            print(server.port, flush=True)
            await server.wait_closed()

    if runtime == "asyncio":
        asyncio.run(serve_on_asyncio())
    else:
        import uvloop

        uvloop.run(serve_on_asyncio())


def allow_many_files() -> None:
    """Let this process open as many sockets as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# --- the clients -----------------------------------------------------------------------------------------------------


class Client:
    """A client that counts what it hears, if it reads at all."""

    def __init__(self, port: int, *, silent: bool) -> None:
        self.heard = 0
        self.results: dict[int, bytes] = {}
        self._tail = b""
        self._calls = 0
        self.socket = socket.socket()
        if silent:  # as far as the kernels go, a client with little room, behind a network
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1024)
        self.socket.settimeout(TIME_LIMIT)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(UPGRADE)
        self.say('{"protocol":"json","version":1}')
        answer = b""
        while not answer.endswith(b"{}\x1e"):
            answer += self.socket.recv(4096)
        self.socket.setblocking(False)

    def say(self, text: str) -> None:
        """Send one record, in one masked frame."""
        payload = text.encode() + b"\x1e"
        self.socket.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)

    def call(self, target: str, *arguments: int) -> int:
        """Call a method; returns the id of the call."""
        self._calls += 1
        self.say(f'{{"type":1,"invocationId":"{self._calls}","target":"{target}","arguments":{list(arguments)}}}')
        return self._calls

    def read(self) -> None:
        """Take what has come."""
        data = self.socket.recv(MIB)
        assert data, "a client that reads was sent away"
        data = self._tail + data
        self.heard += data.count(MARK)
        for number, result in RESULT.findall(data):
            self.results[int(number)] = result
        self._tail = data[-60:].rpartition(MARK)[2][-60:]


class Crowd:
    """All clients; the first of those who read also asks the server."""

    def __init__(self, port: int, readers: int, silent: int) -> None:
        self.silent = [Client(port, silent=True) for _ in range(silent)]
        self.readers = [Client(port, silent=False) for _ in range(readers)]
        self._selector = selectors.DefaultSelector()
        for reader in self.readers:
            self._selector.register(reader.socket, selectors.EVENT_READ, reader)

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Let everybody read who does, until the condition holds."""
        deadline = time.monotonic() + TIME_LIMIT
        while not condition():
            assert time.monotonic() < deadline, "it takes far too long"
            for key, _ in self._selector.select(0.1):
                key.data.read()

    def ask(self, target: str, *arguments: int) -> int:
        """Call a method and return its result, 0 for none."""
        asker = self.readers[0]
        number = asker.call(target, *arguments)
        self.read_until(lambda: number in asker.results)
        result = asker.results.pop(number)
        return 0 if result == b"null" else int(result)

    def close(self) -> None:
        """Drop everything."""
        self._selector.close()
        for client in (*self.readers, *self.silent):
            client.socket.close()


# --- the measurement -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What came out. Memory in bytes: the server's peak before anybody came, when all were there, and at the end."""

    runtime: str
    readers: int
    silent: int
    messages: int
    size: int
    fewest_heard: int
    most_heard: int
    given_up: list[str]
    seconds: float
    peak_empty: int
    peak_connected: int
    peak: int

    @property
    def growth(self) -> int:
        """By how much the server's peak memory grew."""
        return self.peak - self.peak_empty

    def __str__(self) -> str:
        connections = self.peak_connected - self.peak_empty
        return (
            f"{self.runtime}: {self.messages} messages of {self.size} B to {self.readers} clients that read and "
            f"{self.silent} that never do: within {self.seconds:.1f} s each reader got {self.fewest_heard} to "
            f"{self.most_heard}, and {len(self.given_up)} clients were given up; the server's peak memory grew by "
            f"{self.growth / MIB:.0f} MiB, {connections / MIB:.0f} MiB of them for the connections themselves"
        )


def measure(runtime: str, *, clients: int, silent: int, messages: int = 1000, size: int = 1024) -> Figures:
    """Let a server on this runtime broadcast to that many clients, of which so many never read."""
    allow_many_files()
    readers = clients - silent
    with serving(runtime) as (port, log):
        crowd = Crowd(port, 1, 0)
        peak_empty = crowd.ask("PeakMemory")
        crowd.close()
        crowd = Crowd(port, readers, silent)
        try:
            crowd.read_until(lambda: crowd.ask("Connected") == clients)
            peak_connected = crowd.ask("PeakMemory")
            begun = time.monotonic()
            for sent in range(0, messages, ROUND):
                crowd.ask("Broadcast", min(ROUND, messages - sent), size)
                goal = min(sent + ROUND, messages)
                crowd.read_until(lambda goal=goal: all(reader.heard >= goal for reader in crowd.readers))  # type: ignore[misc]
            seconds = time.monotonic() - begun
            crowd.read_until(lambda: crowd.ask("Connected") == readers)
            heard = [reader.heard for reader in crowd.readers]
            peak = crowd.ask("PeakMemory")
        finally:
            crowd.close()
        lines = log.read().splitlines()
    return Figures(
        runtime=runtime,
        readers=readers,
        silent=silent,
        messages=messages,
        size=size,
        fewest_heard=min(heard),
        most_heard=max(heard),
        given_up=lines,
        seconds=seconds,
        peak_empty=peak_empty,
        peak_connected=peak_connected,
        peak=peak,
    )


@contextmanager
def serving(runtime: str) -> Iterator[tuple[int, IO[str]]]:
    """A server in a process of its own: its port, and what it writes to the log, from WARNING on."""
    command = [sys.executable, "-m", "benchmarks.slow_consumers", "--serve", runtime]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                with open(f"/proc/self/fd/{log.fileno()}") as reader:
                    yield port, reader
            finally:
                server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_consumers", description=__doc__)
    parser.add_argument("--serve", metavar="RUNTIME", choices=RUNTIMES, help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=1000, help="how many clients there are (default: %(default)s)")
    parser.add_argument("--silent", type=int, default=50, help="how many of them never read (default: %(default)s)")
    parser.add_argument("runtimes", metavar="RUNTIME", nargs="*", help="trio, asyncio, asyncio-uvloop (default: all)")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    installed = [name for name in RUNTIMES if find_spec({"asyncio-uvloop": "uvloop"}.get(name, f"hubproto_{name}"))]
    for runtime in options.runtimes or installed:
        print(measure(runtime, clients=options.clients, silent=options.silent), flush=True)


if __name__ == "__main__":
    main()
