"""What is wrong with a call that its client may make."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hubproto_core import Authorization, Hub, Invocation, RunningCall, StreamInvocation
from hubproto_core._call_checks import Check, misuse
from tests.kit.shell import HubPeer

hub = Hub()


@hub.method("Add")
def _add(a: int, b: int = 2) -> int:
    return a + b


@hub.method("Count")
async def _count() -> AsyncIterator[int]:
    yield 1


@hub.method("Collect")
async def _collect(items: AsyncIterator[int]) -> None: ...


def plain(target: str, *stream_ids: str) -> Invocation:
    return Invocation(target=target, arguments=(), invocation_id="1", stream_ids=stream_ids or None)


def stream(target: str, *stream_ids: str) -> StreamInvocation:
    return StreamInvocation(target=target, arguments=(), invocation_id="1", stream_ids=stream_ids or None)


def running(invocation_id: str, *, streams: bool) -> RunningCall:
    return RunningCall(HubPeer(hub).session, print, (), invocation_id=invocation_id, label="Count", streams=streams)


COUNTED = (
    "An unexpected error occurred invoking '{}' on the server. HubException: Client sent {} stream(s), Hub method "
)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (plain("Add"), None),
        (stream("Count"), None),
        (plain("Collect", "7"), None),
        (
            plain("Count"),
            "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation.",
        ),
        (
            stream("Add", "7"),
            "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation.",
        ),
        (plain("Add", "7", "8"), COUNTED.format("Add", 2) + "expects 0."),
        (plain("Collect"), COUNTED.format("Collect", 0) + "expects 1."),
    ],
)
def test_a_method_is_called_as_what_it_is(event: Invocation | StreamInvocation, text: str | None) -> None:
    assert misuse(hub.lookup(event.target), event, ()) == text


def test_no_two_streams_have_the_same_id() -> None:
    count, add = hub.lookup("Count"), hub.lookup("Add")
    others = [running("2", streams=True), running("1", streams=False)]
    assert misuse(count, stream("Count"), others) is None
    same = [*others, running("1", streams=True)]
    assert misuse(count, stream("Count"), same) == "Invocation ID '1' is already in use."
    assert misuse(add, plain("Add"), same) is None


@pytest.mark.parametrize("waits", [False, True])
def test_a_policy_is_asked_like_a_method(waits: bool) -> None:
    def policy(authorization: Authorization) -> bool:
        raise AssertionError(authorization)

    async def slow_policy(authorization: Authorization) -> bool:
        raise AssertionError(authorization)

    asked = slow_policy if waits else policy
    check = Check(hub.lookup("Add"), Invocation(target="ADD", arguments=(1,), invocation_id="1"))
    call = check.asks(asked, HubPeer(hub).session, "ann", "c1")
    assert (call.function, call.origin, call.inline) == (asked, check, not waits)
    assert check.denial == "Failed to invoke 'Add' because user is unauthorized"
    assert (call.invocation_id, call.label) == (None, "Add")
    assert call.arguments == (Authorization("ann", "Add", (1, 2), "c1"),)
