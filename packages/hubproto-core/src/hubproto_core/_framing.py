"""One record at a time out of a stream of bytes, in linear time and within a limit (SPEC 1.1, 1.2, 1.5)."""

from __future__ import annotations

from ._errors import RemoteProtocolError

__all__ = ["RECORD_SEPARATOR", "RecordBuffer", "frame_binary"]

RECORD_SEPARATOR = b"\x1e"


class RecordBuffer:
    """Received bytes that no record has taken yet."""

    __slots__ = ("_data", "_position", "_scanned")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._position = 0  # where the next record starts
        self._scanned = 0  # no separator between _position and here

    def __len__(self) -> int:
        return len(self._data) - self._position

    def append(self, data: bytes) -> None:
        """Add what has been received."""
        if self._position == len(self._data):
            self._data = data
            self._position = self._scanned = 0
        elif isinstance(self._data, bytearray):
            if self._position:
                del self._data[: self._position]  # moves no byte
                self._scanned -= self._position
                self._position = 0
            self._data += data
        else:
            rest = bytearray(self._data[self._position :])
            rest += data
            self._scanned -= self._position
            self._position = 0
            self._data = rest

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._position = self._scanned = 0

    def take_text(self, limit: int | None) -> bytes | None:
        """Return the next record without its 0x1E, or None while it is incomplete.

        Raises `RemoteProtocolError` when the record, its separator included, is larger than `limit` bytes.
        """
        data = self._data
        start = self._position
        stop = len(data) if limit is None else min(len(data), start + limit)
        end = data.find(RECORD_SEPARATOR, self._scanned, stop)
        if end < 0:
            if limit is not None and len(data) - start > limit:
                raise _too_large(limit)
            self._scanned = stop
            return None
        self._position = self._scanned = end + 1
        record = data[start:end]
        return record if isinstance(record, bytes) else bytes(record)

    def take_binary(self, limit: int | None) -> bytes | None:
        """Return the next record without the length before it, or None while it is incomplete.

        Raises `RemoteProtocolError` when the length says that the record, the length included, is larger than `limit`
        bytes, and when it is no length.
        """
        data = self._data
        start = self._position
        end = start
        length = shift = 0
        more = True
        while more and shift < 35:
            if end == len(data):
                return None
            byte = data[end]
            end += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            more = byte > 0x7F
        if more or length > 0x7FFFFFFF:
            raise RemoteProtocolError("Messages over 2GB in size are not supported.", kind="FormatException")
        start, end = end, end + length
        if limit is not None and end - self._position > limit:
            raise _too_large(limit)
        if end > len(data):
            return None
        self._position = self._scanned = end
        record = data[start:end]
        return record if isinstance(record, bytes) else bytes(record)


def frame_binary(record: bytes) -> bytes:
    """Put the length of a record before it: seven bits a byte, the lowest first (SPEC 1.2)."""
    length = len(record)
    if length <= 0x7F:
        return bytes((length,)) + record
    prefix = bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + record


def _too_large(limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"The maximum message size of {limit}B was exceeded. The message size can be configured in AddHubOptions."
    )
