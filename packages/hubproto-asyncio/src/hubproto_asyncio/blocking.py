"""Clients for scripts, notebooks and threads: those of this package, run in a thread of their own."""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from hubproto_core import (
    ClientEvent,
    ClientState,
    Codec,
    HubConfig,
    LocalProtocolError,
    RetryPolicy,
    Transport,
    TransportError,
    Upload,
)
from hubproto_core.http import AccessToken

from . import _client
from ._runner import IncomingItems

__all__ = ["Connection", "HubClient", "Stream", "connect"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_END = object()
_GLANCE = 0.5  # seconds after which a thread that waits looks up: a signal just before it waits does not wake it


class HubClient:
    """A client of the hub at `url` whose methods block until they are done, or until `timeout` seconds have passed.

    The options are those of `hubproto_asyncio.HubClient`. One thread in the background runs it, from `start` or from
    entering it until `close` or until it is left; it ends with the interpreter, too. Any number of threads may use it.

    Handlers are plain functions. They run in worker threads, one after another but for those that owe the hub an
    answer, and may call the hub. What runs in the client's own thread (an async token provider, a policy) may not.
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
        self._workers = _Workers()
        if callable(access_token) and not inspect.iscoroutinefunction(access_token):
            access_token = self._workers.wrapped(access_token)
        self._client = _client.HubClient(
            url,
            headers=headers,
            access_token=access_token,
            transports=transports,
            skip_negotiation=skip_negotiation,
            protocol=protocol,
            connect_timeout=connect_timeout,
            reconnect=reconnect,
            stateful=stateful,
            proxy=proxy,
            ssl_context=ssl_context,
            config=config,
            call_headers=call_headers,
        )
        self._wrapped: list[tuple[str | None, Any, Any]] = []  # target or None for any, handlers, and what runs them
        self._thread = _Thread(self._client, self._workers)
        weakref.finalize(self, self._thread.leave_soon).atexit = False

    def __enter__(self) -> Self:
        self._thread.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.close(error)

    def close(self) -> None:
        """Say farewell, and end the thread. Harmless if it has ended."""
        self._thread.close(None)

    def start(self, *, timeout: float | None = None) -> None:
        """See `hubproto_asyncio.HubClient.start`."""
        self._thread.open()
        self._thread.run(self._client.start, timeout=timeout)

    def stop(self, *, timeout: float | None = None) -> None:
        """See `hubproto_asyncio.HubClient.stop`."""
        self._thread.run(self._client.stop, timeout=timeout)

    def wait_connected(self, *, timeout: float | None = None) -> None:
        """See `hubproto_asyncio.HubClient.wait_connected`."""
        self._thread.run(self._client.wait_connected, timeout=timeout)

    @property
    def state(self) -> ClientState:
        """How things stand."""
        return self._client.state

    @property
    def connection_id(self) -> str | None:
        """The id by which the hub's methods know this connection; None if negotiation was skipped, or without one."""
        return self._thread.do(lambda: self._client.connection_id)

    @property
    def transport(self) -> Transport | None:
        """What carries the connection; None while there is none."""
        return self._thread.do(lambda: self._client.transport)

    @overload
    def invoke(self, target: str, /, *arguments: Any, timeout: float | None = None) -> Any: ...
    @overload
    def invoke(self, target: str, /, *arguments: Any, returns: type[T], timeout: float | None = None) -> T: ...
    def invoke(self, target: str, /, *arguments: Any, returns: Any = Any, timeout: float | None = None) -> Any:
        """Call a method of the hub and return its result. TimeoutError, as Ctrl-C, cancels the call at the hub."""
        call = functools.partial(self._client.invoke, target, *self._prepared(arguments), returns=returns)
        return self._thread.run(call, timeout=timeout)

    def send(self, target: str, /, *arguments: Any, timeout: float | None = None) -> None:
        """Call a method of the hub without waiting for it to run."""
        self._thread.run(functools.partial(self._client.send, target, *self._prepared(arguments)), timeout=timeout)

    @overload
    def stream(self, target: str, /, *arguments: Any, timeout: float | None = None) -> Stream[Any]: ...
    @overload
    def stream(self, target: str, /, *arguments: Any, returns: type[T], timeout: float | None = None) -> Stream[T]: ...
    def stream(self, target: str, /, *arguments: Any, returns: Any = Any, timeout: float | None = None) -> Stream[Any]:
        """Call a streaming method; `timeout` is for each item."""
        arguments = tuple(self._prepared(arguments))
        return Stream(self, lambda: self._client.stream(target, *arguments, returns=returns), timeout)

    def upload(self, items: Iterable[Any]) -> Upload:
        """Return an argument that sends these items as a stream; they are taken in a worker thread."""
        return Upload(_Pulled(self._workers, items))

    @overload
    def on(self, target: str, handler: F, /) -> F: ...
    @overload
    def on(self, target: str, /) -> Callable[[F], F]: ...
    def on(self, target: str, handler: Any = None, /) -> Any:
        """Call `handler`, a plain function, in a worker thread whenever the hub calls `target`."""
        if handler is None:
            return lambda function: self.on(target, function)
        wrapped = self._plain(handler)
        self._thread.do(lambda: self._client.on(target, wrapped))
        self._wrapped.append((target.lower(), handler, wrapped))
        return handler

    def off(self, target: str, handler: Callable[..., Any] | None = None, /) -> None:
        """Forget one handler of `target`, or all of them."""
        for entry in list(self._wrapped):
            name, function, wrapped = entry
            if name == target.lower() and handler in (None, function):
                self._wrapped.remove(entry)
                self._thread.do(functools.partial(self._client.off, target, wrapped))

    def on_any(self, handler: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_any`; a plain function, run in a worker thread."""
        wrapped = self._plain(handler)
        self._thread.do(lambda: self._client.on_any(wrapped))
        self._wrapped.append((None, handler, wrapped))
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None, /) -> None:
        """Forget one handler of `on_any`, or all of them."""
        for entry in list(self._wrapped):
            name, function, wrapped = entry
            if name is None and handler in (None, function):
                self._wrapped.remove(entry)
                self._thread.do(functools.partial(self._client.off_any, wrapped))

    def on_connecting(self, callback: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_connecting`; a plain function, run in a worker thread, as all of these."""
        return self._told(self._client.on_connecting, callback)

    def on_connected(self, callback: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_connected`."""
        return self._told(self._client.on_connected, callback)

    def on_reconnecting(self, callback: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_reconnecting`."""
        return self._told(self._client.on_reconnecting, callback)

    def on_reconnected(self, callback: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_reconnected`."""
        return self._told(self._client.on_reconnected, callback)

    def on_closed(self, callback: F, /) -> F:
        """See `hubproto_asyncio.HubClient.on_closed`."""
        return self._told(self._client.on_closed, callback)

    def _told(self, register: Callable[[Any], Any], callback: F) -> F:
        wrapped = self._plain(callback)
        self._thread.do(lambda: register(wrapped))
        return callback

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is to be a plain function: nothing here could await it")
        return self._workers.wrapped(function)

    def events(self) -> Iterator[ClientEvent]:
        """Return an iterator of what becomes of the connection from now on."""
        events = self._thread.do(self._client.events)
        return self._each(events)

    def _each(self, events: AsyncIterator[ClientEvent]) -> Iterator[ClientEvent]:
        while True:
            try:
                yield self._thread.run(lambda: _next_of(events))
            except StopAsyncIteration:
                return

    def _prepared(self, arguments: tuple[Any, ...]) -> list[Any]:
        return [
            self.upload(one.source) if isinstance(one, Upload) and isinstance(one.source, Iterable) else one
            for one in arguments
        ]


class Connection(HubClient):
    """A `HubClient` that starts when it is entered: `with connect(url) as hub:`."""

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.start()
        except BaseException as error:
            self._thread.close(error)
            raise
        return self


connect = Connection


class Stream(Generic[T]):
    """A stream from the hub, for one thread: entering it gives its iterator, leaving the block cancels it."""

    def __init__(self, hub: HubClient, make: Callable[[], _client.Stream[T]], timeout: float | None) -> None:
        self._hub = hub
        self._make = make
        self._timeout = timeout
        self._stream: _client.Stream[T]
        self._items: IncomingItems[T]

    def __enter__(self) -> Iterator[T]:
        self._items = self._hub._thread.run(self._enter)
        return self

    async def _enter(self) -> IncomingItems[T]:
        self._stream = self._make()
        return await self._stream.__aenter__()

    def __exit__(self, *error: object) -> None:
        self._hub._thread.run(lambda: self._stream.__aexit__(*error), leaving=True)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            item: T = self._hub._thread.run(self._items.__anext__, timeout=self._timeout)
        except StopAsyncIteration:
            raise StopIteration from None
        return item


async def _next_of(events: AsyncIterator[ClientEvent]) -> ClientEvent:
    return await anext(events)


class _Thread:
    """The thread in the background, its event loop, and the way to it."""

    def __init__(self, client: _client.HubClient, workers: _Workers) -> None:
        self._client = client
        self._workers = workers
        self._lock = threading.RLock()  # a client may be forgotten, and say so here, at any moment
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._leave: asyncio.Future[BaseException | None]

    def open(self) -> None:
        with self._lock:
            if self._thread is None:
                # Daemonic, or the interpreter would wait for it before it says that it ends; it is joined at exit.
                self._thread = threading.Thread(target=self._main, name="hubproto", daemon=True)
                _running.add(self)
                self._thread.start()
        self._ready.wait()

    def close(self, error: BaseException | None) -> None:
        self._forbid_own_thread()
        self.leave_soon(error)
        if self._thread is not None:
            self._thread.join()

    def leave_soon(self, error: BaseException | None = None) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._let_go, error)

    def _let_go(self, error: BaseException | None) -> None:
        if not self._leave.done():
            self._leave.set_result(error)

    def do(self, function: Callable[[], T]) -> T:
        """Do something that does not wait."""

        async def done() -> T:
            return function()

        if self._loop is None:
            return function()
        result: T = self.run(done)
        return result

    def run(
        self, function: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None, *, leaving: bool = False
    ) -> Any:
        self._forbid_own_thread()

        async def work() -> T:
            async with asyncio.timeout(timeout):
                return await function()

        job = _Job(work)
        try:  # from here on Ctrl-C may come at any moment
            with self._lock:
                if self._loop is None:
                    if leaving:
                        return None
                    raise LocalProtocolError("the client is not started, or closed")
                self._loop.call_soon_threadsafe(job.begin)
            while True:
                with suppress(TimeoutError):
                    return job.outcome.result(_GLANCE)
                if job.outcome.done():
                    return job.outcome.result()
        except CancelledError:
            raise TransportError("the client was closed") from None
        except BaseException:
            with self._lock:
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(job.cancel)
            raise

    def _forbid_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise LocalProtocolError("called in the client's own thread, which would wait for itself")

    def _main(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            try:
                loop.run_until_complete(self._live())
            finally:
                # Not `asyncio.Runner`: it ends the loop with another thread, which Python 3.12 refuses at its own end.
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
        finally:
            self._ready.set()
            self._workers.close()
            _running.discard(self)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        self._leave = loop.create_future()
        await self._client.__aenter__()
        with self._lock:
            self._loop = loop
        self._ready.set()
        error = await self._leave
        try:
            await self._client.__aexit__(type(error) if error else None, error, None)
        finally:
            with self._lock:
                self._loop = None
            await asyncio.sleep(0)  # what was asked for until now becomes a task
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


_running: set[_Thread] = set()


@atexit.register
def _end_all() -> None:
    for thread in list(_running):
        thread.close(None)


class _Job(Generic[T]):
    """Something that the client's thread does, for somebody who waits in another one."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.outcome.cancel()
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class _Workers:
    """Threads for what may block: each job gets one that is idle, or a new one."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                return
            if self._idle:
                self._idle -= 1
            else:
                self._count += 1
                threading.Thread(target=self._work, name="hubproto worker", daemon=True).start()
            self._jobs.put(job)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def job() -> None:
            result, failure = None, None
            try:
                result = function(*arguments)
            except Exception as error:
                failure = error
            except BaseException as error:
                failure = RuntimeError(f"{type(error).__name__} in a worker thread")
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:
                return  # the loop is closed: nobody waits

        self.submit(job)
        return await future

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function if inspect.isroutine(function) else function.__call__)  # type: ignore[operator]
        async def in_a_worker(*arguments: Any) -> Any:
            return await self.run(function, *arguments)

        return in_a_worker

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for _ in range(self._count):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                self._idle += 1


class _Pulled:
    """The items of an iterable, each taken in a worker thread when it is wanted."""

    def __init__(self, workers: _Workers, items: Iterable[Any]) -> None:
        self._workers = workers
        self._items = items

    async def __aiter__(self) -> AsyncIterator[Any]:
        lock = threading.Lock()
        iterator = await self._workers.run(iter, self._items)

        def take() -> Any:
            with lock:
                return next(iterator, _END)

        def close() -> None:
            with lock:
                getattr(iterator, "close", lambda: None)()

        try:
            while (item := await self._workers.run(take)) is not _END:
                yield item
        finally:
            self._workers.submit(close)
