"""What a broadcast costs when some never read: `python -m benchmarks.broadcast` runs a server on each runtime.

1,000 clients, of which 50 never read, are sent 1,000 messages of 1 KiB; then one client asks for an endless stream and
does not read it. The server is a process of its own, and so its memory can be measured (on Linux only). The exit status
is 1 where a client that reads misses anything, one that does not is not given up, the server's memory grows at its peak
by more than 150 MiB, or more than 1 MiB of the stream is held.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubproto_core import Call, Hub, HubConfig

CLIENTS, SLOW, MESSAGES, SIZE = 1000, 50, 1000, 1024
SEND_LIMIT = 256 * 1024
MOST_GROWTH = 150 * 1024  # KiB
MOST_HELD = 1024 * 1024
MASK = b"\0\0\0\0"
UPGRADE = (
    b"GET /hub HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

# --- the server ------------------------------------------------------------------------------------------------------


class Counter(logging.Handler):
    """Counts the clients that are given up."""

    given_up = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.given_up += "is given up" in record.getMessage()


def make_hub(sleep: Callable[[float], Any], counter: Counter) -> Hub:
    hub = Hub(HubConfig(send_limit=SEND_LIMIT))
    produced = 0

    @hub.method("Broadcast")
    async def broadcast(count: int, size: int, call: Call) -> None:
        for number in range(count):
            call.clients.group("audience").send("news", number, "x" * size)
            await sleep(0)

    @hub.method("Join")
    def join(call: Call) -> None:
        call.groups.add("audience")

    @hub.method("State")
    def state(call: Call) -> list[int]:
        return [len(call.hub.members("audience")), counter.given_up, produced]

    @hub.method("Endless")
    async def endless() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += SIZE
            yield "x" * SIZE

    return hub


def serve(runtime: str) -> None:
    counter = Counter()
    logging.getLogger("hubproto_core.hub").addHandler(counter)
    _allow_many_files()
    adapter = importlib.import_module(f"hubproto_{runtime}")
    library = importlib.import_module(runtime)
    hub = make_hub(library.sleep, counter)

    async def on_asyncio() -> None:
        async with adapter.serve(hub, "/hub") as server:
            print(server.port, flush=True)
            await server.wait_closed()

    async def on_trio() -> None:
        async with library.open_nursery() as nursery:
            server = await nursery.start(adapter.serve, hub, "/hub")
            print(server.port, flush=True)

    library.run(on_trio if runtime == "trio" else on_asyncio())


# --- the clients -----------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """A WebSocket of which only the records that arrive are counted; the last bytes are kept to be looked at."""

    sock: socket.socket
    records: int = 0
    tail: bytes = b""
    ended: bool = False
    rest: bytes = b""
    left: int = 0  # bytes of the frame that is being read
    is_text: bool = False
    answers: list[Any] = field(default_factory=list)

    @classmethod
    def dial(cls, port: int, receive_buffer: int | None = None) -> Client:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", port))
        client = cls(sock)
        sock.sendall(UPGRADE)
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(4096)
        client.say(b'{"protocol":"json","version":1}\x1e')
        while client.records < 1:
            client.read()
        return client

    def say(self, payload: bytes) -> None:
        size = len(payload)
        head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
        self.sock.sendall(head + MASK + payload)

    def ask(self, target: str, *arguments: Any) -> None:
        call = {"type": 1, "invocationId": "1", "target": target, "arguments": arguments}
        self.say(json.dumps(call).encode() + b"\x1e")

    def answer(self, target: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer; for a client that is sent nothing else but pings."""
        self.sock.setblocking(True)
        self.answers.clear()
        self.ask(target, *arguments)
        while not self.answers:
            self.read(keep=True)
        return self.answers[-1]

    def read(self, *, keep: bool = False) -> None:
        """Take what is there; a client that keeps what it gets must get whole records in each frame."""
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return
        data = self.rest + data
        self.rest = b""
        place = 0
        while place < len(data):
            if not self.left:
                code = data[place + 1] if len(data) > place + 1 else 0
                head = {126: 4, 127: 10}.get(code, 2)
                if len(data) < place + head:
                    self.rest = data[place:]
                    return
                self.left = int.from_bytes(data[place + 2 : place + head], "big") if head > 2 else code
                self.is_text = data[place] & 0x0F in (0, 1)
                place += head
            piece = data[place : place + self.left]
            place += len(piece)
            self.left -= len(piece)
            if self.is_text:
                self.records += piece.count(b"\x1e")
                if keep:
                    messages = [json.loads(record) for record in piece.split(b"\x1e") if record]
                    self.answers += [message.get("result") for message in messages if message.get("type") == 3]


def run(runtime: str, clients: int, slow: int, messages: int) -> bool:
    command = [sys.executable, "-m", "benchmarks.broadcast", "--serve", runtime]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            return measure(runtime, int(server.stdout.readline()), server.pid, clients, slow, messages)
        finally:
            server.kill()


def measure(runtime: str, port: int, pid: int, clients: int, slow: int, messages: int) -> bool:
    caller = Client.dial(port)
    deaf = [Client.dial(port, 4096) for _ in range(slow)]
    readers = [Client.dial(port) for _ in range(clients - slow)]
    for client in deaf + readers:
        client.answer("Join")
        client.records = 0
    before = memory(pid, "VmRSS")
    start = time.monotonic()
    caller.ask("Broadcast", messages, SIZE)
    with selectors.DefaultSelector() as selector:
        for client in readers:
            client.sock.setblocking(False)
            selector.register(client.sock, selectors.EVENT_READ, client)
        missing = len(readers)
        while missing:
            ready = selector.select(60)
            if not ready:
                break  # whatever is missing does not come
            for key, _ in ready:
                client = key.data
                client.read()
                if client.ended or client.records >= messages:
                    selector.unregister(client.sock)
                    missing -= 1
    seconds = time.monotonic() - start
    peak = memory(pid, "VmHWM")
    caller.records = 0
    caller.sock.setblocking(True)
    while caller.records == 0:  # the end of `Broadcast`
        caller.read()
    complete = sum(client.records == messages and not client.ended for client in readers)
    deadline = time.monotonic() + 15
    while (state := caller.answer("State"))[0] > len(readers) and time.monotonic() < deadline:
        time.sleep(0.1)
    held = stream_held(port, caller)
    growth = peak - before
    print(
        f"{runtime:8} {seconds:6.1f} s; complete {complete} of {len(readers)}; given up {state[1]} of {slow}, "
        f"gone {clients - state[0]}; {before / 1024:.0f} MiB before, at most {growth / 1024:.0f} MiB more; "
        f"of an unread stream {held / 1024:.0f} KiB were produced",
        flush=True,
    )
    good = complete == len(readers) and state[1] == slow and state[0] == len(readers)
    return good and growth < MOST_GROWTH and held < MOST_HELD


def stream_held(port: int, caller: Client) -> int:
    """How much of an endless stream is produced for a client that does not read, the kernel's part included."""
    reader = Client.dial(port, 4096)
    reader.say(b'{"type":4,"invocationId":"1","target":"Endless","arguments":[]}\x1e')
    produced, quiet = 0, 0
    while quiet < 5:
        time.sleep(0.1)
        now: int = caller.answer("State")[2]
        quiet = quiet + 1 if now == produced > 0 else 0
        produced = now
    return produced


def memory(pid: int, name: str) -> int:
    """KiB, as Linux counts them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtimes", nargs="*", default=["trio", "asyncio"])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--slow", type=int, default=SLOW)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    _allow_many_files()
    good = [run(runtime, options.clients, options.slow, options.messages) for runtime in options.runtimes]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
