"""`ClientSession`: calls of ours, and handlers for what the server calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import (
    Call,
    ClientSession,
    EndOfStream,
    Handlers,
    HubConfig,
    HubError,
    IncomingStream,
    JsonCodec,
    LocalProtocolError,
    OutgoingCall,
    RunningCall,
    Shape,
    TransportError,
    Upload,
    WouldBlock,
)
from tests.kit.shell import WAITS, ServerPeer, Shell
from tests.kit.wire import HANDSHAKE


@dataclass
class Point:
    x: int
    y: int


def item(value: Any, id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": 2, "invocationId": id, "item": value}


def completion(id: str, **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, **more}


def invoke(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, **more, "target": target, "arguments": list(arguments)}


def taken(stream: IncomingStream) -> list[Any]:
    """All items that are here."""
    items = []
    try:
        while True:
            items.append(stream.receive_nowait())
    except WouldBlock:
        return items


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "shape", "result"),
    [
        ({"result": 3}, Shape(int), 3),
        ({"result": None}, Shape(Any), None),
        ({}, Shape(None), None),
        ({"error": ""}, Shape(int), None),
        ({"result": {"x": 1, "y": 2}}, Shape(Point), Point(1, 2)),
    ],
)
def test_a_call_is_answered(answer: dict[str, Any], shape: Shape, result: Any) -> None:
    server = ServerPeer()
    call = server.session.invoke("Add", [1, 2], shape)
    assert server.hear() == [{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}]
    with pytest.raises(WouldBlock):
        call.outcome()
    server.say(completion("1", **answer))
    assert server.shell.was_woken(call)
    assert call.outcome() == result


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"error": "no such method"}, "no such method"),
        ({"result": "three"}, "Error trying to deserialize result to Int64. "),
    ],
)
def test_a_call_may_fail(answer: dict[str, Any], text: str) -> None:
    server = ServerPeer()
    call = server.session.invoke("Add", [1, 2], Shape(int))
    server.say(completion("1", **answer))
    with pytest.raises(HubError) as told:
        call.outcome()
    assert str(told.value).startswith(text)


def test_what_is_only_sent_has_no_answer() -> None:
    server = ServerPeer()
    server.session.send("Log", ["x"])
    assert server.hear() == [{"type": 1, "target": "Log", "arguments": ["x"]}]


def test_the_carrier_is_woken_for_what_is_sent() -> None:
    server = ServerPeer()
    carrier = server.session.carrier = object()
    server.session.send("Log")
    assert server.shell.was_woken(carrier)
    server.session.send("Log")
    assert not server.shell.was_woken(carrier)
    server.hear()
    server.session.send("Log")
    assert server.shell.was_woken(carrier)


def test_an_argument_that_cannot_be_written_changes_nothing() -> None:
    server = ServerPeer()
    for command in (server.session.send, server.session.invoke, server.session.stream):
        with pytest.raises(LocalProtocolError):
            command("x", [object()])
        with pytest.raises(LocalProtocolError):
            command("x", [object(), Upload([1])])
    assert server.hear() == []
    assert server.shell.running == []


def test_an_abandoned_call_is_cancelled() -> None:
    server = ServerPeer()
    call = server.session.invoke("Slow")
    server.hear()
    server.session.abandon(call.invocation_id)
    server.session.abandon(call.invocation_id)
    assert server.hear() == [{"type": 5, "invocationId": "1"}]
    assert server.ask(completion("1", result=1)) == []
    assert not call.done


def test_an_answered_call_is_not_cancelled() -> None:
    server = ServerPeer()
    call = server.session.invoke("Slow")
    server.hear()
    server.say(completion("1"))
    server.session.abandon(call.invocation_id)
    assert server.hear() == []


# --- streams ---------------------------------------------------------------------------------------------------------


def test_items_come_in_order_and_then_the_end() -> None:
    server = ServerPeer()
    stream = server.session.stream("Points", [2], Shape(Point))
    assert server.hear() == [{"type": 4, "invocationId": "1", "target": "Points", "arguments": [2]}]
    assert taken(stream) == []
    server.say(item({"x": 1, "y": 2}, "1"), item({"x": 3, "y": 4}, "1"))
    assert server.shell.was_woken(stream)
    assert taken(stream) == [Point(1, 2), Point(3, 4)]
    server.say(completion("1"))
    assert server.shell.was_woken(stream)
    with pytest.raises(EndOfStream):
        stream.receive_nowait()


@pytest.mark.parametrize(
    ("answer", "error"), [({"error": "broke"}, "broke"), ({"error": ""}, None), ({"result": 5}, None)]
)
def test_the_server_s_error_comes_after_its_items(answer: dict[str, Any], error: str | None) -> None:
    server = ServerPeer()
    stream = server.session.stream("Count")
    server.say(item(1, "1"), completion("1", **answer))
    assert stream.receive_nowait() == 1
    with pytest.raises(HubError if error else EndOfStream) as told:
        stream.receive_nowait()
    assert str(told.value) == (error or "")


def test_a_reader_that_does_not_wait_is_not_woken() -> None:
    server = ServerPeer()
    stream = server.session.stream("Count")
    server.say(item(1, "1"), item(2, "1"))
    assert not server.shell.was_woken(stream)


def test_an_item_of_a_wrong_type_ends_the_stream() -> None:
    server = ServerPeer()
    stream = server.session.stream("Count", (), Shape(int))
    server.say(item("x", "1"), item(2, "1"), completion("1"))
    with pytest.raises(HubError, match=r"^Failed to bind Stream message\.$"):
        stream.receive_nowait()


def test_an_abandoned_stream_is_cancelled_and_what_still_comes_is_dropped() -> None:
    server = ServerPeer()
    stream = server.session.stream("Count")
    server.hear()
    server.say(item(1, "1"))
    server.session.abandon(stream.stream_id)
    assert server.hear() == [{"type": 5, "invocationId": "1"}]
    assert server.ask(item(2, "1"), item({"bad": "type"}, "1"), completion("1", error="late")) == []
    with pytest.raises(EndOfStream):
        stream.receive_nowait()


def test_reading_stops_while_nobody_reads_a_stream() -> None:
    server = ServerPeer(config=HubConfig(stream_buffer=3))
    stream = server.session.stream("Count")
    server.hear()
    server.say(*(item(n, "1") for n in range(10)))
    assert len(stream) == 4
    assert not server.session.want_read
    assert stream.receive_nowait() == 0
    server.hear()
    assert len(stream) == 4
    server.session.abandon(stream.stream_id)
    server.hear()
    assert server.session.want_read


def test_reading_goes_on_for_others_who_wait() -> None:
    server = ServerPeer(config=HubConfig(stream_buffer=3, stream_buffer_limit=8))
    slow = server.session.stream("Count")
    call = server.session.invoke("Add")
    server.hear()
    server.say(*(item(n, "1") for n in range(7)), completion("2", result=5))
    assert call.outcome() == 5
    assert len(slow) == 7
    server.say(item(7, "1"))
    assert not server.session.want_read


def test_reading_starts_again_for_a_call_that_begins_to_wait() -> None:
    server = ServerPeer(config=HubConfig(stream_buffer=3))
    server.session.stream("Count")
    server.hear()
    server.say(*(item(n, "1") for n in range(7)))
    assert not server.session.want_read
    call = server.session.invoke("Add")
    server.hear()
    server.say(completion("2", result=5))
    assert call.outcome() == 5


def test_reading_goes_on_for_a_reader_of_another_stream_up_to_a_limit() -> None:
    server = ServerPeer(config=HubConfig(stream_buffer=3, stream_buffer_limit=8))
    slow, quick = server.session.stream("Count"), server.session.stream("Count")
    server.hear()
    server.say(*(item(n, "1") for n in range(7)), item("here", "2"))
    assert len(slow) == 4
    assert not server.session.want_read
    assert taken(quick) == []
    server.hear()
    assert len(slow) == 7
    assert server.shell.was_woken(quick)
    assert quick.receive_nowait() == "here"
    assert taken(quick) == []
    server.say(*(item(n, "1") for n in range(7)))
    assert len(slow) == 9
    assert not server.session.want_read
    with pytest.raises(WouldBlock):
        quick.receive_nowait()
    server.hear()
    assert len(slow) == 9


def test_the_end_is_noticed_though_nobody_reads_a_stream() -> None:
    server = ServerPeer(config=HubConfig(stream_buffer=1))
    stream = server.session.stream("Count")
    server.hear()
    server.say(*(item(n, "1") for n in range(7)))
    server.session.close()
    assert server.hear() == [{"type": 7}]
    assert server.session.closed is not None
    assert [stream.receive_nowait(), stream.receive_nowait()] == [0, 1]
    with pytest.raises(TransportError):
        stream.receive_nowait()


def test_a_plain_call_gets_no_items() -> None:
    server = ServerPeer()
    call = server.session.invoke("Add")
    server.say(item(1, "1"), item("x", "1"), item(1, "9"), completion("1", result=3))
    assert call.outcome() == 3


def test_a_call_abandoned_in_the_middle_of_the_end_is_not_cancelled() -> None:
    server = ServerPeer()
    call = server.session.invoke("Slow")
    server.hear()
    server.session.close()
    server.session.abandon(call.invocation_id)
    assert server.hear() == [{"type": 7}]


# --- uploads ---------------------------------------------------------------------------------------------------------


class Later:
    """Something that can be iterated asynchronously."""

    def __aiter__(self) -> Any:
        raise NotImplementedError


def uploading(server: ServerPeer, source: Any = ()) -> tuple[OutgoingCall, RunningCall]:
    call = server.session.invoke("Upload", ["label", Upload(source)])
    assert server.hear() == [
        {"type": 1, "invocationId": "2", "target": "Upload", "arguments": ["label"], "streamIds": ["1"]}
    ]
    return call, server.shell.find("upload")


@pytest.mark.parametrize("source", [[1, 2], (), iter([1]), Later()])
def test_an_upload_is_run_and_ends_with_a_completion(source: Any) -> None:
    server = ServerPeer()
    call, upload = uploading(server, source)
    assert upload.streams
    result = upload.function(*server.session.build_arguments(upload, ()))
    assert server.session.open_stream(upload, result) is source
    server.session.send_item(upload, 1)
    server.shell.finish(upload)
    assert server.hear() == [item(1, "1"), completion("1")]
    server.say(completion("2", result="ok"))
    assert call.outcome() == "ok"


@pytest.mark.parametrize("source", [5, None])
def test_an_upload_needs_something_to_iterate(source: Any) -> None:
    server = ServerPeer()
    _, upload = uploading(server, source)
    with pytest.raises(HubError):
        server.session.open_stream(upload, source)


def test_uploads_go_with_every_kind_of_call() -> None:
    server = ServerPeer()
    server.session.send("A", [Upload([]), 1, Upload([])])
    server.session.stream("B", [Upload([])])
    assert server.hear() == [
        {"type": 1, "target": "A", "arguments": [1], "streamIds": ["1", "2"]},
        {"type": 4, "invocationId": "4", "target": "B", "arguments": [], "streamIds": ["3"]},
    ]
    assert [call.invocation_id for call in server.shell.running] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("error", "text", "logged"),
    [
        (ValueError("broke"), "broke", ["the upload failed: ValueError: broke"]),
        (ValueError(), "ValueError", ["the upload failed: ValueError: "]),
        (HubError("told"), "told", []),
    ],
)
def test_an_upload_that_fails_says_why(
    error: Exception, text: str, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = ServerPeer()
    _, upload = uploading(server)
    server.shell.fail(upload, error)
    assert server.hear() == [completion("1", error=text)]
    assert caplog.messages == logged


def test_uploads_stop_when_their_call_is_answered() -> None:
    server = ServerPeer()
    _, upload = uploading(server)
    server.say(completion("2", result="enough"))
    assert server.shell.asked_to_cancel == [upload]
    server.shell.cancel(upload)
    assert server.hear() == [completion("1", error="Stream canceled by client.")]


def test_uploads_stop_when_their_call_is_abandoned() -> None:
    server = ServerPeer()
    call, upload = uploading(server)
    server.session.abandon(call.invocation_id)
    server.shell.cancel_asked()
    assert server.hear() == [{"type": 5, "invocationId": "2"}, completion("1", error="Stream canceled by client.")]
    assert server.shell.running == []
    assert upload.done


def test_uploads_that_have_ended_are_not_stopped() -> None:
    server = ServerPeer()
    _, upload = uploading(server)
    server.shell.finish(upload)
    server.say(completion("2"))
    assert server.shell.asked_to_cancel == []


def test_uploads_pause_while_the_socket_is_behind() -> None:
    server = ServerPeer(config=HubConfig(send_buffer=100))
    _, upload = uploading(server)
    server.session.carrier = object()
    server.shell.woken.clear()
    for _ in range(5):
        server.session.send_item(upload, "x" * 30)
    assert not server.session.writable
    assert not server.shell.was_woken(server.session)
    assert len(server.session.data_to_send(now=0.0)) > 100
    assert server.shell.was_woken(server.session)
    server.session.data_to_send(now=0.0)
    assert not server.shell.was_woken(server.session)


# --- handlers --------------------------------------------------------------------------------------------------------


def handled(**functions: Callable[..., Any]) -> ServerPeer:
    handlers = Handlers()
    for target, function in functions.items():
        handlers.add(target, function)
    return ServerPeer(handlers)


def test_handlers_are_called_in_any_case() -> None:
    seen: list[Any] = []

    def news(n: int, point: Point) -> None:
        seen.append((n, point))

    server = handled(News=news)
    assert server.ask(invoke("nEWS", 1, {"x": 1, "y": 2})) == []
    assert seen == [(1, Point(1, 2))]


def test_handlers_run_in_the_order_of_their_adding_one_after_another() -> None:
    seen: list[str] = []

    def slow(n: int) -> object:
        seen.append(f"slow {n}")
        return WAITS

    def quick(n: int) -> None:
        seen.append(f"quick {n}")

    handlers = Handlers()
    handlers.add("news", slow)
    handlers.add("NEWS", quick)
    server = ServerPeer(handlers)
    server.say(invoke("news", 1), invoke("news", 2))
    assert seen == ["slow 1"]
    assert server.session.want_read
    server.shell.finish(server.shell.find("news"))
    assert seen == ["slow 1", "quick 1", "slow 2"]
    server.shell.fail(server.shell.find("news"), ValueError("broken"))
    assert seen == ["slow 1", "quick 1", "slow 2", "quick 2"]


def test_a_handler_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def news() -> None:
        raise ValueError("broken")

    assert handled(news=news).ask(invoke("news")) == []
    assert caplog.messages == ["the handler of 'news' failed: ValueError: broken"]


def test_removed_handlers_are_not_called() -> None:
    seen: list[str] = []

    def one() -> None:
        seen.append("one")

    def two() -> None:
        seen.append("two")

    handlers = Handlers()
    handlers.add("news", one)
    handlers.add("news", two)
    handlers.remove("NEWS", one)
    handlers.remove("nothing")
    server = ServerPeer(handlers)
    server.say(invoke("news"))
    assert seen == ["two"]
    handlers.remove("news")
    server.say(invoke("news"))
    assert seen == ["two"]
    assert handlers.find("news") == ()


def with_call(call: Call) -> None: ...
def with_upload(items: AsyncIterator[int]) -> None: ...


async def with_stream() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [with_call, with_upload, with_stream])
def test_handlers_have_plain_parameters_and_results(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="the handler of 'news' can have plain parameters only, and return no stream"):
        Handlers().add("news", function)


def test_listeners_hear_every_call_before_its_handlers(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[tuple[str, object]] = []
    handlers = Handlers()
    handlers.add("Move", lambda point: calls.append(("handler", point)))
    handlers.add_listener(lambda target, arguments: calls.append((target, arguments)))
    server = ServerPeer(handlers)
    server.say(invoke("move", 1), invoke("unknown", 2, [3]), invoke("silent"))
    assert calls == [("move", [1]), ("handler", 1), ("unknown", [2, [3]]), ("silent", [])]
    assert not caplog.messages


def test_listeners_get_what_the_first_handler_declares() -> None:
    calls: list[list[Any]] = []

    def move(point: Point) -> None: ...

    handlers = Handlers()
    handlers.add("move", move)
    handlers.add_listener(lambda target, arguments: calls.append(arguments))
    ServerPeer(handlers).say(invoke("move", {"x": 1, "y": 2}))
    assert calls == [[Point(1, 2)]]


def test_listeners_never_answer() -> None:
    handlers = Handlers()
    handlers.add_listener(lambda target, arguments: "heard")
    server = ServerPeer(handlers)
    assert server.ask(invoke("ask", invocationId="s1")) == [completion("s1", error="Client didn't provide a result.")]
    handlers.add("ask", lambda: "answer")
    assert server.ask(invoke("ask", invocationId="s2")) == [completion("s2", result="answer")]


def test_listeners_take_their_turn() -> None:
    calls: list[str] = []
    handlers = Handlers()
    handlers.add_listener(lambda target, arguments: WAITS)
    handlers.add("news", lambda: calls.append("handler"))
    server = ServerPeer(handlers)
    server.say(invoke("news"))
    assert calls == []
    server.shell.finish(server.shell.find("news"))
    assert calls == ["handler"]


def test_a_listener_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(target: str, arguments: list[Any]) -> None:
        raise ValueError("broken")

    handlers = Handlers()
    handlers.add_listener(broken)
    ServerPeer(handlers).say(invoke("news"))
    assert caplog.messages == ["the handler of 'news' failed: ValueError: broken"]


def test_removed_listeners_hear_nothing() -> None:
    calls: list[str] = []

    def one(target: str, arguments: list[Any]) -> None:
        calls.append("one")

    def two(target: str, arguments: list[Any], more: int = 3) -> None:
        calls.append("two")

    handlers = Handlers()
    handlers.add_listener(one)
    handlers.add_listener(two)
    handlers.remove_listener(one)
    server = ServerPeer(handlers)
    server.say(invoke("news"))
    assert calls == ["two"]
    handlers.remove_listener()
    server.say(invoke("news"))
    assert calls == ["two"]


async def stream_of_two(target: str, arguments: list[Any]) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda target: None, lambda target, arguments, more: None, stream_of_two, lambda *, target=1: None],
    ids=["none", "one", "three", "a stream", "by name only"],
)
def test_listeners_take_a_target_and_its_arguments(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="cannot listen: it must take the target and the list of the arguments"):
        Handlers().add_listener(function)


def test_listeners_may_take_more_than_they_get() -> None:
    calls: list[tuple[object, ...]] = []

    def one(target: str, arguments: list[Any], more: int = 3) -> None:
        calls.append((target, arguments, more))

    handlers = Handlers()
    handlers.add_listener(one)
    handlers.add_listener(lambda *both: calls.append(both))
    ServerPeer(handlers).say(invoke("news", 1))
    assert calls == [("news", [1], 3), ("news", [1])]


def test_calls_that_do_not_fit_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def news(n: int) -> None:
        raise NotImplementedError

    server = handled(news=news)
    assert server.ask(invoke("news", "x"), invoke("nothing", 1)) == []
    bad, unknown = caplog.messages
    assert bad.startswith("the server called 'news' with arguments that do not fit: ")
    assert unknown == "the server called 'nothing', which has no handler"


def test_reading_stops_while_handlers_are_behind() -> None:
    handlers = Handlers()
    handlers.add("news", lambda n: WAITS)
    server = ServerPeer(handlers, HubConfig(stream_buffer=3))
    server.say(*(invoke("news", n) for n in range(10)))
    assert not server.session.want_read
    session = server.session
    for _ in range(10):
        server.shell.finish(server.shell.find("news"))
        server.hear()
    assert server.shell.running == []
    assert session.want_read


def test_reading_goes_on_for_a_handler_that_waits_for_an_answer() -> None:
    handlers = Handlers()
    handlers.add("news", lambda n: WAITS)
    server = ServerPeer(handlers, HubConfig(stream_buffer=3, stream_buffer_limit=8))
    server.say(*(invoke("news", n) for n in range(6)))
    call = server.session.invoke("Add")
    server.hear()
    server.say(invoke("news", 6), completion("1", result=3))
    assert call.outcome() == 3
    server.session.invoke("Add")
    server.hear()
    server.say(*(invoke("news", n) for n in range(10)))
    assert not server.session.want_read


def test_held_back_calls_are_looked_at_again_while_output_is_stuck() -> None:
    """However many handlers one end sets free: those that owe an answer wait for nobody."""
    handlers = Handlers()
    handlers.add("news", lambda n: WAITS)
    server = ServerPeer(handlers, HubConfig(stream_buffer=3))
    owed = [invoke("news", n, invocationId=f"s{n}") for n in (1, 2)]
    server.say(invoke("news", 0), *owed, *(invoke("news", n) for n in range(3, 8)))
    assert not server.session.want_read
    carrier = server.session.carrier = object()
    server.session.send("Log")  # announced, but nobody takes it
    assert server.shell.was_woken(carrier)
    assert not server.shell.was_woken(carrier)
    server.shell.finish(server.shell.find("news"))
    assert server.shell.was_woken(carrier)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "arguments", "answer"),
    [
        ("Ask", [5], {"result": 6}),
        ("Tell", [], {"result": None}),
        ("Refuse", [], {"error": "not now"}),
        ("Break", [], {"error": "ValueError"}),
        ("Unwritable", [], {"error": "Completion cannot be written as JSON: "}),
        ("Ask", ["x"], {"error": "Client failed to parse argument(s)."}),
        ("Nothing", [1], {"error": "Client didn't provide a result."}),
    ],
)
def test_the_server_gets_one_answer(target: str, arguments: list[Any], answer: dict[str, Any]) -> None:
    def ask(n: int) -> int:
        return n + 1

    def tell() -> None:
        pass

    def refuse() -> None:
        raise HubError("not now")

    def broken() -> None:
        raise ValueError

    server = handled(Ask=ask, Tell=tell, Refuse=refuse, Break=broken, Unwritable=lambda: object())
    (sent,) = server.ask(invoke(target, *arguments, invocationId="s1"))
    if "error" in answer:
        assert sent.pop("error").startswith(answer.pop("error"))
    assert sent == completion("s1", **answer)


def test_the_last_handler_answers() -> None:
    handlers = Handlers()
    handlers.add("ask", lambda: "first")
    handlers.add("ask", lambda: "last")
    assert ServerPeer(handlers).ask(invoke("ask", invocationId="s1")) == [completion("s1", result="last")]


def test_a_handler_that_owes_an_answer_holds_nobody_up() -> None:
    server = handled(ask=lambda: WAITS, now=lambda: 2)
    assert server.ask(invoke("ask", invocationId="s1"), invoke("now", invocationId="s2")) == [
        completion("s2", result=2)
    ]
    server.shell.finish(server.shell.find("ask"), 1)
    assert server.hear() == [completion("s1", result=1)]


def test_a_cancelled_handler_answers_with_an_error() -> None:
    server = handled(ask=lambda: WAITS, news=lambda: WAITS)
    server.say(invoke("ask", invocationId="s1"), invoke("news"), {"type": 5, "invocationId": "s1"})
    server.shell.cancel_asked()
    assert server.hear() == [completion("s1", error="The handler was cancelled.")]
    server.shell.cancel(server.shell.find("news"))
    assert server.hear() == []


def test_a_handler_that_waits_for_its_turn_is_not_cancelled() -> None:
    handlers = Handlers()
    handlers.add("ask", lambda: WAITS)
    handlers.add("ask", lambda: "answer")
    server = ServerPeer(handlers)
    server.say(invoke("ask", invocationId="s1"), {"type": 5, "invocationId": "s1"})
    assert server.shell.asked_to_cancel == []
    server.shell.finish(server.shell.find("ask"))
    assert server.hear() == [completion("s1", result="answer")]


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"type": 7}, "Invocation canceled due to the underlying connection being closed."),
        ({"type": 7, "error": "bye"}, "The server closed the connection with the following error: bye"),
    ],
)
def test_everything_that_waits_fails_at_the_end(end: dict[str, Any], error: str) -> None:
    server = handled(news=lambda: WAITS)
    session = server.session
    _, upload = uploading(server)
    call, stream = session.invoke("Slow"), session.stream("Count")
    server.say(invoke("news"), invoke("news"), item(1, stream.stream_id), end)
    assert server.shell.was_woken(call)
    with pytest.raises((HubError, TransportError)) as told:
        call.outcome()
    assert str(told.value) == error
    assert stream.receive_nowait() == 1
    with pytest.raises((HubError, TransportError)) as told:
        stream.receive_nowait()
    assert str(told.value) == error
    assert upload in server.shell.asked_to_cancel
    server.shell.cancel_asked()
    assert server.shell.labels() == ["news"]
    assert not session.is_open
    assert server.hear()[-1]["type"] != 7
    session.abandon(call.invocation_id)
    session.abandon(stream.stream_id)


def test_what_the_server_said_before_the_end_is_still_handled() -> None:
    seen: list[int] = []

    def news(n: int) -> object:
        seen.append(n)
        return WAITS

    server = handled(news=news, ask=lambda: WAITS)
    server.say(invoke("ask", invocationId="s1"), invoke("news", 1), invoke("news", 2), {"type": 7})
    assert [call.label for call in server.shell.asked_to_cancel] == ["ask"]
    server.shell.finish(server.shell.find("news"))
    server.shell.finish(server.shell.find("news"))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("end", "kind", "error"),
    [({"type": 7}, TransportError, "The connection is closed."), ({"type": 7, "error": "bye"}, HubError, "bye")],
)
def test_nothing_can_be_called_after_the_end(end: dict[str, Any], kind: type[Exception], error: str) -> None:
    server = ServerPeer()
    server.say(end)
    for command in (server.session.send, server.session.invoke, server.session.stream):
        with pytest.raises(kind, match=f"{error}$"):
            command("Add")


def test_calls_are_legal_once_the_handshake_is_done() -> None:
    server = ServerPeer(handshake=False)
    with pytest.raises(LocalProtocolError):
        server.session.invoke("Add")
    server.say_bytes(b"{}\x1e")
    assert server.session.is_open
    server.session.invoke("Add")


def test_a_refused_handshake_is_the_end() -> None:
    server = ServerPeer(handshake=False)
    server.say_bytes(b'{"error":"no"}\x1e')
    assert not server.session.is_open
    assert isinstance(server.session.error, HubError)


def test_facts_come_from_the_connection() -> None:
    session = ServerPeer().session
    assert (session.codec.name, session.transfer_format) == ("json", "text")
    assert session.next_timeout() == 15.0
    assert not session.stateful
    session.handle_timeout(now=30.0)
    assert session.is_over
    assert isinstance(session.error, TransportError)


# --- stateful reconnect ----------------------------------------------------------------------------------------------

CUT = TransportError("cut")


def resumable(handlers: Handlers | None = None, **settings: Any) -> ServerPeer:
    return ServerPeer(handlers, HubConfig(**{"keep_alive_interval": 1e6, **settings}), stateful=True)


def ack(number: int) -> dict[str, Any]:
    return {"type": 8, "sequenceId": number}


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


def test_a_client_asks_for_version_1_unless_it_is_to_be_resumable() -> None:
    session = ClientSession(JsonCodec(), Handlers(), config=HubConfig(), effects=Shell().effects, now=0.0)
    assert session.data_to_send(now=0.0) == HANDSHAKE


def test_calls_streams_and_uploads_go_on_across_a_cut() -> None:
    server = resumable()
    session = server.session
    call = session.invoke("Up", [Upload(["a", "b"])])
    down = session.stream("Count")
    uploading = server.shell.find("upload")
    assert session.send_item(uploading, "a")
    started = server.hear()
    server.say(item(0, "3"))
    session.receive_eof(CUT, now=0.0)
    assert (session.is_lost, session.is_open, session.closed) == (True, True, None)
    assert session.send_item(uploading, "b")
    server.shell.finish(uploading)
    late = session.invoke("Add", [1, 2])
    assert server.hear() == []
    assert server.shell.asked_to_cancel == []
    session.resume()
    assert server.hear() == [
        sequence(1),
        *started,
        item("b", "1"),
        sequence(4),
        completion("-"),
        completion("1"),
        {"type": 1, "invocationId": late.invocation_id, "target": "Add", "arguments": [1, 2]},
    ]
    server.say(sequence(1), item(0, "3"), item(1, "3"), completion("3"))
    server.say(completion(call.invocation_id, result="2:ab"), completion(late.invocation_id, result=3))
    assert taken_to_the_end(down) == [0, 1]
    assert (call.outcome(), late.outcome()) == ("2:ab", 3)


def taken_to_the_end(stream: IncomingStream) -> list[Any]:
    items = []
    try:
        while True:
            items.append(stream.receive_nowait())
    except EndOfStream:
        return items


def test_a_handler_s_answer_is_kept_while_the_transport_is_lost() -> None:
    handlers = Handlers()
    handlers.add("ask", lambda: WAITS)
    server = resumable(handlers)
    server.say(invoke("ask", invocationId="s1"))
    server.session.receive_eof(CUT, now=0.0)
    server.shell.finish(server.shell.find("ask"), "yes")
    server.session.resume()
    assert server.hear() == [sequence(1), completion("s1", result="yes")]


def test_everything_fails_when_the_transport_is_not_replaced() -> None:
    server = resumable(resume_window=3.0)
    session = server.session
    call, down = session.invoke("Slow", [Upload(["a"])]), session.stream("Count")
    session.receive_eof(CUT, now=0.0)
    session.handle_timeout(now=2.9)
    assert session.is_lost
    session.handle_timeout(now=3.0)
    for wait in (call.outcome, down.receive_nowait):
        with pytest.raises(TransportError, match="not replaced within 3 s: cut$"):
            wait()
    server.shell.cancel_asked()
    assert server.shell.labels() == []
    with pytest.raises(LocalProtocolError):
        session.resume()


def test_an_upload_pauses_while_too_much_waits_for_a_new_transport() -> None:
    server = resumable(send_buffer=100)
    server.session.invoke("Up", [Upload([])])
    uploading = server.shell.find("upload")
    server.session.receive_eof(CUT, now=0.0)
    while has_room(server):
        server.session.send_item(uploading, "x" * 30)
    server.session.resume()
    server.session.data_to_send(now=0.0)
    assert server.shell.was_woken(server.session)
    assert has_room(server)


def has_room(server: ServerPeer) -> bool:
    return server.session.writable


def test_an_upload_that_waits_for_acks_does_not_wait_for_ever_behind_slow_handlers() -> None:
    handlers = Handlers()
    handlers.add("news", lambda: WAITS)
    server = resumable(handlers, stream_buffer=2, stream_buffer_limit=6, send_buffer=50, replay_buffer=50)
    server.say(*(invoke("news") for _ in range(4)))
    assert not server.session.want_read
    server.session.send("Up", [Upload([])])
    uploading = server.shell.find("upload")
    server.hear()
    while has_room(server):
        server.session.send_item(uploading, "x" * 20)
        server.hear()
    server.say(*(invoke("news") for _ in range(3)), ack(1))
    assert [message["type"] for message in server.hear()] == [2, 9, 3]
    server.session.send_item(uploading, "x" * 20)
    server.session.send_item(uploading, "x" * 20)
    server.say(*(invoke("news") for _ in range(3)), ack(2))
    assert server.hear() == []
    assert not server.session.want_read  # there is a limit to this
    server.shell.finish(server.shell.find("news"))
    server.shell.finish(server.shell.find("news"))
    server.shell.finish(server.shell.find("news"))
    server.shell.finish(server.shell.find("news"))
    assert [message["type"] for message in server.hear()] == [2, 9, 3]


# --- headers of calls, and the log -----------------------------------------------------------------------------------


def test_every_call_asks_for_headers_when_it_is_made() -> None:
    numbers = iter(range(10))
    server = ServerPeer(call_headers=lambda: {"traceparent": f"00-{next(numbers)}"})
    server.session.send("a")
    server.session.invoke("b")
    server.session.stream("c")
    said = server.hear()
    assert [message["headers"] for message in said] == [{"traceparent": f"00-{number}"} for number in range(3)]


def test_no_headers_are_none_on_the_wire() -> None:
    server = ServerPeer(call_headers=dict)
    server.session.send("a")
    assert server.hear() == [invoke("a")]


def test_headers_that_cannot_be_had_are_the_callers_error_and_nothing_is_sent() -> None:
    def fail() -> dict[str, str]:
        raise ValueError("no headers")

    server = ServerPeer(call_headers=fail)
    for call in (server.session.send, server.session.invoke, server.session.stream):
        with pytest.raises(ValueError, match="no headers"):
            call("a", [Upload([1])])
    assert server.hear() == []


def test_what_the_server_writes_is_short_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = ServerPeer()
    server.say(invoke("x\n" * 1000))
    (record,) = caplog.records
    assert len(record.getMessage()) < 400
    assert record.getMessage().isprintable()
    assert (vars(record)["hub_method"], vars(record)["hub"]) == (r"x\n" * 100 + "...", None)


def test_headers_that_cannot_be_had_or_sent_leave_everything_as_it_was() -> None:
    bad: list[Any] = [{"n": 1}, {1: "n"}, {"n": ""}, {"": "n"}]
    found: list[Any] = [ValueError("none"), *bad]

    def headers() -> Any:
        headers = found.pop(0)
        if isinstance(headers, Exception):
            raise headers
        return headers

    peer = ServerPeer(call_headers=headers)
    with pytest.raises(ValueError, match="none"):
        peer.session.invoke("Invoke", [Upload([1])])
    for _ in bad:
        with pytest.raises(LocalProtocolError, match="names and values of headers are texts that are not empty"):
            peer.session.invoke("Invoke")
    found.append({"n": "1"})
    peer.session.invoke("Invoke")
    assert peer.hear() == [{"type": 1, "headers": {"n": "1"}, "invocationId": "1", "target": "Invoke", "arguments": []}]


def test_what_is_sent_after_the_server_has_caught_up_is_announced() -> None:
    server = handled()
    carrier = server.session.carrier = object()
    server.session.send("Tell", ["x" * 100_000])
    assert not server.session.writable
    server.session.data_to_send(now=0.0)  # says that there is room again, and leaves nothing to be asked for
    assert server.shell.was_woken(carrier)
    server.session.send("Tell", ["y"])
    assert server.shell.was_woken(carrier)
