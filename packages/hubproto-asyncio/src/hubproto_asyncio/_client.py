"""`connect` and `HubClient`: a client of a hub."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from aiohappyeyeballs import start_connection

from hubproto_core import (
    ClientEvent,
    ClientState,
    Closed,
    Codec,
    Connected,
    Connecting,
    EventStream,
    HubConfig,
    IncomingStream,
    LocalProtocolError,
    Reconnected,
    Reconnecting,
    Rename,
    RetryPolicy,
    Shape,
    Transport,
    Upload,
    WouldBlock,
    hub_contract_of,
    retry_policy,
)
from hubproto_core.http import AccessToken, ClientOptions, ClientSocket, Obstacle, Tunnel
from hubproto_core.http import HubClient as Machine

from ._pump import SocketPump
from ._runner import IncomingItems, Runner

__all__ = ["Connection", "HubClient", "Stream", "connect"]

_HEAD_START = 0.25  # seconds that each address of a host has before the next one is tried, too
_TUNNEL_READ = 4096

T = TypeVar("T")
P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Any])


class HubClient:
    """A client of the hub at `url` (http or https), for programs that start and stop it themselves.

    Entering it (`async with HubClient(url) as client:`) opens no connection yet: it only gives a home to what runs for
    it. `start` and `stop` may be called there again and again. `connect` is the same in one step.

    `headers` and `access_token` go with every request; the latter may be a function, plain or async, that is asked for
    the token before each attempt to connect, and once more when the server answers 401. `transports` are those that may
    carry the connection; the server says in which order they are tried. `skip_negotiation` opens the WebSocket at once.
    `protocol` is the encoding: its name, or a `JsonCodec` or `MessagePackCodec` with settings of its own.
    `connect_timeout` is how many seconds one attempt may take. `reconnect` brings the client back when the connection
    is lost: True after 0, 2, 10 and 30 s; a `ReconnectPolicy`; or any function from a `Retry` to seconds, or None to
    give up. `stateful` lets another WebSocket take the place of one that breaks, if the server allows it: nothing is
    lost, and calls and streams notice nothing. The timeouts of `config` are the client's; its `max_message_size` is
    unlimited unless you set one.
    `proxy` is the HTTP proxy through which all connections are made (http://user:password@host:port), or "env" for what
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say; without it they go straight to the server.
    `call_headers` is asked at every call, where it is made, for headers of the message:
    `hubproto_core.opentelemetry.trace_headers` gives `traceparent`. docs/client.md says more.

    Leaving it in order says farewell, within `HubConfig.close_timeout`; leaving it by an exception or cancellation
    drops the socket at once. Raises ValueError for a URL that is none, that of a proxy included, for headers
    that cannot be sent, and for an unknown protocol.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        access_token: AccessToken | None = None,
        transports: Collection[Transport] = tuple(Transport),
        skip_negotiation: bool = False,
        protocol: Literal["json", "messagepack"] | Codec = "json",
        connect_timeout: float = 30.0,
        reconnect: bool | RetryPolicy = False,
        stateful: bool = False,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        config: HubConfig | None = None,
        call_headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        options = ClientOptions(
            headers=headers or {},
            access_token=access_token,
            transports=transports,
            skip_negotiation=skip_negotiation,
            proxy=proxy,
            connect_timeout=connect_timeout,
            reconnect=retry_policy(reconnect),
            stateful=stateful,
            call_headers=call_headers,
        )
        self._machine = Machine(
            url, entropy=os.urandom, options=options, config=config, protocol=protocol, environment=os.environ
        )
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop
        self._runner: _ClientRunner | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise LocalProtocolError("a client can be entered only once")
        self._loop = asyncio.get_running_loop()
        self._runner = _ClientRunner(self._machine, self._ssl_context)
        self._runner.add_pump(self._machine, self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._machine.leave(now=self._loop.time())
                while not self._machine.finished:
                    await self._entered.wait(self._machine)
        finally:
            await self._drop()

    async def start(self) -> None:
        """Make the connection. It tries once: `reconnect` is for a connection that was made.

        Raises `ConnectionFailed`, of which each reason is a class of its own, when there is no way to the hub,
        `HandshakeRefused` when the hub refuses the handshake, and `LocalProtocolError` unless it is disconnected.
        """
        runner = self._entered
        self._machine.start(now=self._loop.time())
        runner.run()
        try:
            await self.wait_connected()
        except BaseException:
            self._machine.abandon(now=self._loop.time())
            raise

    async def wait_connected(self) -> None:
        """Return as soon as there is a connection: at once, or when it is made (again).

        Raises the reason when there will be none, because it is over for good or could not be made, and
        `LocalProtocolError` before `start`. There is no limit of time: use the runtime's own.
        """
        while True:
            try:
                self._machine.started()
            except WouldBlock:
                await self._entered.wait(self._machine)
            else:
                return

    async def stop(self) -> None:
        """Say farewell, within `HubConfig.close_timeout`, and stay disconnected. Harmless if it is already.

        Cancelling it drops the socket at once.
        """
        runner = self._entered
        self._machine.stop(now=self._loop.time())
        runner.run()
        try:
            while not self._machine.stopped:
                await runner.wait(self._machine)
        except BaseException:
            self._machine.abandon(now=self._loop.time())
            raise

    @property
    def state(self) -> ClientState:
        """How things stand: `ClientState.CONNECTED`, for example."""
        return self._machine.state

    @property
    def connection_id(self) -> str | None:
        """The id by which the hub's methods know this connection; None if negotiation was skipped, or without one."""
        return self._machine.connection_id

    @property
    def transport(self) -> Transport | None:
        """What carries the connection; None while there is none."""
        return self._machine.transport

    # what becomes of the connection

    def on_connecting(self, callback: F, /) -> F:
        """Call `callback()`, plain or async, when `start` begins. Usable as a decorator, as all of these are."""
        self._machine.on_event(Connecting, callback)
        return callback

    def on_connected(self, callback: F, /) -> F:
        """Call `callback(connection_id)` when the connection is made for the first time after `start`."""
        self._machine.on_event(Connected, callback)
        return callback

    def on_reconnecting(self, callback: F, /) -> F:
        """Call `callback(error)` when the connection is lost and is to be made again."""
        self._machine.on_event(Reconnecting, callback)
        return callback

    def on_reconnected(self, callback: F, /) -> F:
        """Call `callback(connection_id)` when the connection is made again: with a new id, in no group."""
        self._machine.on_event(Reconnected, callback)
        return callback

    def on_closed(self, callback: F, /) -> F:
        """Call `callback(error)` when a connection that was made is over for good; None is an end in order."""
        self._machine.on_event(Closed, callback)
        return callback

    def events(self) -> AsyncIterator[ClientEvent]:
        """Return an iterator of what becomes of the connection from now on: it ends behind `Closed`.

        It can be made before the client is entered, so that it misses nothing.
        """
        return ClientEvents(self, self._machine.events())

    # calls

    @overload
    async def invoke(self, target: str, /, *arguments: Any) -> Any: ...
    @overload
    async def invoke(self, target: str, /, *arguments: Any, returns: type[T]) -> T: ...
    async def invoke(self, target: str, /, *arguments: Any, returns: Any = Any) -> Any:
        """Call a method of the hub and return its result, converted to `returns`.

        Cancelling it tells the hub. Raises `HubError` with the hub's text, `TransportError` when the connection ends
        first, `LocalProtocolError` for an argument that cannot be encoded.
        """
        session = self._machine.connected()
        return await self._entered.outcome_of(partial(session.invoke, target, arguments, Shape.of(returns)))

    async def send(self, target: str, /, *arguments: Any) -> None:
        """Call a method of the hub without waiting for it to run; only waits while the socket takes no more."""
        session = self._machine.connected()
        session.send(target, arguments)
        while not session.writable:
            await self._entered.wait(session)

    @overload
    def stream(self, target: str, /, *arguments: Any) -> Stream[Any]: ...
    @overload
    def stream(self, target: str, /, *arguments: Any, returns: type[T]) -> Stream[T]: ...
    def stream(self, target: str, /, *arguments: Any, returns: Any = Any) -> Stream[Any]:
        """Call a streaming method: `async with hub.stream("Counter", 10) as items: async for item in items: ...`.

        Entering sends the call. Leaving the block before the end cancels the stream. Items are converted to `returns`.
        """
        self._machine.connected()
        return Stream(self._machine, self._entered, target, arguments, Shape.of(returns))

    def upload(self, items: AsyncIterable[Any] | Iterable[Any]) -> Upload:
        """Return an argument for any of the calls that sends these items as a stream while the call runs."""
        return Upload(items)

    def proxy(self, protocol: Callable[..., P], *, rename: Rename = None) -> P:
        """Return an object with the methods of a `typing.Protocol`, which call those of the hub.

        `chat = hub.proxy(ChatHub); await chat.add(2, 3)`. An `async def` method invokes, and its result is converted to
        the annotated type; one that is `one_way` sends. A plain one that returns `Stream[T]` streams. A parameter that
        is annotated as an `AsyncIterable` or as `Upload` is an upload. On the wire a method has the name that it has
        here, changed by `rename` ("pascal", "camel" or a function), or the one that `wire_name` gives it.

        Raises TypeError for what is no Protocol, and for one whose members cannot be called over the wire.
        """
        return hub_contract_of(protocol, rename).proxy(self)

    @overload
    def on(self, target: str, handler: F, /) -> F: ...
    @overload
    def on(self, target: str, /) -> Callable[[F], F]: ...
    def on(self, target: str, handler: Any = None, /) -> Any:
        """Call `handler` whenever the hub calls `target`; usable as a decorator, and before the connection is entered.

        It may be a plain or an `async def` function. Handlers run one after another, in the order of the calls.
        """
        if handler is None:
            return lambda function: self.on(target, function)
        self._machine.handlers.add(target, handler)
        return handler

    def off(self, target: str, handler: Callable[..., Any] | None = None, /) -> None:
        """Forget one handler of `target`, or all of them."""
        self._machine.handlers.remove(target, handler)

    def on_any(self, handler: F, /) -> F:
        """Call `handler(target, arguments)` at every call of the hub, before the handlers of that target, if any.

        Usable as a decorator. It only listens: a hub that wants a result gets it from a handler of that target, whose
        annotations also say what the arguments are; without one they are plain values.
        """
        self._machine.handlers.add_listener(handler)
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None, /) -> None:
        """Forget one handler of `on_any`, or all of them."""
        self._machine.handlers.remove_listener(handler)

    # within

    @property
    def _entered(self) -> _ClientRunner:
        if self._runner is None:
            raise LocalProtocolError("enter the client first: `async with` gives a home to what runs for it")
        return self._runner

    def flush(self) -> None:
        """See what falls due at the client itself, and arm its next deadline; the runner calls it."""
        self._machine.handle_timeout(now=self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._machine.next_timeout()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self.flush)

    async def _drop(self, error: BaseException | None = None) -> None:
        self._machine.leave(now=self._loop.time())
        self._machine.abandon(now=self._loop.time())
        self._entered.run()
        if self._timer is not None:
            self._timer.cancel()
        await self._entered.stop()


class Connection(HubClient):
    """A `HubClient` that starts when it is entered: `async with connect(url) as hub:`.

    Entering raises what `start` raises. Entering and leaving it is all there is to do.
    """

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.start()
        except BaseException as error:
            await self._drop(error)
            raise
        return self


connect = Connection


class ClientEvents:
    """The iterator of `HubClient.events`."""

    def __init__(self, client: HubClient, stream: EventStream) -> None:
        self._client = client
        self._stream = stream

    def __aiter__(self) -> ClientEvents:
        return self

    async def __anext__(self) -> ClientEvent:
        return await IncomingItems[ClientEvent](self._client._entered, self._stream).__anext__()


class Stream(Generic[T]):
    """A stream from the hub. `Connection.stream` makes it; entering it gives the iterator of its items."""

    def __init__(self, machine: Machine, runner: Runner, target: str, arguments: tuple[Any, ...], shape: Shape) -> None:
        self._machine = machine
        self._runner = runner
        self._request = (target, arguments, shape)
        self._stream: IncomingStream

    async def __aenter__(self) -> IncomingItems[T]:
        self._stream = self._machine.connected().stream(*self._request)
        return IncomingItems(self._runner, self._stream)

    async def __aexit__(self, *_: object) -> None:
        self._stream.session.abandon(self._stream.stream_id)


class _ClientRunner(Runner):
    """Carries out the effects of a client, the opening of sockets included."""

    def __init__(self, machine: Machine, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(machine.effects)
        self._ssl_context = ssl_context
        self._openings: set[_Opening] = set()

    def open_socket(self, socket: ClientSocket) -> None:
        opening = _Opening(socket, self._loop.create_task(self._open(socket)))
        self._openings.add(opening)
        self.add_pump(socket, opening)
        opening.task.add_done_callback(lambda _: self._opened(socket, opening))

    def _opened(self, socket: ClientSocket, opening: _Opening) -> None:
        self._openings.discard(opening)
        self.remove_pump(socket, opening)

    async def _open(self, machine: ClientSocket) -> None:
        try:
            connected = await self._dial(machine)
            pump = SocketPump(self, lambda: machine)
            try:
                transport, _ = await self._loop.create_connection(
                    lambda: pump,
                    sock=connected,
                    ssl=(self._ssl_context or ssl.create_default_context()) if machine.tls else None,
                    server_hostname=machine.host if machine.tls else None,
                )
            except BaseException:
                self._disown(connected)
                if machine in self._sockets:  # it was open, and closes now; uvloop would not say so
                    pump.connection_lost(None)
                raise
            if transport.is_closing():
                self._disown(connected)
        except _NoTunnel:
            self.run()
        except (OSError, UnicodeError) as error:  # no IDNA name is a UnicodeError
            machine.open_failed(error, _obstacle(error), now=self._loop.time())

    def _disown(self, connected: socket.socket) -> None:
        """It broke, or was given up, before it was the transport's.

        uvloop has closed its descriptor then, and not told the socket, which would close whatever has that number next.
        """
        if not isinstance(self._loop, asyncio.BaseEventLoop):
            connected.detach()

    async def _dial(self, machine: ClientSocket) -> socket.socket:
        addresses = await self._loop.getaddrinfo(
            *machine.address,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,  # of a socket without it, asyncio does not know that small pieces go at once
        )
        connected = await start_connection(addresses, happy_eyeballs_delay=_HEAD_START, loop=self._loop)
        try:
            if machine.tunnel is not None:
                await self._dig(machine.tunnel, connected)
        except BaseException:
            connected.close()
            raise
        return connected

    async def _dig(self, tunnel: Tunnel, connected: socket.socket) -> None:
        """Pump a tunnel until it leads to the server. Raises `_NoTunnel` if it does not."""
        while not tunnel.finished:
            await self._loop.sock_sendall(connected, tunnel.data_to_send())
            data = await self._loop.sock_recv(connected, _TUNNEL_READ)
            if data:
                tunnel.receive_data(data, now=self._loop.time())
            else:
                tunnel.receive_eof(now=self._loop.time())
        if not tunnel.open:
            raise _NoTunnel

    async def stop(self) -> None:
        tasks = [opening.task for opening in self._openings]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().stop()


class _NoTunnel(Exception):
    """The proxy does not lead to the server; the machine has been told."""


class _Opening:
    """A socket that is being opened, unless nobody wants it any more."""

    def __init__(self, socket: ClientSocket, task: asyncio.Task[None]) -> None:
        self._socket = socket
        self.task = task

    def flush(self) -> None:
        if self._socket.finished:
            self.task.cancel()


def _obstacle(error: Exception) -> Obstacle:
    """Sort what the operating system has to say."""
    match error:
        case socket.gaierror() | UnicodeError():
            return Obstacle.NO_HOST
        case ssl.SSLError():
            return Obstacle.TLS
        case OSError() if _all_refused(error):
            return Obstacle.REFUSED
        case _:
            return Obstacle.OTHER


def _all_refused(error: OSError) -> bool:
    """Tell whether each address of a host has refused; of several, asyncio leaves nothing but the text."""
    refused = str(error).count(f"[Errno {errno.ECONNREFUSED}]")
    return isinstance(error, ConnectionRefusedError) or (refused > 0 and refused == str(error).count("[Errno"))
