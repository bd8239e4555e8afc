"""`Runtime`: what the asynchronous tests need of trio and of asyncio, under the same names.

Bytes go through real sockets on 127.0.0.1 and time is real: trio's `MockClock` would jump while bytes are still in the
kernel. Policy that depends on time is tested in the core, on a clock that a test sets.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, overload

import pytest

from hubproto_core import ClientEvent, ClientState, Hub, HubContext, Rename, Transport, Upload

from .tcp import Tcp

if TYPE_CHECKING:  # where the core is alone, it has no HTTP layer
    from hubproto_core.http import Mount

__all__ = [
    "App",
    "Connection",
    "Event",
    "Outcome",
    "Runtime",
    "Served",
    "Server",
    "Task",
    "Tasks",
    "over_each_transport",
    "runtimes",
]

_NAMES = os.environ.get("HUBPROTO_TRANSPORTS", ",".join(Transport)).split(",")

over_each_transport = pytest.mark.parametrize("transport", [Transport(name) for name in _NAMES], ids=str)
"""Run the test once for each transport, or for those that HUBPROTO_TRANSPORTS names: it carries all of its clients."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

TEST_LIMIT = 20.0  # seconds: far more than most tests need, and less than pytest's own limit, whose end is less clean


class Connection(Protocol):
    """A client, as both adapters make it."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...
    @property
    def connection_id(self) -> str | None: ...
    @overload
    async def invoke(self, target: str, /, *arguments: Any) -> Any: ...
    @overload
    async def invoke(self, target: str, /, *arguments: Any, returns: type[T]) -> T: ...
    async def send(self, target: str, /, *arguments: Any) -> None: ...
    @overload
    def stream(self, target: str, /, *arguments: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...
    @overload
    def stream(
        self, target: str, /, *arguments: Any, returns: type[T]
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]: ...
    def upload(self, items: Any) -> Upload: ...
    @overload
    def on(self, target: str, handler: F, /) -> F: ...
    @overload
    def on(self, target: str, /) -> Callable[[F], F]: ...
    def off(self, target: str, handler: Callable[..., Any] | None = None, /) -> None: ...
    def on_any(self, handler: F, /) -> F: ...
    def off_any(self, handler: Callable[..., Any] | None = None, /) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def wait_connected(self) -> None: ...
    def proxy(self, protocol: Callable[..., T], *, rename: Rename = None) -> T: ...
    @property
    def state(self) -> ClientState: ...
    @property
    def transport(self) -> Transport | None: ...
    def on_connecting(self, callback: F, /) -> F: ...
    def on_connected(self, callback: F, /) -> F: ...
    def on_reconnecting(self, callback: F, /) -> F: ...
    def on_reconnected(self, callback: F, /) -> F: ...
    def on_closed(self, callback: F, /) -> F: ...
    def events(self) -> AsyncIterator[ClientEvent]: ...


class Server(Protocol):
    """A server, as both adapters make it."""

    port: int

    def context(self, hub: Hub) -> HubContext: ...
    @property
    def closing(self) -> bool: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class App(Protocol):
    """An ASGI application, as both adapters make it."""

    def context(self, hub: Hub) -> HubContext: ...
    def close(self) -> None: ...
    def running(self) -> AbstractAsyncContextManager[None]: ...
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Event(Protocol):
    """An event, as both runtimes have it."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Task(Protocol):
    """A task of `Runtime.tasks`."""

    def cancel(self) -> object: ...


class Tasks(Protocol):
    """A nursery, or a TaskGroup. Leaving it waits for its tasks."""

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Task: ...


@dataclass
class Outcome:
    """What became of a `move_on_after`."""

    cancelled: bool = False


@dataclass(frozen=True)
class Served:
    """A running server and the way to it."""

    server: Server
    origin: str
    path: str

    @property
    def url(self) -> str:
        """Where the hub is."""
        return f"{self.origin}{self.path}"

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self.server.port


class Runtime(ABC):
    """One runtime with its adapter."""

    name: ClassVar[str]
    Cancelled: ClassVar[type[BaseException]]
    """What a cancelled task sees."""
    of_clients: Mapping[str, Any] = MappingProxyType({})
    """Options of every client."""

    def over(self, transport: Transport) -> Self:
        """Return the same runtime, but for its clients: this is what carries them."""
        runtime = copy(self)
        runtime.of_clients = {"transports": [transport]}
        return runtime

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def run(self, test: Callable[[], Coroutine[Any, Any, None]], limit: float) -> None:
        """Run a test, and fail if it takes longer than so many seconds or leaves anything behind."""

    # --- the adapter -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(
        self, hub: Hub | Mount | Mapping[str, Hub | Mount], path: str = "/hub", **options: Any
    ) -> AsyncIterator[Served]:
        """Serve: gracefully to the end when the block is left in order, dropping everything otherwise."""
        scheme = "https" if options.get("ssl_context") else "http"
        async with self._serve(hub, path, **options) as server:
            yield Served(server, f"{scheme}://127.0.0.1:{server.port}", path)

    @abstractmethod
    def _serve(
        self, hub: Hub | Mount | Mapping[str, Hub | Mount], path: str, **options: Any
    ) -> AbstractAsyncContextManager[Server]: ...

    @abstractmethod
    def connect(self, url: str, **options: Any) -> Connection: ...

    @abstractmethod
    def app(self, hub: Hub | Mapping[str, Any], path: str = "/", **options: Any) -> App: ...

    @abstractmethod
    def client(self, url: str, **options: Any) -> Connection:
        """Return a client that is started by itself."""

    # --- the runtime -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def sleep_forever(self) -> None: ...

    @abstractmethod
    def current_time(self) -> float: ...

    @abstractmethod
    def Event(self) -> Event: ...

    @abstractmethod
    def tasks(self) -> AbstractAsyncContextManager[Tasks]: ...

    @abstractmethod
    def living_tasks(self) -> int:
        """How many tasks there are, of the test and of the runtime itself, too."""

    @abstractmethod
    def move_on_after(self, seconds: float) -> AbstractAsyncContextManager[Outcome]: ...

    @abstractmethod
    async def wait_readable(self, sock: socket.socket) -> None: ...

    @abstractmethod
    async def wait_writable(self, sock: socket.socket) -> None: ...

    # --- on top of it ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def fail_after(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer."""
        async with self.move_on_after(seconds) as outcome:
            yield
        if outcome.cancelled:
            raise TimeoutError(f"not within {seconds:g} s")

    async def eventually(self, condition: Callable[[], Any], within: float = 10.0) -> None:
        """Return as soon as the condition holds; fail if it does not in time."""
        deadline = self.current_time() + within
        while not condition():
            assert self.current_time() < deadline, f"not within {within:g} s"
            await self.sleep(0.005)

    async def settled(self, value: Callable[[], int], quiet: float = 0.3, within: float = 10.0) -> int:
        """Return a value that grows, once it has grown at all and then has not for a while."""
        seen, since = 0, self.current_time()

        def still() -> bool:
            nonlocal seen, since
            if value() != seen:
                seen, since = value(), self.current_time()
            return seen > 0 and self.current_time() - since > quiet

        await self.eventually(still, within)
        return seen

    async def tcp(self, port: int) -> Tcp:
        """Open a TCP connection to a port here; to be used in a `with` block."""
        return await Tcp.connect(self, port)

    @asynccontextmanager
    async def listen(self, handler: Callable[[Tcp], Coroutine[Any, Any, Any]]) -> AsyncIterator[int]:
        """Be a TCP server that treats every connection so, and closes it behind that; gives its port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            async with self.tasks() as tasks:

                async def treat(tcp: Tcp) -> None:
                    with tcp:
                        await handler(tcp)

                async def accept() -> None:
                    while True:
                        await self.wait_readable(listener)
                        running.append(tasks.start_soon(treat, Tcp(self, listener.accept()[0])))

                running = [tasks.start_soon(accept)]
                yield listener.getsockname()[1]
                for task in running:
                    task.cancel()


def runtimes(prefix: str = "") -> list[Runtime]:
    """The runtimes to test on: the one that HUBPROTO_WORLD names, else all that are installed; of these, some."""
    world = os.environ.get("HUBPROTO_WORLD")
    found: list[Runtime] = []
    if world == "trio" or (not world and find_spec("hubproto_trio")):
        from .runtime_trio import TrioRuntime

        found.append(TrioRuntime())
    if world == "asyncio" or (not world and find_spec("hubproto_asyncio")):
        from .runtime_asyncio import AsyncioRuntime

        found.append(AsyncioRuntime())
    if world == "asyncio-uvloop" or (not world and find_spec("hubproto_asyncio") and find_spec("uvloop")):
        from .runtime_asyncio import UvloopRuntime

        found.append(UvloopRuntime())
    return [runtime for runtime in found if runtime.name.startswith(prefix)]
