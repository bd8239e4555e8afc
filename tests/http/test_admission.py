"""Who sends a request, and whether it may come in: authenticators and requirements of hubs, on bytes."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from hubproto_core import Authorization, Call, Hub, Principal, RunningCall, TransportError, authenticated
from hubproto_core.http import AccessDenied, HttpConfig, Request
from hubproto_core.http._admission import Admission
from tests.http._site import Answer, Site, Socket, WebSocket, answers, http, upgrade
from tests.kit.shell import WAITS, Shell
from tests.kit.wire import HANDSHAKE, pack

NEGOTIATE = "/chat/negotiate?negotiateVersion=1"
ANN = "Authorization: Bearer ann"


def by_name(request: Request) -> Principal | None:
    """Whoever says so."""
    token = request.access_token
    if token is None:
        return None
    if token == "stolen":
        raise AccessDenied("a stolen token")
    if token == "banned":
        raise AccessDenied(known=True)
    if token == "broken":
        raise ValueError("secret detail")
    return Principal(token, frozenset({"admin"} if token == "root" else ()), expires_at=1_000_060.0)


async def slowly(request: Request) -> Principal | None:
    raise NotImplementedError("the tests decide")


def make_hub(requires: Any = None) -> Hub:
    hub = Hub(requires=requires)

    @hub.method("WhoAmI")
    def who_am_i(call: Call) -> list[Any]:
        return [call.user, call.principal is not None]

    return hub


def site(requires: Any = None, authenticator: Any = by_name, **limits: Any) -> Site:
    return Site(make_hub(requires), http=HttpConfig(**limits), authenticator=authenticator)


def ask(served: Site, *headers: str, target: str = NEGOTIATE, method: str = "POST") -> Answer:
    return served.socket().ask(http(method, target, *headers))


def who(served: Site, target: str = "/chat", *headers: str) -> Any:
    (answer,) = served.websocket(target, *headers).ask(
        {"type": 1, "invocationId": "1", "target": "WhoAmI", "arguments": []}
    )
    return answer["result"]


# --- who it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "token"),
    [
        (Request("POST", "/", {"authorization": "Bearer abc"}), "abc"),
        (Request("POST", "/", {"authorization": "bearer  abc "}), "abc"),
        (Request("GET", "/?access_token=query", {"authorization": "Bearer header"}), "header"),
        (Request("GET", "/?Access_Token=a%2Bb"), "a+b"),
        (Request("POST", "/?access_token=abc"), None),
        (Request("GET", "/?access_token=abc", {"authorization": "Basic dXNlcg=="}), "abc"),
        (Request("GET", "/"), None),
    ],
)
def test_a_token_is_in_the_header_or_where_browsers_can_put_it(request_: Request, token: str | None) -> None:
    assert request_.access_token == token


def test_the_user_of_a_connection_is_that_of_its_websocket_request() -> None:
    served = site()
    assert who(served, "/chat", ANN) == ["ann", True]
    assert who(served, "/chat?access_token=bob") == ["bob", True]
    assert who(served) == [None, False]
    assert sorted(served.server.context(served.hub).users) == ["ann", "bob"]


def test_a_description_is_for_those_who_may_come_in() -> None:
    served = Site(Hub(requires=authenticated, described=True), authenticator=by_name)
    assert [
        ask(served, *headers, target="/chat/description", method="GET").status for headers in ([], [ANN])
    ] == [401, 200]  # fmt: skip
    served = Site(Hub(requires=authenticated), authenticator=by_name)
    assert ask(served, target="/chat/description", method="GET").status == 404


def test_without_an_authenticator_nobody_is_known() -> None:
    assert who(site(authenticator=None), "/chat", ANN) == [None, False]


def test_a_connection_ends_when_its_principal_expires() -> None:
    served = site()
    peer = served.websocket("/chat", ANN)
    assert peer.hear(now=14.0) == []
    assert peer.socket.conn.next_timeout() == 15.0
    for now in (15.0, 30.0, 45.0, 59.9):
        peer.socket.conn.handle_timeout(now=now)
    assert len(served.server.context(served.hub).connections) == 1
    peer.socket.conn.handle_timeout(now=60.0)
    assert served.server.context(served.hub).connections == []


def test_without_a_clock_nobody_expires() -> None:
    from hubproto_core.http import Endpoint, WebSocketAccepted
    from tests.http._site import Entropy

    served = site()
    endpoint = Endpoint(
        served.hub,
        effects=served.server.effects,
        entropy=Entropy(),
        registry=served.server.context(served.hub).clients._registry,
    )
    request = Request("GET", "/", {"connection": "upgrade", "upgrade": "websocket"})
    accepted = endpoint.handle(request, "host", Principal("a", expires_at=5.0), now=0.0)
    assert isinstance(accepted, WebSocketAccepted)
    assert accepted.session.next_timeout() == 15.0


def test_a_user_id_becomes_a_text() -> None:
    served = site(authenticator=lambda request: Principal(7))  # type: ignore[arg-type]
    assert who(served) == ["7", True]


@pytest.mark.parametrize(
    ("user_id", "expires_at", "kind"),
    [(lambda principal: {}[principal.claims], None, "KeyError"), (None, "soon", "TypeError")],
    ids=["user id", "expiry"],
)
def test_a_principal_of_which_nothing_can_be_made(
    user_id: Any, expires_at: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(user_id=user_id) if user_id else Hub()
    principal = Principal("ann", claims="s3cr3t", expires_at=expires_at)
    served = Site(hub, authenticator=lambda request: principal)
    token = json.loads(ask(served).body)["connectionToken"]
    for _ in range(2):  # the token is not used up
        assert served.socket().send(upgrade(f"/chat?id={token}")).startswith(b"HTTP/1.1 500 ")
    assert caplog.messages == [f"the principal of the hub at /chat failed: {kind}"] * 2
    assert "s3cr3t" not in caplog.text


# --- whether it may come in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requires", "header", "status"),
    [
        (None, "", 200),
        (authenticated, "", 401),
        (authenticated, ANN, 200),
        (["admin"], "", 401),
        (["admin"], ANN, 403),
        (["admin"], "Authorization: Bearer root", 200),
        (None, "Authorization: Bearer stolen", 401),
        (None, "Authorization: Bearer banned", 403),
        (None, "Authorization: Bearer broken", 500),
    ],
)
@pytest.mark.parametrize("opens", [False, True])
def test_who_may_come_in(requires: Any, header: str, status: int, opens: bool) -> None:
    served = site(requires)
    headers = [header] if header else []
    if opens:
        data = served.socket().send(upgrade("/chat", *headers))
        assert data.startswith(b"HTTP/1.1 101 " if status == 200 else f"HTTP/1.1 {status} ".encode())
    else:
        answer = ask(served, *headers)
        assert answer.status == status
        if status != 200:
            assert answer.body == b""
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_admission_comes_before_all_other_checks() -> None:
    served = site(authenticated)
    for method, target in (("GET", "/chat"), ("PUT", "/chat"), ("GET", NEGOTIATE), ("GET", "/chat?id=unknown")):
        assert ask(served, method=method, target=target).status == 401
    assert ask(served, target="/elsewhere").status == 404
    assert ask(served, ANN, method="PUT", target="/chat").status == 405


def test_a_requirement_without_an_authenticator_lets_nobody_in() -> None:
    assert ask(site(authenticated, authenticator=None), ANN).status == 401


def test_a_policy_is_asked_about_the_hub() -> None:
    seen: list[Authorization] = []

    def policy(authorization: Authorization) -> bool:
        seen.append(authorization)
        return False

    assert ask(site(policy), ANN).status == 403
    assert [(question.principal.user_id, question.method) for question in seen] == [("ann", None)]


def test_a_policy_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def policy(authorization: Authorization) -> bool:
        raise LookupError("secret detail")

    assert ask(site(policy), ANN).status == 500
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# --- authenticators that wait ----------------------------------------------------------------------------------------


def waiting(served: Site, request: bytes = http("POST", NEGOTIATE)) -> tuple[Socket, RunningCall]:
    """A socket whose request waits for the authenticator."""
    socket = served.socket()
    assert socket.send(request) == b""
    return socket, served.shell.find("authenticator")


def test_a_request_waits_for_its_authenticator() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served)
    assert socket.conn.want_read
    served.shell.finish(call, Principal("ann"))
    assert served.shell.was_woken(socket.conn)
    assert [answer.status for answer in answers(socket.take())] == [200]


def test_requests_are_decided_one_after_another() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served, http("POST", NEGOTIATE) * 2)
    assert not socket.conn.want_read
    assert socket.send(http("POST", NEGOTIATE)) == b""
    served.shell.finish(call, None)
    first = socket.take()
    served.shell.finish(served.shell.find("authenticator"), Principal("ann"))
    second = socket.take()
    served.shell.finish(served.shell.find("authenticator"), Principal("ann"))
    assert [answer.status for answer in answers(first + second + socket.take())] == [401, 200, 200]


def test_a_websocket_opens_when_it_is_decided() -> None:
    served = site(None, slowly)
    socket = served.socket()
    assert socket.send(upgrade("/chat")) == b""
    served.shell.finish(served.shell.find("authenticator"), Principal("ann"))
    assert socket.take().startswith(b"HTTP/1.1 101 ")
    assert socket.conn.session is not None
    assert socket.conn.session.user == "ann"


def test_a_hubs_policy_may_wait_too() -> None:
    async def policy(authorization: Authorization) -> bool:
        raise NotImplementedError

    served = site(policy)
    socket = served.socket()
    assert socket.send(http("POST", NEGOTIATE, ANN)) == b""
    served.shell.finish(served.shell.find("policy"), True)
    assert [answer.status for answer in answers(socket.take())] == [200]


def test_a_plain_authenticator_may_return_something_to_be_awaited() -> None:
    served = site(authenticated, lambda request: WAITS)
    socket, call = waiting(served)
    served.shell.finish(call, Principal("ann"))
    assert [answer.status for answer in answers(socket.take())] == [200]


def test_a_client_that_leaves_cancels_its_authenticator() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served)
    socket.conn.receive_eof(TransportError("cut"), now=1.0)
    served.shell.run()
    assert served.shell.asked_to_cancel == [call]
    served.shell.cancel_asked()
    assert (socket.conn.finished, socket.take()) == (True, b"")


def test_a_client_that_leaves_when_all_is_decided() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served)
    served.shell.finish(call, Principal("ann"))
    socket.conn.receive_eof(now=1.0)
    assert served.shell.asked_to_cancel == []
    assert (socket.conn.finished, socket.take()) == (True, b"")


@pytest.mark.parametrize("outcome", ["returns", "fails", "is cancelled"])
def test_an_authenticator_that_takes_too_long(outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    served = site(authenticated, slowly, request_timeout=4.0)
    socket, call = waiting(served)
    assert socket.conn.next_timeout() == 4.0
    socket.conn.handle_timeout(now=4.0)
    assert [answer.status for answer in answers(socket.take(now=4.0))] == [503]
    assert socket.conn.finished
    assert caplog.messages == ["the authenticator of the hub at /chat/negotiate takes too long"]
    assert served.shell.asked_to_cancel == [call]
    if outcome == "returns":
        served.shell.finish(call, Principal("ann"))
    elif outcome == "fails":
        served.shell.fail(call, ValueError("late"))
    else:
        served.shell.cancel(call)
    assert socket.take(now=4.0) == b""


def test_an_authenticator_that_is_cancelled_from_outside() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served)
    served.shell.cancel(call)
    assert [answer.status for answer in answers(socket.take())] == [503]


def test_a_shutdown_ends_requests_that_wait() -> None:
    served = site(authenticated, slowly)
    socket, call = waiting(served)
    served.server.shut_down(now=0.0)
    served.shell.run()
    assert served.shell.asked_to_cancel == [call]
    assert socket.conn.finished


def test_nothing_that_decides_is_a_stream() -> None:
    shell = Shell()
    admission = Admission(make_hub(), slowly, Request("GET", "/"), "host", shell.effects)
    call = shell.find("authenticator")
    with pytest.raises(AssertionError, match="the authenticator streams nothing"):
        admission.must_wait(call)
    with pytest.raises(AssertionError, match="the authenticator streams nothing"):
        admission.open_stream(call, None)
    with pytest.raises(AssertionError, match="the authenticator streams nothing"):
        admission.send_item(call, None)


def kept_alive() -> tuple[Site, Socket, RunningCall]:
    """A socket whose second request waits for the authenticator."""
    served = site(None, slowly, request_timeout=10.0, idle_timeout=100.0)
    socket = served.socket()
    assert socket.send(http("GET", "/elsewhere"), now=1.0) != b""
    assert socket.conn.next_timeout() == 101.0
    assert socket.send(http("POST", NEGOTIATE), now=2.0) == b""
    return served, socket, served.shell.find("authenticator")


def test_every_request_is_decided_about_in_time() -> None:
    _, socket, _ = kept_alive()
    assert socket.conn.next_timeout() == 12.0
    socket.conn.handle_timeout(now=12.0)
    assert socket.take(now=12.0).startswith(b"HTTP/1.1 503 ")


def test_half_a_request_behind_one_that_is_decided_has_its_own_time() -> None:
    served, socket, call = kept_alive()
    assert socket.send(b"GET /chat HTTP/1.1\r\n", now=3.0) == b""
    served.shell.finish(call, None)
    assert socket.take(now=4.0).startswith(b"HTTP/1.1 200 ")
    assert socket.conn.next_timeout() == 14.0


# --- what must not be seen -------------------------------------------------------------------------------------------


def test_what_fails_is_logged_with_its_place_but_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    users: dict[str | None, Principal] = {}
    header = "Authorization: Bearer s3cr3t"
    answer = ask(site(authenticator=lambda request: users[request.access_token]), header)
    assert (answer.status, answer.body) == (500, b"")
    assert caplog.messages == ["the authenticator of the hub at /chat/negotiate failed: KeyError"]
    assert "KeyError (its text is not logged" in caplog.text
    assert "users[request.access_token]" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_tokens_never_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    served = site(["admin"])
    secret = "s3cr3t-token"
    for header in (f"Authorization: Bearer {secret}", "Authorization: Bearer root", "Authorization: Bearer broken"):
        for target in (NEGOTIATE, f"/chat?access_token={secret}", f"/chat?id={secret}"):
            served.socket().send(http("POST", target, header))
            served.socket().send(upgrade(target, header))
    peer = WebSocket(served.socket(), f"/chat?access_token={secret}", "Authorization: Bearer root")
    peer.send_text(HANDSHAKE)
    peer.send_text(pack({"type": 1, "target": "WhoAmI", "arguments": [secret]}))
    peer.send_text(b"nonsense\x1e")
    assert caplog.records
    assert secret not in caplog.text
    assert "root" not in caplog.text
