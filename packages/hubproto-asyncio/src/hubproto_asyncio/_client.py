"""`connect`: a client of a hub."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from hubproto_core import Codec, HubConfig, IncomingStream, Shape, Upload, WouldBlock
from hubproto_core.http import ClientOptions, ClientSocket, HubClient

from ._pump import SocketPump
from ._runner import IncomingItems, Runner

__all__ = ["Connection", "Stream", "connect"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    access_token: str | None = None,
    skip_negotiation: bool = False,
    protocol: Literal["json", "messagepack"] | Codec = "json",
    ssl_context: ssl.SSLContext | None = None,
    config: HubConfig | None = None,
    call_headers: Callable[[], Mapping[str, str]] | None = None,
) -> Connection:
    """Return a client of the hub at `url` (http or https), to be entered: `async with connect(url) as hub:`.

    `headers` and `access_token` go with every request; `skip_negotiation` opens the WebSocket at once. `protocol` is
    the encoding: its name, or a `JsonCodec` or `MessagePackCodec` with settings of its own. The timeouts of `config`
    are the client's; its `max_message_size` is unlimited unless you set one. `call_headers` is asked at every call,
    where it is made, for headers of the message: `hubproto_core.opentelemetry.trace_headers` gives `traceparent`.

    Entering raises `TransportError` when there is no way to the hub, `HubError` when it refuses the handshake.
    Leaving in order says farewell, within `HubConfig.close_timeout`; leaving by an exception or cancellation drops the
    socket at once. Raises ValueError for a URL that is none, and for an unknown protocol.
    """
    options = ClientOptions(
        headers=headers or {},
        access_token=access_token,
        skip_negotiation=skip_negotiation,
        call_headers=call_headers,
    )
    return Connection(
        HubClient(url, entropy=os.urandom, options=options, config=config, protocol=protocol), ssl_context
    )


class Connection:
    """A client's connection to a hub. `connect` makes it; methods that reach the hub need it to be entered."""

    def __init__(self, machine: HubClient, ssl_context: ssl.SSLContext | None) -> None:
        self._machine = machine
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop
        self._runner: _ClientRunner
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._runner = _ClientRunner(self._machine, self._ssl_context)
        self._runner.add_pump(self._machine, self)
        try:
            self._machine.start(now=self._loop.time())
            self.flush()
            while True:
                try:
                    self._machine.started()
                except WouldBlock:
                    await self._runner.wait(self._machine)
                else:
                    return self
        except BaseException:
            await self._drop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._machine.stop(now=self._loop.time())
                self.flush()
                while not self._machine.closed:
                    await self._runner.wait(self._machine)
        finally:
            await self._drop()

    @property
    def connection_id(self) -> str | None:
        """The id by which the hub's methods know this connection; None if negotiation was skipped."""
        return self._machine.connection_id

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
        session = self._machine.started()
        return await self._runner.outcome_of(partial(session.invoke, target, arguments, Shape.of(returns)))

    async def send(self, target: str, /, *arguments: Any) -> None:
        """Call a method of the hub without waiting for it to run; only waits while the socket takes no more."""
        session = self._machine.started()
        session.send(target, arguments)
        while not session.writable:
            await self._runner.wait(session)

    @overload
    def stream(self, target: str, /, *arguments: Any) -> Stream[Any]: ...
    @overload
    def stream(self, target: str, /, *arguments: Any, returns: type[T]) -> Stream[T]: ...
    def stream(self, target: str, /, *arguments: Any, returns: Any = Any) -> Stream[Any]:
        """Call a streaming method: `async with hub.stream("Counter", 10) as items: async for item in items: ...`.

        Entering sends the call. Leaving the block before the end cancels the stream. Items are converted to `returns`.
        """
        self._machine.started()
        return Stream(self._machine, self._runner, target, arguments, Shape.of(returns))

    def upload(self, items: AsyncIterable[Any] | Iterable[Any]) -> Upload:
        """Return an argument for any of the calls that sends these items as a stream while the call runs."""
        return Upload(items)

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

    # within

    def flush(self) -> None:
        """Arm the deadline of the client itself; the runner calls it."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._machine.next_timeout()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._fall_due)

    def _fall_due(self) -> None:
        self._machine.handle_timeout(now=self._loop.time())
        self.flush()

    async def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._runner.stop()


class Stream(Generic[T]):
    """A stream from the hub. `Connection.stream` makes it; entering it gives the iterator of its items."""

    def __init__(
        self, machine: HubClient, runner: Runner, target: str, arguments: tuple[Any, ...], shape: Shape
    ) -> None:
        self._machine = machine
        self._runner = runner
        self._request = (target, arguments, shape)
        self._stream: IncomingStream

    async def __aenter__(self) -> IncomingItems[T]:
        self._stream = self._machine.started().stream(*self._request)
        return IncomingItems(self._runner, self._stream)

    async def __aexit__(self, *_: object) -> None:
        self._stream.session.abandon(self._stream.stream_id)


class _ClientRunner(Runner):
    """Carries out the effects of a client, the opening of sockets included."""

    def __init__(self, machine: HubClient, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(machine.effects)
        self._ssl_context = ssl_context
        self._openings: set[asyncio.Task[None]] = set()

    def open_socket(self, socket: ClientSocket) -> None:
        opening = self._loop.create_task(self._open(socket))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)

    async def _open(self, socket: ClientSocket) -> None:
        try:
            await self._loop.create_connection(
                lambda: SocketPump(self, lambda: socket),
                socket.host,
                socket.port,
                ssl=(self._ssl_context or ssl.create_default_context()) if socket.tls else None,
            )
        except (OSError, UnicodeError) as error:  # no IDNA name is a UnicodeError
            socket.open_failed(error, now=self._loop.time())

    async def stop(self) -> None:
        for opening in self._openings:
            opening.cancel()
        await asyncio.gather(*self._openings, return_exceptions=True)
        await super().stop()
