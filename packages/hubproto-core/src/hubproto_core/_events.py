"""What a `HubConnection` tells its user: the peer's messages, and the two ends of the connection's life."""

from __future__ import annotations

from msgspec import Struct

from ._messages import (
    CancelInvocation,
    Completion,
    Invocation,
    InvocationBindingFailure,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)

__all__ = ["ConnectionClosed", "Event", "HandshakeCompleted"]


class HandshakeCompleted(Struct, frozen=True, kw_only=True):
    """Both sides agreed: hub messages may flow. The first event of every connection that gets this far."""

    protocol: str
    version: int


class ConnectionClosed(Struct, frozen=True, kw_only=True):
    """The connection is over. Always the last event, exactly once.

    `error` is None after an orderly end. `allow_reconnect`: the end is no farewell, the client may come back.
    """

    error: Exception | None = None
    allow_reconnect: bool = False


Event = (
    HandshakeCompleted
    | Invocation
    | StreamInvocation
    | StreamItem
    | Completion
    | CancelInvocation
    | InvocationBindingFailure
    | StreamBindingFailure
    | ConnectionClosed
)
