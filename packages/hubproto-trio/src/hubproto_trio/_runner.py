"""The effect interpreter: user code runs in tasks, waiters wait for events. No protocol is known here."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar, assert_never

import trio

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

__all__ = ["IncomingItems", "Runner"]

T = TypeVar("T")


class Pump(Protocol):
    """What is to be told when a machine is woken."""

    def poke(self) -> None: ...


class Runner:
    """Carries out the effects of one server or of one client, in tasks of one nursery."""

    def __init__(self, effects: EffectQueue[Effect] | EffectQueue[ClientEffect], nursery: trio.Nursery) -> None:
        self._effects = effects
        self._nursery = nursery
        self._scopes: dict[RunningCall, trio.CancelScope] = {}
        self._waiters: dict[object, trio.Event] = {}
        self._pumps: dict[object, Pump] = {}
        self._rung = trio.Event()
        self._running = False
        effects.doorbell = self._ring

    # effects

    def run(self) -> None:
        """Carry out all effects."""
        if self._running:
            return
        self._running = True
        try:
            while (effect := self._effects.take()) is not None:
                self._carry_out(effect)
        finally:
            self._running = False

    async def answer_doorbell(self) -> None:
        """Carry out the effects that commands of user code make, for ever."""
        while True:
            self.run()
            await self._rung.wait()
            self._rung = trio.Event()

    def _ring(self) -> None:
        if not self._running:
            self._rung.set()

    def _carry_out(self, effect: ClientEffect) -> None:
        match effect:
            case StartCall(call=call):
                self._start(call)
            case CancelCall(call=call):
                scope = self._scopes.get(call)
                if scope is not None:
                    scope.cancel()
            case Wake(target=target):
                pump = self._pumps.get(target)
                if pump is not None:
                    pump.poke()
                waiter = self._waiters.pop(target, None)
                if waiter is not None:
                    waiter.set()
            case OpenSocket(socket=socket):
                self.open_socket(socket)
            case _:
                assert_never(effect)

    def open_socket(self, socket: ClientSocket) -> None:
        """Open a socket; only a client is asked to."""
        raise AssertionError(f"a server opens no sockets: {socket}")

    # pumps

    def add_pump(self, machine: object, pump: Pump) -> None:
        """From now on `Wake(machine)` pokes this pump."""
        self._pumps[machine] = pump

    def remove_pump(self, machine: object) -> None:
        """The pump is gone."""
        del self._pumps[machine]

    # waiting

    async def wait(self, target: object) -> None:
        """Wait for the next `Wake(target)`."""
        waiter = self._waiters.get(target)
        if waiter is None:
            waiter = self._waiters[target] = trio.Event()
        try:
            await waiter.wait()
        finally:
            if not waiter.statistics().tasks_waiting and self._waiters.get(target) is waiter:
                del self._waiters[target]

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
        if not call.inline:
            self._spawn(call, self._run_streaming if call.streams else self._run_call)
            return
        context = call.context
        try:
            if context is None:
                result = call.function(*self._arguments(call))
            else:
                result = context.run(call.function, *self._arguments(call))
        except Exception as error:
            call.session.call_failed(call, error)
            return
        if inspect.isawaitable(result):
            self._spawn(call, _awaits(result))
            call.session.call_waits(call)
        else:
            call.session.call_returned(call, result)

    def _spawn(self, call: RunningCall, work: Callable[[RunningCall], Any]) -> None:
        """Run a call in a task, in a cancel scope that exists before the task does."""
        scope = self._scopes[call] = trio.CancelScope()
        if call.context is None:
            self._nursery.start_soon(self._report, call, work, scope)
        else:
            call.context.run(self._nursery.start_soon, self._report, call, work, scope)  # a task inherits its context

    async def _report(self, call: RunningCall, work: Callable[[RunningCall], Any], scope: trio.CancelScope) -> None:
        """Do a call's work, and tell its session what became of it."""
        try:
            with scope:
                result = await work(call)
                call.session.call_returned(call, result)
        except Exception as error:
            call.session.call_failed(call, error)
        finally:
            del self._scopes[call]
            call.session.call_cancelled(call)  # unless it has been reported already
            self.run()

    async def _run_call(self, call: RunningCall) -> Any:
        return await call.function(*self._arguments(call))

    async def _run_streaming(self, call: RunningCall) -> None:
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

    def _arguments(self, call: RunningCall) -> Any:
        return call.session.build_arguments(call, [IncomingItems[Any](self, stream) for stream in call.incoming])


_ITEMS_A_TURN = 64


class IncomingItems(Generic[T]):
    """The items of a stream that the peer sends, as an asynchronous iterator for one reader.

    Each item is a point where the reader can be cancelled. Other tasks have their turn whenever the reader waits, and
    at the latest after 64 items that were here already.
    """

    __slots__ = ("_runner", "_stream", "_taken")

    def __init__(self, runner: Runner, stream: IncomingStream) -> None:
        self._runner = runner
        self._stream = stream
        self._taken = 0

    def __aiter__(self) -> IncomingItems[T]:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                item: T = self._stream.receive_nowait()
            except WouldBlock:
                await self._runner.wait(self._stream)
            except EndOfStream:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise StopAsyncIteration from None
            else:
                self._taken += 1
                if self._taken % _ITEMS_A_TURN == 0:
                    await trio.lowlevel.cancel_shielded_checkpoint()  # a cancellation here would lose the item
                return item


def _awaits(awaitable: Any) -> Callable[[RunningCall], Any]:
    async def work(call: RunningCall) -> Any:
        return await awaitable

    return work


def _iterate(source: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    return aiter(source) if isinstance(source, AsyncIterable) else _walk(source)


async def _walk(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item
