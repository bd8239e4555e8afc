"""trio, for the asynchronous tests."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

import hubproto_trio
from hubproto_core import Hub
from hubproto_core.http import Mount

from .runtimes import App, Connection, Event, Outcome, Runtime, Server, Tasks

__all__ = ["TrioRuntime"]


class TrioRuntime(Runtime):
    """trio with hubproto_trio."""

    name = "trio"
    Cancelled = trio.Cancelled

    def run(self, test: Callable[[], Coroutine[Any, Any, None]], limit: float) -> None:
        async def main() -> None:
            async with self.fail_after(limit):
                await test()

        trio.run(main)

    @asynccontextmanager
    async def _serve(
        self, hub: Hub | Mount | Mapping[str, Hub | Mount], path: str, **options: Any
    ) -> AsyncIterator[Server]:
        error: BaseException | None = None
        async with trio.open_nursery() as nursery:
            try:
                server: Server = await nursery.start(partial(hubproto_trio.serve, hub, path, **options))
                yield server
            except BaseException as raised:  # to be raised as it is, not in a group
                error = raised
                nursery.cancel_scope.cancel()
            else:
                if not server.closing:
                    server.close()
        if error is not None:
            raise error

    def connect(self, url: str, **options: Any) -> Connection:
        return hubproto_trio.connect(url, **{**self.of_clients, **options})

    def client(self, url: str, **options: Any) -> Connection:
        return hubproto_trio.HubClient(url, **{**self.of_clients, **options})

    def app(self, hub: Hub | Mapping[str, Any], path: str = "/", **options: Any) -> App:
        return hubproto_trio.HubApp(hub, path, **options)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def sleep_forever(self) -> None:
        await trio.sleep_forever()

    def current_time(self) -> float:
        return trio.current_time()

    def Event(self) -> Event:
        return trio.Event()

    @asynccontextmanager
    async def tasks(self) -> AsyncIterator[Tasks]:
        async with trio.open_nursery() as nursery:
            yield TrioTasks(nursery)

    def living_tasks(self) -> int:
        return trio.lowlevel.current_statistics().tasks_living

    @asynccontextmanager
    async def move_on_after(self, seconds: float) -> AsyncIterator[Outcome]:
        outcome = Outcome()
        with trio.move_on_after(seconds) as scope:
            yield outcome
        outcome.cancelled = scope.cancelled_caught

    async def wait_readable(self, sock: socket.socket) -> None:
        await trio.lowlevel.wait_readable(sock)

    async def wait_writable(self, sock: socket.socket) -> None:
        await trio.lowlevel.wait_writable(sock)


class TrioTasks:
    """A nursery whose tasks can be cancelled one by one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*arguments)

        self._nursery.start_soon(run)
        return scope
