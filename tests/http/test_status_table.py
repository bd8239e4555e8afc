"""Each row of SPEC 4.1's table of statuses and bodies, and what becomes of an id, as requests to one hub see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from hubproto_core import (
    Call,
    Effect,
    EffectQueue,
    Hub,
    HubConfig,
    HubContext,
    HubSession,
    Principal,
    Registry,
    Transport,
)
from hubproto_core.http import Endpoint, EndpointConfig, Exchange, Request, Response, WebSocketAccepted
from tests.http._site import Entropy, Site, answers, http
from tests.kit.shell import Shell
from tests.kit.wire import HANDSHAKE, pack, unpack

SOCKET = {"connection": "Upgrade", "upgrade": "websocket"}
EVENTS = {"accept": "text/event-stream"}
POLL = {"accept": "*/*"}
WEB_SOCKETS, SERVER_SENT_EVENTS, LONG_POLLING = Transport
PATIENCE = EndpointConfig(poll_timeout=90.0, disconnect_timeout=15.0, receive_buffer=1000)


class Served:
    """One hub, and its shell. Requests are answered by `ask`, at one time."""

    def __init__(self, options: EndpointConfig = PATIENCE, config: HubConfig | None = None) -> None:
        self.effects: EffectQueue[Effect] = EffectQueue()
        self.shell = Shell(self.effects)
        self.registry = Registry()
        self.hub = Hub(config)
        self.hub.method("Slow")(self._slow)
        self.hub.method("Bye")(self._bye)
        self.now = 0.0
        self.token = ""
        self.carrier: Any = None  # what a state has opened and left open
        self.endpoint = Endpoint(
            self.hub,
            effects=self.effects,
            entropy=Entropy(),
            registry=self.registry,
            options=options,
            clock=lambda: 1000.0 + self.now,
        )

    async def _slow(self) -> None:
        raise NotImplementedError

    def _bye(self, call: Call) -> None:
        call.abort()

    def negotiate(self) -> None:
        """Be given a token, which is that of all further requests."""
        answer = self.endpoint.negotiate(Request("POST", "/negotiate?negotiateVersion=1"), now=self.now)
        self.token = json.loads(answer.body)["connectionToken"]

    def begin(
        self, method: str, headers: dict[str, str], body: bytes = b"", principal: Any = None
    ) -> Response | WebSocketAccepted | Exchange:
        """Send a request with the token, and let everything happen that comes of it."""
        request = Request(method, f"/?id={self.token}", headers)
        answer = self.endpoint.handle(request, "host", principal, now=self.now)
        if not isinstance(answer, Response | WebSocketAccepted):
            if body and answer.want_read:
                answer.receive_data(body, now=self.now)
            answer.receive_end(now=self.now)
        self.settle()
        return answer

    def ask(self, method: str, headers: dict[str, str] = POLL, body: bytes = b"", principal: Any = None) -> Response:
        """The answer to a request that is answered at once."""
        answer = self.begin(method, headers, body, principal)
        response = answer if isinstance(answer, Response) else self.response(answer)
        assert response is not None
        return response

    def response(self, answer: Any) -> Response | None:
        """What an exchange has been answered by now."""
        response: Response | None = answer.response(now=self.now)
        self.settle()
        return response

    def settle(self) -> None:
        """Do what is due."""
        self.shell.run()
        self.endpoint.handle_timeout(now=self.now)
        self.shell.run()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.settle()

    @property
    def session(self) -> HubSession:
        """The only connection whose handshake is done."""
        (session,) = self.registry.connections.values()
        assert isinstance(session, HubSession)
        return session


def nobody(served: Served) -> None:
    """No id."""


def unknown(served: Served) -> None:
    """An id that nobody was ever given."""
    served.token = "unknown"


def negotiated(served: Served) -> None:
    """An id that no GET has come for."""
    served.negotiate()


def websocket(served: Served) -> None:
    """A WebSocket."""
    served.negotiate()
    served.carrier = served.begin("GET", SOCKET)


def streaming(served: Served) -> None:
    """A stream of events whose hub handshake is done."""
    served.negotiate()
    served.carrier = served.begin("GET", EVENTS)
    assert served.ask("POST", body=HANDSHAKE).status == 200
    assert served.carrier.data_to_send(now=served.now) == b"data: {}\x1e\r\n\r\n"


def polling(served: Served) -> None:
    """Long polling whose hub handshake is done."""
    served.negotiate()
    assert served.ask("GET").status == 200
    assert served.ask("POST", body=HANDSHAKE).status == 200
    assert served.ask("GET").body == b"{}\x1e"


def polling_full(served: Served) -> None:
    """Long polling whose hub takes nothing for now: one call runs, another waits."""
    polling(served)
    slow = {"type": 1, "invocationId": "1", "target": "Slow", "arguments": []}
    assert served.ask("POST", body=pack(slow, {**slow, "invocationId": "2"})).status == 200


def deleted(served: Served) -> None:
    """A connection that its client has ended."""
    polling(served)
    assert served.ask("DELETE").status == 202


def left(served: Served) -> None:
    """A stream of events whose client has hung up."""
    streaming(served)
    served.carrier.receive_eof(now=served.now)
    served.settle()


@dataclass(frozen=True)
class Row:
    """A request to a connection in some state, and its answer; `without` a transport that is not offered."""

    condition: str
    state: Any
    method: str
    headers: dict[str, str]
    status: int
    body: str = ""
    kind: str = "text/plain"
    without: Transport | None = None
    sends: bytes = b""
    more: dict[str, str] = field(default_factory=dict)


NO_ID = "Connection ID required"
UNKNOWN = "No Connection with that ID"
CHANGED = "Cannot change transports mid-connection"
NO_DELETE = "Cannot terminate this connection using the DELETE endpoint."
NOT_SUPPORTED = "{} transport not supported by this end point type"
BINARY = "application/octet-stream"

TABLE = [
    Row("id missing, events", nobody, "GET", EVENTS, 400, NO_ID),
    Row("id missing, poll", nobody, "GET", POLL, 400, NO_ID),
    Row("id missing, POST", nobody, "POST", {}, 400, NO_ID),
    Row("id missing, DELETE", nobody, "DELETE", {}, 400, NO_ID),
    Row("unknown id, WebSocket", unknown, "GET", SOCKET, 404, UNKNOWN),
    Row("unknown id, events", unknown, "GET", EVENTS, 404, UNKNOWN),
    Row("unknown id, poll", unknown, "GET", POLL, 404, UNKNOWN),
    Row("unknown id, POST", unknown, "POST", {}, 404, UNKNOWN),
    Row("unknown id, DELETE", unknown, "DELETE", {}, 404, UNKNOWN),
    Row("disabled, WebSocket", negotiated, "GET", SOCKET, 404, NOT_SUPPORTED.format("WebSockets"), without=WEB_SOCKETS),
    Row(
        "disabled, events",
        negotiated,
        "GET",
        EVENTS,
        404,
        NOT_SUPPORTED.format("ServerSentEvents"),
        without=SERVER_SENT_EVENTS,
    ),
    Row("disabled, poll", negotiated, "GET", POLL, 404, NOT_SUPPORTED.format("LongPolling"), without=LONG_POLLING),
    Row("unknown before disabled", unknown, "GET", POLL, 404, UNKNOWN, without=LONG_POLLING),
    Row(
        "disabled before changed",
        streaming,
        "GET",
        POLL,
        404,
        NOT_SUPPORTED.format("LongPolling"),
        without=LONG_POLLING,
    ),
    Row("WebSocket, then events", websocket, "GET", EVENTS, 400, CHANGED),
    Row("WebSocket, then poll", websocket, "GET", POLL, 400, CHANGED),
    Row("events, then WebSocket", streaming, "GET", SOCKET, 400, CHANGED),
    Row("events, then poll", streaming, "GET", POLL, 400, CHANGED),
    Row("polls, then WebSocket", polling, "GET", SOCKET, 400, CHANGED),
    Row("polls, then events", polling, "GET", EVENTS, 400, CHANGED),
    Row("second WebSocket", websocket, "GET", SOCKET, 409),
    Row("second events", streaming, "GET", EVENTS, 409),
    # a connection that is disposed is forgotten at the same moment: there is no 404 without a text but for a POST
    Row("disposed, events", left, "GET", EVENTS, 404, UNKNOWN),
    Row("disposed, POST", left, "POST", {}, 404, UNKNOWN),
    Row("disposed, poll", deleted, "GET", POLL, 404, UNKNOWN),
    Row("disposed, DELETE", deleted, "DELETE", {}, 404, UNKNOWN),
    Row(
        "POST to a WebSocket",
        websocket,
        "POST",
        {},
        405,
        "POST requests are not allowed for WebSocket connections.",
    ),
    Row("POST ok, transport not chosen", negotiated, "POST", {}, 200, sends=b"{}"),
    Row("POST ok, events", streaming, "POST", {}, 200, sends=pack({"type": 6})),
    Row("POST ok, polls", polling, "POST", {}, 200, sends=pack({"type": 6})),
    Row("POST ok, empty", polling, "POST", {}, 200),
    Row("DELETE ok", polling, "DELETE", {}, 202),
    Row("DELETE of events", streaming, "DELETE", {}, 400, NO_DELETE),
    Row("DELETE of a WebSocket", websocket, "DELETE", {}, 400, NO_DELETE),
    Row("DELETE before any transport", negotiated, "DELETE", {}, 400, NO_DELETE),
    Row("first poll", negotiated, "GET", POLL, 200, kind=BINARY),
    Row("PUT", polling, "PUT", {}, 405, more={"allow": "GET, POST, DELETE"}),
    Row("HEAD", polling, "HEAD", {}, 405, more={"allow": "GET, POST, DELETE"}),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.condition)
def test_status_and_body(row: Row) -> None:
    served = Served(EndpointConfig(transports=tuple(other for other in Transport if other is not row.without)))
    row.state(served)
    answer = served.ask(row.method, row.headers, row.sends)
    assert (answer.status, answer.body.decode(), answer.content_type) == (row.status, row.body, row.kind)
    if row.headers is POLL:  # also the errors
        assert answer.headers == {
            "cache-control": "no-cache, no-store",
            "pragma": "no-cache",
            "expires": "Thu, 01 Jan 1970 00:00:00 GMT",
        }
    else:
        assert answer.headers == row.more


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_negotiate_with_another_method_than_post(method: str) -> None:
    answer = Served().endpoint.negotiate(Request(method, "/negotiate"), now=0.0)
    assert (answer.status, answer.body, answer.content_type) == (405, b"", "text/plain")


@pytest.mark.parametrize("version", ["0", "1", "2", "-1", "x"])
def test_negotiate_is_json_even_for_errors(version: str) -> None:
    answer = Served().endpoint.negotiate(Request("POST", f"/negotiate?negotiateVersion={version}"), now=0.0)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert ("error" in json.loads(answer.body)) is (version in {"-1", "x"})


def test_post_that_waits_for_room_when_the_connection_is_disposed() -> None:
    served = Served()
    polling_full(served)
    post = served.begin("POST", {}, b"x")
    assert served.response(post) is None
    assert served.ask("DELETE").status == 202
    assert served.response(post) == Response(404)


def test_post_that_comes_while_the_connection_is_disposed() -> None:
    served = Served()
    polling(served)
    post: Any = served.endpoint.handle(Request("POST", f"/?id={served.token}"), "host", now=0.0)
    assert served.ask("DELETE").status == 202
    post.receive_data(b"{", now=0.0)
    post.receive_end(now=0.0)
    assert served.response(post) == Response(404)


def test_post_whose_body_cannot_be_read() -> None:
    site = Site()
    members = json.loads(site.socket().ask(http("POST", "/chat/negotiate")).body)
    target = f"/chat?id={members['connectionId']}"
    socket = site.socket()
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    (answer,) = answers(socket.send(head + b"no chunk\r\n"), "POST")
    assert answer.status == 400
    assert socket.conn.finished


# --- the life of an id (SPEC 4.4 to 4.8) ------------------------------------------------------------------------------


def test_a_second_poll_ends_the_first_with_204_and_the_connection_lives() -> None:
    served = Served()
    polling(served)
    first = served.begin("GET", POLL)
    second = served.begin("GET", POLL)
    replaced = served.response(first)
    assert replaced is not None
    assert (replaced.status, replaced.body, replaced.content_type) == (204, b"", "text/plain")
    assert served.response(second) is None
    served.session.close()
    assert unpack(served.response(second).body) == [{"type": 7}]  # type: ignore[union-attr]


def test_the_final_message_then_204_then_404() -> None:
    served = Served()
    polling(served)
    served.ask("POST", body=pack({"type": 1, "target": "Bye", "arguments": []}))
    polls = [served.ask("GET") for _ in range(3)]
    assert [(answer.status, answer.body) for answer in polls] == [
        (200, b'{"type":7}\x1e'),
        (204, b""),
        (404, UNKNOWN.encode()),
    ]


def test_an_idle_poll_is_answered_empty_and_the_next_one_waits() -> None:
    served = Served()
    polling(served)
    poll = served.begin("GET", POLL)
    served.wait(89.0)
    assert served.response(poll) is None
    served.wait(1.0)
    idle = served.response(poll)
    assert idle is not None
    assert (idle.status, idle.body, idle.content_type) == (200, b"", "text/plain")
    served.wait(14.0)
    assert served.response(served.begin("GET", POLL)) is None


@pytest.mark.parametrize("state", [negotiated, polling])
def test_an_id_is_forgotten_when_nobody_comes_for_it(state: Any) -> None:
    served = Served()
    state(served)
    served.wait(14.9)
    assert served.ask("POST", body=b"").status == 200
    served.wait(0.1)
    assert served.ask("GET").status == 404
    assert served.registry.connections == {}


def test_a_delete_while_a_poll_waits_is_its_last_word() -> None:
    served = Served()
    polling(served)
    poll = served.begin("GET", POLL)
    assert served.ask("DELETE").status == 202
    farewell = served.response(poll)
    assert farewell is not None
    assert (farewell.status, unpack(farewell.body)) == (200, [{"type": 7, "allowReconnect": True}])
    assert served.registry.connections == {}


def test_bodies_before_the_first_get_are_bounded() -> None:
    served = Served()
    negotiated(served)
    assert served.ask("POST", body=b"x" * 1000).status == 200
    post = served.begin("POST", {}, b"x")
    assert served.response(post) is None
    served.wait(15.0)
    assert served.response(post) == Response(404)


def test_what_waits_for_a_poll_is_bounded() -> None:
    served = Served(config=HubConfig(send_limit=1000))
    polling(served)
    HubContext(served.registry).clients.all.send("news", "x" * 2000)
    served.settle()
    (close,) = unpack(served.ask("GET").body)
    assert close["type"] == 7
    assert [served.ask("GET").status, served.ask("GET").status] == [204, 404]


# --- who sends a request (SPEC 4.1, 4.6) ------------------------------------------------------------------------------


def test_each_poll_says_anew_who_its_client_is(caplog: pytest.LogCaptureFixture) -> None:
    served = Served()
    served.negotiate()
    served.ask("GET", principal=Principal("ann", expires_at=1020.0))
    served.ask("POST", body=HANDSHAKE)
    ann = Principal("ann", expires_at=1040.0)
    assert served.ask("GET", principal=ann).body == b"{}\x1e"
    assert served.session.principal is ann
    assert served.session.next_timeout() == 40.0
    served.begin("GET", POLL, principal=Principal("bob"))
    assert (served.session.user, served.session.next_timeout()) == ("ann", None)
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.endswith(": a request of another user is accepted: bob")


def test_a_poll_of_somebody_who_is_not_understood() -> None:
    served = Served()
    polling(served)
    answer = served.ask("GET", principal=Principal("ann", expires_at="soon"))  # type: ignore[arg-type]
    assert answer.status == 500


def test_whoever_has_the_id_may_post() -> None:
    served = Served()
    polling(served)
    assert served.ask("POST", body=pack({"type": 6}), principal=Principal("bob")).status == 200
    assert served.session.principal is None
