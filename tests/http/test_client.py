"""The logical connection of a client: its start, its session, its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from hubproto_core import (
    ClientState,
    Hub,
    HubConfig,
    HubError,
    LocalProtocolError,
    OutgoingCall,
    TransportError,
    WouldBlock,
)
from hubproto_core.http import ClientSocket, HubClient
from hubproto_core.http._websocket import accept_token
from tests.http._journey import OFFER, Journey, Opened, switching
from tests.http._site import Entropy, Site
from tests.kit.wire import pack, pieces


@pytest.mark.parametrize(
    "url", ["", "chat", "ftp://h/chat", "http://", "http:///chat", "http://[::1/chat", "mailto:a@b"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        HubClient(url, entropy=Entropy())


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
    assert [client.stopped] == [False]
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.over()


def test_a_lost_websocket_ends_everything() -> None:
    journey = Opened()
    call = waiting(journey)
    journey.socket.receive_eof(TransportError("reset"), now=0.0)
    assert journey.woken(journey.client)
    assert journey.refused().startswith("http://h/chat is gone: reset; ")
    with pytest.raises(TransportError, match="reset"):
        call.outcome()
    assert journey.client.stopped


def test_time_passes_for_the_session() -> None:
    journey = Opened(config=HubConfig(keep_alive_interval=10.0, silence_timeout=20.0))
    assert journey.socket.next_timeout() == 10.0
    journey.socket.handle_timeout(now=10.0)
    assert journey.hear(10.0) == ([{"type": 6}], [])
    journey.socket.handle_timeout(now=20.0)
    assert journey.refused() == "Server timeout (20000.00ms) elapsed without receiving a message from the server."


def test_a_client_starts_only_when_it_is_disconnected() -> None:
    journey = Journey(start=False)
    with pytest.raises(LocalProtocolError, match="is not open yet"):
        journey.client.started()
    journey.client.start(now=0.0)
    with pytest.raises(WouldBlock):
        journey.client.started()
    with pytest.raises(LocalProtocolError, match="can only start when it is disconnected; it is connecting"):
        journey.client.start(now=0.0)


def test_stopping_says_farewell() -> None:
    journey = Opened()
    call = waiting(journey)
    client = journey.client
    client.stop(now=1.0)
    assert journey.woken(journey.socket)
    assert journey.hear(1.0) == ([{"type": 7}], [(1000, None)])
    assert call.done
    assert [client.stopped] == [False]
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
    assert [client.stopped] == [False]
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


def test_stopping_before_the_start_changes_nothing() -> None:
    journey = Journey(start=False)
    journey.client.stop(now=0.0)
    assert journey.client.stopped
    journey.client.start(now=0.0)
    assert journey.client.state is ClientState.CONNECTING


def test_stopping_after_the_end_changes_nothing() -> None:
    journey = Opened()
    journey.socket.receive_eof(TransportError("reset"), now=0.0)
    journey.client.stop(now=0.0)
    assert journey.refused().startswith("http://h/chat is gone: reset; ")
    assert journey.client.stopped


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
    meeting.site.server.context(meeting.site.hub).clients.all.send("news")
    client.stop(now=0.0)
    meeting.move()
    for ours, theirs in meeting.joined:
        ours.receive_eof(now=0.0)
        theirs.conn.receive_eof(now=0.0)
    assert client.stopped
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
    assert journey.client.stopped or len(journey.sockets) == 2


def test_calls_carry_the_headers_that_are_asked_for() -> None:
    journey = Opened(call_headers=lambda: {"traceparent": "00-x"})
    journey.client.started().send("Note")
    assert journey.hear()[0] == [
        {"type": 1, "headers": {"traceparent": "00-x"}, "target": "Note", "arguments": []},
    ]


def test_log_records_say_which_hub_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    journey = Opened(url="http://user:pass@h/chat?access_token=s3cret", access_token="s3cret")
    journey.say({"type": 1, "target": "Note", "arguments": []})
    (record,) = caplog.records
    assert vars(record)["hub"] == "http://h/chat"
    assert vars(record)["hub_method"] == "Note"
    assert "s3cret" not in str(vars(record))
