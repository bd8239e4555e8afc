"""A client's session carried by requests: server-sent events, long polling; and the fallback between transports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h11
import pytest

from hubproto_core import (
    ConnectionFailed,
    Forbidden,
    HubConfig,
    HubError,
    IncomingStream,
    NoCommonTransport,
    RemoteProtocolError,
    ServerGone,
    Transport,
    TransportError,
    Unauthorized,
    Wake,
)
from hubproto_core.http import ClientSocket
from hubproto_core.http._client_socket import ExchangeSocket
from hubproto_core.http._sse import encode_event
from tests.http._journey import Journey
from tests.kit.shell import WAITS
from tests.kit.wire import HANDSHAKE, pack, pieces, unpack

WS, SSE, LP = Transport.WEB_SOCKETS, Transport.SERVER_SENT_EVENTS, Transport.LONG_POLLING
CLOSE = {"type": 7, "allowReconnect": True}
GONE = TransportError("reset by peer")


def offer(*transports: str, formats: Sequence[str] = ("Text", "Binary"), token: str = "secret") -> dict[str, Any]:
    return {
        "negotiateVersion": 1,
        "connectionId": "public",
        "connectionToken": token,
        "availableTransports": [{"transport": name, "transferFormats": list(formats)} for name in transports],
    }


class Wire:
    """The server's end of one socket of a client: exchanges one after the other."""

    def __init__(self, trip: Trip, socket: ClientSocket) -> None:
        self.trip = trip
        self.socket = socket
        self.h11 = h11.Connection(h11.SERVER)

    def request(self) -> tuple[str, str, bytes] | None:
        """The next request: method, body and accept; None if there is none."""
        trip = self.trip
        trip.run()
        if self.h11.our_state is h11.DONE and self.h11.their_state is h11.DONE:
            self.h11.start_next_cycle()
        if data := self.socket.data_to_send(now=trip.now):
            self.h11.receive_data(data)
        trip.run()
        event = self.h11.next_event()
        if not isinstance(event, h11.Request):
            return None
        trip.targets.append(event.target.decode())
        trip.headers = {name.decode(): value.decode() for name, value in event.headers}
        body = b""
        while isinstance(piece := self.h11.next_event(), h11.Data):
            body += bytes(piece.data)
        return event.method.decode(), trip.headers.get("accept", ""), body

    def answer(self, status: int = 200, body: bytes = b"", *headers: tuple[str, str], chunk: int = 0) -> None:
        """Answer it, whole."""
        length = [("content-length", str(len(body)))] if status != 204 else []
        data = self.h11.send(h11.Response(status_code=status, headers=[*length, *headers])) or b""
        data += self.h11.send(h11.Data(body)) or b""
        data += self.h11.send(h11.EndOfMessage()) or b""
        for piece in pieces(data, chunk or len(data)):
            self.receive(piece)

    def receive(self, data: bytes) -> None:
        self.socket.receive_data(data, now=self.trip.now)
        self.trip.run()

    def cut(self, error: TransportError | None = None) -> None:
        """The server closes the socket, or it breaks."""
        self.socket.receive_eof(error, now=self.trip.now)
        self.trip.run()


class Trip(Journey):
    """A journey of which every socket has a server's end."""

    def __init__(
        self, *transports: Transport, begin: bool = True, redirect: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.targets: list[str] = []
        self.headers: dict[str, str] = {}
        super().__init__(**options)
        self.turn()  # there may be a token
        if redirect is not None:
            self.answer(redirect)
        self.answer(offer(*(transports or (WS, SSE, LP))))
        if begin:
            self.get = self.wire()
            self.post: Wire

    def wire(self) -> Wire:
        """The server's end of the socket opened last."""
        return Wire(self, self.socket)

    def said(self, status: int = 200, body: bytes = b"") -> list[Any]:
        """The messages of the next POST, which is answered."""
        request = self.post.request()
        assert request is not None
        assert request[0] == "POST"
        self.post.answer(status, body)
        return unpack(request[2])

    @property
    def live(self) -> list[ClientSocket]:
        """The sockets that are not finished."""
        return [socket for socket in self.sockets if not socket.finished]


class Events(Trip):
    """A client over server-sent events, whose handshake is done: `get` is its stream, `post` the other socket."""

    def __init__(self, *, handshake: bool = True, **options: Any) -> None:
        super().__init__(SSE, **options)
        assert self.get.request() == ("GET", "text/event-stream", b"")
        self.get.receive(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; x\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.chunk(b":\r\n")
        self.post = self.wire()
        assert self.post is not self.get
        assert self.post.request() == ("POST", "", HANDSHAKE)
        if handshake:
            self.post.answer()
            self.say({})
            assert self.said() == [{"type": 6}]

    def chunk(self, data: bytes) -> None:
        self.get.receive(b"%x\r\n%s\r\n" % (len(data), data))

    def say(self, *messages: Any) -> None:
        self.chunk(encode_event(pack(*messages)))


class Polling(Trip):
    """A client over long polling, whose handshake is done: `get` is the socket of its polls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(LP, **options)
        assert self.get.request() == ("GET", "", b"")
        self.get.answer()
        self.post = self.wire()
        assert self.get.request() == ("GET", "", b"")
        assert self.post.request() == ("POST", "", HANDSHAKE)
        self.post.answer()
        self.say({})
        assert self.post.request() is None

    def say(self, *messages: Any, chunk: int = 0) -> None:
        """Answer the poll that waits, and see the next."""
        self.get.answer(200, pack(*messages) if messages else b"", chunk=chunk)
        if self.client.state == "connected" and self.client.started().want_read:
            assert self.get.request() == ("GET", "", b"")


def take(trip: Trip, stream: IncomingStream) -> list[Any]:
    """The items that have come, the last of which have waited for the others to be taken."""
    items: list[Any] = []
    for _ in range(2):
        items += [stream.receive_nowait() for _ in range(len(stream))]
        trip.get.socket.handle_timeout(now=trip.now)
    trip.run()
    return items


# server-sent events


def test_a_session_over_events() -> None:
    trip = Events(access_token="abc", headers={"X-Lab": "y"})
    assert trip.targets == ["/chat?id=secret"] * 3
    assert (trip.headers["authorization"], trip.headers["x-lab"]) == ("Bearer abc", "y")
    assert trip.headers["content-type"] == "text/plain;charset=UTF-8"
    call = trip.client.started().invoke("Add", [1, 2])
    assert trip.woken(trip.post.socket)
    assert trip.said() == [{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}]
    trip.say({"type": 3, "invocationId": "1", "result": 3})
    assert call.outcome() == 3
    assert len(trip.sockets) == 3  # negotiation, the stream, the POSTs


@pytest.mark.parametrize("size", [1, 7])
def test_events_may_be_cut_anywhere(size: int) -> None:
    trip = Events()
    heard: list[str] = []
    trip.client.handlers.add("Note", heard.append)
    event = encode_event(pack({"type": 1, "target": "Note", "arguments": ["\u00e9\u2028\U0001f600"]}))
    for piece in pieces(event, size):
        trip.chunk(piece)
    assert heard == ["\u00e9\u2028\U0001f600"]


def test_answers_to_posts_may_have_bodies() -> None:
    trip = Events()
    trip.client.started().send("Note")
    trip.said(200, b"thanks")
    trip.post.socket.handle_timeout(now=0.0)
    assert trip.client.state == "connected"


def test_posts_go_one_at_a_time_in_order() -> None:
    trip = Events()
    session = trip.client.started()
    session.send("Note", ["a"])
    first = trip.post.request()
    session.send("Note", ["b"])
    session.send("Note", ["c"])
    assert trip.post.request() is None
    trip.post.answer()
    assert first is not None
    assert [message["arguments"] for message in unpack(first[2]) + trip.said()] == [["a"], ["b"], ["c"]]
    assert len(trip.sockets) == 3


def test_senders_wait_while_a_post_is_on_its_way() -> None:
    trip = Events(config=HubConfig(send_buffer=10))
    session = trip.client.started()
    session.send("Note", ["a"])
    trip.post.request()
    session.send("Note", ["b"])
    trip.woken(session)
    assert not session.writable
    assert trip.post.request() is None
    assert trip.post.socket.want_read
    assert session.unsent > 10
    trip.post.answer()
    trip.woken(session)
    trip.post.request()
    assert trip.woken(session)
    assert session.unsent == 0


def test_a_slow_reader_stops_the_reading() -> None:
    trip = Events(config=HubConfig(stream_buffer=1))
    stream = trip.client.started().stream("Count")
    trip.said()
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    assert not trip.get.socket.want_read
    assert trip.post.socket.want_read
    assert take(trip, stream) == [0, 1, 2, 3]
    assert trip.woken(trip.get.socket)
    trip.get.socket.data_to_send(now=0.0)
    assert trip.get.socket.want_read


@pytest.mark.parametrize("status", [401, 500, 301])
def test_a_post_that_is_refused_is_the_end(status: int) -> None:
    trip = Events()
    call = trip.client.started().invoke("Add")
    trip.said(status, b"No Connection with that ID")
    with pytest.raises(ConnectionFailed) as failed:
        call.outcome()
    assert str(failed.value) == (
        f"http://h/chat refused what was posted with status {status} (No Connection with that ID)"
        + ("; it wants a (valid) access token" if status == 401 else "")
    )
    assert trip.live == []
    assert trip.client.stopped


def test_a_stream_that_ends_is_an_end_in_order() -> None:
    trip = Events()
    trip.get.receive(b"0\r\n\r\n")
    assert trip.client.state == "disconnected"
    assert "is closed" in trip.refused()
    assert trip.live == []


def test_what_came_before_the_end_of_the_stream_is_handled_first() -> None:
    trip = Events(config=HubConfig(stream_buffer=1))
    session = trip.client.started()
    stream = session.stream("Count")
    trip.said()
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    trip.get.receive(b"0\r\n\r\n")
    assert trip.get.request() is None
    trip.get.cut()
    session.send("Note")
    assert trip.post.request() is None  # nobody would hear it
    assert trip.client.state == "connected"
    assert take(trip, stream) == [0, 1, 2, 3]
    assert trip.client.state == "disconnected"
    assert trip.live == []


def test_a_socket_that_breaks_behind_the_end_of_its_stream_leaves_nothing_to_wait_for() -> None:
    trip = Events(config=HubConfig(stream_buffer=1))
    trip.client.started().stream("Count")
    trip.said()
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    trip.get.receive(b"0\r\n\r\n")
    trip.get.cut()
    trip.get.cut()
    assert trip.client.state == "connected"
    trip.get.cut(GONE)
    assert trip.client.stopped


def test_a_post_that_nobody_takes_behind_the_end_of_the_stream_is_no_error() -> None:
    trip = Events(config=HubConfig(stream_buffer=1))
    session = trip.client.started()
    stream = session.stream("Count")
    trip.said()
    session.send("Note")
    assert trip.post.request() is not None
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    trip.get.receive(b"0\r\n\r\n")
    trip.post.answer(404)
    assert take(trip, stream) == [0, 1, 2, 3]
    assert "is closed" in trip.refused()


CUTS = {
    "within an event": (
        encode_event(pack({"type": 6}))[:-2] + b"",
        b"0\r\n\r\n",
        "its events end in the middle of one",
    ),
    "within a character": (b'data: {"type":1,"target":"\xc3', b"0\r\n\r\n", "its events end in the middle of one"),
    "without its last chunk": (b":\r\n", b"", "peer closed connection without sending complete message body"),
}


@pytest.mark.parametrize(("data", "end", "text"), CUTS.values(), ids=CUTS.keys())
def test_a_stream_that_is_cut_is_a_server_that_is_gone(data: bytes, end: bytes, text: str) -> None:
    trip = Events()
    call = trip.client.started().invoke("Add")
    trip.chunk(data)
    if end:
        trip.get.receive(end)
    trip.get.cut()
    with pytest.raises(ServerGone, match=f"http://h/chat is gone: {text}"):
        call.outcome()
    assert trip.client.stopped


def test_an_event_has_a_limit() -> None:
    trip = Events(config=HubConfig(max_message_size=100))
    trip.chunk(b"data: " + b"x" * (1024 * 1024 + 101))
    assert trip.client.stopped
    with pytest.raises(RemoteProtocolError, match="A server-sent event has more than 1048676 bytes"):
        trip.client.started()


def test_what_is_no_event_stream_is_refused() -> None:
    for content_type, text in (("text/html", "text/html"), ("", "something")):
        trip = Trip(SSE)
        trip.get.request()
        trip.get.answer(200, b"<html>", *([("content-type", content_type)] if content_type else []))
        assert trip.refused() == f"http://h/chat answers with {text}, not with server-sent events"


def test_pings_and_silence_are_kept_over_events() -> None:
    trip = Events()
    trip.now = 15.0
    trip.woken(trip.post.socket)
    trip.get.socket.handle_timeout(now=15.0)
    assert trip.woken(trip.post.socket)
    assert trip.said() == [{"type": 6}]
    deadline = trip.get.socket.next_timeout()
    assert deadline == 30.0
    trip.get.socket.handle_timeout(now=30.0)
    assert trip.client.state == "disconnected"
    assert "30" in trip.refused()


def test_a_server_that_fell_silent_leaves_no_socket_behind() -> None:
    trip = Events(config=HubConfig(silence_timeout=30.0, keep_alive_interval=100.0))
    trip.turn(30.0)
    trip.get.socket.handle_timeout(now=30.0)
    trip.run()
    assert trip.client.state == "disconnected"
    assert trip.live == []


def test_a_server_that_fell_silent_may_still_answer_a_post() -> None:
    trip = Events(config=HubConfig(silence_timeout=30.0, keep_alive_interval=100.0))
    trip.client.started().send("Note")
    trip.post.request()
    trip.turn(30.0)
    trip.get.socket.handle_timeout(now=30.0)
    trip.run()
    assert trip.client.state == "disconnected"
    assert trip.live == [trip.get.socket, trip.post.socket]
    trip.post.answer()
    assert trip.post.request() is None
    assert trip.live == []


def test_a_server_that_says_farewell_and_then_nothing_more_is_not_waited_for_long() -> None:
    trip = Polling(config=HubConfig(close_timeout=3.0))
    trip.say(CLOSE)
    assert trip.client.state == "disconnected"
    assert trip.post.request() == ("DELETE", "", b"")
    trip.turn(2.9)
    assert trip.post.socket in trip.live
    trip.turn(0.1)
    assert trip.live == []


def test_a_client_that_stops_says_farewell_and_is_gone() -> None:
    trip = Events()
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.said() == [{"type": 7}]
    assert trip.post.request() is None
    trip.say({"type": 7})
    assert trip.get.socket in trip.live
    trip.get.receive(b"0\r\n\r\n")
    assert trip.live == []
    for socket in trip.sockets:
        socket.receive_eof(now=0.0)
    assert trip.client.stopped


def test_a_farewell_waits_for_the_post_before_it() -> None:
    trip = Events()
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    trip.client.stop(now=0.0)
    assert trip.post.request() is None
    trip.post.answer()
    assert trip.said() == [{"type": 7}]
    assert trip.post.request() is None
    trip.get.receive(b"0\r\n\r\n")
    assert trip.live == []


def test_a_server_that_does_not_answer_a_farewell_is_not_waited_for_long() -> None:
    trip = Events()
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.said() == [{"type": 7}]
    assert trip.get.socket.next_timeout() == 0.25
    trip.get.socket.handle_timeout(now=0.249)
    trip.run()
    assert trip.get.socket in trip.live
    trip.get.socket.handle_timeout(now=0.25)
    trip.run()
    assert trip.live == []


def test_a_farewell_has_a_limit() -> None:
    trip = Events()
    trip.client.started().send("Note")
    trip.post.request()
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.client.next_timeout() == trip.client.config.close_timeout
    trip.turn(trip.client.config.close_timeout)
    assert trip.client.stopped
    assert trip.live == []


def test_a_server_that_says_farewell_is_not_answered() -> None:
    trip = Events()
    trip.say(CLOSE)
    assert trip.client.state == "disconnected"
    assert trip.post.request() is None
    assert trip.live == []


def test_a_server_that_says_farewell_while_no_socket_is_open_for_posts() -> None:
    trip = Events()
    trip.post.cut()
    trip.say(CLOSE)
    assert trip.live == []
    assert len(trip.sockets) == 3


def test_a_client_that_is_dropped_says_nothing() -> None:
    trip = Events()
    trip.client.abandon(now=0.0)
    trip.run()
    assert trip.post.socket.data_to_send(now=0.0) == b""
    assert trip.live == []
    assert len(trip.sockets) == 3
    trip.get.cut(GONE)
    assert trip.client.stopped


# the socket of the POSTs


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 x\r\nContent-Length: 0\r\n\r\n", b"\x00\r\n\r\n"])
def test_a_socket_that_the_server_does_not_keep_is_replaced(farewell: bytes) -> None:
    trip = Events()
    if farewell:
        trip.post.receive(farewell)
        trip.post.receive(farewell)
    trip.post.cut()
    assert trip.post.socket.finished
    trip.client.started().send("Note")
    trip.run()
    assert trip.socket is not trip.post.socket
    trip.post = trip.wire()
    assert trip.said()[0]["target"] == "Note"


def test_a_kept_socket_that_is_dropped_by_the_shell_is_no_loss() -> None:
    trip = Events()
    trip.post.cut(GONE)
    assert trip.client.state == "connected"


def test_a_socket_that_is_opened_for_something_said_already() -> None:
    """The stream has ended meanwhile, so that nobody would hear it."""
    trip = Events(config=HubConfig(stream_buffer=1))
    session = trip.client.started()
    session.stream("Count")
    trip.said()
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    trip.post.cut()
    session.send("Note")
    trip.run()
    late = trip.wire()
    trip.get.receive(b"0\r\n\r\n")
    assert late.request() is None
    assert late.request() is None
    assert late.socket.next_timeout() == 4.0
    assert late.socket.next_timeout() == 4.0


def test_a_socket_that_the_server_closes_with_its_answer_is_replaced() -> None:
    trip = Events()
    session = trip.client.started()
    session.send("Note", ["a"])
    trip.post.request()
    session.send("Note", ["b"])
    trip.post.answer(200, b"", ("connection", "close"))
    trip.post.cut()
    trip.post = trip.wire()
    assert trip.said()[0]["arguments"] == ["b"]


def test_an_idle_socket_is_not_kept_for_long() -> None:
    trip = Events()
    assert trip.post.request() is None
    deadline = trip.post.socket.next_timeout()
    assert deadline == 4.0
    trip.post.socket.handle_timeout(now=3.9)
    assert trip.post.socket in trip.live
    trip.post.socket.handle_timeout(now=deadline)
    trip.post.socket.handle_timeout(now=deadline)
    assert trip.post.socket.finished
    assert trip.post.socket.next_timeout() is None
    assert trip.client.state == "connected"


def test_a_socket_whose_post_has_no_answer_yet_is_not_idle() -> None:
    trip = Events()
    assert trip.post.request() is None
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    assert trip.post.socket.next_timeout() is None
    trip.now = 5.0
    trip.post.socket.handle_timeout(now=5.0)
    trip.post.answer()
    assert trip.post.request() is None
    assert trip.post.socket.next_timeout() == 9.0


@pytest.mark.parametrize("how", ["cut", "broken", "not opened", "no HTTP"])
def test_a_post_that_breaks_is_the_end(how: str) -> None:
    trip = Events()
    call = trip.client.started().invoke("Add")
    if how == "not opened":
        trip.post.cut()
        call = trip.client.started().invoke("Add")
        trip.run()
        trip.socket.open_failed(OSError("no route"), now=0.0)
    else:
        trip.post.request()
        if how == "no HTTP":
            trip.post.receive(b"SSH\r\n\r\n")
        else:
            trip.post.cut(None if how == "cut" else GONE)
    trip.run()
    with pytest.raises(ConnectionFailed, match="http://h/chat"):
        call.outcome()
    assert trip.client.stopped


# long polling


def test_a_session_over_polls() -> None:
    trip = Polling()
    call = trip.client.started().invoke("Add", [1, 2])
    request = trip.post.request()
    assert request is not None
    assert unpack(request[2]) == [{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}]
    trip.post.answer()
    trip.say({"type": 3, "invocationId": "1", "result": 3}, chunk=1)
    assert call.outcome() == 3
    trip.say()  # nothing new within the server's time
    assert len(trip.sockets) == 3  # negotiation, the polls, the POSTs


def test_messagepack_goes_over_polls() -> None:
    trip = Trip(SSE, LP, protocol="messagepack")
    trip.get.request()
    trip.get.answer()
    post = trip.wire()
    assert post.request() == ("POST", "", HANDSHAKE.replace(b"json", b"messagepack"))
    assert trip.headers["content-type"] == "text/plain;charset=UTF-8"
    post.answer()
    trip.get.request()
    trip.get.answer(200, b"{}\x1e")
    trip.client.started().send("Note")
    assert post.request() is not None
    assert trip.headers["content-type"] == "application/octet-stream"


def test_nobody_pings_over_polls() -> None:
    trip = Polling()
    assert trip.client.next_timeout() is None
    assert trip.get.socket.next_timeout() == 100.0


def test_a_poll_without_an_answer_is_given_up_for_another() -> None:
    trip = Polling()
    trip.now = 100.0
    trip.get.socket.handle_timeout(now=100.0)
    trip.run()
    assert trip.get.socket.finished
    assert trip.get.socket.next_timeout() is None
    trip.get.cut()
    trip.get = trip.wire()
    assert trip.get.request() == ("GET", "", b"")
    assert trip.client.state == "connected"


@pytest.mark.parametrize("answered", [False, True])
def test_a_server_that_answers_no_poll_is_gone(answered: bool) -> None:
    trip = Polling()
    call = trip.client.started().invoke("Slow")
    for now in (100.0, 200.0):
        assert not call.done
        trip.now = now
        trip.get.socket.handle_timeout(now=now)
        trip.run()
        trip.get.cut()
        if now == 100.0:
            trip.get = trip.wire()
            assert trip.get.request() == ("GET", "", b"")
            if answered:
                trip.say()
    assert trip.client.state == ("connected" if answered else "disconnected")
    assert call.done is not answered
    if not answered:
        assert trip.live == []
        with pytest.raises(ServerGone, match="http://h/chat is gone: no poll was answered for 200 s"):
            call.outcome()


def test_a_socket_lost_between_polls_is_replaced() -> None:
    trip = Polling()
    trip.get.answer(200, b"", ("connection", "close"))
    assert trip.get.socket.finished
    trip.get.cut()
    trip.get = trip.wire()
    assert trip.get.request() == ("GET", "", b"")
    trip.say({"type": 6})
    assert trip.client.state == "connected"


def test_the_next_poll_waits_for_slow_readers() -> None:
    trip = Polling(config=HubConfig(stream_buffer=1))
    stream = trip.client.started().stream("Count")
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    assert trip.get.request() is None
    assert take(trip, stream) == [0, 1, 2, 3]
    assert trip.woken(trip.get.socket)
    assert trip.get.request() == ("GET", "", b"")


def test_nothing_more_is_an_end_in_order() -> None:
    trip = Polling()
    trip.say(CLOSE)
    trip = Polling()
    trip.get.answer(204)
    assert "is closed" in trip.refused()
    assert trip.live == []


@pytest.mark.parametrize("status", [400, 500])
def test_a_poll_that_is_refused_is_the_end(status: int) -> None:
    trip = Polling()
    trip.get.answer(status, b"why")
    assert trip.refused() == f"http://h/chat refused a poll with status {status} (why)"
    assert trip.live == []


def test_an_answer_may_announce_itself() -> None:
    trip = Polling()
    trip.get.receive(b"HTTP/1.1 103 Early\r\n\r\n")
    trip.say({"type": 6})
    assert trip.client.state == "connected"


def test_the_first_poll_brings_nothing() -> None:
    trip = Trip(LP)
    trip.get.request()
    trip.get.answer(200, b"x")
    assert trip.get.request() == ("GET", "", b"")


def test_a_poll_that_is_cut_is_a_server_that_is_gone() -> None:
    trip = Polling()
    trip.get.cut()
    assert trip.refused().startswith("http://h/chat is gone: ")
    assert trip.live == []


def test_a_client_that_stops_lets_the_server_end_the_connection() -> None:
    trip = Polling()
    trip.client.started().send("Last")
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.said() == [{"type": 1, "target": "Last", "arguments": []}, {"type": 7}]
    trip.say({"type": 7})
    assert trip.get.request() == ("GET", "", b"")
    assert trip.post.request() is None
    trip.get.answer(204)
    assert trip.live == []
    for socket in trip.sockets:
        socket.receive_eof(now=0.0)
    assert trip.client.stopped


@pytest.mark.parametrize("late", [False, True])
def test_a_farewell_is_answered_over_another_socket_if_the_server_keeps_none(late: bool) -> None:
    trip = Polling()
    trip.client.stop(now=0.0)
    trip.run()
    request = trip.post.request()
    if not late:
        trip.post.answer()
    trip.get.answer(200, b"", ("connection", "close"))
    trip.get = trip.wire()
    if late:
        assert trip.get.request() is None
        trip.post.answer()
    assert request is not None
    assert trip.get.request() == ("GET", "", b"")
    trip.get.answer(204)
    assert trip.live == []


@pytest.mark.parametrize("status", [202, 404])
def test_a_connection_that_the_server_does_not_end_is_deleted(status: int) -> None:
    trip = Polling()
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.said() == [{"type": 7}]
    assert trip.post.request() is None
    trip.get.socket.handle_timeout(now=0.249)
    assert trip.post.request() is None
    trip.get.socket.handle_timeout(now=0.25)
    assert trip.post.request() == ("DELETE", "", b"")
    assert trip.get.request() is None
    trip.get.answer(200, b"", ("connection", "close"))
    assert trip.get.socket.finished
    assert trip.socket is trip.post.socket
    trip.post.answer(status)
    trip.run()
    assert trip.live == []
    for socket in trip.sockets:
        socket.receive_eof(now=0.0)
    assert trip.client.stopped


def test_a_server_that_says_farewell_is_asked_to_forget_the_connection() -> None:
    trip = Polling()
    trip.post.cut()
    trip.say(CLOSE)
    assert trip.client.state == "disconnected"
    assert trip.get.request() is None
    trip.get.cut()
    trip.post = trip.wire()
    assert trip.post.request() == ("DELETE", "", b"")
    trip.post.answer(202)
    assert trip.live == []


def test_an_end_while_the_farewell_is_on_its_way() -> None:
    trip = Polling()
    trip.client.stop(now=0.0)
    trip.post.request()
    trip.get.answer(204)
    assert trip.live == []
    assert trip.client.state == "disconnecting"


# the choice between transports


def test_the_servers_order_counts() -> None:
    assert isinstance(Trip(WS, LP).socket, ExchangeSocket)
    trip = Trip(LP, WS)
    assert trip.get.request() == ("GET", "", b"")
    trip = Trip(WS, LP, SSE, transports=[SSE, WS, LP][:1])
    assert trip.get.request() == ("GET", "text/event-stream", b"")


def test_each_fallback_negotiates_again() -> None:
    trip = Trip(WS, SSE, LP)
    trip.receive(b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbusy")
    assert trip.request()[:2] == ("POST", "/chat/negotiate?negotiateVersion=1")
    trip.answer(offer("WebSockets", "ServerSentEvents", "LongPolling", token="other"))
    trip.get = trip.wire()
    assert trip.get.request() == ("GET", "text/event-stream", b"")
    assert trip.targets[-1] == "/chat?id=other"
    trip.get.cut()
    assert trip.request()[0] == "POST"
    trip.answer(offer("WebSockets", "ServerSentEvents", "LongPolling", "Pigeons", token="third"))
    trip.get = trip.wire()
    assert trip.get.request() == ("GET", "", b"")
    trip.get.answer(204)
    text = trip.refused()
    assert text == (
        "http://h/chat: Unable to connect to the server with any of the available transports. "
        "(WebSockets failed: http://h/chat refused the WebSocket with status 503 (busy)) "
        "(ServerSentEvents failed: http://h/chat failed: it closed the connection before it answered) "
        "(LongPolling failed: http://h/chat refused the long polling with status 204) "
        "('Pigeons' is not known to the client.)"
    )
    assert trip.live == []


def test_reasons_of_one_kind_keep_their_kind() -> None:
    trip = Trip(WS, SSE)
    trip.answer("", 403)
    trip.answer(offer("WebSockets", "ServerSentEvents"))
    trip.get = trip.wire()
    trip.get.request()
    trip.get.answer(403)
    with pytest.raises(Forbidden, match="with any of the available transports") as failed:
        trip.client.started()
    assert "refused the server-sent events with status 403" in str(failed.value.__cause__)


def test_the_only_reason_is_told_as_it_is() -> None:
    trip = Trip(SSE)
    trip.get.socket.open_failed(OSError("no route"), now=0.0)
    trip.run()
    assert len(trip.sockets) == 2
    assert trip.refused() == "cannot connect to http://h/chat (h port 80): no route"


def test_transports_that_are_not_wanted_are_told() -> None:
    trip = Trip(WS, SSE, begin=False, transports=[LP])
    with pytest.raises(NoCommonTransport) as failed:
        trip.client.started()
    assert "('WebSockets' is disabled by the client.) ('ServerSentEvents' is disabled by the client.)" in str(
        failed.value
    )
    trip = Trip(SSE, begin=False, protocol="messagepack")
    assert "('ServerSentEvents' does not support Binary.)" in trip.refused()


def test_a_transport_that_hangs_is_dropped_with_the_attempt() -> None:
    trip = Trip(LP)
    trip.get.request()
    trip.turn(30.0)
    assert "within 30 s" in trip.refused()
    assert trip.client.stopped


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"transports": []}, "a client needs at least one transport"),
        (
            {"transports": [LP], "skip_negotiation": True},
            "Negotiation can only be skipped when using the WebSocket transport directly.",
        ),
    ],
)
def test_options_that_lead_nowhere_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Journey(**options)


# a server that does not know the connection any more


class Forgotten(Events):
    """A client whose call was answered 404."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.call = self.client.started().invoke("Add")
        assert self.post.request() is not None
        self.woken(self)
        self.post.answer(404, b"No Connection with that ID")

    def why(self) -> str:
        """Why the call failed."""
        with pytest.raises((HubError, TransportError)) as failed:
            self.call.outcome()
        return str(failed.value)


def test_a_server_that_has_forgotten_a_connection_has_a_moment_to_say_why() -> None:
    trip = Forgotten()
    assert not trip.call.done
    assert trip.woken(trip.get.socket)
    assert trip.get.socket.next_timeout() == 1.0
    trip.client.started().send("Note")
    trip.woken(trip.post.socket)
    assert trip.post.request() is None  # it would be forgotten, too
    assert not trip.woken(trip.post.socket)
    trip.now = 0.9
    trip.get.socket.handle_timeout(now=0.9)
    assert not trip.call.done
    trip.say({"type": 7, "error": "enough"})
    assert "enough" in trip.why()
    assert "404" not in trip.why()
    assert trip.live == []


@pytest.mark.parametrize("end", ["time", "end", "cut"])
def test_a_server_that_does_not_say_why_is_gone(end: str) -> None:
    trip = Forgotten()
    if end == "time":
        trip.now = 1.0
        trip.get.socket.handle_timeout(now=1.0)
    elif end == "end":
        trip.get.receive(b"0\r\n\r\n")
    else:
        trip.get.cut(GONE)
    trip.run()
    expected = "is gone: reset by peer" if end == "cut" else "status 404 (No Connection with that ID); did the server"
    assert expected in trip.why()
    assert trip.live == []
    trip.get.socket.handle_timeout(now=5.0)
    assert trip.get.socket.next_timeout() is None


def test_a_connection_that_was_closed_may_be_forgotten_at_once() -> None:
    trip = Polling()
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.post.request() is not None
    trip.post.answer(404)
    trip.run()
    assert trip.live == []


# access tokens that expire during a session


class Tokens:
    """Gives another token each time, or what a test says."""

    def __init__(self) -> None:
        self.count = 0
        self.waits = False
        self.error: Exception | None = None

    def __call__(self) -> Any:
        self.count += 1
        if self.error is not None:
            raise self.error
        return WAITS if self.waits else f"token-{self.count}"


def bearer(trip: Trip) -> str:
    return trip.headers["authorization"].removeprefix("Bearer ")


def test_what_was_said_with_an_old_token_is_said_again_with_another() -> None:
    tokens = Tokens()
    trip = Events(access_token=tokens)
    session = trip.client.started()
    for count in (1, 2, 3):
        session.send("Note", [count])
        assert trip.post.request() is not None
        assert bearer(trip) == f"token-{count}"
        trip.post.answer(401)
        session.send("Note", ["later"])
        request = trip.post.request()
        assert request is not None
        assert unpack(request[2]) == [{"type": 1, "target": "Note", "arguments": [count]}]
        assert bearer(trip) == f"token-{count + 1}"
        trip.post.answer()
        assert trip.said() == [{"type": 1, "target": "Note", "arguments": ["later"]}]
    assert tokens.count == 4
    assert trip.client.state == "connected"


def test_what_was_refused_may_need_another_socket() -> None:
    trip = Events(access_token=Tokens())
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    trip.post.answer(401, b"", ("connection", "close"))
    trip.get.request()  # its pump is woken, and finds the token
    trip.post = trip.wire()
    assert trip.said() == [{"type": 1, "target": "Note", "arguments": []}]
    assert bearer(trip) == "token-2"


def test_a_poll_with_an_old_token_is_sent_again_with_another() -> None:
    trip = Polling(access_token=Tokens())
    for count in (2, 3, 4):
        trip.get.answer(401)
        assert trip.get.request() == ("GET", "", b"")
        assert bearer(trip) == f"token-{count}"
        trip.say({"type": 6})
    assert trip.client.state == "connected"


def test_one_token_is_asked_for_where_both_sockets_need_it() -> None:
    tokens = Tokens()
    trip = Polling(access_token=tokens)
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    tokens.waits = True
    trip.get.answer(401)
    assert trip.get.request() is None  # no poll without a token
    trip.post.answer(401)
    trip.woken(trip.post.socket)
    assert trip.post.request() is None
    assert not trip.woken(trip.post.socket)  # as it will be when there is a token
    (call,) = [call for call in trip.shell.running if "token" in call.label]
    trip.shell.finish(call, "new")
    trip.client.effects.append(Wake(trip.get.socket))
    assert trip.get.request() == ("GET", "", b"")
    assert bearer(trip) == "new"
    assert trip.said() == [{"type": 1, "target": "Note", "arguments": []}]
    assert bearer(trip) == "new"
    assert tokens.count == 2


def test_what_was_sent_before_there_was_another_token_needs_none() -> None:
    tokens = Tokens()
    trip = Polling(access_token=tokens)
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    trip.get.answer(401)
    assert trip.get.request() == ("GET", "", b"")
    trip.post.answer(401)
    assert trip.said() == [{"type": 1, "target": "Note", "arguments": []}]
    assert bearer(trip) == "token-2"
    assert tokens.count == 2


@pytest.mark.parametrize("which", ["poll", "post"])
def test_a_new_token_that_is_refused_is_the_end(which: str) -> None:
    trip = Polling(access_token=Tokens())
    call = trip.client.started().invoke("Add")
    wire = trip.get if which == "poll" else trip.post
    assert trip.post.request() is not None
    wire.answer(401)
    assert wire.request() is not None
    wire.answer(401, b"no")
    with pytest.raises(Unauthorized, match=r"status 401 \(no\)"):
        call.outcome()
    assert trip.live == []


@pytest.mark.parametrize("token", ["fixed", None])
def test_without_a_provider_there_is_no_other_token(token: str | None) -> None:
    trip = Polling(access_token=token)
    trip.get.answer(401)
    assert "status 401; it wants" in trip.refused()


def test_a_token_of_a_redirect_is_not_replaced() -> None:
    tokens = Tokens()
    trip = Trip(LP, begin=False, access_token=tokens, redirect={"url": "http://other/hub", "accessToken": "theirs"})
    trip.get = trip.wire()
    assert trip.get.request() is not None
    assert bearer(trip) == "theirs"
    trip.get.answer()
    assert trip.get.request() is not None
    trip.get.answer(401)
    assert "status 401" in trip.refused()
    assert tokens.count == 1


def test_a_provider_that_fails_during_a_session_is_the_end() -> None:
    tokens = Tokens()
    trip = Polling(access_token=tokens)
    tokens.error = KeyError("s3cret")
    trip.get.answer(401)
    assert trip.get.request() is None
    assert trip.refused() == "the access-token provider for http://h/chat failed: KeyError"
    assert trip.live == []


def test_a_provider_has_the_time_of_an_attempt_to_connect() -> None:
    tokens = Tokens()
    trip = Polling(access_token=tokens, connect_timeout=7.0)
    tokens.waits = True
    trip.woken(trip)
    trip.get.answer(401)
    assert trip.woken(trip.get.socket)
    assert trip.get.request() is None
    assert trip.get.socket.next_timeout() == 7.0
    trip.now = 7.0
    trip.get.socket.handle_timeout(now=7.0)
    trip.run()
    assert trip.refused() == "the access-token provider for http://h/chat took longer than 7 s"
    assert [call.label for call in trip.shell.asked_to_cancel] == ["access-token provider"]
    assert trip.live == []


def test_a_client_that_leaves_waits_for_no_token() -> None:
    tokens = Tokens()
    trip = Polling(access_token=tokens)
    tokens.waits = True
    trip.get.answer(401)
    assert trip.get.request() is None
    trip.client.abandon(now=0.0)
    trip.run()
    assert [call.label for call in trip.shell.asked_to_cancel] == ["access-token provider"]
    assert trip.live == []


def test_a_deletion_is_repeated_with_another_token() -> None:
    trip = Polling(access_token=Tokens())
    trip.client.stop(now=0.0)
    trip.run()
    assert trip.post.request() is not None
    trip.post.answer()
    trip.get.socket.handle_timeout(now=0.25)
    assert trip.post.request() == ("DELETE", "", b"")
    trip.post.answer(401)
    assert trip.post.request() == ("DELETE", "", b"")
    assert bearer(trip) == "token-2"
    trip.post.answer(202)
    trip.run()
    assert trip.live == []


def test_after_the_end_of_a_session_no_token_is_asked_for() -> None:
    tokens = Tokens()
    trip = Events(access_token=tokens)
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    trip.get.receive(b"0\r\n\r\n")
    trip.post.answer(401)
    assert tokens.count == 1
    assert trip.live == []


def test_what_cannot_be_said_any_more_wakes_nobody() -> None:
    tokens = Tokens()
    trip = Events(access_token=tokens, config=HubConfig(stream_buffer=2))
    stream = trip.client.started().stream("Numbers", [])
    trip.said()
    trip.say(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    trip.client.started().send("Note")
    assert trip.post.request() is not None
    tokens.waits = True
    trip.post.answer(401)
    trip.get.receive(b"0\r\n\r\n")
    (call,) = [call for call in trip.shell.running if "token" in call.label]
    trip.shell.finish(call, "new")
    trip.get.socket.data_to_send(now=0.0)
    assert trip.client.state == "connected"  # there is more to be taken
    trip.woken(trip.post.socket)
    assert trip.post.request() is None
    assert not trip.woken(trip.post.socket)
    assert take(trip, stream) == [0, 1, 2, 3]
    assert trip.live == []


# cookies


def test_every_answer_may_set_a_cookie_that_goes_with_what_follows() -> None:
    trip = Polling(headers={"Cookie": "mine=1"})
    trip.get.answer(200, pack({"type": 6}), ("set-cookie", "route=a"))
    assert trip.get.request() == ("GET", "", b"")
    assert trip.headers["cookie"] == "mine=1; route=a"
    trip.client.started().send("Note")
    assert trip.said() == [{"type": 1, "target": "Note", "arguments": []}]
    assert trip.headers["cookie"] == "mine=1; route=a"


# transports that are not answered


@pytest.mark.parametrize("first", [WS, SSE])
def test_a_transport_that_is_not_answered_leaves_time_for_the_next(first: Transport) -> None:
    transports = (WS, SSE, LP) if first is WS else (SSE, LP)
    trip = Trip(*transports, connect_timeout=30.0)
    share = 30.0 / len(transports)
    assert trip.client.next_timeout() == share
    trip.get.request()
    trip.turn(share)
    assert trip.get.socket.finished
    assert trip.woken(trip.get.socket)
    assert "/negotiate" in trip.request()[1]
    trip.answer(offer(*transports, token="second"))
    assert trip.client.next_timeout() == (20.0 if first is WS else 30.0)
    trip.get = trip.wire()
    assert trip.get.request() is not None
    assert trip.targets[-1].endswith("id=second")


def test_the_shell_is_told_of_the_earlier_deadline() -> None:
    trip = Journey()
    trip.woken(trip)
    trip.answer(offer("LongPolling"))
    assert not trip.woken(trip.client)
    trip = Journey()
    trip.woken(trip)
    trip.answer(offer("WebSockets", "LongPolling"))
    assert trip.woken(trip.client)


def test_a_transport_that_was_accepted_has_all_the_time() -> None:
    trip = Trip(LP, SSE)
    assert trip.client.next_timeout() == 15.0
    trip.get.request()
    trip.get.answer()
    assert trip.client.next_timeout() == 30.0


def test_what_nobody_answers_fails_in_time() -> None:
    trip = Trip(WS, LP)
    trip.turn(15.0)
    trip.answer(offer("WebSockets", "LongPolling"))
    trip.turn(15.0)
    assert trip.refused().startswith("no connection to http://h/chat within 30 s")


def test_there_may_be_no_other_transport_any_more() -> None:
    trip = Trip(WS, LP)
    trip.turn(15.0)
    trip.answer(offer("WebSockets"))
    assert "did not accept the WebSocket in time" in trip.refused()
