"""A connection that requests carry: long polling, server-sent events, posted bodies."""

from __future__ import annotations

from typing import Any

import pytest

from hubproto_core import Call, ConnectionInfo, Hub, HubConfig, HubSession, Registry, Transport
from hubproto_core.http._connection import NO_CACHE, Connection
from hubproto_core.http._exchange import Exchange
from hubproto_core.http._messages import Response
from tests.kit.shell import Shell
from tests.kit.wire import HANDSHAKE, pack, unpack

EMPTY = Response(200, content_type="application/octet-stream", headers=NO_CACHE)
NOTHING_NEW = Response(200, headers=NO_CACHE)
NOTHING_MORE = Response(204, headers=NO_CACHE)
NOT_FOUND = Response(404)
ADD = {"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}
SUM = {"type": 3, "invocationId": "1", "result": 3}
CLOSE = {"type": 7, "allowReconnect": True}


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Add")
    def add(a: int, b: int) -> int:
        return a + b

    @hub.method("Slow")
    async def slow() -> None:
        raise NotImplementedError

    @hub.method("Bye")
    def bye(call: Call) -> None:
        call.abort()

    return hub


class Lab:
    """An endpoint with one connection, and its shell."""

    def __init__(self, transport: Transport, config: HubConfig | None = None, *, opened: bool = True) -> None:
        self.shell = Shell()
        self.config = config
        self.transport = transport
        self.ended_count = 0
        self.is_due = False
        self.hub = make_hub()
        self.registry = Registry()
        self.connection = Connection(
            "token",
            "id",
            self,
            self.shell.effects,
            body_limit=100,
            poll_timeout=90.0,
            absence_timeout=15.0,
            farewell_timeout=5.0,
            now=0.0,
        )
        if opened:
            self.open()

    def open(self, now: float = 0.0) -> None:
        session = HubSession(
            self.hub,
            self.hub.codecs,
            connection_id="id",
            registry=self.registry,
            config=self.config,
            effects=self.connection,
            info=ConnectionInfo(transport=self.transport),
            now=now,
        )
        self.connection.open(session, self.transport, now=now)

    @property
    def session(self) -> HubSession:
        assert self.connection.session is not None
        return self.connection.session

    # ConnectionOwner

    def due(self, connection: Connection) -> None:
        assert connection is self.connection
        self.is_due = True

    def ended(self, connection: Connection) -> None:
        assert connection is self.connection
        self.ended_count = 1

    # what an endpoint and hosts do

    def settle(self, now: float = 0.0) -> None:
        """Do what is due."""
        while self.shell.run() or self.is_due:
            self.is_due = False
            self.connection.drive(now=now)

    def post(self, body: bytes, now: float = 0.0, host: object = "post") -> Exchange:
        """Begin a request with this body, as far as it is taken."""
        post = self.connection.post(host)
        if post.want_read:
            post.receive_data(body, now=now)
        post.receive_end(now=now)
        self.settle(now)
        return post

    def say(self, *messages: Any, now: float = 0.0) -> None:
        """Post messages, all of which are taken."""
        post = self.post(pack(*messages), now)
        assert post.response(now=now) == Response(200)
        assert post.finished

    def poll(self, now: float = 0.0, host: object = "poll") -> Exchange:
        return self.connection.poll(host, now=now)

    def heard(self, now: float = 0.0) -> list[Any]:
        """What a poll brings at once."""
        poll = self.poll(now)
        self.settle(now)
        response = poll.response(now=now)
        assert response is not None
        assert poll.finished
        assert (response.status, response.content_type) == (200, "application/octet-stream")
        self.settle(now)
        return unpack(response.body)


def polling(config: HubConfig | None = None) -> Lab:
    """A connection over long polling whose handshake is done."""
    lab = Lab(Transport.LONG_POLLING, config)
    assert lab.connection.first_poll("poll", now=0.0).response(now=0.0) == EMPTY
    post = lab.post(HANDSHAKE)
    assert post.response(now=0.0) == Response(200)
    assert lab.heard() == [{}]
    return lab


def streaming(config: HubConfig | None = None) -> tuple[Lab, Exchange]:
    """A connection over server-sent events whose handshake is done, and its stream."""
    lab = Lab(Transport.SERVER_SENT_EVENTS, config)
    stream = lab.connection.stream_events("stream", now=0.0)
    response = stream.response(now=0.0)
    assert response is not None
    assert (response.status, response.body, response.content_type) == (200, b":\r\n", "text/event-stream")
    assert lab.post(HANDSHAKE).response(now=0.0) == Response(200)
    assert stream.data_to_send(now=0.0) == b"data: {}\x1e\r\n\r\n"
    return lab, stream


# --- long polling ----------------------------------------------------------------------------------------------------


def test_what_is_said_between_polls_leaves_with_the_next() -> None:
    lab = polling()
    lab.say(ADD, {**ADD, "invocationId": "2"})
    assert lab.heard() == [SUM, {**SUM, "invocationId": "2"}]


def test_a_poll_waits_for_something_to_say() -> None:
    lab = polling()
    poll = lab.poll()
    assert poll.response(now=0.0) is None
    assert not poll.finished
    lab.shell.woken.clear()
    lab.say(ADD)
    assert "poll" in lab.shell.woken
    response = poll.response(now=0.0)
    assert response is not None
    assert unpack(response.body) == [SUM]
    assert poll.response(now=1.0) is response
    assert (poll.finished, poll.data_to_send(now=1.0), poll.next_timeout()) == (True, b"", None)
    poll.handle_timeout(now=1.0)
    assert response.headers == NO_CACHE


def test_a_poll_ends_with_nothing_after_its_time() -> None:
    lab = polling()
    poll = lab.poll(now=10.0)
    assert poll.next_timeout() == 100.0
    poll.handle_timeout(now=99.0)
    assert poll.response(now=99.0) is None
    poll.handle_timeout(now=100.0)
    assert poll.response(now=100.0) == NOTHING_NEW
    assert lab.connection.next_timeout() == 115.0


def test_what_a_poll_has_in_its_body_is_dropped() -> None:
    lab = polling()
    poll = lab.poll()
    assert poll.want_read
    poll.receive_data(pack(ADD), now=0.0)
    poll.receive_end(now=0.0)
    lab.settle()
    assert poll.response(now=0.0) is None


def test_another_poll_ends_the_first() -> None:
    lab = polling()
    first = lab.poll(host="first")
    lab.shell.woken.clear()
    second = lab.poll(host="second")
    assert lab.shell.was_woken("first")
    assert first.response(now=0.0) == NOTHING_MORE
    assert first.finished
    first.receive_eof(now=0.0)
    lab.say(ADD)
    response = second.response(now=0.0)
    assert response is not None
    assert unpack(response.body) == [SUM]


def test_the_last_words_come_first_and_then_nothing_more() -> None:
    lab = polling()
    lab.say({"type": 1, "target": "Bye", "arguments": []})
    assert lab.heard() == [{"type": 7}]
    assert lab.ended_count == 0
    poll = lab.poll()
    assert poll.response(now=0.0) == NOTHING_MORE
    assert lab.ended_count == 1
    assert lab.session.finished


def test_last_words_that_nobody_fetches_are_dropped() -> None:
    lab = polling()
    lab.say({"type": 7})
    lab.settle(now=14.9)
    assert lab.ended_count == 0
    lab.connection.drive(now=15.0)
    lab.settle(15.0)
    assert (lab.ended_count, lab.session.finished) == (1, True)
    assert lab.connection.next_timeout() is None


def test_a_client_that_does_not_come_back_is_gone() -> None:
    lab = polling()
    lab.say({"type": 1, "invocationId": "5", "target": "Slow", "arguments": []})
    assert lab.connection.next_timeout() == 15.0
    lab.connection.drive(now=14.0)
    assert not lab.shell.asked_to_cancel
    lab.connection.drive(now=15.0)
    assert lab.ended_count == 1
    lab.settle(15.0)
    lab.shell.cancel_asked()
    lab.settle(15.0)
    assert lab.session.finished
    assert not lab.registry.connections


def test_a_client_that_closes_the_socket_of_its_poll_may_come_back() -> None:
    lab = polling()
    poll = lab.poll(now=50.0)
    poll.receive_eof(now=60.0)
    assert poll.finished
    assert lab.connection.next_timeout() == 75.0
    lab.say(ADD, now=70.0)
    assert lab.heard(now=74.0) == [SUM]


def test_nobody_is_asked_to_show_life() -> None:
    lab = polling()
    lab.say({"type": 6})
    poll = lab.poll()
    poll.handle_timeout(now=80.0)
    assert poll.response(now=80.0) is None
    assert lab.session.closed is None


def test_an_overdue_handshake_ends_a_poll() -> None:
    lab = Lab(Transport.LONG_POLLING)
    lab.connection.first_poll("poll", now=0.0)
    poll = lab.poll(now=1.0)
    assert poll.next_timeout() == 15.0
    poll.handle_timeout(now=15.0)
    response = poll.response(now=15.0)
    assert response is not None
    assert response.body == b'{"error":"Handshake was canceled."}\x1e'


def test_a_handshake_can_fall_due_between_polls() -> None:
    lab = Lab(Transport.LONG_POLLING, HubConfig(handshake_timeout=5.0))
    lab.connection.first_poll("poll", now=0.0)
    assert lab.connection.next_timeout() == 5.0
    lab.connection.drive(now=5.0)
    assert lab.poll(now=6.0).response(now=6.0) == Response(
        200, b'{"error":"Handshake was canceled."}\x1e', "application/octet-stream", NO_CACHE
    )


@pytest.mark.parametrize("waits", [True, False])
def test_a_client_that_asks_to_go_hears_a_farewell_if_it_listens(waits: bool) -> None:
    lab = polling()
    poll = lab.poll() if waits else None
    lab.connection.terminate(now=0.0)
    assert lab.ended_count == 1
    if poll is not None:
        lab.settle()
        response = poll.response(now=0.0)
        assert response is not None
        assert unpack(response.body) == [CLOSE]
    lab.settle()
    assert lab.session.finished
    assert lab.connection.post("late").response(now=0.0) == NOT_FOUND


# --- server-sent events ----------------------------------------------------------------------------------------------


def test_events_carry_all_that_is_said() -> None:
    lab, stream = streaming()
    lab.shell.woken.clear()
    lab.say(ADD)
    assert "stream" in lab.shell.woken
    assert stream.data_to_send(now=0.0) == b'data: {"type":3,"invocationId":"1","result":3}\x1e\r\n\r\n'
    assert stream.data_to_send(now=0.0) == b""
    assert not stream.finished


def test_events_end_with_the_session() -> None:
    lab, stream = streaming()
    lab.say({"type": 1, "target": "Bye", "arguments": []})
    assert stream.data_to_send(now=0.0) == b'data: {"type":7}\x1e\r\n\r\n'
    assert (stream.finished, stream.next_timeout(), lab.ended_count) == (True, None, 1)
    assert stream.data_to_send(now=0.0) == b""
    stream.receive_eof(now=0.0)
    assert lab.connection.next_timeout() is None


def test_an_error_is_an_event_at_once() -> None:
    lab, stream = streaming()
    lab.shell.woken.clear()
    lab.say({**ADD, "target": "Missing"})
    assert "stream" in lab.shell.woken
    assert b"Method does not exist" in stream.data_to_send(now=0.0)


def test_pings_are_events() -> None:
    _, stream = streaming()
    assert stream.next_timeout() == 15.0
    stream.handle_timeout(now=15.0)
    assert stream.data_to_send(now=15.0) == b'data: {"type":6}\x1e\r\n\r\n'


def test_a_listener_that_hangs_up_is_gone() -> None:
    lab, stream = streaming()
    lab.say({"type": 1, "invocationId": "5", "target": "Slow", "arguments": []})
    stream.receive_eof(now=0.0)
    assert stream.finished
    assert lab.ended_count == 1
    lab.settle()
    lab.shell.cancel_asked()
    lab.settle()
    assert lab.session.finished


def test_calls_that_wait_behind_another_are_not_forgotten_when_the_listener_hangs_up() -> None:
    lab, stream = streaming()
    lab.say({"type": 1, "target": "Slow", "arguments": []}, {"type": 1, "target": "Slow", "arguments": []}, CLOSE)
    stream.receive_eof(now=0.0)
    for _ in range(2):
        lab.settle()
        lab.shell.finish(lab.shell.find("Slow"))
    lab.settle()
    assert lab.session.finished


def test_only_text_can_be_events() -> None:
    lab = Lab(Transport.SERVER_SENT_EVENTS)
    stream = lab.connection.stream_events("stream", now=0.0)
    lab.post(b'{"protocol":"messagepack","version":1}\x1e')
    text = (
        "Cannot use the 'messagepack' protocol on the current transport. "
        "The transport does not support 'Binary' transfer format."
    )
    assert stream.data_to_send(now=0.0).decode() == f'data: {{"error":"{text}"}}\x1e\r\n\r\n'


# --- posted bodies ---------------------------------------------------------------------------------------------------


def test_bodies_before_the_first_get_are_kept() -> None:
    lab = Lab(Transport.LONG_POLLING, opened=False)
    assert lab.post(HANDSHAKE[:9]).response(now=0.0) == Response(200)
    assert lab.post(HANDSHAKE[9:]).response(now=0.0) == Response(200)
    lab.open()
    lab.connection.first_poll("poll", now=0.0)
    assert lab.heard() == [{}]


def test_bodies_before_the_first_get_wait_at_their_limit() -> None:
    lab = Lab(Transport.LONG_POLLING, opened=False)
    lab.say(ADD)
    body = HANDSHAKE + pack(ADD)
    late = lab.post(body, host="late")
    assert late.response(now=0.0) is None
    lab.connection.drive(now=1.0)
    assert late.response(now=1.0) is None
    assert lab.connection.next_timeout() == 15.0
    lab.shell.woken.clear()
    lab.open()
    assert lab.shell.was_woken("late")
    late.handle_timeout(now=1.0)
    assert late.response(now=1.0) == Response(200)


def test_bodies_for_nobody_are_not_found_once_the_id_has_expired() -> None:
    lab = Lab(Transport.LONG_POLLING, opened=False)
    post = lab.connection.post("slow")
    post.receive_data(b"x" * 101, now=0.0)
    wanted = [post.want_read]
    lab.connection.drive(now=15.0)
    assert lab.ended_count == 1
    assert post.response(now=15.0) == NOT_FOUND
    assert [*wanted, post.want_read] == [False, True]  # the rest of it is dropped
    post.receive_data(b"more", now=15.0)


def test_a_body_is_taken_as_fast_as_the_session_takes_it() -> None:
    lab = polling()
    slow = {"type": 1, "invocationId": "5", "target": "Slow", "arguments": []}
    lab.say(slow, slow)
    assert not lab.session.want_read
    first, second = lab.post(pack(ADD), host="first"), lab.post(pack(ADD), host="second")
    assert (first.want_read, second.want_read) == (False, False)
    assert (first.response(now=0.0), second.response(now=0.0)) == (None, None)
    lab.shell.woken.clear()
    for _ in range(2):
        lab.shell.finish(lab.shell.find("Slow"))
        lab.settle()
    assert {"first", "second"} <= set(lab.shell.woken)
    assert first.response(now=0.0) == second.response(now=0.0) == Response(200)


@pytest.mark.parametrize("transport", [Transport.LONG_POLLING, Transport.SERVER_SENT_EVENTS])
def test_a_body_is_taken_when_there_is_room_again_though_there_is_nothing_to_say(transport: Transport) -> None:
    lab = polling() if transport is Transport.LONG_POLLING else streaming()[0]
    slow = {"type": 1, "target": "Slow", "arguments": []}
    lab.say(slow, slow)
    get: Any = lab.poll() if transport is Transport.LONG_POLLING else lab.connection._get
    assert get.response(now=0.0) is None or transport is Transport.SERVER_SENT_EVENTS
    post = lab.post(pack({"type": 6}))
    assert post.response(now=0.0) is None
    lab.shell.woken.clear()
    lab.shell.finish(lab.shell.find("Slow"))
    assert {"post", get.host} <= set(lab.shell.woken)
    assert post.response(now=0.0) is None  # whoever is woken first
    lab.shell.woken.clear()
    get.response(now=0.0)
    assert get.data_to_send(now=0.0) == b""
    assert lab.shell.was_woken("post")
    assert post.response(now=0.0) == Response(200)


def test_a_body_is_read_on_when_the_listener_has_made_room_for_it() -> None:
    lab, stream = streaming()
    slow = {"type": 1, "invocationId": "5", "target": "Slow", "arguments": []}
    lab.say(slow, slow)
    post = lab.connection.post("post")
    post.receive_data(pack(ADD)[:20], now=0.0)
    wanted = [post.want_read]
    lab.shell.finish(lab.shell.find("Slow"))
    lab.shell.run()
    lab.shell.woken.clear()
    stream.data_to_send(now=0.0)
    lab.shell.run()
    assert "post" in lab.shell.woken
    assert [*wanted, post.want_read] == [False, True]


def test_bodies_do_not_mix() -> None:
    lab = polling()
    one, other = lab.connection.post("one"), lab.connection.post("other")
    assert (one.want_read, other.want_read) == (True, False)
    data = pack(ADD)
    one.receive_data(data[:20], now=0.0)
    assert one.response(now=0.0) is None
    lab.shell.woken.clear()
    one.receive_data(data[20:], now=0.0)
    one.receive_end(now=0.0)
    assert {"one", "other"} <= set(lab.shell.woken) or lab.shell.was_woken("other")
    assert other.want_read


def test_half_a_body_has_been_taken_when_its_client_hangs_up() -> None:
    lab = polling()
    one, other = lab.connection.post("one"), lab.connection.post("other")
    one.receive_data(pack(ADD)[:20], now=0.0)
    lab.shell.woken.clear()
    one.receive_eof(now=0.0)
    assert one.finished
    assert lab.shell.was_woken("other")
    other.receive_data(pack(ADD)[20:], now=0.0)
    other.receive_end(now=0.0)
    lab.settle()
    assert lab.heard() == [SUM]
    assert lab.connection.post("third").want_read
    one.receive_eof(now=0.0)


def test_a_body_that_does_not_end_before_its_client_has_stayed_away_is_not_found() -> None:
    lab = polling()
    post = lab.connection.post("post")
    post.receive_data(pack(ADD)[:5], now=0.0)
    assert post.response(now=0.0) is None
    lab.connection.drive(now=lab.connection.next_timeout() or 0.0)
    lab.connection.drive(now=100.0)
    assert post.response(now=100.0) == Response(404)
