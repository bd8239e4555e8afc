"""Stateful reconnect on a server: a session that one WebSocket after another carries (SPEC 4.7.7)."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from hubproto_core import Call, Hub, HubConfig, HubSession, Principal, TransportError, authenticated
from hubproto_core.http import AsgiMachine, AsgiMessage, EndpointConfig, HttpConfig, Request, asgi_machine
from tests.http._site import Site, Socket, answers, http, masked, split, upgrade
from tests.kit.shell import WAITS
from tests.kit.wire import pack, unpack

CONFIG = HubConfig(keep_alive_interval=1e6, silence_timeout=1e6, ack_interval=1e6)
STATEFUL = EndpointConfig(stateful=True)


class DiaryHub(Hub):
    """Adds, waits and streams, and notes who goes."""

    def __init__(self, config: HubConfig = CONFIG, **more: Any) -> None:
        super().__init__(config, **more)
        self.diary: list[str | None] = []
        self.calls: list[Call] = []
        self.welcome: Any = None
        self.method("Add")(lambda x, y: x + y)
        self.method("Slow")(self.slow)
        self.method("Counter")(self.counter)
        self.method("Note")(self.note)
        self.on_connected(self.come)
        self.on_disconnected(self.go)

    def come(self) -> object:
        return self.welcome

    def slow(self) -> object:
        return WAITS

    async def counter(self) -> AsyncIterator[int]:
        yield 0

    def note(self, call: Call) -> None:
        self.calls.append(call)

    def go(self, error: Exception | None) -> None:
        self.diary.append(None if error is None else str(error))


class Refused(NamedTuple):
    """The answer to a WebSocket that is not opened."""

    status: int
    body: bytes = b""


class Line(ABC):
    """A client's end of one WebSocket."""

    @abstractmethod
    def say(self, *messages: dict[str, Any], now: float = 0.0) -> None:
        """Send hub messages."""

    @abstractmethod
    def hear(self, now: float = 0.0) -> list[Any]:
        """Return the hub messages that come, and the code of a close frame."""

    @abstractmethod
    def leave(self, code: int, now: float = 0.0) -> None:
        """Close it with this code; 1006 is a cut."""

    def ask(self, *messages: dict[str, Any], now: float = 0.0) -> list[Any]:
        """Send hub messages and return what comes then."""
        self.say(*messages, now=now)
        return self.hear(now)


class OwnLine(Line):
    """One on a socket of our own server."""

    def __init__(self, socket: Socket, beginning: bytes) -> None:
        self.socket = socket
        self.conn = socket.conn
        self.ws = Connection(ConnectionType.CLIENT)
        self.ws.receive_data(beginning)

    def say(self, *messages: dict[str, Any], now: float = 0.0) -> None:
        self.say_bytes(self.ws.send(TextMessage(pack(*messages).decode())), now)

    def say_bytes(self, data: bytes, now: float = 0.0) -> None:
        """Send whatever it is."""
        self.conn.receive_data(data, now=now)

    def hear(self, now: float = 0.0) -> list[Any]:
        self.ws.receive_data(self.socket.take(now))
        heard, closes = split(list(self.ws.events()))
        return [*heard, *(code for code, _ in closes)]

    def leave(self, code: int, now: float = 0.0) -> None:
        if code == 1006:
            self.conn.receive_eof(TransportError("cut"), now=now)
            self.socket.take(now)
        else:
            self.say_bytes(self.ws.send(CloseConnection(code)), now)
            self.hear(now)


class AsgiLine(Line):
    """One in an ASGI server."""

    def __init__(self, site: Site, machine: AsgiMachine, beginning: Sequence[AsgiMessage]) -> None:
        self.site = site
        self.machine = machine
        self.beginning = list(beginning)

    def say(self, *messages: dict[str, Any], now: float = 0.0) -> None:
        self.machine.receive_message({"type": "websocket.receive", "text": pack(*messages).decode()}, now=now)

    def hear(self, now: float = 0.0) -> list[Any]:
        messages, self.beginning = self.beginning, []
        while True:
            more = self.machine.messages_to_send(now=now)
            messages += more
            if not self.site.shell.run() and not more:
                break
        heard: list[Any] = []
        for message in messages:
            heard += unpack(message["text"].encode()) if "text" in message else [message["code"]]
        return heard

    def leave(self, code: int, now: float = 0.0) -> None:
        self.machine.receive_message({"type": "websocket.disconnect", "code": code}, now=now)
        assert self.hear(now) == []


class Stage(ABC):
    """A server with one hub at /chat."""

    def __init__(self, hub: DiaryHub | None = None, options: EndpointConfig = STATEFUL, **more: Any) -> None:
        self.hub = hub or DiaryHub()
        self.site = Site(self.hub, options=options, **more)
        self.server, self.shell = self.site.server, self.site.shell

    @abstractmethod
    def knock(self, token: str, now: float = 0.0, user: str = "") -> Line | Refused:
        """Open a WebSocket, or be refused."""

    def negotiate(self, query: str = "&useStatefulReconnect=true") -> dict[str, Any]:
        """The answer to a negotiation."""
        request = http("POST", f"/chat/negotiate?negotiateVersion=1{query}", "Authorization: Bearer ann")
        answer: dict[str, Any] = json.loads(self.site.socket().ask(request).body)
        return answer

    def open(self, token: str, now: float = 0.0, user: str = "") -> Line:
        """Open a WebSocket."""
        line = self.knock(token, now, user)
        assert isinstance(line, Line), line
        return line

    def begin(self, version: int = 2) -> tuple[str, Line]:
        """The token and the first WebSocket of a connection whose handshake is done."""
        token = self.negotiate()["connectionToken"]
        line = self.open(token)
        assert line.ask({"protocol": "json", "version": version}) == [{}]
        return token, line

    def pass_time(self, now: float) -> None:
        """Do what the server itself has to do."""
        self.shell.run()
        self.server.handle_timeout(now=now)
        self.shell.run()

    @property
    def ids(self) -> list[str]:
        """Who is connected."""
        return self.server.context(self.hub).connections


class OwnStage(Stage):
    """Our own server."""

    def knock(self, token: str, now: float = 0.0, user: str = "") -> Line | Refused:
        socket = self.site.socket(now)
        data = socket.send(upgrade(f"/chat?id={token}", f"Authorization: Bearer {user}"), now)
        if data.startswith(b"HTTP/1.1 101"):
            return OwnLine(socket, data.partition(b"\r\n\r\n")[2])
        (answer,) = answers(data)
        return Refused(answer.status, answer.body)


class AsgiStage(Stage):
    """The same in an ASGI server."""

    def knock(self, token: str, now: float = 0.0, user: str = "") -> Line | Refused:
        scope = {
            "type": "websocket",
            "path": "/chat",
            "query_string": f"id={token}".encode(),
            "headers": [(b"authorization", f"Bearer {user}".encode())],
            "extensions": {"websocket.http.response": {}},
        }
        machine = asgi_machine(self.server, scope, now=now)
        machine.receive_message({"type": "websocket.connect"}, now=now)
        self.shell.run()
        first, *rest = machine.messages_to_send(now=now)
        if first["type"] == "websocket.accept":
            return AsgiLine(self.site, machine, rest)
        return Refused(first["status"], rest[0]["body"])


on_both = pytest.mark.parametrize("kind", [OwnStage, AsgiStage])
"""Our own server, and an ASGI server."""


def add(id_: str, x: int, y: int) -> dict[str, Any]:
    return {"type": 1, "invocationId": id_, "target": "Add", "arguments": [x, y]}


def call(target: str, id_: str = "1", kind: int = 1) -> dict[str, Any]:
    return {"type": kind, "invocationId": id_, "target": target, "arguments": []}


def result(id_: str, value: Any) -> dict[str, Any]:
    return {"type": 3, "invocationId": id_, "result": value}


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


UNKNOWN = Refused(404, b"No Connection with that ID")
INVITING = {"type": 7, "allowReconnect": True}
FAREWELL = {"type": 7}

# --- negotiation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["true", "True", "%20TRUE"])
def test_an_endpoint_that_allows_it_says_so_first(value: str) -> None:
    assert next(iter(OwnStage().negotiate(f"&useStatefulReconnect={value}"))) == "useStatefulReconnect"


@pytest.mark.parametrize("query", ["", "&useStatefulReconnect=1", "&useStatefulReconnect=false"])
def test_who_does_not_ask_for_it_has_none(query: str) -> None:
    stage = OwnStage()
    members = stage.negotiate(query)
    assert "useStatefulReconnect" not in members
    line = stage.open(members["connectionToken"])
    assert line.ask({"protocol": "json", "version": 2}) == [{}]
    line.leave(1006)
    assert stage.knock(members["connectionToken"]) == UNKNOWN


def test_it_is_off_unless_it_is_wanted() -> None:
    assert EndpointConfig().stateful is False
    assert "useStatefulReconnect" not in OwnStage(options=EndpointConfig()).negotiate()


@on_both
def test_version_1_turns_it_off(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin(version=1)
    assert stage.knock(token) == Refused(409)
    line.leave(1006)
    assert stage.knock(token) == UNKNOWN


@on_both
def test_before_the_handshake_there_is_nothing_to_resume(kind: type[Stage]) -> None:
    stage = kind()
    token = stage.negotiate()["connectionToken"]
    line = stage.open(token)
    assert stage.knock(token) == Refused(409)
    line.leave(1006)
    assert stage.knock(token) == UNKNOWN


def test_only_websockets_are_replaced() -> None:
    stage = OwnStage()
    token = stage.negotiate()["connectionToken"]
    request = http("GET", f"/chat?id={token}", "Accept: text/event-stream")
    socket = stage.site.socket()
    assert socket.send(request).startswith(b"HTTP/1.1 200")
    body = b'{"protocol":"json","version":2}\x1e'.decode()
    assert stage.site.socket().ask(http("POST", f"/chat?id={token}", body=body)).status == 200
    assert b"data: {}" in socket.take()
    (session,) = stage.server._sessions()
    assert isinstance(session, HubSession)
    assert not session.stateful
    socket.conn.receive_eof(TransportError("cut"), now=0.0)
    assert stage.site.socket().ask(http("POST", f"/chat?id={token}", body="x")).status == 404


# --- one WebSocket after the other -----------------------------------------------------------------------------------


@on_both
def test_what_was_not_acknowledged_comes_again_behind_the_sequence(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    assert line.ask(add("1", 1, 2)) == [result("1", 3)]
    line.leave(1006)
    assert stage.ids
    line = stage.open(token)
    assert line.hear() == [sequence(1), result("1", 3)]
    assert line.ask(sequence(1), add("1", 1, 2), add("2", 2, 2)) == [result("2", 4)]
    line.leave(1006)
    line = stage.open(token)
    assert line.hear() == [sequence(1), result("1", 3), result("2", 4)]
    assert stage.hub.diary == []


@on_both
def test_the_hub_goes_on_while_there_is_no_websocket(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    assert line.ask(call("Slow"), call("Counter", "2", 4)) == []
    line.leave(1006, now=1.0)
    running = stage.shell.find("Counter")
    assert running.session.send_item(running, 0)
    stage.shell.finish(stage.shell.find("Slow"), "slept")
    stage.pass_time(2.0)
    line = stage.open(token, now=3.0)
    assert line.hear(3.0) == [sequence(1), {"type": 2, "invocationId": "2", "item": 0}, result("1", "slept")]
    stage.pass_time(1e5)  # nobody waits for this client any more
    assert line.ask(sequence(3), add("3", 2, 2), now=1e5) == [result("3", 4)]


@on_both
def test_a_new_websocket_takes_over_from_one_that_is_thought_alive(kind: type[Stage]) -> None:
    stage = kind()
    token, first = stage.begin()
    assert first.ask(add("1", 1, 2)) == [result("1", 3)]
    second = stage.open(token)
    first.say(add("x", 5, 5))  # of nobody that is listened to
    assert first.hear() == [1000]
    assert second.hear() == [sequence(1), result("1", 3)]
    first.leave(1006)
    assert second.ask(sequence(2), add("2", 2, 2)) == [result("2", 4)]
    assert stage.hub.diary == []
    second.leave(1000)
    stage.pass_time(0.0)
    assert stage.hub.diary == [None]
    assert stage.knock(token) == UNKNOWN


def test_an_old_websocket_that_takes_nothing_does_not_keep_the_new_one_waiting() -> None:
    """Its pump is stuck in a write: it learns of its end by its deadlines."""
    stage = OwnStage(http=HttpConfig(send_timeout=10.0))
    token, first = stage.begin()
    assert isinstance(first, OwnLine)
    stage.open(token, now=1.0)
    assert first.conn.finished
    assert not first.conn.want_read
    assert first.conn.next_timeout() is None  # the pump drops it at once
    first.conn.handle_timeout(now=1.0)
    assert first.conn.data_to_send(now=1.0) == b"\x88\x02\x03\xe8"
    assert first.conn.next_timeout() == 11.0  # a pump that is not stuck has so long to write the close frame


def test_an_old_websocket_is_woken_to_say_goodbye() -> None:
    stage = OwnStage()
    token, first = stage.begin()
    assert isinstance(first, OwnLine)
    stage.shell.was_woken(first.conn)
    stage.open(token)
    assert stage.shell.was_woken(first.conn)


def test_a_broken_websocket_takes_nothing_from_the_next_one() -> None:
    """Its pump asks once more what there is to write, when the client is back already."""
    stage = OwnStage()
    token, first = stage.begin()
    assert isinstance(first, OwnLine)
    first.conn.receive_eof(TransportError("cut"), now=0.0)
    second = stage.open(token)
    stage.server.context(stage.hub).clients.all.send("News")
    assert first.socket.take() == b""
    assert second.hear() == [sequence(1), {"type": 1, "target": "News", "arguments": []}]
    first.conn.receive_data(masked(1, pack(add("1", 1, 2))), now=0.0)
    first.conn.receive_eof(TransportError("closed"), now=0.0)
    assert second.ask(add("1", 1, 2)) == [result("1", 3)]


def test_a_frame_that_was_cut_in_two_is_forgotten() -> None:
    stage = OwnStage()
    token, first = stage.begin()
    assert isinstance(first, OwnLine)
    record = pack(add("1", 1, 2))
    first.say_bytes(masked(1, record)[:-20])
    second = stage.open(token)
    assert first.hear() == [1000]
    assert second.hear() == [sequence(1)]
    assert second.ask(sequence(1), add("1", 1, 2)) == [result("1", 3)]


def test_what_is_sent_right_behind_the_opening_is_not_lost() -> None:
    stage = OwnStage()
    token, first = stage.begin()
    first.leave(1006)
    socket = stage.site.socket()
    behind = masked(1, pack(sequence(1))) + masked(1, pack(add("1", 1, 2)))
    data = socket.send(upgrade(f"/chat?id={token}") + behind)
    line = OwnLine(socket, data.partition(b"\r\n\r\n")[2])
    assert line.hear() == [sequence(1), result("1", 3)]


def test_a_bad_frame_is_a_broken_websocket() -> None:
    stage = OwnStage()
    token, line = stage.begin()
    assert isinstance(line, OwnLine)
    line.say_bytes(b"\xff\xff\xff\xff")
    second = stage.open(token)  # before the first one has had its say
    assert line.hear() == [1002]
    assert second.hear() == [sequence(1)]
    assert isinstance(second, OwnLine)
    second.say_bytes(b"\xff\xff\xff\xff")
    assert second.hear() == [1002]
    assert second.conn.finished
    third = stage.open(token)
    assert third.hear() == [sequence(1)]
    assert third.ask(add("1", 1, 2)) == [result("1", 3)]


@on_both
def test_a_close_frame_ends_it_for_good(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    line.leave(1000)
    stage.pass_time(0.0)
    assert stage.knock(token) == UNKNOWN
    assert stage.hub.diary == [None]


@on_both
def test_a_close_message_ends_it_for_good(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    assert line.ask({"type": 7}) == [FAREWELL, 1000]
    assert stage.knock(token) == Refused(409)
    line.leave(1006)
    assert stage.knock(token) == UNKNOWN


@on_both
def test_a_close_frame_that_the_hub_has_not_come_to_yet(kind: type[Stage]) -> None:
    """The hub still welcomes its client, which has left meanwhile. It must hear of that all the same."""
    hub = DiaryHub()
    hub.welcome = WAITS
    stage = kind(hub)
    token, line = stage.begin()
    line.leave(1000)
    stage.pass_time(0.0)
    assert stage.knock(token) == Refused(409)
    stage.shell.finish(stage.shell.running[0])
    line.hear()
    stage.pass_time(0.0)
    assert hub.diary == [None]
    assert stage.ids == []
    assert stage.knock(token) == UNKNOWN


# --- nobody comes back -----------------------------------------------------------------------------------------------


@on_both
def test_who_stays_away_too_long_is_gone(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    assert line.ask(call("Slow")) == []
    line.leave(1006, now=100.0)
    stage.pass_time(100.0)
    assert stage.server.next_timeout() == 115.0
    stage.pass_time(114.9)
    assert stage.ids
    assert stage.hub.diary == []
    stage.pass_time(115.0)
    (asked,) = stage.shell.asked_to_cancel
    assert stage.knock(token) == UNKNOWN
    stage.shell.cancel(asked)
    stage.shell.run()
    assert stage.hub.diary == ["the transport was lost, and not replaced within 15 s: " + _REASON[kind]]
    assert stage.ids == []
    assert stage.server.next_timeout() is None


_REASON = {OwnStage: "cut", AsgiStage: "The WebSocket was cut off without a close frame."}


@on_both
def test_who_is_lost_can_be_sent_away(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    line.ask(call("Note"))
    line.leave(1006)
    stage.pass_time(0.0)
    stage.hub.calls[0].abort()
    stage.pass_time(0.0)
    assert stage.hub.diary == [None]
    assert stage.ids == []
    assert stage.knock(token) == UNKNOWN
    assert stage.server.next_timeout() is None


@on_both
def test_who_is_lost_and_sent_too_much_is_given_up(kind: type[Stage]) -> None:
    stage = kind(DiaryHub(HubConfig(keep_alive_interval=1e6, send_limit=1000)))
    _, line = stage.begin()
    line.leave(1006)
    stage.pass_time(0.0)
    everybody = stage.server.context(stage.hub).clients.all
    for _ in range(9):
        everybody.send("Say", "x" * 100)
    stage.pass_time(0.0)
    assert stage.ids == []
    assert stage.server.next_timeout() is None


@on_both
def test_a_shutdown_does_not_wait_for_who_is_lost(kind: type[Stage]) -> None:
    stage = kind()
    _, line = stage.begin()
    assert line.ask(call("Slow")) == []
    line.leave(1006)
    stage.pass_time(0.0)
    stage.server.shut_down(now=1.0)
    stage.pass_time(1.0)
    (asked,) = stage.shell.asked_to_cancel
    stage.shell.cancel(asked)
    stage.pass_time(1.0)
    assert stage.hub.diary == [None]
    assert stage.server.closed


@on_both
def test_who_is_lost_in_a_shutdown_is_not_waited_for(kind: type[Stage]) -> None:
    stage = kind()
    token, line = stage.begin()
    assert line.ask(call("Slow")) == []
    stage.server.shut_down(now=1.0)
    assert line.hear(1.0) == []
    line.leave(1006, now=2.0)
    stage.pass_time(2.0)
    (asked,) = stage.shell.asked_to_cancel
    stage.shell.cancel(asked)
    stage.pass_time(2.0)
    assert stage.server.closed
    stage.server.reopen()
    assert stage.knock(token) == UNKNOWN


@on_both
def test_a_shutdown_ends_a_websocket_in_order(kind: type[Stage]) -> None:
    stage = kind()
    _, line = stage.begin()
    stage.server.shut_down(now=1.0)
    assert line.hear(1.0) == [INVITING, 1000]


@on_both
def test_an_old_websocket_that_waits_for_its_client_does_not_hold_up_a_shutdown(kind: type[Stage]) -> None:
    stage = kind()
    token, first = stage.begin()
    second = stage.open(token)
    assert first.hear() == [1000]
    stage.server.shut_down(now=0.0)
    stage.server.close(now=0.0)
    stage.pass_time(0.0)
    assert second.hear()[-1] == 1000
    for line in (first, second):
        if isinstance(line, AsgiLine):
            line.machine.handle_timeout(now=0.0)
            assert line.machine.finished
            line.machine.receive_eof(now=0.0)
    second.leave(1006)
    stage.pass_time(0.0)
    assert stage.server.closed


# --- who it is -------------------------------------------------------------------------------------------------------


def authenticate(request: Request) -> Principal | None:
    name = request.access_token
    if name == "bad":
        return Principal(name, expires_at="never")  # type: ignore[arg-type]
    return Principal(name, expires_at=1_000_000.0 + 50.0 * len(name)) if name else None


@on_both
def test_each_websocket_shows_anew_who_its_client_is(kind: type[Stage], caplog: pytest.LogCaptureFixture) -> None:
    stage = kind(DiaryHub(requires=authenticated), authenticator=authenticate)
    token = stage.negotiate()["connectionToken"]
    assert stage.knock(token) == Refused(401)
    line = stage.open(token, user="ann")
    assert line.ask({"protocol": "json", "version": 2}, call("Note")) == [{}, result("1", None)]
    line.leave(1006)
    assert stage.knock(token) == Refused(401)
    assert stage.knock(token, user="bad") == Refused(500)
    with caplog.at_level(logging.WARNING):
        line = stage.open(token, now=10.0, user="robert")
    assert "a request of another user is accepted: robert" in caplog.text
    assert line.hear(10.0)[0] == sequence(1)
    assert line.ask({"type": 8, "sequenceId": 1}, call("Note", "2"), now=10.0) == [result("2", None)]
    before, after = stage.hub.calls
    assert (before.user, after.user) == ("ann", "ann")
    assert (after.principal.user_id, before.connection_id) == ("robert", after.connection_id)


@on_both
def test_who_is_lost_still_expires(kind: type[Stage]) -> None:
    stage = kind(DiaryHub(HubConfig(resume_window=1e5), requires=authenticated), authenticator=authenticate)
    token = stage.negotiate()["connectionToken"]
    line = stage.open(token, user="ann")
    assert line.ask({"protocol": "json", "version": 2}) == [{}]
    line.leave(1006)
    stage.pass_time(0.0)
    stage.pass_time(1e3)
    assert stage.ids == []
    assert stage.knock(token, 1e3, user="ann") == UNKNOWN


# --- what is said of it ----------------------------------------------------------------------------------------------


@on_both
def test_the_log_tells_of_it(kind: type[Stage], caplog: pytest.LogCaptureFixture) -> None:
    stage = kind()
    with caplog.at_level(logging.DEBUG, "hubproto_core.hub"):
        token, line = stage.begin()
        line.leave(1006)
        line.leave(1006)
        stage.open(token)
    connection_id = stage.ids[0]
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"connection {connection_id} waits for another WebSocket: {_REASON[kind]}",
        f"connection {connection_id} goes on with another WebSocket",
    ]
