"""The table of open calls and streams."""

import pytest

from hubproto_core import LocalProtocolError
from hubproto_core._calls import CallKind, CallTable


def test_a_call_is_open_until_it_is_closed() -> None:
    calls = CallTable()
    calls.open_incoming("1", CallKind.CALL, None)
    calls.require_incoming("1")
    calls.close_incoming("1", CallKind.CALL)
    with pytest.raises(LocalProtocolError, match="the peer has no call '1' open"):
        calls.require_incoming("1")


def test_a_call_without_id_is_never_open() -> None:
    calls = CallTable()
    calls.open_incoming(None, CallKind.CALL, ["u"])
    assert calls.incoming == {}
    assert set(calls.incoming_streams) == {"u"}


def test_only_a_stream_takes_items() -> None:
    calls = CallTable()
    calls.open_incoming("1", CallKind.CALL, None)
    calls.open_incoming("2", CallKind.STREAM, None)
    calls.require_incoming("2", CallKind.STREAM)
    with pytest.raises(LocalProtocolError, match="the peer has no stream '1' open"):
        calls.require_incoming("1", CallKind.STREAM)


def test_an_id_in_use_twice_is_closed_twice() -> None:
    calls = CallTable()
    calls.open_incoming("1", CallKind.STREAM, None)
    calls.open_incoming("1", CallKind.CALL, None)
    calls.close_incoming("1", CallKind.CALL)
    calls.require_incoming("1", CallKind.STREAM)
    calls.close_incoming("1", CallKind.CALL)
    assert calls.incoming == {}


def test_the_uploads_of_a_call_end_with_it() -> None:
    calls = CallTable()
    calls.open_incoming("1", CallKind.CALL, ["a", "b"])
    calls.open_incoming("2", CallKind.CALL, ["b", "c"])
    calls.close_incoming("1", CallKind.CALL)
    assert set(calls.incoming_streams) == {"b", "c"}
    calls.close_incoming("2", CallKind.CALL)
    assert calls.incoming_streams == {}


def test_only_reserved_stream_ids_can_be_announced_and_only_once() -> None:
    calls = CallTable()
    calls.outgoing_streams["1"] = False
    with pytest.raises(LocalProtocolError, match="'2' is no stream id"):
        calls.announce(["1", "2"])
    assert calls.outgoing_streams == {"1": False}
    calls.announce(["1"])
    assert calls.outgoing_streams == {"1": True}
    with pytest.raises(LocalProtocolError, match="'1' is no stream id"):
        calls.announce(["1"])
