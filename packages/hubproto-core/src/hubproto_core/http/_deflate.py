"""`permessage-deflate` for servers (RFC 7692), with a limit to what a message may become."""

from __future__ import annotations

import re
import zlib

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["BoundedDeflate", "accept_deflate"]

_PARAMETER = re.compile(
    # zlib has no window of 8 bits
    r"(server|client)_no_context_takeover|server_max_window_bits=(9|1[0-5])|client_max_window_bits(=(9|1[0-5]))?"
)
_FLUSH = b"\x00\x00\xff\xff"  # what a sender leaves out at the end of each message


def accept_deflate(offers: str, limit: int) -> tuple[BoundedDeflate, str] | None:
    """Return the extension for the first offer that can be accepted, and what is answered to it."""
    for offer in offers.split(","):
        name, *parameters = [part.strip().lower() for part in offer.split(";")]
        names = {parameter.partition("=")[0] for parameter in parameters}
        in_order = all(_PARAMETER.fullmatch(parameter) for parameter in parameters) and len(names) == len(parameters)
        if name == PerMessageDeflate.name and in_order:
            deflate = BoundedDeflate(limit)
            answer = deflate.accept("; ".join([name, *parameters]))
            return deflate, f"{name}; {answer}" if answer else name
    return None


class BoundedDeflate(PerMessageDeflate):
    """wsproto's extension, but for what comes in: no more than `limit` bytes of a compressed message are ever made.

    A message that is larger ends the connection with code 1009. A ping between the frames of a message changes nothing
    about it (in wsproto 1.3 it does).
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._room = limit  # what may still come of this message
        self._compressed = False  # this message is
        self._is_control = False  # this frame is
        self._inflater: zlib._Decompress | None = None

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """A frame begins."""
        self._is_control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._compressed = rsv.rsv1
            self._room = self._limit
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """A piece of a frame has come."""
        return self._inflate(data) if self._compressed and not self._is_control else data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """A frame has ended, and with it the message, if it was the last one."""
        if not fin or not self._compressed or self._is_control:
            return None
        data = self._inflate(_FLUSH)
        if self.client_no_context_takeover or (self._inflater is not None and self._inflater.eof):
            self._inflater = None
        return data

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-self.client_max_window_bits)
        if self._inflater.eof:  # nothing follows the last block; zlib would collect it
            return b""
        try:
            inflated = self._inflater.decompress(data, self._room + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._room -= len(inflated)
        return CloseReason.MESSAGE_TOO_BIG if self._room < 0 else inflated
