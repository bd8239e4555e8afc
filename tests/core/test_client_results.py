"""A hub, or code outside of it, calls a method of one client and waits for its result (SPEC 3.10)."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from hubproto_core import (
    Call,
    Clients,
    Hub,
    HubConfig,
    HubError,
    IncomingStream,
    LocalProtocolError,
    Registry,
    TransportError,
    Upload,
)
from tests.kit.shell import HubPeer, Shell


class Failed(Exception):
    kind = "OddException"


def make_hub(config: HubConfig | None = None) -> Hub:
    hub = Hub(config)

    @hub.method("Ask")
    async def ask(question: str, call: Call) -> str:
        return await call.clients.caller.invoke("AskMe", question, returns=str)

    @hub.method("AskTwice")
    async def ask_twice(call: Call) -> list[Any]:
        return [await call.clients.caller.invoke("AskMe", n) for n in (1, 2)]

    @hub.method("AskOther")
    async def ask_other(connection_id: str, call: Call) -> Any:
        return await call.clients.client(connection_id).invoke("AskMe")

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Slow")
    async def slow() -> None:
        raise NotImplementedError

    @hub.method("AskAboutEach")
    async def ask_about_each(items: AsyncIterator[int], call: Call) -> Any:
        return await call.clients.caller.invoke("AskMe")

    return hub


HUB = make_hub()


class Room:
    """Clients a and b of one hub, and the code around it."""

    def __init__(self, hub: Hub = HUB, config: HubConfig | None = None) -> None:
        self.shell = Shell()
        self.registry = Registry()
        self.a, self.b = (
            HubPeer(hub, config, name=name, registry=self.registry, shell=self.shell) for name in ("a", "b")
        )
        self.clients = Clients(self.registry)

    def step(self, label: str) -> None:
        """The one running call of this name goes on."""
        self.shell.step(self.shell.find(label))


def invocation(target: str, *arguments: Any, id: str = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 1, "invocationId": id, "target": target, "arguments": list(arguments)}


def completion(id: str = "1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, **more}


def goes_on(waiting: Coroutine[Any, Any, Any]) -> list[Any]:
    """What is returned from here to the next point of waiting: nothing there, or the result."""
    try:
        waiting.send(None)
    except StopIteration as stop:
        return [stop.value]
    return []


def asked(config: HubConfig | None = None, **answer: Any) -> list[Any]:
    """What a client is told whose call asks it, when it answers so."""
    room = Room(config=config)
    assert room.a.ask(invocation("Ask", "q", id="7")) == []
    room.step("Ask")
    assert room.a.hear() == [invocation("AskMe", "q", id="s1")]
    assert room.a.ask(completion("s1", **answer)) == []
    room.step("Ask")
    return room.a.hear()


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"result": "x"}, {"result": "x"}),
        ({"error": "Client error"}, {"error": "HubException: Client error"}),
        ({"error": ""}, {"error": "HubException: "}),
        ({}, {"error": "HubException: The client sent no result."}),
        ({"result": 5}, {"error": "HubException: Error trying to deserialize result to String. "}),
        ({"result": None}, {"error": "HubException: Error trying to deserialize result to String. "}),
    ],
)
@pytest.mark.parametrize("detailed_errors", [False, True])
def test_an_answer_comes_back_to_the_call_that_asked(
    answer: dict[str, Any], told: dict[str, Any], detailed_errors: bool
) -> None:
    (end,) = asked(HubConfig(detailed_errors=detailed_errors), **answer)
    if "error" in told:
        text = f"An unexpected error occurred invoking 'Ask' on the server. {told['error']}"
        assert end.pop("error").startswith(text)
        assert end == completion("7")
    else:
        assert end == completion("7", **told)


def test_code_outside_of_the_hub_may_ask() -> None:
    room = Room()
    waiting = room.clients.client("b").invoke("AskMe", 1, [2])
    assert room.b.hear() == []
    assert goes_on(waiting) == []
    assert room.b.hear() == [invocation("AskMe", 1, [2], id="s1")]
    assert room.a.hear() == []
    assert goes_on(waiting) == []
    room.b.say(completion("s1", result={"n": [1]}))
    assert goes_on(waiting) == [{"n": [1]}]


def test_a_client_that_answers_null_has_answered() -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe")
    goes_on(waiting)
    room.a.say(completion("s1", result=None))
    assert goes_on(waiting) == [None]


def test_results_are_converted_to_what_is_asked_for() -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe", returns=tuple[int, ...])
    goes_on(waiting)
    room.a.say(completion("s1", result=[1, 2]))
    assert goes_on(waiting) == [(1, 2)]


def test_ids_are_counted_on_each_connection_and_answers_may_come_in_any_order() -> None:
    room = Room()
    first, second, third = (room.clients.client(name).invoke("AskMe", n) for n, name in enumerate("aab"))
    for waiting in (first, second, third):
        goes_on(waiting)
    assert room.a.hear() == [invocation("AskMe", 0, id="s1"), invocation("AskMe", 1, id="s2")]
    assert room.b.hear() == [invocation("AskMe", 2, id="s1")]
    room.a.say(completion("s2", result="2"))
    assert (goes_on(first), goes_on(second), goes_on(third)) == ([], ["2"], [])
    room.b.say(completion("s1", result="3"))
    room.a.say(completion("s1", error="1"))
    assert goes_on(third) == ["3"]
    with pytest.raises(HubError, match="^1$"):
        goes_on(first)


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe")
    goes_on(waiting)
    room.b.say(completion("s1", result="of another"), completion("s9", result="unknown"))
    room.a.say(completion("s1", result="first"), completion("s1", result="again"), completion("s1"))
    assert goes_on(waiting) == ["first"]
    assert room.a.hear() == [invocation("AskMe", id="s1")]
    for peer in (room.a, room.b):
        assert peer.ask(invocation("Add", 1, 2)) == [completion(result=3)]


def test_who_stops_waiting_says_nothing_and_hears_nothing() -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe")
    goes_on(waiting)
    waiting.close()
    assert room.a.hear() == [invocation("AskMe", id="s1")]
    assert room.a.ask(completion("s1", result="late"), invocation("Add", 1, 2)) == [completion(result=3)]


def test_what_is_never_awaited_sends_nothing_and_python_says_so() -> None:
    room = Room()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ = room.clients.client("a").invoke("AskMe")
        del _
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["coroutine 'Shell.outcome_of' was never awaited"]
    assert room.a.hear() == []
    later = room.clients.client("a").invoke("AskMe")
    goes_on(later)
    assert room.a.hear() == [invocation("AskMe", id="s1")]
    later.close()


# --- the limit of parallel calls -------------------------------------------------------------------------------------


def test_calls_that_ask_let_others_run_one_after_another() -> None:
    room = Room()
    assert room.a.ask(*(invocation("Ask", name, id=name) for name in "xyz"), invocation("Add", 1, 2)) == []
    for number, name in enumerate("xyz", 1):
        assert room.shell.labels() == ["Ask"] * number
        room.shell.step(room.shell.running[-1])
        question = invocation("AskMe", name, id=f"s{number}")
        assert room.a.hear() == ([question, completion(result=3)] if name == "z" else [question])
    calls = list(room.shell.running)
    room.a.say(completion("s2", result="Y"), completion("s1", result="X"), completion("s3", result="Z"))
    for call in calls:
        room.shell.step(call)
    assert room.a.hear() == [completion(name, result=name.upper()) for name in "xyz"]


def test_a_call_that_has_asked_goes_on_without_its_slot() -> None:
    room = Room()
    room.a.say(invocation("AskTwice", id="1"), invocation("Slow", id="2"))
    assert room.shell.labels() == ["AskTwice"]
    room.step("AskTwice")
    assert room.shell.labels() == ["AskTwice", "Slow"]
    assert room.a.ask(completion("s1", result="x")) == [invocation("AskMe", 1, id="s1")]
    room.step("AskTwice")
    assert room.a.ask(completion("s2", result="y")) == [invocation("AskMe", 2, id="s2")]
    assert room.a.ask(invocation("Slow", id="3")) == []
    assert room.shell.labels() == ["AskTwice", "Slow"]  # the second question gave nothing back
    room.step("AskTwice")
    assert room.a.hear() == [completion("1", result=["x", "y"])]
    assert room.shell.labels() == ["Slow"]  # nor did the end of the call
    room.shell.finish(room.shell.running[0])
    assert room.shell.labels() == ["Slow"]


def test_the_answer_of_another_client_can_wait_behind_its_own_call() -> None:
    room = Room()
    room.a.say(invocation("AskOther", "b", id="1"), invocation("Add", 1, 2, id="2"))
    room.b.say(invocation("AskOther", "a", id="1"), invocation("Add", 3, 4, id="2"))
    for call in list(room.shell.running):
        room.shell.step(call)
    assert room.a.hear() == [completion("2", result=3), invocation("AskMe", id="s1")]
    assert room.b.hear() == [invocation("AskMe", id="s1"), completion("2", result=7)]
    room.a.say(completion("s1", result="from a"))
    room.b.say(completion("s1", result="from b"))
    for call in list(room.shell.running):
        room.shell.step(call)
    assert room.a.hear() == [completion("1", result="from b")]
    assert room.b.hear() == [completion("1", result="from a")]


def test_a_context_that_outlives_its_call_has_no_slot_to_give() -> None:
    kept: list[Call] = []
    hub = make_hub()
    hub.method("Keep")(lambda: None)

    @hub.method("Lend")
    def lend(call: Call) -> None:
        kept.append(call)

    room = Room(hub)
    room.a.say(invocation("Lend"), invocation("Slow", id="2"), invocation("Slow", id="3"))
    waiting = kept[0].clients.caller.invoke("AskMe")
    goes_on(waiting)
    assert room.shell.labels() == ["Slow"]
    waiting.close()


# --- streams ---------------------------------------------------------------------------------------------------------


def uploading(room: Room) -> IncomingStream:
    """The reader of an upload of 20 items whose method has not asked yet."""
    room.a.say({**invocation("AskAboutEach"), "streamIds": ["u"]})
    for number in range(20):
        room.a.say({"type": 2, "invocationId": "u", "item": number})
    (stream,) = room.shell.find("AskAboutEach").incoming
    return stream


@pytest.mark.parametrize("asks_first", [True, False])
def test_an_answer_is_not_stuck_behind_an_upload_whose_reader_waits_for_it(asks_first: bool) -> None:
    room = Room()
    if asks_first:
        room.a.say({**invocation("AskAboutEach"), "streamIds": ["u"]})
        room.step("AskAboutEach")
        for number in range(20):
            room.a.say({"type": 2, "invocationId": "u", "item": number})
    else:
        uploading(room)
        room.step("AskAboutEach")
    assert room.a.ask(completion("s1", result="x")) == [invocation("AskMe", id="s1")]
    room.step("AskAboutEach")
    assert room.a.hear() == [completion(result="x")]


def test_a_slow_reader_still_stops_an_upload_when_nobody_asks() -> None:
    room = Room()
    stream = uploading(room)
    assert len(stream) == 11
    assert not room.a.session.want_read
    room.step("AskAboutEach")
    assert room.a.hear() == [invocation("AskMe", id="s1")]
    assert len(stream) == 20
    room.a.session.abandon("s1")
    room.a.say({"type": 2, "invocationId": "u", "item": 20}, {"type": 2, "invocationId": "u", "item": 21})
    assert len(stream) == 21


def test_what_is_held_for_a_reader_that_asks_is_limited() -> None:
    room = Room(config=HubConfig(stream_buffer_limit=15))
    stream = uploading(room)
    room.step("AskAboutEach")
    room.a.hear()
    assert len(stream) == 16
    assert not room.a.session.want_read


def test_a_hub_cannot_upload_to_a_client() -> None:
    room = Room()
    with pytest.raises(LocalProtocolError, match="only a client can upload"):
        goes_on(room.clients.client("a").invoke("AskMe", Upload([1])))


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_client_that_is_unknown_cannot_be_asked() -> None:
    room = Room()
    with pytest.raises(TransportError, match=r"^Connection 'z' does not exist\.$"):
        goes_on(room.clients.client("z").invoke("AskMe"))


@pytest.mark.parametrize("by", ["close", "eof", "cut", "abort", "error"])
def test_a_client_that_leaves_will_not_answer(by: str) -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe")
    goes_on(waiting)
    match by:
        case "close":
            room.a.say({"type": 7})
        case "error":
            room.a.say_bytes(b"nonsense\x1e")
        case "abort":
            room.a.session.abort()
            room.a.hear()
        case "eof":
            room.a.session.receive_eof(now=0.0)
        case _:
            room.a.session.receive_eof(TransportError("cut"), now=0.0)
    with pytest.raises(TransportError, match=r"^Connection 'a' disconnected\.$") as caught:
        goes_on(waiting)
    assert isinstance(caught.value.__cause__, Exception)
    assert room.shell.was_woken(room.a.session)


def test_a_client_that_is_leaving_cannot_be_asked() -> None:
    room = Room()
    room.a.session.abort()
    with pytest.raises(TransportError, match=r"^Connection 'a' disconnected\.$"):
        goes_on(room.clients.client("a").invoke("AskMe"))


@pytest.mark.parametrize(
    ("other", "text"), [("z", "Connection 'z' does not exist."), ("b", "Connection 'b' disconnected.")]
)
@pytest.mark.parametrize("detailed_errors", [False, True])
def test_the_caller_is_told_that_another_client_is_gone_if_it_may_be(
    other: str, text: str, detailed_errors: bool
) -> None:
    room = Room(config=HubConfig(detailed_errors=detailed_errors))
    room.a.say(invocation("AskOther", other))
    room.step("AskOther")
    if other == "b":
        room.b.say({"type": 7})
        room.step("AskOther")
    base = "An unexpected error occurred invoking 'AskOther' on the server."
    assert room.a.hear() == [completion(error=f"{base} IOException: {text}" if detailed_errors else base)]


def test_a_call_that_waits_for_its_own_client_is_cancelled_before_it_hears_of_the_end() -> None:
    room = Room()
    room.a.say(invocation("Ask", "q"))
    room.step("Ask")
    call = room.shell.find("Ask")
    room.a.hear()
    room.shell.woken.clear()
    room.a.session.receive_eof(TransportError("cut"), now=0.0)
    kinds = []
    while (effect := room.shell.effects.take()) is not None:
        kinds.append(type(effect).__name__)
    assert kinds[:2] == ["CancelCall", "Wake"]
    room.shell.cancel(call)
    assert room.a.session.finished


def test_a_client_that_does_not_read_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(config=HubConfig(send_limit=1000))
    questions = [room.clients.client("a").invoke("AskMe", "x" * 300) for _ in range(3)]
    for question in questions:
        goes_on(question)
    room.a.hear()
    assert caplog.messages == ["connection a is given up: it leaves more than 1000 bytes unread"]
    for question in questions:
        with pytest.raises(TransportError, match="disconnected"):
            goes_on(question)


def test_an_argument_that_cannot_be_written_asks_nothing() -> None:
    room = Room()
    with pytest.raises(LocalProtocolError):
        goes_on(room.clients.client("a").invoke("AskMe", object()))
    assert room.a.hear() == []


def test_asking_needs_something_that_can_wait() -> None:
    with pytest.raises(LocalProtocolError, match="no server runs here"):
        _ = Clients(Registry()).client("a").invoke("AskMe")


def test_only_one_client_can_be_asked() -> None:
    room = Room()
    for selection in (room.clients.all, room.clients.clients("a"), room.clients.user("u"), room.clients.group("g")):
        assert not hasattr(selection, "invoke")


# --- hooks and shutdown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detailed_errors", [False, True])
@pytest.mark.parametrize("who", ["a", "other"])
def test_on_connected_cannot_ask(detailed_errors: bool, who: str, caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()

    @hub.on_connected
    async def connected(call: Call) -> None:
        await call.clients.client(who).invoke("AskMe")

    peer = HubPeer(hub, HubConfig(detailed_errors=detailed_errors), name="a")
    peer.shell.step(peer.shell.find("on_connected"))
    text = "Connection closed with an error."
    reason = "Client results inside OnConnectedAsync Hub methods are not allowed."
    assert peer.hear() == [
        {"type": 7, "error": f"{text} InvalidOperationException: {reason}" if detailed_errors else text}
    ]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_on_disconnected_finds_its_client_gone_and_may_ask_others() -> None:
    hub = make_hub()
    heard: list[Any] = []

    @hub.on_disconnected
    async def disconnected(call: Call) -> None:
        try:
            await call.clients.caller.invoke("AskMe")
        except TransportError as error:
            heard.append(str(error))
        heard.append(await call.clients.client("b").invoke("AskMe"))

    room = Room(hub)
    room.a.say({"type": 7})
    room.step("on_disconnected")
    assert room.b.ask(completion("s1", result="still here")) == [invocation("AskMe", id="s1")]
    room.step("on_disconnected")
    assert heard == ["Connection 'a' disconnected.", "still here"]
    assert room.a.session.finished


def test_a_server_that_shuts_down_lets_a_call_wait_for_its_answer_but_begins_no_other() -> None:
    room = Room()
    room.a.say(invocation("Ask", "q", id="1"), invocation("Add", 1, 2, id="2"))
    room.a.session.shut_down(now=0.0)
    room.step("Ask")
    assert room.a.hear() == [invocation("AskMe", "q", id="s1")]
    room.a.say(invocation("Add", 1, 2, id="3"), completion("s1", result="x"))
    room.step("Ask")
    assert room.a.hear() == [completion("1", result="x"), {"type": 7, "allowReconnect": True}]


def test_a_shutdown_reads_answers_that_stand_behind_a_call() -> None:
    room = Room()
    room.a.say(invocation("Ask", "q", id="1"), invocation("Slow", id="2"))
    room.step("Ask")
    room.a.say(invocation("Add", 1, 2, id="3"), completion("s1", result="x"))
    assert room.a.hear() == [invocation("AskMe", "q", id="s1")]
    room.step("Ask")
    assert room.shell.labels() == ["Ask", "Slow"]
    room.shell.woken.clear()
    room.a.session.shut_down(now=0.0)
    assert room.shell.was_woken(room.a.session)
    assert room.a.hear() == []
    room.step("Ask")
    assert room.a.hear() == [completion("1", result="x")]


def test_a_call_that_waits_at_the_end_of_a_shutdown_is_cancelled() -> None:
    room = Room(config=HubConfig(shutdown_timeout=5.0))
    room.a.say(invocation("Ask", "q"))
    room.step("Ask")
    room.a.hear()
    room.a.session.shut_down(now=0.0)
    room.a.session.handle_timeout(now=5.0)
    room.shell.cancel_asked()
    error = "An unexpected error occurred invoking 'Ask' on the server."
    assert room.a.hear() == [completion(error=error), {"type": 7, "allowReconnect": True}]
    assert room.a.ask(completion("s1", result="late")) == []


def test_a_broadcast_reaches_a_client_that_is_being_asked() -> None:
    room = Room()
    waiting = room.clients.client("a").invoke("AskMe")
    goes_on(waiting)
    room.clients.all.send("news")
    assert room.a.hear() == [invocation("AskMe", id="s1"), {"type": 1, "target": "news", "arguments": []}]
    room.a.say(completion("s1", result="x"))
    assert goes_on(waiting) == ["x"]
