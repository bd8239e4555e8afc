"""Attacks on a server, one after another, while honest clients go on: `python -m benchmarks.attacks` (Linux).

The server, the attacker and the honest clients are a process each. What must come out: an honest client's echo takes no
more than three times as long as it does when all is quiet (the median of both), the server's memory and the number of
its objects return to within a tenth of what they were, and it logs no error. "At first" is a server to which many
honest clients have come, and gone again. Each attack comes twice, and the second round is measured.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.slow_consumers import MIB, ROOT, RUNTIMES, UPGRADE, allow_many_files
from hubproto_core import Hub, HubConfig
from hubproto_core.http import EndpointConfig, HttpConfig, Mount

PATIENCE = 3.0  # seconds that the server waits for a request, for a handshake, and for a client that has negotiated
HONEST = 5  # clients that take turns
VISITORS = 500  # clients that have come and gone before the server's memory is looked at
QUIET = 400  # echoes before an attack, which say how long one takes
TIME_LIMIT = 60.0  # seconds for anything at all
SLOWDOWN = 3.0
GROWTH = 1.1
JSON_HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
JSON_PING = b'{"type":6}\x1e'
TEXT, FRAGMENT, CONTINUATION, PING = 0x81, 0x01, 0x00, 0x89  # how a frame begins
COMPRESSED_TEXT = 0xC1
COMPRESSED = UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
BOMB = 1024  # MiB that one of the large bombs becomes


# --- the server ------------------------------------------------------------------------------------------------------


def make_hub() -> Mount:
    """A hub that echoes, and how it is served."""
    hub = Hub(HubConfig(handshake_timeout=PATIENCE))

    @hub.method("Echo")
    def echo(text: str) -> str:
        return text

    @hub.method("Blocks")
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    return Mount(hub, EndpointConfig(disconnect_timeout=PATIENCE))


def serve(runtime: str) -> None:
    """Serve until the process is ended; the port is the first line of output."""
    allow_many_files()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    http = HttpConfig(request_timeout=PATIENCE, compression=True)
    if runtime == "trio":
        import trio

        import hubproto_trio

        async def serve_on_trio() -> None:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(lambda **s: hubproto_trio.serve({"/hub": make_hub()}, http=http, **s))
                print(server.port, flush=True)

        trio.run(serve_on_trio)
        return
    import asyncio

    import hubproto_asyncio

    async def serve_on_asyncio() -> None:
        async with hubproto_asyncio.serve({"/hub": make_hub()}, http=http) as server:
            print(server.port, flush=True)
            await server.wait_closed()

    if runtime == "asyncio":
        asyncio.run(serve_on_asyncio())
    else:
        import uvloop

        uvloop.run(serve_on_asyncio())


@dataclass(frozen=True)
class Server:
    """A running server: its port, its process id, and its log so far."""

    port: int
    pid: int
    log: Callable[[], str]

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of memory that it has now, or "VmHWM": had at most since `forget_peak`."""
        (line,) = re.findall(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(line) * 1024

    def forget_peak(self) -> None:
        """From now on the peak is counted anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def serving(runtime: str) -> Iterator[Server]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.attacks", "--serve", runtime]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                yield Server(port, server.pid, Path(f"/proc/self/fd/{log.fileno()}").read_text)
            finally:
                server.kill()


# --- honest clients --------------------------------------------------------------------------------------------------


def open_websocket(port: int, upgrade: bytes = UPGRADE) -> socket.socket:
    """A socket whose upgrade has been answered."""
    connection = socket.create_connection(("127.0.0.1", port), TIME_LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(upgrade)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    assert (upgrade is COMPRESSED) is (b"permessage-deflate" in answer), answer
    return connection


def frame(payload: bytes, first: int = TEXT) -> bytes:
    """One masked frame; its mask is zero."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([first]) + length + bytes(4) + payload


def deflated(pieces: Iterable[bytes]) -> bytes:
    """What a message of these pieces is, compressed."""
    deflate = zlib.compressobj(9, wbits=-15)
    data = b"".join([deflate.compress(piece) for piece in pieces])
    return (data + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


class Honest:
    """A client that calls, and waits for the answer before the next call."""

    def __init__(self, port: int) -> None:
        self._socket = open_websocket(port)
        self._exchange(JSON_HANDSHAKE, b"{}\x1e")

    def echo(self) -> float:
        """Seconds that one call takes."""
        begun = time.perf_counter()
        self._call("Echo", '"hello"')
        return time.perf_counter() - begun

    def blocks(self) -> int:
        """Let the server collect its garbage; how many blocks of memory Python's objects have there then."""
        (count,) = re.findall(rb'"result":(\d+)', self._call("Blocks", ""))
        return int(count)

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def _call(self, target: str, argument: str) -> bytes:
        call = f'{{"type":1,"invocationId":"1","target":"{target}","arguments":[{argument}]}}\x1e'
        return self._exchange(call.encode(), b'{"type":3,"invocationId":"1"')

    def _exchange(self, record: bytes, answer: bytes) -> bytes:
        self._socket.sendall(frame(record))
        received = b""
        while answer not in received:
            data = self._socket.recv(65536)
            assert data, "an honest client was sent away"
            received += data
        return received


def take_turn(clients: Iterator[Honest]) -> float:
    """Let the next client call, and rest a little, as clients do, so that there is a processor for the attacker."""
    seconds = next(clients).echo()
    time.sleep(0.005)
    return seconds


# --- the attacks -----------------------------------------------------------------------------------------------------


def drip(port: int, sockets: list[socket.socket], pieces: Iterator[bytes], pause: float) -> str:
    """Send the next piece on all sockets after each pause, until the server has closed them all."""
    begun = time.monotonic()
    open_still = dict.fromkeys(sockets)
    answers = 0
    with selectors.DefaultSelector() as selector:
        for connection in sockets:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        while open_still:
            assert time.monotonic() - begun < TIME_LIMIT, f"{len(open_still)} connections are still there"
            piece = next(pieces)
            for connection in list(open_still):
                with suppress(BlockingIOError, OSError):
                    connection.send(piece)
            until = time.monotonic() + pause
            while open_still and (rest := until - time.monotonic()) > 0:
                for key, _ in selector.select(rest):
                    connection = key.fileobj  # type: ignore[assignment]
                    data = b""
                    with suppress(OSError):
                        data = connection.recv(65536)
                    answers += bool(data)
                    if not data:
                        selector.unregister(connection)
                        del open_still[connection]
                        connection.close()
    return f"the server had closed all {len(sockets)} after {time.monotonic() - begun:.1f} s, {answers} with a word"


def slow_headers(port: int, scale: float) -> str:
    """500 connections that send one byte of a header each second."""
    sockets = [socket.create_connection(("127.0.0.1", port), TIME_LIMIT) for _ in range(int(500 * scale))]
    return drip(port, sockets, itertools.chain([b"GET /hub HTTP/1.1\r\nX: "], itertools.repeat(b"x")), 1.0)


def no_handshake(port: int, scale: float) -> str:
    """500 WebSockets on which nobody shakes hands."""
    sockets = [open_websocket(port) for _ in range(int(500 * scale))]
    return drip(port, sockets, itertools.repeat(b""), 1.0)


def pour(port: int, head: bytes, pieces: Iterator[bytes]) -> str:
    """Send all of it as fast as it goes, or until the server has had enough; its answer is read meanwhile."""
    begun = time.monotonic()
    sent = 0
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as connection:
        connection.sendall(head)
        with suppress(ConnectionError, BrokenPipeError):
            for piece in pieces:
                sent += connection.send(piece)
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    status = bytes(received).partition(b"\r\n")[0].decode() or "no answer"
    return f"{sent / MIB:.1f} MiB left within {time.monotonic() - begun:.1f} s; {status}"


def large_body(port: int, scale: float) -> str:
    """A request for negotiation with a body of 100 MiB, a hundred times."""
    size = int(100 * scale) * MIB
    head = f"POST /hub/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    answer = ""
    for _ in range(100):
        answer = pour(port, head, itertools.repeat(b"x" * 65536, size // 65536))
    return f"the last of 100: {answer}"


def large_post(port: int, scale: float) -> str:
    """A body of 100 MiB for a connection that polls, one hub message without end, twenty times."""
    size = int(100 * scale) * MIB
    answer = ""
    for _ in range(20):
        token = negotiate(port)
        with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as poll:
            poll.sendall(f"GET /hub?id={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert poll.recv(65536).startswith(b"HTTP/1.1 200")
        head = f"POST /hub?id={token} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode()
        answer = pour(port, head + JSON_HANDSHAKE, itertools.repeat(b"x" * 65536, size // 65536))
    return f"the last of 20: {answer}"


def large_header(port: int, scale: float) -> str:
    """A header of 1 MiB, a hundred times."""
    answer = ""
    for _ in range(int(100 * scale)):
        answer = pour(port, b"GET /hub HTTP/1.1\r\nX: ", itertools.repeat(b"x" * 65536, MIB // 65536))
    return f"the last of {int(100 * scale)}: {answer}"


def flood(port: int, first: bytes, repeated: bytes, seconds: float, upgrade: bytes = UPGRADE) -> str:
    """Send the same over and over on a WebSocket, and read what comes, until it is closed or the time is over."""
    begun = time.monotonic()
    sent = 0
    block = repeated * max(1, 65536 // len(repeated))
    rest = memoryview(first)
    with open_websocket(port, upgrade) as connection, selectors.DefaultSelector() as selector:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while (now := time.monotonic()) < begun + seconds:
            for _, events in selector.select(begun + seconds - now):
                try:
                    if events & selectors.EVENT_READ and not connection.recv(65536):
                        return f"closed by the server after {sent / MIB:.1f} MiB, {time.monotonic() - begun:.1f} s"
                    if events & selectors.EVENT_WRITE:
                        count = connection.send(rest)
                        sent += count
                        rest = rest[count:] or memoryview(block)
                except ConnectionError as error:
                    return f"cut off after {sent / MIB:.1f} MiB, {time.monotonic() - begun:.1f} s: {error}"
    return f"{sent / seconds / MIB:.2f} MiB/s, for {seconds:g} s"


def endless_message(port: int, scale: float) -> str:
    """A fragmented WebSocket message that never ends, of fragments of 100 bytes."""
    return flood(port, frame(JSON_HANDSHAKE) + frame(b"x" * 100, FRAGMENT), frame(b"x" * 100, CONTINUATION), 10 * scale)


def empty_fragments(port: int, scale: float) -> str:
    """A fragmented WebSocket message that never ends, of empty fragments."""
    return flood(port, frame(JSON_HANDSHAKE) + frame(b"x", FRAGMENT), frame(b"", CONTINUATION), 10 * scale)


def pings(port: int, scale: float) -> str:
    """Pings of WebSockets at full speed."""
    return flood(port, frame(JSON_HANDSHAKE), frame(b"", PING), 10 * scale)


def hub_pings(port: int, scale: float) -> str:
    """Pings of the hub protocol at full speed, five thousand to a message."""
    return flood(port, frame(JSON_HANDSHAKE), frame(JSON_PING * 5000), 10 * scale)


def bombs(port: int, scale: float) -> str:
    """A compressed message of 1 MiB that would become a thousand times that, a hundred times."""
    bomb = frame(deflated(itertools.repeat(b" " * MIB, BOMB)), COMPRESSED_TEXT)
    count = int(100 * scale)
    codes: set[int] = set()
    for _ in range(count):
        with open_websocket(port, COMPRESSED) as connection:
            with suppress(ConnectionError):  # the server does not read all of it
                connection.sendall(frame(JSON_HANDSHAKE) + bomb)
            received = b""
            with suppress(ConnectionError):
                while data := connection.recv(65536):
                    received += data
        codes.update(int.from_bytes(code, "big") for code in re.findall(rb"\x88.(..)", received, re.DOTALL))
    return f"{count} of {len(bomb) / MIB:.1f} MiB; closed with code {', '.join(map(str, codes)) or 'unknown'}"


def small_bombs(port: int, scale: float) -> str:
    """Compressed messages at full speed, each of which becomes nearly as large as is allowed: pings of a hub."""
    message = JSON_PING * (MIB // len(JSON_PING))
    return flood(port, frame(JSON_HANDSHAKE), frame(deflated([message]), COMPRESSED_TEXT), 10 * scale, COMPRESSED)


NEGOTIATE = b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def negotiate(port: int) -> str:
    """Return the token of a connection that has been negotiated."""
    with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as connection:
        connection.sendall(NEGOTIATE)
        answer = connection.recv(65536)
        (token,) = re.findall(rb'"connectionToken":"([^"]+)"', answer)
        return token.decode()  # type: ignore[no-any-return]


def negotiations(port: int, scale: float) -> str:
    """10,000 negotiations that nobody makes use of, one after another."""
    count = int(10_000 * scale)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as connection:
        for _ in range(count):
            connection.sendall(NEGOTIATE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    return f"{count} within {time.monotonic() - begun:.1f} s"


def pipelined_negotiations(port: int, scale: float) -> str:
    """10,000 negotiations that nobody makes use of, sent at once."""
    count = int(10_000 * scale)
    begun = time.monotonic()
    answers = 0
    rest = memoryview(NEGOTIATE * count)
    with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as connection:
        with selectors.DefaultSelector() as selector:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while answers < count:
                for _, events in selector.select(TIME_LIMIT):
                    if events & selectors.EVENT_READ:
                        data = connection.recv(MIB)
                        if not data:
                            return f"closed by the server after {answers}, {time.monotonic() - begun:.1f} s"
                        answers += data.count(b'{"negotiateVersion"')
                    if events & selectors.EVENT_WRITE and rest:
                        rest = rest[connection.send(rest) :]
                if not rest:
                    selector.modify(connection, selectors.EVENT_READ)
    return f"{count} within {time.monotonic() - begun:.1f} s"


ATTACKS: dict[str, Callable[[int, float], str]] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        slow_headers,
        no_handshake,
        large_body,
        large_post,
        large_header,
        endless_message,
        empty_fragments,
        pings,
        hub_pings,
        bombs,
        small_bombs,
        negotiations,
        pipelined_negotiations,
    )
}


# --- the measurement -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What came out. Times of an echo in seconds, memory of the server in bytes; `after` is some time afterwards."""

    runtime: str
    attack: str
    outcome: str
    quiet: float
    attacked: float
    worst: float
    fresh: int
    before: int
    peak: int
    after: int
    blocks_at_first: int
    blocks_left: int
    log: str

    @property
    def slowdown(self) -> float:
        """How many times as long an echo takes."""
        return self.attacked / self.quiet

    @property
    def growth(self) -> float:
        """How many times as much memory the server has afterwards as at first."""
        return self.after / self.fresh

    @property
    def kept(self) -> float:
        """How many times as many of Python's objects the server has afterwards: a leak shows here, and nothing else."""
        return self.blocks_left / self.blocks_at_first

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        faults = []
        if self.slowdown > SLOWDOWN:
            faults.append(f"an echo takes {self.slowdown:.1f} times as long")
        if self.growth > GROWTH:
            faults.append(f"the server has {self.growth:.2f} times the memory")
        if self.kept > GROWTH:
            faults.append(f"the server has {self.kept:.2f} times the objects")
        if "ERROR" in self.log or "Traceback" in self.log:
            faults.append(f"it logged\n{self.log}")
        return faults

    def __str__(self) -> str:
        return (
            f"{self.runtime}, {self.attack}: {self.outcome}; an echo takes {self.quiet * 1000:.2f} ms when all is "
            f"quiet, {self.attacked * 1000:.2f} ms meanwhile ({self.slowdown:.1f} times), {self.worst * 1000:.0f} ms "
            f"at most; memory {self.fresh / MIB:.1f} MiB at first, {self.before / MIB:.1f} before, "
            f"{self.peak / MIB:.1f} at most, {self.after / MIB:.1f} afterwards ({self.growth:.2f} times), "
            f"objects {self.kept:.3f} times" + "".join(f"\n    FAULT: {fault}" for fault in self.faults)
        )


def meet(server: Server, attack: str, scale: float, turn: Callable[[], float]) -> tuple[str, list[float]]:
    """Let the attack meet the server: what the attacker says of it, and how long each echo took meanwhile."""
    command = [sys.executable, "-m", "benchmarks.attacks", "--attack", attack, str(server.port), str(scale)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "begins\n"
        attacked = []
        while attacker.poll() is None:
            attacked.append(turn())
        outcome = attacker.stdout.read().strip()
    assert attacker.returncode == 0, f"{attack} failed"
    return outcome, attacked


def settle(server: Server, before: int, blocks: int, turn: Callable[[], float], client: Honest) -> None:
    """Wait until the server has as much memory as before, or has had the time to forget everybody."""
    deadline = time.monotonic() + 2 * PATIENCE
    near = (1 + GROWTH) / 2
    while time.monotonic() < deadline and (server.memory() > before * near or client.blocks() > blocks * 1.01):
        turn()


def visit(port: int, scale: float) -> None:
    """Let many clients come at once, say something and go again, as on an ordinary day, by requests too."""
    with ExitStack() as ends:
        for _ in range(round(VISITORS * scale)):
            ends.callback(Honest(port).close)
            negotiate(port)


def measure(runtime: str, attack: str, scale: float = 1.0) -> Figures:
    """Let one attack, of this share of its size, meet a server on this runtime."""
    with serving(runtime) as server, ExitStack() as ends:
        clients = []
        for _ in range(HONEST):
            clients.append(Honest(server.port))
            ends.callback(clients[-1].close)
        turn = partial(take_turn, itertools.cycle(clients))
        for _ in range(round(QUIET * scale)):  # the server and this process are warm then
            turn()
        blocks_at_first = clients[0].blocks()
        visit(server.port, scale)
        settle(server, server.memory(), blocks_at_first, turn, clients[0])
        quiet = [turn() for _ in range(round(QUIET * scale))]
        blocks_at_first = clients[0].blocks()
        fresh = server.memory()
        meet(server, attack, scale, turn)
        settle(server, fresh, blocks_at_first, turn, clients[0])
        clients[0].blocks()
        server.forget_peak()
        before = server.memory()
        outcome, attacked = meet(server, attack, scale, turn)
        peak = server.memory("VmHWM")
        settle(server, before, blocks_at_first, turn, clients[0])
        blocks_left = clients[0].blocks()
        return Figures(
            runtime=runtime,
            attack=attack,
            outcome=outcome,
            quiet=statistics.median(quiet),
            attacked=statistics.median(attacked),
            worst=max(attacked),
            fresh=fresh,
            before=before,
            peak=peak,
            after=server.memory(),
            blocks_at_first=blocks_at_first,
            blocks_left=blocks_left,
            log=server.log(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--serve", metavar="RUNTIME", choices=RUNTIMES, help=argparse.SUPPRESS)
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=ATTACKS, action="append", help="one attack only; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the attacks' size (default: %(default)s)")
    parser.add_argument("runtimes", metavar="RUNTIME", nargs="*", help="trio, asyncio, asyncio-uvloop (default: all)")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.attack:
        name, port, scale = options.attack
        allow_many_files()
        print("begins", flush=True)
        print(ATTACKS[name](int(port), float(scale)), flush=True)
        return
    installed = [name for name in RUNTIMES if find_spec({"asyncio-uvloop": "uvloop"}.get(name, f"hubproto_{name}"))]
    failed = False
    for runtime in options.runtimes or installed:
        for attack in options.only or ATTACKS:
            figures = measure(runtime, attack, options.scale)
            print(figures, flush=True)
            failed |= bool(figures.faults)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
