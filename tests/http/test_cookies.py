"""Cookies: what servers set, and what goes with which request."""

from __future__ import annotations

import json

import pytest

from hubproto_core.http._cookies import CookieJar
from hubproto_core.http._url import split_url
from hubproto_core.http._websocket import accept_token
from tests.http._journey import OFFER, Journey, switching

HERE = "http://a.example.com/hub/negotiate"
DATE = "Wed, 25 Nov 2026 10:00:00 GMT"


class Jar:
    """A jar, and the requests that it is asked for."""

    def __init__(self, *cookies: str, url: str = HERE, date: str | None = None) -> None:
        self.jar = CookieJar()
        self.take(*cookies, url=url, date=date)

    def take(self, *cookies: str, url: str = HERE, now: float = 0.0, date: str | None = None) -> None:
        headers = [(b"set-cookie", cookie.encode("latin-1")) for cookie in cookies]
        if date is not None:
            headers.append((b"date", date.encode()))
        self.jar.take(split_url(url), [(b"content-length", b"0"), *headers], now=now)

    def sent(self, url: str = HERE, own: str | None = None, now: float = 0.0) -> str | None:
        header = self.jar.header(split_url(url), own, now=now)
        return None if header is None else header.decode("latin-1")


def test_what_is_set_is_sent() -> None:
    jar = Jar("route=a; HttpOnly", 'b="x y"; Secure-ish; Path=/', "c=\xe9=;")
    assert jar.sent() == 'route=a; c=\xe9=; b="x y"'
    jar.take("route=z")
    assert jar.sent() == 'route=z; c=\xe9=; b="x y"'


def test_without_cookies_the_user_s_are_sent_as_they_are() -> None:
    assert Jar().sent() is None
    assert Jar().sent(own="a=1 ;b") == "a=1 ;b"


def test_the_user_s_cookies_come_first_and_win() -> None:
    jar = Jar("a=theirs", "b=theirs")
    assert jar.sent(own="a=mine; x;") == "a=mine; x; b=theirs"
    assert jar.sent("http://other/", own="a=mine") == "a=mine"
    assert jar.sent("http://other/") is None


@pytest.mark.parametrize(
    "cookie",
    ["", "novalue", "=x", " = x", "a=" + "x" * 5000, "a=b; domain=other.com", "a=b; domain=com"],
)
def test_what_makes_no_sense_is_left_out(cookie: str) -> None:
    assert Jar(cookie).sent() is None


@pytest.mark.parametrize(
    ("attributes", "url", "sent"),
    [
        ("", "http://a.example.com:81/hub", True),  # ports are not told apart
        ("", "http://A.example.com/hub?id=1", True),
        ("", "http://a.example.com/hub/deep/er", True),
        ("", "http://a.example.com/hubs", False),
        ("", "http://a.example.com/", False),
        ("", "http://b.a.example.com/hub", False),
        ("; path=/", "http://a.example.com", True),
        ("; Path=/hub/", "http://a.example.com/hub/x", True),
        ("; Path=/hub/", "http://a.example.com/hub", False),
        ("; Path=hub", "http://a.example.com/hub", True),
        ("; Path=/x; path=/", "http://a.example.com/hub", True),
        ("; Domain=example.com", "http://b.example.com/hub", True),
        ("; Domain=.Example.com", "http://example.com/hub", True),
        ("; Domain=a.example.com", "http://b.a.example.com/hub", True),
        ("; Domain=a.example.com", "http://xa.example.com/hub", False),
        ("; Secure", "http://a.example.com/hub", False),
        ("; secure", "https://a.example.com/hub", True),
    ],
)
def test_where_a_cookie_goes(attributes: str, url: str, sent: bool) -> None:
    assert Jar(f"a=b{attributes}").sent(url) == ("a=b" if sent else None)


def test_an_address_has_no_domains_above_it() -> None:
    assert Jar("a=b; domain=0.0.1", url="http://127.0.0.1/").sent("http://127.0.0.1/") is None
    assert Jar("a=b; domain=127.0.0.1", url="http://127.0.0.1/").sent("http://127.0.0.1/") == "a=b"
    assert Jar("a=b", url="http://[::1]/").sent("http://[::1]/") == "a=b"


@pytest.mark.parametrize(
    ("attributes", "date", "lives"),
    [
        ("Max-Age=10", None, 10.0),
        ("Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", DATE, 10.0),
        ("Max-Age=0", None, 0.0),
        ("Max-Age=-1", None, 0.0),
        ("Max-Age=soon", None, None),
        ("Max-Age=99999999999999999999", None, None),
        ("Expires=Wed, 25 Nov 2026 10:00:30 GMT", DATE, 30.0),
        ("Expires=Wed, 25-Nov-2026 10:00:30 GMT", DATE, 30.0),
        ("Expires=Wed, 25 Nov 2026 10:00:30 -0000", DATE, 30.0),
        ("Expires=Wed, 25 Nov 2026 09:59:59 GMT", DATE, 0.0),
        ("Expires=Thu, 01 Jan 1970 00:00:00 GMT", None, 0.0),
        ("Expires=Wed, 25 Nov 2026 10:00:30 GMT", None, None),  # who knows
        ("Expires=Wed, 25 Nov 2026 10:00:30 GMT", "today", None),
        ("Expires=tomorrow", DATE, None),
        ("Expires=Wed, 99 Nov 2026 10:00:30 GMT", DATE, None),
    ],
)
def test_how_long_a_cookie_lives(attributes: str, date: str | None, lives: float | None) -> None:
    jar = Jar("a=old")
    jar.take(f"a=b; {attributes}", now=5.0, date=date)
    assert jar.sent(now=5.0) == (None if lives == 0.0 else "a=b")
    if lives:
        assert jar.sent(now=5.0 + lives - 0.1) == "a=b"
        assert jar.sent(now=5.0 + lives) is None
    elif lives is None:
        assert jar.sent(now=1e6) == "a=b"


def test_a_server_cannot_fill_the_memory() -> None:
    jar = Jar(*(f"c{n}=x" for n in range(1000)))
    sent = (jar.sent() or "").split("; ")
    assert len(sent) == 100
    assert sent[-1] == "c999=x"


def answer(journey: Journey, cookie: str, body: bytes = b"", status: int = 200) -> None:
    head = f"HTTP/1.1 {status} x\r\nSet-Cookie: {cookie}\r\nContent-Length: {len(body)}\r\n\r\n"
    journey.receive(head.encode() + body)


def test_the_cookies_of_a_client_live_as_long_as_it_does() -> None:
    journey = Journey(headers={"Cookie": "mine=1"}, reconnect=lambda retry: 0.0)
    assert journey.request()[2]["cookie"] == "mine=1"
    answer(journey, "route=a; Path=/", body=json.dumps(OFFER).encode())
    _, _, headers = journey.request()
    assert headers["cookie"] == "mine=1; route=a"
    accept = accept_token(headers["sec-websocket-key"])
    journey.receive(switching(accept).replace(b"\r\n\r\n", b"\r\nSet-Cookie: route=b; Path=/\r\n\r\n"))
    journey.client.stop(now=0.0)
    journey.run()
    assert journey.over()
    journey.start()
    assert journey.request()[2]["cookie"] == "mine=1; route=b"


def test_a_refusal_may_set_cookies_too() -> None:
    journey = Journey(access_token=lambda: "t")
    journey.turn()
    answer(journey, "session=1", status=401)
    journey.turn()
    assert journey.request()[2]["cookie"] == "session=1"
