"""Which calls and streams are open on a connection, in both directions, and so which messages are legal (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._errors import LocalProtocolError
from ._states import OUR_CALL, OUR_UPLOAD, THEIR_CALL, IdState, Step, ids_that_take

__all__ = ["CallTable"]

_OUR_CALLS_WITH_ITEMS = ids_that_take(Step.ITEM, OUR_CALL)
_OUR_CALLS_TO_CANCEL = ids_that_take(Step.CANCEL, OUR_CALL)
_OUR_UPLOADS_TO_ANNOUNCE = ids_that_take(Step.ANNOUNCE, OUR_UPLOAD)
_OUR_UPLOADS_WITH_ITEMS = ids_that_take(Step.ITEM, OUR_UPLOAD)
_THEIR_CALLS_WITH_ITEMS = ids_that_take(Step.ITEM, THEIR_CALL)


class CallTable:
    """The open ids of one connection. An id that is in no table here is done: whatever says it changes nothing."""

    __slots__ = ("_announced", "incoming", "incoming_streams", "open_incoming_calls", "outgoing", "outgoing_streams")

    def __init__(self) -> None:
        self.outgoing: dict[str, IdState] = {}  # our calls that the peer has not completed
        self.outgoing_streams: dict[str, IdState] = {}  # our uploads
        self.incoming: dict[str, list[IdState]] = {}  # the peer's calls; an id may be in use twice (SPEC 3.6)
        self.open_incoming_calls = 0
        self.incoming_streams: dict[str, int] = {}  # the peer's uploads: how many calls announced each
        self._announced: dict[str, list[str]] = {}  # incoming call -> the uploads it came with

    # calls of ours

    def has_items(self, invocation_id: str) -> bool:
        """Whether items of the peer's are wanted under this id."""
        return self.outgoing.get(invocation_id) in _OUR_CALLS_WITH_ITEMS

    def require_cancellable(self, invocation_id: str) -> None:
        """Raise `LocalProtocolError` unless we wait for something under this id."""
        if self.outgoing.get(invocation_id) not in _OUR_CALLS_TO_CANCEL:
            raise LocalProtocolError(f"there is no call {invocation_id!r} to cancel")

    def step(self, invocation_id: str, step: Step) -> None:
        """One of our calls goes on."""
        _take_step(self.outgoing, OUR_CALL, invocation_id, step)

    def complete_outgoing(self, invocation_id: str) -> bool:
        """The peer has completed one of our calls; tell whether anybody waits for it."""
        state = self.outgoing.get(invocation_id)
        if state is None:
            return False
        _take_step(self.outgoing, OUR_CALL, invocation_id, Step.COMPLETION)
        return state is not IdState.CANCELLED

    # uploads of ours

    def is_uploading(self, stream_id: str) -> bool:
        """Whether this is an upload of ours whose items may be sent."""
        return self.outgoing_streams.get(stream_id) in _OUR_UPLOADS_WITH_ITEMS

    def announce(self, stream_ids: Sequence[str]) -> None:
        """Our call carries these uploads: from now on their items may be sent."""
        for stream_id in stream_ids:
            if self.outgoing_streams.get(stream_id) not in _OUR_UPLOADS_TO_ANNOUNCE:
                raise LocalProtocolError(f"{stream_id!r} is no stream id from new_stream_id() that waits for its call")
        for stream_id in set(stream_ids):
            _take_step(self.outgoing_streams, OUR_UPLOAD, stream_id, Step.ANNOUNCE)

    def complete_upload(self, stream_id: str) -> None:
        """One of our uploads has been completed."""
        _take_step(self.outgoing_streams, OUR_UPLOAD, stream_id, Step.COMPLETION)

    # calls of the peer's

    def open_incoming(self, invocation_id: str | None, state: IdState, stream_ids: Sequence[str] | None) -> None:
        """The peer calls us."""
        if invocation_id is not None:
            self.open_incoming_calls += 1
            states = self.incoming.get(invocation_id)
            if states is None:
                self.incoming[invocation_id] = [state]
            else:
                states.append(state)
            if stream_ids:
                self._announced.setdefault(invocation_id, []).extend(stream_ids)
        if stream_ids:
            for stream_id in stream_ids:
                self.incoming_streams[stream_id] = self.incoming_streams.get(stream_id, 0) + 1

    def require_incoming(self, invocation_id: str) -> None:
        """Raise `LocalProtocolError` unless the peer waits for something under this id."""
        if invocation_id not in self.incoming:
            raise LocalProtocolError(f"the peer has no call {invocation_id!r} open")

    def require_incoming_stream(self, invocation_id: str) -> None:
        """Raise `LocalProtocolError` unless the peer waits for items under this id."""
        for state in self.incoming.get(invocation_id, ()):
            if state in _THEIR_CALLS_WITH_ITEMS:
                return
        raise LocalProtocolError(f"the peer has no stream {invocation_id!r} open")

    def close_incoming(self, invocation_id: str, state: IdState) -> None:
        """We completed the peer's call, and with the last one of its id the uploads that came with them.

        Of several calls under one id it is one in this state if there is one.
        """
        states = self.incoming[invocation_id]
        states.remove(state if state in states else states[0])
        self.open_incoming_calls -= 1
        if states:
            return
        del self.incoming[invocation_id]
        if self._announced:
            for stream_id in self._announced.pop(invocation_id, ()):
                announced = self.incoming_streams.pop(stream_id, 1) - 1
                if announced:
                    self.incoming_streams[stream_id] = announced


def _take_step(ids: dict[str, IdState], table: Mapping[IdState, Mapping[Step, IdState]], name: str, step: Step) -> None:
    after = table[ids[name]][step]
    if after is IdState.DONE:
        del ids[name]
    else:
        ids[name] = after
