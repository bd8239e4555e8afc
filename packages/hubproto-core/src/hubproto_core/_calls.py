"""Which calls and streams are open on a connection, in both directions, and so which messages are legal (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from ._errors import LocalProtocolError

__all__ = ["CallKind", "CallTable"]


class CallKind(Enum):
    """What an id stands for, and so what may follow under it."""

    CALL = "call"  # one Completion
    STREAM = "stream"  # StreamItems, then one Completion
    CANCELLED = "cancelled stream"  # the same, but nobody here wants to see it


class CallTable:
    """The open ids of one connection."""

    __slots__ = ("_announced", "incoming", "incoming_streams", "outgoing", "outgoing_streams")

    def __init__(self) -> None:
        self.outgoing: dict[str, CallKind] = {}  # our calls that the peer has not completed
        self.outgoing_streams: dict[str, bool] = {}  # our uploads; True once announced by a call
        self.incoming: dict[str, list[CallKind]] = {}  # the peer's calls; an id may be in use twice (SPEC 3.6)
        self.incoming_streams: dict[str, int] = {}  # the peer's uploads, with the number of calls that announced them
        self._announced: dict[str, tuple[str, ...]] = {}  # incoming call -> the uploads it came with

    def open_incoming(self, invocation_id: str | None, kind: CallKind, stream_ids: Sequence[str] | None) -> None:
        """The peer calls us."""
        if invocation_id is not None:
            self.incoming.setdefault(invocation_id, []).append(kind)
            self._announced[invocation_id] = (*self._announced.get(invocation_id, ()), *(stream_ids or ()))
        for stream_id in stream_ids or ():
            self.incoming_streams[stream_id] = self.incoming_streams.get(stream_id, 0) + 1

    def require_incoming(self, invocation_id: str, kind: CallKind | None = None) -> None:
        """Raise `LocalProtocolError` unless the peer waits for something under this id."""
        kinds = self.incoming.get(invocation_id, ())
        if not kinds or (kind is not None and kind not in kinds):
            raise LocalProtocolError(f"the peer has no {kind.value if kind else 'call'} {invocation_id!r} open")

    def close_incoming(self, invocation_id: str, kind: CallKind) -> None:
        """We completed the peer's call, and with the last one of its id the uploads that came with them.

        Of several calls under one id it is one of this kind if there is one.
        """
        kinds = self.incoming[invocation_id]
        kinds.remove(kind if kind in kinds else kinds[0])
        if kinds:
            return
        del self.incoming[invocation_id]
        for stream_id in self._announced.pop(invocation_id, ()):
            announced = self.incoming_streams.pop(stream_id, 1) - 1
            if announced:
                self.incoming_streams[stream_id] = announced

    def announce(self, stream_ids: Sequence[str]) -> None:
        """Our call carries these uploads: from now on their items may be sent."""
        for stream_id in stream_ids:
            if self.outgoing_streams.get(stream_id) is not False:
                raise LocalProtocolError(f"{stream_id!r} is no stream id from new_stream_id() that waits for its call")
        for stream_id in stream_ids:
            self.outgoing_streams[stream_id] = True
