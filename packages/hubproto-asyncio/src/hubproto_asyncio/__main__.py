"""`python -m hubproto_asyncio`: serve a hub, or call one, from the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, assert_never

from hubproto_core import HubProtoError
from hubproto_core.cli import (
    ClientCommand,
    Command,
    Console,
    InvokeCommand,
    JsonLines,
    ListenCommand,
    Listening,
    SendCommand,
    ServeCommand,
    StreamCommand,
    parse,
    to_line,
)
from hubproto_core.http import EndpointConfig, Mount

from . import HubClient, serve
from ._streams import read_items, write

logger: logging.Logger = logging.getLogger("hubproto_asyncio")


async def run(command: Command, console: Console) -> int:
    """Do what was asked for; returns the exit status."""
    return await (run_server(command) if isinstance(command, ServeCommand) else run_client(command, console))


async def run_client(command: ClientCommand, console: Console) -> int:
    """Call a hub. A signal ends it in order, and the status says so; a second one drops the connection at once."""
    status = 0
    tasks: list[asyncio.Task[Any] | None] = [asyncio.current_task()]

    def stop(number: int) -> None:
        nonlocal status
        status = 128 + number
        task = tasks.pop() if tasks else None
        if task is not None:
            task.cancel()

    context = unverified() if command.way.insecure else None
    with obeying(stop), suppress(asyncio.CancelledError):
        async with HubClient(command.way.url, ssl_context=context, **command.way.options) as hub:
            console.watch(hub)
            work = asyncio.create_task(call(command, hub))
            tasks.append(work)
            await asyncio.wait([work])
            try:
                if not work.cancelled():
                    work.result()
            except (HubProtoError, OSError) as error:
                status = console.fail(error)
    return status


@contextmanager
def obeying(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` in the event loop whenever a signal wants the program to end."""
    loop = asyncio.get_running_loop()
    before = {
        number: signal.signal(number, lambda number, _: loop.call_soon_threadsafe(stop, number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def call(command: ClientCommand, hub: HubClient) -> None:
    """Connect, and do what was asked for."""
    if isinstance(command, ListenCommand):
        await listen(command, hub)
        return
    await hub.start()
    lines = JsonLines()
    arguments = command.filled(lambda: hub.upload(read_items(lines)))
    with lines.blamed():
        match command:
            case InvokeCommand(method=method):
                await write(to_line(await hub.invoke(method, *arguments)))
            case StreamCommand(method=method):
                async with hub.stream(method, *arguments) as items:
                    async for item in items:
                        await write(to_line(item))
            case SendCommand(method=method):
                await hub.send(method, *arguments)
            case _:
                assert_never(command)


async def listen(command: ListenCommand, hub: HubClient) -> None:
    """Print what the hub calls, until that is enough or the connection is over."""
    listening = Listening(command)
    changed = asyncio.Event()

    def change() -> None:
        changed.set()
        changed.clear()

    async def wait_for_room() -> None:
        while listening.full:
            await changed.wait()

    @hub.on_any
    def hear(target: str, arguments: list[Any]) -> Awaitable[None] | None:
        listening.hear(target, arguments)
        change()
        return wait_for_room() if listening.full else None

    @hub.on_closed
    def close(error: Exception | None) -> None:
        listening.close(error)
        change()

    await hub.start()
    while not listening.finished:
        line = listening.take()
        if line is None:
            await changed.wait()
        else:
            change()
            await write(line)
            await asyncio.sleep(0)  # so that whoever waits for room is heard before the last line is taken
    listening.outcome()


def unverified() -> ssl.SSLContext:
    """Whatever certificate the server shows will do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def run_server(command: ServeCommand) -> int:
    """Serve until a signal comes; with a second one, cancel what runs, and return the status that says so."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    status = 0
    mount = Mount(command.hub, EndpointConfig(allowed_origins=command.origins, stateful=command.stateful))
    async with serve(mount, command.path, command.host, command.port, config=command.config) as server:

        def stop(number: signal.Signals) -> None:
            nonlocal status
            if server.closing:
                status = 128 + number
            logger.info(command.farewell(number.name, again=server.closing))
            server.close()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        print(f"listening on http://{command.host}:{server.port}{command.path}", flush=True)
        await server.wait_closed()
    return status


def main() -> int:
    """Run the command line; returns the exit status."""
    command = parse(sys.argv[1:], "python -m hubproto_asyncio")
    console = Console(sys.stderr)
    if not isinstance(command, ServeCommand):
        logging.getLogger("hubproto_core").addHandler(logging.NullHandler())  # what matters of it the console tells
        if command.way.insecure:
            console.warn("--insecure: nobody checks who the server is")
    try:
        return asyncio.run(run(command, console))
    except (HubProtoError, OSError, ValueError) as error:
        return console.fail(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
