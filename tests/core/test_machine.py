"""Two connections that do everything at random: each hears what the other says, once and in order, come what may.

`HUBPROTO_FUZZ_MINUTES` lets each state machine run that long; without it this is a short check.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET

from hubproto_core import (
    CancelInvocation,
    Codec,
    Completion,
    ConnectionClosed,
    HandshakeCompleted,
    HubConfig,
    HubConnection,
    Invocation,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    Role,
    StreamInvocation,
    StreamItem,
)
from hubproto_core.testing import End, ManualClock, Pair

MINUTES = float(os.environ.get("HUBPROTO_FUZZ_MINUTES", "0"))
CUTS = 10_000
CODECS: list[Codec] = [JsonCodec(), MessagePackCodec()]
CONFIG = HubConfig(max_message_size=500, replay_buffer=1000)
LATENCY = 0.05

Message = Invocation | StreamInvocation | StreamItem | Completion | CancelInvocation


class Ledger:
    """A client and a server on a link, all that each of them has said, and what the other has yet to hear of it.

    Nothing but chance decides what is said: any open call, stream or upload may be next.
    """

    def __init__(self, codec: Codec, *, stateful: bool, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stateful = stateful
        self.clock = ManualClock()
        client = HubConnection(Role.CLIENT, [codec], config=CONFIG, stateful=stateful, now=0.0)
        server = HubConnection(Role.SERVER, CODECS, config=CONFIG, stateful=stateful, now=0.0)
        self.pair = Pair(client, server, clock=self.clock, latency=LATENCY, draw=self.chance.randrange)
        self.client, self.server = self.pair.client, self.pair.server
        self.unheard: dict[End[HubConnection], deque[Message]] = {self.client: deque(), self.server: deque()}
        self.ends: dict[End[HubConnection], ConnectionClosed] = {}
        self.lossy = False  # a link broke that nobody will replace
        self.hung_up = False  # somebody has ended the transport in order
        self.farewell: End[HubConnection] | None = None  # whom the other has told that it closes the connection
        self.count = 0  # of payloads, so that no two are the same
        self.heard = 0
        self.calls: list[str] = []  # the client's, not answered
        self.client_results: list[str] = []  # the server's calls, not answered
        self.given_up: set[str] = set()  # of both
        self.uploads: list[str] = []  # the client's, not ended
        self.incoming: dict[str, list[str]] = {}  # calls that the server has heard, with their uploads
        self.incoming_streams: list[str] = []  # those of them that ask for a stream
        self.incoming_uploads: set[str] = set()
        self.incoming_client_results: list[str] = []

    # facts

    @property
    def alive(self) -> bool:
        """Neither end has closed the connection or given it up."""
        return self.client.machine.is_open and self.server.machine.is_open

    def ignores(self, end: End[HubConnection], message: Message) -> bool:
        """Whether this end, if it heard the message now, would have no use for it."""
        match message:
            case CancelInvocation():
                return message.invocation_id not in self.incoming
            case StreamItem() | Completion() if end is self.server and not message.invocation_id.startswith("s"):
                return message.invocation_id not in self.incoming_uploads
            case StreamItem() | Completion():
                return message.invocation_id in self.given_up
        return False

    # hearing

    def listen(self) -> None:
        """Take what both ends have heard, and compare it with what was said."""
        for end in (self.client, self.server):
            for event in end.take():
                assert end not in self.ends, f"{event} behind the last event"
                if isinstance(event, HandshakeCompleted):
                    assert event.version == (2 if self.stateful else 1)
                elif isinstance(event, ConnectionClosed):
                    self.ends[end] = event
                else:
                    self.hear(end, event)
            assert len(end.machine._buffer) <= 500, "more is held than one message may have"

    def missing(self) -> list[Message]:
        """What was said and is of use, but has not been heard."""
        self.listen()
        return [message for end in self.unheard for message in self.unheard[end] if not self.ignores(end, message)]

    def hear(self, end: End[HubConnection], event: Any) -> None:
        unheard = self.unheard[end]
        while unheard and self.ignores(end, unheard[0]) and unheard[0] != event:
            unheard.popleft()
        assert unheard, f"{event} was never said"
        message = unheard.popleft()
        assert event == message, f"{event} was heard, and {message} was said"
        self.heard += 1
        match message:
            case Invocation(invocation_id=str(call)) if end is self.client:
                self.incoming_client_results.append(call)
            case Invocation(invocation_id=str(call)) | StreamInvocation(invocation_id=call):
                self.incoming[call] = list(message.stream_ids or ())
                self.incoming_uploads.update(self.incoming[call])
                if isinstance(message, StreamInvocation):
                    self.incoming_streams.append(call)
            case Completion(invocation_id=call) if end is self.client:
                self.calls.remove(call)
            case Completion(invocation_id=call) if call in self.client_results:
                self.client_results.remove(call)
            case Completion(invocation_id=stream):
                self.incoming_uploads.remove(stream)

    # speaking: each of these does nothing where there is nothing that it could be about

    def payload(self) -> Any:
        self.count += 1
        return self.count if self.chance.randrange(4) else f"{self.count}:" + "x" * self.chance.randrange(120)

    def say(self, end: End[HubConnection], message: Message) -> None:
        self.unheard[self.server if end is self.client else self.client].append(message)

    def send(self, end: End[HubConnection]) -> None:
        value = self.payload()
        end.machine.send("Note", [value])
        self.say(end, Invocation(target="Note", arguments=(value,)))

    def invoke(self, end: End[HubConnection]) -> None:
        value = self.payload()
        call = end.machine.invoke("Add", [value])
        (self.calls if end is self.client else self.client_results).append(call)
        self.say(end, Invocation(invocation_id=call, target="Add", arguments=(value,)))

    def stream(self) -> None:
        call = self.client.machine.stream("Count", [])
        self.calls.append(call)
        self.say(self.client, StreamInvocation(invocation_id=call, target="Count", arguments=()))

    def upload(self) -> None:
        stream = self.client.machine.new_stream_id()
        call = self.client.machine.invoke("Collect", [], stream_ids=[stream])
        self.uploads.append(stream)
        self.calls.append(call)
        self.say(self.client, Invocation(invocation_id=call, target="Collect", arguments=(), stream_ids=(stream,)))

    def upload_item(self) -> None:
        if self.uploads:
            stream, value = self.chance.choice(self.uploads), self.payload()
            self.client.machine.send_item(stream, value)
            self.say(self.client, StreamItem(invocation_id=stream, item=value))

    def end_upload(self) -> None:
        if self.uploads:
            stream = self.uploads.pop(self.chance.randrange(len(self.uploads)))
            error = self.chance.choice((None, "broken"))
            self.client.machine.complete(stream, error=error)
            self.say(self.client, Completion(invocation_id=stream, error=error))

    def cancel(self) -> None:
        if self.calls:
            call = self.calls.pop(self.chance.randrange(len(self.calls)))
            self.given_up.add(call)
            self.client.machine.cancel(call)
            self.say(self.client, CancelInvocation(invocation_id=call))

    def stop_waiting(self) -> None:
        if self.client_results:
            call = self.client_results.pop(self.chance.randrange(len(self.client_results)))
            self.given_up.add(call)
            self.server.machine.cancel(call)

    def stream_item(self) -> None:
        if self.incoming_streams:
            call, value = self.chance.choice(self.incoming_streams), self.payload()
            self.server.machine.send_item(call, value)
            self.say(self.server, StreamItem(invocation_id=call, item=value))

    def complete(self) -> None:
        if self.incoming:
            call = self.chance.choice(list(self.incoming))
            result = UNSET if call in self.incoming_streams else self.payload()
            self.server.machine.complete(call, result)
            self.incoming_uploads.difference_update(self.incoming.pop(call))
            if call in self.incoming_streams:
                self.incoming_streams.remove(call)
            self.say(self.server, Completion(invocation_id=call, result=result))

    def answer(self) -> None:
        """Fail a call of the server's; the client has nothing else to say about them that `complete` does not test."""
        if self.incoming_client_results:
            call = self.incoming_client_results.pop(0)
            self.client.machine.complete(call, error="not today")
            self.say(self.client, Completion(invocation_id=call, error="not today"))

    def say_anything(self) -> None:
        """One of all these; where much is open already, nothing that opens more."""
        if len(self.incoming) + len(self.calls) + len(self.uploads) + len(self.client_results) > 100:
            self.chance.choice((self.cancel, self.end_upload, self.complete, self.answer, self.stop_waiting))()
            return
        self.chance.choice(
            (
                self.invoke_either,
                self.send_either,
                self.stream,
                self.upload,
                self.upload_item,
                self.upload_item,
                self.stream_item,
                self.stream_item,
                self.end_upload,
                self.cancel,
                self.complete,
                self.answer,
                self.stop_waiting,
            )
        )()

    def either(self) -> End[HubConnection]:
        return self.chance.choice((self.client, self.server))

    def invoke_either(self) -> None:
        self.invoke(self.either())

    def send_either(self) -> None:
        self.send(self.either())

    # the link, and time

    def drive(self, seconds: float | None = None) -> None:
        self.pair.drive(seconds)
        self.listen()

    def work(self, steps: int) -> None:
        """Let both ends work a little, so that bytes stay under way."""
        for _ in range(steps):
            if not self.pair.step():
                self.clock.advance(LATENCY / 2)
        self.listen()

    def cut(self, client: bool, server: bool) -> None:
        self.lossy = self.lossy or not (self.stateful and self.alive)
        self.pair.cut(client=client, server=server)
        self.listen()

    def resume(self) -> None:
        self.pair.resume()
        self.hung_up = False  # it was the old link that ended
        self.listen()

    def hang_up(self, end: End[HubConnection]) -> None:
        self.pair.hang_up(end)
        self.hung_up = self.pair.connected

    def close(self, end: End[HubConnection]) -> None:
        self.farewell = self.server if end is self.client else self.client
        self.lossy = self.lossy or not self.pair.connected
        end.machine.close()
        self.listen()

    def settle(self) -> None:
        """With a link that works everything said arrives; without one both ends notice in time."""
        if self.alive and not self.pair.connected and self.stateful:
            self.resume()
        if self.alive and self.pair.connected and not self.hung_up:
            # whoever waits at the limit of its replay buffer says the next few messages after each Ack
            self.pair.drive(3600, until=lambda: not self.missing())
            missing = self.missing()
            assert not missing, f"{missing[0]} and {len(missing) - 1} more never arrived"
            return
        self.drive(200)
        assert set(self.ends) == {self.client, self.server}, "one end lives on"
        for end in self.ends:
            assert end.machine.next_timeout() is None
            assert not end.machine.want_read
        if self.farewell is not None and not (self.lossy or self.hung_up):
            left = [message for message in self.unheard[self.farewell] if not self.ignores(self.farewell, message)]
            assert not left, f"{left[0]} was said before the farewell and never arrived"
            assert all(event.error is None for event in self.ends.values())


class ConnectionsMachine(RuleBasedStateMachine):
    """The rules, for connections that outlive their transport."""

    stateful = True
    ledger: Ledger

    @initialize(codec=st.sampled_from(CODECS), seed=st.integers(0, 2**32))
    def connect(self, codec: Codec, seed: int) -> None:
        self.ledger = Ledger(codec, stateful=self.stateful, seed=seed)
        self.ledger.drive()
        assert self.ledger.alive

    def is_alive(self) -> bool:
        return self.ledger.alive

    @precondition(is_alive)
    @rule(client=st.booleans())
    def invoke(self, client: bool) -> None:
        self.ledger.invoke(self.ledger.client if client else self.ledger.server)

    @precondition(is_alive)
    @rule(client=st.booleans())
    def send(self, client: bool) -> None:
        self.ledger.send(self.ledger.client if client else self.ledger.server)

    @precondition(is_alive)
    @rule()
    def stream(self) -> None:
        self.ledger.stream()

    @precondition(is_alive)
    @rule()
    def upload(self) -> None:
        self.ledger.upload()

    @precondition(is_alive)
    @rule(count=st.integers(1, 5))
    def stream_items(self, count: int) -> None:
        for _ in range(count):
            self.ledger.stream_item()

    @precondition(is_alive)
    @rule(count=st.integers(1, 5))
    def upload_items(self, count: int) -> None:
        for _ in range(count):
            self.ledger.upload_item()

    @precondition(is_alive)
    @rule()
    def end_upload(self) -> None:
        self.ledger.end_upload()

    @precondition(is_alive)
    @rule()
    def cancel(self) -> None:
        self.ledger.cancel()

    @precondition(is_alive)
    @rule()
    def stop_waiting(self) -> None:
        self.ledger.stop_waiting()

    @precondition(is_alive)
    @rule()
    def complete(self) -> None:
        self.ledger.complete()

    @precondition(is_alive)
    @rule()
    def answer(self) -> None:
        self.ledger.answer()

    @rule(steps=st.integers(1, 6))
    def work(self, steps: int) -> None:
        self.ledger.work(steps)

    @rule()
    def drive(self) -> None:
        self.ledger.drive()

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 14.0, 16.0, 31.0]))
    def advance(self, seconds: float) -> None:
        self.ledger.drive(seconds)

    @rule(who=st.sampled_from([(True, True), (True, True), (True, False), (False, True), (False, False)]))
    def drop(self, who: tuple[bool, bool]) -> None:
        self.ledger.cut(*who)

    @precondition(lambda self: self.stateful and self.ledger.alive)
    @rule()
    def resume(self) -> None:
        self.ledger.resume()

    @precondition(is_alive)
    @rule(client=st.booleans(), sure=st.integers(0, 3))
    def close(self, client: bool, sure: int) -> None:
        if sure == 3:
            self.ledger.close(self.ledger.client if client else self.ledger.server)

    @precondition(is_alive)
    @rule(client=st.booleans(), sure=st.integers(0, 7))
    def hang_up(self, client: bool, sure: int) -> None:
        if sure == 7:
            self.ledger.hang_up(self.ledger.client if client else self.ledger.server)

    @precondition(lambda self: not self.ledger.alive)
    @rule()
    def command_after_the_end(self) -> None:
        for end in (self.ledger.client, self.ledger.server):
            if not end.machine.is_open:
                with pytest.raises(LocalProtocolError):
                    end.machine.send("Late")

    @invariant()
    def replay_is_bounded(self) -> None:
        if hasattr(self, "ledger") and self.stateful:
            for end in (self.ledger.client, self.ledger.server):
                replay = end.machine._replay
                assert replay is None or replay._unacknowledged_size < CONFIG.replay_buffer + 500

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.settle()


class ShortLivedMachine(ConnectionsMachine):
    """The rules, for connections that end with their transport."""

    stateful = False


@pytest.mark.timeout(60 + 90 * MINUTES)
@pytest.mark.parametrize("machine", [ConnectionsMachine, ShortLivedMachine])
def test_connections(machine: type[ConnectionsMachine], record_property: Callable[[str, Any], None]) -> None:
    if not MINUTES:
        run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
        return
    end = time.monotonic() + 60 * MINUTES
    long = settings(max_examples=500, stateful_step_count=100, deadline=None, derandomize=False, database=None)
    runs = 0
    while time.monotonic() < end:
        run_state_machine_as_test(machine, settings=long)
        runs += 500
    record_property("runs", runs)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_link_that_is_cut_again_and_again_loses_nothing(codec: Codec) -> None:
    """Nothing is delivered twice either: what both ends have heard is what was said, message by message."""
    ledger = Ledger(codec, stateful=True, seed=2026)
    ledger.drive()
    for _ in range(CUTS):
        ledger.drive(ledger.chance.choice((0.0, 0.01, LATENCY, 0.2, 1.0)))
        for _ in range(ledger.chance.randrange(8)):
            ledger.say_anything()
            ledger.work(ledger.chance.randrange(4))
        ledger.cut(client=bool(ledger.chance.randrange(5)), server=bool(ledger.chance.randrange(5)))
        for _ in range(ledger.chance.randrange(3)):
            ledger.say_anything()
        ledger.drive(ledger.chance.choice((0.0, 0.0, 1.0)))
        ledger.resume()
    behind = len(ledger.missing())
    ledger.settle()
    assert not ledger.ends
    assert behind < 500, "the connections did not keep up with what was said"
    assert ledger.heard > CUTS
