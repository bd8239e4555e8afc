"""`MuteServer`: answers over HTTP up to a point, and then says nothing any more, without closing anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from enum import IntEnum

from hubproto_core import Transport

from .runtimes import Runtime
from .tcp import Tcp

__all__ = ["MuteServer", "Stage"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Stage(IntEnum):
    """What is not answered any more."""

    NOTHING = 0
    """It does not even read."""
    NEGOTIATION = 1
    TRANSPORT = 2
    """The upgrade, or the GET with which the transport begins."""
    HANDSHAKE = 3


class MuteServer:
    """To be given to `Runtime.listen`. `reached` says that the stage has come."""

    def __init__(self, rt: Runtime, transport: Transport, stage: Stage) -> None:
        self.reached = rt.Event()
        self._rt = rt
        self._stage = stage
        offer = {"transport": str(transport), "transferFormats": ["Text"]}
        members = {"negotiateVersion": 1, "connectionId": "public", "connectionToken": "secret"}
        self._offer = json.dumps({**members, "availableTransports": [offer]}).encode()
        self._gets = 0

    async def __call__(self, tcp: Tcp) -> None:
        while (request := await self._request(tcp)) is not None:
            answer = self._answer(request)
            if answer is None:
                break
            await tcp.send(answer)
        self.reached.set()
        await self._rt.sleep_forever()

    async def _request(self, tcp: Tcp) -> bytes | None:
        """The next request, with its body."""
        if self._stage is Stage.NOTHING:
            return None
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
            piece = await tcp.receive()
            if not piece:
                return None
            data += piece
        return data

    def _answer(self, request: bytes) -> bytes | None:
        if b"/negotiate?" in request:
            return _response(self._offer) if self._stage > Stage.NEGOTIATION else None
        if self._stage <= Stage.TRANSPORT:
            return None
        if request.startswith(b"POST"):
            return _response(b"")
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
        if key is not None:
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
            return (
                b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
                % accept
            )
        if b"text/event-stream" in request:
            return (
                b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\r\n\r\n"
            )
        self._gets += 1
        return _response(b"") if self._gets == 1 else None  # the first poll, and those that wait


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", head)
    return int(found[1]) if found else 0


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
