"""`hubproto_core.testing`: the simulated link, the clock and the transcripts, on a machine that only echoes."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from hubproto_core import (
    ConnectionClosed,
    HandshakeCompleted,
    HubConfig,
    HubConnection,
    HubProtoError,
    Invocation,
    JsonCodec,
    Role,
    TransportError,
)
from hubproto_core.testing import (
    Difference,
    Entry,
    Machine,
    ManualClock,
    Pair,
    Recorder,
    ResumableMachine,
    Transcript,
    feed,
    take_events,
)


class Wire:
    """A machine that tells all that happens to it as events, and sends what it is told to send."""

    def __init__(self) -> None:
        self.want_read = True
        self.deadline: float | None = None
        self.stuck = False
        self.output = b""
        self.pending: list[Any] = []

    def receive_data(self, data: bytes, *, now: float) -> None:
        self.pending.append((now, data))

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        self.pending.append((now, error and str(error)))

    def handle_timeout(self, *, now: float) -> None:
        if not self.stuck:
            self.deadline = None
            self.pending.append((now, "timeout"))

    def next_event(self, *, now: float) -> Any:
        return self.pending.pop(0) if self.pending else None

    def data_to_send(self, *, now: float) -> bytes:
        data, self.output = self.output, b""
        return data

    def next_timeout(self) -> float | None:
        return self.deadline

    def resume(self) -> None:
        self.pending.append("resumed")


CUT = "the simulated link was cut"


def wires(latency: float = 1.0, seed: int | None = None) -> Pair[Wire]:
    draw = None if seed is None else random.Random(seed).randrange
    return Pair(Wire(), Wire(), clock=ManualClock(), latency=latency, draw=draw)


def connections(clock: ManualClock, **settings: Any) -> tuple[HubConnection, HubConnection]:
    config = HubConfig(**settings)
    return (
        HubConnection(Role.CLIENT, [JsonCodec()], config=config, now=clock()),
        HubConnection(Role.SERVER, [JsonCodec()], config=config, now=clock()),
    )


class TestClock:
    def test_it_stands_still_until_it_is_moved(self) -> None:
        clock = ManualClock(5.0)
        assert clock() == 5.0
        clock.advance(0.5)
        assert (clock(), clock.now) == (5.5, 5.5)

    def test_it_does_not_go_backwards(self) -> None:
        clock = ManualClock()
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)
        assert clock() == 0.0


class TestFeed:
    def test_events_come_back(self) -> None:
        assert feed(Wire(), b"abc", now=2.0) == [(2.0, b"abc")]

    def test_data_arrives_in_pieces(self) -> None:
        assert [data for _, data in feed(Wire(), b"abcdef", now=0.0, cuts=(4, 1, 1, 0, 6, 99, -1))] == [
            b"a",
            b"bcd",
            b"ef",
        ]

    def test_nothing_is_one_empty_read(self) -> None:
        assert feed(Wire(), b"", now=0.0, cuts=(1,)) == [(0.0, b"")]

    def test_a_connection_is_a_machine(self) -> None:
        _, server = connections(ManualClock())
        assert feed(server, b'{"protocol":"json","version":1}\x1e', now=0.0, cuts=(10,)) == [
            HandshakeCompleted(protocol="json", version=1)
        ]
        assert take_events(server, now=0.0) == []


class TestLink:
    def test_bytes_are_under_way_for_the_latency(self) -> None:
        pair = wires(latency=0.25)
        pair.client.machine.output = b"ping"
        assert pair.step()
        assert (pair.in_flight, pair.server.in_flight, pair.client.in_flight) == (4, 4, 0)
        assert not pair.step()
        assert pair.drive()
        assert pair.server.take() == [(0.25, b"ping")]
        assert pair.server.events == []
        assert (pair.clock(), pair.in_flight) == (0.25, 0)

    def test_without_chance_bytes_are_read_as_they_arrive(self) -> None:
        pair = wires()
        for data in (b"one", b"two"):
            pair.client.machine.output = data
            pair.step()
        pair.drive()
        assert pair.server.events == [(1.0, b"one"), (1.0, b"two")]

    def test_chance_cuts_and_joins_what_is_read(self) -> None:
        sizes = set()
        for seed in range(20):
            pair = wires(seed=seed)
            for data in (b"one", b"two"):
                pair.client.machine.output = data
                pair.step()
            pair.drive()
            pieces = [data for _, data in pair.server.events]
            assert b"".join(pieces) == b"onetwo"
            sizes.add(tuple(len(piece) for piece in pieces))
        assert len(sizes) > 5
        assert (6,) in sizes

    def test_the_same_chance_gives_the_same_run(self) -> None:
        first, second = wires(seed=7), wires(seed=7)
        for pair in (first, second):
            pair.client.machine.output = bytes(1000)
            pair.drive()
        assert first.server.events == second.server.events

    def test_who_does_not_want_to_read_is_not_made_to(self) -> None:
        pair = wires()
        pair.server.machine.want_read = False
        pair.client.machine.output = b"later"
        pair.drive(5)
        assert (pair.server.events, pair.in_flight) == ([], 5)
        pair.server.machine.want_read = True
        pair.drive()
        assert pair.server.events == [(5.0, b"later")]

    def test_hanging_up_comes_behind_what_is_under_way(self) -> None:
        pair = wires()
        pair.client.machine.output = b"bye"
        pair.hang_up(pair.client)
        pair.drive()
        assert pair.server.events == [(1.0, b"bye"), (1.0, None)]
        pair.hang_up(pair.server)
        pair.drive()
        assert pair.client.events == [(2.0, None)]

    def test_hanging_up_comes_behind_what_is_joined(self) -> None:
        pair = wires(seed=1)
        pair.client.machine.output = b"bye"
        pair.hang_up(pair.client)
        pair.drive()
        assert b"".join(data for _, data in pair.server.events[:-1]) == b"bye"
        assert pair.server.events[-1] == (1.0, None)

    def test_hanging_up_a_broken_link_is_not_heard(self) -> None:
        pair = wires()
        pair.cut()
        pair.hang_up(pair.client)
        pair.resume()
        pair.drive()
        assert pair.server.events == [(0.0, CUT), "resumed"]


class TestTime:
    def test_each_deadline_is_met_at_its_time(self) -> None:
        pair = wires()
        pair.client.machine.deadline, pair.server.machine.deadline = 3.0, 2.5
        assert pair.drive(2.75)
        assert (pair.client.events, pair.server.events) == ([], [(2.5, "timeout")])
        assert pair.clock() == 2.75
        assert pair.drive(10)
        assert pair.client.events == [(3.0, "timeout")]
        assert pair.clock() == 12.75

    def test_without_a_time_only_what_is_under_way_is_waited_for(self) -> None:
        pair = wires()
        pair.client.machine.deadline = 3.0
        assert pair.drive()
        assert pair.clock() == 0.0

    def test_a_deadline_before_an_arrival_is_met(self) -> None:
        pair = wires()
        pair.server.machine.deadline = 0.5
        pair.client.machine.output = b"x"
        pair.drive()
        assert pair.server.events == [(0.5, "timeout"), (1.0, b"x")]

    def test_a_condition_ends_it(self) -> None:
        pair = wires()
        pair.client.machine.deadline = 3.0
        assert pair.drive(100, until=lambda: bool(pair.client.events))
        assert pair.clock() == 3.0
        assert not pair.drive(100, until=lambda: bool(pair.server.events))
        assert pair.clock() == 103.0
        assert not pair.drive(until=lambda: bool(pair.server.events))

    def test_a_deadline_that_stays_is_an_error(self) -> None:
        pair = wires()
        pair.client.machine.deadline = 1.0
        pair.client.machine.stuck = True
        with pytest.raises(RuntimeError, match="a deadline stays at 1 s"):
            pair.drive(2)


class TestCut:
    def test_without_chance_all_that_is_under_way_is_lost(self) -> None:
        pair = wires()
        pair.client.machine.output = b"lost"
        pair.step()
        pair.cut()
        assert (pair.connected, pair.in_flight) == (False, 0)
        assert pair.client.events == pair.server.events == [(0.0, CUT)]

    def test_with_chance_some_of_it_arrives(self) -> None:
        arrived = set()
        for seed in range(60):
            pair = wires(seed=seed)
            pair.client.machine.output = b"abc"
            pair.cut()
            *before, end = pair.server.take()
            assert end == (0.0, CUT)
            arrived.add(b"".join(data for _, data in before))
        assert arrived == {b"", b"a", b"ab", b"abc"}

    def test_what_is_written_afterwards_is_lost(self) -> None:
        pair = wires()
        pair.cut()
        pair.client.machine.output = b"lost"
        pair.drive()
        assert pair.server.events == [(0.0, CUT)]

    def test_who_does_not_want_to_read_gets_nothing_more(self) -> None:
        for seed in range(10):
            pair = wires(seed=seed)
            pair.server.machine.want_read = False
            pair.client.machine.output = b"abc"
            pair.cut()
            assert pair.server.events == [(0.0, CUT)]

    def test_one_end_may_notice_later(self) -> None:
        pair = wires()
        pair.cut(server=False)
        assert (pair.client.events, pair.server.events) == ([(0.0, CUT)], [])
        pair.drive(3)
        pair.cut(client=False)
        assert pair.server.events == [(3.0, CUT)]

    def test_a_new_link_takes_the_place_of_the_old(self) -> None:
        pair = wires()
        pair.cut()
        pair.resume()
        pair.client.machine.output = b"again"
        pair.drive()
        assert pair.client.events == [(0.0, CUT), "resumed"]
        assert pair.server.events == [(0.0, CUT), "resumed", (1.0, b"again")]

    def test_a_new_link_may_come_while_the_old_one_lives(self) -> None:
        pair = wires()
        pair.client.machine.output = b"lost"
        pair.step()
        pair.resume()
        pair.server.machine.output = b"new"
        pair.drive()
        assert pair.server.events == ["resumed"]
        assert pair.client.events == ["resumed", (1.0, b"new")]

    def test_not_every_machine_outlives_its_link(self) -> None:
        pair: Pair[Machine] = Pair(_Plain(Wire()), _Plain(Wire()), clock=ManualClock())
        with pytest.raises(TypeError, match="a _Plain cannot be resumed"):
            pair.resume()


class TestConnections:
    def test_a_call_there_and_back(self) -> None:
        clock = ManualClock()
        client, server = connections(clock)
        pair = Pair(client, server, clock=clock, latency=0.05, draw=random.Random(1).randrange)
        pair.drive()
        client.invoke("Add", [1, 2])
        pair.drive()
        opened = HandshakeCompleted(protocol="json", version=1)
        assert pair.client.events == [opened]
        assert pair.server.events == [opened, Invocation(invocation_id="1", target="Add", arguments=(1, 2))]

    def test_keep_alive_holds_a_quiet_pair_together(self) -> None:
        clock = ManualClock()
        pair = Pair(*connections(clock), clock=clock, latency=1.0)
        pair.drive(600)
        assert client_and_server_are_open(pair)
        pair.cut(client=False, server=False)
        pair.drive(60)
        assert not client_and_server_are_open(pair)
        for end in (pair.client, pair.server):
            assert isinstance(end.events[-1], ConnectionClosed)
            assert isinstance(end.events[-1].error, TransportError)


def client_and_server_are_open(pair: Pair[HubConnection]) -> bool:
    return pair.client.machine.is_open and pair.server.machine.is_open


class _Plain:
    """The seven verbs of a machine, and no more."""

    def __init__(self, machine: Wire) -> None:
        self.want_read = machine.want_read
        self.receive_data = machine.receive_data
        self.receive_eof = machine.receive_eof
        self.handle_timeout = machine.handle_timeout
        self.next_event = machine.next_event
        self.data_to_send = machine.data_to_send
        self.next_timeout = machine.next_timeout


class TestTranscript:
    def record(self) -> tuple[Transcript, list[Any]]:
        """A server's end of a short conversation, in which the link dies after 20 s."""
        clock = ManualClock(100.0)
        client, server = connections(clock)
        recorder = Recorder(server, now=clock())
        pair: Pair[Machine] = Pair(client, recorder, clock=clock, latency=0.5)
        pair.drive()
        client.invoke("Add", ["2\u2028"])
        pair.drive()
        server.complete("1", "3\x85")
        pair.drive(20)
        pair.cut()
        return recorder.transcript, pair.server.events

    def answer(self, server: HubConnection, event: Any) -> None:
        if isinstance(event, Invocation):
            server.complete("1", "3\x85")

    def test_a_recording_replays_into_a_fresh_machine(self) -> None:
        transcript, events = self.record()
        _, server = connections(ManualClock(7.0))
        replay = Transcript.loads(transcript.dumps()).replay(
            server, start=7.0, react=lambda event: self.answer(server, event)
        )
        assert replay.differences == []
        assert replay.events[:-1] == events[:-1]
        assert str(replay.events[-1].error) == CUT

    def test_what_differs_is_told(self) -> None:
        transcript, _ = self.record()
        _, server = connections(ManualClock())
        replay = transcript.replay(server)
        answer = b'{"type":3,"invocationId":"1","result":"3\\u0085"}\x1e'
        (index,) = (i for i, entry in enumerate(transcript.entries) if entry.data == answer)
        assert replay.differences == [Difference(index=index, expected=answer, sent=b"")]

    def test_what_is_sent_at_the_end_is_a_difference_too(self) -> None:
        wire = Wire()
        transcript = Transcript([Entry(time=0.0, kind="in", data=b"x")])
        wire.output = b"more"
        assert transcript.replay(wire).differences == [Difference(index=1, expected=b"", sent=b"more")]

    def test_the_text_form(self) -> None:
        recorder = Recorder(Wire(), now=1.0)
        recorder.machine.output = b"\xff\x00"
        recorder.resume()
        recorder.receive_data(b"a\x1eb", now=1.0)
        recorder.receive_data(b"", now=1.25)
        assert recorder.data_to_send(now=2.0) == b"\xff\x00"
        assert recorder.data_to_send(now=2.5) == b""
        recorder.handle_timeout(now=3.0)
        recorder.resume()
        recorder.receive_eof(TransportError("gone"), now=4.0)
        recorder.receive_eof(now=5.0)
        text = recorder.transcript.dumps()
        assert text.splitlines() == [
            '{"time":0.0,"kind":"resume"}',
            '{"time":0.0,"kind":"in","text":"a\\u001eb"}',
            '{"time":0.25,"kind":"in"}',
            '{"time":1.0,"kind":"out","hex":"ff00"}',
            '{"time":2.0,"kind":"timeout"}',
            '{"time":2.0,"kind":"resume"}',
            '{"time":3.0,"kind":"eof","error":"gone"}',
            '{"time":4.0,"kind":"eof"}',
        ]
        again = Transcript.loads(text)
        assert again.entries == recorder.transcript.entries
        assert again.dumps() == text

    def test_a_replay_repeats_every_kind(self) -> None:
        text = (
            '{"time":1,"kind":"in","text":"a"}\n{"time":2,"kind":"timeout"}\n{"time":3,"kind":"resume"}\n'
            '{"time":4,"kind":"eof","error":"gone"}\n{"time":5,"kind":"eof"}\n'
        )
        replay = Transcript.loads(text).replay(Wire(), start=10.0)
        assert replay.events == [(11.0, b"a"), (12.0, "timeout"), "resumed", (14.0, "gone"), (15.0, None)]
        assert replay.differences == []

    @pytest.mark.parametrize("text", ["no", '{"time":0}', '{"time":0,"kind":"in","hex":"0"}'])
    def test_what_is_no_transcript(self, text: str) -> None:
        with pytest.raises(msgspec.DecodeError):
            Transcript.loads(text)

    def test_a_recorder_is_a_machine(self) -> None:
        wire = Wire()
        recorder = Recorder(wire)
        wire.deadline = 3.0
        assert recorder.want_read
        assert recorder.next_timeout() == 3.0
        assert isinstance(recorder, ResumableMachine)
        assert feed(recorder, b"x", now=0.0) == [(0.0, b"x")]
