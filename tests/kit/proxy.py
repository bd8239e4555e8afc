"""`HttpProxy`: an HTTP proxy that knows CONNECT, in a process of tests."""

from __future__ import annotations

from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp

__all__ = ["HttpProxy"]


class HttpProxy:
    """Leads to any port here; `asked` holds the heads of the requests, `answer` is given instead of a tunnel."""

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
        port = int(head.split()[1].rpartition(b":")[2])
        with await self._rt.tcp(port) as far:
            await near.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with self._rt.tasks() as tasks:
                there = tasks.start_soon(self._pass_on, near, far)
                await self._pass_on(far, near)
                there.cancel()

    async def _pass_on(self, source: Tcp, target: Tcp) -> None:
        try:
            while data := await source.receive():
                await target.send(data)
            target.send_eof()
        except OSError:  # the other side has gone, which ends this one, too
            return
