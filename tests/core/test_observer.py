"""Observers of a hub's connections and calls."""

from __future__ import annotations

import logging
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from hubproto_core import (
    Call,
    ConnectionInfo,
    Hub,
    HubConfig,
    HubError,
    HubSession,
    ObservedCall,
    ObservedConnection,
    Observer,
    Registry,
    Transport,
    TransportError,
)
from tests.kit.shell import HubPeer, Shell
from tests.kit.wire import HANDSHAKE

current: ContextVar[str] = ContextVar("current", default="nothing")


class Diary(Observer):
    """Notes all that it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.connections: list[ObservedConnection] = []
        self.calls: list[ObservedCall] = []

    def connection_opened(self, connection: ObservedConnection) -> None:
        self.connections.append(connection)
        self.notes.append(("opened", connection.connection_id))

    def connection_closed(
        self, connection: ObservedConnection, *, duration: float, status: str, error: Exception | None
    ) -> None:
        assert connection in self.connections
        self.notes.append(("closed", connection.connection_id, duration, status, error))

    def call_started(self, call: ObservedCall) -> Context | None:
        self.calls.append(call)
        self.notes.append(("started", call.method))
        return None

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        assert call in self.calls
        self.notes.append(("ended", call.method, error, cancelled))


class Setter(Observer):
    """Lets calls run where `current` is what it was there, and a letter more."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def call_started(self, call: ObservedCall) -> Context:
        context = copy_context()
        context.run(current.set, current.get() + self.letter)
        return context


class Faulty(Observer):
    """Cannot do anything."""

    def __init__(self) -> None:
        self.asked = 0

    def __repr__(self) -> str:
        return "faulty"

    def connection_opened(self, connection: ObservedConnection) -> None:
        raise ValueError("opened")

    def connection_closed(self, connection: ObservedConnection, **_: object) -> None:
        raise ValueError("closed")

    def call_started(self, call: ObservedCall) -> Context | None:
        self.asked += 1
        raise ValueError("started")

    def call_ended(self, call: ObservedCall, **_: object) -> None:
        raise ValueError("ended")


def make_hub(*observers: Observer, name: str | None = None) -> Hub:
    hub = Hub(observers=observers, name=name)

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Where")
    def where() -> str:
        return current.get()

    @hub.method("WhereLater")
    async def where_later() -> str:
        return current.get()

    @hub.method("Fail")
    def fail() -> None:
        raise HubError("no")

    @hub.method("Strange")
    def strange() -> object:
        return object()

    @hub.method("Slow")
    async def slow() -> None: ...

    @hub.method("Count")
    async def count() -> Any:
        yield 1

    return hub


def call(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


def test_a_hub_is_called_by_its_name_or_that_of_its_class() -> None:
    class Chat(Hub): ...

    assert [Hub().name, Chat().name, Chat(name="Lobby").name] == ["Hub", "Chat", "Lobby"]


def test_without_observers_nothing_is_kept() -> None:
    peer = HubPeer(make_hub())
    assert make_hub().observation is None
    peer.say(call("Slow"))
    running = peer.shell.find("Slow")
    assert running.observed is None
    assert running.context is None


def test_a_connection_is_told_with_its_duration() -> None:
    diary = Diary()
    registry = Registry()
    shell = Shell()
    info = ConnectionInfo(transport=Transport.WEB_SOCKETS)
    hub = make_hub(diary, name="Chat")
    session = HubSession(
        hub,
        hub.codecs,
        connection_id="c1",
        registry=registry,
        effects=shell.effects,
        info=info,
        user="ann",
        now=10.0,
    )
    (connection,) = diary.connections
    assert (connection.hub, connection.connection_id, connection.user) == ("Chat", "c1", "ann")
    assert connection.transport == "web_sockets"
    session.receive_data(HANDSHAKE + b'{"type":7}\x1e', now=12.5)
    session.handle_timeout(now=20.0)
    assert diary.notes == [("opened", "c1"), ("closed", "c1", 2.5, "normal_closure", None)]


@pytest.mark.parametrize(
    ("transport", "told"),
    [
        (Transport.WEB_SOCKETS, "web_sockets"),
        (Transport.SERVER_SENT_EVENTS, "server_sent_events"),
        (Transport.LONG_POLLING, "long_polling"),
    ],
)
def test_transports_are_called_as_the_conventions_call_them(transport: Transport, told: str) -> None:
    diary = Diary()
    hub = make_hub(diary)
    info = ConnectionInfo(transport=transport)
    HubSession(hub, hub.codecs, connection_id="c1", effects=Shell().effects, info=info, now=0.0)
    assert diary.connections[0].transport == told


def test_a_connection_that_never_shakes_hands_times_out() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary), handshake=False)
    peer.session.handle_timeout(now=15.0)
    assert diary.notes[-1][:4] == ("closed", "c1", 15.0, "timeout")
    assert str(diary.notes[-1][4]) == "no handshake within 15 s"


def test_a_silent_connection_times_out() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.say({"type": 6}, now=1.0)
    peer.session.handle_timeout(now=31.0)
    assert diary.notes[-1][:4] == ("closed", "c1", 31.0, "timeout")


def test_a_connection_that_is_cut_is_a_normal_end_with_an_error() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    error = TransportError("cut")
    peer.session.receive_eof(error, now=1.0)
    assert diary.notes[-1] == ("closed", "c1", 1.0, "normal_closure", error)


def test_a_shutdown_is_told() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.session.shut_down(now=3.0)
    peer.hear(4.0)
    assert diary.notes[-1] == ("closed", "c1", 4.0, "app_shutdown", None)


def test_a_client_that_falls_silent_while_a_shutdown_waits_for_its_call_times_out() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary), HubConfig(shutdown_timeout=100.0))
    peer.say({"type": 6}, call("Slow"))
    peer.session.shut_down(now=3.0)
    peer.session.handle_timeout(now=40.0)
    assert diary.notes[-1][3] == "timeout"


def test_calls_are_told_from_their_start_to_their_end() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.say(call("Add", 1, 2, headers={"traceparent": "00-x"}))
    (told,) = diary.calls
    assert (told.connection, told.method, told.invocation_id) == (diary.connections[0], "Add", "1")
    assert (told.headers, told.is_stream, told.is_hook) == ({"traceparent": "00-x"}, False, False)
    assert diary.notes == [("opened", "c1"), ("started", "Add"), ("ended", "Add", None, False)]


def test_a_call_that_raises_ends_with_its_error() -> None:
    diary = Diary()
    HubPeer(make_hub(diary)).say(call("Fail"))
    *rest, error, cancelled = diary.notes[-1]
    assert (rest, str(error), cancelled) == (["ended", "Fail"], "no", False)


def test_a_result_that_cannot_be_written_is_the_calls_error_and_its_only_end() -> None:
    diary = Diary()
    HubPeer(make_hub(diary)).say(call("Strange"))
    assert [note[0] for note in diary.notes] == ["opened", "started", "ended"]
    assert "cannot be written" in str(diary.notes[-1][2])


def test_a_cancelled_call_ends_without_an_error() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.say(call("Slow", headers={}), {"type": 5, "invocationId": "1"})
    peer.shell.cancel_asked()
    assert diary.notes[-1] == ("ended", "Slow", None, True)


def test_a_stream_is_one_call() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.say({**call("Count"), "type": 4})
    running = peer.shell.find("Count")
    assert diary.calls[0].is_stream
    peer.session.send_item(running, 1)
    assert [note[0] for note in diary.notes] == ["opened", "started"]
    peer.shell.finish(running)
    assert diary.notes[-1] == ("ended", "Count", None, False)


def test_calls_that_are_refused_are_not_told() -> None:
    diary = Diary()
    peer = HubPeer(make_hub(diary))
    peer.say(call("Missing"), call("Add", "x", "y"), call("Count"))
    assert diary.notes == [("opened", "c1")]


def test_hooks_are_told_as_such() -> None:
    diary = Diary()
    hub = make_hub(diary)

    @hub.on_connected
    def connected(call: Call) -> None: ...

    @hub.on_disconnected
    def disconnected() -> None: ...

    peer = HubPeer(hub)
    peer.say({"type": 7})
    assert [(told.method, told.is_hook, told.invocation_id) for told in diary.calls] == [
        ("on_connected", True, None),
        ("on_disconnected", True, None),
    ]
    assert [note[0] for note in diary.notes] == ["opened", "started", "ended", "closed", "started", "ended"]


@pytest.mark.parametrize("target", ["Where", "WhereLater"])
def test_a_call_runs_in_the_context_that_an_observer_gives_it(target: str) -> None:
    peer = HubPeer(make_hub(Diary(), Setter("a"), Diary(), Setter("b")))
    for _ in range(2):
        peer.say(call(target))
        for running in peer.shell.running:
            peer.shell.step(running)
        assert peer.hear() == [{"type": 3, "invocationId": "1", "result": "nothingab"}]
    assert current.get() == "nothing"


def test_an_observer_that_gives_the_same_context_twice_does_no_harm() -> None:
    class Same(Observer):
        context = copy_context()

        def call_started(self, call: ObservedCall) -> Context:
            return self.context

    peer = HubPeer(make_hub(Same(), Same()), HubConfig(max_parallel_calls=2))
    peer.say(call("Slow"), call("Slow"))
    one, other = [running.context for running in peer.shell.running]
    assert one is not other
    assert Same.context is not one
    assert Same.context is not other


def test_an_observer_that_raises_hurts_nobody_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    faulty, diary = Faulty(), Diary()
    hub = make_hub(faulty, Setter("a"), diary)
    for _ in range(2):
        peer = HubPeer(hub)
        peer.say(call("Where"))
        assert peer.hear() == [{"type": 3, "invocationId": "1", "result": "nothinga"}]
        peer.say({"type": 7})
    assert faulty.asked == 2
    assert [note[0] for note in diary.notes] == ["opened", "started", "ended", "closed"] * 2
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.ERROR, "hubproto_core.hub")] * 4
    assert caplog.messages == [
        f"{hook} of the observer faulty failed; it will not be logged again"
        for hook in ("connection_opened", "call_started", "call_ended", "connection_closed")
    ]
    assert all(record.exc_info for record in caplog.records)


def test_an_observer_of_no_interest_is_told_nothing_it_minds() -> None:
    hub = make_hub(Observer())
    hub.on_disconnected(lambda: None)
    peer = HubPeer(hub)
    assert peer.ask(call("Where")) == [{"type": 3, "invocationId": "1", "result": "nothing"}]
    peer.say({"type": 7})
    assert peer.session.finished
