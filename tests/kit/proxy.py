"""`HttpProxy`: an HTTP proxy that knows CONNECT, in a process of tests."""

from __future__ import annotations

from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp

__all__ = ["HttpProxy"]


class HttpProxy:
    """Leads to any port of 127.0.0.1; `asked` holds the requests, `answer` is given instead of a tunnel."""

    def __init__(self, rt: Runtime, answer: bytes | None = None) -> None:
        self._rt = rt
        self._answer = answer
        self.asked: list[str] = []

    async def __call__(self, near: Tcp) -> None:
        """Treat a connection; for `Runtime.listen`."""
        head = b""
        while b"\r\n\r\n" not in head:
            more = await near.receive()
            if not more:
                return
            head += more
        self.asked.append(head.decode())
        if self._answer is not None:
            await near.send(self._answer)
            return
        host, _, port = head.split()[1].rpartition(b":")
        if host != b"127.0.0.1":
            await near.send(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        await near.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self.lead(near, int(port))

    async def lead(self, near: Tcp, port: int, said: bytes = b"") -> None:
        """Lead to a port here, where `said` is said first."""
        with await self._rt.tcp(port) as far:
            await far.send(said)
            async with self._rt.tasks() as tasks:
                there = tasks.start_soon(self.pass_on, near, far)
                await self.pass_on(far, near)
                there.cancel()

    async def pass_on(self, source: Tcp, target: Tcp) -> None:
        """Pass on what comes from one side, to its end."""
        try:
            while data := await source.receive():
                await target.send(data)
            target.send_eof()
        except OSError:  # the other side has gone, which ends this one, too
            return
