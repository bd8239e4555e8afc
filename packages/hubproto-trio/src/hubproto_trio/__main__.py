"""`python -m hubproto_trio`: serve a hub, or call one, from the command line."""

from __future__ import annotations

import logging
import signal
import sys
from typing import assert_never

import trio

from hubproto_core import HubProtoError
from hubproto_core.cli import Command, InvokeCommand, ServeCommand, StreamCommand, parse, to_json
from hubproto_core.http import EndpointConfig, Mount

from . import Server, connect, serve

logger: logging.Logger = logging.getLogger("hubproto_trio")


async def run(command: Command) -> int:
    """Do what was asked for; returns the exit status."""
    match command:
        case ServeCommand():
            return await run_server(command)
        case InvokeCommand(url=url, method=method, arguments=arguments, protocol=protocol):
            async with connect(url, protocol=protocol) as hub:
                print(to_json(await hub.invoke(method, *arguments)))
        case StreamCommand(url=url, method=method, arguments=arguments, protocol=protocol):
            async with connect(url, protocol=protocol) as hub, hub.stream(method, *arguments) as items:
                async for item in items:
                    print(to_json(item), flush=True)
        case _:
            assert_never(command)
    return 0


async def run_server(command: ServeCommand) -> int:
    """Serve until a signal comes; with a second one, cancel what runs, and return the status that says so."""
    status = 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def serve_hub(task_status: trio.TaskStatus[Server]) -> None:
        await serve(
            Mount(command.hub, EndpointConfig(allowed_origins=command.origins)),
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
    status = 0
    try:
        status = trio.run(run, command)
    except* (HubProtoError, OSError, ValueError) as group:
        print(first_of(group), file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    return status


def first_of(error: BaseException) -> BaseException:
    """Return the exception that a group, possibly of groups, was made for."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
