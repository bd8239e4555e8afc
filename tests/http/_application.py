"""An ASGI application that remembers what it was told, and the server beside whose hub it stands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import coroutine
from typing import Any

from hubproto_core import HubConfig
from hubproto_core.http import HttpConfig
from tests.http._site import Site


class Application:
    """Answers `hello`, or does what it is given instead; its lifespan is in order."""

    def __init__(self, work: Callable[[Any, Any, Any], Coroutine[Any, Any, None]] | None = None) -> None:
        self.scopes: list[Any] = []
        self.lifespan: list[str] = []
        self.received: list[Any] = []
        self.go_on = False
        self._work = work or self._hello

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await self._work(scope, receive, send)
            return
        for phase in ("startup", "shutdown"):
            self.lifespan.append((await receive())["type"])
            await send({"type": f"lifespan.{phase}.complete"})

    async def _hello(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer(send, b"hello")

    async def receive(self, receive: Any) -> Any:
        """Receive and remember a message."""
        self.received.append(await receive())
        return self.received[-1]

    async def answer(self, send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        """Send a whole answer."""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def pause(self) -> None:
        """Wait until a test says so."""
        while not self.go_on:
            await a_step()


@coroutine
def a_step() -> Any:
    """Wait for the next step of the shell."""
    yield


def beside(app: Any, config: HubConfig | None = None, http: HttpConfig | None = None, *, begin: bool = False) -> Site:
    """Serve a hub with this application beside it; its calls are made as soon as the shell runs."""
    served = Site(config=config, http=http, fallback=app)
    served.server.let_wait(served.shell)
    if begin:
        served.server.begin()
        served.shell.step(served.shell.find("fallback application"))
    return served
