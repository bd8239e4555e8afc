"""Serves the lab hubs: `python -m tests.interop.lab_server trio|asyncio|uvicorn|hypercorn-... PORT`.

The first two are our own servers, the others ASGI servers that run our application (`lab_asgi.HOSTS`).

/hub runs up to ten calls of a client at once, /serialhub one at a time; /securehub and /expiringhub are for those who
are known: the token "token-NAME" signs NAME in (as "admin", if NAME is admin), "token-NAME-exp5" for 5 seconds. The
environment sets LAB_DETAILED=1 (detailed errors), LAB_KEEPALIVE, LAB_TIMEOUT, LAB_HANDSHAKE (seconds), LAB_MAXRECV
(bytes, 0 is no limit), LAB_SENDLIMIT (bytes), LAB_PARALLEL and LAB_STREAMBUF (items), LAB_ORIGIN (whose pages may use
the hubs). Prints the address once it listens; ends in order on SIGTERM and SIGINT.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from dataclasses import replace

from hubproto_core import HubConfig, Principal, Transport, authenticated
from hubproto_core.http import EndpointConfig, Mount, Request

from .lab_asgi import HOSTS
from .lab_hub import build


def config_from_environment() -> HubConfig:
    """Return the settings that both hubs share."""

    def number(name: str, default: float) -> float:
        return float(os.environ.get(name) or default)

    return HubConfig(
        detailed_errors=os.environ.get("LAB_DETAILED") == "1",
        keep_alive_interval=number("LAB_KEEPALIVE", 15),
        silence_timeout=number("LAB_TIMEOUT", 30),
        handshake_timeout=number("LAB_HANDSHAKE", 5),
        max_message_size=int(number("LAB_MAXRECV", 32768)) or None,
        stream_buffer=int(number("LAB_STREAMBUF", 10)),
        send_limit=int(number("LAB_SENDLIMIT", 2**24)),
    )


def hubs() -> dict[str, Mount]:
    """Return the hubs by path."""
    config = config_from_environment()
    parallel = int(os.environ.get("LAB_PARALLEL") or 10)
    many = replace(config, max_parallel_calls=parallel)
    origin = os.environ.get("LAB_ORIGIN")
    options = EndpointConfig(allowed_origins=(origin,) if origin else (), stateful=True)
    hub, secure = build(many), build(many, requires=authenticated)
    only = {transport: replace(options, transports=(transport,)) for transport in Transport}
    return {
        "/hub": Mount(hub, options),
        "/serialhub": Mount(build(config), options),
        "/plainhub": Mount(hub, replace(options, stateful=False)),
        "/wshub": Mount(hub, only[Transport.WEB_SOCKETS]),
        "/ssehub": Mount(hub, only[Transport.SERVER_SENT_EVENTS]),
        "/lphub": Mount(hub, only[Transport.LONG_POLLING]),
        "/securehub": Mount(secure, options),
        "/expiringhub": Mount(secure, options),
    }


def authenticate(request: Request) -> Principal | None:
    """Say whose token a request brings, in the header or anywhere in the query."""
    token = request.access_token or request.query.get("access_token", "")
    if not token.startswith("token-"):
        return None
    name, _, seconds = token.removeprefix("token-").partition("-exp")
    roles = frozenset({"admin"} if name == "admin" else ())
    return Principal(name, roles, expires_at=time.time() + float(seconds) if seconds else None)


def announce(port: int) -> None:
    print(f"listening on http://127.0.0.1:{port}", flush=True)


async def serve_on_trio(port: int) -> None:
    import trio

    from hubproto_trio import serve

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda **status: serve(hubs(), host="127.0.0.1", port=port, authenticator=authenticate, **status)
            )
            announce(server.port)
            async for _ in signals:
                break
            server.close()


async def serve_on_asyncio(port: int) -> None:
    import asyncio

    from hubproto_asyncio import serve

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(hubs(), host="127.0.0.1", port=port, authenticator=authenticate) as server:
        announce(server.port)
        await stopped.wait()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("hubproto_core.hub").addFilter(lambda record: record.levelno < logging.ERROR)  # Throw is to fail
    adapter, port = sys.argv[1], int(sys.argv[2])
    if adapter == "trio":
        import trio

        trio.run(serve_on_trio, port)
    elif adapter in HOSTS:
        HOSTS[adapter](hubs(), authenticate, port, announce)
    else:
        import asyncio

        asyncio.run(serve_on_asyncio(port))


if __name__ == "__main__":
    main()
