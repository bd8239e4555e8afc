"""Pages of other origins: what they may do, and what they are told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hubproto_core import Effect, EffectQueue, Hub, Registry
from hubproto_core.http import Cors, Endpoint, EndpointConfig, Request

APP = "https://app.example.com"
UPGRADE = {"connection": "upgrade", "upgrade": "websocket"}
ASKED = "authorization,content-type,x-requested-with,x-signalr-user-agent"
"""What Microsoft's JavaScript client must be allowed to send, as Chromium asks for it."""


def preflight(origin: str, method: str = "POST", headers: str | None = ASKED) -> Request:
    asked = {} if headers is None else {"access-control-request-headers": headers}
    return Request(
        "OPTIONS",
        "/chat/negotiate?negotiateVersion=1",
        {"host": "hub.example.com", "origin": origin, "access-control-request-method": method, **asked},
    )


def websocket(origin: str | None, host: str = "hub.example.com") -> Request:
    return Request("GET", "/chat", {"host": host, **UPGRADE, **({} if origin is None else {"origin": origin})})


def status(cors: Cors, request: Request) -> int | None:
    answer = cors.answer(request)
    return None if answer is None else answer.status


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_allowed_page_gets_its_preflight_answered(method: str) -> None:
    cors = Cors([APP])
    answer = cors.answer(preflight(APP, method))
    assert answer is not None
    assert (answer.status, answer.body, answer.content_type) == (204, b"", None)
    assert answer.headers == {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": ASKED,
        "access-control-max-age": "600",
    }
    assert cors.headers(preflight(APP, method)) == {
        "vary": "Origin",
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
    }


@pytest.mark.parametrize("asked", [None, "x-\u00e9", "x: y", "<x>"])
def test_no_header_is_allowed_that_was_not_asked_for_in_order(asked: str | None) -> None:
    answer = Cors([APP]).answer(preflight(APP, headers=asked))
    assert answer is not None
    assert answer.status == 204
    assert "access-control-allow-headers" not in answer.headers


def test_cookies_may_be_kept_out() -> None:
    assert Cors([APP], credentials=False).headers(preflight(APP)) == {
        "vary": "Origin",
        "access-control-allow-origin": APP,
    }


@pytest.mark.parametrize(
    "origin", ["https://app.example.com:8443", "http://app.example.com", "null", "", "x", "\u00e9"]
)
def test_any_other_page_is_refused(origin: str) -> None:
    cors = Cors([APP])
    assert status(cors, preflight(origin)) == 403
    assert status(cors, websocket(origin)) == 403
    assert cors.headers(preflight(origin)) == {"vary": "Origin"}


def test_no_page_is_allowed_unless_it_is_said() -> None:
    cors = Cors()
    assert status(cors, preflight(APP)) == 403
    assert status(cors, websocket(APP)) == 403
    assert cors.headers(preflight(APP)) == {}


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://hub.example.com", "hub.example.com"),
        ("https://Hub.example.com", "hub.example.COM"),
        ("https://hub.example.com", "hub.example.com:443"),
        ("http://hub.example.com:80", "hub.example.com"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_pages_of_the_own_host_are_always_welcome(origin: str, host: str) -> None:
    assert status(Cors(), websocket(origin, host)) is None
    assert status(Cors([APP]), websocket(origin, host)) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8001"),
        ("http://hub.example.com.evil.example", "hub.example.com"),
        ("http://evilhub.example.com", "hub.example.com"),
        ("http://hub.example.com:443", "hub.example.com"),
        ("file://", ""),
        ("null", ""),
    ],
)
def test_what_only_looks_like_the_own_host_is_foreign(origin: str, host: str) -> None:
    assert status(Cors(), websocket(origin, host)) == 403


def test_what_names_no_origin_is_no_browser() -> None:
    cors = Cors([APP])
    assert status(cors, websocket(None)) is None
    assert status(cors, Request("OPTIONS", "/chat", {"access-control-request-method": "POST"})) is None
    assert cors.headers(websocket(None)) == {"vary": "Origin"}


def test_other_requests_are_the_browser_s_business() -> None:
    for request in (
        Request("POST", "/chat/negotiate", {"origin": "https://evil.example"}),
        Request("OPTIONS", "/chat", {"origin": "https://evil.example"}),
    ):
        assert status(Cors([APP]), request) is None


def test_a_function_may_decide() -> None:
    asked: list[str] = []

    def allowed(origin: str) -> bool:
        asked.append(origin)
        return origin.endswith(".example.com")

    cors = Cors(allowed)
    assert cors.headers(websocket(APP))["access-control-allow-origin"] == APP
    assert status(cors, websocket(APP)) is None
    assert status(cors, preflight(APP)) == 204
    assert status(cors, websocket("https://evil.example")) == 403
    assert asked == [APP, APP, APP, "https://evil.example"]


def test_a_function_that_fails_allows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def allowed(origin: str) -> bool:
        raise KeyError(origin)

    assert status(Cors(allowed), websocket(APP)) == 403
    failure, refusal = caplog.records
    assert failure.getMessage() == f"allowed_origins of the hub at /chat failed: '{APP}'"
    assert (failure.levelno, vars(failure)["error_kind"]) == (logging.ERROR, "KeyError")
    assert failure.exc_info
    assert refusal.levelno == logging.WARNING


def test_a_refusal_says_once_which_option_to_set(caplog: pytest.LogCaptureFixture) -> None:
    cors = Cors()
    for _ in range(3):
        cors.answer(preflight("https://app.example.com\n" + "x" * 300))
    assert len(caplog.records) == 1
    caplog.clear()
    for number in range(1000):
        cors.answer(websocket(f"https://{number}.example"))
    assert len(caplog.records) == 99
    record = caplog.records[0]
    assert (record.name, record.levelno) == ("hubproto_core.http", logging.WARNING)
    assert record.getMessage() == (
        "pages of https://0.example may not use the hub at /chat: see EndpointConfig.allowed_origins"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example.com",
        "https://a.example/",
        "https://A.example",
        "a.example",
        "http://a:80",
        "https://a:443",
    ],
)
def test_what_no_browser_sends_is_not_taken_for_an_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin: list them like 'https://app.example.com'"):
        Cors([origin])


def test_one_text_is_no_list() -> None:
    with pytest.raises(ValueError, match="'h' is no origin"):
        Cors(APP)


@pytest.mark.parametrize(
    "origin", ["null", "file://", "http://localhost:5173", "http://a:443", "chrome-extension://abc"]
)
def test_whatever_browsers_send_can_be_listed(origin: str) -> None:
    assert status(Cors([origin]), websocket(origin)) is None


def test_an_endpoint_has_its_own_rules() -> None:
    def endpoint(**options: Any) -> Endpoint:
        effects: EffectQueue[Effect] = EffectQueue()
        return Endpoint(
            Hub(),
            effects=effects,
            entropy=bytes,
            registry=Registry(owner="the server"),
            options=EndpointConfig(**options),
        )

    assert status(endpoint().cors, preflight(APP)) == 403
    open_to_app = endpoint(allowed_origins=[APP], allow_credentials=False).cors
    assert status(open_to_app, preflight(APP)) == 204
    assert "access-control-allow-credentials" not in open_to_app.headers(preflight(APP))
    with pytest.raises(ValueError, match="is no origin"):
        endpoint(allowed_origins=["*"])
