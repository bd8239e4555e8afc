"""One hub as seen by HTTP: requests as data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubproto_core import Effect, EffectQueue, Hub, HubConfig, Registry, Wake
from hubproto_core.http import Endpoint, Request, Response, WebSocketAccepted
from tests.http._site import Entropy

UPGRADE = {"connection": "upgrade", "upgrade": "websocket"}


class Served:
    def __init__(self) -> None:
        self.effects: EffectQueue[Effect] = EffectQueue()
        self.registry = Registry(owner="the server")
        self.endpoint = Endpoint(Hub(), effects=self.effects, entropy=Entropy(), registry=self.registry)

    def negotiate(self, query: str = "negotiateVersion=1", now: float = 0.0) -> dict[str, Any]:
        answer = self.endpoint.negotiate(Request("POST", f"/negotiate?{query}"), now=now)
        assert (answer.status, answer.content_type) == (200, "application/json")
        members: dict[str, Any] = json.loads(answer.body)
        return members

    def ask(self, method: str, query: str = "", headers: dict[str, str] | None = None) -> Response:
        answer = self.endpoint.handle(Request(method, f"/?{query}", headers or {}), now=0.0)
        assert isinstance(answer, Response)
        return answer

    def open(self, query: str = "", headers: dict[str, str] | None = None) -> WebSocketAccepted:
        answer = self.endpoint.handle(Request("GET", f"/?{query}", {**UPGRADE, **(headers or {})}), now=0.0)
        assert isinstance(answer, WebSocketAccepted)
        return answer


def test_negotiation_reserves_a_public_id_and_a_secret_token() -> None:
    served = Served()
    members = served.negotiate()
    assert members["negotiateVersion"] == 1
    assert members["connectionId"] != members["connectionToken"]
    assert len(members["connectionId"]) == len(members["connectionToken"]) == 22
    assert served.effects.take() == Wake("the server")
    accepted = served.open(f"id={members['connectionToken']}")
    assert accepted.session.connection_id == members["connectionId"]


def test_old_negotiation_knows_one_id_only() -> None:
    served = Served()
    members = served.negotiate("")
    assert members["negotiateVersion"] == 0
    assert "connectionToken" not in members
    assert served.open(f"id={members['connectionId']}").session.connection_id == members["connectionId"]


def test_only_websockets_are_offered() -> None:
    assert Served().negotiate()["availableTransports"] == [
        {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}
    ]


def test_a_wrong_version_is_refused_with_status_200() -> None:
    assert list(Served().negotiate("negotiateVersion=x")) == ["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_negotiation_is_a_post(method: str) -> None:
    answer = Served().endpoint.negotiate(Request(method, "/negotiate"), now=0.0)
    assert (answer.status, answer.headers) == (405, {"allow": "POST"})


def test_negotiation_may_be_skipped() -> None:
    served = Served()
    first, second = served.open(), served.open("id=")
    assert first.session.connection_id != second.session.connection_id
    assert first.token != second.token


def test_a_session_knows_the_request_that_opened_it() -> None:
    accepted = Served().open("access_token=abc&X=1", {"x-lab": "y"})
    info = accepted.session.info
    assert info.headers["x-lab"] == "y"
    assert info.query == {"access_token": "abc", "x": "1"}
    assert (info.query_string, info.transport) == ("access_token=abc&X=1", "WebSockets")


def test_a_token_opens_one_websocket() -> None:
    served = Served()
    token = served.negotiate()["connectionToken"]
    accepted = served.open(f"ID={token}")
    assert accepted.token == token
    answer = served.endpoint.handle(Request("GET", f"/?id={token}", UPGRADE), now=0.0)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (409, b"")
    served.endpoint.release(token)
    served.endpoint.release(token)
    answer = served.endpoint.handle(Request("GET", f"/?id={token}", UPGRADE), now=0.0)
    assert isinstance(answer, Response)
    assert answer.status == 404


def test_the_public_id_opens_nothing() -> None:
    served = Served()
    answer = served.endpoint.handle(Request("GET", f"/?id={served.negotiate()['connectionId']}", UPGRADE), now=0.0)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (404, b"No Connection with that ID")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_requests_need_an_id_that_is_known(method: str) -> None:
    served = Served()
    for query in ("", "id="):
        answer = served.ask(method, query)
        assert (answer.status, answer.body, answer.content_type) == (400, b"Connection ID required", "text/plain")
    answer = served.ask(method, "id=unknown")
    assert (answer.status, answer.body) == (404, b"No Connection with that ID")


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD", "PATCH"])
def test_other_methods_are_refused(method: str) -> None:
    assert Served().ask(method).status == 405


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [
        ("GET", 400, b"Cannot change transports mid-connection"),
        ("POST", 405, b"POST requests are not allowed for WebSocket connections."),
        ("DELETE", 400, b"Cannot terminate this connection using the DELETE endpoint."),
    ],
)
def test_a_websocket_s_token_is_good_for_nothing_else(method: str, status: int, body: bytes) -> None:
    served = Served()
    answer = served.ask(method, f"id={served.open().token}")
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("method", "accept", "transport"),
    [
        ("GET", "*/*", "LongPolling"),
        ("GET", "text/event-stream", "ServerSentEvents"),
        ("GET", "text/html, text/event-stream", "ServerSentEvents"),
        ("GET", "text/event-stream;q=0.9", "LongPolling"),
        ("POST", "text/event-stream", "LongPolling"),
        ("DELETE", "", "LongPolling"),
    ],
)
def test_other_transports_are_not_served(method: str, accept: str, transport: str) -> None:
    served = Served()
    token = served.negotiate()["connectionToken"]
    answer = served.ask(method, f"id={token}", {"accept": accept})
    assert (answer.status, answer.body.decode()) == (404, f"{transport} transport not supported by this end point type")


def test_an_id_that_nobody_comes_for_expires() -> None:
    served = Served()
    assert served.endpoint.next_timeout() is None
    tokens = [served.negotiate(now=now)["connectionToken"] for now in (1.0, 2.0, 3.0)]
    assert served.endpoint.next_timeout() == 16.0
    served.endpoint.handle_timeout(now=15.9)
    served.open(f"id={tokens[0]}")
    assert served.endpoint.next_timeout() == 17.0
    served.endpoint.handle_timeout(now=17.0)
    assert served.ask("GET", f"id={tokens[1]}").body == b"No Connection with that ID"
    served.open(f"id={tokens[2]}")
    assert served.endpoint.next_timeout() is None


def test_settings_are_the_hub_s_unless_others_are_given() -> None:
    config, other = HubConfig(max_parallel_calls=2), HubConfig(max_parallel_calls=3)
    effects: EffectQueue[Effect] = EffectQueue()
    hub = Hub(config)
    assert Endpoint(hub, effects=effects, entropy=Entropy(), registry=Registry()).config is config
    endpoint = Endpoint(hub, effects=effects, entropy=Entropy(), registry=Registry(), config=other)
    assert endpoint.config is other
