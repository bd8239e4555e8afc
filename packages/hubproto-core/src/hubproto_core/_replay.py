"""Stateful reconnect: what each side has counted, and what must be sent again over a new transport (SPEC 4.7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ._errors import RemoteProtocolError
from ._messages import Completion, HubMessage, SequenceMessage

__all__ = ["Replay"]

_STAND_IN = Completion(invocation_id="-")
"""What takes a sequence id without meaning anything, at either end, to any peer."""

_RESENDING = 1.0  # seconds in which a peer has surely sent again what it had to, if nothing proves that it has
_SOON = 0.1  # seconds behind its Sequence after which much of that has come
_BLOCK = 10  # messages that Microsoft's peers keep together: an Ack within one does not disturb the next

_Kept = tuple[bytes, str | None]
"""A message, and the stream whose item it is."""


class Replay:
    """The two directions of one connection: sequence ids are counted, outgoing messages kept until acknowledged.

    `limit`: while more bytes than this have been written and not been acknowledged, further messages wait for an Ack;
    the first new one of a transport does not, but no more than these make a tenth of the limit.
    `encode` is the codec's.
    `ack_interval`: seconds between our Acks. `now` is when the handshake was done.
    `any_stream_may_end`: the peer may forget a stream of ours at any moment, as a server does with an upload when its
    method returns. Otherwise it does so when it has had the end of it, and has an item behind that only if it is sent
    again.

    Four faults of Microsoft's peers must not show:

    - They end the connection at a Sequence above what they expect next, even if they have acknowledged that: where a
      transport is cut while messages are sent again, they expect the next of these, which they have, and have dropped.
      Only an Ack of what had never left before says for certain where they are. So the Sequence is one that they take,
      and stand-ins take the place of what need not be sent again, as far as they are not more than the limit.
    - They do not count an item of a stream that they have forgotten. So where that may be, the item is followed by its
      own Sequence and a stand-in: of the item and the stand-in they count the one or the other, or both as one.
    - They do not repeat an Ack that was lost with a transport, unless something new arrives.
    - They forget messages where an Ack comes while they send these again (SPEC 4.7.3). So until they have, what is
      acknowledged ends so far below what has come over this transport that it does not touch what they are at. They
      acknowledge nothing themselves before they have sent all again, so an Ack of theirs proves that.
    """

    __slots__ = (
        "_ack_interval",
        "_any_stream_may_end",
        "_before",
        "_encode",
        "_ends",
        "_expected",
        "_extra",
        "_first",
        "_forgotten",
        "_latest",
        "_left",
        "_limit",
        "_missing",
        "_next",
        "_resent_by",
        "_soon",
        "_stand_in",
        "_started",
        "_unacknowledged",
        "_unacknowledged_size",
        "_waiting",
        "ack_due",
        "resending",
        "resumed",
        "waiting_size",
    )

    def __init__(
        self,
        limit: int,
        encode: Callable[[HubMessage], bytes],
        *,
        any_stream_may_end: bool,
        ack_interval: float,
        now: float,
    ) -> None:
        self._limit = limit
        self._encode = encode
        self._stand_in = encode(_STAND_IN)
        self._any_stream_may_end = any_stream_may_end
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
        self._ends: dict[int, str] = {}  # sequence ids of the ends of streams, while they are kept
        self._forgotten: set[str] = set()  # streams whose end has left on an earlier transport
        self._next = 1  # sequence id of the next message to arrive
        self._latest = 0  # the highest that has arrived
        self._ack_interval = ack_interval
        self._started = now
        self._soon = now  # when to acknowledge some of what the peer sends again
        self._resent_by = now  # when it has sent all of that
        self.resending: bool = False
        """The peer may still be sending again what it had to."""
        self.resumed: bool = True
        """The peer has told on the present transport where it goes on."""
        self.ack_due: bool = False
        """Something has arrived that the peer may not know to have arrived."""

    # outgoing

    def add(self, message: bytes, *, item_of: str | None = None, end_of: str | None = None) -> None:
        """Keep a message that counts, to be written when `take` gives it out. It may be part of a stream."""
        if end_of is not None:
            self._ends[self._first + len(self._unacknowledged) + len(self._waiting)] = end_of
        self._waiting.append((message, item_of))
        self.waiting_size += len(message)

    def take(self, *, over_limit: bool = False) -> bytes | None:
        """Return the next message to be written, or None when all are written or the limit is passed."""
        if not self._waiting:
            return None
        sequence_id = self._first + len(self._unacknowledged)
        is_extra = self._unacknowledged_size > self._limit and sequence_id > self._before
        if is_extra and not over_limit and not self._may_pass_limit:
            return None
        kept = self._waiting.popleft()
        self.waiting_size -= len(kept[0])
        if is_extra:
            self._extra += len(kept[0])
        self._unacknowledged.append(kept)
        self._unacknowledged_size += len(kept[0])
        message, stream = kept
        if not self._is_marked(stream):
            return message
        return message + self._encode(SequenceMessage(sequence_id=sequence_id)) + self._stand_in

    def _is_marked(self, stream: str | None) -> bool:
        """Whether an item of this stream is followed by its own Sequence and a stand-in."""
        return stream is not None and (self._any_stream_may_end or stream in self._forgotten)

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
        while self._first <= sequence_id:
            self._ends.pop(self._first, None)
            if self._unacknowledged:
                message, stream = self._unacknowledged.popleft()
                self._unacknowledged_size -= len(message)
            else:  # the transport it was written to is gone
                message, stream = self._waiting.popleft()
                self.waiting_size -= len(message)
                self._missing += 1
            if self._first > self._before:  # but an item's own Sequence may have come behind it, and no more
                self._expected = self._first if self._is_marked(stream) else self._first + 1
            self._first += 1
        if self._unacknowledged_size + self.waiting_size <= self._limit:
            self._extra = 0
        if self.resumed:
            self._resent_by = self._started  # that is over: it proves that the peer has sent all again

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
        self.resumed = False
        self.resending = True
        self.ack_due = self._latest > 0
        self._forgotten = {stream for sequence_id, stream in self._ends.items() if sequence_id <= self._left}
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

    def receive_sequence(self, sequence_id: int, *, now: float) -> None:
        """The peer tells the id of its next message. Raises `RemoteProtocolError` for an id that cannot be.

        All up to the highest id have arrived, so that what follows it is legal even if the transport was cut again
        before everything that an earlier Sequence promised had come.
        """
        if sequence_id > self._latest + 1:
            raise RemoteProtocolError("Sequence ID greater than amount of messages we've received.")
        if sequence_id < 1:
            raise RemoteProtocolError("Sequence ID less than that of the first message.")
        self._next = sequence_id
        if not self.resumed:
            self.resumed = True
            self._soon = now + _SOON
            self._resent_by = now + _RESENDING

    def next_ack(self, *, now: float) -> float:
        """Return when to acknowledge what has come: at the whole multiples of the interval since the handshake.

        On another transport the first Acks leave as soon as they may: the peer may have waited for one for long.
        """
        if not self.resending:
            return self._started + ((now - self._started) // self._ack_interval + 1) * self._ack_interval
        if not self.resumed:
            return now + _RESENDING
        return self._soon if now < self._soon else self._resent_by

    def acknowledgement(self, *, now: float) -> int | None:
        """Return the id to be acknowledged, which then is, or None if it must not be yet."""
        sequence_id = self._latest
        if self.resumed and now < self._resent_by:
            sequence_id = self._next - 1 - _BLOCK
        elif self.resumed:
            self.resending = False
        self.ack_due = sequence_id < self._latest
        return sequence_id if sequence_id > 0 else None
