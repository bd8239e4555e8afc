"""One record at a time out of a stream of bytes, in linear time and within a limit (SPEC 1.1, 1.5)."""

from __future__ import annotations

from ._errors import RemoteProtocolError

__all__ = ["RECORD_SEPARATOR", "RecordBuffer"]

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
            if self._position > 65536:
                del self._data[: self._position]
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
                raise RemoteProtocolError(
                    f"The maximum message size of {limit}B was exceeded. "
                    "The message size can be configured in AddHubOptions."
                )
            self._scanned = stop
            return None
        self._position = self._scanned = end + 1
        record = data[start:end]
        return record if isinstance(record, bytes) else bytes(record)
