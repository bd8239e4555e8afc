"""`serve`: hubs on a listening socket."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hubproto_core import Hub, HubConfig, HubContext
from hubproto_core.http import AsgiApplication, Authenticator, HttpConfig, HubServer, Mount, SocketInfo

from ._pump import SocketPump
from ._runner import Runner
from ._unix import UnixSocket

__all__ = ["Server", "TimeKeeper", "serve"]


class TimeKeeper:
    """Arms the deadline of a server itself, and lets it do what is due whenever it is woken."""

    def __init__(self, machine: HubServer, runner: Runner) -> None:
        self._machine = machine
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        runner.add_pump(machine, self)

    def flush(self) -> None:
        """Do what is due; the runner calls it."""
        self._machine.handle_timeout(now=self._loop.time())
        self._disarm()
        deadline = self._machine.next_timeout()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self.flush)

    def stop(self) -> None:
        """Let no deadline pass any more, whatever still happens to the server."""
        self._disarm()
        self._runner.remove_pump(self._machine, self)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Server:
    """A running server. `serve` makes it."""

    def __init__(self, machine: HubServer, runner: Runner) -> None:
        self._machine = machine
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.Server] = []
        self._unix: UnixSocket | None = None
        self.port: int = 0
        """The port it listens on, the first if there are several; 0 if there are only Unix sockets."""
        self._time_keeper = TimeKeeper(machine, runner)
        self._scheme = "http"
        machine.let_wait(runner)

    async def begin(self) -> None:
        """Let the fallback application, if there is one, do what it has to do first; `serve` does it."""
        await self._runner.outcome_of(self._machine.begin)

    async def listen(
        self,
        host: str | None,
        port: int,
        unix: UnixSocket | None,
        sockets: Sequence[socket.socket],
        ssl_context: ssl.SSLContext | None,
        tls_timeout: float,
    ) -> None:
        """Open the listening sockets; `serve` does it."""
        options: dict[str, Any] = {"ssl": ssl_context}
        if ssl_context is not None:
            self._scheme = "https"
            options["ssl_handshake_timeout"] = tls_timeout
        if unix is not None:
            self._unix = unix
            sockets = [unix.socket, *sockets]
        for sock in sockets:
            create = self._loop.create_unix_server if _is_unix(sock) else self._loop.create_server
            self._listeners.append(await create(self._accept, sock=sock, **options))
        if not sockets:
            self._listeners.append(await self._loop.create_server(self._accept, host, port, **options))
        opened = [sock for listener in self._listeners for sock in listener.sockets]
        self.port = next((sock.getsockname()[1] for sock in opened if not _is_unix(sock)), 0)

    def context(self, hub: Hub) -> HubContext:
        """Return one of the hubs, to reach its clients and groups from outside of any call, and to see who is there.

        Raises KeyError for a hub that is not served here.
        """
        return self._machine.context(hub)

    def close(self) -> None:
        """Begin to shut down: nothing new is accepted, running calls get `HubConfig.shutdown_timeout` to end.

        The second time everything that still runs is cancelled at once. `wait_closed` waits until all has ended.
        """
        self._stop_listening()
        self._machine.close(now=self._loop.time())

    @property
    def closing(self) -> bool:
        """`close` was called."""
        return self._machine.closing

    async def wait_closed(self) -> None:
        """Wait until `close` was called and everything has ended."""
        while not self._machine.closed:
            await self._runner.wait(self._machine)

    async def stop(self) -> None:
        """Drop every connection and cancel what runs."""
        self._stop_listening()
        self._time_keeper.stop()
        await self._runner.stop()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._unix is not None:
            self._unix.remove()

    def _accept(self) -> SocketPump:
        pump = SocketPump(
            self._runner,
            lambda: self._machine.connection(
                SocketInfo(scheme=self._scheme, client=pump.address("peername"), server=pump.address("sockname")),
                now=self._loop.time(),
            ),
        )
        return pump


@asynccontextmanager
async def serve(
    hub: Hub | Mount | Mapping[str, Hub | Mount],
    path: str = "/",
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    unix: str | os.PathLike[str] | None = None,
    sockets: Sequence[socket.socket] = (),
    ssl_context: ssl.SSLContext | None = None,
    authenticator: Authenticator | None = None,
    config: HubConfig | None = None,
    http: HttpConfig | None = None,
    fallback: AsgiApplication | None = None,
) -> AsyncIterator[Server]:
    """Serve a hub at `path`, or several, given as a mapping of paths, for as long as the block lasts.

    `host` None is every interface; `port` 0 is any free one (see `Server.port`). Instead of there it listens at `unix`,
    the path of a Unix socket, and on `sockets`, which listen already and are closed with the server, if there are any.
    `authenticator` says who sends a request (see `Authenticator`); `config` replaces the hubs' own. `fallback` is an
    ASGI application that answers requests for other paths than the hubs', and is told when the server begins and ends.
    Leaving the block in order shuts the server down gracefully; leaving it by an exception or cancellation drops
    every connection at once. Raises OSError if it cannot listen there, RuntimeError if the fallback application says
    that it cannot start.
    """
    hubs = hub if isinstance(hub, Mapping) else {path: hub}
    http = http or HttpConfig()
    machine = HubServer(
        hubs,
        entropy=os.urandom,
        clock=time.time,
        authenticator=authenticator,
        config=config,
        http=http,
        fallback=fallback,
    )
    server = Server(machine, Runner(machine.effects))
    try:
        await server.begin()
        listener = None if unix is None else UnixSocket(unix)
        await server.listen(host, port, listener, sockets, ssl_context, http.request_timeout)
        yield server
        if not server.closing:
            server.close()
        await server.wait_closed()
    finally:
        await server.stop()


def _is_unix(sock: socket.socket) -> bool:
    return sock.family == getattr(socket, "AF_UNIX", None)
