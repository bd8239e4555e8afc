"""One attempt: from a URL to a session, on bytes."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from hubproto_core import (
    ConnectionFailed,
    ConnectTimeout,
    Forbidden,
    HubError,
    LegacyServer,
    NoCommonTransport,
    NotAHub,
    ProtocolNotSupported,
    Transport,
    Unauthorized,
    WouldBlock,
)
from hubproto_core.http._websocket import accept_token
from tests.http._journey import OFFER, Journey, Opened, switching
from tests.http._site import split
from tests.kit.wire import HANDSHAKE, unpack


@pytest.mark.parametrize("url", ["http://h/chat?access_token=secret", "http://user:secret@h/chat"])
def test_messages_tell_no_secrets(url: str) -> None:
    for body in ("<html>", {"error": "no"}, {**OFFER, "availableTransports": []}, {"url": "ftp://x/"}):
        journey = Journey(url)
        journey.answer(body)
        assert "http://h/chat" in journey.refused()
        assert "secret" not in journey.refused()
    journey = Journey(url)
    assert "secret" not in journey.socket.url
    journey.client.stop(now=0.0)
    assert "secret" not in journey.refused()
    journey = Journey(url)
    journey.client.handle_timeout(now=30.0)
    assert "secret" not in journey.refused()


def test_the_way_to_a_session() -> None:
    journey = Journey("http://h/chat?x=1", access_token="abc", headers={"X-Lab": "y"})
    client = journey.client
    with pytest.raises(WouldBlock):
        client.started()
    method, target, headers = journey.request()
    assert (method, target) == ("POST", "/chat/negotiate?x=1&negotiateVersion=1")
    assert headers["authorization"] == "Bearer abc"
    assert headers["x-lab"] == "y"
    assert headers["x-requested-with"] == "XMLHttpRequest"
    assert headers["content-length"] == "0"
    assert journey.socket.want_read
    journey.answer(OFFER)
    assert journey.sockets[0].finished
    assert not journey.sockets[0].want_read
    journey.sockets[0].receive_eof(now=0.0)
    assert client.connection_id == "public"

    method, target, headers = journey.request()
    assert (method, target) == ("GET", "/chat?x=1&id=secret")
    assert (headers["upgrade"], headers["connection"], headers["sec-websocket-version"]) == (
        "websocket",
        "Upgrade",
        "13",
    )
    assert headers["authorization"] == "Bearer abc"
    assert headers["x-lab"] == "y"
    far = Connection(ConnectionType.SERVER)
    journey.receive(switching(accept_token(headers["sec-websocket-key"])))
    far.receive_data(journey.socket.data_to_send(now=0.0))
    assert split(list(far.events())) == ([unpack(HANDSHAKE)[0]], [])
    with pytest.raises(WouldBlock):
        client.started()
    journey.woken(client)
    journey.receive(far.send(TextMessage("{}\x1e")))
    assert journey.woken(client)
    assert client.started().is_open
    assert client.next_timeout() is None


def test_the_token_of_an_old_server_is_its_id() -> None:
    journey = Journey()
    journey.answer({**OFFER, "negotiateVersion": 0})
    assert journey.request()[1] == "/chat?id=public"


def test_negotiation_may_be_skipped() -> None:
    journey = Opened()
    assert journey.client.connection_id is None
    assert journey.client.started().is_open


def test_a_redirect_is_followed_with_its_token() -> None:
    journey = Journey("http://h/chat?x=1", access_token="first")
    journey.answer({"url": "https://other:444/hub?y=2", "accessToken": "second"})
    _, target, headers = journey.request()
    assert target == "/hub/negotiate?y=2&negotiateVersion=1"
    assert headers["authorization"] == "Bearer second"
    assert (journey.socket.host, journey.socket.port, journey.socket.tls) == ("other", 444, True)
    journey.answer({"url": "http://third"})
    assert journey.request()[2]["authorization"] == "Bearer second"
    journey.answer(OFFER)
    _, target, headers = journey.request()
    assert target == "/?id=secret"
    assert (headers["host"], headers["authorization"]) == ("third", "Bearer second")


def test_redirects_have_a_limit() -> None:
    journey = Journey()
    for _ in range(100):
        journey.answer({"url": "http://h/again"})
    assert len(journey.sockets) == 101
    journey.answer({"url": "http://h/again"})
    assert journey.refused() == "http://h/chat: Negotiate redirection limit exceeded."
    assert journey.over()


BAD_REDIRECTS = {
    "another scheme": {"url": "ftp://h/"},
    "no host": {"url": "chat"},
    "half a host": {"url": "http://[::1"},
    "port out of range": {"url": "http://h:99999/"},
    "port that is no number": {"url": "http://h:x/"},
    "not ASCII": {"url": "http://h/\u00e9"},
    "a space": {"url": "http://h/a b"},
    "a line break": {"url": "http://h/a\r\nb"},
    "a host that is none": {"url": "http://h\u00e9 x/"},
    "port 0": {"url": "http://h:0/"},
    "a query with a space": {"url": "http://h/?a b\u00e9"},
    "token with a line break": {"url": "http://h/", "accessToken": "a\r\nb: c"},
    "token that is not ASCII": {"url": "http://h/", "accessToken": "\u2603"},
}


@pytest.mark.parametrize("body", BAD_REDIRECTS.values(), ids=BAD_REDIRECTS.keys())
def test_a_bad_redirect_never_raises(body: dict[str, str]) -> None:
    journey = Journey()
    journey.answer(body)
    if len(journey.sockets) == 1:
        assert journey.refused()
        assert journey.over()
    else:
        assert all(31 < byte < 127 or byte in b"\r\n" for byte in journey.socket.data_to_send(now=0.0))


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "\u2603", "a&b=c#d"])
def test_a_bad_connection_token_never_raises(token: str) -> None:
    journey = Journey()
    journey.answer({**OFFER, "connectionToken": token})
    if len(journey.sockets) == 1:
        assert journey.refused()
    else:
        assert "x" not in journey.request()[2]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("<html>", 200, "something that is no JSON; is it the address of a SignalR hub?"),
        ({"error": "no way"}, 200, "refused the negotiation: no way"),
        ("", 404, "refused the negotiation with status 404; is it the address of a SignalR hub?"),
        ("", 401, "refused the negotiation with status 401; it wants a (valid) access token"),
        ("", 403, "refused the negotiation with status 403; the access token does not give access"),
        (b" down \xff ", 500, "refused the negotiation with status 500 (down \ufffd)"),
        (OFFER, 201, "refused the negotiation with status 201"),
        ({**OFFER, "availableTransports": []}, 200, "http://h/chat offers nothing; None of the transports"),
        (
            {**OFFER, "availableTransports": [{"transport": "Pigeons", "transferFormats": ["Text"]}]},
            200,
            "http://h/chat offers Pigeons ('Pigeons' is not known to the client.); None of the transports",
        ),
        (b"x" * (1024 * 1024 + 1), 200, "answers with more than 1048576 bytes; is it the address of a SignalR hub?"),
    ],
)
def test_an_unfit_answer_is_the_end(body: str | bytes | dict[str, Any], status: int, text: str) -> None:
    journey = Journey()
    journey.answer(body, status)
    assert text in journey.refused()
    assert journey.woken(journey.client)
    assert len(journey.sockets) == 1
    assert journey.over()


def test_the_transport_must_carry_the_codec() -> None:
    journey = Journey(protocol="messagepack")
    journey.answer(OFFER)
    assert journey.refused() == (
        "http://h/chat offers WebSockets, LongPolling ('WebSockets' does not support Binary.) "
        "('LongPolling' does not support Binary.); None of the transports supported by the client are supported by the "
        "server."
    )


def test_a_refused_upgrade_says_why() -> None:
    journey = Journey(skip_negotiation=True)
    journey.answer("No Connection with that ID", 404)
    assert journey.refused() == (
        "http://h/chat refused the WebSocket with status 404 (No Connection with that ID); "
        "is it the address of a SignalR hub?"
    )


def test_an_upgrade_that_is_answered_like_a_page_is_refused() -> None:
    journey = Journey(skip_negotiation=True)
    journey.answer("<html>")
    assert journey.refused() == "http://h/chat refused the WebSocket with status 200 (<html>)"


def test_a_refused_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.say_text('{"error":"no"}\x1e')
    with pytest.raises(
        HubError, match=r"Unable to complete handshake with the server due to an error: no \(http://h/chat\)$"
    ):
        journey.client.started()


def test_a_farewell_right_behind_the_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.say_text('{}\x1e{"type":7}\x1e')
    assert journey.refused() == "http://h/chat accepted the connection and closed it at once"


def test_a_websocket_that_is_closed_before_the_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.refused() == "http://h/chat: The server disconnected before sending a handshake response"


@pytest.mark.parametrize("stage", ["negotiation", "upgrade", "handshake"])
def test_a_connection_that_takes_too_long_is_given_up(stage: str) -> None:
    journey = Journey(connect_timeout=7.0, transports=[Transport.WEB_SOCKETS])
    if stage != "negotiation":
        journey.answer(OFFER)
    if stage == "handshake":
        _, _, headers = journey.request()
        journey.receive(switching(accept_token(headers["sec-websocket-key"])))
    client = journey.client
    assert client.next_timeout() == 7.0
    client.handle_timeout(now=6.9)
    with pytest.raises(WouldBlock):
        client.started()
    client.handle_timeout(now=7.0)
    assert journey.refused().startswith("no connection to http://h/chat within 7 s; ")
    assert journey.socket.finished
    assert journey.woken(journey.socket)
    journey.socket.receive_eof(now=7.0)
    assert client.stopped
    assert client.next_timeout() is None
    journey.answer(OFFER)
    assert len(journey.sockets) <= 2


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-Lab": "a\r\nb"}},
        {"headers": {"X-Lab": " padded "}},
        {"headers": {"X Lab": "a"}},
        {"headers": {"X/Lab": "a"}},
        {"headers": {"X-Lab": "\u2603"}},
        {"headers": {"": "a"}},
        {"access_token": "a\nb"},
    ],
)
def test_headers_that_are_none_are_the_caller_s_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        Journey(start=False, **options)


@pytest.mark.parametrize("value", ["", "a b", "a:b", "~!#$%^&*()"])
def test_headers_may_have_any_printable_text(value: str) -> None:
    journey = Journey(headers={"X-Lab": value, "x_y~z": value})
    headers = journey.request()[2]
    assert (headers["x-lab"], headers["x_y~z"]) == (value, value)


# --- the access token ------------------------------------------------------------------------------------------------


def authorization(journey: Journey) -> str | None:
    return journey.request()[2].get("authorization")


async def slowly() -> str:
    raise AssertionError("the test ends it")


def test_the_token_is_asked_for_before_anything_is_sent() -> None:
    tokens = iter("abc")
    journey = Journey(access_token=lambda: next(tokens))
    assert journey.sockets == []
    assert journey.shell.was_woken(journey.client)
    journey.turn()
    assert authorization(journey) == "Bearer a"
    journey.answer(OFFER)
    assert authorization(journey) == "Bearer a"  # one for each attempt
    journey.turn()
    assert len(journey.sockets) == 2


def test_a_slow_provider_is_waited_for() -> None:
    journey = Journey(access_token=slowly, skip_negotiation=True)
    journey.turn()
    assert journey.sockets == []
    journey.shell.finish(journey.shell.find("access-token provider"), "abc")
    journey.turn()
    assert authorization(journey) == "Bearer abc"


def test_a_provider_may_have_no_token() -> None:
    journey = Journey(access_token=lambda: None)
    journey.turn()
    assert authorization(journey) is None


def test_a_provider_that_fails_is_the_end() -> None:
    def broken() -> str:
        raise KeyError("s3cret")

    journey = Journey(access_token=broken)
    journey.turn()
    assert journey.refused() == "the access-token provider for http://h/chat failed: KeyError"
    assert journey.client.stopped


@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_a_provider_that_takes_too_long_is_cancelled(how: str) -> None:
    journey = Journey(access_token=slowly, connect_timeout=7.0)
    if how == "timeout":
        journey.turn(7.0)
    else:
        journey.client.stop(now=0.0)
        journey.run()
    assert len(journey.shell.asked_to_cancel) == 1
    journey.shell.cancel_asked()
    journey.turn()
    assert journey.client.stopped
    assert journey.sockets == []
    assert journey.refused()


@pytest.mark.parametrize("skip_negotiation", [False, True])
def test_a_token_that_is_refused_is_asked_for_once_more(skip_negotiation: bool) -> None:
    tokens = iter("abc")
    journey = Journey(access_token=lambda: next(tokens), skip_negotiation=skip_negotiation)
    journey.turn()
    journey.answer("", 401)
    journey.turn()
    assert authorization(journey) == "Bearer b"
    journey.answer("", 401)
    journey.turn()
    assert "status 401; it wants a (valid) access token" in journey.refused()
    assert next(tokens) == "c"


def test_a_token_that_the_websocket_refuses_begins_with_another_negotiation() -> None:
    tokens = iter("abc")
    journey = Journey(access_token=lambda: next(tokens))
    journey.turn()
    journey.answer(OFFER)
    journey.answer("", 401)
    journey.turn()
    assert journey.request()[:2] == ("POST", "/chat/negotiate?negotiateVersion=1")
    journey.answer({**OFFER, "connectionToken": "other"})
    assert journey.request()[1] == "/chat?id=other"


def test_a_redirect_s_own_token_replaces_the_provider_s_up_to_the_next_question() -> None:
    tokens = iter("abc")
    journey = Journey(access_token=lambda: next(tokens))
    journey.turn()
    journey.answer({"url": "http://other/hub?x=1", "accessToken": "theirs"})
    _, target, headers = journey.request()
    assert (target, headers["host"]) == ("/hub/negotiate?x=1&negotiateVersion=1", "other")
    assert headers["authorization"] == "Bearer theirs"
    journey.answer("", 401)
    journey.turn()
    _, target, headers = journey.request()
    assert (target, headers["host"]) == ("/chat/negotiate?negotiateVersion=1", "h")
    assert headers["authorization"] == "Bearer b"


def test_a_fixed_token_is_not_tried_again() -> None:
    journey = Journey(access_token="abc")
    journey.answer("", 401)
    assert len(journey.sockets) == 1
    assert "status 401" in journey.refused()


# --- the reasons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ("", 401, Unauthorized),
        ("", 403, Forbidden),
        ("", 404, NotAHub),
        ("<html>", 200, NotAHub),
        ("[]", 200, NotAHub),
        ("", 500, ConnectionFailed),
        ({"error": "full"}, 200, ConnectionFailed),
        ({"ProtocolVersion": "1.4", "ConnectionToken": "x"}, 200, LegacyServer),
        ({**OFFER, "availableTransports": []}, 200, NoCommonTransport),
    ],
)
def test_each_reason_is_an_exception_of_its_own(body: Any, status: int, kind: type[ConnectionFailed]) -> None:
    journey = Journey()
    journey.answer(body, status)
    with pytest.raises(ConnectionFailed, match="http://h/chat") as failed:
        journey.client.started()
    assert type(failed.value) is kind
    assert failed.value.url.startswith("http://h/chat")


def test_a_connection_that_takes_too_long_has_an_exception_of_its_own() -> None:
    journey = Journey()
    journey.turn(30.0)
    with pytest.raises(ConnectTimeout):
        journey.client.started()


def test_a_protocol_that_is_refused_has_an_exception_of_its_own() -> None:
    journey = Opened(handshake=False)
    journey.say_text('{"error":"The protocol \'json\' is not supported."}\x1e')
    with pytest.raises(ProtocolNotSupported, match=r"http://h/chat.*'messagepack'"):
        journey.client.started()
