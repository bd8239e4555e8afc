"""One hub as seen by HTTP: requests as data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubproto_core import Effect, EffectQueue, Hub, HubConfig, Registry, Transport, TransportError, Wake
from hubproto_core.http import Endpoint, EndpointConfig, Exchange, Request, Response, WebSocketAccepted
from tests.http._site import Entropy
from tests.kit.wire import HANDSHAKE_2

UPGRADE = {"connection": "upgrade", "upgrade": "websocket"}


class Socket:
    """A WebSocket, as an endpoint sees it."""

    def __init__(self) -> None:
        self.left = False

    def replaced(self, *, now: float) -> None:
        self.left = True


class Served:
    def __init__(self, *transports: Transport, **options: Any) -> None:
        self.socket = Socket()
        self.effects: EffectQueue[Effect] = EffectQueue()
        self.registry = Registry(owner="the server")
        self.endpoint = Endpoint(
            Hub(),
            effects=self.effects,
            entropy=Entropy(),
            registry=self.registry,
            options=EndpointConfig(transports=transports or tuple(Transport), **options),
        )

    def negotiate(self, query: str = "negotiateVersion=1", now: float = 0.0) -> dict[str, Any]:
        answer = self.endpoint.negotiate(Request("POST", f"/negotiate?{query}"), now=now)
        assert (answer.status, answer.content_type) == (200, "application/json")
        members: dict[str, Any] = json.loads(answer.body)
        return members

    def ask(self, method: str, query: str = "", headers: dict[str, str] | None = None) -> Response:
        answer = self.endpoint.handle(Request(method, f"/?{query}", headers or {}), "host", now=0.0)
        assert not isinstance(answer, WebSocketAccepted)
        response = answer if isinstance(answer, Response) else answer.response(now=0.0)
        assert response is not None
        return response

    def open(
        self, query: str = "", headers: dict[str, str] | None = None, socket: Socket | None = None
    ) -> WebSocketAccepted:
        answer = self.endpoint.handle(Request("GET", f"/?{query}", {**UPGRADE, **(headers or {})}), "host", now=0.0)
        assert isinstance(answer, WebSocketAccepted)
        answer.attach(socket or self.socket, now=0.0)
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


def test_all_transports_are_offered_in_the_reference_s_order() -> None:
    assert Served().negotiate()["availableTransports"] == [
        {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]},
        {"transport": "ServerSentEvents", "transferFormats": ["Text"]},
        {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]},
    ]


def test_an_endpoint_may_offer_less() -> None:
    assert Served(Transport.LONG_POLLING).negotiate()["availableTransports"] == [
        {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]}
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
    assert first.session is not second.session


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
    answer = served.endpoint.handle(Request("GET", f"/?id={token}", UPGRADE), "host", now=0.0)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (409, b"")
    accepted.session.receive_eof(TransportError("cut"), now=0.0)
    accepted.detach(served.socket, now=0.0)
    accepted.detach(served.socket, now=0.0)
    answer = served.endpoint.handle(Request("GET", f"/?id={token}", UPGRADE), "host", now=0.0)
    assert isinstance(answer, Response)
    assert answer.status == 404


def test_a_websocket_that_has_been_replaced_has_no_say() -> None:
    served = Served(stateful=True)
    token = served.negotiate("negotiateVersion=1&useStatefulReconnect=true")["connectionToken"]
    session, (first, second, third) = served.open(f"id={token}").session, (served.socket, Socket(), Socket())
    session.receive_data(HANDSHAKE_2, now=0.0)
    again = served.open(f"id={token}", socket=second)
    assert (first.left, second.left) == (True, False)
    again.detach(first, now=0.0)
    assert session.carrier is second
    session.receive_eof(TransportError("cut"), now=0.0)
    again.detach(second, now=0.0)
    assert session.carrier is not second  # its connection looks after it, and hears of all
    assert session.effects is not served.effects
    served.open(f"id={token}", socket=third)
    assert session.carrier is third
    assert session.effects is served.effects  # as directly as before
    assert second.left is False  # it has gone by itself


def test_the_public_id_opens_nothing() -> None:
    served = Served()
    answer = served.endpoint.handle(
        Request("GET", f"/?id={served.negotiate()['connectionId']}", UPGRADE), "host", now=0.0
    )
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
    answer = served.ask(method, f"id={served.open().session.connection_id}")
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("headers", "transport"),
    [
        ({"accept": "*/*"}, "LongPolling"),
        ({"accept": "text/event-stream"}, "ServerSentEvents"),
        ({"accept": "text/html, Text/Event-Stream"}, "ServerSentEvents"),
        ({"accept": "text/event-stream;q=0.9"}, "LongPolling"),
        (UPGRADE, "WebSockets"),
    ],
)
def test_what_is_not_offered_is_not_served(headers: dict[str, str], transport: str) -> None:
    served = Served(*(other for other in Transport if other != transport))
    token = served.negotiate()["connectionToken"]
    answer = served.ask("GET", f"id={token}", headers)
    assert (answer.status, answer.body.decode()) == (404, f"{transport} transport not supported by this end point type")


def exchange(served: Served, method: str, token: str, accept: str = "") -> Exchange:
    """Ask for something that is answered later."""
    answer = served.endpoint.handle(Request(method, f"/?id={token}", {"accept": accept}), "host", now=0.0)
    assert not isinstance(answer, Response | WebSocketAccepted)
    return answer


EVENTS = "text/event-stream"


def test_events_are_streamed_once() -> None:
    served = Served()
    token = served.negotiate()["connectionToken"]
    response = exchange(served, "GET", token, EVENTS).response(now=0.0)
    assert response is not None
    assert response.content_type == EVENTS
    assert served.ask("GET", f"id={token}", {"accept": EVENTS}).status == 409
    polled = served.ask("GET", f"id={token}")
    assert (polled.status, polled.body) == (400, b"Cannot change transports mid-connection")
    assert served.ask("GET", f"id={token}", UPGRADE).body == b"Cannot change transports mid-connection"
    deleted = served.ask("DELETE", f"id={token}")
    assert (deleted.status, deleted.body) == (400, b"Cannot terminate this connection using the DELETE endpoint.")


def test_polls_come_one_after_another() -> None:
    served = Served()
    token = served.negotiate()["connectionToken"]
    first = served.ask("GET", f"id={token}")
    assert (first.status, first.body, first.content_type) == (200, b"", "application/octet-stream")
    assert first.headers["cache-control"] == "no-cache, no-store"
    poll = exchange(served, "GET", token)
    assert poll.response(now=0.0) is None
    assert served.ask("GET", f"id={token}", {"accept": EVENTS}).body == b"Cannot change transports mid-connection"
    assert served.ask("DELETE", f"id={token}").status == 202
    assert served.ask("GET", f"id={token}").body == b"No Connection with that ID"
    farewell = poll.response(now=0.0)
    assert farewell is not None
    assert farewell.status == 204  # the hub's handshake has not been done


def test_errors_of_polls_are_not_to_be_cached() -> None:
    for query in ("", "id=unknown"):
        assert Served().ask("GET", query).headers["pragma"] == "no-cache"
        assert Served().ask("GET", query, {"accept": EVENTS}).headers == {}


def test_bodies_are_accepted_before_a_transport_is_chosen() -> None:
    served = Served()
    token = served.negotiate()["connectionToken"]
    post = exchange(served, "POST", token)
    post.receive_data(b"{}", now=0.0)
    post.receive_end(now=0.0)
    assert post.response(now=0.0) == Response(200)
    deleted = served.ask("DELETE", f"id={token}")
    assert deleted.body == b"Cannot terminate this connection using the DELETE endpoint."


def test_clients_that_stay_away_are_gone() -> None:
    served = Served(disconnect_timeout=5.0)
    token = served.negotiate()["connectionToken"]
    served.ask("GET", f"id={token}")
    served.endpoint.handle_timeout(now=0.0)
    assert served.endpoint.next_timeout() == 5.0
    served.endpoint.handle_timeout(now=5.0)
    assert served.ask("GET", f"id={token}").status == 404
    assert served.endpoint.next_timeout() is None


def test_a_shutdown_ends_what_requests_carry() -> None:
    served = Served()
    polled, events, nobody, websocket = (served.negotiate()["connectionToken"] for _ in range(4))
    served.ask("GET", f"id={polled}")
    poll, stream = exchange(served, "GET", polled), exchange(served, "GET", events, EVENTS)
    session = served.open(f"id={websocket}").session
    served.endpoint.shut_down(now=0.0)
    served.endpoint.handle_timeout(now=0.0)
    response = poll.response(now=0.0)
    assert response is not None
    assert response.status == 204
    assert stream.data_to_send(now=0.0) == b""
    assert stream.finished
    assert served.ask("GET", f"id={nobody}").status == 404
    assert session.closed is None  # its socket sees to it


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
