"""`Link`: the way to a server, in the hands of a test, which can cut it, or let it lose whatever is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from .runtimes import Event, Runtime
from .tcp import Tcp

__all__ = ["Link"]


class Link:
    """Passes TCP connections on to a port here; to be given to `Runtime.listen`."""

    def __init__(self, rt: Runtime, port: int) -> None:
        self._rt = rt
        self._port = port
        self._ends: list[Event] = []
        self._swallows = False

    @property
    def count(self) -> int:
        """How many connections it has passed on."""
        return len(self._ends)

    def cut(self) -> None:
        """Reset all connections, at both ends."""
        for end in self._ends:
            end.set()

    async def cut_until(self, done: Callable[[], bool]) -> None:
        """Cut again and again: a client that is just between two polls loses nothing by a cut."""
        while not done():
            self.cut()
            await self._rt.sleep(0.005)

    def swallow(self) -> None:
        """From now on nothing arrives, in either direction, but all sockets stay open; further ones are accepted."""
        self._swallows = True

    async def __call__(self, client: Tcp) -> None:
        with await self._rt.tcp(self._port) as server:
            end = self._rt.Event()
            self._ends.append(end)
            async with self._rt.tasks() as tasks:
                copies = [
                    tasks.start_soon(self._copy, client, server, end),
                    tasks.start_soon(self._copy, server, client, end),
                ]
                await end.wait()
                for copy in copies:
                    copy.cancel()
            client.reset()
            server.reset()

    async def _copy(self, source: Tcp, target: Tcp, end: Event) -> None:
        with suppress(OSError):
            while data := await source.receive():
                if self._swallows:
                    break
                await target.send(data)
        if self._swallows:
            await self._rt.sleep_forever()
        end.set()
