"""The messages of the hub protocol (SPEC 2), frozen; on reception they double as events.

Declared in the order in which .NET writes their members, so that an encoder only has to walk them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

__all__ = [
    "Ack",
    "CancelInvocation",
    "Close",
    "Completion",
    "HubMessage",
    "Invocation",
    "InvocationBindingFailure",
    "Ping",
    "SequenceMessage",
    "StreamBindingFailure",
    "StreamInvocation",
    "StreamItem",
]


class _Wire(Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """What every message of the wire shares: its numeric type and the names of its members."""


class _WithHeaders(_Wire, frozen=True, kw_only=True):
    headers: Mapping[str, str] | None = None


class Invocation(_WithHeaders, frozen=True, kw_only=True, tag=1):
    """Call a method. With an `invocation_id` the peer answers with one `Completion`; without, never."""

    invocation_id: str | None = None
    target: str
    arguments: Sequence[Any]
    stream_ids: Sequence[str] | None = None


class StreamInvocation(_WithHeaders, frozen=True, kw_only=True, tag=4):
    """Call a streaming method: `StreamItem`s follow under the id, then one `Completion`."""

    invocation_id: str
    target: str
    arguments: Sequence[Any]
    stream_ids: Sequence[str] | None = None


class StreamItem(_WithHeaders, frozen=True, kw_only=True, tag=2):
    """One item of a stream: of a download under the invocation's id, of an upload under its stream id."""

    invocation_id: str
    item: Any


class Completion(_WithHeaders, frozen=True, kw_only=True, tag=3):
    """The end of a call or of a stream.

    `error` is None for success; an empty error counts as none. `result` is `msgspec.UNSET` where there is no result,
    which is not the same as a result of None.
    """

    invocation_id: str
    error: str | None = None
    result: Any | UnsetType = UNSET


class CancelInvocation(_WithHeaders, frozen=True, kw_only=True, tag=5):
    """Stop the call or the stream with this id."""

    invocation_id: str


class Ping(_Wire, frozen=True, kw_only=True, tag=6):
    """A sign of life."""


class Close(_Wire, frozen=True, kw_only=True, tag=7):
    """The last message of a connection. `allow_reconnect`: the client may come back by itself."""

    error: str | None = None
    allow_reconnect: bool = False


class Ack(_Wire, frozen=True, kw_only=True, tag=8):
    """Stateful reconnect: everything up to this sequence id has arrived."""

    sequence_id: int


class SequenceMessage(_Wire, frozen=True, kw_only=True, tag=9):
    """Stateful reconnect: the sequence id of the message that follows."""

    sequence_id: int


class InvocationBindingFailure(Struct, frozen=True, kw_only=True):
    """A call whose method is unknown or whose arguments do not fit; the connection lives on (SPEC 2.2.7)."""

    invocation_id: str | None
    target: str
    error: Exception


class StreamBindingFailure(Struct, frozen=True, kw_only=True):
    """A stream item that does not fit its stream; the connection lives on (SPEC 2.2.7)."""

    invocation_id: str
    error: Exception


HubMessage = (
    Invocation
    | StreamInvocation
    | StreamItem
    | Completion
    | CancelInvocation
    | Ping
    | Close
    | Ack
    | SequenceMessage
    | InvocationBindingFailure
    | StreamBindingFailure
)
