"""asyncio, and asyncio on uvloop, for the asynchronous tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import hubproto_asyncio
from hubproto_core import Hub
from hubproto_core.http import Mount

from .runtimes import App, Connection, Event, Outcome, Runtime, Server, Tasks

__all__ = ["AsyncioRuntime", "UvloopRuntime"]


class AsyncioRuntime(Runtime):
    """asyncio with hubproto_asyncio."""

    name = "asyncio"
    Cancelled = asyncio.CancelledError

    def run(self, test: Callable[[], Coroutine[Any, Any, None]], limit: float) -> None:
        noticed: list[dict[str, Any]] = []  # what asyncio would only log

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: noticed.append(context))
            async with self.fail_after(limit):
                await test()
            left = [task for task in asyncio.all_tasks() - {asyncio.current_task()} if not _is_asyncios(task)]
            assert not left, f"tasks are left: {left}"

        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            try:
                runner.run(main())
            except BaseException as error:
                for context in noticed:
                    error.add_note(f"asyncio noticed: {context}")
                raise
        assert not noticed, noticed

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def _serve(
        self, hub: Hub | Mount | Mapping[str, Hub | Mount], path: str, **options: Any
    ) -> AbstractAsyncContextManager[Server]:
        return hubproto_asyncio.serve(hub, path, **options)

    def connect(self, url: str, **options: Any) -> Connection:
        return hubproto_asyncio.connect(url, **{**self.of_clients, **options})

    def client(self, url: str, **options: Any) -> Connection:
        return hubproto_asyncio.HubClient(url, **{**self.of_clients, **options})

    def app(self, hub: Hub | Mapping[str, Any], path: str = "/", **options: Any) -> App:
        return hubproto_asyncio.HubApp(hub, path, **options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_forever(self) -> None:
        await asyncio.get_running_loop().create_future()

    def current_time(self) -> float:
        return asyncio.get_running_loop().time()

    def Event(self) -> Event:
        return asyncio.Event()

    @asynccontextmanager
    async def tasks(self) -> AsyncIterator[Tasks]:
        async with asyncio.TaskGroup() as group:
            yield AsyncioTasks(group)

    def living_tasks(self) -> int:
        return len(asyncio.all_tasks())

    @asynccontextmanager
    async def move_on_after(self, seconds: float) -> AsyncIterator[Outcome]:
        outcome = Outcome()
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                yield outcome
        except TimeoutError:
            if not timeout.expired():
                raise
            outcome.cancelled = True

    async def wait_readable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await _ready(lambda ready: loop.add_reader(sock, ready), lambda: loop.remove_reader(sock))

    async def wait_writable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await _ready(lambda ready: loop.add_writer(sock, ready), lambda: loop.remove_writer(sock))


class UvloopRuntime(AsyncioRuntime):
    """asyncio on uvloop's event loop."""

    name = "asyncio-uvloop"

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        import uvloop

        return uvloop.new_event_loop()


class AsyncioTasks:
    """A TaskGroup that names its method as a nursery does."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> asyncio.Task[Any]:
        return self._group.create_task(function(*arguments))


def _is_asyncios(task: asyncio.Task[Any] | None) -> bool:
    """Whether it is a task of asyncio itself: one accepts each TLS connection until its handshake is done."""
    return task is not None and "_accept_connection2" in repr(task.get_coro())


async def _ready(add: Callable[[Callable[[], None]], None], remove: Callable[[], object]) -> None:
    ready = asyncio.Event()
    add(ready.set)
    try:
        await ready.wait()
    finally:
        remove()
