"""Requests as data."""

import pytest

from hubproto_core.http import Request, Response


@pytest.mark.parametrize(
    ("target", "path", "query_string", "query"),
    [
        ("/chat", "/chat", "", {}),
        ("/a%20b/%C3%A9?x=1&y=a%20b", "/a b/\u00e9", "x=1&y=a%20b", {"x": "1", "y": "a b"}),
        ("/chat?ID=1&id=2&Empty=", "/chat", "ID=1&id=2&Empty=", {"id": "2", "empty": ""}),
        ("http://h:1/chat?x=1", "/chat", "x=1", {"x": "1"}),
        ("http://h?x=/chat", "/", "x=/chat", {"x": "/chat"}),
        ("/chat?a=1?b=2", "/chat", "a=1?b=2", {"a": "1?b=2"}),
        ("/chat?%zz=%ff&&=", "/chat", "%zz=%ff&&=", {"%zz": "\ufffd", "": ""}),
    ],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query_string: str, query: dict[str, str]) -> None:
    request = Request("GET", target)
    assert (request.path, request.query_string, request.query) == (path, query_string, query)


@pytest.mark.parametrize(
    ("method", "upgrade", "connection", "wanted"),
    [
        ("GET", "websocket", "Upgrade", True),
        ("GET", "WebSocket", "keep-alive, upgrade", True),
        ("POST", "websocket", "Upgrade", False),
        ("GET", "h2c", "Upgrade", False),
        ("GET", "websocket", "keep-alive", False),
        ("GET", "websocket", "Upgraded", False),
    ],
)
def test_an_upgrade_is_asked_for_in_two_headers(method: str, upgrade: str, connection: str, wanted: bool) -> None:
    assert Request(method, "/", {"upgrade": upgrade, "connection": connection}).wants_websocket is wanted


def test_a_plain_request_asks_for_no_upgrade() -> None:
    assert not Request("GET", "/").wants_websocket


def test_a_response_is_empty_text_by_default() -> None:
    response = Response(404)
    assert (response.body, response.content_type, response.headers) == (b"", "text/plain", {})


def test_a_request_can_be_printed_without_its_secrets() -> None:
    request = Request("POST", "/chat?access_token=abc", {"authorization": "Bearer abc"})
    assert repr(request) == "<Request POST /chat>"
