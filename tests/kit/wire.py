"""Records of the JSON hub protocol as tests write and read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from hubproto_core._framing import RecordBuffer

RS = b"\x1e"
HANDSHAKE = b'{"protocol":"json","version":1}' + RS
HANDSHAKE_2 = b'{"protocol":"json","version":2}' + RS


def pack(*messages: dict[str, Any]) -> bytes:
    """The records of *messages*, whose members are those of the wire."""
    return b"".join(json.dumps(message).encode() + RS for message in messages)


def unpack(data: bytes) -> list[Any]:
    """The values of whole records."""
    *records, rest = data.split(RS)
    assert rest == b"", f"half a record was sent: {rest!r}"
    return [json.loads(record) for record in records]


def unpack_binary(data: bytes) -> list[Any]:
    """The values of whole MessagePack records behind the handshake's response."""
    buffer = RecordBuffer()
    buffer.append(data.removeprefix(b"{}" + RS))
    values = []
    while (record := buffer.take_binary(None)) is not None:
        values.append(msgspec.msgpack.decode(record))
    assert len(buffer) == 0, f"half a record was sent: {data!r}"
    return values


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """*data* in pieces of at most *size* bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))
