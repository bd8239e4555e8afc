"""Messages are values that do not change."""

import pytest
from msgspec import UNSET

from hubproto_core import Close, Completion, HubMessage, Invocation, Ping, StreamInvocation


def test_messages_are_equal_by_value() -> None:
    assert Invocation(target="Add", arguments=[1, 2]) == Invocation(target="Add", arguments=[1, 2])
    assert Ping() == Ping()
    assert Close(allow_reconnect=True) != Close()


@pytest.mark.parametrize("message", [Ping(), Close(), Completion(invocation_id="1")])
def test_messages_do_not_change(message: HubMessage) -> None:
    with pytest.raises(AttributeError):
        message.headers = {}  # type: ignore[misc, union-attr]


def test_no_result_is_not_a_result_of_none() -> None:
    assert Completion(invocation_id="1").result is UNSET
    assert Completion(invocation_id="1") != Completion(invocation_id="1", result=None)


def test_messages_match_by_pattern() -> None:
    match StreamInvocation(invocation_id="7", target="Counter", arguments=(3, 0)):
        case StreamInvocation(target="Counter", arguments=[int(count), _], invocation_id=str(key)):
            assert (count, key) == (3, "7")
        case _:
            pytest.fail("no match")
