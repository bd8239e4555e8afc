"""`HubApp`: hubs as an ASGI application on trio, in a server or a framework that is somebody else's."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from hubproto_core import Hub, HubConfig, HubContext, TransportError
from hubproto_core.http import AsgiMachine, Authenticator, HttpConfig, HubServer, Mount, asgi_machine

from ._runner import Runner
from ._server import keep_time

__all__ = ["HubApp"]

Receive = Callable[[], Awaitable[Any]]  # servers and frameworks have types of their own for these messages
Send = Callable[[Any], Awaitable[None]]


class HubApp:
    """An ASGI application that serves a hub at `path`, or several, given as a mapping of paths.

    Where it is mounted in another application, `path` is the rest behind the place where it is mounted: "/", as a
    rule. `authenticator` says who sends a request (see `Authenticator`); `config` replaces the hubs' own; of `http`
    only the timeouts and the limits of posted bodies count, since the server reads the requests.

    Its tasks need a nursery. The server's lifespan events open it; an application that is mounted in another one does
    not hear of them, so the other one's lifespan must do so, by `async with app.running():`.
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
        self._work: tuple[Runner, trio.Nursery] | None = None

    def context(self, hub: Hub) -> HubContext:
        """Return one of the hubs, to reach its clients and groups from outside of any call, and to see who is there.

        Raises KeyError for a hub that is not served here.
        """
        return self._machine.context(hub)

    def close(self) -> None:
        """Begin to shut down: nothing new is accepted, running calls get `HubConfig.shutdown_timeout` to end.

        The second time everything that still runs is cancelled at once. Leaving `running` does this too.
        """
        self._machine.close(now=trio.current_time())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for as long as the block lasts: for the lifespan of an application in which this one is mounted.

        Leaving the block in order shuts the hubs down gracefully; leaving it by an exception or cancellation drops
        every connection at once. Raises RuntimeError if it runs already; afterwards it may be run again.
        """
        if self._work is not None:
            raise RuntimeError("this HubApp is running already")
        self._machine.reopen()
        error: BaseException | None = None
        async with trio.open_nursery() as nursery:
            runner = Runner(self._machine.effects, nursery)
            self._machine.let_wait(runner)
            nursery.start_soon(runner.answer_doorbell)
            nursery.start_soon(keep_time, runner, self._machine)
            self._work = (runner, nursery)
            try:
                yield
                if not self._machine.closing:
                    self.close()
                while not self._machine.closed:
                    await runner.wait(self._machine)
            except BaseException as raised:  # to be raised as it is, not in a group
                error = raised
            finally:
                self._work = None
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Be the application for a scope of the type "http", "websocket" or "lifespan".

        Raises RuntimeError for a request that comes while it is not `running`.
        """
        if scope["type"] == "lifespan":
            await receive()
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if self._work is None:
            raise RuntimeError(
                "this HubApp is not running: it heard of no lifespan.startup. Where it is mounted in another "
                "application, that one's lifespan must contain `async with hub_app.running():`"
            )
        runner, nursery = self._work
        machine = asgi_machine(self._machine, scope, now=trio.current_time())
        pump = _Pump(runner, machine, receive, send)
        nursery.start_soon(pump.run)
        try:
            await pump.ended.wait()
        finally:
            pump.drop()
        if pump.error is not None:
            raise pump.error


class _Pump:
    """Messages between one scope and its machine. One task receives, one sends, one watches the clock.

    They are tasks of the application's own nursery: so they end with it, and it does not end before them.
    """

    def __init__(self, runner: Runner, machine: AsgiMachine, receive: Receive, send: Send) -> None:
        self._runner = runner
        self._machine = machine
        self._receive = receive
        self._send = send
        self.ended = trio.Event()
        self.error: Exception | None = None
        """What the server's `receive` or `send` raised, unless it says that the client has gone."""
        self._woken = trio.Event()
        self._read_wanted = trio.Event()
        self._alarm = trio.CancelScope()
        self._sending = False
        self._everything = trio.CancelScope()

    async def run(self) -> None:
        """Run the machine until it is finished."""
        self._runner.add_pump(self._machine, self)
        try:
            with self._everything:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._keep_time)
                    await self._write()
                    nursery.cancel_scope.cancel()
        except Exception as error:
            self.error = error
        finally:
            self._runner.remove_pump(self._machine)
            self._machine.receive_eof(TransportError("the connection was dropped"), now=trio.current_time())
            self._runner.run()
            self.ended.set()

    def drop(self) -> None:
        """Leave it at once."""
        self._everything.cancel()

    def poke(self) -> None:
        """Look at the machine again: there may be output, or another deadline."""
        self._woken.set()
        if self._sending:  # the writer, which otherwise does all this, is stuck; reading on may be what helps
            self._machine.handle_timeout(now=trio.current_time())
            self._look()
            if self._machine.given_up:
                self.drop()

    async def _read(self) -> None:
        while True:
            while not self._machine.want_read:
                self._read_wanted = trio.Event()
                await self._read_wanted.wait()
            message = await self._receive()
            self._machine.receive_message(message, now=trio.current_time())
            self._runner.run()
            self.poke()

    async def _write(self) -> None:
        """The only sender: whatever there is to send, then wait until something happens."""
        while True:
            self._woken = trio.Event()
            messages = self._machine.messages_to_send(now=trio.current_time())
            self._runner.run()
            self._look()
            self._sending = True
            for message in messages:
                try:
                    await self._send(message)
                except (
                    OSError,
                    trio.BusyResourceError,
                ) as error:  # hypercorn answers frames in another task of its own
                    lost = TransportError(f"the connection was lost: {error}")
                    self._machine.receive_eof(lost, now=trio.current_time())
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
        self._alarm.deadline = math.inf if deadline is None else deadline

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope() as self._alarm:
                self._look()
                await trio.sleep_forever()
            self._machine.handle_timeout(now=trio.current_time())
            self._runner.run()
            self.poke()
