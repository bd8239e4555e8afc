"""Server-sent events (SPEC 4.4, WHATWG HTML 9.2): chunks of bytes written as events, and read back."""

from __future__ import annotations

import re

from .._errors import RemoteProtocolError

__all__ = ["EventReader", "encode_event"]

_BOM = b"\xef\xbb\xbf"
_search_line_end = re.compile(rb"[\r\n]").search


def encode_event(payload: bytes) -> bytes:
    """Return the event that carries a payload, as the reference writes it; for nothing, an end of no event.

    A payload comes back with its lines as it was, but for their ends: LF is what CRLF becomes. A lone CR would end a
    line for the reader; hub messages in JSON have no raw line ends at all.
    """
    if not payload:
        return b"\r\n"
    lines = [line[:-1] if len(line) > 1 and line.endswith(b"\r") else line for line in payload.split(b"\n")]
    return b"".join(b"data: " + line + b"\r\n" for line in lines) + b"\r\n"


class EventReader:
    """Takes a stream of events apart, as tolerant as browsers are: any line end, comments, fields of any name.

    `limit` is how many bytes any line may have, and the data of any event; None is no limit. Nothing more is kept of a
    stream than one event and one line that are not complete.
    """

    __slots__ = ("_after_cr", "_at_start", "_buffer", "_limit", "_lines", "_scanned", "_size")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._buffer = bytearray()  # a line that is not complete
        self._scanned = 0  # no line end in the buffer up to here
        self._after_cr = False  # the last line ended with CR: LF belongs to it
        self._at_start = True
        self._lines: list[bytes] = []  # the data of the event that is not complete
        self._size = 0  # of that data, in bytes

    @property
    def incomplete(self) -> bool:
        """The stream ended here would be cut in the middle of something."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the events that these bytes complete. Raises `RemoteProtocolError` over the limit."""
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        position = 0
        while True:
            if self._after_cr and position < len(buffer):
                self._after_cr = False
                if buffer[position] == 0x0A:
                    position += 1
                    self._scanned = position
            end = _search_line_end(buffer, self._scanned)
            if end is None:
                break
            line = bytes(buffer[position : end.start()])
            self._after_cr = end[0] == b"\r"
            position = self._scanned = end.end()
            self._take(line, payloads)
        del buffer[:position]
        self._scanned = len(buffer)
        self._check(len(buffer))
        return payloads

    def _take(self, line: bytes, payloads: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if line:
            self._check(len(line))
            field, _, value = line.partition(b":")
            if field == b"data":
                self._lines.append(value.removeprefix(b" "))
                self._size += len(self._lines[-1]) + 1
                self._check(self._size - 1)
        elif self._lines:
            payloads.append(b"\n".join(self._lines))
            self._lines.clear()
            self._size = 0

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise RemoteProtocolError(f"A server-sent event has more than {self._limit} bytes.")
