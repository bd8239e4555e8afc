"""What holds for every life of a session, whatever happens in it and in whichever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hubproto_core import (
    EndOfStream,
    Handlers,
    Hub,
    HubConfig,
    HubError,
    IncomingStream,
    OutgoingCall,
    TransportError,
    Upload,
    WouldBlock,
)
from tests.kit.shell import WAITS, HubPeer, Peer, ServerPeer


def make_hub() -> Hub:
    hub = Hub(HubConfig(stream_buffer=2, send_buffer=200, max_parallel_calls=2))
    hub.on_disconnected(lambda: None)

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Slow")
    def slow() -> object:
        return WAITS

    @hub.method("Count")
    async def count() -> AsyncIterator[int]:
        yield 1

    @hub.method("Upload")
    async def upload(items: AsyncIterator[int]) -> None:
        raise NotImplementedError

    @hub.method("Both")
    async def both(items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    return hub


HUB = make_hub()

ids = st.sampled_from(["1", "2", "3"])
stream_ids = st.sampled_from(["8", "9"])
said_by_clients = st.one_of(
    st.builds(
        lambda key, target, arguments: {"type": 1, "invocationId": key, "target": target, "arguments": arguments},
        ids,
        st.sampled_from(["Add", "Slow", "Count", "Nowhere"]),
        st.sampled_from([[], [1, 2]]),
    ),
    st.builds(lambda key: {"type": 4, "invocationId": key, "target": "Count", "arguments": []}, ids),
    st.builds(
        lambda kind, key, target, stream: {
            "type": kind,
            "invocationId": key,
            "target": target,
            "arguments": [],
            "streamIds": [stream],
        },
        st.sampled_from([1, 4]),
        ids,
        st.sampled_from(["Upload", "Both", "Add"]),
        stream_ids,
    ),
    st.builds(
        lambda key, item: {"type": 2, "invocationId": key, "item": item},
        stream_ids,
        st.sampled_from([1, "x"]),
    ),
    st.builds(lambda key: {"type": 3, "invocationId": key}, stream_ids),
    st.builds(lambda key: {"type": 5, "invocationId": key}, ids),
)
said_by_servers = st.one_of(
    st.builds(
        lambda key: {"type": 1, **({"invocationId": key} if key else {}), "target": "news", "arguments": []},
        st.sampled_from(["", "s1", "s2"]),
    ),
    st.builds(lambda key: {"type": 2, "invocationId": key, "item": 1}, ids),
    st.builds(lambda key, end: {"type": 3, "invocationId": key, **end}, ids, st.sampled_from([{}, {"error": "no"}])),
    st.builds(lambda key: {"type": 5, "invocationId": key}, st.sampled_from(["s1", "s2"])),
)
deeds = st.tuples(
    st.sampled_from(["finish", "fail", "cancel", "obey", "read", "yield", "hear", "invoke", "stream", "abandon"]),
    st.integers(0, 5),
)


def read(stream: IncomingStream) -> None:
    with suppress(WouldBlock, EndOfStream, HubError, TransportError):
        stream.receive_nowait()


def do(peer: Peer, deed: str, choice: int, heard: list[Any]) -> None:
    """Let user code do something, if there is any to do it."""
    shell = peer.shell
    shell.run()
    call = shell.running[choice % len(shell.running)] if shell.running else None
    match deed:
        case "finish" if call:
            shell.finish(call)
        case "fail" if call:
            shell.fail(call, HubError("broke"))
        case "cancel" if call:
            shell.cancel(call)
        case "obey":
            shell.cancel_asked()
        case "read" if call:
            for stream in call.incoming:
                read(stream)
        case "yield" if call and call.streams:
            call.session.send_item(call, "x" * 50)
        case "hear":
            heard += peer.hear()
        case _:
            pass


@settings(deadline=None, max_examples=100)
@given(st.lists(said_by_clients | deeds, max_size=30))
def test_every_call_of_a_client_is_answered_once(steps: list[dict[str, Any] | tuple[str, int]]) -> None:
    peer = HubPeer(HUB)
    asked: Counter[str] = Counter()
    heard: list[Any] = []
    for step in steps:
        if isinstance(step, tuple):
            do(peer, *step, heard)
        else:
            peer.say(step)
            if "target" in step:
                asked[step["invocationId"]] += 1
    heard += peer.hear()
    while peer.shell.running:
        peer.shell.finish(peer.shell.running[0])
        heard += peer.hear()
    assert Counter(message["invocationId"] for message in heard if message["type"] == 3) == asked
    assert peer.session.want_read
    peer.say({"type": 7})
    assert peer.hear() == [{"type": 7}]
    assert peer.session.finished


@settings(deadline=None, max_examples=100)
@given(st.lists(said_by_clients | deeds, max_size=30), st.sampled_from(["eof", "broken", "abort", "shutdown"]))
def test_every_life_of_a_client_ends(steps: list[dict[str, Any] | tuple[str, int]], end: str) -> None:
    peer = HubPeer(HUB)
    heard: list[Any] = []
    for step in steps:
        if isinstance(step, tuple):
            do(peer, *step, heard)
        else:
            peer.say(step)
    if end == "eof":
        peer.session.receive_eof(now=0.0)
    elif end == "broken":
        peer.session.receive_eof(TransportError("reset"), now=0.0)
    elif end == "abort":
        peer.session.abort()
    else:
        peer.session.shut_down(now=0.0)
        peer.session.handle_timeout(now=5.0)
    peer.hear(5.0)
    while peer.shell.running:
        peer.shell.cancel(peer.shell.running[0])
        peer.hear(5.0)
    assert peer.session.finished
    assert peer.session.data_to_send(now=5.0) == b""
    assert peer.session.next_timeout() is None


@settings(deadline=None, max_examples=100)
@given(st.lists(said_by_servers | deeds, max_size=30))
def test_everything_that_a_client_waits_for_ends_with_its_connection(
    steps: list[dict[str, Any] | tuple[str, int]],
) -> None:
    handlers = Handlers()
    handlers.add("news", lambda: WAITS)
    peer = ServerPeer(handlers, HubConfig(stream_buffer=2, stream_buffer_limit=4, send_buffer=200))
    calls: list[OutgoingCall] = []
    streams: list[IncomingStream] = []
    heard: list[Any] = []
    for step in steps:
        match step:
            case dict():
                peer.say(step)
            case ("invoke", choice):
                calls.append(peer.session.invoke("Slow", [Upload([1])] * (choice % 2)))
            case ("stream", _):
                streams.append(peer.session.stream("Count"))
            case ("abandon", choice):
                peer.session.abandon(str(choice))
                calls = [call for call in calls if call.invocation_id != str(choice)]
            case ("read", choice) if streams:
                read(streams[choice % len(streams)])
            case (deed, choice):
                do(peer, deed, choice, heard)
    peer.session.receive_eof(TransportError("reset"), now=0.0)
    peer.shell.run()
    assert peer.session.closed is not None
    assert all(call.done for call in calls)
    assert all(stream.ended for stream in streams)
    while peer.shell.running:
        peer.shell.finish(peer.shell.running[0])
    assert peer.session.next_timeout() is None
