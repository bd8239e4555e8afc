"""`python -m hubproto_asyncio`: serve a hub, or call one, from the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import assert_never

from hubproto_core import HubProtoError
from hubproto_core.cli import Command, InvokeCommand, ServeCommand, StreamCommand, parse, to_json

from . import connect, serve


async def run(command: Command) -> None:
    """Do what was asked for."""
    match command:
        case ServeCommand():
            await run_server(command)
        case InvokeCommand(url=url, method=method, arguments=arguments, protocol=protocol):
            async with connect(url, protocol=protocol) as hub:
                print(to_json(await hub.invoke(method, *arguments)))
        case StreamCommand(url=url, method=method, arguments=arguments, protocol=protocol):
            async with connect(url, protocol=protocol) as hub, hub.stream(method, *arguments) as items:
                async for item in items:
                    print(to_json(item), flush=True)
        case _:
            assert_never(command)


async def run_server(command: ServeCommand) -> None:
    """Serve until a signal comes; a second one does not wait for running calls, a third ends the process as it is."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    loop = asyncio.get_running_loop()
    stops = 0

    def stop() -> None:
        nonlocal stops
        stops += 1
        server.close()
        if stops == 2:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async with serve(command.hub, command.path, command.host, command.port, config=command.config) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        print(f"listening on http://{command.host}:{server.port}{command.path}", flush=True)
        await server.wait_closed()


def main() -> int:
    """Run the command line; returns the exit status."""
    command = parse(sys.argv[1:], "python -m hubproto_asyncio")
    try:
        asyncio.run(run(command))
    except (HubProtoError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
