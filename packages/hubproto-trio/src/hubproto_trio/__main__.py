"""`python -m hubproto_trio`: serve a hub, or call one, from the command line."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any, assert_never

import trio

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

from . import HubClient, Server, serve
from ._streams import read_items, write

logger: logging.Logger = logging.getLogger("hubproto_trio")


async def run(command: Command, console: Console) -> int:
    """Do what was asked for; returns the exit status."""
    return await (run_server(command) if isinstance(command, ServeCommand) else run_client(command, console))


async def run_client(command: ClientCommand, console: Console) -> int:
    """Call a hub. A signal ends it in order, and the status says so; a second one drops the connection at once."""
    status = 0

    async def obey(signals: AsyncIterator[int]) -> None:
        nonlocal status
        async for number in signals:
            status = 128 + number
            (nursery.cancel_scope if work.cancel_called else work).cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            work = trio.CancelScope()
            nursery.start_soon(obey, signals)
            async with HubClient(
                command.way.url, ssl_context=unverified() if command.way.insecure else None, **command.way.options
            ) as hub:
                console.watch(hub)
                with work:
                    try:
                        await call(command, hub)
                    except (HubProtoError, OSError) as error:
                        status = console.fail(error)
            nursery.cancel_scope.cancel()
    return status


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
    changed = trio.Event()

    def change() -> None:
        nonlocal changed
        changed.set()
        changed = trio.Event()

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
            await trio.lowlevel.checkpoint()  # whoever waits for room is heard before the last line is taken
    listening.outcome()


def unverified() -> ssl.SSLContext:
    """Whatever certificate the server shows will do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def run_server(command: ServeCommand) -> int:
    """Serve until a signal comes; with a second one, cancel what runs, and return the status that says so."""
    status = 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def serve_hub(task_status: trio.TaskStatus[Server]) -> None:
        await serve(
            Mount(command.hub, EndpointConfig(allowed_origins=command.origins, stateful=command.stateful)),
            command.path,
            command.host,
            command.port,
            config=command.config,
            task_status=task_status,
        )
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve_hub)
            print(f"listening on http://{command.host}:{server.port}{command.path}", flush=True)
            async for number in signals:
                if server.closing:
                    status = 128 + number
                logger.info(command.farewell(signal.Signals(number).name, again=server.closing))
                server.close()
    return status


def main() -> int:
    """Run the command line; returns the exit status."""
    command = parse(sys.argv[1:], "python -m hubproto_trio")
    console = Console(sys.stderr)
    if not isinstance(command, ServeCommand):
        logging.getLogger("hubproto_core").addHandler(logging.NullHandler())  # what matters of it the console tells
        if command.way.insecure:
            console.warn("--insecure: nobody checks who the server is")
    status = 0
    try:
        status = trio.run(run, command, console)
    except* (HubProtoError, OSError, ValueError) as group:
        status = console.fail(first_of(group))
    except* KeyboardInterrupt:
        status = 130
    return status


def first_of(error: BaseException) -> Exception:
    """Return the exception that a group, possibly of groups, was made for."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


if __name__ == "__main__":
    sys.exit(main())
