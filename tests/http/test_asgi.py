"""The machines of ASGI scopes, on messages."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, Principal, Transport
from hubproto_core.http import (
    AccessDenied,
    AsgiMachine,
    AsgiMessage,
    AsgiRequest,
    AsgiWebSocket,
    Authenticator,
    EndpointConfig,
    HttpConfig,
    HubServer,
    Mount,
    Request,
    asgi_machine,
)
from tests.http._site import Entropy
from tests.kit.shell import WAITS, Shell
from tests.kit.wire import HANDSHAKE, RS, pack, unpack

PINGS = HubConfig(keep_alive_interval=1000, silence_timeout=3000)
MIB = 1024 * 1024


def make_hub(**options: Any) -> Hub:
    hub = Hub(**options)

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("About")
    def about(call: Call) -> list[Any]:
        return [call.user, call.connection.transport, call.connection.headers.get("x-about"), call.connection.query]

    @hub.method("Flood")
    def flood(size: int, call: Call) -> None:
        call.clients.caller.send("Flood", "x" * size)

    @hub.method("Bye")
    def bye(call: Call) -> None:
        call.abort()

    @hub.method("Slow")
    def slow() -> object:
        return WAITS

    return hub


class Site:
    """A server of one hub at /chat in an ASGI server."""

    def __init__(
        self,
        hub: Hub | None = None,
        config: HubConfig | None = PINGS,
        http: HttpConfig | None = None,
        authenticator: Authenticator | None = None,
        options: EndpointConfig | None = None,
    ) -> None:
        self.hub = hub or make_hub()
        self.server = HubServer(
            {"/chat": Mount(self.hub, options or EndpointConfig())},
            entropy=Entropy(),
            authenticator=authenticator,
            config=config,
            http=http,
        )
        self.shell = Shell(self.server.effects)

    def request(self, method: str, target: str, body: bytes | None = b"", now: float = 0.0, **scope: Any) -> Scope:
        """A request, all of whose body is here; None for a body that is still to come."""
        asked = Scope(self, scope_of("http", target, method=method, **scope), now)
        if body is not None and asked.want_read():  # else it has its answer already
            asked.say("http.request", now, body=body, more_body=False)
        return asked

    def negotiate(self, now: float = 0.0) -> str:
        """The token of a new connection."""
        answer = self.request("POST", "/chat/negotiate?negotiateVersion=1", now=now).done(now)
        token: str = json.loads(answer[1]["body"])["connectionToken"]
        return token

    def websocket(self, target: str = "/chat", now: float = 0.0, **scope: Any) -> Scope:
        """A WebSocket that somebody wants to open."""
        asked = Scope(self, scope_of("websocket", target, **scope), now)
        asked.say("websocket.connect", now)
        return asked

    def opened(self, now: float = 0.0) -> Scope:
        """A WebSocket whose hub handshake is done."""
        asked = self.websocket(now=now)
        assert asked.hear(now) == [{"type": "websocket.accept"}]
        asked.say("websocket.receive", now, text=HANDSHAKE.decode())
        assert asked.hear(now) == [{"type": "websocket.send", "text": "{}\x1e"}]
        return asked

    def at_the_poll(self) -> str:
        """The token of a connection over long polling whose hub handshake is done."""
        token = self.negotiate()
        assert self.request("GET", f"/chat?id={token}").done()[0]["status"] == 200
        assert self.request("POST", f"/chat?id={token}", HANDSHAKE).done()[0]["status"] == 200
        assert self.request("GET", f"/chat?id={token}").done()[1]["body"] == b"{}" + RS
        return token


class Scope:
    """The ASGI server's side of a scope."""

    def __init__(self, site: Site, scope: dict[str, Any], now: float) -> None:
        self.site = site
        self.machine: AsgiMachine = asgi_machine(site.server, scope, now=now)

    def want_read(self) -> bool:
        return self.machine.want_read

    def finished(self) -> bool:
        return self.machine.finished

    def given_up(self) -> bool:
        return self.machine.given_up

    def say(self, kind: str, now: float = 0.0, **more: Any) -> None:
        """What `receive` returns."""
        assert self.machine.want_read
        self.machine.receive_message({"type": kind, **more}, now=now)
        self.site.shell.run()

    def hear(self, now: float = 0.0) -> list[AsgiMessage]:
        """What is sent."""
        heard: list[AsgiMessage] = []
        self.site.shell.run()
        while True:
            messages = self.machine.messages_to_send(now=now)
            if not self.site.shell.run() and not messages:
                return heard
            heard += messages

    def status(self, now: float = 0.0) -> int:
        """The status of the whole answer."""
        head, body = self.hear(now)
        assert head["type"].endswith("response.start")
        assert body["type"].endswith("response.body")
        assert self.machine.finished
        status: int = head["status"]
        return status

    def ask(self, *messages: dict[str, Any]) -> list[Any]:
        """Send hub messages on a WebSocket and return the answers."""
        self.say("websocket.receive", text=pack(*messages).decode())
        heard = []
        for message in self.hear():
            assert message["type"] == "websocket.send"
            heard += unpack(message["text"].encode())
        return heard

    def done(self, now: float = 0.0) -> list[AsgiMessage]:
        """What is sent until the application returns."""
        messages = self.hear(now)
        assert self.machine.finished
        self.leave(now)
        return messages

    def leave(self, now: float = 0.0) -> None:
        """The application has returned."""
        self.machine.receive_eof(now=now)
        self.site.shell.run()


def scope_of(kind: str, target: str, headers: list[tuple[bytes, bytes]] | None = None, **more: Any) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {"type": kind, "path": path, "query_string": query.encode(), "headers": headers or [], **more}


def call(target: str, *arguments: Any, id: str | None = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 1, **({"invocationId": id} if id else {}), "target": target, "arguments": list(arguments)}


def result(value: Any, id: str = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, "result": value}


def test_a_scope_of_another_type_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="a hub knows no ASGI scope of the type 'lifespan'"):
        asgi_machine(Site().server, {"type": "lifespan"}, now=0)


# --- requests --------------------------------------------------------------------------------------------------------


def test_an_answer_is_a_head_and_a_body() -> None:
    head, body = Site().request("POST", "/chat?id=nobody").hear()
    assert head == {
        "type": "http.response.start",
        "status": 404,
        "headers": [(b"content-length", b"26"), (b"content-type", b"text/plain")],
    }
    assert body == {"type": "http.response.body", "body": b"No Connection with that ID"}


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/chat/negotiate", "", 200),
        ("/Chat/NEGOTIATE/", "", 200),
        ("/api/chat/negotiate", "/api", 200),
        ("/api/chat/negotiate", "/api/", 200),
        ("/chat/negotiate", "/api", 200),  # a framework that has taken it away
        ("/chat/negotiate", None, 200),
        ("/chatty/chat/negotiate", "/chat", 404),
        ("/api", "/api", 404),
        ("/api/chat/negotiate", "", 404),
        ("/other", "", 404),
    ],
)
def test_a_hub_is_found_below_the_place_where_the_application_is_mounted(
    path: str, root: str | None, status: int
) -> None:
    assert Site().request("POST", path, root_path=root).status() == status


def test_the_request_is_what_the_client_has_asked(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Request] = []
    site = Site(authenticator=asked.append)
    headers = [(b"X-One", b"1"), (b"x-two", b"a"), (b"x-two", b"b\xe9")]
    with caplog.at_level(logging.DEBUG, "hubproto_core.http"):
        assert site.request("PUT", "/api/ch\ufffdt?a=b&A=c", root_path="/api", headers=headers).status() == 404
        assert site.request("PUT", "/api/chat?a=b&A=c", root_path="/api", headers=headers).status() == 405
    (request,) = asked
    assert (request.method, request.target, request.path) == ("PUT", "/api/chat?a=b&A=c", "/api/chat")
    assert request.query == {"a": "c"}
    assert request.headers == {"x-one": "1", "x-two": "a, b\xe9"}
    assert [record.getMessage() for record in caplog.records] == [
        "/api/ch\ufffdt is answered with status 404",
        "/api/chat is answered with status 405",
    ]


def test_a_path_that_is_no_text_is_not_found() -> None:
    assert Site().request("GET", "/\udc80").status() == 404


def test_an_upgrade_that_the_server_does_not_know_is_refused_as_a_transport_that_is_not_there() -> None:
    upgrade = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    head, body = Site().request("GET", "/chat", headers=upgrade).hear()
    assert (head["status"], body["body"]) == (404, b"WebSockets transport not supported by this end point type")
    assert Site().request("GET", "/chat/negotiate", headers=upgrade).status() == 405


def test_pages_of_other_origins() -> None:
    site = Site(options=EndpointConfig(allowed_origins=["https://a.example"]))
    theirs = [(b"host", b"h"), (b"origin", b"https://a.example")]
    head, _ = site.request("POST", "/chat/negotiate", headers=theirs).hear()
    assert dict(head["headers"])[b"access-control-allow-origin"] == b"https://a.example"
    preflight = [*theirs, (b"access-control-request-method", b"POST")]
    assert site.request("OPTIONS", "/chat/negotiate", headers=preflight).status() == 204
    assert site.websocket(headers=theirs).hear() == [{"type": "websocket.accept"}]
    foreign = site.websocket(
        headers=[(b"host", b"h"), (b"origin", b"https://b.example")], extensions={"websocket.http.response": {}}
    )
    assert foreign.status() == 403
    token = site.negotiate()
    events = [*theirs, (b"accept", b"text/event-stream")]
    head = site.request("GET", f"/chat?id={token}", headers=events).hear()[0]
    assert dict(head["headers"])[b"access-control-allow-origin"] == b"https://a.example"


def test_long_polling() -> None:
    site = Site()
    token = site.at_the_poll()
    poll = site.request("GET", f"/chat?id={token}", now=1)
    assert poll.hear(1) == []
    assert not poll.finished()
    assert poll.machine.next_timeout() == 91
    assert site.request("POST", f"/chat?id={token}", pack(call("Add", 1, 2)), now=2).status(2) == 200
    head, body = poll.hear(2)
    assert (head["status"], unpack(body["body"])) == (200, [result(3)])
    assert (b"cache-control", b"no-cache, no-store") in head["headers"]
    assert poll.finished()
    poll.leave(2)
    assert site.request("DELETE", f"/chat?id={token}", now=3).status(3) == 202


def test_a_poll_with_nothing_to_say_ends_in_time() -> None:
    site = Site()
    token = site.at_the_poll()
    poll = site.request("GET", f"/chat?id={token}")
    assert poll.hear(89) == []
    poll.machine.handle_timeout(now=90)
    assert poll.status(90) == 200


def test_an_answer_of_status_204_has_no_length() -> None:
    site = Site()
    token = site.at_the_poll()
    old = site.request("GET", f"/chat?id={token}")
    assert old.hear() == []
    new = site.request("GET", f"/chat?id={token}")
    head, body = old.hear()
    assert head["status"] == 204
    assert b"content-length" not in dict(head["headers"])
    assert body["body"] == b""
    assert new.hear() == []


def test_who_gives_up_a_poll_may_come_back() -> None:
    site = Site()
    token = site.at_the_poll()
    poll = site.request("GET", f"/chat?id={token}")
    poll.say("http.disconnect", 1.0)
    assert poll.finished()
    assert poll.given_up()
    assert not poll.want_read()
    poll.machine.receive_message({"type": "http.disconnect"}, now=1)
    assert poll.hear(1) == []
    assert poll.machine.next_timeout() is None
    poll.machine.handle_timeout(now=1)
    assert site.request("POST", f"/chat?id={token}", pack(call("Add", 1, 2)), now=1).status(1) == 200
    assert unpack(site.request("GET", f"/chat?id={token}", now=1).hear(1)[1]["body"]) == [result(3)]


def test_events() -> None:
    site = Site()
    token = site.negotiate()
    stream = site.request("GET", f"/chat?id={token}", headers=[(b"accept", b"text/event-stream")])
    head, first = stream.hear()
    assert head["status"] == 200
    assert (b"content-type", b"text/event-stream") in head["headers"]
    assert b"content-length" not in dict(head["headers"])
    assert first == {"type": "http.response.body", "body": b":\r\n", "more_body": True}
    assert site.request("POST", f"/chat?id={token}", HANDSHAKE).status() == 200
    assert stream.hear() == [{"type": "http.response.body", "body": b"data: {}\x1e\r\n\r\n", "more_body": True}]
    assert stream.machine.next_timeout() is not None
    assert site.request("POST", f"/chat?id={token}", pack({"type": 7})).status() == 200
    last = b'data: {"type":7}\x1e\r\n\r\n'
    assert stream.hear(3) == [{"type": "http.response.body", "body": last, "more_body": False}]
    assert stream.machine.next_timeout() == 8
    assert stream.finished()
    assert site.request("POST", f"/chat?id={token}").status() == 404


def test_a_body_that_ends_its_connection_was_taken_even_if_its_end_comes_later() -> None:
    """hypercorn tells the end of a body by a message of its own."""
    site = Site()
    token = site.negotiate()
    stream = site.request("GET", f"/chat?id={token}", headers=[(b"accept", b"text/event-stream")])
    assert site.request("POST", f"/chat?id={token}", HANDSHAKE).status() == 200
    post = site.request("POST", f"/chat?id={token}", None)
    post.say("http.request", body=pack(call("Bye", id=None)), more_body=True)
    assert stream.hear()[-1]["more_body"] is False
    assert post.status() == 200


def test_who_leaves_a_stream_of_events_is_gone() -> None:
    site = Site()
    token = site.negotiate()
    stream = site.request("GET", f"/chat?id={token}", headers=[(b"accept", b"text/event-stream")])
    stream.hear()
    stream.say("http.disconnect")
    assert site.request("POST", f"/chat?id={token}").status() == 404


def test_a_body_comes_in_pieces() -> None:
    site = Site()
    token = site.at_the_poll()
    body = pack(call("Add", 1, 2))
    post = site.request("POST", f"/chat?id={token}", None)
    post.say("http.request", body=body[:5], more_body=True)
    post.say("http.request", body=body[5:], more_body=True)
    assert post.hear() == []
    post.say("http.request")
    post.machine.receive_message({"type": "http.request", "body": b"what is this?"}, now=0)
    assert post.status() == 200
    assert unpack(site.request("GET", f"/chat?id={token}").hear()[1]["body"]) == [result(3)]


def test_a_body_is_not_read_faster_than_it_is_taken_and_has_no_deadline_then() -> None:
    site = Site(config=HubConfig(keep_alive_interval=1000, silence_timeout=3000, send_buffer=1000))
    token = site.at_the_poll()
    assert site.request("POST", f"/chat?id={token}", pack(call("Flood", 2000, id=None))).status() == 200
    post = site.request("POST", f"/chat?id={token}", None)
    assert post.want_read()
    assert post.machine.next_timeout() == 15
    post.say("http.request", body=pack(call("Add", 1, 2)), more_body=True)
    assert not post.want_read()
    assert post.machine.next_timeout() is None
    assert len(site.request("GET", f"/chat?id={token}").hear()[1]["body"]) > 2000
    site.server.handle_timeout(now=0)
    assert post.hear() == []
    assert post.want_read()


def test_a_body_that_does_not_come_is_answered_408() -> None:
    site = Site(http=HttpConfig(request_timeout=5))
    token = site.at_the_poll()
    post = site.request("POST", f"/chat?id={token}", None)
    post.say("http.request", 3, body=b"x", more_body=True)
    post.machine.handle_timeout(now=5.0)  # the one byte has earned it a moment
    assert post.hear(5.0) == []
    post.machine.handle_timeout(now=5.1)
    assert post.status(5.1) == 408
    assert not post.want_read()
    post.leave(8)
    assert site.request("POST", f"/chat?id={token}", pack(call("Add", 1, 2)), now=8).status(8) == 200


def test_a_body_that_comes_fast_enough_may_take_its_time() -> None:
    site = Site(http=HttpConfig(request_timeout=4, min_body_rate=10))
    post = site.request("POST", f"/chat?id={site.at_the_poll()}", None)
    for second in range(1, 100):
        post.say("http.request", second, body=b" " * 10, more_body=True)
        assert post.machine.next_timeout() == second + 4
    assert post.hear(99) == []


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    site = Site(http=HttpConfig(max_post_size=1000))
    target = f"/chat?id={site.at_the_poll()}"
    post = site.request("POST", target, None, headers=[(b"content-length", b"1001")])
    assert post.status() == 413
    assert not post.want_read()
    assert site.request("POST", target, pack(call("Add", 1, 2))).status() == 200  # its turn was given to the next one


def test_a_body_that_does_not_say_how_large_it_is_is_counted() -> None:
    site = Site(http=HttpConfig(max_post_size=1000))
    target = f"/chat?id={site.at_the_poll()}"
    post = site.request("POST", target, None)
    for _ in range(2):
        post.say("http.request", body=b" " * 500, more_body=True)
    assert post.hear() == []
    post.say("http.request", body=b" ", more_body=True)
    assert post.status() == 413
    assert site.request("POST", target, pack(call("Add", 1, 2))).status() == 200


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    asked = Site(http=HttpConfig(idle_timeout=7)).request("GET", "/", now=1)
    assert asked.status(1) == 404
    assert asked.machine.next_timeout() == 8
    asked.machine.handle_timeout(now=7.9)
    assert not asked.given_up()
    asked.machine.handle_timeout(now=8)
    assert asked.given_up()


# --- admission -------------------------------------------------------------------------------------------------------


def decide(request: Request) -> Principal | None:
    match request.access_token:
        case None:
            return None
        case "bad":
            raise AccessDenied
        case name:
            return Principal(name)


def test_who_sends_a_request_is_asked_and_whether_it_may_come_in() -> None:
    site = Site(authenticator=decide)
    assert site.request("POST", "/chat/negotiate", headers=[(b"authorization", b"Bearer bad")]).status() == 401
    assert site.request("POST", "/chat/negotiate").status() == 200
    scope = site.websocket("/chat?access_token=ann&x=1", headers=[(b"x-about", b"me")])
    assert scope.hear() == [{"type": "websocket.accept"}]
    scope.say("websocket.receive", bytes=HANDSHAKE)
    scope.hear()
    (answer,) = scope.ask(call("About"))
    assert answer["result"] == ["ann", "WebSockets", "me", {"access_token": "ann", "x": "1"}]


def waiting(request: Request) -> Any:
    return WAITS


def test_while_it_is_decided_one_piece_of_the_body_is_held() -> None:
    site = Site(authenticator=waiting)
    asked = site.request("POST", "/chat?id=x", None)
    assert asked.want_read()
    asked.say("http.request", body=b"x", more_body=True)
    assert not asked.want_read()
    assert asked.hear() == []
    site.shell.finish(site.shell.find("authenticator"), None)
    assert asked.status() == 404


def test_a_body_that_came_before_the_decision_is_handed_over_after_it() -> None:
    site = Site()
    token = site.at_the_poll()
    site.server._authenticator = waiting
    post = site.request("POST", f"/chat?id={token}", pack(call("Add", 1, 2)))
    assert post.want_read()  # it may still be told that the client has gone
    assert post.hear() == []
    site.shell.finish(site.shell.find("authenticator"), None)
    assert post.status() == 200


def test_a_decision_that_takes_too_long_is_answered_503() -> None:
    site = Site(authenticator=waiting)
    asked = site.request("POST", "/chat/negotiate", now=1)
    assert asked.hear(1) == []
    assert asked.machine.next_timeout() == 16
    asked.machine.handle_timeout(now=16)
    assert asked.status(16) == 503
    assert site.shell.asked_to_cancel == site.shell.running


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_who_leaves_before_the_decision_is_not_answered(kind: str) -> None:
    site = Site(authenticator=waiting)
    asked = site.request("POST", "/chat/negotiate") if kind == "http" else site.websocket()
    assert asked.hear() == []
    asked.say(f"{kind}.disconnect")
    site.shell.cancel_asked()
    assert not site.shell.running
    assert asked.hear() == []
    assert asked.finished()


# --- WebSockets ------------------------------------------------------------------------------------------------------


def test_a_websocket_carries_a_session_in_text() -> None:
    scope = Site().opened()
    assert scope.ask(call("Add", 1, 2), call("Add", 3, 4, id="2")) == [result(3), result(7, "2")]


def test_a_websocket_carries_a_session_in_bytes() -> None:
    site = Site()
    scope = site.websocket()
    scope.hear()
    scope.say("websocket.receive", bytes=pack({"protocol": "messagepack", "version": 1}), text=None)
    assert scope.hear() == [{"type": "websocket.send", "bytes": b"{}\x1e"}]
    scope.say("websocket.receive", bytes=b"\x0d\x96\x01\x80\xa11\xa3Add\x92\x01\x02\x90")
    assert scope.hear() == [{"type": "websocket.send", "bytes": b"\x07\x95\x03\x80\xa11\x03\x03"}]


def test_a_websocket_after_a_negotiation() -> None:
    site = Site()
    token = site.negotiate()
    scope = site.websocket(f"/chat?id={token}")
    assert scope.hear() == [{"type": "websocket.accept"}]
    again = site.websocket(f"/chat?id={token}", extensions={"websocket.http.response": {}})
    head, body = again.hear()
    assert (head["type"], head["status"], body["type"]) == (
        "websocket.http.response.start",
        409,
        "websocket.http.response.body",
    )
    assert again.finished()
    scope.say("websocket.disconnect", code=1000)
    again = site.websocket(f"/chat?id={token}", extensions={"websocket.http.response": {}})
    assert again.status() == 404


@pytest.mark.parametrize("extensions", [{}, None, {"other": {}}])
def test_a_server_that_cannot_answer_a_websocket_closes_it(extensions: Any) -> None:
    scope = Site().websocket("/other", extensions=extensions)
    assert scope.hear() == [{"type": "websocket.close"}]
    assert scope.finished()


def test_a_negotiation_is_no_websocket() -> None:
    scope = Site().websocket("/chat/negotiate", extensions={"websocket.http.response": {}})
    assert scope.status() == 405


def test_nothing_is_said_before_the_websocket_is_offered() -> None:
    site = Site()
    machine = AsgiWebSocket(site.server, scope_of("websocket", "/chat"), now=0)
    assert machine.want_read
    assert machine.session is None
    assert machine.messages_to_send(now=0) == []
    assert machine.next_timeout() is None
    machine.handle_timeout(now=100)
    machine.receive_message({"type": "websocket.receive", "text": "too early"}, now=0)
    assert machine.messages_to_send(now=0) == []


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"code": 1000}, None),
        ({"code": 1001, "reason": "bye"}, None),
        ({"code": 1005, "reason": ""}, None),
        ({"code": 1005}, "The WebSocket was cut off without a close"),
        ({"code": 1006}, "The WebSocket was cut off without a close"),
    ],
)
def test_how_a_client_leaves(how: dict[str, Any], error: str | None) -> None:
    hub = make_hub()
    told: list[Exception | None] = []

    @hub.on_disconnected
    def gone(error: Exception | None) -> None:
        told.append(error)

    site = Site(hub)
    scope = site.opened()
    scope.say("websocket.disconnect", **how)
    assert scope.finished()
    assert scope.hear() == []
    scope.machine.receive_message({"type": "websocket.receive", "text": "x"}, now=0)
    (reason,) = told
    assert (reason is None) if error is None else str(reason).startswith(error)
    assert not site.server.context(hub).connections


def test_the_hub_closes_a_websocket_and_waits_for_the_client() -> None:
    site = Site()
    scope = site.opened()
    scope.say("websocket.receive", 1, text=pack({"type": 7}).decode())
    assert scope.hear(1)[-1] == {"type": "websocket.close", "code": 1000}
    assert not scope.finished()
    assert scope.want_read()
    assert scope.machine.next_timeout() == 6
    assert scope.hear(2) == []
    scope.machine.handle_timeout(now=5.9)
    assert not scope.finished()
    scope.machine.handle_timeout(now=6)
    assert scope.finished()
    assert scope.given_up()


def test_the_session_of_a_websocket_keeps_time() -> None:
    site = Site(config=HubConfig(keep_alive_interval=10, silence_timeout=30))
    scope = site.opened()
    assert scope.machine.next_timeout() == 10
    scope.machine.handle_timeout(now=10)
    assert scope.hear(10) == [{"type": "websocket.send", "text": '{"type":6}\x1e'}]


def test_a_session_that_is_behind_does_not_want_messages() -> None:
    site = Site(config=HubConfig(keep_alive_interval=1000, silence_timeout=3000, send_buffer=1000))
    scope = site.opened()
    scope.say("websocket.receive", text=pack(call("Flood", 2000, id=None)).decode())
    assert not scope.want_read()
    assert scope.hear()
    assert scope.want_read()


def test_a_client_that_takes_nothing_is_given_up() -> None:
    site = Site(config=HubConfig(keep_alive_interval=1000, silence_timeout=3000, send_limit=10_000))
    scope = site.opened()
    hub = site.server.context(site.hub)
    hub.clients.all.send("News", "x" * 9000)
    scope.machine.handle_timeout(now=1)
    assert not scope.given_up()
    hub.clients.all.send("News", "x" * 9000)
    scope.machine.handle_timeout(now=4.9)
    assert not scope.given_up()
    assert scope.machine.next_timeout() == 5
    scope.machine.handle_timeout(now=5)
    assert scope.given_up()
    scope.leave(5)
    assert not hub.connections


def test_a_listener_that_takes_nothing_is_given_up() -> None:
    site = Site(config=HubConfig(keep_alive_interval=1000, silence_timeout=3000, send_limit=10_000))
    token = site.negotiate()
    stream = site.request("GET", f"/chat?id={token}", headers=[(b"accept", b"text/event-stream")])
    assert site.request("POST", f"/chat?id={token}", HANDSHAKE).status() == 200
    assert len(stream.hear()) == 3
    for _ in range(2):
        site.server.context(site.hub).clients.all.send("News", "x" * 9000)
    stream.machine.handle_timeout(now=4.9)
    assert not stream.given_up()
    assert stream.machine.next_timeout() == 5
    stream.machine.handle_timeout(now=5)
    assert stream.given_up()
    assert site.request("POST", f"/chat?id={token}", now=5).status(5) == 404
    stream.machine.handle_timeout(now=6)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_shutdown_tells_everybody_and_lets_nobody_in() -> None:
    site = Site()
    token = site.at_the_poll()
    poll = site.request("GET", f"/chat?id={token}")
    assert poll.hear() == []
    scope = site.opened()
    site.server.close(now=1)
    assert site.server.closing
    assert not site.server.closed
    assert unpack(poll.hear(1)[1]["body"])[0]["type"] == 7
    farewell, close = scope.hear(1)
    assert unpack(farewell["text"].encode())[0]["type"] == 7
    assert close == {"type": "websocket.close", "code": 1000}
    assert site.request("POST", "/chat/negotiate", now=1).status(1) == 503
    assert site.websocket(extensions={"websocket.http.response": {}}, now=1).status(1) == 503
    last = site.request("GET", f"/chat?id={token}", now=1)
    assert last.status(1) == 204


def test_a_shutdown_is_done_when_every_application_has_returned() -> None:
    site = Site()
    scope = site.opened()
    site.server.close(now=1)
    scope.hear(1)
    scope.say("websocket.disconnect", 1, code=1000)
    assert site.server.closed
    assert site.shell.was_woken(site.server)
    scope.leave(1)
    assert site.server.closed


def test_a_shutdown_does_not_wait_for_decisions() -> None:
    site = Site(authenticator=waiting)
    asked = site.request("POST", "/chat/negotiate")
    opening = site.websocket(extensions={"websocket.http.response": {}})
    assert asked.hear() == opening.hear() == []
    site.server.close(now=1)
    assert site.shell.was_woken(asked.machine)
    assert asked.status(1) == opening.status(1) == 503
    site.server.close(now=2)
    opening.machine.handle_timeout(now=2)
    assert opening.given_up()


@pytest.mark.parametrize("said", [False, True], ids=["before its farewell", "after its farewell"])
def test_a_websocket_that_is_cut_short_waits_for_nobody(said: bool) -> None:
    site = Site()
    scope = site.opened()
    site.shell.run()
    scope.say("websocket.receive", text=pack(call("Slow")).decode())
    site.server.close(now=1)
    if said:
        site.shell.cancel_asked()
    site.server.close(now=2)
    assert site.shell.was_woken(scope.machine)
    site.shell.cancel_asked()
    assert scope.hear(2)[-1]["type"] == "websocket.close"
    scope.machine.handle_timeout(now=2)
    assert scope.given_up()


def test_a_websocket_that_is_cut_short_while_it_says_farewell() -> None:
    site = Site()
    scope = site.opened()
    site.server.close(now=1)
    assert scope.hear(1)[-1]["type"] == "websocket.close"
    site.server.close(now=2)
    scope.machine.handle_timeout(now=2)
    assert scope.given_up()


def test_requests_that_are_cut_short_wait_for_nobody() -> None:
    site = Site()
    token = site.negotiate()
    stream = site.request("GET", f"/chat?id={token}", headers=[(b"accept", b"text/event-stream")])
    stream.hear()
    site.request("POST", f"/chat?id={token}", HANDSHAKE)
    site.request("POST", f"/chat?id={token}", pack(call("Slow")))
    answered = site.request("GET", "/nothing")
    answered.hear()
    site.server.close(now=1)
    site.server.close(now=2)
    for asked in (stream, answered):
        assert asked.finished()
        asked.machine.handle_timeout(now=2)
        assert asked.given_up()


def test_a_server_may_serve_again() -> None:
    site = Site()
    token = site.at_the_poll()
    scope = site.opened()
    site.server.close(now=1)
    scope.hear(1)
    scope.leave(1)
    site.server.handle_timeout(now=15)  # the other one has not come back
    site.shell.run()
    assert site.server.closed
    site.server.reopen()
    assert not site.server.closing
    assert site.server.next_timeout() is None
    assert site.request("GET", f"/chat?id={token}", now=2).status(2) == 404
    assert site.opened(2).ask(call("Add", 1, 2)) == [result(3)]


def test_transports_are_those_of_the_endpoint() -> None:
    site = Site(options=EndpointConfig(transports=(Transport.LONG_POLLING,)))
    head, body = site.websocket(extensions={"websocket.http.response": {}}).hear()
    assert (head["status"], body["body"]) == (404, b"WebSockets transport not supported by this end point type")
    assert isinstance(site.request("GET", "/").machine, AsgiRequest)
