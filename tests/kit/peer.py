"""`Peer`: one end of a hub connection by hand: a WebSocket whose every message a test writes and reads itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Request, TextMessage

from hubproto_core import Codec, HubMessage
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RecordBuffer
from hubproto_core._messages import Ping

from .runtimes import Runtime
from .tcp import Tcp
from .wire import HANDSHAKE, RS, pack

__all__ = ["CodecPeer", "Peer"]


class Peer:
    """A WebSocket with records of the JSON hub protocol in it."""

    CLIENT = ConnectionType.CLIENT
    SERVER = ConnectionType.SERVER

    def __init__(self, tcp: Tcp, role: ConnectionType) -> None:
        self.tcp = tcp
        self.closed: int | None = None
        """The code of the other side's close frame; 1006 for an end without one."""
        self.kinds: list[type[Event]] = []
        """What kind of frames have come."""
        self._ws = WSConnection(role)
        self._text = ""

    @classmethod
    async def dial(cls, rt: Runtime, port: int, path: str = "/hub") -> Self:
        """Be a client, as far as the hub handshake is done."""
        peer = cls(await rt.tcp(port), cls.CLIENT)
        await peer.upgrade(path)
        await peer.write(HANDSHAKE)
        assert await peer.read() == {}
        return peer

    @classmethod
    async def accept(cls, tcp: Tcp) -> Self:
        """Be the server of a client that skips negotiation, as far as the WebSocket is open."""
        peer = cls(tcp, cls.SERVER)
        await peer._expect(Request)
        await peer._send(AcceptConnection())
        return peer

    @classmethod
    async def answer(cls, tcp: Tcp) -> Self:
        """Be the server of a client that skips negotiation, as far as the hub handshake is done."""
        peer = await cls.accept(tcp)
        assert await peer.read() == {"protocol": "json", "version": 1}
        await peer.write(b"{}" + RS)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()

    async def upgrade(self, path: str) -> None:
        """Open the WebSocket."""
        await self._send(Request(host="127.0.0.1", target=path))
        await self._expect(AcceptConnection)

    async def send(self, *messages: dict[str, Any]) -> None:
        """Send hub messages, together."""
        await self.write(pack(*messages))

    async def write(self, payload: bytes) -> None:
        """Send one WebSocket message."""
        await self._send(TextMessage(payload.decode()))

    async def read(self) -> Any:
        """Return the next record that is no ping; None when the other side has ended the connection."""
        while True:
            record, separator, rest = self._text.partition(RS.decode())
            if separator:
                self._text = rest
                message = json.loads(record)
                if message != {"type": 6}:
                    return message
            elif self.closed is not None:
                return None
            else:
                await self._receive()

    async def read_until_closed(self) -> list[Any]:
        """Return all the records that still come."""
        records = []
        while (record := await self.read()) is not None:
            records.append(record)
        return records

    def _take_bytes(self, data: bytes) -> None:
        raise AssertionError(f"a binary frame in a conversation in JSON: {data!r}")

    async def _send(self, event: Event) -> None:
        await self.tcp.send(self._ws.send(event))

    async def _expect(self, kind: type[Event]) -> None:
        while True:
            data = await self.tcp.receive()
            assert data, f"the connection ended before the {kind.__name__}"
            self._ws.receive_data(data)
            events = self._ws.events()
            for event in events:
                assert isinstance(event, kind)
                self._take(events)  # what has come right behind it
                return

    async def _receive(self) -> None:
        data = await self.tcp.receive()
        if not data:
            self.closed = 1006
            return
        self._ws.receive_data(data)
        self._take(self._ws.events())

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            self.kinds.append(type(event))
            if isinstance(event, TextMessage):
                self._text += event.data
            elif isinstance(event, BytesMessage):
                self._take_bytes(bytes(event.data))
            elif isinstance(event, CloseConnection):
                self.closed = event.code
                return


class CodecPeer(Peer):
    """A client that speaks either encoding: messages instead of JSON."""

    codec: Codec
    _buffer: RecordBuffer

    @classmethod
    async def dial_in(cls, rt: Runtime, port: int, codec: Codec, path: str = "/hub") -> Self:
        """Be a client, as far as the hub handshake is done."""
        peer = cls(await rt.tcp(port), cls.CLIENT)
        peer.codec = codec
        peer._buffer = RecordBuffer()
        await peer.upgrade(path)
        await peer.write(pack({"protocol": codec.name, "version": 1}))
        while (answer := peer._take_text()) is None:
            await peer._receive()
        assert answer == b"{}"
        return peer

    async def say(self, *messages: HubMessage) -> None:
        """Send hub messages, together."""
        await self.say_bytes(b"".join(self.codec.encode(message) for message in messages))

    async def say_bytes(self, data: bytes) -> None:
        """Send one WebSocket message of the kind that the encoding wants."""
        is_text = self.codec.transfer_format == "text"
        await self._send(TextMessage(data.decode()) if is_text else BytesMessage(data))

    async def hear(self) -> HubMessage | None:
        """Return the next message that is no ping; None when the other side has ended the connection."""
        while True:
            self._buffer.append(self._text.encode())
            self._text = ""
            record = self.codec.next_record(self._buffer, None)
            if record is not None:
                message = self.codec.decode(record, AnyBinder(), 64)
                if not isinstance(message, Ping):
                    return message
            elif self.closed is not None:
                return None
            else:
                await self._receive()

    async def hear_all(self) -> list[HubMessage]:
        """Return all the messages that still come."""
        messages = []
        while (message := await self.hear()) is not None:
            messages.append(message)
        return messages

    def _take_text(self) -> bytes | None:
        self._buffer.append(self._text.encode())
        self._text = ""
        return self._buffer.take_text(None)

    def _take_bytes(self, data: bytes) -> None:
        self._buffer.append(data)
