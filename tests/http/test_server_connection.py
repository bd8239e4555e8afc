"""HTTP sockets in front of hubs, on bytes."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import CloseConnection, Ping

from hubproto_core import HubConfig, TransportError
from hubproto_core.http import AccessDenied, EndpointConfig, Request
from tests.http._site import Site, Socket, WebSocket, answers, goes_on, http, masked, split, upgrade
from tests.http._small_site import (
    ADD,
    NEGOTIATE,
    SUM,
    answered_early,
    call,
    chunks,
    make_hub,
    negotiated,
    over,
    polling,
    posted,
    result,
    site,
    streaming,
)
from tests.kit.shell import WAITS
from tests.kit.wire import HANDSHAKE, pack, pieces


def deny(request: Request) -> None:
    raise AccessDenied


# --- requests --------------------------------------------------------------------------------------------------------


def test_negotiation_is_answered() -> None:
    answer = site().socket().ask(NEGOTIATE)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert json.loads(answer.body)["negotiateVersion"] == 1


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_requests_follow_each_other_on_one_socket(size: int) -> None:
    socket = site().socket()
    taken = b""
    for piece in pieces(NEGOTIATE + http("POST", "/nothing", body="hello") + NEGOTIATE, size):
        taken += socket.send(piece)
    assert [answer.status for answer in answers(taken)] == [200, 404, 200]
    assert not over(socket)


@pytest.mark.parametrize(
    "head",
    ["POST /chat/negotiate HTTP/1.0\r\n\r\n", "POST /chat/negotiate HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"],
)
def test_a_client_that_wants_one_answer_gets_one(head: str) -> None:
    socket = site().socket()
    assert socket.ask(head.encode()).status == 200
    assert over(socket)
    assert not socket.conn.want_read
    assert socket.send(NEGOTIATE) == b""


@pytest.mark.parametrize(
    ("request_", "status", "headers"),
    [
        (http("GET", "/chat/negotiate"), 405, {"allow": "POST"}),
        (http("HEAD", "/chat/negotiate"), 405, {"allow": "POST"}),
        (http("HEAD", "/nothing"), 404, {}),
        (http("PUT", "/chat"), 405, {"allow": "GET, POST, DELETE"}),
        (http("GET", "/chat"), 400, {"content-type": "text/plain"}),
        (upgrade("/chat?id=unknown"), 404, {}),
        (upgrade("/nothing"), 404, {}),
        (upgrade("/chat/negotiate"), 405, {}),
        (upgrade(version="8"), 426, {"sec-websocket-version": "13", "upgrade": "websocket"}),
        (upgrade(key=""), 400, {}),
    ],
)
def test_requests_are_refused_and_the_socket_lives_on(request_: bytes, status: int, headers: dict[str, str]) -> None:
    socket = site().socket()
    answer = socket.ask(request_)
    assert answer.status == status
    assert headers.items() <= answer.headers.items()
    assert socket.ask(NEGOTIATE).status == 200


def test_a_body_is_asked_for_where_the_client_waits_for_that() -> None:
    socket = site().socket()
    head, _, body = http("POST", "/chat/negotiate", "Expect: 100-continue", body="hello").partition(b"\r\n\r\n")
    assert socket.send(head + b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    (answer,) = answers(socket.send(body), "POST")
    assert answer.status == 200


BAD_REQUESTS = {
    "no HTTP": b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    "no host": b"GET /chat HTTP/1.1\r\n\r\n",
    "two lengths": http("POST", "/chat", "Content-Length: 3", "Content-Length: 4"),
    "bad header": b"GET /chat HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n",
    "bad chunk": http("POST", "/chat", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n",
    "bad chunk under HEAD": http("HEAD", "/chat", "Transfer-Encoding: chunked") + b"zz\r\n",
}


@pytest.mark.parametrize("request_", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_what_is_no_request_is_answered_and_the_socket_closed(request_: bytes) -> None:
    socket = site().socket()
    data = socket.send(request_)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert over(socket)
    assert socket.send(NEGOTIATE) == b""


def test_what_is_no_request_is_answered_whatever_came_before() -> None:
    socket = site().socket()
    assert socket.ask(http("HEAD", "/nothing")).status == 404
    (answer,) = answers(socket.send(b"junk\r\n\r\n"))
    assert answer.status == 400
    assert answer.body
    assert over(socket)


@pytest.mark.parametrize(
    "target", ["http://[x/chat", "http://", "*", "chat", "//chat", "http://h:x/chat", "?", "x:[y]"]
)
def test_a_target_that_is_no_path_is_not_found(target: str) -> None:
    socket = site().socket()
    assert socket.ask(http("POST", target)).status in (400, 404)
    assert socket.ask(NEGOTIATE).status == 200


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_headers_have_a_limit(size: int) -> None:
    socket = site(max_header_size=1000).socket()
    taken = b""
    for piece in pieces(http("GET", "/chat", "X: " + "x" * 2000)[:-2], size):
        taken += socket.send(piece)
    (answer,) = answers(taken)
    assert (answer.status, answer.body) == (431, b"The request line and the headers are too large.")
    assert answered_early(socket)


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_headers_that_are_all_there_have_the_same_limit(size: int) -> None:
    socket = site(max_header_size=1000).socket()
    taken = b"".join(socket.send(piece) for piece in pieces(http("GET", "/chat", "X: " + "x" * 1100), size))
    assert [answer.status for answer in answers(taken)] == [431]
    assert answered_early(socket)


@pytest.mark.parametrize(("count", "status"), [(99, 400), (100, 431)])
def test_headers_are_counted(count: int, status: int) -> None:
    socket = site().socket()
    answer = socket.ask(http("GET", "/chat", *["X: y"] * count))
    assert (answer.status, answered_early(socket)) == (status, status == 431)


def test_a_length_that_no_machine_can_count_is_no_length() -> None:
    served = site()
    target = polling(served)
    for digits in (20, 5000):
        socket = served.socket()
        data = socket.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {'9' * digits}\r\n\r\n".encode())
        assert [answer.status in (400, 413) for answer in answers(data)] == [True]
        assert socket.send(NEGOTIATE) == b""


def test_whoever_takes_no_answers_is_not_read_on_and_closed_in_the_end() -> None:
    socket = site(idle_timeout=60.0).socket()
    request = http("GET", "/nothing")
    for _ in range(1000):
        if not socket.conn.want_read:
            break
        socket.conn.receive_data(request * 10, now=1.0)
        while goes_on(socket.conn, now=1.0):
            pass
    assert [socket.conn.want_read] == [False]
    assert socket.conn.next_timeout() == 61.0
    assert 65536 < len(socket.take(now=1.0)) < 70_000
    assert [socket.conn.want_read] == [True]
    assert socket.ask(request).status == 404


def test_the_last_answer_must_be_taken_in_time() -> None:
    socket = site(send_timeout=60.0).socket()
    socket.conn.receive_data(http("GET", "/nothing") + b"nonsense\r\n\r\n", now=1.0)
    assert over(socket)
    assert len(answers(socket.conn.data_to_send(now=2.0))) == 2
    assert socket.conn.next_timeout() == 62.0
    socket.conn.handle_timeout(now=62.0)
    assert [socket.conn.next_timeout()] == [None]


def test_the_last_frames_must_be_taken_in_time() -> None:
    peer = site(send_timeout=60.0).websocket()
    conn = peer.socket.conn
    conn.receive_data(peer.ws.send(CloseConnection(1000)), now=1.0)
    assert conn.data_to_send(now=2.0)
    assert over(peer.socket)
    assert conn.next_timeout() == 62.0
    conn.handle_timeout(now=62.0)
    assert [conn.next_timeout()] == [None]


@pytest.mark.parametrize("size", [3, 1000])
def test_what_is_no_http_is_answered_in_one_way_however_it_is_cut(size: int) -> None:
    socket = site().socket()
    taken = b"".join(socket.send(piece) for piece in pieces(b"SSH-2.0-x y z\r\n\r\n", size))
    assert taken.endswith(b"\r\n\r\nThis is no valid HTTP/1.1 request.")
    assert over(socket)


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
@pytest.mark.parametrize("chunk", [100, 10_000])
def test_bodies_have_a_limit(size: int, status: int, chunk: int) -> None:
    socket = site(max_body_size=1000).socket()
    taken = b""
    for piece in pieces(http("POST", "/chat/negotiate", body="x" * size), chunk):
        taken += socket.send(piece)
    assert [answer.status for answer in answers(taken)] == [status]
    assert answered_early(socket) is (status == 413)


def test_a_body_over_the_limit_is_not_waited_for() -> None:
    socket = site(max_body_size=1000).socket()
    answer = socket.ask(http("POST", "/chat/negotiate", body="x" * 5000)[:1500])
    assert answer.status == 413
    assert answered_early(socket)


def test_repeated_headers_are_joined() -> None:
    peer = site().websocket("/chat", "X-Lab: a", "X-Lab: b", "X-Latin: \u00e9")
    assert peer.ask(call("Header", "x-lab")) == [result("a, b")]


# --- pages of other origins ------------------------------------------------------------------------------------------

APP = "Origin: https://app.example.com"
ALLOWED = {
    "vary": "Origin",
    "access-control-allow-origin": "https://app.example.com",
    "access-control-allow-credentials": "true",
}


def open_to_app() -> Site:
    return Site(make_hub(), options=EndpointConfig(allowed_origins=["https://app.example.com"]))


def test_a_page_of_another_origin_may_do_all_when_it_is_allowed() -> None:
    served = open_to_app()
    socket = served.socket()
    answer = socket.ask(http("OPTIONS", "/chat/negotiate", APP, "Access-Control-Request-Method: POST"))
    assert answer.status == 204
    assert ALLOWED.items() <= answer.headers.items()
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    answer = socket.ask(http("POST", "/chat/negotiate?negotiateVersion=1", APP))
    assert (answer.status, ALLOWED.items() <= answer.headers.items()) == (200, True)
    target = f"/chat?id={json.loads(answer.body)['connectionToken']}"
    for request, status in ((http("GET", target, APP), 200), (http("DELETE", target, APP), 202)):
        answer = socket.ask(request)
        assert (answer.status, ALLOWED.items() <= answer.headers.items()) == (status, True)
    assert "vary" not in socket.ask(http("GET", "/elsewhere", APP)).headers
    served.websocket("/chat", APP)


def test_streams_of_events_are_for_pages_of_other_origins_too() -> None:
    served = open_to_app()
    stream = served.socket()
    head, _, _ = stream.send(http("GET", negotiated(served), APP, "Accept: text/event-stream")).partition(b"\r\n\r\n")
    assert b"\r\naccess-control-allow-origin: https://app.example.com\r\n" in head.lower()


def test_a_page_that_is_not_allowed_opens_no_websocket() -> None:
    def authenticate(request: object) -> None:
        raise AssertionError("it is not even asked")

    served = Site(make_hub(), authenticator=authenticate)
    socket = served.socket()
    answer = socket.ask(upgrade("/chat", APP))
    assert (answer.status, answer.body) == (403, b"Origin not allowed")
    assert socket.ask(http("OPTIONS", "/chat", APP, "Access-Control-Request-Method: GET")).status == 403
    assert not over(socket)


def test_a_refusal_can_be_read_by_a_page_of_another_origin() -> None:
    served = Site(make_hub(), authenticator=deny, options=EndpointConfig(allowed_origins=["https://app.example.com"]))
    socket = served.socket()
    answer = socket.ask(http("POST", "/chat/negotiate", APP))
    assert (answer.status, ALLOWED.items() <= answer.headers.items()) == (401, True)
    assert socket.ask(http("OPTIONS", "/chat", APP, "Access-Control-Request-Method: GET")).status == 204


# --- cookies ---------------------------------------------------------------------------------------------------------


def test_cookies_reach_the_authenticator_with_every_request() -> None:
    seen: list[str | None] = []

    def authenticate(request: Request) -> None:
        seen.append(request.headers.get("cookie"))

    served = Site(make_hub(), authenticator=authenticate)
    socket = served.socket()
    answer = socket.ask(http("POST", "/chat/negotiate?negotiateVersion=1", "Cookie: a=1"))
    target = f"/chat?id={json.loads(answer.body)['connectionToken']}"
    socket.ask(http("GET", target, "Cookie: a=2"))
    socket.ask(http("POST", target, "Cookie: a=3", body="x"))
    socket.ask(http("DELETE", target, "Cookie: a=4", "Cookie: b=5"))
    served.websocket("/chat", "Cookie: a=6; b=7")
    assert seen == ["a=1", "a=2", "a=3", "a=4; b=5", "a=6; b=7"]


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_socket_on_which_nothing_comes_is_closed_silently() -> None:
    socket = site(request_timeout=5.0).socket(now=1.0)
    assert socket.conn.next_timeout() == 6.0
    socket.conn.handle_timeout(now=5.9)
    assert not over(socket)
    socket.conn.handle_timeout(now=6.0)
    assert over(socket)
    assert socket.take() == b""
    assert socket.conn.next_timeout() is None


def test_half_a_request_is_answered_408_when_its_time_is_over() -> None:
    socket = site(request_timeout=5.0).socket()
    socket.send(http("POST", "/chat/negotiate", body="hello")[:-1], now=4.0)
    socket.conn.handle_timeout(now=5.0)
    (answer,) = answers(socket.take())
    assert answer.status == 408
    assert over(socket)


def test_a_slow_request_has_one_time_limit_for_all_its_pieces() -> None:
    socket = site(request_timeout=5.0).socket()
    for piece in pieces(NEGOTIATE[:-1], 10):
        socket.send(piece, now=3.0)
    assert socket.conn.next_timeout() == 5.0


def test_half_a_request_behind_a_whole_one_has_the_time_of_a_request() -> None:
    socket = site(request_timeout=5.0, idle_timeout=60.0).socket()
    socket.send(NEGOTIATE + NEGOTIATE[:-2], now=1.0)
    assert socket.conn.next_timeout() == 6.0


def test_a_socket_is_kept_for_another_request_for_a_while() -> None:
    socket = site(request_timeout=5.0, idle_timeout=60.0).socket()
    socket.ask(NEGOTIATE, now=1.0)
    assert socket.conn.next_timeout() == 61.0
    socket.send(NEGOTIATE[:20], now=50.0)
    assert socket.conn.next_timeout() == 55.0
    answers(socket.send(NEGOTIATE[20:], now=51.0))
    assert socket.conn.next_timeout() == 111.0
    socket.conn.handle_timeout(now=111.0)
    assert over(socket)
    assert socket.take() == b""


def test_a_negotiated_id_expires() -> None:
    served = site()
    token = json.loads(served.socket().ask(NEGOTIATE, now=1.0).body)["connectionToken"]
    assert served.shell.was_woken(served.server)
    assert served.server.next_timeout() == 16.0
    served.server.handle_timeout(now=16.0)
    assert served.server.next_timeout() is None
    assert served.socket().ask(upgrade(f"/chat?id={token}")).status == 404


# --- WebSockets ------------------------------------------------------------------------------------------------------


def test_a_websocket_carries_a_session() -> None:
    served = site()
    members = json.loads(served.socket().ask(NEGOTIATE).body)
    target = f"/chat?id={members['connectionToken']}"
    peer = served.websocket(target)
    session = peer.socket.conn.session
    assert session is not None
    assert session.connection_id == members["connectionId"]
    assert peer.ask(call("Add", 1, 2)) == [result(3)]
    assert served.socket().ask(upgrade(target)).status == 409
    assert served.socket().ask(http("POST", target)).status == 405
    assert peer.exchange(CloseConnection(1000)) == [CloseConnection(1000, "")]
    assert over(peer.socket)
    assert served.socket().ask(upgrade(target)).status == 404


def test_negotiation_may_be_skipped() -> None:
    assert site().websocket().ask(call("Add", 1, 2)) == [result(3)]


def test_a_refused_upgrade_may_be_followed_by_another_request() -> None:
    socket = site().socket()
    taken = socket.send(upgrade(version="8") + NEGOTIATE)
    assert [answer.status for answer in answers(taken)] == [426, 200]


def test_frames_right_behind_the_upgrade_are_read() -> None:
    peer = WebSocket(site().socket(), behind=masked(1, HANDSHAKE) + masked(1, pack(call("Add", 1, 2))))
    assert peer.hear() == [{}, result(3)]


def test_its_owner_is_woken_when_a_session_has_something_to_say() -> None:
    served = site()
    peer = served.websocket()
    served.shell.woken.clear()
    served.server.context(served.hub).clients.all.send("news")
    assert served.shell.was_woken(peer.socket.conn)


def test_a_websocket_that_breaks_ends_its_session() -> None:
    served = site()
    peer = served.websocket()
    session = peer.socket.conn.session
    assert session is not None
    peer.socket.conn.receive_eof(TransportError("reset"), now=0.0)
    served.shell.run()
    assert over(peer.socket)
    assert session.finished
    assert str(session.error) == "reset"


def test_a_socket_may_end_at_any_time() -> None:
    socket = site().socket()
    socket.send(NEGOTIATE[:-1])
    socket.conn.receive_eof(now=0.0)
    socket.conn.receive_eof(now=0.0)
    assert over(socket)
    assert socket.take() == b""


def test_an_empty_read_ends_a_socket_that_waits_for_a_request() -> None:
    socket = site().socket()
    socket.ask(NEGOTIATE)
    assert socket.send(b"") == b""
    assert over(socket)


def test_time_passes_for_the_session_too() -> None:
    peer = site(HubConfig(keep_alive_interval=10.0)).websocket()
    assert peer.socket.conn.next_timeout() == 10.0
    peer.socket.conn.handle_timeout(now=10.0)
    assert peer.hear(now=10.0) == [{"type": 6}]


def test_a_client_that_floods_with_pings_is_not_read_on() -> None:
    peer = site().websocket()
    conn = peer.socket.conn
    conn.receive_data(b"".join(peer.ws.send(Ping(b"x" * 125)) for _ in range(1000)), now=0.0)
    assert not conn.want_read


def test_a_bad_frame_ends_one_client_only() -> None:
    served = site()
    bad, good = served.websocket(), served.websocket()
    _, closes = split(bad.exchange_bytes(b"\xff" * 20))
    assert [code for code, _ in closes] == [1002]
    assert good.ask(call("Add", 1, 2)) == [result(3)]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (http("GET", "/nowhere?access_token=s3cret"), "/nowhere is answered with status 404"),
        (http("GET", "/a%0ab"), "/a%0ab is answered with status 404"),
        (b"nonsense\r\n\r\n", "what is no request is answered with status 400"),
    ],
    ids=["with a secret", "with a line feed", "nonsense"],
)
def test_refusals_are_logged_as_details_without_secrets(
    request_: bytes, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site().socket().send(request_)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("hubproto_core.http", logging.DEBUG, text)
    assert vars(record)["connection_id"] is None


# --- properties ------------------------------------------------------------------------------------------------------

CONVERSATION = NEGOTIATE + http("POST", "/nothing", body="hello") + http("GET", "/chat") + upgrade()
MASKED = masked(1, HANDSHAKE) + masked(9, b"ping") + masked(1, pack(call("Add", 1, 2)))
CLOSE = masked(8, b"\x03\xe8")


def play(data: bytes, size: int) -> bytes:
    socket = site().socket()
    return b"".join(socket.send(piece) for piece in pieces(data, size))


def hub_messages(data: bytes) -> bytes:
    """Server frames without their heads."""
    joined, rest = b"", data
    while rest:
        length = rest[1]
        assert length < 126
        joined, rest = joined + rest[2 : 2 + length], rest[2 + length :]
    return joined


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 700))
def test_any_chunking_gives_the_same_answers(size: int) -> None:
    head, separator, frames = play(CONVERSATION + MASKED, size).rpartition(b"sec-websocket-accept")
    same_head, _, same_frames = play(CONVERSATION + MASKED, 10_000).rpartition(b"sec-websocket-accept")
    assert separator
    assert head == same_head
    cut = frames.index(b"\r\n\r\n") + 4
    assert frames[:cut] == same_frames[:cut]
    assert sorted(hub_messages(frames[cut:])) == sorted(hub_messages(same_frames[cut:]))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(1, 900),
)
def test_bad_bytes_never_raise(mutations: list[tuple[int, int, bytes]], size: int) -> None:
    data = CONVERSATION + MASKED + CLOSE
    for position, removed, inserted in mutations:
        position %= len(data)
        data = data[:position] + inserted + data[position + removed :]
    served = site()
    socket = served.socket()
    for piece in pieces(data, size):
        socket.send(piece)
    socket.conn.receive_eof(now=0.0)
    socket.take()
    assert over(socket)
    served.server.shut_down(now=0.0)
    assert served.server.closed


# --- long polling, server-sent events --------------------------------------------------------------------------------


def test_long_polling_on_one_socket() -> None:
    served = site()
    target = negotiated(served)
    socket = served.socket()
    assert socket.ask(http("GET", target)).status == 200
    assert socket.ask(posted(target, HANDSHAKE)).status == 200
    assert socket.ask(http("GET", target)).body == b"{}\x1e"
    assert socket.ask(posted(target, ADD)).status == 200
    polled = socket.ask(http("GET", target))
    assert (polled.body, polled.headers["content-type"]) == (SUM, "application/octet-stream")


def test_a_poll_is_answered_when_there_is_something_to_say() -> None:
    served = site()
    target = negotiated(served)
    poller, poster = served.socket(), served.socket()
    poller.ask(http("GET", target))
    poster.ask(posted(target, HANDSHAKE))
    poller.ask(http("GET", target))
    assert poller.send(http("GET", target)) == b""
    assert poller.conn.want_read
    assert poller.conn.next_timeout() == 90.0
    assert poster.ask(posted(target, ADD)).status == 200
    assert served.shell.was_woken(poller.conn)
    (answer,) = answers(poller.take())
    assert answer.body == SUM
    assert poller.conn.next_timeout() == 120.0  # the socket is kept for the next one


def test_a_poll_has_its_time() -> None:
    served = site()
    target = negotiated(served)
    socket = served.socket()
    for _ in range(2):
        socket.send(http("GET", target))
    socket.conn.handle_timeout(now=15.0)  # nobody has shaken hands
    (answer,) = answers(socket.take(now=15.0))
    assert b"Handshake was canceled" in answer.body
    (nothing_more,) = answers(socket.send(http("GET", target), now=15.0))
    assert (nothing_more.status, "content-length" in nothing_more.headers) == (204, False)


def test_requests_behind_a_poll_wait_for_it() -> None:
    served = site()
    target = negotiated(served)
    socket, poster = served.socket(), served.socket()
    socket.ask(http("GET", target))
    assert socket.send(http("GET", target) + http("GET", "/elsewhere")) == b""
    assert not socket.conn.want_read
    poster.ask(posted(target, HANDSHAKE))
    assert [answer.status for answer in answers(socket.take())] == [200, 404]


def test_a_client_that_closes_the_socket_of_its_poll() -> None:
    served = site()
    target = negotiated(served)
    poller = served.socket()
    poller.ask(http("GET", target))
    poller.send(http("GET", target))
    poller.conn.receive_eof(now=5.0)
    assert over(poller)
    served.server.handle_timeout(now=5.0)
    assert served.server.next_timeout() == 15.0  # the handshake's
    served.server.handle_timeout(now=15.0)
    served.server.handle_timeout(now=20.0)
    assert served.server.next_timeout() is None


def test_events_are_chunks() -> None:
    served = site()
    stream, target = streaming(served)
    served.socket().ask(posted(target, ADD))
    assert chunks(stream.take()) == [b"data: " + SUM + b"\r\n\r\n"]
    served.socket().ask(posted(target, b'{"type":7}\x1e'))
    assert chunks(stream.take()) == [b'data: {"type":7}\x1e\r\n\r\n', b""]
    assert not over(stream)
    assert stream.ask(http("GET", "/elsewhere")).status == 404


def test_a_listener_that_hangs_up() -> None:
    served = site()
    stream, target = streaming(served)
    stream.conn.receive_eof(now=1.0)
    served.shell.run()
    served.server.handle_timeout(now=1.0)
    served.shell.run()
    assert served.server.context(served.hub).connections == []
    assert served.socket().ask(posted(target, ADD)).status == 404


def test_a_listener_that_takes_nothing_is_still_served_its_deadlines() -> None:
    served = site()
    stream, _ = streaming(served)
    assert stream.conn.next_timeout() == 15.0
    stream.conn.handle_timeout(now=15.0)
    assert chunks(stream.take(now=15.0)) == [b'data: {"type":6}\x1e\r\n\r\n']


def test_a_listener_that_leaves_too_much_unread_is_given_up() -> None:
    served = site(HubConfig(send_limit=10_000))
    stream, target = streaming(served)
    for _ in range(2):
        served.server.context(served.hub).clients.all.send("news", "x" * 9000)
    stream.conn.handle_timeout(now=4.9)
    assert not over(stream)
    assert stream.conn.next_timeout() == 5.0
    stream.conn.handle_timeout(now=5.0)
    assert over(stream)
    assert stream.take(now=5.0) == b""
    assert served.socket().ask(posted(target, ADD), now=5.0).status == 404


def test_a_listener_that_takes_nothing_is_given_up() -> None:
    served = site(HubConfig(keep_alive_interval=100.0), send_timeout=10.0)
    stream, target = streaming(served)
    conn = stream.conn
    served.socket().ask(posted(target, ADD))
    assert conn.data_to_send(now=1.0)
    assert conn.next_timeout() == 6.0
    served.shell.woken.clear()
    conn.handle_timeout(now=6.0)
    assert served.shell.was_woken(conn)
    assert conn.data_to_send(now=6.0) == b""  # so it had been taken
    assert conn.next_timeout() == 100.0
    served.socket().ask(posted(target, ADD))
    assert conn.data_to_send(now=20.0)
    for now in (25.0, 29.9):
        conn.handle_timeout(now=now)
        assert not over(stream)
    conn.handle_timeout(now=30.0)
    assert over(stream)
    assert served.socket().ask(posted(target, ADD)).status == 404


def test_a_poll_whose_answer_is_not_taken_is_cut_and_its_client_is_gone() -> None:
    served = site(send_timeout=10.0)
    target = polling(served)
    served.socket().ask(posted(target, ADD))
    poller = served.socket()
    poller.conn.receive_data(http("GET", target), now=0.0)
    assert SUM in poller.conn.data_to_send(now=0.0)
    assert poller.conn.next_timeout() == 5.0
    for now in (5.0, 10.0):
        poller.conn.handle_timeout(now=now)
    assert over(poller)
    served.server.handle_timeout(now=15.0)
    assert served.socket().ask(http("GET", target)).status == 404


def test_the_last_answer_on_a_socket_has_its_time_as_well() -> None:
    served = site(send_timeout=10.0)
    socket = served.socket()
    socket.conn.receive_data(http("GET", "/elsewhere", "Connection: close"), now=0.0)
    assert socket.conn.data_to_send(now=0.0)
    assert over(socket)
    assert socket.conn.next_timeout() == 10.0
    socket.conn.handle_timeout(now=9.9)
    assert socket.conn.next_timeout() == 10.0
    socket.conn.handle_timeout(now=10.0)
    assert socket.conn.next_timeout() is None


# --- posted bodies ---------------------------------------------------------------------------------------------------


def test_a_body_is_read_as_fast_as_the_session_takes_it() -> None:
    served = site()
    target = polling(served)
    body = pack(call("Slow"), call("Slow", id="2")) + ADD * 40
    poster = served.socket()
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {2 * len(body)}\r\n\r\n".encode()
    assert poster.send(head + body) == b""
    assert poster.send(body) == b""  # is not looked at before there is room
    assert not poster.conn.want_read
    done = b""
    while served.shell.labels():
        served.shell.finish(served.shell.running[0])
        done += poster.take()
    assert [answer.status for answer in answers(done)] == [200]


def test_a_body_larger_than_any_message_is_taken_bit_by_bit() -> None:
    served = site(max_body_size=1000)
    target = polling(served)
    body = ADD * 500
    poster = served.socket()
    data = poster.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), 1000):
        assert data == b""
        data = poster.send(body[start : start + 1000], now=start / 1e6)
    assert [answer.status for answer in answers(data)] == [200]
    assert len(served.socket().ask(http("GET", target)).body) == len(SUM * 500)


def test_a_body_is_looked_at_in_turns_though_nobody_listens() -> None:
    served = site()
    target = negotiated(served)
    socket = served.socket()
    socket.ask(http("GET", target))
    socket.ask(posted(target, HANDSHAKE + ADD * 120))
    for _ in range(2):
        assert served.server.next_timeout() == 0.0
        served.server.handle_timeout(now=0.0)
        served.shell.run()
    assert len(socket.ask(http("GET", target)).body) == len(pack({}) + SUM * 120)


def test_what_says_nothing_is_looked_at_in_turns_though_nobody_listens() -> None:
    served = site()
    target = negotiated(served)
    socket = served.socket()
    socket.ask(http("GET", target))
    socket.ask(posted(target, HANDSHAKE))
    served.server.handle_timeout(now=0.0)
    socket.ask(posted(target, pack({"type": 6}) * 80))
    served.server.handle_timeout(now=0.0)
    assert served.server.next_timeout() == 0.002
    served.server.handle_timeout(now=0.002)
    assert served.server.next_timeout() == 15.0


def test_requests_are_read_in_turns() -> None:
    socket = site().socket()
    socket.conn.receive_data(http("GET", "/nothing") * 5, now=1.0)
    said = []
    for _ in range(3):
        said.append(len(answers(socket.conn.data_to_send(now=1.0))))
        assert socket.conn.want_read is (sum(said) == 5)
        goes_on(socket.conn, now=1.0)
    assert said == [2, 2, 1]


def test_a_body_of_little_chunks_is_read_in_turns() -> None:
    socket = site().socket()
    head = b"POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    socket.conn.receive_data(head + b"1\r\nx\r\n" * 10 + b"0\r\n\r\n", now=1.0)
    said = []
    while not socket.conn.want_read:
        said.append(len(answers(socket.conn.data_to_send(now=1.0))))
        goes_on(socket.conn, now=1.0)
    assert said == [0, 0, 1]


def test_a_body_for_nobody_is_read_before_that_is_said() -> None:
    served = site(max_body_size=100)
    head = b"POST /chat?id=nobody HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n"
    socket = served.socket()
    assert socket.send(head + b"x" * 50) == b""
    assert [answer.status for answer in answers(socket.send(b"x" * 10))] == [404]
    assert socket.send(head.replace(b"60", b"600") + b"x" * 90) == b""
    assert [answer.status for answer in answers(socket.send(b"x" * 90))] == [413]
    assert answered_early(socket)


def begin_to_post(served: Site, target: str, *headers: str) -> Socket:
    poster = served.socket()
    assert poster.send("\r\n".join([f"POST {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode()) == b""
    return poster


def test_a_body_that_trickles_is_not_waited_for() -> None:
    served = site(request_timeout=4.0, min_body_rate=10.0)
    poster = begin_to_post(served, polling(served), "Content-Length: 999")
    now = 0.0
    while (deadline := poster.conn.next_timeout()) is not None and deadline > now + 1.0:
        now += 1.0
        assert poster.send(b"x", now=now) == b""
    assert now == 4.0
    poster.conn.handle_timeout(now=deadline or 0.0)
    assert [answer.status for answer in answers(poster.take(now=5.0))] == [408]
    assert over(poster)


def test_a_body_that_comes_fast_enough_may_take_its_time() -> None:
    served = site(request_timeout=4.0, min_body_rate=10.0)
    target = polling(served)
    poster = begin_to_post(served, target, "Content-Length: 1000")
    for second in range(1, 100):
        assert poster.send(b" " * 10, now=float(second)) == b""
        assert poster.conn.next_timeout() == second + 4.0
    assert [answer.status for answer in answers(poster.send(b" " * 10, now=100.0))] == [200]


def test_a_body_that_stops_coming_is_not_waited_for() -> None:
    served = site(request_timeout=4.0)
    poster = begin_to_post(served, polling(served), "Content-Length: 999999")
    poster.send(b"x" * 30_000, now=3.0)
    assert poster.conn.next_timeout() == 7.0
    poster.conn.handle_timeout(now=7.0)
    assert [answer.status for answer in answers(poster.take(now=7.0))] == [408]
    assert over(poster)


def test_a_body_that_was_not_taken_must_go_on_then() -> None:
    served = site(request_timeout=4.0)
    poster = begin_to_post(served, polling(served), "Content-Length: 999999")
    poster.send(pack(call("Slow"), call("Slow", id="2")), now=1.0)
    poster.send(ADD, now=1.0)
    assert [poster.conn.want_read] == [False]
    assert poster.conn.next_timeout() is None
    while served.shell.labels():
        served.shell.finish(served.shell.running[0])
    poster.take(now=100.0)
    assert [poster.conn.want_read] == [True]
    deadline = poster.conn.next_timeout()
    assert deadline is not None
    assert 103.0 < deadline < 104.0
    poster.conn.handle_timeout(now=deadline)
    assert [answer.status for answer in answers(poster.take(now=deadline))] == [408]


def test_a_posted_body_that_says_it_is_too_large_is_not_read() -> None:
    served = site(max_post_size=1000)
    target = polling(served)
    assert [answer.status for answer in answers(served.socket().send(posted(target, b" " * 1000)))] == [200]
    poster = served.socket()
    (answer,) = answers(poster.send(posted(target, ADD + b" " * 1000)))
    assert (answer.status, answered_early(poster)) == (413, True)
    poller = served.socket()
    assert poller.send(http("GET", target)) == b""  # nothing of it has reached the hub


def test_a_posted_body_that_does_not_say_how_large_it_is_is_counted() -> None:
    served = site(max_post_size=1000)
    target = polling(served)
    poster = begin_to_post(served, target, "Transfer-Encoding: chunked")
    chunk = b"190\r\n" + b" " * 400 + b"\r\n"
    assert poster.send(chunk) == b""
    assert poster.send(chunk) == b""
    (answer,) = answers(poster.send(chunk))
    assert (answer.status, answered_early(poster)) == (413, True)
    assert [answer.status for answer in answers(served.socket().send(posted(target, ADD)))] == [200]
    assert served.socket().ask(http("GET", target)).body == SUM


def test_a_body_that_nobody_takes_yet_is_not_late() -> None:
    served = site(request_timeout=4.0)
    target = polling(served)
    body = pack(call("Slow"), call("Slow", id="2"), call("Add", 1, 2))
    poster = served.socket()
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {2 * len(body)}\r\n\r\n".encode()
    poster.send(head + body)
    poster.send(body)
    assert not poster.conn.want_read
    assert poster.conn.next_timeout() is None
    poster.conn.handle_timeout(now=5.0)
    assert poster.take(now=5.0) == b""


def test_a_client_that_hangs_up_while_it_posts() -> None:
    served = site()
    target = polling(served)
    poster = served.socket()
    poster.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n\r\n".encode() + ADD)
    poster.conn.receive_eof(now=1.0)
    assert over(poster)
    assert served.socket().ask(http("GET", target)).body == SUM


def test_posting_may_have_to_be_admitted_first() -> None:
    served = Site(make_hub(), authenticator=lambda request: WAITS)
    socket = served.socket()
    assert socket.send(posted("/chat?id=nobody", ADD)) == b""
    served.shell.finish(served.shell.find("authenticator"), None)
    assert [answer.status for answer in answers(socket.take())] == [404]


# --- whoever is answered early ---------------------------------------------------------------------------------------


def refused(now: float = 0.0, **limits: Any) -> Socket:
    """A socket whose client was told that its body is too large, and may not have read that yet."""
    socket = site(max_body_size=1000, **limits).socket()
    data = socket.send(http("POST", "/chat/negotiate", body="x" * 5000)[:1500], now)
    (answer,) = answers(data, "POST")
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    return socket


def test_whoever_still_sends_may_read_why_that_is_in_vain() -> None:
    socket = refused()
    for _ in range(100):
        assert socket.conn.want_read
        assert socket.send(b"x" * 1000) == b""
    assert not over(socket)
    socket.conn.receive_eof(now=1.0)
    assert over(socket)


def test_whoever_still_sends_has_some_time() -> None:
    socket = refused(now=1.0)
    for step in range(1, 13):
        socket.conn.handle_timeout(now=1.0 + 0.4 * step)
        assert not over(socket)
        assert socket.send(b"x", 1.0 + 0.4 * step) == b""
    assert socket.conn.next_timeout() == 6.0
    socket.conn.handle_timeout(now=6.0)
    assert over(socket)


def test_whoever_sends_no_more_is_not_waited_for() -> None:
    socket = refused(now=1.0)
    assert socket.send(b"x", 1.25) == b""
    assert socket.conn.next_timeout() == 1.75
    socket.conn.handle_timeout(now=1.5)
    assert not over(socket)
    socket.conn.handle_timeout(now=1.75)
    assert over(socket)


def test_whoever_still_sends_may_send_so_much() -> None:
    socket = refused()
    piece = b"x" * 1_048_576
    for _ in range(31):
        socket.send(piece)
    assert not over(socket)
    socket.send(piece)
    assert over(socket)


def test_a_shutdown_does_not_wait_for_whoever_still_sends() -> None:
    socket = refused()
    socket.site.server.shut_down(now=0.0)
    assert over(socket)
    assert socket.site.server.closed


def test_the_last_request_before_a_shutdown_is_not_waited_for_either() -> None:
    served = site(max_post_size=1000)
    poster = begin_to_post(served, polling(served), "Transfer-Encoding: chunked")
    served.server.shut_down(now=0.0)
    assert [answer.status for answer in answers(poster.send(b"3e9\r\n" + b" " * 1001 + b"\r\n"))] == [413]
    assert over(poster)


def test_what_is_no_request_is_not_listened_to() -> None:
    socket = site().socket()
    assert socket.send(b"\x16\x03\x01 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert over(socket)


# --- whoever waits to be asked for a body ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/chat/negotiate", "/nothing", "the hub"])
def test_a_body_that_is_too_large_is_not_asked_for(target: str) -> None:
    served = site(max_body_size=1000, max_post_size=2000)
    path = polling(served) if target == "the hub" else target
    for length, begins in ((2001, b"HTTP/1.1 413 "), (1000, b"HTTP/1.1 100 ")):
        socket = served.socket()
        head = http("POST", path, "Expect: 100-continue", body="x" * length).partition(b"\r\n\r\n")[0]
        data = socket.send(head + b"\r\n\r\n")
        assert data.startswith(begins)
        assert socket.send(b"x" * length)[:9] == (b"" if length == 2001 else b"HTTP/1.1 ")


def test_a_body_is_not_asked_for_before_its_client_is_let_in() -> None:
    served = Site(make_hub(), authenticator=lambda request: WAITS)
    socket = served.socket()
    head, _, body = http("POST", "/chat/negotiate", "Expect: 100-continue", body="hello").partition(b"\r\n\r\n")
    assert socket.send(head + b"\r\n\r\n") == b""
    served.shell.finish(served.shell.running[0])
    assert socket.take() == b"HTTP/1.1 100 \r\n\r\n"
    assert answers(socket.send(body), "POST")[0].status == 200
