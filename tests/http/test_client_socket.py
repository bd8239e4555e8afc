"""One socket of a client: one exchange, on bytes."""

from __future__ import annotations

import json

import pytest

from hubproto_core import ConnectionFailed, ConnectionRefused, HostNotFound, ServerGone, TlsFailed, TransportError
from hubproto_core.http import Obstacle
from tests.http._journey import OFFER, Journey, Opened, switching
from tests.kit.wire import pieces


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "target", "host_header"),
    [
        ("http://h/chat", "h", 80, False, "/chat/negotiate?negotiateVersion=1", "h"),
        ("ws://h:81", "h", 81, False, "/negotiate?negotiateVersion=1", "h:81"),
        ("https://h/", "h", 443, True, "/negotiate?negotiateVersion=1", "h"),
        ("wss://h/a/b/?x=1#here", "h", 443, True, "/a/b/negotiate?x=1&negotiateVersion=1", "h"),
        ("http://[::1]:8/chat", "::1", 8, False, "/chat/negotiate?negotiateVersion=1", "[::1]:8"),
        ("http://user:password@h/chat", "h", 80, False, "/chat/negotiate?negotiateVersion=1", "h"),
    ],
)
def test_an_address_says_where_to_connect(
    url: str, host: str, port: int, tls: bool, target: str, host_header: str
) -> None:
    journey = Journey(url)
    socket = journey.socket
    assert (socket.host, socket.port, socket.tls) == (host, port, tls)
    method, path, headers = journey.request()
    assert (method, path, headers["host"]) == ("POST", target, host_header)


@pytest.mark.parametrize("size", [1, 13])
def test_answers_may_come_in_pieces(size: int) -> None:
    journey = Journey()
    body = json.dumps(OFFER).encode()
    first, second = body[:100], body[100:]
    data = (
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (first, second))
        + b"0\r\n\r\n"
    )
    for piece in pieces(data, size):
        journey.socket.receive_data(piece, now=0.0)
    journey.run()
    assert len(journey.sockets) == 2


def test_an_answer_may_end_with_its_socket() -> None:
    journey = Journey()
    journey.receive(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(OFFER).encode())
    journey.socket.receive_eof(now=0.0)
    journey.run()
    assert len(journey.sockets) == 2


@pytest.mark.parametrize("junk", [b"SSH-2.0-x\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"])
def test_what_does_not_speak_http_is_refused(junk: bytes) -> None:
    journey = Journey()
    journey.receive(junk)
    assert "http://h/chat/negotiate does not answer in HTTP: " in journey.refused()
    journey.socket.receive_data(b"more", now=0.0)
    assert journey.over()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
@pytest.mark.parametrize("error", [None, TransportError("reset by peer")])
def test_a_socket_that_ends_before_its_answer_is_the_end(sent: bytes, error: TransportError | None) -> None:
    journey = Journey()
    if sent:
        journey.receive(sent)
    journey.socket.receive_eof(error, now=0.0)
    text = journey.refused()
    assert text.startswith("http://h/chat/negotiate ")
    if error is not None:
        assert text.endswith("reset by peer")
    assert journey.client.stopped


@pytest.mark.parametrize(("error", "text"), [(OSError("no route"), "no route"), (TimeoutError(), "TimeoutError")])
def test_a_socket_that_cannot_be_opened_is_the_end(error: Exception, text: str) -> None:
    journey = Journey()
    journey.socket.open_failed(error, now=0.0)
    assert journey.refused() == f"cannot connect to http://h/chat/negotiate (h port 80): {text}"
    assert journey.client.stopped
    assert journey.client.next_timeout() is None


@pytest.mark.parametrize("accept", ["", "wrong"])
def test_a_wrong_accept_is_refused(accept: str) -> None:
    journey = Journey(skip_negotiation=True)
    journey.receive(switching(accept))
    assert journey.refused() == "http://h/chat answered the upgrade with a wrong Sec-WebSocket-Accept"
    assert journey.over()


def test_an_upgrade_that_nobody_asked_for_is_refused() -> None:
    journey = Journey()
    journey.receive(switching("x"))
    assert journey.refused()


def test_frames_right_behind_the_upgrade_are_read() -> None:
    journey = Opened(handshake=False, behind=b"\x81\x03{}\x1e")
    assert journey.client.started().is_open


def test_a_socket_before_its_websocket_has_no_deadlines_of_its_own() -> None:
    journey = Journey()
    assert journey.socket.next_timeout() is None
    journey.socket.handle_timeout(now=100.0)
    assert journey.socket.want_read


@pytest.mark.parametrize(
    ("obstacle", "kind"),
    [
        (Obstacle.REFUSED, ConnectionRefused),
        (Obstacle.NO_HOST, HostNotFound),
        (Obstacle.TLS, TlsFailed),
        (Obstacle.OTHER, ConnectionFailed),
    ],
)
def test_what_is_in_the_way_has_an_exception_of_its_own(obstacle: Obstacle, kind: type[ConnectionFailed]) -> None:
    journey = Journey()
    journey.socket.open_failed(OSError("why"), obstacle, now=0.0)
    with pytest.raises(
        ConnectionFailed, match=r"cannot connect to http://h/chat/negotiate \(h port 80\): why"
    ) as failed:
        journey.client.started()
    assert type(failed.value) is kind
    assert failed.value.advice in str(failed.value)


def test_a_websocket_that_breaks_is_a_server_that_is_gone() -> None:
    journey = Opened()
    call = journey.client.started().invoke("Slow")
    journey.socket.receive_eof(now=0.0)
    with pytest.raises(ServerGone, match="http://h/chat is gone: the WebSocket was cut off without a close frame"):
        call.outcome()


def test_a_socket_that_nobody_waits_for_says_nothing_more() -> None:
    journey = Opened()
    journey.client.started().send("Note")
    journey.client.stop(now=0.0)
    journey.socket.abandon()
    assert journey.hear() == ([], [])
