"""`python -m hubproto_asyncio`: serve a hub, or call one, from the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import assert_never

from hubproto_core import HubProtoError
from hubproto_core.cli import Command, InvokeCommand, ServeCommand, StreamCommand, parse, to_json
from hubproto_core.http import EndpointConfig, Mount

from . import connect, serve

logger: logging.Logger = logging.getLogger("hubproto_asyncio")


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    status = 0
    mount = Mount(command.hub, EndpointConfig(allowed_origins=command.origins))
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
    try:
        return asyncio.run(run(command))
    except (HubProtoError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
