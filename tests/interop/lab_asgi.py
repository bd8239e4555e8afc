"""The lab hubs as an ASGI application, in the servers that people run: uvicorn, and hypercorn with each of its workers.

`tests.interop.lab_server` starts them. The listening socket is opened here, so that its port is known before.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping

from hubproto_core import Hub
from hubproto_core.http import Authenticator, Mount

__all__ = ["HOSTS", "ONE_OF_EACH"]

Hubs = Mapping[str, Hub | Mount]
Announce = Callable[[int], None]

_GRACE = 2  # seconds that the servers give to requests which wait, such as polls, when they are told to end


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.set_inheritable(True)
    return listener


def uvicorn(hubs: Hubs, authenticator: Authenticator, port: int, announce: Announce) -> None:
    """uvicorn on asyncio."""
    import uvicorn

    from hubproto_asyncio import HubApp

    with _listen(port) as listener:
        app = HubApp(hubs, authenticator=authenticator)
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=_GRACE)
        announce(listener.getsockname()[1])
        uvicorn.Server(config).run([listener])


def hypercorn_trio(hubs: Hubs, authenticator: Authenticator, port: int, announce: Announce) -> None:
    """hypercorn's trio worker."""
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    from hubproto_trio import HubApp

    async def stopped() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break

    with _listen(port) as listener:
        announce(listener.getsockname()[1])
        config = Config.from_mapping(bind=[f"fd://{listener.detach()}"], graceful_timeout=_GRACE, errorlog=_log())
        trio.run(lambda: serve(HubApp(hubs, authenticator=authenticator), config, shutdown_trigger=stopped))


def hypercorn_asyncio(hubs: Hubs, authenticator: Authenticator, port: int, announce: Announce) -> None:
    """hypercorn's asyncio worker."""
    _hypercorn(hubs, authenticator, port, announce, asyncio.new_event_loop)


def hypercorn_uvloop(hubs: Hubs, authenticator: Authenticator, port: int, announce: Announce) -> None:
    """hypercorn's uvloop worker."""
    import uvloop

    _hypercorn(hubs, authenticator, port, announce, uvloop.new_event_loop)


def _hypercorn(
    hubs: Hubs,
    authenticator: Authenticator,
    port: int,
    announce: Announce,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from hubproto_asyncio import HubApp

    with _listen(port) as listener, asyncio.Runner(loop_factory=new_loop) as runner:
        announce(listener.getsockname()[1])
        config = Config.from_mapping(bind=[f"fd://{listener.detach()}"], graceful_timeout=_GRACE, errorlog=_log())
        runner.run(serve(HubApp(hubs, authenticator=authenticator), config))


def _log() -> logging.Logger:
    return logging.getLogger("hypercorn.error")


HOSTS = {
    "uvicorn": uvicorn,
    "hypercorn-asyncio": hypercorn_asyncio,
    "hypercorn-uvloop": hypercorn_uvloop,
    "hypercorn-trio": hypercorn_trio,
}

ONE_OF_EACH = ["uvicorn", "hypercorn-trio"]
"""A server for each of our adapters. The other workers run the same application; `test_asgi.py` has them all."""
