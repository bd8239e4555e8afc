"""For tests of what is built on hubproto, and for fuzzers: two ends, a simulated link and a clock, all in memory.

Nothing here waits, and nothing is random by itself. Who wants chance passes `draw`, a function that returns a whole
number from 0 up to, but without, the one it is given: `random.Random(1).randrange`, or a fuzzer's next bytes.

    clock = ManualClock()
    client = HubConnection(Role.CLIENT, [JsonCodec()], now=clock())
    server = HubConnection(Role.SERVER, [JsonCodec()], now=clock())
    pair = Pair(client, server, clock=clock, latency=0.05, draw=random.Random(1).randrange)
    pair.drive()
    client.send("Greet", ["world"])
    pair.drive()
    assert pair.server.take()[-1].target == "Greet"
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec import Struct

from ._errors import HubProtoError, TransportError

__all__ = [
    "Difference",
    "Draw",
    "End",
    "Entry",
    "Machine",
    "ManualClock",
    "Pair",
    "Recorder",
    "Replay",
    "ResumableMachine",
    "Transcript",
    "feed",
    "take_events",
]

Draw = Callable[[int], int]
"""A source of chance: `draw(n)` returns a whole number of 0 to n - 1."""


class Machine(Protocol):
    """The seven verbs, as a `HubConnection` has them."""

    @property
    def want_read(self) -> bool: ...
    def receive_data(self, data: bytes, *, now: float) -> None: ...
    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def next_event(self, *, now: float) -> Any: ...
    def data_to_send(self, *, now: float) -> bytes: ...
    def next_timeout(self) -> float | None: ...


@runtime_checkable
class ResumableMachine(Protocol):
    """A machine that outlives its transport (SPEC 4.7)."""

    def resume(self) -> None: ...


M = TypeVar("M", bound=Machine)


class ManualClock:
    """A clock that stands still until it is told to move. Call it for the time, in seconds."""

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for less than nothing."""
        if seconds < 0:
            raise ValueError(f"a clock does not go backwards: {seconds!r} s")
        self.now += seconds


def take_events(machine: Machine, *, now: float) -> list[Any]:
    """Return all events that the machine has now."""
    events = []
    while (event := machine.next_event(now=now)) is not None:
        events.append(event)
    return events


def feed(machine: Machine, data: bytes, *, now: float, cuts: Iterable[int] = ()) -> list[Any]:
    """Feed bytes and return the events that they make.

    `cuts` are places in `data`, in any order: it arrives in as many pieces, and the events are taken after each.
    """
    places = sorted({0, len(data), *(place for place in cuts if 0 < place < len(data))})
    events: list[Any] = []
    for start, stop in zip(places, places[1:] or [0], strict=False):
        machine.receive_data(data[start:stop], now=now)
        events += take_events(machine, now=now)
    return events


# one end, recorded

Kind = Literal["in", "out", "eof", "timeout", "resume"]


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened at one end: bytes in or out, the end of them, a deadline, another transport.

    `time` is in seconds since the recording began. `error` is the text of the error that an `eof` came with.
    """

    time: float
    kind: Kind
    data: bytes = b""
    error: str | None = None


class _Line(Struct, omit_defaults=True):
    """An entry as it is written: its bytes as text if they are text, else in hexadecimal."""

    time: float
    kind: Kind
    text: str | None = None
    hex: str | None = None
    error: str | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """Where a replay sent something else than what was recorded. `index` is that of the entry in the transcript."""

    index: int
    expected: bytes
    sent: bytes


class Replay(Struct, frozen=True, kw_only=True):
    """What came of a replay: the machine's events, and where its bytes differ from the recorded ones."""

    events: list[Any]
    differences: list[Difference]


class Transcript:
    """Everything that went into one machine and came out of it, with times. A `Recorder` writes it."""

    __slots__ = ("entries",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = list(entries)

    def dumps(self) -> str:
        """Return the transcript as text: one JSON object a line, in a form that does not change."""
        return "".join(msgspec.json.encode(_line(entry)).decode() + "\n" for entry in self.entries)

    @classmethod
    def loads(cls, text: str) -> Transcript:
        """Read what `dumps` has written. Raises msgspec.DecodeError for anything else."""
        lines = [msgspec.json.decode(line, type=_Line) for line in text.split("\n") if line]
        return cls(Entry(time=line.time, kind=line.kind, data=_data(line), error=line.error) for line in lines)

    def replay(self, machine: Machine, *, start: float = 0.0, react: Callable[[Any], None] | None = None) -> Replay:
        """Let it all happen again to a fresh machine, made at the time `start`.

        `react` gets each event as it is taken, to give the commands that were given when this was recorded.
        """
        events: list[Any] = []
        differences: list[Difference] = []
        now = start
        for index, entry in enumerate(self.entries):
            now = start + entry.time
            match entry.kind:
                case "in":
                    machine.receive_data(entry.data, now=now)
                case "eof":
                    error = None if entry.error is None else TransportError(entry.error)
                    machine.receive_eof(error, now=now)
                case "timeout":
                    machine.handle_timeout(now=now)
                case "resume":
                    _resume(machine)
                case _:  # out
                    sent = machine.data_to_send(now=now)
                    if sent != entry.data:
                        differences.append(Difference(index=index, expected=entry.data, sent=sent))
            while (event := machine.next_event(now=now)) is not None:
                events.append(event)
                if react is not None:
                    react(event)
        rest = machine.data_to_send(now=now)
        if rest:
            differences.append(Difference(index=len(self.entries), expected=b"", sent=rest))
        return Replay(events=events, differences=differences)


def _line(entry: Entry) -> _Line:
    line = _Line(entry.time, entry.kind, error=entry.error)
    if entry.data:
        try:
            line.text = entry.data.decode()
        except UnicodeDecodeError:
            line.hex = entry.data.hex()
    return line


def _data(line: _Line) -> bytes:
    if line.hex is None:
        return (line.text or "").encode()
    try:
        return bytes.fromhex(line.hex)
    except ValueError as error:
        raise msgspec.DecodeError(f"not hexadecimal: {line.hex!r}") from error


def _resume(machine: Machine) -> None:
    if not isinstance(machine, ResumableMachine):
        raise TypeError(f"a {type(machine).__name__} cannot be resumed")
    machine.resume()


class Recorder(Generic[M]):
    """A machine in another's place, which writes down what happens to it. Commands go to `machine` itself."""

    __slots__ = ("_start", "machine", "transcript")

    def __init__(self, machine: M, *, now: float = 0.0) -> None:
        self.machine: M = machine
        self.transcript: Transcript = Transcript()
        self._start = now

    @property
    def want_read(self) -> bool:
        """As the machine's."""
        return self.machine.want_read

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Write down bytes that came."""
        self._write(now, "in", data)
        self.machine.receive_data(data, now=now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """Write down that no more bytes come."""
        self._write(now, "eof", error=None if error is None else str(error))
        self.machine.receive_eof(error, now=now)

    def handle_timeout(self, *, now: float) -> None:
        """Write down that the machine was told the time."""
        self._write(now, "timeout")
        self.machine.handle_timeout(now=now)

    def next_event(self, *, now: float) -> Any:
        """As the machine's."""
        return self.machine.next_event(now=now)

    def data_to_send(self, *, now: float) -> bytes:
        """Write down bytes that leave."""
        data = self.machine.data_to_send(now=now)
        if data:
            self._write(now, "out", data)
        return data

    def next_timeout(self) -> float | None:
        """As the machine's."""
        return self.machine.next_timeout()

    def resume(self) -> None:
        """Write down that the transport was replaced, at the time of the entry before."""
        last = self.transcript.entries[-1].time if self.transcript.entries else 0.0
        self._write(self._start + last, "resume")
        _resume(self.machine)

    def _write(self, now: float, kind: Kind, data: bytes = b"", error: str | None = None) -> None:
        self.transcript.entries.append(Entry(time=now - self._start, kind=kind, data=bytes(data), error=error))


# two ends, and a link between them


class End(Generic[M]):
    """One end of a `Pair`: the machine, its events so far, and the bytes under way to it."""

    __slots__ = ("_inbox", "events", "machine")

    def __init__(self, machine: M) -> None:
        self.machine: M = machine
        self.events: list[Any] = []
        self._inbox: deque[tuple[float, bytes | None]] = deque()  # time of arrival, bytes or the end of them

    @property
    def in_flight(self) -> int:
        """Bytes that the other end has written and this one has not read."""
        return sum(len(data) for _, data in self._inbox if data is not None)

    def take(self) -> list[Any]:
        """Return and forget the events so far."""
        events, self.events = self.events, []
        return events


class Pair(Generic[M]):
    """Two machines and the link between them, in simulated time.

    `latency` is how many seconds bytes are under way. `draw` cuts and joins what is read at random places, takes the
    ends in random order and decides what a broken link still delivers; without it bytes are read as they arrive, and
    a broken link delivers nothing of what is under way.

    A link loses bytes only by breaking, and never delivers them twice: what arrives twice are messages that an end
    sends again after `resume`, because it does not know that they have arrived.
    """

    __slots__ = ("_draw", "client", "clock", "connected", "latency", "server")

    def __init__(
        self, client: M, server: M, *, clock: ManualClock, latency: float = 0.0, draw: Draw | None = None
    ) -> None:
        self.client: End[M] = End(client)
        self.server: End[M] = End(server)
        self.clock: ManualClock = clock
        self.latency: float = latency
        self.connected: bool = True  # what is written arrives
        self._draw = draw

    @property
    def in_flight(self) -> int:
        """Bytes under way, in both directions together."""
        return self.client.in_flight + self.server.in_flight

    def step(self) -> bool:
        """Do what is due at this time: deadlines, one read an end, its events, writing. False: nothing happened."""
        swap = self._draw is not None and self._draw(2)
        moved = False
        for end in (self.server, self.client) if swap else (self.client, self.server):
            deadline = end.machine.next_timeout()
            if deadline is not None and deadline <= self.clock.now:
                end.machine.handle_timeout(now=self.clock.now)
            moved |= self._read(end)
            events = take_events(end.machine, now=self.clock.now)
            end.events += events
            moved |= self._write(end) or bool(events)
        return moved

    def drive(self, seconds: float | None = None, *, until: Callable[[], bool] | None = None) -> bool:
        """Let both ends work for `seconds`, by default until nothing is under way, or until `until()` is true.

        Time jumps to the next arrival or deadline. Return whether `until()` is true, if it is given, else True. Raises
        RuntimeError when a machine's deadline stays in the past.
        """
        stop = None if seconds is None else self.clock.now + seconds
        while until is None or not until():
            if self.step():
                continue
            arrivals = self._arrivals()
            deadlines = [end.machine.next_timeout() for end in (self.client, self.server)]
            upcoming = min((*arrivals, *(d for d in deadlines if d is not None)), default=math.inf)
            if stop is None and not arrivals:
                break
            if stop is not None and upcoming > stop:
                self.clock.now = stop
                break
            if upcoming <= self.clock.now:
                raise RuntimeError(f"a deadline stays at {upcoming:g} s though handle_timeout was called")
            self.clock.now = upcoming
        return until is None or until()

    def hang_up(self, end: End[M]) -> None:
        """One end closes the link in order: the other reads what is under way, and then the end of it.

        Of a link that is broken already the other end hears nothing.
        """
        self._write(end)
        if self.connected:
            self._other(end)._inbox.append((self.clock.now + self.latency, None))

    def cut(self, *, client: bool = True, server: bool = True) -> None:
        """Break the link: some of what is under way still arrives, and nothing more ever will.

        `client` and `server`: whether this end notices. One that does not goes on writing, into nothing.
        """
        if self.connected:
            self._break()
        for end, notices in ((self.client, client), (self.server, server)):
            if notices:
                end.machine.receive_eof(TransportError("the simulated link was cut"), now=self.clock.now)
                end.events += take_events(end.machine, now=self.clock.now)
                self._write(end)

    def resume(self) -> None:
        """Put a new link in place of the old one, broken or not, and tell both ends.

        Raises TypeError for machines that do not outlive a link, and what their `resume` raises.
        """
        if self.connected:
            self._break()
        _resume(self.client.machine)
        _resume(self.server.machine)
        self.connected = True

    def _break(self) -> None:
        for end in (self.client, self.server):
            if self._draw is not None and self._draw(2):
                self._write(end)  # it was just in time
        for end in (self.client, self.server):
            data = b"".join(data for _, data in end._inbox if data is not None)
            end._inbox.clear()
            data = data[: self._draw(len(data) + 1)] if self._draw is not None else b""
            if data and end.machine.want_read:
                end.machine.receive_data(data, now=self.clock.now)
                end.events += take_events(end.machine, now=self.clock.now)
        self.connected = False

    def _other(self, end: End[M]) -> End[M]:
        return self.server if end is self.client else self.client

    def _read(self, end: End[M]) -> bool:
        """Deliver some of what has arrived."""
        due = bytearray()
        while end._inbox and end._inbox[0][0] <= self.clock.now and end.machine.want_read:
            data = end._inbox[0][1]
            if data is None and not due:
                end._inbox.popleft()
                end.machine.receive_eof(now=self.clock.now)
                return True
            if data is None or (due and self._draw is None):
                break
            due += data
            end._inbox.popleft()
        if not due:
            return False
        size = 1 + self._draw(len(due)) if self._draw is not None else len(due)
        if size < len(due):
            end._inbox.appendleft((self.clock.now, bytes(due[size:])))
        end.machine.receive_data(bytes(due[:size]), now=self.clock.now)
        return True

    def _write(self, end: End[M]) -> bool:
        data = end.machine.data_to_send(now=self.clock.now)
        if data and self.connected:
            self._other(end)._inbox.append((self.clock.now + self.latency, data))
        return bool(data)

    def _arrivals(self) -> list[float]:
        return [end._inbox[0][0] for end in (self.client, self.server) if end._inbox and end.machine.want_read]
