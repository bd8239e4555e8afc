"""What is logged of requests, and what never is."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hubproto_core import Call, Hub, Principal
from hubproto_core.http import AccessDenied, HttpConfig, Request
from tests.http._site import Site, http, upgrade
from tests.kit.logs import documented, facts_of, kind_of

SECRET = "s3cr3t"


def by_token(request: Request) -> Principal | None:
    """Whoever has the token."""
    match request.access_token:
        case None:
            return None
        case "s3cr3t":
            return Principal("ann")
        case "odd":
            raise ValueError("no")
    raise AccessDenied("a stolen\ntoken")


async def slowly(request: Request) -> Principal | None:
    raise NotImplementedError("it never begins")


def make_site(authenticator: Any = by_token) -> Site:
    hub = Hub(name="Chat")

    @hub.method("Fail")
    def fail(call: Call) -> None:
        raise ValueError("a mistake")

    return Site(hub, http=HttpConfig(request_timeout=5.0), authenticator=authenticator)


@pytest.mark.parametrize(
    ("request_", "kinds", "facts", "texts"),
    [
        (
            http("GET", f"/other?access_token={SECRET}"),
            [("debug", "%s is answered with status %d")],
            [[]],
            ["/other is answered with status 404"],
        ),
        (
            http("GET", "/chat?access_token=stolen"),
            [("info", "a request for the hub at %s was not let in: %s"), ("debug", "%s is answered with status %d")],
            [["Chat", "AccessDenied"], []],
            [
                r"a request for the hub at /chat was not let in: a stolen\ntoken",
                "/chat is answered with status 401",
            ],
        ),
        (
            http("GET", "/chat?access_token=odd"),
            [("error", "the %s of the hub at %s failed: %s"), ("debug", "%s is answered with status %d")],
            [["Chat", "ValueError"], []],
            ["the authenticator of the hub at /chat failed: ValueError", "/chat is answered with status 500"],
        ),
        (
            f"NOT HTTP {SECRET}\r\n\r\n".encode(),
            [("debug", "%s is answered with status %d")],
            [[]],
            ["what is no request is answered with status 400"],
        ),
    ],
)
def test_a_request_that_is_refused_is_logged(
    request_: bytes,
    kinds: list[tuple[str, str]],
    facts: list[list[object]],
    texts: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        make_site().socket().send(request_)
    assert [kind_of(record) for record in caplog.records] == [("hubproto_core.http", *kind) for kind in kinds]
    assert [facts_of(record) for record in caplog.records] == facts
    assert caplog.messages == texts
    assert {kind_of(record) for record in caplog.records} <= documented()
    assert [bool(record.exc_info) for record in caplog.records] == [kind[0] == "error" for kind in kinds]


def test_an_authenticator_that_takes_too_long_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    socket = make_site(slowly).socket()
    socket.send(http("GET", "/chat"))
    socket.conn.handle_timeout(now=5.0)
    assert [facts_of(record) for record in caplog.records] == [["Chat"]]
    assert caplog.messages == ["the authenticator of the hub at /chat takes too long"]
    assert kind_of(caplog.records[0]) in documented()


def test_tokens_and_query_strings_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    site = make_site()
    with caplog.at_level(logging.DEBUG):
        peer = site.websocket(f"/chat?access_token={SECRET}&more=query")
        peer.ask({"type": 1, "invocationId": "1", "target": "Fail", "arguments": []})
        peer.ask({"type": 1, "invocationId": "2", "target": "Fail", "arguments": ["an argument"]})
        site.socket().send(http("POST", f"/chat/negotiate?negotiateVersion=9&q={SECRET}"))
        site.socket().send(http("DELETE", f"/chat?id={SECRET}", f"Authorization: Bearer {SECRET}"))
        site.socket().send(upgrade(f"/chat?access_token={SECRET}", version="12"))
    assert len(caplog.records) > 3
    for record in caplog.records:
        text = logging.Formatter().format(record) + repr(vars(record))
        assert SECRET not in text
        assert "query" not in record.getMessage()
