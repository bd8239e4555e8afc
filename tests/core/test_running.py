"""What the shells hold in their hands."""

import pytest

from hubproto_core import EndOfStream, HubError, OutgoingCall, RunningCall, Shape, Upload, WouldBlock
from hubproto_core._running import Departure, IncomingStream
from tests.kit.shell import ServerPeer


def outgoing_call() -> OutgoingCall:
    return OutgoingCall(ServerPeer().session, "1", Shape(int))


def stream() -> IncomingStream:
    return IncomingStream(ServerPeer().session, "1", Shape(int))


def test_items_are_taken_in_order_and_then_waited_for() -> None:
    items = stream()
    items.put(1)
    items.put(None)
    assert len(items) == 2
    assert [items.receive_nowait(), items.receive_nowait()] == [1, None]
    for _ in range(2):
        with pytest.raises(WouldBlock):
            items.receive_nowait()
        assert items.waiting
    items.put(3)
    assert not items.waiting


def test_the_end_comes_after_the_items_and_stays() -> None:
    items = stream()
    items.put(1)
    items.end()
    assert items.receive_nowait() == 1
    for _ in range(2):
        with pytest.raises(EndOfStream):
            items.receive_nowait()


def test_the_first_end_counts() -> None:
    items = stream()
    items.end(HubError("first"))
    items.end(HubError("second"))
    items.end()
    with pytest.raises(HubError, match="first"):
        items.receive_nowait()


def test_what_nobody_reads_is_dropped() -> None:
    items = stream()
    items.put(1)
    items.discard()
    assert len(items) == 0
    with pytest.raises(EndOfStream):
        items.receive_nowait()


def test_a_call_has_no_outcome_before_its_answer() -> None:
    call = outgoing_call()
    with pytest.raises(WouldBlock):
        call.outcome()
    call.succeed(5)
    assert call.done
    assert call.outcome() == call.outcome() == 5


def test_a_call_may_fail() -> None:
    call = outgoing_call()
    call.fail(HubError("no"))
    assert call.done
    with pytest.raises(HubError, match="no"):
        call.outcome()


def test_an_upload_marks_its_source() -> None:
    source = [1, 2]
    assert Upload(source).source is source


def test_a_call_begins_with_nothing_done() -> None:
    session = ServerPeer().session
    call = RunningCall(session, print, (1,), invocation_id="7", label="Print", inline=True)
    assert (call.session, call.function, call.arguments) == (session, print, (1,))
    assert (call.invocation_id, call.label, call.origin, call.incoming) == ("7", "Print", None, ())
    assert (call.inline, call.streams) == (True, False)
    assert not any((call.done, call.cancelled, call.iterating, call.holds_slot))


def test_the_end_of_a_connection_can_be_waited_for() -> None:
    peer = ServerPeer()
    before = Departure(peer.session)
    told = [before.done]
    before.abandon()  # others may wait on
    peer.session.close()
    before.outcome()
    assert [*told, before.done] == [False, True]
