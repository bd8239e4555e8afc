"""What runs around the methods of a hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from types import coroutine
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, HubFilter, HubInvocation, Next
from tests.kit.shell import HubPeer


def invoke(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


def completion(**outcome: Any) -> dict[str, Any]:
    return {"type": 3, "invocationId": "1", **outcome}


def finish(waiting: Coroutine[Any, Any, Any]) -> Any:
    """What something to be awaited that never waits returns."""
    with pytest.raises(StopIteration) as caught:
        waiting.send(None)
    return caught.value.value


def ask(hub: Hub, target: str, *arguments: Any, config: HubConfig | None = None) -> dict[str, Any]:
    """Call a method in whose way nothing waits."""
    peer = HubPeer(hub, config)
    peer.say(invoke(target, *arguments))
    (call,) = peer.shell.running
    peer.shell.step(call)
    (answer,) = peer.hear()
    assert isinstance(answer, dict)
    return answer


class Log(HubFilter):
    """Notes what comes by."""

    def __init__(self, name: str, noted: list[Any]) -> None:
        self.name = name
        self.noted = noted

    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        self.noted.append((self.name, invocation.method, list(invocation.arguments)))
        result = await call_next(invocation)
        self.noted.append((self.name, result))
        return result


class Watch(Log):
    """Notes who comes and goes, too."""

    async def connected(self, call: Call, call_next: Next) -> None:
        self.noted.append((self.name, "connecting", call.connection_id))
        await call_next(call)
        self.noted.append((self.name, "connected"))

    async def disconnected(self, call: Call, error: Exception | None, call_next: Next) -> None:
        self.noted.append((self.name, "disconnecting", error))
        await call_next(call, error)
        self.noted.append((self.name, "disconnected"))


def make_hub(*filters: HubFilter) -> Hub:
    hub = Hub()
    for one in filters:
        hub.add_filter(one)

    @hub.method("Add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    @hub.method("Wait")
    async def wait(x: int) -> int:
        return x

    @hub.method("Fail")
    async def fail(text: str) -> None:
        raise HubError(text)

    @hub.method("Who")
    def who(first: str, call: Call, *, quiet: bool = False) -> str:
        return first + call.connection_id

    @hub.method("Rest")
    def rest(one: Call, two: Call | None, *values: int) -> int:
        assert one is two
        return sum(values)

    @hub.method("Count")
    async def count(to: int) -> AsyncIterator[int]:
        yield to

    @hub.method("Upload")
    async def upload(label: str, call: Call, items: AsyncIterator[int], more: str = "more") -> Any:
        return [label, call.connection_id, items, more]

    return hub


def test_a_hub_without_filters_runs_its_functions_themselves() -> None:
    hub = make_hub()
    assert hub.lookup("Add").signature.inline
    assert (hub.connected_hook, hub.disconnected_hook) == (None, None)
    hub.add_filter(HubFilter())  # it only goes on
    assert hub.lookup("Add").signature.inline
    assert (hub.connected_hook, hub.disconnected_hook) == (None, None)


@pytest.mark.parametrize("late", [False, True], ids=["added first", "added last"])
@pytest.mark.parametrize(
    ("target", "arguments", "seen", "result"),
    [
        ("Add", [2], [2, 1], 3),
        ("Add", [2, 3], [2, 3], 5),
        ("wAIT", [2], [2], 2),
        ("Who", ["I am "], ["I am "], "I am c1"),
        ("Rest", [1, 2, 3], [1, 2, 3], 6),
        ("Rest", [], [], 0),
    ],
)
def test_the_first_filter_is_the_outermost(
    target: str, arguments: list[Any], seen: list[Any], result: Any, late: bool
) -> None:
    noted: list[Any] = []
    filters = Log("a", noted), Log("b", noted)
    hub = make_hub(*(() if late else filters))
    for one in filters if late else ():
        hub.add_filter(one)
    assert ask(hub, target, *arguments) == completion(result=result)
    name = hub.lookup(target).name
    assert noted == [("a", name, seen), ("b", name, seen), ("b", result), ("a", result)]


def test_streams_are_among_the_arguments() -> None:
    noted: list[Any] = []
    peer = HubPeer(make_hub(Log("a", noted)))
    peer.say(invoke("Upload", "label", streamIds=["5"]))
    call = peer.shell.find("Upload")
    assert finish(call.function(*peer.session.build_arguments(call, ["items"]))) == ["label", "c1", "items", "more"]
    assert noted[0] == ("a", "Upload", ["label", "items", "more"])


def test_a_method_s_stream_is_its_result() -> None:
    noted: list[Any] = []
    peer = HubPeer(make_hub(Log("a", noted)))
    peer.say({**invoke("Count", 5), "type": 4})
    call = peer.shell.find("Count")
    assert call.streams
    stream = finish(call.function(*peer.session.build_arguments(call, ())))
    assert peer.session.open_stream(call, stream) is stream is noted[1][1]


class Change(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        if invocation.method == "Add":
            invocation.arguments[0] *= 10
        else:
            invocation.arguments = ["You are "]
        return {"result": await call_next(invocation)}


def test_arguments_and_results_may_be_changed() -> None:
    assert ask(make_hub(Change()), "Add", 2, 3) == completion(result={"result": 23})
    assert ask(make_hub(Change()), "Who", "I am ") == completion(result={"result": "You are c1"})
    noted: list[Any] = []
    assert ask(make_hub(Change(), Log("b", noted)), "Add", 2, 3) == completion(result={"result": 23})
    assert noted == [("b", "Add", [20, 3]), ("b", 23)]


class Cut(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        invocation.arguments = []
        return await call_next(invocation)


def test_arguments_that_do_not_fit_any_more_are_a_failure_of_the_method() -> None:
    answer = ask(make_hub(Cut()), "Who", "I am ", config=HubConfig(detailed_errors=True))
    assert answer["error"].startswith("An unexpected error occurred invoking 'Who' on the server. TypeError: ")


class Refuse(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        raise HubError(f"no {invocation.method}")


class Answer(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        return "instead"


class Twice(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        return [await call_next(invocation), await call_next(invocation)]


class Forgive(HubFilter):
    async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        try:
            return await call_next(invocation)
        except HubError as error:
            return str(error)


class Plain(HubFilter):
    def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
        return call_next(invocation) if invocation.method == "Add" else "at once"


THREW = "An unexpected error occurred invoking 'Add' on the server."


@pytest.mark.parametrize(
    ("filters", "call", "outcome"),
    [
        ([Refuse()], ("Add", 1), {"error": f"{THREW} HubException: no Add"}),
        ([Forgive(), Refuse()], ("Add", 1), {"result": "no Add"}),
        ([Forgive()], ("Fail", "text"), {"result": "text"}),
        ([Twice()], ("Add", 1), {"result": [2, 2]}),
        ([Twice()], ("Who", "I am "), {"result": ["I am c1", "I am c1"]}),
        ([Twice(), Change()], ("Add", 1), {"result": [{"result": 11}, {"result": 101}]}),
        ([Answer(), Refuse()], ("Add", 1), {"result": "instead"}),
        ([Plain(), Change()], ("Add", 1), {"result": {"result": 11}}),
        ([Change(), Plain()], ("Who", "x"), {"result": {"result": "at once"}}),
        ([HubFilter(), Change()], ("Add", 1), {"result": {"result": 11}}),
    ],
)
def test_a_filter_may_go_on_or_not(filters: list[HubFilter], call: tuple[Any, ...], outcome: Any) -> None:
    assert ask(make_hub(*filters), *call) == completion(**outcome)


def test_calls_that_do_not_reach_the_method_do_not_reach_the_filters() -> None:
    noted: list[Any] = []
    peer = HubPeer(make_hub(Log("a", noted)))
    answers = peer.ask(
        invoke("Add", "x"),
        invoke("Nowhere"),
        invoke("Count", 1),
        {**invoke("Add", 1), "type": 4},
        invoke("Upload", "l"),
    )
    assert len([answer for answer in answers if "error" in answer]) == 5
    assert (noted, peer.shell.running) == ([], [])


def test_calls_that_are_not_allowed_do_not_reach_the_filters() -> None:
    noted: list[Any] = []
    hub = Hub()
    hub.method("Late", requires=["admin"])(lambda: None)
    hub.add_filter(Log("a", noted))
    hub.method("Early", requires=["admin"])(lambda: None)
    answers = HubPeer(hub).ask(invoke("Late"), invoke("Early"))
    assert [answer["error"] for answer in answers] == [
        f"Failed to invoke '{name}' because user is unauthorized" for name in ("Late", "Early")
    ]
    assert noted == []


def test_filters_may_look_at_the_function_and_at_the_call() -> None:
    seen: list[Any] = []

    class Look(HubFilter):
        async def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
            seen.append((invocation.function, invocation.is_stream, invocation.call.connection_id))
            return await call_next(invocation)

    hub = make_hub()
    function = hub.lookup("Add").function
    hub.add_filter(Look())
    ask(hub, "Add", 1)
    assert seen == [(function, False, "c1")]


def test_filters_do_not_change_what_a_hub_offers() -> None:
    plain, filtered = make_hub().describe(), make_hub(Answer()).describe()
    assert plain == filtered
    assert plain["methods"].keys() >= {"Add", "Who", "Rest", "Upload"}


def test_only_instances_are_filters() -> None:
    for wrong in (Refuse, object()):
        with pytest.raises(TypeError, match="a filter is an instance of a class that derives from HubFilter, not"):
            Hub().add_filter(wrong)  # type: ignore[arg-type]


def test_what_a_filter_passes_through_is_to_be_awaited() -> None:
    noted: list[Any] = []
    call: Any = object()

    def last(*arguments: Any) -> Any:
        return Log("last", noted).invoke(HubInvocation(call, "x", arguments, last, False), last_but_one)

    def last_but_one(invocation: HubInvocation) -> Any:
        async def nothing() -> None: ...

        return nothing()

    finish(HubFilter().invoke(last, last))  # type: ignore[arg-type]
    finish(HubFilter().connected(call, last))  # type: ignore[arg-type]
    finish(HubFilter().disconnected(call, None, last))  # type: ignore[arg-type]
    assert [len(arguments) for _, _, arguments in noted[::2]] == [1, 1, 2]


# --- what next gives -------------------------------------------------------------------------------------------------


@coroutine
def steps() -> Generator[str, str, str]:
    """A function in the old style: it can be awaited, and is neither a coroutine nor has it __await__."""
    heard = yield "first"
    try:
        yield f"heard {heard}"
    except ValueError as error:
        return f"caught {error}"
    raise NotImplementedError


async def waits() -> str:
    return await steps()


@pytest.mark.parametrize("function", [steps, waits])
def test_next_gives_a_coroutine(function: Any) -> None:
    given: list[Any] = []

    class Take(HubFilter):
        def invoke(self, invocation: HubInvocation, call_next: Next) -> Any:
            given.append(call_next(invocation))

    hub = make_hub(Take())
    hub.method("Steps")(function)
    for _ in range(3):
        ask(hub, "Steps")
    assert [asyncio.iscoroutine(one) for one in given] == [True] * 3
    first, second, third = given
    assert first.send(None) == "first"
    assert first.send("it") == "heard it"
    with pytest.raises(StopIteration) as caught:
        first.throw(ValueError("no"))
    assert caught.value.value == "caught no"
    assert second.send(None) == "first"
    second.close()
    with pytest.raises(StopIteration):
        second.send(None)
    third.close()  # what was never begun


# --- connections -----------------------------------------------------------------------------------------------------


class Guarded(Watch):
    async def connected(self, call: Call, call_next: Next) -> None:
        if self.name == "no entry":
            raise HubError("not you")
        if self.name == "open door":
            return
        await super().connected(call, next)


def connect(hub: Hub) -> HubPeer:
    peer = HubPeer(hub)
    for call in list(peer.shell.running):
        peer.shell.step(call)
    return peer


def leave(peer: HubPeer) -> None:
    peer.say({"type": 7})
    for call in list(peer.shell.running):
        peer.shell.step(call)
    assert peer.session.finished


@pytest.mark.parametrize("own", ["plain", "async", "no parameters", "any parameters", "none"])
@pytest.mark.parametrize("late", [False, True], ids=["added first", "added last"])
def test_filters_run_around_the_beginning_and_the_end(own: str, late: bool) -> None:
    noted: list[Any] = []
    hub = Hub()
    filters = Watch("a", noted), Watch("b", noted)

    def hello(call: Call) -> None:
        noted.append(("hub", call.connection_id))

    async def hello_later(call: Call) -> None:
        noted.append(("hub", call.connection_id))

    def bye(error: Exception | None, call: Call) -> None:
        noted.append(("hub", error, call.connection_id))

    async def bye_later(error: Exception | None, call: Call) -> None:
        noted.append(("hub", error, call.connection_id))

    def nothing() -> None:
        noted.append("hub")

    def anything(*values: Any) -> None:
        noted.append(("hub", *values))

    hooks: dict[str, Any] = {
        "plain": (hello, bye),
        "async": (hello_later, bye_later),
        "no parameters": (nothing, nothing),
        "any parameters": (anything, anything),
    }
    for one in () if late else filters:
        hub.add_filter(one)
    if own != "none":
        hub.on_connected(hooks[own][0])
        hub.on_disconnected(hooks[own][1])
    for one in filters if late else ():
        hub.add_filter(one)
    expected: dict[str, tuple[list[Any], list[Any]]] = {
        "no parameters": (["hub"], ["hub"]),
        "any parameters": ([("hub",)], [("hub",)]),
        "none": ([], []),
    }
    first, last = expected.get(own, ([("hub", "c1")], [("hub", None, "c1")]))
    peer = connect(hub)
    assert noted == [
        ("a", "connecting", "c1"),
        ("b", "connecting", "c1"),
        *first,
        ("b", "connected"),
        ("a", "connected"),
    ]
    noted.clear()
    leave(peer)
    assert noted == [
        *[("a", "disconnecting", None), ("b", "disconnecting", None)],
        *last,
        *[("b", "disconnected"), ("a", "disconnected")],
    ]


def test_no_call_is_taken_before_the_filters_have_let_the_client_in() -> None:
    noted: list[Any] = []
    peer = HubPeer(make_hub(Watch("a", noted)))
    peer.say(invoke("Add", 1))
    assert peer.shell.labels() == ["on_connected"]
    peer.shell.step(peer.shell.find("on_connected"))
    peer.hear()
    peer.shell.step(peer.shell.find("Add"))
    assert peer.hear() == [completion(result=2)]


def test_who_is_not_let_in_does_not_leave() -> None:
    noted: list[Any] = []
    hub = Hub()
    hub.add_filter(Watch("a", noted))
    hub.add_filter(Guarded("no entry", noted))
    hub.on_connected(lambda: noted.append("never"))
    peer = connect(hub)
    assert peer.hear() == [
        {"type": 7, "error": "Connection closed with an error. HubException: not you"},
    ]
    assert peer.session.finished
    assert noted == [("a", "connecting", "c1")]


def test_a_filter_may_let_in_past_the_hub() -> None:
    noted: list[Any] = []
    hub = Hub()
    hub.add_filter(Guarded("open door", noted))
    hub.on_connected(lambda: noted.append("never"))
    peer = connect(hub)
    assert noted == []
    leave(peer)
    assert noted == [("open door", "disconnecting", None), ("open door", "disconnected")]


class FailAtTheEnd(HubFilter):
    async def disconnected(self, call: Call, error: Exception | None, call_next: Next) -> None:
        await call_next(call, error)
        raise ValueError("too late")


def test_a_failure_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    hub.add_filter(FailAtTheEnd())
    assert hub.connected_hook is None
    leave(connect(hub))
    assert "hub method 'on_disconnected' failed for connection c1: ValueError: too late" in caplog.text


def test_clients_are_not_asked_while_one_connects() -> None:
    class Ask(HubFilter):
        async def connected(self, call: Call, call_next: Next) -> None:
            await call.clients.caller.invoke("AskMe")

    hub = Hub(HubConfig(detailed_errors=True))
    hub.add_filter(Ask())
    (answer,) = connect(hub).hear()
    assert answer["error"] == (
        "Connection closed with an error. InvalidOperationException: Client results inside OnConnectedAsync Hub "
        "methods are not allowed."
    )
