"""Stateful reconnect: what each side has counted, and what must be sent again over a new transport (SPEC 4.7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ._errors import RemoteProtocolError

__all__ = ["Replay"]

_Kept = tuple[bytes, str | None]
"""A message, and the upload whose item it is."""


class Replay:
    """The two directions of one connection: sequence ids are counted, outgoing messages kept until acknowledged.

    `limit`: while more bytes than this have been written and not been acknowledged, further messages wait for an Ack;
    the first new one of a transport does not, but no more than these make a tenth of the limit.
    `stand_in`: a message that counts and means nothing to anybody.

    Three faults of Microsoft's receivers must not show:

    - They end the connection at a Sequence above what they expect next, even if they have acknowledged that: where a
      transport is cut while messages are sent again, they expect the next of these, which they have, and have dropped.
      Only an Ack of what had never left before says for certain where they are. So the Sequence is one that they take,
      and stand-ins take the place of what need not be sent again, as far as they are not more than the limit.
    - They do not count an item of an upload that they do not know any more. So where an upload is over, stand-ins take
      the place of its items; and where it may be over, nothing is sent again before there is an answer.
    - They do not repeat an Ack that was lost with a transport, unless something new arrives.
    """

    __slots__ = (
        "_before",
        "_ends",
        "_expected",
        "_extra",
        "_first",
        "_latest",
        "_left",
        "_limit",
        "_missing",
        "_next",
        "_open",
        "_over",
        "_stand_in",
        "_unacknowledged",
        "_unacknowledged_size",
        "_waiting",
        "ack_due",
        "doubtful",
        "waiting_size",
    )

    def __init__(self, limit: int, stand_in: bytes) -> None:
        self._limit = limit
        self._stand_in = stand_in
        self._unacknowledged: deque[_Kept] = deque()  # written to the present transport, oldest first
        self._unacknowledged_size = 0
        self._extra = 0  # bytes of what was let past the limit, until that holds again
        self._waiting: deque[_Kept] = deque()  # not written to the present transport; they come behind those above
        self.waiting_size: int = 0
        """Bytes that wait for an Ack or for a new transport."""
        self._first = 1  # sequence id of the oldest message kept
        self._left = 0  # the highest sequence id that has ever left
        self._before = 0  # the highest that has left on an earlier transport
        self._expected = 1  # the peer is known to have got as far as this on whatever transport it has read from
        self._missing = 0  # acknowledged messages that the present transport owes the peer's counting
        self._ends: dict[int, str] = {}  # sequence ids of the ends of uploads, while they are kept
        self._open: set[str] = set()  # uploads whose end is not acknowledged yet
        self._over: set[str] = set()  # those of them that the peer has answered
        self.doubtful: set[str] = set()
        """Uploads of which the peer may have had the end. While there are any, nothing is sent again. To be cleared
        when it has said what it has had, or when that has taken too long."""
        self._next = 1  # sequence id of the next message to arrive
        self._latest = 0  # the highest that has arrived
        self.ack_due: bool = False
        """Something has arrived that the peer may not know to have arrived."""

    # outgoing

    def add(self, message: bytes, *, item_of: str | None = None, end_of: str | None = None) -> None:
        """Keep a message that counts, to be written when `take` gives it out. It may be part of an upload."""
        if end_of is not None:
            self._ends[self._first + len(self._unacknowledged) + len(self._waiting)] = end_of
        self._waiting.append((message, item_of))
        self.waiting_size += len(message)

    def take(self, *, over_limit: bool = False) -> bytes | None:
        """Return the next message to be written, or None when all are written or the limit is passed."""
        if not self._waiting or (self.doubtful and not over_limit):
            return None
        is_extra = self._unacknowledged_size > self._limit and self._first + len(self._unacknowledged) > self._before
        if is_extra and not over_limit and not self._may_pass_limit:
            return None
        kept = self._waiting.popleft()
        self.waiting_size -= len(kept[0])
        if is_extra:
            self._extra += len(kept[0])
        if kept[1] is not None and kept[1] in self._over:
            kept = (self._stand_in, None)
        self._unacknowledged.append(kept)
        self._unacknowledged_size += len(kept[0])
        return kept[0]

    @property
    def _may_pass_limit(self) -> bool:
        """The first new message of a transport may: it may be what brings the next Ack. A peer that acknowledges
        nothing, over however many transports, does not get ever more that way."""
        return self._first + len(self._unacknowledged) == self._before + 1 and self._extra * 10 <= self._limit

    def all_left(self) -> None:
        """Everything taken is on its way, so that the peer may acknowledge it."""
        self._left = max(self._left, self._first + len(self._unacknowledged) - 1)

    def acknowledge(self, sequence_id: int) -> None:
        """The peer has everything up to this id. Raises `RemoteProtocolError` where it cannot have (appendix E.29)."""
        if sequence_id > self._left:
            raise RemoteProtocolError("Ack ID greater than amount of messages we've sent.")
        if sequence_id > self._before:
            self._expected = max(self._expected, sequence_id + 1)
        while self._first <= sequence_id:
            upload = self._ends.pop(self._first, None)
            if upload is not None:
                self._open.discard(upload)
                self._over.discard(upload)
                self.doubtful.discard(upload)
            self._first += 1
            if self._unacknowledged:
                self._unacknowledged_size -= len(self._unacknowledged.popleft()[0])
            else:  # the transport it was written to is gone
                self.waiting_size -= len(self._waiting.popleft()[0])
                self._missing += 1
        if self._unacknowledged_size + self.waiting_size <= self._limit:
            self._extra = 0

    def begin_uploads(self, uploads: Iterable[str]) -> None:
        """A call that will be answered announces these."""
        self._open.update(uploads)

    def end_uploads(self, uploads: Iterable[str]) -> None:
        """The peer has answered the call that these belong to, and wants nothing more of them."""
        self._over.update(self._open.intersection(uploads))
        self.doubtful.difference_update(uploads)

    def rewind(self) -> None:
        """The transport is gone, and perhaps with it all that has not been acknowledged."""
        self._waiting.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self.waiting_size += self._unacknowledged_size
        self._unacknowledged_size = 0

    def stand_ins(self) -> bytes:
        """Return what must be written before the next of what `take` gives out."""
        missing, self._missing = self._missing, 0
        return self._stand_in * missing

    def resume(self) -> int:
        """There is a new transport. Return the sequence id to tell the peer: that of what is written next.

        Our last Ack may have been lost with the old transport, and its reader may wait for it at its limit.
        """
        self.rewind()
        self._before = self._left
        self.ack_due = self._latest > 0
        ended = {upload for sequence_id, upload in self._ends.items() if sequence_id <= self._left} - self._over
        self.doubtful = {item_of for _, item_of in self._waiting if item_of is not None and item_of in ended}
        if (self._first - self._expected) * len(self._stand_in) > self._limit:
            self._expected = (
                self._first
            )  # it must have got further meanwhile; nobody shall make us write more than that
        self._missing = self._first - self._expected
        return self._expected

    # incoming

    def receive(self) -> bool:
        """A message that counts has arrived. False: it has been here before (SPEC 4.7.4)."""
        sequence_id = self._next
        self._next += 1
        self.ack_due = True
        if sequence_id <= self._latest:
            return False
        self._latest = sequence_id
        return True

    def receive_sequence(self, sequence_id: int) -> None:
        """The peer tells the id of its next message. Raises `RemoteProtocolError` for an id that cannot be.

        All up to the highest id have arrived, so that what follows it is legal even if the transport was cut again
        before everything that an earlier Sequence promised had come.
        """
        if sequence_id > self._latest + 1:
            raise RemoteProtocolError("Sequence ID greater than amount of messages we've received.")
        if sequence_id < 1:
            raise RemoteProtocolError("Sequence ID less than that of the first message.")
        self._next = sequence_id

    def acknowledgement(self) -> int:
        """Return the id to be acknowledged, which then is."""
        self.ack_due = False
        return self._latest
