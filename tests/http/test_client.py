"""From a URL to a running session, on bytes."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage

from hubproto_core import (
    Effect,
    Hub,
    HubConfig,
    HubError,
    LocalProtocolError,
    OutgoingCall,
    TransportError,
    WouldBlock,
)
from hubproto_core.http import ClientOptions, ClientSocket, HubClient, OpenSocket
from hubproto_core.http._websocket import accept_token
from tests.http._site import Entropy, Site, split
from tests.kit.shell import Shell
from tests.kit.wire import HANDSHAKE, pack, pieces, unpack

OFFER: dict[str, Any] = {
    "negotiateVersion": 1,
    "connectionId": "public",
    "connectionToken": "secret",
    "availableTransports": [
        {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]},
        {"transport": "WebSockets", "transferFormats": ["Text"]},
    ],
}


class Journey:
    """A client, its shell, and whoever is at the other end of its sockets."""

    def __init__(
        self,
        url: str = "http://h/chat",
        *,
        config: HubConfig | None = None,
        protocol: str = "json",
        start: bool = True,
        **options: Any,
    ) -> None:
        self.client = HubClient(
            url, entropy=Entropy(), options=ClientOptions(**options), config=config, protocol=protocol
        )
        self.shell = Shell()
        self.sockets: list[ClientSocket] = []
        if start:
            self.client.start(now=0.0)
            self.run()

    def run(self) -> None:
        """Carry out all effects."""
        while (effect := self.client.effects.take()) is not None:
            if isinstance(effect, OpenSocket):
                self.sockets.append(effect.socket)
            else:
                plain: Effect = effect
                self.shell.effects.append(plain)
        self.shell.run()

    def woken(self, target: object) -> bool:
        """Whether there was a `Wake` for *target* since the last time this was asked."""
        self.run()
        return self.shell.was_woken(target)

    @property
    def socket(self) -> ClientSocket:
        """The socket opened last."""
        return self.sockets[-1]

    def request(self) -> tuple[str, str, dict[str, str]]:
        """The request on the socket opened last: its method, target and headers."""
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(self.socket.data_to_send(now=0.0))
        request = peer.next_event()
        assert isinstance(request, h11.Request)
        assert isinstance(peer.next_event(), h11.EndOfMessage)
        headers = {name.decode(): value.decode() for name, value in request.headers}
        return request.method.decode(), request.target.decode(), headers

    def answer(self, body: str | bytes | dict[str, Any], status: int = 200) -> None:
        """Answer the request on the socket opened last."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.receive(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def receive(self, data: bytes) -> None:
        """Bytes come on the socket opened last."""
        self.socket.receive_data(data, now=0.0)
        self.run()

    def refused(self) -> str:
        """Why the client never started."""
        with pytest.raises(TransportError) as refused:
            self.client.started()
        return str(refused.value)

    def over(self) -> bool:
        """The socket is gone, and all is over."""
        self.socket.receive_eof(now=0.0)
        self.run()
        return self.client.closed


class Opened(Journey):
    """A journey whose WebSocket is open, and by default its hub handshake done."""

    def __init__(self, *, handshake: bool = True, behind: bytes = b"", **options: Any) -> None:
        super().__init__(skip_negotiation=True, **options)
        _, _, headers = self.request()
        self.far = Connection(ConnectionType.SERVER)
        self.accept = accept_token(headers["sec-websocket-key"])
        self.receive(switching(self.accept) + behind)
        if handshake:
            self.hear()
            self.say_text("{}\x1e")
            assert self.hear() == ([{"type": 6}], [])

    def say_text(self, text: str) -> None:
        """Send a text message."""
        self.receive(self.far.send(TextMessage(text)))

    def say(self, *messages: dict[str, Any]) -> None:
        """Send hub messages."""
        self.say_text(pack(*messages).decode())

    def hear(self, now: float = 0.0) -> tuple[list[Any], list[tuple[int, str | None]]]:
        """Return the hub messages and the close frames that have come."""
        events: list[Event] = []
        while data := self.socket.data_to_send(now=now):
            self.run()
            self.far.receive_data(data)
            events += self.far.events()
        self.run()
        return split(events)


def switching(accept: str) -> bytes:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "chat", "ftp://h/chat", "http://", "http:///chat", "http://[::1/chat", "mailto:a@b"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        HubClient(url, entropy=Entropy())


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


# --- negotiation -----------------------------------------------------------------------------------------------------


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
    assert client.started() is client.session
    assert client.next_timeout() is None


def test_the_token_of_an_old_server_is_its_id() -> None:
    journey = Journey()
    journey.answer({**OFFER, "negotiateVersion": 0})
    assert journey.request()[1] == "/chat?id=public"


def test_negotiation_may_be_skipped() -> None:
    journey = Opened()
    assert journey.client.connection_id is None
    assert journey.client.started() is journey.client.session


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
        ({**OFFER, "availableTransports": []}, 200, "http://h/chat offers nothing: None of the transports"),
        (
            {**OFFER, "availableTransports": OFFER["availableTransports"][:1]},
            200,
            "http://h/chat offers LongPolling: None of the transports",
        ),
        (b"x" * (1024 * 1024 + 1), 200, "answers with more than 1048576 bytes; is it a SignalR hub?"),
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
    assert "offers LongPolling, WebSockets: None of the transports" in journey.refused()


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
    assert journey.client.closed


@pytest.mark.parametrize(("error", "text"), [(OSError("no route"), "no route"), (TimeoutError(), "TimeoutError")])
def test_a_socket_that_cannot_be_opened_is_the_end(error: Exception, text: str) -> None:
    journey = Journey()
    journey.socket.open_failed(error)
    assert journey.refused() == f"cannot connect to http://h/chat/negotiate (h port 80): {text}"
    assert journey.client.closed
    assert journey.client.next_timeout() is None


# --- the WebSocket ---------------------------------------------------------------------------------------------------


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


def test_a_refused_upgrade_says_why() -> None:
    journey = Journey(skip_negotiation=True)
    journey.answer("No Connection with that ID", 404)
    assert journey.refused() == (
        "http://h/chat refused the WebSocket with status 404; is it the address of a SignalR hub? "
        "(No Connection with that ID)"
    )


def test_an_upgrade_that_is_answered_like_a_page_is_refused() -> None:
    journey = Journey(skip_negotiation=True)
    journey.answer("<html>")
    assert journey.refused() == "http://h/chat refused the WebSocket with status 200 (<html>)"


def test_frames_right_behind_the_upgrade_are_read() -> None:
    journey = Opened(handshake=False, behind=b"\x81\x03{}\x1e")
    assert journey.client.started() is journey.client.session


def test_a_refused_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.say_text('{"error":"no"}\x1e')
    with pytest.raises(HubError, match=r"Unable to complete handshake with the server due to an error: no$"):
        journey.client.started()


def test_a_farewell_right_behind_the_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.say_text('{}\x1e{"type":7}\x1e')
    assert journey.refused() == "http://h/chat accepted the connection and closed it at once"


def test_a_websocket_that_is_closed_before_the_hub_handshake_is_the_end() -> None:
    journey = Opened(handshake=False)
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.refused() == "The server disconnected before sending a handshake response"


# --- the session -----------------------------------------------------------------------------------------------------


def test_calls_go_through_the_websocket() -> None:
    journey = Opened()
    call = journey.client.started().invoke("Add", [1, 2])
    assert journey.woken(journey.socket)
    assert journey.hear() == ([{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}], [])
    journey.say({"type": 3, "invocationId": "1", "result": 3})
    assert call.outcome() == 3


def test_clients_take_messages_of_any_size_by_default() -> None:
    assert HubClient("http://h", entropy=Entropy()).config.max_message_size is None
    journey = Opened()
    call = journey.client.started().invoke("Big")
    journey.say({"type": 3, "invocationId": "1", "result": "x" * 100_000})
    assert len(call.outcome()) == 100_000


def test_a_client_may_have_limits() -> None:
    journey = Opened(config=HubConfig(max_message_size=1000))
    journey.say({"type": 1, "target": "news", "arguments": ["x" * 2000]})
    with pytest.raises(Exception, match="The maximum message size of 1000B was exceeded"):
        journey.client.started()


def test_handlers_are_there_before_the_connection() -> None:
    journey = Opened(handshake=False)
    seen: list[int] = []
    journey.client.handlers.add("news", lambda n: seen.append(n))
    journey.say_text("{}\x1e" + pack({"type": 1, "target": "news", "arguments": [5]}).decode())
    assert seen == [5]


def waiting(journey: Opened) -> OutgoingCall:
    call = journey.client.started().invoke("Slow")
    journey.hear()
    return call


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": 7, "error": "bye"}, "The server closed the connection with the following error: bye"),
        ({"type": 7}, "the connection to http://h/chat is closed"),
    ],
)
def test_the_server_s_close_ends_everything(message: dict[str, Any], error: str) -> None:
    journey = Opened()
    call = waiting(journey)
    journey.woken(None)
    journey.say(message)
    assert journey.woken(journey.client)
    assert call.done
    with pytest.raises((HubError, TransportError)) as told:
        journey.client.started()
    assert str(told.value) == error
    assert journey.hear() == ([], [(1000, None)])
    client = journey.client
    assert [client.closed] == [False]
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.over()


def test_a_lost_websocket_ends_everything() -> None:
    journey = Opened()
    call = waiting(journey)
    journey.socket.receive_eof(TransportError("reset"), now=0.0)
    assert journey.woken(journey.client)
    assert journey.refused() == "reset"
    with pytest.raises(TransportError, match="reset"):
        call.outcome()
    assert journey.client.closed


def test_time_passes_for_the_session() -> None:
    journey = Opened(config=HubConfig(keep_alive_interval=10.0, silence_timeout=20.0))
    assert journey.socket.next_timeout() == 10.0
    journey.socket.handle_timeout(now=10.0)
    assert journey.hear(10.0) == ([{"type": 6}], [])
    journey.socket.handle_timeout(now=20.0)
    assert journey.refused() == "Server timeout (20000.00ms) elapsed without receiving a message from the server."


def test_a_socket_before_its_websocket_has_no_deadlines_of_its_own() -> None:
    journey = Journey()
    assert journey.socket.next_timeout() is None
    journey.socket.handle_timeout(now=100.0)
    assert journey.socket.want_read


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_client_starts_once() -> None:
    journey = Journey(start=False)
    with pytest.raises(LocalProtocolError, match="is not open yet"):
        journey.client.started()
    journey.client.start(now=0.0)
    with pytest.raises(WouldBlock):
        journey.client.started()
    with pytest.raises(LocalProtocolError, match="a HubClient starts once"):
        journey.client.start(now=0.0)


@pytest.mark.parametrize("stage", ["negotiation", "upgrade", "handshake"])
def test_a_connection_that_takes_too_long_is_given_up(stage: str) -> None:
    journey = Journey(connect_timeout=7.0)
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
    assert journey.refused() == "no connection to http://h/chat within 7 s"
    assert journey.socket.finished
    assert journey.woken(journey.socket)
    journey.socket.receive_eof(now=7.0)
    assert client.closed
    assert client.next_timeout() is None
    journey.answer(OFFER)
    assert len(journey.sockets) <= 2


def test_stopping_says_farewell() -> None:
    journey = Opened()
    call = waiting(journey)
    client = journey.client
    client.stop(now=1.0)
    assert journey.woken(journey.socket)
    assert journey.hear(1.0) == ([{"type": 7}], [(1000, None)])
    assert call.done
    assert [client.closed] == [False]
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.over()
    assert client.next_timeout() is None
    assert journey.refused() == "the connection to http://h/chat is closed"


def test_a_farewell_that_is_not_answered_is_not_waited_for_long() -> None:
    journey = Opened(config=HubConfig(close_timeout=3.0))
    client = journey.client
    client.stop(now=1.0)
    journey.hear(1.0)
    assert client.next_timeout() == 4.0
    client.handle_timeout(now=3.9)
    assert [client.closed] == [False]
    client.handle_timeout(now=4.0)
    assert journey.socket.finished
    assert journey.over()


def test_a_farewell_that_cannot_be_sent_is_not_waited_for_long_either() -> None:
    journey = Opened(config=HubConfig(close_timeout=3.0))
    client = journey.client
    call = waiting(journey)
    client.stop(now=1.0)
    client.handle_timeout(now=4.0)
    assert journey.socket.finished
    assert journey.over()
    assert call.done


def test_a_farewell_is_said_though_nobody_reads_a_stream() -> None:
    journey = Opened(config=HubConfig(stream_buffer=1, close_timeout=3.0))
    client = journey.client
    client.started().stream("Count")
    journey.hear()
    journey.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(10)))
    client.stop(now=0.0)
    assert journey.hear() == ([{"type": 7}], [(1000, None)])
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.over()


@pytest.mark.parametrize("answered", [False, True])
def test_stopping_before_the_connection_is_made_just_ends(answered: bool) -> None:
    journey = Journey()
    if answered:
        journey.answer(OFFER)
    journey.client.stop(now=0.0)
    journey.client.stop(now=0.0)
    assert journey.refused() == "the connection to http://h/chat was stopped before it was made"
    assert journey.socket.finished
    assert journey.woken(journey.socket)
    assert journey.over()


def test_stopping_before_the_start_is_the_end_too() -> None:
    journey = Journey(start=False)
    journey.client.stop(now=0.0)
    assert journey.client.closed
    with pytest.raises(LocalProtocolError):
        journey.client.start(now=0.0)


def test_stopping_after_the_end_changes_nothing() -> None:
    journey = Opened()
    journey.socket.receive_eof(TransportError("reset"), now=0.0)
    journey.client.stop(now=0.0)
    assert journey.refused() == "reset"
    assert journey.client.closed


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


# --- together --------------------------------------------------------------------------------------------------------


class Meeting:
    """A client and a server that hear each other, in pieces of a given size."""

    def __init__(self, size: int, **options: Any) -> None:
        hub = Hub()

        @hub.method("Add")
        def add(x: int, y: int) -> int:
            return x + y

        self.size = size
        self.site = Site(hub)
        self.journey = Journey("http://h/chat", **options)
        self.joined: list[tuple[ClientSocket, Any]] = []

    def move(self) -> None:
        """Carry bytes until there are none."""
        moved = True
        while moved:
            moved = False
            self.journey.run()
            for socket in self.journey.sockets[len(self.joined) :]:
                self.joined.append((socket, self.site.socket()))
            for ours, theirs in self.joined:
                up = ours.data_to_send(now=0.0)
                self.journey.run()
                down = theirs.take()
                for piece in pieces(up, self.size):
                    theirs.conn.receive_data(piece, now=0.0)
                    self.site.shell.run()
                for piece in pieces(down, self.size):
                    ours.receive_data(piece, now=0.0)
                    self.journey.run()
                moved = moved or bool(up or down)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 600), st.booleans(), st.lists(st.integers(-1000, 1000), max_size=5))
def test_client_and_server_agree(size: int, skip: bool, numbers: list[int]) -> None:
    meeting = Meeting(size, skip_negotiation=skip)
    meeting.move()
    client = meeting.journey.client
    session = client.started()
    calls = [session.invoke("Add", [n, 1]) for n in numbers]
    meeting.move()
    assert [call.outcome() for call in calls] == [n + 1 for n in numbers]
    meeting.site.server.clients(meeting.site.hub).all.send("news")
    client.stop(now=0.0)
    meeting.move()
    for ours, theirs in meeting.joined:
        ours.receive_eof(now=0.0)
        theirs.conn.receive_eof(now=0.0)
    assert client.closed
    meeting.site.server.shut_down(now=0.0)
    assert meeting.site.server.closed


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(1, 500),
    st.booleans(),
)
def test_bad_bytes_never_raise(mutations: list[tuple[int, int, bytes]], size: int, skip: bool) -> None:
    journey = Journey(skip_negotiation=skip)
    if skip:
        _, _, headers = journey.request()
        far = Connection(ConnectionType.SERVER)
        data = switching(accept_token(headers["sec-websocket-key"])) + far.send(TextMessage("{}\x1e"))
        data += far.send(TextMessage(pack({"type": 1, "target": "news", "arguments": []}).decode()))
        data += far.send(CloseConnection(1000))
    else:
        body = json.dumps({**OFFER, "url": "http://other/x", "accessToken": "abc"}).encode()
        data = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for position, removed, inserted in mutations:
        position %= len(data)
        data = data[:position] + inserted + data[position + removed :]
    for piece in pieces(data, size):
        journey.receive(piece)
        journey.socket.data_to_send(now=0.0)
    journey.socket.receive_eof(now=0.0)
    journey.run()
    assert journey.client.closed or len(journey.sockets) == 2
