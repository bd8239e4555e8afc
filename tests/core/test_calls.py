"""The table of open calls."""

import pytest

from hubproto_core import LocalProtocolError
from hubproto_core._calls import CallTable
from hubproto_core._states import IdState, Step

CALL, STREAM = IdState.CALL, IdState.STREAM


def test_a_call_is_open_until_it_is_closed() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, None)
    calls.require_incoming("1")
    assert calls.open_incoming_calls == 1
    calls.close_incoming("1", CALL)
    assert calls.open_incoming_calls == 0
    with pytest.raises(LocalProtocolError, match="the peer has no call '1' open"):
        calls.require_incoming("1")


def test_a_call_without_id_is_never_open() -> None:
    calls = CallTable()
    calls.open_incoming(None, CALL, ["u"])
    assert calls.incoming == {}
    assert calls.open_incoming_calls == 0
    assert set(calls.incoming_streams) == {"u"}


def test_only_a_stream_takes_items() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, None)
    calls.open_incoming("2", STREAM, None)
    calls.require_incoming_stream("2")
    for id_ in ("1", "3"):
        with pytest.raises(LocalProtocolError, match=f"the peer has no stream '{id_}' open"):
            calls.require_incoming_stream(id_)


def test_an_id_in_use_twice_is_closed_twice() -> None:
    calls = CallTable()
    calls.open_incoming("1", STREAM, None)
    calls.open_incoming("1", CALL, None)
    assert calls.open_incoming_calls == 2
    calls.close_incoming("1", CALL)
    assert calls.open_incoming_calls == 1
    calls.require_incoming_stream("1")
    calls.close_incoming("1", CALL)
    assert calls.incoming == {}
    assert calls.open_incoming_calls == 0


def test_the_uploads_of_a_call_end_with_it() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, ["a", "b"])
    calls.open_incoming("2", CALL, ["b", "c"])
    calls.close_incoming("1", CALL)
    assert set(calls.incoming_streams) == {"b", "c"}
    calls.close_incoming("2", CALL)
    assert calls.incoming_streams == {}


def test_an_upload_that_has_ended_does_not_come_back_when_its_call_ends() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, ["a", "b"])
    del calls.incoming_streams["a"]
    calls.close_incoming("1", CALL)
    assert calls.incoming_streams == {}


def test_the_uploads_of_all_calls_of_one_id_end_with_the_last_one() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, ["a"])
    calls.open_incoming("1", CALL, ["a", "b"])
    calls.close_incoming("1", CALL)
    assert set(calls.incoming_streams) == {"a", "b"}
    calls.close_incoming("1", CALL)
    assert set(calls.incoming_streams) == set()


def test_a_call_without_uploads_leaves_those_of_others_alone() -> None:
    calls = CallTable()
    calls.open_incoming("1", CALL, ["a"])
    calls.open_incoming("2", CALL, None)
    calls.close_incoming("2", CALL)
    assert set(calls.incoming_streams) == {"a"}


def test_only_reserved_stream_ids_can_be_announced_and_only_once() -> None:
    calls = CallTable()
    calls.outgoing_streams["1"] = IdState.RESERVED
    assert not calls.is_uploading("1")
    with pytest.raises(LocalProtocolError, match="'2' is no stream id"):
        calls.announce(["1", "2"])
    assert not calls.is_uploading("1")
    calls.announce(["1", "1"])
    assert calls.is_uploading("1")
    with pytest.raises(LocalProtocolError, match="'1' is no stream id"):
        calls.announce(["1"])
    calls.complete_upload("1")
    assert not calls.is_uploading("1")


def test_only_a_stream_of_ours_is_given_items_and_only_until_it_is_cancelled() -> None:
    calls = CallTable()
    calls.outgoing.update({"1": CALL, "2": STREAM})
    assert [calls.has_items(id_) for id_ in ("1", "2", "3")] == [False, True, False]
    calls.step("2", Step.CANCEL)
    assert not calls.has_items("2")


def test_a_call_that_is_cancelled_is_known_up_to_its_completion() -> None:
    calls = CallTable()
    calls.outgoing.update({"1": CALL, "2": CALL})
    calls.require_cancellable("1")
    calls.step("1", Step.CANCEL)
    for id_ in ("1", "3"):
        with pytest.raises(LocalProtocolError, match=f"there is no call '{id_}' to cancel"):
            calls.require_cancellable(id_)
    assert [calls.complete_outgoing(id_) for id_ in ("1", "2", "3")] == [False, True, False]
    assert calls.outgoing == {}
