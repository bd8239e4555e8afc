"""`serve`: hubs on a listening socket."""

from __future__ import annotations

import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from hubproto_core import Hub, HubConfig, HubContext
from hubproto_core.http import AsgiApplication, Authenticator, HttpConfig, HubServer, Mount, SocketInfo

from ._pump import SocketPump
from ._runner import Runner
from ._unix import UnixSocket

__all__ = ["Server", "keep_time", "serve"]


class Server:
    """A running server. `serve` makes it."""

    def __init__(self, machine: HubServer, runner: Runner, listening: trio.CancelScope, port: int) -> None:
        self._machine = machine
        self._runner = runner
        self._listening = listening
        self.port = port
        """The port it listens on, the first if there are several; 0 if there are only Unix sockets."""

    def context(self, hub: Hub) -> HubContext:
        """Return one of the hubs, to reach its clients and groups from outside of any call, and to see who is there.

        Raises KeyError for a hub that is not served here.
        """
        return self._machine.context(hub)

    def close(self) -> None:
        """Begin to shut down: nothing new is accepted, running calls get `HubConfig.shutdown_timeout` to end.

        The second time everything that still runs is cancelled at once. `serve` returns when everything has ended.
        """
        self._listening.cancel()
        self._machine.close(now=trio.current_time())

    @property
    def closing(self) -> bool:
        """`close` was called."""
        return self._machine.closing

    async def wait_closed(self) -> None:
        """Wait until `close` was called and everything has ended."""
        while not self._machine.closed:
            await self._runner.wait(self._machine)


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
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a hub at `path`, or several, given as a mapping of paths: `server = await nursery.start(serve, hub, ...)`.

    `host` None is every interface; `port` 0 is any free one (see `Server.port`). Instead of there it listens at `unix`,
    the path of a Unix socket, and on `sockets`, which listen already and are closed with the server, if there are any.
    `authenticator` says who sends a request (see `Authenticator`); `config` replaces the hubs' own. `fallback` is an
    ASGI application that answers requests for other paths than the hubs', and is told when the server begins and ends.
    Returns after `Server.close`, gracefully; cancelling it drops every connection at once. Raises OSError if it cannot
    listen there, and RuntimeError if the fallback application says that it cannot start.
    """
    hubs = hub if isinstance(hub, Mapping) else {path: hub}
    machine = HubServer(
        hubs,
        entropy=os.urandom,
        clock=time.time,
        authenticator=authenticator,
        config=config,
        http=http,
        fallback=fallback,
    )
    unix_socket = None if unix is None else UnixSocket(unix)
    if unix_socket is not None:
        sockets = [unix_socket.socket, *sockets]
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    if not listeners:
        listeners = await trio.open_tcp_listeners(port, host=host)
    listening = trio.CancelScope()
    ready = trio.Event()
    refusal: RuntimeError | None = None
    async with trio.open_nursery() as nursery:
        runner = Runner(machine.effects, nursery)
        machine.let_wait(runner)

        async def take(accepted: trio.SocketStream) -> None:
            stream: trio.abc.Stream = accepted
            info = SocketInfo(
                scheme="http" if ssl_context is None else "https",
                client=_address(accepted.socket.getpeername),
                server=_address(accepted.socket.getsockname),
            )
            if ssl_context is not None:
                stream = trio.SSLStream(stream, ssl_context, server_side=True, https_compatible=True)
            await SocketPump(runner, machine.connection(info, now=trio.current_time()), stream).run()

        async def listen() -> None:
            try:
                with listening:
                    await ready.wait()
                    await trio.serve_listeners(take, listeners, handler_nursery=nursery)
            finally:
                for listener in listeners:
                    listener.socket.close()
                if unix_socket is not None:
                    unix_socket.remove()

        nursery.start_soon(runner.answer_doorbell)
        nursery.start_soon(listen)
        nursery.start_soon(keep_time, runner, machine)
        try:
            await runner.outcome_of(machine.begin)
        except RuntimeError as error:  # to be raised as it is, not in a group
            refusal = error
        else:
            ready.set()
            server = Server(machine, runner, listening, _port(listeners))
            task_status.started(server)
            await server.wait_closed()
        nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


def _port(listeners: Sequence[trio.SocketListener]) -> int:
    families = (socket.AF_INET, socket.AF_INET6)
    return next((one.socket.getsockname()[1] for one in listeners if one.socket.family in families), 0)


def _address(ask: Callable[[], Any]) -> tuple[str, int | None] | None:
    """Return an address of a socket, as ASGI writes it."""
    try:
        name = ask()
    except OSError:  # the peer has gone already
        return None
    if isinstance(name, tuple):
        return name[0], name[1]
    return (name, None) if name else None


async def keep_time(runner: Runner, machine: HubServer) -> None:
    """Arm the deadline of the server itself."""
    while True:
        deadline = machine.next_timeout()
        with trio.move_on_at(math.inf if deadline is None else deadline):
            await runner.wait(machine)
        machine.handle_timeout(now=trio.current_time())
