"""`RawClient`: a client by hand in either encoding, which sees in what kind of frame each answer comes."""

from __future__ import annotations

from typing import Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    RejectConnection,
    Request,
    TextMessage,
)

from hubproto_core import Codec, HubMessage, Ping
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RecordBuffer

from .runtimes import Runtime
from .tcp import Tcp
from .wire import RS

__all__ = ["RawClient", "upgrade"]


async def upgrade(rt: Runtime, port: int, target: str) -> tuple[int, Tcp, WSConnection]:
    """Ask for a WebSocket; give the status of the answer, and what may be spoken on now."""
    tcp, ws = await rt.tcp(port), WSConnection(ConnectionType.CLIENT)
    await tcp.send(ws.send(Request(host="127.0.0.1", target=target)))
    while True:
        data = await tcp.receive()
        assert data, "the connection ended before the answer"
        ws.receive_data(data)
        for event in ws.events():
            if isinstance(event, AcceptConnection):
                return 101, tcp, ws
            assert isinstance(event, RejectConnection)
            return event.status_code, tcp, ws


class RawClient:
    """A WebSocket with hub messages in it; whatever of them a test cannot say as a message it writes as bytes."""

    def __init__(self, tcp: Tcp, ws: WSConnection, codec: Codec, *, in_text_frames: bool) -> None:
        self.tcp = tcp
        self.closed: int | None = None
        """The code of the other side's close frame; 1006 for an end without one."""
        self.frames: list[type[Event]] = []
        """The kind of each piece of what has come."""
        self._ws = ws
        self._codec = codec
        self._in_text_frames = in_text_frames
        self._received = RecordBuffer()

    @classmethod
    async def dial(
        cls, rt: Runtime, port: int, codec: Codec, *, in_text_frames: bool | None = None, target: str = "/hub"
    ) -> Self:
        """Open a connection, as far as the hub handshake is done. The kind of frames is by default the encoding's."""
        status, tcp, ws = await upgrade(rt, port, target)
        assert status == 101
        text = codec.transfer_format == "text" if in_text_frames is None else in_text_frames
        client = cls(tcp, ws, codec, in_text_frames=text)
        await client.write(f'{{"protocol":"{codec.name}","version":1}}'.encode() + RS)
        while (answer := client._received.take_text(None)) is None:
            assert client.closed is None
            await client._receive()
        assert answer == b"{}"
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()

    async def send(self, *messages: HubMessage) -> None:
        """Send messages, together."""
        await self.write(b"".join(self._codec.encode(message) for message in messages))

    async def write(self, payload: bytes) -> None:
        """Send one WebSocket message."""
        event = TextMessage(payload.decode()) if self._in_text_frames else BytesMessage(payload)
        await self.tcp.send(self._ws.send(event))

    async def read(self) -> HubMessage | None:
        """Return the next message that is no ping; None when the other side has ended the connection."""
        while True:
            record = self._codec.next_record(self._received, None)
            if record is not None:
                message = self._codec.decode(record, AnyBinder(), 64)
                if not isinstance(message, Ping):
                    return message
            elif self.closed is not None:
                return None
            else:
                await self._receive()

    async def read_until_closed(self) -> list[HubMessage]:
        """Return all the messages that still come."""
        messages = []
        while (message := await self.read()) is not None:
            messages.append(message)
        return messages

    async def _receive(self) -> None:
        data = await self.tcp.receive()
        if not data:
            self.closed = 1006
            return
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                self.frames.append(type(event))
                self._received.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
            elif isinstance(event, CloseConnection):
                self.closed = event.code
                return
