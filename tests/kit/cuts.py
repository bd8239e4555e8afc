"""`Cuts`: a TCP relay that breaks WebSockets at random moments; `weather_the`: what must go on all the same."""

from __future__ import annotations

import math
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hubproto_core import HubError

from .runtimes import Connection, Event, Runtime
from .tcp import Tcp

__all__ = ["Cuts", "Weathered", "weather_the"]

LONGEST = 0.4  # seconds that a WebSocket lives at most
SMALLEST, LARGEST = 100, 1_000_000  # bytes that it carries at most: sometimes less than its opening handshake


class Cuts:
    """A TCP relay in front of a server. From `begin` on so many WebSockets through it are short-lived.

    It breaks after some time, or within some byte of either direction, whatever comes first, and is reset or closed at
    either side. `seed` makes the same choices again.

    `gentle`: as Microsoft's server needs it. It gets whole frames only, and then the end of them, for what it has of
    half a message it puts in front of what comes over the next WebSocket (SPEC 4.7.6). No opening handshake is cut, and
    the server notices first, for where it sees two WebSockets at once it may end the connection (SPEC 4.7.7).
    """

    def __init__(self, rt: Runtime, port: int, seed: int, *, gentle: bool = False) -> None:
        self.count = 0
        """How many WebSockets have been broken."""
        self._rt = rt
        self._port = port
        self._random = random.Random(seed)
        self._gentle = gentle
        self._limit = 0
        self._begun: list[Event] = []

    def begin(self, limit: int) -> None:
        """Break what is there, and what will come, up to this count."""
        self._limit = limit
        for event in self._begun:
            event.set()

    @property
    def _raging(self) -> bool:
        return self.count < self._limit

    async def __call__(self, client: Tcp) -> None:
        """See `Runtime.listen`."""
        with await self._rt.tcp(self._port) as server:
            life = _Life(self._rt, self._draw_size() if self._raging else math.inf)
            begun = self._rt.Event()
            self._begun.append(begun)
            frames = _Frames() if self._gentle else None
            async with self._rt.tasks() as tasks:
                running = [
                    tasks.start_soon(self._copy, client, server, life, frames),
                    tasks.start_soon(self._copy, server, client, life),
                    tasks.start_soon(self._age, begun, life),
                ]
                await life.over.wait()
                for task in running:
                    task.cancel()
            self._begun.remove(begun)
            if life.is_websocket and life.broken:
                self.count += 1
                if self._gentle:
                    server.send_eof()
                    await server.receive_all()
                else:
                    self._end(server)
                self._end(client)

    def _end(self, tcp: Tcp) -> None:
        tcp.reset() if self._random.random() < 0.5 else tcp.close()

    def _draw_size(self) -> float:
        return float(math.exp(self._random.uniform(math.log(2000 if self._gentle else SMALLEST), math.log(LARGEST))))

    async def _age(self, begun: Event, life: _Life) -> None:
        if not self._raging:
            await begun.wait()
        await self._rt.sleep(self._random.uniform(0, LONGEST))
        if life.is_websocket and self._raging:
            life.broken = True
            life.over.set()

    async def _copy(self, source: Tcp, target: Tcp, life: _Life, frames: _Frames | None = None) -> None:
        with suppress(OSError):  # it has gone
            while not life.over.is_set() and (data := await source.receive()):
                life.is_websocket |= data.startswith(b"GET ")
                if life.is_websocket and len(data) > life.size and self._raging:
                    life.broken = True
                    data = data[: int(life.size)]
                life.size -= len(data)
                await target.send(data if frames is None else frames.whole(data))
                if life.broken:
                    break
        life.over.set()


class _Life:
    def __init__(self, rt: Runtime, size: float) -> None:
        self.size = size  # bytes that are still carried
        self.is_websocket = False
        self.broken = False
        self.over = rt.Event()


class _Frames:
    """Holds back what is not a whole request, or a whole frame of a client's."""

    def __init__(self) -> None:
        self._held = b""
        self._upgraded = False

    def whole(self, data: bytes) -> bytes:
        """Return what is whole now."""
        self._held += data
        end = 0
        while (size := self._size(self._held[end:])) is not None:
            end += size
        whole, self._held = self._held[:end], self._held[end:]
        return whole

    def _size(self, data: bytes) -> int | None:
        """How long the first request or frame is, if it is all there."""
        if not self._upgraded:
            head, end, _ = data.partition(b"\r\n\r\n")
            self._upgraded = bool(end) and head.startswith(b"GET ")
            return len(head + end) if end else None
        if len(data) < 2:
            return None
        short = data[1] & 0x7F
        more = {126: 2, 127: 8}.get(short, 0)
        length = int.from_bytes(data[2 : 2 + more]) if more else short
        size = 2 + more + 4 + length
        return size if len(data) >= size else None


@dataclass
class Weathered:
    """What a client got done meanwhile."""

    cuts: int = 0
    calls: int = 0
    told: int = 0
    downloaded: int = 0
    uploaded: int = 0


async def weather_the(cuts: Cuts, rt: Runtime, clients: Sequence[Connection], count: int) -> Weathered:
    """Let clients of a hub like the lab's do all sorts of things until so many cuts have been made.

    Every call is answered, each runs once, and every item of a stream and of an upload arrives once and in order, or
    this fails.
    """
    done = Weathered()
    async with rt.tasks() as tasks:
        for client in clients:
            tasks.start_soon(_weather, cuts, rt, client, count, done)
        cuts.begin(count)
    done.cuts = cuts.count
    return done


async def _weather(cuts: Cuts, rt: Runtime, client: Connection, count: int, done: Weathered) -> None:
    news: list[str] = []
    said: list[str] = []
    client.on("message", news.append)
    identity = client.connection_id

    async def call() -> None:
        while cuts.count < count:
            number = done.calls
            done.calls += 1
            assert await client.invoke("Add", number, 1) == number + 1

    async def tell() -> None:
        while cuts.count < count:
            said.append(str(len(said)))
            await client.invoke("SendClient", identity, said[-1])
            done.told += 1

    async def download(size: int, milliseconds: int) -> None:
        while cuts.count < count:
            async with client.stream("Counter", size, milliseconds) as items:
                assert [item async for item in items] == list(range(size))
            done.downloaded += size

    async def upload(size: int) -> None:
        while cuts.count < count:
            result: Any = await client.invoke("Upload", client.upload(f"{n}," for n in range(size)))
            assert result == f"{size}:{''.join(f'{n},' for n in range(size))}", result
            done.uploaded += size

    async def fail(size: int) -> None:
        while cuts.count < count:
            with suppress(HubError):
                await client.invoke("UploadSum", client.upload("x" for _ in range(size)))
                raise AssertionError("no error")

    failures: list[Exception] = []
    async with rt.tasks() as tasks:
        for work in (call(), tell(), download(500, 0), download(100, 1), upload(200), fail(200)):
            tasks.start_soon(_run, work, failures)
    if failures:
        raise failures[0]  # alone: the others mostly tell of the same
    await rt.eventually(lambda: len(news) == len(said))
    assert news == said
    assert client.connection_id == identity


async def _run(work: Coroutine[Any, Any, None], failures: list[Exception]) -> None:
    try:
        await work
    except Exception as error:
        failures.append(error)
