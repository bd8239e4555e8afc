"""`HubApp`: hubs as an ASGI application on asyncio, in a server or a framework that is somebody else's."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hubproto_core import Hub, HubConfig, HubContext, TransportError
from hubproto_core.http import AsgiMachine, Authenticator, HttpConfig, HubServer, Mount, asgi_machine

from ._runner import Runner
from ._server import TimeKeeper

__all__ = ["HubApp"]

Receive = Callable[[], Awaitable[Any]]  # servers and frameworks have types of their own for these messages
Send = Callable[[Any], Awaitable[None]]


class HubApp:
    """An ASGI application that serves a hub at `path`, or several, given as a mapping of paths.

    Where it is mounted in another application, `path` is the rest behind the place where it is mounted: "/", as a
    rule. `authenticator` says who sends a request (see `Authenticator`); `config` replaces the hubs' own; of `http`
    only the timeouts and the limits of posted bodies count, since the server reads the requests.

    It works without the server's lifespan events, but ends in order only with them, or as long as
    `async with app.running():` lasts.
    """

    def __init__(
        self,
        hub: Hub | Mapping[str, Hub | Mount],
        path: str = "/",
        *,
        authenticator: Authenticator | None = None,
        config: HubConfig | None = None,
        http: HttpConfig | None = None,
    ) -> None:
        hubs = hub if isinstance(hub, Mapping) else {path: hub}
        self._machine = HubServer(
            hubs, entropy=os.urandom, clock=time.time, authenticator=authenticator, config=config, http=http
        )
        self._work: _Work | None = None
        self._entered = False

    def context(self, hub: Hub) -> HubContext:
        """Return one of the hubs, to reach its clients and groups from outside of any call, and to see who is there.

        Raises KeyError for a hub that is not served here.
        """
        return self._machine.context(hub)

    def close(self) -> None:
        """Begin to shut down: nothing new is accepted, running calls get `HubConfig.shutdown_timeout` to end.

        The second time everything that still runs is cancelled at once. Leaving `running` does this too.
        """
        self._machine.close(now=asyncio.get_running_loop().time())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for as long as the block lasts: for the lifespan of an application in which this one is mounted.

        Leaving the block in order shuts the hubs down gracefully; leaving it by an exception or cancellation drops
        every connection at once. Raises RuntimeError if it runs already; afterwards it may be run again.
        """
        if self._entered:
            raise RuntimeError("this HubApp is running already")
        self._entered = True
        if self._machine.closing:
            self._machine.reopen()
        work = self._begin()
        try:
            yield
            if not self._machine.closing:
                self.close()
            while not self._machine.closed:
                await work.runner.wait(self._machine)
        finally:
            self._entered = False
            self._work = None
            work.time_keeper.stop()
            await work.runner.stop()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Be the application for a scope of the type "http", "websocket" or "lifespan"."""
        if scope["type"] == "lifespan":
            await receive()
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            runner = self._begin().runner
            machine = asgi_machine(self._machine, scope, now=asyncio.get_running_loop().time())
            await _Pump(runner, machine, receive, send).run()

    def _begin(self) -> _Work:
        """Return what carries everything out on the loop that runs now. Whatever another one did ended with it."""
        if self._work is None or self._work.loop is not asyncio.get_running_loop():
            self._work = _Work(self._machine)
        return self._work


class _Work:
    """What carries out the effects of a server on one loop."""

    def __init__(self, machine: HubServer) -> None:
        self.loop = asyncio.get_running_loop()
        self.runner = Runner(machine.effects)
        self.time_keeper = TimeKeeper(machine, self.runner)
        machine.let_wait(self.runner)
        self.runner.run()


class _Pump:
    """Messages between one scope and its machine. One task receives, one sends, a timer watches the clock."""

    def __init__(self, runner: Runner, machine: AsgiMachine, receive: Receive, send: Send) -> None:
        self._runner = runner
        self._machine = machine
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._read_wanted = asyncio.Event()
        self._sending = False
        self._reader: asyncio.Task[None]
        self._writer: asyncio.Task[None]
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf  # when the timer goes off
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Run the machine until it is finished."""
        self._runner.add_socket(self._machine, self)
        try:
            async with asyncio.TaskGroup() as group:
                self._reader = group.create_task(self._read())
                self._writer = group.create_task(self._write())
                self._writer.add_done_callback(lambda _: self._reader.cancel())
        finally:
            self._runner.remove_socket(self._machine)
            if self._timer is not None:
                self._timer.cancel()
            self._ended.set_result(None)
            self._machine.receive_eof(TransportError("the connection was dropped"), now=self._loop.time())
            self._runner.run()

    def flush(self) -> None:
        """Look at the machine again: there may be output, or another deadline."""
        self._woken.set()
        if self._sending:  # the writer, which otherwise does all this, is stuck; reading on may be what helps
            self._machine.handle_timeout(now=self._loop.time())
            self._look()
            if self._machine.given_up:
                self._writer.cancel()

    async def abort(self) -> None:
        """Drop it at once."""
        self._writer.cancel()
        await self._ended

    async def _read(self) -> None:
        while True:
            while not self._machine.want_read:
                self._read_wanted.clear()
                await self._read_wanted.wait()
            message = await self._receive()
            self._machine.receive_message(message, now=self._loop.time())
            self._turn()

    async def _write(self) -> None:
        """The only sender: whatever there is to send, then wait until something happens."""
        while True:
            self._woken.clear()
            messages = self._machine.messages_to_send(now=self._loop.time())
            self._runner.run()
            self._look()
            self._sending = True
            for message in messages:
                try:
                    await self._send(message)
                except OSError as error:
                    lost = TransportError(f"the connection was lost: {error}")
                    self._machine.receive_eof(lost, now=self._loop.time())
                    return
            self._sending = False
            if not messages:
                if self._machine.finished:
                    return
                await self._woken.wait()

    def _look(self) -> None:
        """Do what the machine wants next."""
        if self._machine.want_read:
            self._read_wanted.set()
        deadline = self._machine.next_timeout()
        if deadline is None or deadline >= self._alarm:
            return  # a timer that is early is left to find that out
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = deadline
        self._timer = self._loop.call_at(deadline, self._fall_due)

    def _fall_due(self) -> None:
        self._alarm = math.inf
        self._machine.handle_timeout(now=self._loop.time())
        self._turn()

    def _turn(self) -> None:
        self._runner.flush_soon(self)
        self._runner.run()
