"""A raw WebSocket client: shows what a server sends frame by frame, and can do what no proper client does."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

RS = "\x1e"
PING, BINARY_PING = '{"type":6}', "9106"
HANDSHAKE = '{"protocol":"json","version":1}' + RS
LIMIT = 5.0


@dataclass(frozen=True)
class Record:
    """One record that the server sent, and the kind of the message that it came in.

    `text` is JSON without the 0x1E behind it, or MessagePack in hexadecimal digits without the length before it.
    """

    text: str
    frame: str = "text"


@dataclass(frozen=True)
class Closed:
    """The server's close frame; code 1006 stands for an end without one."""

    code: int
    reason: str = ""


class Refused(Exception):
    """The server answered the upgrade with something else than 101."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class Link:
    """A WebSocket to a hub (an http URL). `records` and `closed` fill up while one of the methods waits."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.records: list[Record] = []
        self.closed: Closed | None = None
        self.faults: list[str] = []
        self._opened = False
        self._greeted = False
        self._pieces: list[Frame] = []
        self._protocol = ClientProtocol(parse_uri("ws" + url.removeprefix("http")), max_size=None)
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 80), LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = self._protocol.connect()
        for name, value in (headers or {}).items():
            request.headers[name] = value
        self._protocol.send_request(request)
        try:
            self._flush()
            self.wait(lambda: self._opened, "the answer to the upgrade")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: str | bytes) -> None:
        """Send one text message."""
        self._protocol.send_text(message.encode() if isinstance(message, str) else message)
        self._flush()

    def send_binary(self, message: bytes) -> None:
        """Send one binary message."""
        self._protocol.send_binary(message)
        self._flush()

    def wait(self, done: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        """Read until `done`; fail when the limit passes or the connection ends before that."""
        assert self.until(done, limit), f"{what}: not within {limit} s; {self.closed=} {self.records[-5:]=}"

    def until(self, done: Callable[[], bool], limit: float) -> bool:
        """Read until `done`, the limit or the end of the connection, whichever comes first; say whether done."""
        deadline = time.monotonic() + limit
        while not done():
            if self.closed or not self._read(deadline):
                return False
            if time.monotonic() > deadline:
                return done()
        return True

    def take(self, count: int, limit: float = LIMIT, quiet: float = 0.0) -> list[Record]:
        """The records that come: wait for `count` of them, then take along what else comes in a quiet time."""
        self.until(lambda: len(self.records) >= count, limit)
        self.until(lambda: False, quiet)
        taken = self.records[:]
        self.records.clear()
        return taken

    def handshake(self) -> Self:
        """Shake hands for JSON."""
        self.send(HANDSHAKE)
        assert self.take(1) == [Record("{}")]
        return self

    def call(self, target: str, *arguments: object, call_id: str = "call") -> dict[str, Any]:
        """Call a method and wait for its completion, which must be the next record."""
        self.send(json.dumps({"type": 1, "invocationId": call_id, "target": target, "arguments": arguments}) + RS)
        self.wait(lambda: bool(self.records), f"the completion of {target}")
        completion: dict[str, Any] = json.loads(self.records.pop(0).text)
        assert (completion["type"], completion["invocationId"]) == (3, call_id), completion
        return completion

    def reset(self) -> None:
        """Disappear at once: the server sees a reset, no close frame."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        self.closed = Closed(1006)

    def close(self) -> None:
        """Close properly: wait a moment for the server's close frame."""
        if self._opened and self.closed is None:
            self._protocol.send_close(1000)
            self._flush()
            self.until(lambda: False, 1.0)
        self._socket.close()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            try:
                if data:
                    self._socket.sendall(data)
            except OSError:  # the server has gone: reading tells how
                return

    def _read(self, deadline: float) -> bool:
        """Take in one piece of what the server sent; False when nothing came in time."""
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()
        if self.closed is None and self._protocol.parser_exc is not None:
            if data:
                self.faults.append(f"not a WebSocket frame: {self._protocol.parser_exc}")
            self.closed = Closed(1006)
        return True

    def _answered(self, response: Response) -> None:
        try:
            if self._protocol.handshake_exc is not None:
                raise self._protocol.handshake_exc
        except InvalidStatus:
            raise Refused(response.status_code, (response.body or b"").decode()) from None
        self._opened = True

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(bytes(frame.data))
            self.closed = Closed(close.code, close.reason)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._pieces.append(frame)
            if frame.fin:
                kind = "text" if self._pieces[0].opcode is Opcode.TEXT else "binary"
                self._message(b"".join(bytes(piece.data) for piece in self._pieces), kind)
                self._pieces.clear()

    def _message(self, data: bytes, kind: str) -> None:
        records, rest = [], data
        if not self._greeted:  # the handshake response is JSON whatever follows it
            self._greeted = True
            head, _, rest = data.partition(RS.encode())
            records.append(head.decode(errors="replace"))
        if kind == "binary":
            more, rest = split_binary(rest)
            records += [record.hex() for record in more]
        else:
            *texts, tail = rest.decode(errors="replace").split(RS)
            records, rest = records + texts, tail.encode()
        if rest:
            self.faults.append(f"a message ends inside a record: {rest[-80:]!r}")
        self.records += [Record(text, kind) for text in records if text not in (PING, BINARY_PING)]


def split_binary(data: bytes) -> tuple[list[bytes], bytes]:
    """The records of the binary framing, without the lengths before them, and what is left behind the last one."""
    records = []
    while data:
        length = size = 0
        while size < len(data) and data[size] > 0x7F:
            length |= (data[size] & 0x7F) << 7 * size
            size += 1
        if size == len(data):
            break
        length |= data[size] << 7 * size
        if len(data) <= size + length:
            break
        records.append(data[size + 1 : size + 1 + length])
        data = data[size + 1 + length :]
    return records, data
