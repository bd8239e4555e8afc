"""`HubSession`: what a client sends, and what the hub answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import (
    Authorization,
    Call,
    EndOfStream,
    Hub,
    HubConfig,
    HubError,
    HubSession,
    JsonCodec,
    LocalProtocolError,
    Registry,
    RemoteProtocolError,
    TransportError,
    WouldBlock,
)
from tests.kit.shell import WAITS, HubPeer, Shell
from tests.kit.wire import HANDSHAKE, HANDSHAKE_2


class QuotaError(HubError):
    kind = "QuotaException"


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Nothing")
    def nothing() -> None:
        pass

    @hub.method("Fail")
    def fail() -> None:
        raise KeyError("secret")

    @hub.method("Refuse")
    def refuse() -> None:
        raise HubError("told to the client")

    @hub.method("Quota")
    def quota() -> None:
        raise QuotaError("used up")

    @hub.method("Unwritable")
    def unwritable() -> object:
        return object()

    @hub.method("WhoAmI")
    def who_am_i(prefix: str, call: Call) -> str:
        return prefix + call.connection_id

    @hub.method("Sum")
    def sum_(call: Call, *numbers: int) -> int:
        return sum(numbers)

    @hub.method("AbortMe")
    def abort_me(call: Call) -> str:
        call.abort()
        return "too late"

    @hub.method("Later")
    def later() -> object:
        return WAITS

    @hub.method("Slow")
    async def slow(x: int) -> int:
        raise NotImplementedError

    @hub.method("Stubborn", cancellable=False)
    async def stubborn() -> None:
        raise NotImplementedError

    @hub.method("Count")
    async def count(n: int) -> AsyncIterator[int]:
        yield n

    @hub.method("Upload")
    async def upload(items: AsyncIterator[int], label: str) -> str:
        raise NotImplementedError

    @hub.method("UploadTwo")
    async def upload_two(a: AsyncIterator[int], b: AsyncIterator[int]) -> str:
        raise NotImplementedError

    @hub.method("Both")
    async def both(items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    return hub


HUB = make_hub()


def served(**settings: Any) -> HubPeer:
    return HubPeer(HUB, HubConfig(**settings))


def invoke(target: str, *arguments: Any, id: str | None = "1", **more: Any) -> dict[str, Any]:  # noqa: A002
    named = {} if id is None else {"invocationId": id}
    return {"type": 1, **named, "target": target, "arguments": list(arguments), **more}


def stream(target: str, *arguments: Any, id: str = "1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": 4, "invocationId": id, "target": target, "arguments": list(arguments), **more}


def upload(*ids: str, target: str = "Upload", id: str | None = "1") -> dict[str, Any]:  # noqa: A002
    return invoke(target, *(["label"] if target == "Upload" else []), id=id, streamIds=list(ids))


def item(value: Any, id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": 2, "invocationId": id, "item": value}


def completion(id: str = "1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, **more}


def cancel(id: str = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 5, "invocationId": id}


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (invoke("Add", 1, 2), 3),
        (invoke("aDD", 1, 2), 3),
        (invoke("Nothing"), None),
        (invoke("WhoAmI", "I am "), "I am c1"),
        (invoke("Sum"), 0),
        (invoke("Sum", 1, 2, 3), 6),
        (invoke("Add", 1, 2, streamIds=[]), 3),
    ],
)
def test_calls_are_answered(call: dict[str, Any], result: Any) -> None:
    assert served().ask(call) == [completion(result=result)]


@pytest.mark.parametrize("target", ["Add", "Fail", "Refuse", "Unwritable", "Nowhere", "Slow"])
def test_calls_without_id_are_never_answered(target: str) -> None:
    client = served()
    arguments = [1, 2] if target == "Add" else [1] if target == "Slow" else []
    assert client.ask(invoke(target, *arguments, id=None)) == []
    for call in list(client.shell.running):
        client.shell.fail(call, ValueError())
    assert client.hear() == []


THREW = "An unexpected error occurred invoking '{}' on the server."
NOT_BOUND = "Failed to invoke '{}' due to an error on the server."
WRONG_TYPE = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)


@pytest.mark.parametrize(
    ("call", "text", "details"),
    [
        (invoke("fAIL"), THREW.format("Fail"), " KeyError: 'secret'"),
        (invoke("Refuse"), THREW.format("Refuse") + " HubException: told to the client", ""),
        (invoke("Quota"), THREW.format("Quota") + " QuotaException: used up", ""),
        (invoke("nowhere"), NOT_BOUND.format("nowhere") + " HubException: Method does not exist.", ""),
        (stream("nowhere"), NOT_BOUND.format("nowhere") + " HubException: Method does not exist.", ""),
        (
            invoke("aDD", 1),
            NOT_BOUND.format("Add"),
            " InvalidDataException: Invocation provides 1 argument(s) but target expects 2.",
        ),
        (invoke("Add", 1, "2"), NOT_BOUND.format("Add"), f" InvalidDataException: {WRONG_TYPE}"),
        (
            invoke("cOUNT", 1),
            "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation.",
            "",
        ),
        (
            stream("aDD", 1, 2),
            "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation.",
            "",
        ),
        (
            upload(target="Upload"),
            THREW.format("Upload") + " HubException: Client sent 0 stream(s), Hub method expects 1.",
            "",
        ),
        (
            upload("2", "3", "4", target="UploadTwo"),
            THREW.format("UploadTwo") + " HubException: Client sent 3 stream(s), Hub method expects 2.",
            "",
        ),
        (
            invoke("Nothing", streamIds=["2"]),
            THREW.format("Nothing") + " HubException: Client sent 1 stream(s), Hub method expects 0.",
            "",
        ),
    ],
)
@pytest.mark.parametrize("detailed", [False, True])
def test_errors_have_the_reference_s_texts(call: dict[str, Any], text: str, details: str, detailed: bool) -> None:
    client = served(detailed_errors=detailed)
    assert client.ask(call) == [completion(error=text + details if detailed else text)]
    assert client.ask(invoke("Add", 1, 2)) == [completion(result=3)]


def test_a_result_that_cannot_be_written_is_an_error() -> None:
    (answer,) = served(detailed_errors=True).ask(invoke("Unwritable"))
    assert answer["error"].startswith(THREW.format("Unwritable") + " LocalProtocolError: ")


def test_a_failure_is_logged_unless_it_is_the_client_s_business(caplog: pytest.LogCaptureFixture) -> None:
    served().ask(invoke("Refuse"), invoke("Fail"))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hubproto_core.hub", logging.ERROR)
    assert record.getMessage() == "hub method 'Fail' failed for connection c1: KeyError: 'secret'"
    assert record.exc_info is not None


def test_arguments_that_are_left_out_have_their_default_values() -> None:
    hub = Hub()

    @hub.method("Plain")
    def plain(a: int, b: int = 2, c: list[int] | None = None) -> Any:
        return [a, b, c]

    @hub.method("Mixed")
    def mixed(a: int, call: Call | None = None, b: int = 2, c: str = "c") -> Any:
        return [a, call and call.connection_id, b, c]

    @hub.method("Upload")
    async def upload(a: int = 1, items: AsyncIterator[int] = None, b: str = "b") -> Any:  # type: ignore[assignment]  # noqa: RUF013
        raise NotImplementedError

    client = HubPeer(hub)
    assert client.ask(invoke("Plain", 1), invoke("Plain", 1, 5), invoke("Plain", 1, 5, [6])) == [
        completion(result=[1, 2, None]),
        completion(result=[1, 5, None]),
        completion(result=[1, 5, [6]]),
    ]
    assert client.ask(invoke("Mixed", 1), invoke("Mixed", 1, 5), invoke("Mixed", 1, 5, "d")) == [
        completion(result=[1, "c1", 2, "c"]),
        completion(result=[1, "c1", 5, "c"]),
        completion(result=[1, "c1", 5, "d"]),
    ]
    for given, taken in (((), [1, "s", "b"]), ((5,), [5, "s", "b"]), ((5, "c"), [5, "s", "c"])):
        client.say(invoke("Upload", *given, streamIds=["9"]))
        call = client.shell.find("Upload")
        assert client.session.build_arguments(call, ["s"]) == taken
        client.shell.finish(call)
        assert client.hear() == [completion(result=None)]
    client = HubPeer(hub, HubConfig(detailed_errors=True))
    for arguments in ([], [1, 2, [3], 4]):
        text = f"InvalidDataException: Invocation provides {len(arguments)} argument(s) but target expects 3."
        assert client.ask(invoke("pLAIN", *arguments)) == [completion(error=f"{NOT_BOUND.format('Plain')} {text}")]


async def _items() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("annotated", [False, True])
def test_a_stream_is_declared_by_its_annotation(annotated: bool, caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub(HubConfig(detailed_errors=True))

    def numbers():  # type: ignore[no-untyped-def]
        return _items()

    if annotated:
        numbers.__annotations__["return"] = AsyncIterator[int]
    hub.method("Numbers")(numbers)
    client = HubPeer(hub)
    if annotated:
        assert client.ask(stream("Numbers")) == []
        assert client.shell.find("Numbers").streams
    else:
        (answer,) = client.ask(invoke("Numbers"))
        assert answer["error"] == THREW.format("Numbers") + (
            " LocalProtocolError: it returned an asynchronous iterator; the annotation -> AsyncIterator[...] makes "
            "it a stream"
        )
        assert "the annotation -> AsyncIterator" in caplog.text


def test_a_result_needs_no_annotation() -> None:
    hub = Hub()
    hub.method("Echo")(lambda value: value)
    assert HubPeer(hub).ask(invoke("Echo", {"a": [1]})) == [completion(result={"a": [1]})]


def test_what_takes_time_is_answered_when_it_ends() -> None:
    client = served()
    assert client.ask(invoke("Slow", 5)) == []
    call = client.shell.find("Slow")
    assert client.session.build_arguments(call, ()) == (5,)
    client.shell.finish(call, 5)
    assert client.hear() == [completion(result=5)]


def test_only_the_first_outcome_counts() -> None:
    client = served()
    client.say(invoke("Slow", 5))
    call = client.shell.find("Slow")
    client.session.call_returned(call, 1)
    client.session.call_returned(call, 2)
    client.session.call_failed(call, ValueError())
    client.session.call_cancelled(call)
    assert client.hear() == [completion(result=1)]


def test_plain_functions_may_return_something_to_be_awaited() -> None:
    client = served(max_parallel_calls=2)
    assert client.ask(invoke("Later", id="1"), invoke("Add", 1, 2, id="2")) == [completion("2", result=3)]
    client.shell.finish(client.shell.find("Later"), "done")
    assert client.hear() == [completion("1", result="done")]


def test_a_plain_function_ends_before_the_next_message_is_looked_at() -> None:
    seen: list[int] = []
    hub = Hub(HubConfig(max_parallel_calls=100))

    @hub.method("Note")
    def note(n: int) -> None:
        seen.append(n)

    client = HubPeer(hub)
    client.say(*(invoke("Note", n, id=None) for n in range(20)))
    assert seen == list(range(20))


# --- order -----------------------------------------------------------------------------------------------------------


def test_calls_run_one_after_another_by_default() -> None:
    client = served()
    assert client.ask(invoke("Slow", 1, id="1"), invoke("Add", 1, 1, id="2"), invoke("Add", 2, 2, id="3")) == []
    assert client.shell.labels() == ["Slow"]
    assert not client.session.want_read
    client.shell.finish(client.shell.find("Slow"))
    assert client.hear() == [completion("1", result=None), completion("2", result=2), completion("3", result=4)]
    assert client.session.want_read


def test_as_many_calls_run_side_by_side_as_are_allowed() -> None:
    client = served(max_parallel_calls=2)
    assert client.ask(*(invoke("Slow", n, id=str(n)) for n in range(4))) == []
    first, second = client.shell.running
    client.shell.finish(second)
    assert client.hear() == [completion("1", result=None)]
    assert [call.invocation_id for call in client.shell.running] == ["0", "2"]
    client.shell.finish(first)
    assert client.hear() == [completion("0", result=None)]
    assert [call.invocation_id for call in client.shell.running] == ["2", "3"]


def test_everything_but_calls_goes_on_while_a_call_runs() -> None:
    client = served()
    assert client.ask(
        invoke("Slow", 1),
        {"type": 6},
        stream("Count", 1, id="2"),
        upload("4", id="3"),
        item(5, "4"),
        cancel("2"),
        invoke("Nowhere", id="5"),
        invoke("Add", "x", id="6"),
    ) == [
        completion("5", error=NOT_BOUND.format("Nowhere") + " HubException: Method does not exist."),
        completion("6", error=NOT_BOUND.format("Add")),
    ]
    assert client.shell.labels() == ["Slow", "Count", "Upload"]
    assert client.shell.find("Upload").incoming[0].receive_nowait() == 5
    assert client.shell.asked_to_cancel == [client.shell.find("Count")]


def test_nothing_behind_a_waiting_call_is_looked_at() -> None:
    client = served()
    assert (
        client.ask(invoke("Slow", 1, id="1"), invoke("Slow", 2, id="2"), cancel("1"), stream("Count", 1, id="3")) == []
    )
    assert client.shell.asked_to_cancel == []
    client.shell.finish(client.shell.find("Slow"))
    assert client.hear() == [completion("1", result=None)]
    assert client.shell.labels() == ["Slow", "Count"]


def test_calls_at_the_same_time_may_have_one_id() -> None:
    client = served(max_parallel_calls=2)
    client.say(invoke("Slow", 1), invoke("Slow", 2))
    first, second = client.shell.running
    client.shell.finish(second, "second")
    client.shell.finish(first, "first")
    assert client.hear() == [completion(result="second"), completion(result="first")]


def test_a_call_may_have_the_id_of_a_stream() -> None:
    client = served()
    client.say(stream("Count", 1))
    call = client.shell.find("Count")
    client.session.send_item(call, 0)
    assert client.ask(invoke("Add", 1, 2)) == [item(0, "1"), completion(result=3)]
    client.session.send_item(call, 1)
    client.shell.finish(call)
    assert client.hear() == [item(1, "1"), completion()]


def test_calls_that_wait_when_the_client_stops_sending_are_begun_before_the_end_is_noticed() -> None:
    client = served()
    client.say(*(invoke("Slow", n, id=str(n)) for n in range(4)))
    client.session.receive_eof(now=0.0)
    for n in range(3):
        assert client.session.closed is None
        client.shell.finish(client.shell.find("Slow"), n)
        assert client.hear()[0] == completion(str(n), result=n)
    assert client.session.closed is not None
    client.shell.cancel_asked()
    assert client.session.finished
    assert client.session.error is None


def test_a_broken_transport_ends_calls_that_wait() -> None:
    client = served()
    client.say(*(invoke("Slow", n, id=str(n)) for n in range(4)))
    client.session.receive_eof(TransportError("reset"), now=0.0)
    client.shell.cancel_asked()
    assert client.session.finished
    assert isinstance(client.session.error, TransportError)


# --- cancellation ----------------------------------------------------------------------------------------------------


def test_a_cancelled_call_is_answered_without_error() -> None:
    client = served()
    client.say(invoke("Slow", 1), cancel(), cancel())
    call = client.shell.find("Slow")
    assert client.shell.asked_to_cancel == [call]
    client.shell.cancel(call)
    assert client.hear() == [completion()]


def test_a_call_may_end_otherwise_though_it_was_to_be_cancelled() -> None:
    client = served()
    client.say(invoke("Slow", 1), cancel())
    client.shell.finish(client.shell.find("Slow"), 5)
    assert client.hear() == [completion(result=5)]


def test_a_call_that_must_not_be_cancelled_runs_on() -> None:
    client = served()
    client.say(invoke("Stubborn"), cancel())
    assert client.shell.asked_to_cancel == []


def test_what_is_unknown_cannot_be_cancelled() -> None:
    client = served()
    client.say(invoke("Slow", 1), cancel("7"))
    assert client.shell.asked_to_cancel == []


# --- streams to the client -------------------------------------------------------------------------------------------


class Items:
    """Something that can be iterated asynchronously."""

    def __aiter__(self) -> Any:
        raise NotImplementedError


def test_items_are_sent_and_then_the_end() -> None:
    client = served()
    client.say(stream("Count", 2))
    call = client.shell.find("Count")
    assert call.streams
    items = Items()
    assert client.session.open_stream(call, items) is items
    client.session.send_item(call, 0)
    client.session.send_item(call, None)
    client.shell.finish(call, "ignored")
    assert client.hear() == [item(0, "1"), item(None, "1"), completion()]


@pytest.mark.parametrize("result", [None, [1, 2], iter([1])])
def test_a_stream_method_must_return_a_stream(result: Any) -> None:
    client = served()
    client.say(stream("Count", 2))
    call = client.shell.find("Count")
    reason = "The value returned by the streaming method 'Count' is not a ChannelReader<> or IAsyncEnumerable<>."
    with pytest.raises(HubError) as refused:
        client.session.open_stream(call, result)
    assert str(refused.value) == reason
    client.shell.fail(call, refused.value)
    (answer,) = client.hear()
    assert answer["error"].endswith(reason)


@pytest.mark.parametrize(
    ("iterating", "error", "text"),
    [
        (False, ValueError("secret"), THREW.format("Count")),
        (True, ValueError("secret"), "An error occurred on the server while streaming results."),
        (True, HubError("told"), "An error occurred on the server while streaming results. HubException: told"),
    ],
)
def test_a_stream_that_fails_says_when(iterating: bool, error: Exception, text: str) -> None:
    client = served()
    client.say(stream("Count", 2))
    call = client.shell.find("Count")
    if iterating:
        client.session.open_stream(call, Items())
    client.shell.fail(call, error)
    assert client.hear() == [completion(error=text)]


def test_an_item_that_cannot_be_written_is_the_method_s_mistake() -> None:
    client = served()
    client.say(stream("Count", 2))
    with pytest.raises(LocalProtocolError):
        client.session.send_item(client.shell.find("Count"), object())
    assert client.hear() == []


def test_a_cancelled_stream_ends_without_error() -> None:
    client = served()
    client.say(stream("Count", 2), cancel())
    client.shell.cancel_asked()
    assert client.hear() == [completion()]
    assert client.ask(cancel()) == []


def test_an_item_after_the_end_goes_nowhere() -> None:
    client = served()
    client.say(stream("Count", 2))
    call = client.shell.find("Count")
    client.shell.finish(call)
    client.session.send_item(call, 1)
    assert client.hear() == [completion()]


def test_a_stream_id_in_use_is_refused_and_the_first_stream_lives_on() -> None:
    client = served()
    assert client.ask(stream("Count", 1), stream("Count", 2)) == [
        completion(error="Invocation ID '1' is already in use.")
    ]
    call = client.shell.find("Count")
    client.session.send_item(call, 5)
    assert client.hear() == [item(5, "1")]
    client.say(cancel())
    assert client.shell.asked_to_cancel == [call]


def has_room(session: HubSession) -> bool:
    return session.writable


def test_streams_pause_while_the_socket_is_behind() -> None:
    client = served(send_buffer=100)
    client.say(stream("Count", 1))
    call = client.shell.find("Count")
    session = client.session
    while has_room(session):
        session.send_item(call, "x" * 30)
    client.shell.run()
    client.shell.woken.clear()
    session.receive_data(b'{"type":1,"invocationId":"2","target":"Add","arguments":[1,2]}\x1e', now=0.0)
    assert not session.want_read
    data = session.data_to_send(now=0.0)
    assert b'"result"' not in data
    assert has_room(session)
    client.shell.run()
    assert client.shell.woken == [session, session]  # whoever sends items, and the carrier
    assert client.hear() == [completion("2", result=3)]
    assert session.want_read


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_uploads_reach_the_method_in_order() -> None:
    client = served()
    client.say(upload("2"), item(1, "2"), item(2, "2"))
    call = client.shell.find("Upload")
    (items,) = call.incoming
    assert client.session.build_arguments(call, ["the iterator"]) == ["the iterator", "label"]
    assert [items.receive_nowait(), items.receive_nowait()] == [1, 2]
    with pytest.raises(WouldBlock):
        items.receive_nowait()
    assert not client.shell.was_woken(items)
    client.say(item(3, "2"))
    assert client.shell.was_woken(items)
    assert items.receive_nowait() == 3
    client.say(completion("2", result="ignored"))
    assert client.shell.was_woken(items)
    with pytest.raises(EndOfStream):
        items.receive_nowait()
    client.shell.finish(call, "ok")
    assert client.hear() == [completion(result="ok")]


def test_two_uploads_do_not_mix() -> None:
    client = served()
    client.say(upload("a", "b", target="UploadTwo"), item(1, "b"), item(2, "a"), completion("a"), item(3, "b"))
    first, second = client.shell.find("UploadTwo").incoming
    assert first.receive_nowait() == 2
    assert [second.receive_nowait(), second.receive_nowait()] == [1, 3]


@pytest.mark.parametrize("text", ["client broke", ""])
def test_the_client_s_error_comes_after_its_items(text: str) -> None:
    client = served()
    client.say(upload("2"), item(1, "2"), completion("2", error=text))
    (items,) = client.shell.find("Upload").incoming
    assert items.receive_nowait() == 1
    with pytest.raises(HubError) as told:
        items.receive_nowait()
    assert str(told.value) == text


@pytest.mark.parametrize(("detailed", "ends"), [(False, "Stream message."), (True, "`str`")])
def test_an_item_of_a_wrong_type_ends_its_stream_only(detailed: bool, ends: str) -> None:
    client = served(detailed_errors=detailed)
    client.say(upload("2"), item(1, "2"), item("x", "2"), item(3, "2"))
    (items,) = client.shell.find("Upload").incoming
    assert items.receive_nowait() == 1
    with pytest.raises(HubError, match=r"^Failed to bind Stream message\.") as told:
        items.receive_nowait()
    assert str(told.value).endswith(ends)
    assert client.ask(invoke("Add", 1, 2, id="9")) == [completion("9", result=3)]


@pytest.mark.parametrize(
    "late",
    [[item(1, "2")], [item("x", "2")], [completion("2")], [completion("2", error="late")]],
)
def test_what_comes_after_the_method_s_end_is_ignored(late: list[dict[str, Any]]) -> None:
    client = served()
    client.say(upload("2"), item(1, "2"))
    call = client.shell.find("Upload")
    client.shell.finish(call, "enough")
    assert client.hear() == [completion(result="enough")]
    assert client.ask(*late, invoke("Add", 1, 2, id="9")) == [completion("9", result=3)]
    with pytest.raises(EndOfStream):
        call.incoming[0].receive_nowait()


def test_uploads_of_a_call_without_id_end_with_it_too() -> None:
    client = served()
    client.say(upload("2", id=None))
    client.shell.finish(client.shell.find("Upload"))
    assert client.ask(item(1, "2"), completion("2")) == []


def test_a_refused_call_takes_no_uploads() -> None:
    client = served()
    client.say(upload("2", "3"), upload("2", "3", id=None))
    assert client.ask(item(1, "2"), completion("3"))[1:] == []


def test_a_later_upload_takes_an_id_over() -> None:
    client = served()
    client.say(upload("9", id="1"), upload("9", id="2"))
    first, second = client.shell.running
    client.shell.finish(first, "first")
    client.say(item(5, "9"))
    assert second.incoming[0].receive_nowait() == 5


def test_uploads_of_calls_with_one_id_do_not_end_each_other() -> None:
    client = served()
    client.say(upload("8"), upload("9"))
    first, second = client.shell.running
    client.shell.finish(first, "first")
    client.say(item(5, "9"))
    assert second.incoming[0].receive_nowait() == 5


def test_a_refused_call_leaves_the_uploads_of_others_alone() -> None:
    client = served()
    client.say(upload("9", id="1"), invoke("Nothing", id="2", streamIds=["9"]), item(5, "9"))
    assert client.shell.find("Upload").incoming[0].receive_nowait() == 5


def test_reading_stops_while_an_upload_is_not_read() -> None:
    client = served(stream_buffer=3)
    client.say(upload("2"), *(item(n, "2") for n in range(10)), invoke("Add", 1, 2, id="3"))
    (items,) = client.shell.find("Upload").incoming
    assert len(items) == 4  # the buffer, and the one that is too many
    assert not client.session.want_read
    assert client.hear() == []
    assert items.receive_nowait() == 0
    assert client.hear() == []
    assert len(items) == 4
    for expected in range(1, 10):
        assert items.receive_nowait() == expected
        client.session.data_to_send(now=0.0)
    client.shell.run()
    assert client.session.want_read


def test_reading_goes_on_when_the_method_ends_without_reading() -> None:
    client = served(stream_buffer=3)
    client.say(upload("2"), *(item(n, "2") for n in range(10)), invoke("Add", 1, 2, id="3"))
    client.shell.finish(client.shell.find("Upload"), "enough")
    assert client.hear() == [completion(result="enough"), completion("3", result=3)]


def test_the_end_in_order_comes_behind_an_upload_that_is_not_read_yet() -> None:
    client = served(stream_buffer=1)
    client.say(upload("2"), item(1, "2"), item(2, "2"), item(3, "2"), completion("2"))
    client.session.receive_eof(now=0.0)
    call = client.shell.find("Upload")
    (items,) = call.incoming
    assert client.hear() == []
    assert items.receive_nowait() == 1
    client.session.data_to_send(now=0.0)
    assert items.receive_nowait() == 2
    assert client.hear() == [GOODBYE]
    assert items.receive_nowait() == 3
    with pytest.raises(EndOfStream):
        items.receive_nowait()
    assert client.shell.asked_to_cancel == [call]


@pytest.mark.parametrize("end", ["broken", "close", "shutdown"])
def test_a_sudden_end_is_noticed_though_an_upload_is_not_read(end: str) -> None:
    client = served(stream_buffer=1)
    client.say(upload("2"), item(1, "2"), item(2, "2"), item(3, "2"))
    if end == "broken":
        client.session.receive_eof(TransportError("reset"), now=1.0)
    elif end == "close":
        client.session.abort()
    else:
        client.session.shut_down(now=0.0)
        client.session.handle_timeout(now=60.0)
    client.hear(now=60.0)
    client.shell.cancel_asked()
    client.hear(now=60.0)
    assert client.session.finished


def test_both_ways_at_once() -> None:
    client = served()
    client.say(stream("Both", streamIds=["2"]), item(1, "2"))
    call = client.shell.find("Both")
    client.session.send_item(call, call.incoming[0].receive_nowait())
    client.say(completion("2"))
    client.shell.finish(call)
    assert client.hear() == [item(1, "1"), completion()]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_end_cancels_what_only_the_client_could_have_used() -> None:
    client = HubPeer(HUB, HubConfig(max_parallel_calls=3))
    client.say(
        invoke("Slow", 1, id="1"),
        invoke("Slow", 2, id=None),
        stream("Count", 1, id="3"),
        upload("5", id=None),
    )
    asked, told, counting, uploading = client.shell.running
    assert uploading.incoming[0].ended is False
    client.session.receive_eof(TransportError("reset"), now=0.0)
    client.shell.run()
    assert client.shell.asked_to_cancel == [asked, counting, uploading]
    with pytest.raises(HubError, match=r"^The underlying connection was closed\.$"):
        uploading.incoming[0].receive_nowait()
    client.shell.cancel_asked()
    assert client.shell.running == [told]
    client.shell.finish(told)
    assert client.session.finished
    assert isinstance(client.session.error, TransportError)


def test_nothing_is_sent_after_the_end() -> None:
    client = served()
    client.say(invoke("Slow", 1), stream("Count", 1, id="2"))
    slow, count = client.shell.running
    client.say({"type": 7})
    client.session.send_item(count, 1)
    client.shell.finish(slow, 1)
    client.shell.fail(count, ValueError())
    assert client.hear() == [{"type": 7}]
    assert client.session.closed is not None
    assert client.session.closed.error is None


def test_nothing_behind_a_close_message_is_run() -> None:
    client = served()
    assert client.ask({"type": 7, "error": "bye"}, invoke("Add", 1, 2)) == [{"type": 7}]
    assert str(client.session.error) == "bye"


def test_an_aborted_client_is_told_not_to_come_back() -> None:
    client = served()
    assert client.ask(invoke("AbortMe"), invoke("Add", 1, 2)) == [{"type": 7}]
    assert client.session.finished


def test_a_client_that_breaks_the_protocol_is_told_and_others_do_not_notice() -> None:
    registry, shell = Registry(), Shell()
    bad = HubPeer(HUB, name="bad", registry=registry, shell=shell)
    good = HubPeer(HUB, name="good", registry=registry, shell=shell)
    bad.say_bytes(b"junk\x1e")
    assert bad.hear() == [{"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}]
    assert isinstance(bad.session.error, RemoteProtocolError)
    assert good.ask(invoke("Add", 1, 2)) == [completion(result=3)]
    assert list(registry.connections) == ["good"]


# --- hooks -----------------------------------------------------------------------------------------------------------


def hooked(*, waits: bool = False) -> tuple[Hub, list[Any]]:
    hub, seen = Hub(), list[Any]()

    @hub.on_connected
    def connected(call: Call) -> object:
        seen.append(("connected", call.connection_id))
        return WAITS if waits else None

    @hub.on_disconnected
    def disconnected(call: Call, error: Exception | None) -> None:
        seen.append(("disconnected", call.connection_id, error))

    @hub.method("Note")
    def note() -> None:
        seen.append("call")

    return hub, seen


def test_hooks_run_first_and_last() -> None:
    hub, seen = hooked()
    client = HubPeer(hub)
    client.ask(invoke("Note"))
    client.ask({"type": 7})
    assert seen == [("connected", "c1"), "call", ("disconnected", "c1", None)]
    assert client.session.finished


def test_no_call_is_taken_before_the_first_hook_ends() -> None:
    hub, seen = hooked(waits=True)
    client = HubPeer(hub)
    assert client.ask(invoke("Note")) == []
    assert not client.session.want_read
    client.shell.finish(client.shell.find("on_connected"))
    assert client.hear() == [completion(result=None)]
    assert seen == [("connected", "c1"), "call"]


def test_the_last_hook_learns_what_went_wrong() -> None:
    hub, seen = hooked()
    client = HubPeer(hub)
    lost = TransportError("reset")
    client.session.receive_eof(lost, now=0.0)
    client.shell.run()
    assert seen[-1] == ("disconnected", "c1", lost)


@pytest.mark.parametrize(
    ("error", "detailed", "text"),
    [
        (ValueError("secret"), False, "Connection closed with an error."),
        (ValueError("detail"), True, "Connection closed with an error. ValueError: detail"),
        (HubError("not you"), False, "Connection closed with an error. HubException: not you"),
    ],
)
def test_a_first_hook_that_raises_ends_the_connection_without_the_last(
    error: Exception, detailed: bool, text: str
) -> None:
    hub, seen = hooked(waits=True)
    client = HubPeer(hub, HubConfig(detailed_errors=detailed))
    client.say(invoke("Note"))
    client.shell.fail(client.shell.find("on_connected"), error)
    assert client.hear() == [{"type": 7, "error": text}]
    assert seen == [("connected", "c1")]
    assert client.session.finished


def test_the_last_hook_waits_for_the_first() -> None:
    hub, seen = hooked(waits=True)
    client = HubPeer(hub)
    client.session.receive_eof(now=0.0)
    client.shell.run()
    assert not client.session.finished
    assert client.shell.asked_to_cancel == []
    client.shell.finish(client.shell.find("on_connected"))
    client.hear()
    assert seen == [("connected", "c1"), ("disconnected", "c1", None)]
    assert client.session.finished


def test_a_first_hook_may_outlive_the_connection() -> None:
    hub, seen = hooked(waits=True)
    client = HubPeer(hub)
    lost = TransportError("reset")
    client.session.receive_eof(lost, now=0.0)
    client.shell.run()
    assert client.session.closed is not None
    assert not client.session.finished
    assert client.shell.asked_to_cancel == []
    client.shell.finish(client.shell.find("on_connected"))
    assert seen == [("connected", "c1"), ("disconnected", "c1", lost)]
    assert client.session.finished


def test_the_last_hook_takes_no_error_if_it_does_not_want_it() -> None:
    hub, seen = Hub(), list[str]()
    hub.on_disconnected(lambda: seen.append("gone"))
    client = HubPeer(hub)
    client.ask({"type": 7})
    assert seen == ["gone"]


def test_a_last_hook_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()

    @hub.on_disconnected
    def disconnected() -> None:
        raise ValueError("broken")

    client = HubPeer(hub)
    client.ask({"type": 7})
    assert client.session.finished
    assert "hub method 'on_disconnected' failed for connection c1: ValueError: broken" in caplog.messages


def test_no_hook_runs_without_a_handshake() -> None:
    hub, seen = hooked()
    owner = object()
    client = HubPeer(hub, registry=Registry(owner), handshake=False)
    client.say_bytes(b"junk\x1e")
    assert client.session.finished
    assert client.shell.was_woken(owner)
    assert seen == []


def test_its_owner_is_woken_when_a_session_is_finished() -> None:
    owner = object()
    client = HubPeer(HUB, registry=Registry(owner))
    client.shell.woken.clear()
    client.ask({"type": 7})
    assert client.shell.woken.count(owner) == 1


# --- shutting down ---------------------------------------------------------------------------------------------------

GOODBYE = {"type": 7, "allowReconnect": True}


def test_an_idle_client_is_sent_away_at_once() -> None:
    client = served()
    client.session.shut_down(now=0.0)
    client.session.shut_down(now=0.0)
    assert client.hear() == [GOODBYE]
    assert client.session.finished


def test_running_calls_may_end_but_none_is_begun() -> None:
    client = served(shutdown_timeout=5.0)
    client.say(invoke("Slow", 1))
    client.session.shut_down(now=1.0)
    assert client.session.next_timeout() == 6.0
    assert client.ask(invoke("Add", 1, 2, id="2")) == []
    client.shell.finish(client.shell.find("Slow"), 1)
    assert client.hear() == [completion(result=1), GOODBYE]


def test_calls_that_do_not_end_in_time_are_cancelled() -> None:
    client = served(shutdown_timeout=5.0)
    client.say(invoke("Slow", 1), stream("Count", 1, id="2"))
    client.session.shut_down(now=1.0)
    client.session.handle_timeout(now=5.9)
    assert client.shell.asked_to_cancel == []
    client.session.handle_timeout(now=6.0)
    client.shell.cancel_asked()
    error = "An unexpected error occurred invoking '{}' on the server."  # nobody may take them for done
    assert client.hear(6.0) == [
        completion("1", error=error.format("Slow")),
        completion("2", error=error.format("Count")),
        GOODBYE,
    ]


def test_a_call_cancelled_by_the_shutdown_that_answers_all_the_same_has_one_completion() -> None:
    client = served(shutdown_timeout=5.0, max_parallel_calls=3)
    client.say(invoke("Slow", 1, id="1"), invoke("Slow", 2, id="2"), invoke("Slow", 3, id="3"))
    client.session.shut_down(now=1.0)
    client.session.handle_timeout(now=6.0)
    client.shell.run()
    stubborn, angry, late = client.shell.asked_to_cancel
    client.shell.finish(stubborn, "done")
    client.shell.fail(angry, HubError("no"))
    client.session.call_cancelled(angry)
    assert client.hear(6.0) == [
        completion("1", result="done"),
        completion("2", error=THREW.format("Slow") + " HubException: no"),
    ]
    client.shell.finish(late, "late")
    assert client.hear(9.0) == [completion("3", result="late"), GOODBYE]


def test_what_is_cut_short_is_closed_at_once_and_cancelled_once_more() -> None:
    hub = make_hub()
    hub.on_disconnected(lambda: WAITS)
    client = HubPeer(hub, HubConfig(max_parallel_calls=2))
    client.say(invoke("Slow", 1), invoke("Slow", 2, id=None), invoke("Add", 1, 2, id="3"))
    asked, told = client.shell.running
    client.session.cut_short(now=0.0)
    assert client.hear() == [GOODBYE]
    hook = client.shell.find("on_disconnected")
    assert client.shell.asked_to_cancel == [asked, told, hook]
    client.session.cut_short(now=0.0)
    client.shell.run()
    assert client.shell.asked_to_cancel == [asked, told, hook, asked, told, hook]
    client.shell.cancel(asked)
    client.shell.finish(told)
    assert [client.session.finished] == [False]
    client.shell.cancel(hook)
    assert [client.session.finished] == [True]
    assert client.hear() == []


@pytest.mark.parametrize("outcome", [True, False, ValueError("broken")], ids=["allowed", "refused", "broken"])
def test_what_a_policy_decides_when_all_has_been_cut_short_interests_nobody(
    outcome: bool | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()

    async def policy(authorization: Authorization) -> bool:
        raise NotImplementedError

    hub.method("Guarded", requires=policy)(lambda: None)
    client = HubPeer(hub)
    client.say(invoke("Guarded"))
    (check,) = client.shell.running
    client.session.cut_short(now=0.0)
    if isinstance(outcome, Exception):
        client.shell.fail(check, outcome)
    else:
        client.shell.finish(check, outcome)
    assert client.hear() == [GOODBYE]
    assert client.session.finished
    assert client.shell.labels() == []
    assert len(caplog.records) == isinstance(outcome, Exception)  # which is a mistake all the same


def test_calls_of_a_client_that_has_left_can_be_cancelled() -> None:
    client = served()
    client.say(invoke("Slow", 1, id=None), {"type": 7})
    (told,) = client.shell.running
    client.session.cancel_all()
    client.session.cancel_all()
    client.shell.run()
    assert client.shell.asked_to_cancel == [told]
    client.shell.cancel(told)
    assert client.session.finished


@pytest.mark.parametrize("handshake", [b"", HANDSHAKE])
def test_a_client_in_its_handshake_is_sent_away_too(handshake: bytes) -> None:
    client = HubPeer(HUB, HubConfig(shutdown_timeout=5.0), handshake=False)
    client.session.shut_down(now=0.0)
    client.say_bytes(handshake)
    client.session.handle_timeout(now=5.0)
    client.hear(5.0)
    assert client.session.finished


def test_a_call_that_runs_does_not_speak_for_its_client() -> None:
    client = served(silence_timeout=5.0)
    client.say({"type": 6}, now=0.5)
    client.say(invoke("Slow", 1), now=1.0)
    assert client.session.next_timeout() == 6.0
    client.session.handle_timeout(now=6.0)
    client.hear(6.0)
    assert isinstance(client.session.error, TransportError)


def test_a_client_whose_calls_wait_is_not_held_to_be_silent() -> None:
    client = served(silence_timeout=5.0)
    client.say({"type": 6}, invoke("Slow", 1, id="1"), invoke("Slow", 2, id="2"))
    client.session.handle_timeout(now=60.0)
    client.shell.finish(client.shell.find("Slow"))
    client.hear(60.0)
    assert client.session.next_timeout() == 65.0
    client.session.handle_timeout(now=65.0)
    client.hear(65.0)
    assert isinstance(client.session.error, TransportError)


def test_a_client_that_we_do_not_listen_to_is_not_held_to_be_silent() -> None:
    client = served(silence_timeout=5.0, keep_alive_interval=100.0, send_buffer=100)
    client.say({"type": 6}, stream("Count", 1))
    call = client.shell.find("Count")
    while has_room(client.session):
        client.session.send_item(call, "x" * 30)
    client.say({"type": 6}, now=4.0)
    client.session.handle_timeout(now=10.0)
    assert client.session.closed is None
    client.hear(20.0)
    assert client.session.next_timeout() == 25.0


def test_silence_and_pings_are_as_on_any_connection() -> None:
    client = served(keep_alive_interval=10.0, silence_timeout=12.0)
    client.say({"type": 6})
    client.session.handle_timeout(now=10.0)
    assert client.hear(10.0) == [{"type": 6}]
    client.session.handle_timeout(now=12.0)
    client.shell.run()
    assert isinstance(client.session.error, TransportError)
    assert client.hear(12.0) == [{"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}]


# --- stateful reconnect: what goes on while there is no transport, and what waits ------------------------------------

CUT = TransportError("cut")


def resumable(**settings: Any) -> HubPeer:
    return HubPeer(HUB, HubConfig(**{"keep_alive_interval": 1e6, **settings}), stateful=True)


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


def ack(number: int) -> dict[str, Any]:
    return {"type": 8, "sequenceId": number}


def test_a_transport_can_be_replaced_only_if_that_was_offered() -> None:
    shell = Shell()
    session = HubSession(HUB, [JsonCodec()], connection_id="c1", effects=shell.effects, now=0.0)
    session.receive_data(HANDSHAKE_2, now=0.0)
    assert not session.stateful
    session.receive_eof(CUT, now=0.0)
    assert session.error is CUT


def test_nothing_fails_while_the_transport_is_lost() -> None:
    client = resumable()
    client.say(invoke("Slow", 1), stream("Count", 1, id="2"), upload("4", id="3"))
    client.session.receive_eof(CUT, now=0.0)
    client.shell.run()
    assert client.shell.asked_to_cancel == []
    assert (client.session.is_lost, client.session.closed, client.session.want_read) == (True, None, False)
    assert client.shell.labels() == ["Slow", "Count", "Upload"]
    client.shell.finish(client.shell.find("Slow"), 5)
    assert client.session.send_item(client.shell.find("Count"), 7)
    carrier = client.session.carrier = object()
    client.session.resume()
    assert client.shell.was_woken(carrier)
    assert client.hear() == [sequence(1), completion(result=5), item(7, "2")]


def test_everything_ends_when_nobody_resumes() -> None:
    client = resumable(resume_window=3.0)
    assert client.session.stateful
    client.say(invoke("Slow", 1), upload("4", id="3"))
    (items,) = client.shell.find("Upload").incoming
    client.session.receive_eof(CUT, now=1.0)
    assert client.session.next_timeout() == 4.0
    client.session.handle_timeout(now=4.0)
    client.shell.cancel_asked()
    client.session.push(b"too late\x1e")
    assert client.session.finished
    assert isinstance(client.session.error, TransportError)
    assert client.hear(4.0) == []
    with pytest.raises(HubError, match="^The underlying connection was closed.$"):
        items.receive_nowait()
    with pytest.raises(LocalProtocolError):
        client.session.resume()


def test_a_server_that_shuts_down_does_not_wait_for_a_lost_client() -> None:
    client = resumable()
    client.session.receive_eof(CUT, now=0.0)
    client.session.shut_down(now=0.0)
    assert client.hear() == []
    assert client.session.finished


def test_a_stream_pauses_while_too_much_waits_for_a_new_transport() -> None:
    client = resumable(send_buffer=100)
    client.say(stream("Count", 1))
    call = client.shell.find("Count")
    client.session.carrier = object()
    client.session.receive_eof(CUT, now=0.0)
    while has_room(client.session):
        client.session.send_item(call, "x" * 30)
    assert client.session.data_to_send(now=0.0) == b""
    assert not client.shell.was_woken(client.session)
    client.session.resume()
    assert client.session.data_to_send(now=0.0) != b""
    assert client.shell.was_woken(client.session)
    assert has_room(client.session)


@pytest.mark.parametrize("lost", [True, False])
def test_a_client_that_is_sent_far_more_than_it_acknowledges_is_given_up(
    lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    client = resumable(send_limit=500, replay_buffer=100)
    if lost:
        client.session.receive_eof(CUT, now=0.0)
    while client.session.closed is None:
        client.session.push(b"x" * 60 + b"\x1e")
        client.session.data_to_send(now=0.0)
    assert "it leaves more than 500 bytes unread" in caplog.text


def test_calls_are_taken_while_results_wait_for_acks_up_to_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """The Acks come behind these calls: not to read on would be to wait for ever."""
    client = resumable(send_buffer=50, replay_buffer=50, send_limit=1000)
    calls = [invoke("Add", number, 0, id=str(number)) for number in range(12)]
    client.say(*calls)
    heard = client.hear()
    assert 0 < len(heard) < 12
    for acknowledged in range(1, 12):
        heard += client.ask(ack(acknowledged))
    assert heard == [completion(str(number), result=number) for number in range(12)]
    assert has_room(client.session)
    client.say(*(invoke("Add", number, 0, id=str(number)) for number in range(50)))
    client.hear()
    assert client.session.closed is not None
    assert "it leaves more than 1000 bytes unread" in caplog.text


def test_a_call_that_waits_for_its_slot_is_not_overtaken_while_results_wait_for_acks() -> None:
    client = resumable(send_buffer=50, replay_buffer=50)
    client.say(*(invoke("Add", 1, 1, id=str(number)) for number in range(5)))
    assert len(client.hear()) == 2
    client.say(invoke("Slow", 1, id="6"), invoke("Slow", 1, id="7"), ack(2))
    assert client.hear() == []
    client.shell.finish(client.shell.find("Slow"))
    assert len(client.hear()) == 2
    assert client.session.want_read


def test_a_stream_that_waits_for_acks_does_not_wait_for_ever_behind_an_upload_that_waits_for_it() -> None:
    client = resumable(stream_buffer=2, stream_buffer_limit=6, send_buffer=50, replay_buffer=50)
    client.say({"type": 4, "invocationId": "1", "target": "Both", "arguments": [], "streamIds": ["2"]})
    call = client.shell.find("Both")
    (uploaded,) = call.incoming
    while has_room(client.session):
        client.session.send_item(call, "x" * 20)
        client.session.data_to_send(now=0.0)
    client.say(*(item(n, "2") for n in range(5)), ack(1))  # the method does not read: it waits for room
    assert len(uploaded) == 5
    assert len(client.hear()) == 1
    client.session.send_item(call, "x" * 20)
    client.say(*(item(n, "2") for n in range(3)), ack(2))
    assert client.hear() == []
    assert len(uploaded) == 7  # there is a limit to this
    assert not client.session.want_read
    uploaded.receive_nowait()
    uploaded.receive_nowait()
    assert len(client.hear()) == 1
    assert len(uploaded) == 6


def test_a_stream_that_was_full_before_the_cut_does_not_hold_back_the_acks_after_it() -> None:
    client = resumable(stream_buffer=2, send_buffer=50, replay_buffer=50)
    client.say({"type": 4, "invocationId": "1", "target": "Both", "arguments": [], "streamIds": ["2"]})
    call = client.shell.find("Both")
    client.say(*(item(n, "2") for n in range(3)))
    assert len(call.incoming[0]) == 3
    client.session.receive_eof(CUT, now=0.0)
    for _ in range(4):
        client.session.send_item(call, "x" * 20)
    client.session.resume()
    client.hear()
    assert client.session.want_read
    client.say(ack(1))
    assert len(client.hear()) == 1
