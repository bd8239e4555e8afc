"""The way through a proxy, on bytes."""

from __future__ import annotations

from typing import Any

import pytest

from hubproto_core import ConnectionRefused, ProxyFailed, TlsFailed, TransportError
from hubproto_core.http import Obstacle
from hubproto_core.http._tunnel import Tunnel
from tests.http._journey import OFFER, Journey
from tests.kit.wire import pieces

AGREED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Trek(Journey):
    """A journey through a proxy."""

    def __init__(self, url: str = "https://h/chat", proxy: str = "http://me:s3cret@p:3128", **options: Any) -> None:
        super().__init__(url, proxy=proxy, **options)

    @property
    def tunnel(self) -> Tunnel:
        assert self.socket.tunnel is not None
        return self.socket.tunnel

    def why(self) -> ProxyFailed:
        with pytest.raises(ProxyFailed) as failed:
            self.client.started()
        assert failed.value.proxy == "p:3128"
        assert failed.value.url == "https://h/chat/negotiate"
        assert str(failed.value).startswith(
            "no way to https://h/chat/negotiate: the proxy p:3128, asked for a tunnel to h:443, "
        )
        assert "s3cret" not in str(failed.value)
        assert self.tunnel.finished
        assert not self.tunnel.open
        assert self.socket.finished
        return failed.value


@pytest.mark.parametrize("size", [1, 1000])
def test_the_proxy_is_asked_for_a_way(size: int) -> None:
    trek = Trek()
    assert trek.socket.address == ("p", 3128)
    assert (trek.socket.host, trek.socket.port, trek.socket.tls) == ("h", 443, True)
    asked = b"CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\nproxy-authorization: Basic bWU6czNjcmV0\r\n\r\n"
    assert trek.tunnel.data_to_send().lower() == asked.lower()
    assert trek.tunnel.data_to_send() == b""
    for piece in pieces(b"HTTP/1.1 100 Continue\r\n\r\n" + AGREED, size):
        assert not trek.tunnel.finished
        trek.tunnel.receive_data(piece, now=0.0)
    assert trek.tunnel.open
    assert trek.tunnel.finished
    method, target, headers = trek.request()
    assert (method, target) == ("POST", "/chat/negotiate?negotiateVersion=1")
    assert headers["host"] == "h"
    assert "proxy-authorization" not in headers
    trek.answer(OFFER)
    assert trek.socket.address == ("p", 3128)
    assert trek.tunnel.data_to_send().startswith(b"CONNECT h:443 ")


def test_each_host_is_asked_for() -> None:
    trek = Trek("http://h:8000/chat", "p:1")
    assert trek.tunnel.data_to_send().startswith(b"CONNECT h:8000 ")
    trek.answer({"url": "http://[::1]/hub"})
    asked = trek.tunnel.data_to_send()
    assert asked.startswith(b"CONNECT [::1]:80 ")
    assert b"authorization" not in asked.lower()


def test_without_a_proxy_there_is_no_tunnel() -> None:
    journey = Journey("http://h:8000/chat")
    assert journey.socket.tunnel is None
    assert journey.socket.address == ("h", 8000)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refused with status 403 Forbidden; does it allow CONNECT to this port?"),
        (b"HTTP/1.1 407 \r\n\r\n", "refused with status 407; it wants a user and a password"),
        (b"HTTP/1.1 504 Late\r\nContent-Length: 9\r\n\r\n", "refused with status 504 Late; can it reach the server?"),
        (b"HTTP/1.1 302 Elsewhere\r\n\r\n", "refused with status 302 Elsewhere"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer in HTTP"),
        (AGREED + b"x", "sent something before it was asked"),
    ],
)
def test_a_proxy_that_does_not_do(answer: bytes, text: str) -> None:
    trek = Trek()
    trek.tunnel.data_to_send()
    trek.tunnel.receive_data(answer, now=0.0)
    assert text in str(trek.why())
    trek.tunnel.receive_data(AGREED, now=0.0)
    trek.tunnel.receive_eof(now=0.0)
    trek.tunnel.not_opened("late", now=0.0)
    assert text in str(trek.why())


def test_a_proxy_that_goes_away() -> None:
    trek = Trek()
    trek.tunnel.receive_eof(now=0.0)
    assert str(trek.why()).endswith("closed the connection")
    trek = Trek()
    trek.tunnel.receive_eof(TransportError("reset"), now=0.0)
    assert str(trek.why()).endswith("closed the connection (reset)")
    for late in (True, False):
        trek = Trek()
        trek.tunnel.receive_data(AGREED, now=0.0)
        assert trek.tunnel.open
        if late:
            trek.tunnel.receive_data(b"x", now=0.0)
        else:
            trek.tunnel.receive_eof(now=0.0)
        assert ("sent something" if late else "closed the") in str(trek.why())


def test_a_proxy_that_cannot_be_reached() -> None:
    trek = Trek()
    trek.socket.open_failed(OSError("no route"), Obstacle.REFUSED, now=0.0)
    assert "cannot be reached: no route; is it running, and is it the right port?" in str(trek.why())
    trek = Trek()
    trek.tunnel.data_to_send()
    trek.socket.open_failed(ConnectionResetError(), now=0.0)
    assert str(trek.why()).endswith("failed: ConnectionResetError")


def test_what_fails_behind_the_proxy_is_the_server_s() -> None:
    trek = Trek()
    trek.tunnel.receive_data(AGREED, now=0.0)
    trek.socket.open_failed(OSError("who is that"), Obstacle.TLS, now=0.0)
    with pytest.raises(TlsFailed, match="cannot connect to https://h/chat/negotiate"):
        trek.client.started()
    journey = Journey()
    journey.socket.open_failed(OSError("no"), Obstacle.REFUSED, now=0.0)
    with pytest.raises(ConnectionRefused):
        journey.client.started()


def test_a_silent_proxy_is_named() -> None:
    trek = Trek()
    trek.turn(30.0)
    assert trek.refused().startswith("no connection to https://h/chat through the proxy p:3128 within 30 s")
