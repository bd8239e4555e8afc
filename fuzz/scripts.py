"""A fuzzer's input as a story: a stream of bytes, and what else happens at which places of it.

The first byte holds the flags (high half) and the number of operations (low half). Each operation is two bytes: its
place in the stream, as a fraction of 255, and what it is. The rest is the stream. Any bytes at all are a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hubproto_core as hp

SECONDS = (0.4, 1.0, 5.0, 20.0)
LIMITS = (32768, 96)
CONFIGS = [
    hp.HubConfig(
        max_message_size=limit,
        detailed_errors=True,
        replay_buffer=200,
        max_open_calls=5,
        max_open_streams=3,
        max_arguments=4,
        max_headers=3,
        max_header_size=30,
        max_id_length=20,
    )
    for limit in LIMITS
]
BINARY, STATEFUL = 2, 4  # flags of a connection; the lowest chooses the limit
ADDRESS = re.compile(" at 0x[0-9a-f]+")
WITH_ERRORS = (hp.ConnectionClosed, hp.InvocationBindingFailure, hp.StreamBindingFailure)


class Script:
    """`operations` are places in `stream` with numbers below 256, in order; at each of them the stream is cut."""

    __slots__ = ("flags", "operations", "stream")

    def __init__(self, data: bytes) -> None:
        head = data[0] if data else 0
        count = head & 15
        self.flags = head >> 4
        pairs = data[1 : 1 + 2 * count]
        self.stream = data[1 + 2 * count :]
        size = len(self.stream)
        self.operations = sorted((pairs[i] * size // 255, pairs[i + 1]) for i in range(0, len(pairs) - 1, 2))

    @property
    def small(self) -> int:
        """A size that cuts the stream into a dozen pieces or two; short streams into single bytes."""
        return max(1 + self.stream[-1] % 3 if self.stream else 1, len(self.stream) // 16)

    @staticmethod
    def write(stream: bytes, operations: tuple[tuple[int, int], ...] = (), flags: int = 0) -> bytes:
        """The script of this stream, for a corpus."""
        return bytes([flags << 4 | len(operations), *(byte for pair in operations for byte in pair)]) + stream

    def pieces(self, size: int | None) -> Iterator[tuple[bytes, int | None]]:
        """The stream up to each operation, and that operation; at last what is behind all of them, and None.

        With a `size`, in pieces of at most so many bytes, each with None but the last before an operation.
        """
        start = 0
        for place, operation in (*self.operations, (len(self.stream), None)):
            if size is not None:
                while place - start > size:
                    yield self.stream[start : start + size], None
                    start += size
            yield self.stream[start:place], operation
            start = place


class Story:
    """One connection that lives through a script; what can be compared afterwards is `events` and `output`."""

    def __init__(self, role: hp.Role, codecs: list[hp.Codec], script: Script, size: int | None) -> None:
        self.now = 0.0
        self.limit = LIMITS[script.flags & 1]
        config = CONFIGS[script.flags & 1]
        self.conn = hp.HubConnection(role, codecs, config=config, stateful=bool(script.flags & STATEFUL), now=0.0)
        self.events: list[Any] = []
        self.output = bytearray()
        self.ends = 0
        self.calls: list[str] = []  # the peer's, as they came
        self.own: list[str] = []  # ours, and our uploads
        self.take()
        for piece, operation in script.pieces(size):
            if piece:
                self.conn.receive_data(piece, now=self.now)
                self.take()
            assert len(self.conn._buffer) <= self.limit, "more is held than one message may have"
            if operation is not None:
                self.operate(operation)
                self.take()
        self.conn.receive_eof(hp.TransportError("the script is over"), now=self.now)
        self.let_pass(100.0)
        self.take()
        assert self.ends == 1, f"{self.ends} terminal events"
        assert self.conn.next_timeout() is None, "a timer outlives the connection"
        assert not self.conn.want_read

    def take(self) -> None:
        """Take the events and the output."""
        while (event := self.conn.next_event(now=self.now)) is not None:
            assert not self.ends, f"{event} behind the last event"
            match event:
                case hp.Invocation(invocation_id=str(call)) | hp.StreamInvocation(invocation_id=call):
                    self.calls.append(call)
                case hp.ConnectionClosed():
                    self.ends += 1
            # errors are equal only to themselves
            self.events.append(repr(event) if isinstance(event, WITH_ERRORS) else event)
        self.output += self.conn.data_to_send(now=self.now)

    def let_pass(self, seconds: float) -> None:
        """Advance the clock, and meet each deadline at its time."""
        end = self.now + seconds
        while (deadline := self.conn.next_timeout()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.conn.handle_timeout(now=self.now)
            self.take()
            following = self.conn.next_timeout()
            assert following is None or following > self.now, "a deadline stays"
        self.now = end

    def operate(self, operation: int) -> None:
        """Let something happen: time, the end of the transport, or a command, which may be refused."""
        kind, argument = operation & 15, operation >> 4
        if kind == 0:
            return  # nothing but a cut in the stream
        if kind == 2:
            self.let_pass(SECONDS[argument & 3])
        elif kind == 3:
            self.conn.handle_timeout(now=self.now)  # too early
        elif kind == 4:
            error = hp.TransportError("the link was cut") if argument & 1 else None
            self.conn.receive_eof(error, now=self.now)
        else:
            try:
                self.command(kind, argument)
            except hp.LocalProtocolError:
                assert True  # documented, and it has changed nothing

    def command(self, kind: int, argument: int) -> None:
        """Give one of the commands."""
        conn = self.conn
        call = self.calls[argument % len(self.calls)] if self.calls else "1"
        own = self.own[argument % len(self.own)] if self.own else "1"
        value: Any = (None, argument, "\u2028", [1.5, {"a": b"b"}])[argument & 3]
        if kind == 1:
            conn.resume()
        elif kind == 5:
            conn.send("Send", [value])
        elif kind == 6:
            self.own.append(conn.invoke("Invoke", [value]))
        elif kind == 7:
            self.own.append(conn.stream("Stream", [value]))
        elif kind == 8:
            self.own.append(conn.new_stream_id())
        elif kind == 9:
            conn.send("Upload", [], stream_ids=[own])
        elif kind == 10:
            conn.cancel(own)
        elif kind == 11:
            conn.send_item(own if argument & 4 else call, value)
        elif kind == 12:
            conn.complete(own if argument & 4 else call, value)
        elif kind == 13:
            conn.complete(own if argument & 4 else call, error="no" if argument & 1 else None)
        elif kind == 14:
            conn.ignore_stream(own)
        else:
            conn.close("bye" if argument & 1 else None)


def same(one: object, other: object) -> bool:
    """Whether two are equal, or look so: neither a NaN nor an error ever equals another."""
    return one == other or ADDRESS.sub("", repr(one)) == ADDRESS.sub("", repr(other))


def tell(role: hp.Role, codecs: list[hp.Codec], data: bytes) -> None:
    """Live through a script in one go and in small pieces: both must come to the same."""
    script = Script(data)
    whole = Story(role, codecs, script, None)
    cut = Story(role, codecs, script, script.small)
    assert same(whole.events, cut.events), f"{whole.events} in one go, {cut.events} in pieces"
    assert whole.output == cut.output, f"{bytes(whole.output)!r} in one go, {bytes(cut.output)!r} in pieces"
