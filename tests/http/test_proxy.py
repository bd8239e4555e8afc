"""Which proxy leads where."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from hubproto_core.http import ClientOptions, HubClient
from hubproto_core.http._proxy import Proxies, Proxy
from hubproto_core.http._url import split_url
from tests.http._site import Entropy


def leads(proxies: Proxies, url: str) -> str | None:
    proxy = proxies.to(split_url(url))
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://p:3128", "p:3128"),
        ("http://p:3128/", "p:3128"),
        ("p:3128", "p:3128"),
        ("HTTP://P", "p:80"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://user:secret@p:1", "p:1"),
    ],
)
def test_a_proxy_for_all(url: str, shown: str) -> None:
    proxies = Proxies(url, {"no_proxy": "*"})
    assert leads(proxies, "http://h/chat") == shown
    assert leads(proxies, "wss://h/chat") == shown


def test_credentials_are_sent_and_not_shown() -> None:
    proxy = Proxy.parse("http://me%40corp:p%3A%C3%A9@h:1", "this")
    assert proxy.authorization == "Basic " + b64encode("me@corp:p:\u00e9".encode()).decode()
    assert "Basic" not in f"{proxy} {proxy!r}"
    assert Proxy.parse("http://me@h:1", "this").authorization == "Basic " + b64encode(b"me:").decode()
    assert Proxy.parse("http://h:1", "this").authorization is None
    assert "s3cret" not in repr(ClientOptions(proxy="http://me:s3cret@h"))


@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cret@p",
        "socks5://me:s3cret@p",
        "http://me:s3cret@p:s3cret",
        "http://me:s3cret@p:0",
        "http://me:s3cret@p:99999",
        "http://me:s3cret@",
        "http://me:s3cret@p/path",
        "http://me:s3cret@[p",
        "http://me:s3cret@\u00e9",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the proxy's URL is no http://user:password@host:port") as refused:
        HubClient("http://h/", entropy=Entropy(), options=ClientOptions(proxy=url))
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_there_need_be_none() -> None:
    assert leads(Proxies(), "http://h/") is None
    assert leads(Proxies(None, {"http_proxy": "p"}), "http://h/") is None
    assert leads(Proxies("env"), "http://h/") is None


ENVIRONMENTS: dict[str, tuple[dict[str, str], Any, Any]] = {
    "nothing": ({}, None, None),
    "empty": ({"http_proxy": " ", "HTTPS_PROXY": ""}, None, None),
    "of each": ({"http_proxy": "a:1", "https_proxy": "b:2"}, "a:1", "b:2"),
    "capital": ({"HTTP_PROXY": "a:1", "HTTPS_PROXY": "http://b:2"}, "a:1", "b:2"),
    "small letters win": ({"HTTPS_PROXY": "a:1", "https_proxy": "b:2"}, None, "b:2"),
    "for all": ({"ALL_PROXY": "a:1", "https_proxy": "b:2"}, "a:1", "b:2"),
}


@pytest.mark.parametrize(("environment", "plain", "tls"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_the_environment(environment: dict[str, str], plain: str | None, tls: str | None) -> None:
    proxies = Proxies("env", environment)
    assert leads(proxies, "http://h/") == plain
    assert leads(proxies, "https://h/") == tls


def test_a_mistake_in_the_environment_is_named() -> None:
    with pytest.raises(ValueError, match="^the environment's HTTPS_PROXY is no") as refused:
        Proxies("env", {"HTTPS_PROXY": "https://me:s3cret@p"})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("exempt", "url", "straight"),
    [
        ("*", "http://h/", True),
        ("a, h ,b", "http://h/", True),
        ("H.Example", "https://h.example/", True),
        ("example", "http://h.example/", True),
        (".example", "http://h.example/", True),
        ("*.example", "http://h.example/", True),
        (".example", "http://example/", True),
        ("ample", "http://h.example/", False),
        ("h.example", "http://example/", False),
        ("h:81", "http://h:81/", True),
        ("h:81", "http://h/", False),
        ("h:443", "https://h/", True),
        ("127.0.0.1", "http://127.0.0.1:5000/", True),
        ("127.0.0.0/8", "http://127.1.2.3/", True),
        ("10.0.0.0/8", "http://127.1.2.3/", False),
        ("127.0.0.1:80", "http://127.0.0.1/", True),
        ("127.0.0.1:81", "http://127.0.0.1/", False),
        ("::1", "http://[::1]/", True),
        ("[::1]:80", "http://[::1]/", True),
        ("fe80::/10", "http://[fe80::1]/", True),
        ("127.0.0.1", "http://localhost/", False),
        ("", "http://h/", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_whom_the_environment_exempts(name: str, exempt: str, url: str, straight: bool) -> None:
    proxies = Proxies("env", {"all_proxy": "p:1", name: exempt})
    assert (leads(proxies, url) is None) is straight
