"""The effect interpreter: user code runs in tasks, waiters wait in futures. No protocol is known here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, assert_never

from hubproto_core import (
    CancelCall,
    Effect,
    EffectQueue,
    EndOfStream,
    IncomingStream,
    Pending,
    RunningCall,
    StartCall,
    Wake,
    WouldBlock,
)
from hubproto_core.http import ClientEffect, ClientSocket, OpenSocket

__all__ = ["Flushable", "IncomingItems", "Runner"]


_READ_SIZE = 65536  # bytes of one socket at a time; then others have their turn

T = TypeVar("T")


class Flushable(Protocol):
    """Something to be done about a machine when it is woken."""

    def flush(self) -> None: ...


class Socket(Flushable, Protocol):
    """The pump of a socket."""

    async def abort(self) -> None: ...


class Runner:
    """Carries out the effects of one server or of one client."""

    def __init__(self, effects: EffectQueue[Effect] | EffectQueue[ClientEffect]) -> None:
        self._effects = effects
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[RunningCall, asyncio.Task[Any]] = {}
        self._waiters: dict[object, list[asyncio.Future[None]]] = {}
        self._pumps: dict[object, Flushable] = {}
        self._sockets: dict[object, Socket] = {}
        self._to_flush: dict[Flushable, None] = {}
        self._running = False
        self.read_buffer: memoryview[int] = memoryview(bytearray(_READ_SIZE))
        """What sockets are read into. Nothing of it stays there: a loop says at once what it has put in."""
        effects.doorbell = self._ring

    # effects

    def run(self) -> None:
        """Carry out all effects, and flush every pump that was woken, until nothing is left to do."""
        if self._running:
            return
        self._running = True
        try:
            while True:
                effect = self._effects.take()
                if effect is not None:
                    self._carry_out(effect)
                elif self._to_flush:
                    self._to_flush.popitem()[0].flush()
                else:
                    return
        finally:
            self._running = False

    def _ring(self) -> None:
        if not self._running:
            self._loop.call_soon(self.run)

    def _carry_out(self, effect: ClientEffect) -> None:
        match effect:
            case StartCall(call=call):
                self._start(call)
            case CancelCall(call=call):
                task = self._tasks.get(call)
                if task is not None:
                    self._loop.call_soon(task.cancel)  # after its first step, as everywhere: a call always begins
            case Wake(target=target):
                pump = self._pumps.get(target)
                if pump is not None:
                    self._to_flush[pump] = None
                for waiter in self._waiters.pop(target, ()):
                    if not waiter.done():
                        waiter.set_result(None)
            case OpenSocket(socket=socket):
                self.open_socket(socket)
            case _:
                assert_never(effect)

    def open_socket(self, socket: ClientSocket) -> None:
        """Open a socket; only a client is asked to."""
        raise AssertionError(f"a server opens no sockets: {socket}")

    # pumps

    def add_pump(self, machine: object, pump: Flushable) -> None:
        """From now on `Wake(machine)` flushes this pump."""
        self._pumps[machine] = pump

    def remove_pump(self, machine: object, pump: Flushable) -> None:
        """The pump is gone, unless another one has taken its place already."""
        self._to_flush.pop(pump, None)
        if self._pumps.get(machine) is pump:
            del self._pumps[machine]

    def add_socket(self, machine: object, pump: Socket) -> None:
        """A socket is open."""
        self._pumps[machine] = pump
        self._sockets[machine] = pump

    def remove_socket(self, machine: object) -> None:
        """A socket is gone."""
        self._to_flush.pop(self._pumps.pop(machine), None)
        del self._sockets[machine]

    def flush_soon(self, pump: Flushable) -> None:
        """Flush this pump in the `run` that must follow."""
        self._to_flush[pump] = None

    # waiting

    async def wait(self, target: object) -> None:
        """Wait for the next `Wake(target)`."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiters = self._waiters.setdefault(target, [])
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters and self._waiters.get(target) is waiters:
                del self._waiters[target]
            raise

    async def outcome_of(self, begin: Callable[[], Pending]) -> Any:
        """Begin something, and return its outcome when it is there. Cancelling this abandons it."""
        pending = begin()
        try:
            while not pending.done:
                await self.wait(pending)
            return pending.outcome()
        finally:
            pending.abandon()

    # calls

    def _start(self, call: RunningCall) -> None:
        work: Coroutine[Any, Any, Any]
        if call.streams:
            work = self._send_items(call)
        else:
            context = call.context
            try:
                if context is None:
                    result = call.function(*self._arguments(call))
                else:
                    result = context.run(call.function, *self._arguments(call))
            except Exception as error:
                call.session.call_failed(call, error)
                return
            if inspect.iscoroutine(result):
                work = result
            elif inspect.isawaitable(result):
                work = _await(result)
            else:
                call.session.call_returned(call, result)
                return
        task = self._loop.create_task(work, context=call.context)
        self._tasks[call] = task
        task.add_done_callback(partial(self._report, call))
        call.session.call_waits(call)

    def _report(self, call: RunningCall, task: asyncio.Task[Any]) -> None:
        """Tell the session what became of a call; here, so that a task cancelled before its first step counts too."""
        del self._tasks[call]
        if task.cancelled():
            call.session.call_cancelled(call)
            return
        error = task.exception()
        if error is None:
            call.session.call_returned(call, task.result())
        elif isinstance(error, Exception):
            call.session.call_failed(call, error)
        else:
            call.session.call_cancelled(call)
            raise error  # not ours to swallow: the event loop decides

    def _arguments(self, call: RunningCall) -> Any:
        return call.session.build_arguments(call, [IncomingItems[Any](self, stream) for stream in call.incoming])

    async def _send_items(self, call: RunningCall) -> None:
        session = call.session
        result = call.function(*self._arguments(call))
        if inspect.isawaitable(result):
            result = await result
        items = _iterate(session.open_stream(call, result))
        try:
            async for item in items:
                if not session.send_item(call, item):
                    break
                while session.must_wait(call):
                    await self.wait(session)
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()

    async def stop(self) -> None:
        """Drop every socket, cancel every call, and wait until they are gone."""
        for socket in list(self._sockets.values()):
            await socket.abort()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._effects.doorbell = None


class IncomingItems(Generic[T]):
    """The items of a stream that the peer sends, as an asynchronous iterator for one reader."""

    __slots__ = ("_runner", "_stream")

    def __init__(self, runner: Runner, stream: IncomingStream) -> None:
        self._runner = runner
        self._stream = stream

    def __aiter__(self) -> IncomingItems[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                item: T = self._stream.receive_nowait()
                return item
            except WouldBlock:
                await self._runner.wait(self._stream)
            except EndOfStream:
                raise StopAsyncIteration from None


async def _await(awaitable: Any) -> Any:
    return await awaitable


def _iterate(source: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    return aiter(source) if isinstance(source, AsyncIterable) else _walk(source)


async def _walk(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item
