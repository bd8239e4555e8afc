"""`Host`: an ASGI server in memory, in the hands of a test, for one scope."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from .runtimes import App, Runtime, Task
from .wire import HANDSHAKE, pack, unpack

__all__ = ["Host"]


class Host:
    """What the server knows of a scope: what it has received for the application, and what that has sent."""

    def __init__(self, rt: Runtime, app: App, scope: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.stuck = False
        """The client takes nothing: `send` does not return."""
        self.failure: Exception | None = None
        """What `send` raises."""
        self.raised: BaseException | None = None
        """What the application raised."""
        self.ended = False
        self.task: Task
        self._rt = rt
        self._app = app
        self._scope = scope
        self._received: deque[dict[str, Any]] = deque()
        self._arrived = rt.Event()

    @classmethod
    @asynccontextmanager
    async def of(cls, rt: Runtime, app: App, kind: str, target: str = "/", **more: Any) -> AsyncIterator[Self]:
        """Run the application for a scope; behind the block it is cancelled, if it has not returned."""
        path, _, query = target.partition("?")
        scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": [], **more}
        host = cls(rt, app, scope)
        async with rt.tasks() as tasks:
            host.task = tasks.start_soon(host._run)
            try:
                yield host
            finally:
                host.task.cancel()

    @classmethod
    async def answer(cls, rt: Runtime, app: App, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a whole request, and return the status and the body of its answer."""
        async with cls.of(rt, app, "http", target, method=method) as host:
            host.say("http.request", body=body)
            await host.end()
            return host.sent[0]["status"], b"".join(message["body"] for message in host.sent[1:])

    @classmethod
    @asynccontextmanager
    async def websocket(cls, rt: Runtime, app: App, target: str = "/", **more: Any) -> AsyncIterator[Self]:
        """Open a WebSocket, as far as the hub handshake is done."""
        async with cls.of(rt, app, "websocket", target, **more) as host:
            host.say("websocket.connect")
            host.say("websocket.receive", text=HANDSHAKE.decode())
            await host.hears("websocket.accept")
            assert await host.read() == [{}]
            yield host

    def say(self, kind: str, **more: Any) -> None:
        """What the server has received."""
        self._received.append({"type": kind, **more})
        self._arrived.set()

    def write(self, *messages: dict[str, Any]) -> None:
        """Hub messages from a WebSocket."""
        self.say("websocket.receive", text=pack(*messages).decode())

    async def hears(self, kind: str) -> dict[str, Any]:
        """Return the next message that is sent, which must be of this type."""
        await self._rt.eventually(lambda: self.sent or self.ended)
        assert self.sent, f"it has ended: {self.raised!r}"
        message = self.sent.pop(0)
        assert message["type"] == kind, message
        return message

    async def read(self) -> list[Any]:
        """Return the hub messages of the next message on a WebSocket."""
        return unpack((await self.hears("websocket.send"))["text"].encode())

    async def end(self) -> None:
        """Wait until the application has returned."""
        await self._rt.eventually(lambda: self.ended)

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:
            self.raised = error
        finally:
            self.ended = True

    async def _receive(self) -> dict[str, Any]:
        while not self._received:
            self._arrived = self._rt.Event()
            await self._arrived.wait()
        return self._received.popleft()

    async def _send(self, message: dict[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        if self.stuck:
            await self._rt.sleep_forever()
        self.sent.append(message)
