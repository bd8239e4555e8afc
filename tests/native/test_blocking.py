"""The client for threads: its calls block, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from examples import blocking_client
from hubproto_asyncio import (
    Call,
    Hub,
    HubConfig,
    HubError,
    LocalProtocolError,
    Transport,
    TransportError,
    blocking,
    serve,
)

WITHIN = 10.0


class Host:
    """A hub in a thread of its own, and what has happened there."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.left = threading.Event(), threading.Event(), threading.Event()
        self.when_begun: Callable[[], None] = lambda: None
        self.sent = 0
        self.url = ""
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        hub = self._hub = Hub(HubConfig(max_parallel_calls=100))
        hub.method("Add")(lambda a, b: a + b)
        hub.method("Fail")(self.fail)
        hub.method("Slow")(self.slow)
        hub.method("Numbers")(self.numbers)
        hub.method("Sum")(self.sum)
        hub.method("First")(self.first)
        hub.method("Counter")(self.counter)
        hub.method("Upload")(self.count)
        hub.method("Tell")(self.tell)

    def fail(self) -> None:
        raise HubError("told to the client")

    async def slow(self) -> None:
        self.begun.set()
        self.when_begun()
        try:
            await self._loop.create_future()
        finally:
            self.cancelled.set()

    async def numbers(self, count: int) -> AsyncIterator[str]:
        try:
            for number in range(count):
                self.sent = number
                yield f"{number}".ljust(1000)
        finally:
            self.left.set()

    async def sum(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def counter(self, count: int, delay: float) -> AsyncIterator[int]:
        for number in range(count):
            yield number
            await asyncio.sleep(delay)

    async def count(self, items: AsyncIterator[str]) -> int:
        return len([item async for item in items])

    async def first(self, items: AsyncIterator[int]) -> int:
        return await anext(items)

    def tell(self, text: str, call: Call) -> None:
        call.clients.caller.send("told", text)

    async def _main(self) -> None:
        async with serve(self._hub, "/hub") as server:
            self.url = f"http://127.0.0.1:{server.port}/hub"
            self._listening.set()
            await self._over.wait()

    @contextmanager
    def running(self) -> Iterator[Host]:
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._main()))
        thread.start()
        assert self._listening.wait(WITHIN)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join()
            self._loop.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with Host().running() as host:
        yield host


@pytest.fixture(name="hub")
def connected(host: Host) -> Iterator[blocking.HubClient]:
    with blocking.connect(host.url) as hub:
        yield hub


def test_calls_streams_and_uploads(hub: blocking.HubClient) -> None:
    assert hub.invoke("Add", 2, 3, returns=int) == 5
    hub.send("Add", 2, 3)
    with pytest.raises(HubError, match="told to the client"):
        hub.invoke("Fail")
    with hub.stream("Numbers", 100, returns=str) as items:
        assert [int(item) for item in items] == list(range(100))
    assert hub.invoke("Sum", hub.upload(range(1000))) == 499_500
    assert hub.invoke("Sum", hub.upload(number for number in range(10))) == 45


def test_a_call_that_takes_too_long_is_cancelled_at_the_hub(host: Host, hub: blocking.HubClient) -> None:
    with pytest.raises(TimeoutError):
        hub.invoke("Slow", timeout=0.05)
    assert host.cancelled.wait(WITHIN)
    assert hub.invoke("Add", 2, 3) == 5


@pytest.mark.parametrize(
    "interrupt",
    [
        lambda: os.kill(os.getpid(), signal.SIGINT),
        # the thread that waits is not woken, as it may not be by a signal that comes just before it waits
        lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT),
    ],
    ids=["woken", "not woken"],
)
def test_ctrl_c_cancels_the_call(host: Host, hub: blocking.HubClient, interrupt: Callable[[], None]) -> None:
    host.when_begun = interrupt
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    try:
        with pytest.raises(KeyboardInterrupt):
            hub.invoke("Slow")
    finally:
        signal.signal(signal.SIGINT, before)
    assert host.cancelled.wait(WITHIN)
    assert hub.invoke("Add", 2, 3) == 5


def test_a_stream_that_is_left_is_cancelled_and_a_slow_reader_slows_it(host: Host, hub: blocking.HubClient) -> None:
    with hub.stream("Numbers", 1_000_000_000) as items:
        assert int(next(iter(items))) == 0
        hub.invoke("Add", 1, 2)
    assert host.left.wait(WITHIN)
    assert host.sent < 1_000_000


def test_an_upload_is_taken_only_as_fast_as_it_travels_and_closed_at_its_end(
    host: Host, hub: blocking.HubClient
) -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    assert hub.invoke("First", hub.upload(numbers())) == 0
    assert closed.wait(WITHIN)


def test_twenty_threads(hub: blocking.HubClient) -> None:
    results: list[int] = []

    def work(base: int) -> None:
        results.extend(hub.invoke("Add", base, number) for number in range(50))

    threads = [threading.Thread(target=work, args=(100 * base,)) for base in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [100 * base + number for base in range(20) for number in range(50)]


def test_handlers_may_call_the_hub_and_a_slow_one_holds_nothing_up(hub: blocking.HubClient) -> None:
    gate, done = threading.Event(), threading.Event()
    seen: list[object] = []

    @hub.on("told")
    def told(text: str) -> None:
        assert gate.wait(WITHIN)
        seen.extend([text, hub.invoke("Add", 1, 2), threading.current_thread().name])
        done.set()

    hub.invoke("Tell", "news")
    assert hub.invoke("Add", 2, 3) == 5
    assert seen == []
    gate.set()
    assert done.wait(WITHIN)
    assert seen == ["news", 3, "hubproto worker"]
    with pytest.raises(TypeError, match="is to be a plain function"):
        hub.on("told", asyncio.sleep)


def test_handlers_are_forgotten_and_callbacks_told(host: Host) -> None:
    heard: list[object] = []
    told = threading.Event()
    hub = blocking.connect(host.url)
    hub.on_connecting(lambda: heard.append("connecting"))
    hub.on_connected(heard.append)
    hub.on_reconnecting(heard.append)
    hub.on_reconnected(heard.append)
    hub.on_closed(heard.append)
    with pytest.raises(TypeError, match="is to be a plain function"):
        hub.on_closed(asyncio.sleep)
    with hub:
        name = hub.connection_id
        hub.on("told", heard.append)
        hub.on("Told", lambda _: told.set())
        hub.off("told", heard.append)
        calls: list[object] = []
        everything = hub.on_any(lambda target, arguments: calls.append((target, arguments)))
        hub.invoke("Tell", "news")
        assert told.wait(WITHIN)
        hub.off("told")
        hub.off_any(everything)
        hub.invoke("Tell", "more")
        assert hub.transport is Transport.WEB_SOCKETS
    assert calls == [("told", ["news"])]
    assert heard == ["connecting", name, None]


def test_inside_a_running_loop(host: Host) -> None:
    async def cell() -> int:
        with blocking.connect(host.url) as hub:
            result: int = hub.invoke("Add", 2, 3)
            return result

    assert asyncio.run(cell()) == 5


def test_its_own_thread_cannot_wait_for_itself(host: Host) -> None:
    said: list[str] = []

    async def token() -> None:
        try:
            hub.invoke("Add", 1, 2)
        except LocalProtocolError as error:
            said.append(str(error))

    hub = blocking.connect(host.url, access_token=token)
    with hub:
        assert said == ["called in the client's own thread, which would wait for itself"]


def test_the_thread_ends_with_the_block(host: Host) -> None:
    with blocking.connect(host.url) as hub:
        assert "hubproto" in [thread.name for thread in threading.enumerate()]
    assert "hubproto" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(LocalProtocolError, match="not started, or closed"):
        hub.invoke("Add", 1, 2)


def test_start_stop_and_events(host: Host) -> None:
    hub = blocking.HubClient(host.url)
    events = hub.events()
    hub.start()
    hub.wait_connected()
    hub.stop()
    with pytest.raises(TransportError):
        hub.invoke("Add", 1, 2)
    assert [type(event).__name__ for event in events] == ["Connecting", "Connected", "Closed"]
    hub.close()


def test_a_call_that_waits_when_the_client_is_closed_fails(host: Host) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            hub.invoke("Slow")
        except TransportError as error:
            errors.append(error)

    with blocking.connect(host.url) as hub:
        thread = threading.Thread(target=call)
        thread.start()
        assert host.begun.wait(WITHIN)
    thread.join(WITHIN)
    assert len(errors) == 1


def test_a_failed_start_leaves_no_thread() -> None:
    with pytest.raises(TransportError):
        with blocking.connect("http://127.0.0.1:9/hub"):
            pytest.fail("nobody listens there")
    assert "hubproto" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("end", ["", "del hub", "hub.on('told', print)"])
def test_a_client_that_is_forgotten_does_not_hold_the_interpreter(host: Host, end: str) -> None:
    script = f"from hubproto_asyncio import blocking; hub = blocking.HubClient({host.url!r}); hub.start(); {end}"
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=WITHIN, stderr=subprocess.PIPE)
    assert ended.stderr == b""


def test_the_example(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    blocking_client.main(host.url)
    assert capsys.readouterr().out.splitlines() == ["2 + 3 = 5", "item 0", "item 1", "item 2", "uploaded 2"]
