"""The main job in one minute: a hub served on asyncio and on trio, called from clients on both.

Run it from a checkout with `python3 dev.py -s demo`. Each line says what happened; it ends by itself.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

import hubproto_asyncio
import hubproto_trio
from hubproto_core import Hub


def make_hub(sleep: Callable[[float], Awaitable[object]]) -> Hub:
    """A hub of four methods: ordinary functions of the runtime that serves them. Here that shows in `sleep` only."""
    hub = Hub()
    stopped_at: list[int] = []

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Countdown")
    async def countdown(start: int) -> AsyncIterator[int]:
        """A stream to the client: a method that yields."""
        number = start
        try:
            while number:
                yield number
                await sleep(0.05)
                number -= 1
        finally:
            if number:
                stopped_at.append(number)

    @hub.method("Join")
    async def join(words: AsyncIterator[str]) -> str:
        """A stream from the client: a parameter to be iterated."""
        return " ".join([word async for word in words])

    @hub.method("LastStop")
    async def last_stop() -> int:
        while not stopped_at:
            await sleep(0.01)
        return stopped_at.pop()

    return hub


async def call(hub: hubproto_asyncio.Connection | hubproto_trio.Connection) -> None:
    """What a client does is the same on both runtimes."""
    async with hub:
        say("an invocation:     Add(2, 3) =", await hub.invoke("Add", 2, 3))

        say("a stream:          Countdown(5) =", end="")
        async with hub.stream("Countdown", 5) as items:
            async for item in items:
                print("", item, end="", flush=True)
        print()

        say("an upload:         Join(...) =", await hub.invoke("Join", hub.upload(["streams", "go", "both", "ways"])))

        async with hub.stream("Countdown", 1_000_000) as items:
            async for item in items:
                if item == 1_000_000 - 2:
                    break  # leaving the block cancels the stream
        say("a cancelled stream: left after 3 of 1000000 items; the method stopped at", await hub.invoke("LastStop"))


@contextmanager
def server_on_asyncio() -> Iterator[str]:
    """Serve on asyncio, in a thread so that clients on both runtimes can call."""
    loop, done = asyncio.new_event_loop(), asyncio.Event()

    async def serve(announce: Callable[[int], None]) -> None:
        async with hubproto_asyncio.serve(make_hub(asyncio.sleep), "/demo") as server:
            announce(server.port)
            await done.wait()

    def run(announce: Callable[[int], None]) -> None:
        loop.run_until_complete(serve(announce))
        loop.close()

    with in_thread(run) as port:
        yield f"http://127.0.0.1:{port}/demo"
        loop.call_soon_threadsafe(done.set)


@contextmanager
def server_on_trio() -> Iterator[str]:
    """The same on trio."""
    stop: list[Callable[[], None]] = []

    async def serve(announce: Callable[[int], None]) -> None:
        async with trio.open_nursery() as nursery:
            server: hubproto_trio.Server = await nursery.start(hubproto_trio.serve, make_hub(trio.sleep), "/demo")
            token = trio.lowlevel.current_trio_token()
            stop.append(lambda: token.run_sync_soon(server.close))
            announce(server.port)

    with in_thread(lambda announce: trio.run(serve, announce)) as port:
        yield f"http://127.0.0.1:{port}/demo"
        stop[0]()


@contextmanager
def in_thread(run: Callable[[Callable[[int], None]], None]) -> Iterator[int]:
    """Run a server in a thread until it ends; gives the port that it announces."""
    announced = threading.Event()
    ports: list[int] = []

    def announce(port: int) -> None:
        ports.append(port)
        announced.set()

    thread = threading.Thread(target=run, args=(announce,), daemon=True)
    thread.start()
    announced.wait()
    yield ports[0]
    thread.join()


def say(*words: object, end: str = "\n") -> None:
    print("   ", *words, end=end, flush=True)


def main() -> int:
    for runtime, server in (("asyncio", server_on_asyncio), ("trio", server_on_trio)):
        with server() as url:
            print(f"a hub is served on {runtime}, at {url}")
            print("  called by a client on asyncio:")
            asyncio.run(call(hubproto_asyncio.connect(url)))
            print("  called by a client on trio:")
            trio.run(call, hubproto_trio.connect(url))
        print("  and shut down in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
