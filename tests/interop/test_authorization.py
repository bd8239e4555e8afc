"""What the lab hubs that want a token answer; with HUBPROTO_LAB=reference, what Microsoft's do."""

from __future__ import annotations

import http.client
from contextlib import closing

import pytest

from tests.interop._lab import Lab
from tests.interop._link import Link, Refused

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def ask(lab: Lab, method: str, target: str, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
    """The status of the answer to a request, the way to sign in that it names, and its body."""
    with closing(http.client.HTTPConnection("127.0.0.1", lab.port, timeout=5)) as connection:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("www-authenticate"), answer.read()


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("POST", "/securehub/negotiate?negotiateVersion=1", {}),
        ("POST", "/securehub/negotiate?negotiateVersion=1", {"Authorization": "Bearer something-else"}),
        ("POST", "/securehub/negotiate?negotiateVersion=1", {"Authorization": "Basic dG9rZW4tYW5u"}),
        ("GET", "/securehub/negotiate", {}),
        ("GET", "/securehub", {}),
        ("GET", "/securehub?id=unknown", UPGRADE),
        ("GET", "/securehub", UPGRADE | {"Sec-WebSocket-Version": "12"}),
        ("GET", "/securehub?id=unknown", {"Accept": "text/event-stream"}),
        ("POST", "/securehub?id=unknown", {}),
        ("DELETE", "/securehub?id=unknown", {}),
        ("PUT", "/securehub", {}),
    ],
)
def test_nobody_gets_401_before_anything_else(
    lab: Lab, adapter: str, method: str, target: str, headers: dict[str, str]
) -> None:
    """As the reference; but ours says how to sign in, which the reference's lab does not."""
    status, scheme, body = ask(lab, method, target, headers)
    assert (status, body) == (401, b"")
    assert scheme == (None if adapter == "reference" else "Bearer")


@pytest.mark.parametrize("query", ["", "&access_token=token-ann"], ids=["header", "query"])
def test_with_a_token_the_usual_checks_follow(lab: Lab, query: str) -> None:
    headers = {} if query else {"Authorization": "Bearer token-ann"}
    assert ask(lab, "POST", f"/securehub/negotiate?negotiateVersion=1{query}", headers)[0] == 200
    assert ask(lab, "GET", f"/securehub/negotiate?{query}", headers)[0] == 405
    assert ask(lab, "DELETE", f"/securehub?{query}", headers) == (400, None, b"Connection ID required")
    assert ask(lab, "GET", f"/securehub?id=unknown{query}", headers | UPGRADE)[0] == 404


def test_a_websocket_belongs_to_whose_token_it_has(lab: Lab) -> None:
    for headers, query in (({"Authorization": "Bearer token-ann"}, ""), (None, "?access_token=token-ann")):
        with Link(f"{lab.url}/securehub{query}", headers).handshake() as link:
            assert link.call("WhoAmI")["result"]["user"] == "ann"
    with Link(f"{lab.url}/hub").handshake() as link:
        assert link.call("WhoAmI")["result"]["user"] is None


def test_a_websocket_without_a_token(lab: Lab) -> None:
    with pytest.raises(Refused) as refused:
        Link(f"{lab.url}/securehub")
    assert (refused.value.status, refused.value.body) == (401, "")
