"""A raw WebSocket echo server: `python -m tests.autobahn.echo trio|asyncio`.

Sockets, upgrade, WebSocket layer and pumps are the real ones; only the session in them is no hub's, but sends every
message back. Prints its address once it listens, and runs until it is ended.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator
from functools import partial
from unittest.mock import patch

from wsproto.connection import Connection
from wsproto.events import Event, Message, TextMessage

from hubproto_core import Hub, HubProtoError
from hubproto_core._effects import EffectSink, Wake
from hubproto_core.http import HttpConfig, _endpoint, _websocket

HTTP = HttpConfig(compression=True)  # for the cases that offer it


class Messages(Connection):
    """Remembers which event is being handled: where messages end is nothing to a hub, but to an echo it is.

    One event is handled at a time, in the whole process.
    """

    handled: Event

    def events(self) -> Generator[Event, None, None]:
        for event in super().events():
            Messages.handled = event
            yield event


class Payload(bytes):
    """An empty payload is nothing to send; to an echo it is an empty message."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class EchoSession:
    """What a `WebSocketTransport`, and the connection behind it, ask of a session."""

    def __init__(self, *_: object, effects: EffectSink, **__: object) -> None:
        self.carrier: object = self
        self.transfer_format = "binary"
        self.want_read = True
        self.closed: object = None
        self.is_over = False
        self.stateful = False
        self.effects = effects
        self._pieces: list[bytes] = []
        self._echoes: deque[tuple[str, Payload]] = deque()

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Take a piece of a message."""
        event = Messages.handled
        assert isinstance(event, Message)
        self._pieces.append(data)
        if event.message_finished:
            transfer_format = "text" if isinstance(event, TextMessage) else "binary"
            self._echoes.append((transfer_format, Payload(b"".join(self._pieces))))
            self._pieces.clear()

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """Nothing more comes."""
        self.closed = error or "in order"

    def data_to_send(self, *, now: float) -> bytes:
        """Return one message, of the kind that `transfer_format` then says."""
        if not self._echoes:
            return b""
        self.transfer_format, data = self._echoes.popleft()
        self.effects.append(Wake(self.carrier))  # for the next one
        return data

    def handle_timeout(self, *, now: float) -> None:
        """Nothing is timed."""

    def next_timeout(self) -> None:
        """Nothing is timed."""


def announce(port: int) -> None:
    print(f"listening on ws://127.0.0.1:{port}", flush=True)


async def serve_on_trio() -> None:
    import trio

    from hubproto_trio import serve

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, Hub(), http=HTTP))
        announce(server.port)


async def serve_on_asyncio() -> None:
    import asyncio

    from hubproto_asyncio import serve

    async with serve(Hub(), http=HTTP) as server:
        announce(server.port)
        await asyncio.Event().wait()


def main() -> None:
    with patch.object(_endpoint, "HubSession", EchoSession), patch.object(_websocket, "Connection", Messages):
        if sys.argv[1] == "trio":
            import trio

            trio.run(serve_on_trio)
        else:
            import asyncio

            asyncio.run(serve_on_asyncio())


if __name__ == "__main__":
    main()
