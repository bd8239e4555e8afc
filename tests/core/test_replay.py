"""What stateful reconnect counts and keeps."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import HubMessage, RemoteProtocolError, SequenceMessage
from hubproto_core._replay import Replay

SKIP = b"-"


def encode(message: HubMessage) -> bytes:
    return b"=%d" % message.sequence_id if isinstance(message, SequenceMessage) else SKIP


def new(limit: int) -> Replay:
    return Replay(limit, encode, any_stream_may_end=False, ack_interval=1.0, now=0.0)


def taken(replay: Replay) -> list[bytes]:
    """All that may be written now; it leaves at once."""
    skipped = replay.stand_ins()
    frames = [SKIP] * (len(skipped) // len(SKIP))
    while (frame := replay.take()) is not None:
        frames.append(frame)
    replay.all_left()
    return frames


def test_messages_are_written_in_order_until_the_limit_is_reached() -> None:
    replay = new(5)
    for frame in (b"aaa", b"bbb", b"ccc", b"d"):
        replay.add(frame)
    assert replay.waiting_size == 10
    assert taken(replay) == [b"aaa", b"bbb"]  # the one that crosses the limit is still written
    assert replay.waiting_size == 4
    replay.acknowledge(1)
    assert taken(replay) == [b"ccc"]
    replay.acknowledge(2)
    assert taken(replay) == [b"d"]
    assert replay.waiting_size == 0


def test_a_message_that_fills_the_limit_exactly_does_not_pass_it() -> None:
    replay = new(3)
    for frame in (b"aaa", b"b", b"c"):
        replay.add(frame)
    assert taken(replay) == [b"aaa", b"b"]
    assert replay.take(over_limit=True) == b"c"
    assert replay.take(over_limit=True) is None


def test_a_new_transport_gets_all_that_is_not_acknowledged() -> None:
    replay = new(100)
    for frame in (b"1", b"2", b"3"):
        replay.add(frame)
    assert taken(replay) == [b"1", b"2", b"3"]
    replay.acknowledge(1)
    replay.rewind()
    assert replay.waiting_size == 2
    replay.add(b"4")
    assert replay.resume() == 2
    assert taken(replay) == [b"2", b"3", b"4"]
    replay.acknowledge(4)
    assert replay.resume() == 5
    assert taken(replay) == []


def test_a_sequence_is_one_that_the_peer_takes_even_if_it_was_cut_off_while_it_heard_things_again() -> None:
    replay = new(100)
    for frame in (b"1", b"2", b"3"):
        replay.add(frame)
    taken(replay)
    assert replay.resume() == 1
    assert taken(replay) == [b"1", b"2", b"3"]
    replay.acknowledge(2)  # from before the cut; how far it has got again does not show
    replay.add(b"4")
    assert taken(replay) == [b"4"]
    assert replay.resume() == 1
    assert taken(replay) == [SKIP, SKIP, b"3", b"4"]
    replay.add(b"5")
    taken(replay)
    replay.acknowledge(5)  # which it cannot have had before
    assert replay.resume() == 6
    assert taken(replay) == []


def test_stand_ins_are_not_more_than_the_limit() -> None:
    replay = new(3)
    for _ in range(4):
        replay.add(b"")
    taken(replay)
    assert replay.resume() == 1
    replay.acknowledge(3)
    assert replay.resume() == 1
    assert taken(replay) == [SKIP, SKIP, SKIP, b""]
    replay.acknowledge(4)
    assert replay.resume() == 5
    assert taken(replay) == []


def test_the_first_new_message_of_a_transport_may_pass_the_limit() -> None:
    """An Ack that was lost comes again only if something new arrives."""
    replay = new(10)
    for frame in (b"a" * 11, b"b", b"c", b"d"):
        replay.add(frame)
    assert taken(replay) == [b"a" * 11]
    replay.resume()
    assert taken(replay) == [b"a" * 11, b"b"]
    replay.resume()
    assert taken(replay) == [b"a" * 11, b"b", b"c"]
    replay.acknowledge(1)
    assert taken(replay) == [b"d"]


def over_the_limit(*more: bytes) -> Replay:
    """The limit is 10 bytes, and 11 have left; more have gone past it, each on a transport of its own."""
    replay = new(10)
    replay.add(b"a" * 11)
    assert len(taken(replay)) == 1
    for number, frame in enumerate(more, 2):
        replay.add(frame)
        replay.resume()
        assert len(taken(replay)) == number
    return replay


def test_no_more_than_a_tenth_of_the_limit_passes_it_however_many_transports_there_are() -> None:
    replay = over_the_limit(b"b", b"c")
    replay.add(b"d")
    for _ in range(3):
        replay.resume()
        assert taken(replay) == [b"a" * 11, b"b", b"c"]
    replay.acknowledge(3)
    assert taken(replay) == [b"d"]


def test_one_message_may_pass_the_limit_however_large_it_is() -> None:
    replay = over_the_limit(b"b" * 100)
    replay.add(b"c")
    replay.resume()
    assert len(taken(replay)) == 2


def test_what_was_let_past_the_limit_counts_until_the_limit_holds_again() -> None:
    replay = over_the_limit(b"b", b"c" * 20)
    replay.acknowledge(2)
    replay.add(b"d")
    replay.resume()
    assert taken(replay) == [SKIP, SKIP, b"c" * 20]
    replay.acknowledge(3)
    replay.add(b"e" * 11)
    assert taken(replay) == [b"d", b"e" * 11]
    replay.add(b"f")
    assert taken(replay) == []
    replay.resume()
    assert taken(replay) == [SKIP, SKIP, SKIP, b"d", b"e" * 11, b"f"]


def test_an_item_that_the_peer_may_not_count_is_followed_by_what_it_counts_then() -> None:
    replay = Replay(100, encode, any_stream_may_end=True, ack_interval=1.0, now=0.0)
    replay.add(b"a", item_of="1")
    replay.add(b"b")
    assert taken(replay) == [b"a=1-", b"b"]
    replay.add(b"c", item_of="1")
    assert replay.resume() == 1
    assert taken(replay) == [b"a=1-", b"b", b"c=3-"]
    assert replay.resume() == 1
    assert taken(replay) == [b"a=1-", b"b", b"c=3-"]


def test_of_an_item_that_is_acknowledged_the_peer_may_have_had_no_more_than_its_sequence() -> None:
    replay = Replay(100, encode, any_stream_may_end=True, ack_interval=1.0, now=0.0)
    replay.add(b"a", item_of="1")
    replay.add(b"b")
    taken(replay)
    replay.acknowledge(1)
    assert replay.resume() == 1
    assert taken(replay) == [SKIP, b"b"]
    replay.add(b"c")
    taken(replay)
    replay.acknowledge(3)
    assert replay.resume() == 4


def test_a_peer_that_forgets_a_stream_with_its_end_counts_the_items_before() -> None:
    replay = new(100)
    for stream in ("1", "2"):
        replay.add(b"a", item_of=stream)
    taken(replay)
    replay.add(b"b", end_of="1")
    replay.resume()
    assert taken(replay) == [b"a", b"a", b"b"]
    replay.add(b"c", end_of="2")
    replay.resume()
    assert taken(replay) == [b"a=1-", b"a", b"b", b"c"]
    replay.acknowledge(1)
    replay.resume()
    assert taken(replay) == [SKIP, b"a=2-", b"b", b"c"]


def test_an_ack_of_the_old_transport_counts_after_it_is_gone() -> None:
    replay = new(100)
    for frame in (b"1", b"22", b"3"):
        replay.add(frame)
    taken(replay)
    replay.rewind()
    replay.acknowledge(2)
    assert replay.waiting_size == 1
    assert replay.resume() == 3
    assert taken(replay) == [b"3"]


def test_only_what_has_left_can_be_acknowledged() -> None:
    replay = new(100)
    replay.add(b"1")
    with pytest.raises(RemoteProtocolError, match="^Ack ID greater than amount of messages we've sent.$"):
        replay.acknowledge(1)
    assert replay.take() == b"1"
    with pytest.raises(RemoteProtocolError):
        replay.acknowledge(1)
    replay.all_left()
    replay.rewind()
    replay.all_left()  # nothing of the new transport has left, but what left before has
    for sequence_id in (1, 1, 0, -5):
        replay.acknowledge(sequence_id)
    assert replay.resume() == 2
    with pytest.raises(RemoteProtocolError):
        replay.acknowledge(2)


def test_what_arrives_is_counted_and_known_again() -> None:
    replay = new(100)
    assert [replay.receive(), replay.receive(), replay.receive()] == [True, True, True]
    assert replay.acknowledgement(now=0.0) == 3
    replay.receive_sequence(2, now=0.0)
    assert [replay.receive(), replay.receive(), replay.receive()] == [False, False, True]
    assert replay.acknowledgement(now=0.0) == 4


def test_an_ack_is_due_when_something_has_arrived_since_the_last_one() -> None:
    replay = new(100)
    due = [replay.ack_due]
    replay.receive()
    due.append(replay.ack_due)
    replay.acknowledgement(now=0.0)
    due.append(replay.ack_due)
    replay.receive_sequence(2, now=0.0)
    due.append(replay.ack_due)
    assert due == [False, True, False, False]


def test_a_transport_may_be_cut_before_what_was_sent_again_has_come() -> None:
    replay = new(100)
    replay.receive()
    replay.receive()
    replay.receive_sequence(1, now=0.0)
    replay.receive_sequence(3, now=0.0)  # it was acknowledged meanwhile
    assert replay.receive()
    assert replay.acknowledgement(now=0.0) == 3


def test_a_repeated_message_is_acknowledged_again() -> None:
    replay = new(100)
    replay.receive()
    replay.acknowledgement(now=0.0)
    replay.receive_sequence(1, now=0.0)
    assert not replay.receive()
    assert replay.ack_due
    assert replay.acknowledgement(now=0.0) == 1


@pytest.mark.parametrize(
    ("sequence_id", "text"),
    [
        (3, "Sequence ID greater than amount of messages we've received."),
        (0, "Sequence ID less than that of the first message."),
        (-1, "Sequence ID less than that of the first message."),
    ],
)
def test_a_sequence_id_that_cannot_be_is_refused(sequence_id: int, text: str) -> None:
    replay = new(100)
    replay.receive()
    with pytest.raises(RemoteProtocolError) as refused:
        replay.receive_sequence(sequence_id, now=0.0)
    assert str(refused.value) == text
    replay.receive_sequence(2, now=0.0)
    assert replay.receive()


def test_the_last_ack_may_have_been_lost_with_the_transport() -> None:
    replay = new(100)
    replay.receive()
    replay.acknowledgement(now=0.0)
    replay.resume()
    assert replay.ack_due
    assert replay.acknowledgement(now=0.0) == 1


def test_while_the_peer_sends_again_an_ack_ends_ten_messages_below_what_has_come_over_this_transport() -> None:
    replay = new(100)
    for _ in range(30):
        replay.receive()
    replay.resume()
    replay.receive_sequence(5, now=2.0)
    assert replay.next_ack(now=2.0) == 2.1
    for _ in range(6):
        replay.receive()
    assert replay.acknowledgement(now=2.1) is None
    for _ in range(12):
        replay.receive()
    assert replay.acknowledgement(now=2.2) == 12
    assert replay.ack_due
    assert replay.next_ack(now=2.2) == 3.0
    assert replay.acknowledgement(now=3.0) == 30
    assert not replay.resending
    assert replay.next_ack(now=3.25) == 4.0


def test_an_ack_of_the_peer_proves_that_it_has_sent_all_again() -> None:
    replay = new(100)
    replay.receive()
    replay.resume()
    replay.acknowledge(0)  # not before its Sequence
    replay.receive_sequence(1, now=2.0)
    assert replay.acknowledgement(now=2.1) is None
    replay.acknowledge(0)
    assert replay.acknowledgement(now=2.1) == 1
    assert not replay.resending


def test_where_nothing_has_arrived_nothing_is_acknowledged_after_a_resumption() -> None:
    replay = new(100)
    replay.resume()
    assert not replay.ack_due


steps = st.lists(st.sampled_from(["add", "carry", "ack", "cut", "cut with loss"]), max_size=60)


@given(steps, st.integers(1, 30))
def test_everything_arrives_once_and_in_order(steps: list[str], limit: int) -> None:
    ours, theirs = new(limit), new(limit)
    numbers = count()
    on_its_way: list[bytes] = []
    arrived: list[bytes] = []

    def carry() -> None:
        arrived.extend(frame for frame in on_its_way if theirs.receive())
        on_its_way.clear()

    for step in [*steps, "cut", "carry", *["ack", "carry"] * len(steps)]:
        if step == "add":
            ours.add(b"%d" % next(numbers))
        elif step == "carry":
            carry()
        elif step == "ack":
            ours.acknowledge(theirs.acknowledgement(now=1.0) or 0)
        else:
            if step == "cut":
                carry()
            on_its_way.clear()
            theirs.receive_sequence(ours.resume(), now=0.0)
        on_its_way += taken(ours)
    assert arrived == [b"%d" % number for number in range(next(numbers))]
    assert ours.waiting_size == 0
