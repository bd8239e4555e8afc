"""The encodings of the hub protocol: bytes to messages and back, and nothing else."""

from __future__ import annotations

from typing import Literal, Protocol

from .._binding import Binder
from .._framing import RecordBuffer
from .._messages import HubMessage
from ._json import JsonCodec
from ._msgpack import MessagePackCodec

__all__ = ["Codec", "JsonCodec", "MessagePackCodec", "TransferFormat", "default_codecs", "find_codec"]

TransferFormat = Literal["text", "binary"]


class Codec(Protocol):
    """One encoding. It holds no state of a connection, so any number of connections may share it."""

    @property
    def name(self) -> str:
        """The protocol's name in the handshake."""

    @property
    def version(self) -> int:
        """The highest protocol version it speaks."""

    @property
    def transfer_format(self) -> TransferFormat:
        """The kind of WebSocket frame its messages travel in."""

    def next_record(self, buffer: RecordBuffer, limit: int | None) -> bytes | None:
        """Take one record out of the buffer; `RemoteProtocolError` if it is over the limit in bytes."""

    def decode(self, record: bytes, binder: Binder, max_depth: int) -> HubMessage | None:
        """Return the record's message, or None for a type nobody knows; `RemoteProtocolError` if it is malformed.

        `max_depth`: how many levels arrays and objects may be nested in each other.
        """

    def encode(self, message: HubMessage) -> bytes:
        """Return the framed message; `LocalProtocolError` if a value in it cannot be encoded."""


def default_codecs() -> tuple[Codec, ...]:
    """Return both encodings, with .NET's own names for the members of objects."""
    return JsonCodec(), MessagePackCodec()


def find_codec(protocol: str | Codec) -> Codec:
    """Return the encoding of that name. Raises ValueError if there is none; an encoding itself is returned as it is."""
    if not isinstance(protocol, str):
        return protocol
    for codec in default_codecs():
        if codec.name == protocol:
            return codec
    raise ValueError(f"protocol must be 'json', 'messagepack' or a Codec, not {protocol!r}")
