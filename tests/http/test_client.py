"""The logical connection of a client: its start, its session, its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from hubproto_core import (
    ClientState,
    Closed,
    Connected,
    Connecting,
    ConnectionFailed,
    ConnectionRefused,
    ConnectTimeout,
    EndOfStream,
    Hub,
    HubConfig,
    HubError,
    LocalProtocolError,
    NotConnected,
    OutgoingCall,
    Reconnected,
    ReconnectFailed,
    Reconnecting,
    ReconnectPolicy,
    Retry,
    ServerGone,
    Transport,
    TransportError,
    WouldBlock,
)
from hubproto_core._states import CLIENT, ClientCause
from hubproto_core.http import ClientSocket, HubClient, Obstacle
from hubproto_core.http._attempt import Progress
from hubproto_core.http._websocket import accept_token
from tests.http._journey import OFFER, Journey, Opened, switching
from tests.http._site import Entropy, Site
from tests.kit.wire import pack, pieces


def test_calls_go_through_the_websocket() -> None:
    journey = Opened()
    call = journey.client.started().invoke("Add", [1, 2])
    assert journey.woken(journey.socket)
    assert journey.hear() == ([{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}], [])
    journey.say({"type": 3, "invocationId": "1", "result": 3})
    assert call.outcome() == 3


def test_the_transport_is_known_while_there_is_a_connection() -> None:
    assert Journey().client.transport is None
    opened = Opened()
    there: Transport | None = opened.client.transport
    assert there is Transport.WEB_SOCKETS
    opened.client.abandon(now=0.0)
    gone: Transport | None = opened.client.transport
    assert gone is None


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


def waiting(journey: Journey) -> OutgoingCall:
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
    assert journey.hear(1.0) == ([{"type": 7}], [])
    assert call.done
    assert [client.stopped] == [False]
    journey.receive(journey.far.send(CloseConnection(1000)))
    assert journey.hear() == ([], [(1000, None)])
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
    assert journey.hear() == ([{"type": 7}], [])
    journey.receive(journey.far.send(CloseConnection(1000)))
    assert journey.hear() == ([], [(1000, None)])
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


@settings(deadline=None, derandomize=True, max_examples=300)
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


# --- coming back -----------------------------------------------------------------------------------------------------


class Returning(Journey):
    """A client that comes back, what its callbacks have heard, and what its policy was asked."""

    def __init__(self, *delays: float | None, open_now: bool = True, **options: Any) -> None:
        self.heard: list[object] = []
        self.asked: list[Retry] = []
        self.delays = list(delays)
        options.setdefault("reconnect", self.policy)
        super().__init__(skip_negotiation=True, start=False, **options)
        for kind in (Connecting, Connected, Reconnecting, Reconnected, Closed):
            self.client.on_event(kind, lambda *what, kind=kind: self.heard.append(kind(*what)))
        self.events = self.client.events()
        self.start()
        if open_now:
            self.open()

    def policy(self, retry: Retry) -> float | None:
        self.asked.append(retry)
        return self.delays.pop(0)

    def cut(self, why: str = "reset") -> None:
        """The socket opened last breaks."""
        self.socket.receive_eof(TransportError(why), now=self.now)
        self.run()

    def told(self) -> list[str]:
        """The kinds of events heard since the last time; callbacks and subscribers have heard the same."""
        self.run()
        seen: list[object] = []
        with suppress(WouldBlock, EndOfStream):
            while True:
                seen.append(self.events.receive_nowait())
        heard, self.heard = self.heard, []
        assert seen == heard
        return [type(event).__name__ for event in heard]

    def state(self) -> ClientState:
        return self.client.state


def test_a_client_that_is_lost_comes_back() -> None:
    journey = Returning(2.0)
    news: list[int] = []
    journey.client.handlers.add("news", lambda n: news.append(n))
    assert journey.told() == ["Connecting", "Connected"]
    call = waiting(journey)
    journey.turn(5.0)
    journey.cut()
    with pytest.raises(ServerGone, match="reset"):
        call.outcome()
    assert journey.state() is ClientState.RECONNECTING
    assert journey.told() == ["Reconnecting"]
    (asked,) = journey.asked
    assert (asked.count, asked.elapsed, str(asked.reason)[:26]) == (0, 0.0, "http://h/chat is gone: res")
    assert 0 <= asked.random < 1
    with pytest.raises(WouldBlock):
        journey.client.started()
    with pytest.raises(NotConnected, match="no connection to http://h/chat at the moment: it is reconnecting"):
        journey.client.connected()
    assert journey.client.connection_id is None
    assert journey.client.next_timeout() == 7.0
    journey.turn(1.9)
    assert len(journey.sockets) == 1
    journey.turn(0.1)
    assert len(journey.sockets) == 2
    journey.open()
    assert journey.state() is ClientState.CONNECTED
    assert journey.told() == ["Reconnected"]
    assert journey.woken(journey.client)
    journey.say({"type": 1, "target": "news", "arguments": [5]})
    assert news == [5]
    call = journey.client.connected().invoke("Add", [1, 2])
    assert journey.hear() == ([{"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}], [])
    journey.say({"type": 3, "invocationId": "1", "result": 3})
    assert call.outcome() == 3


def test_a_new_connection_has_a_new_id() -> None:
    journey = Journey(reconnect=lambda retry: 0.0)
    heard: list[str | None] = []
    journey.client.on_event(Connected, heard.append)
    journey.client.on_event(Reconnected, heard.append)
    for name in ("one", "two"):
        journey.answer({**OFFER, "connectionId": name})
        journey.open()
        heard.append(journey.client.connection_id)
        journey.socket.receive_eof(TransportError("reset"), now=0.0)
        heard.append(journey.client.connection_id)
        journey.turn()
    assert heard == ["one", "one", None, "two", "two", None]


def test_failed_attempts_are_counted_up_to_the_success() -> None:
    journey = Returning(1.0, 2.0, 0.0, 4.0, None)
    journey.cut()
    journey.turn(1.0)
    journey.socket.open_failed(OSError("refused"), Obstacle.REFUSED, now=journey.now)
    journey.turn(2.0)
    journey.answer("busy", 503)
    journey.turn()
    journey.open()
    journey.turn(10.0)
    journey.cut("again")
    assert [(retry.count, retry.elapsed) for retry in journey.asked] == [(0, 0.0), (1, 1.0), (2, 3.0), (0, 0.0)]
    assert [str(retry.reason).split(";")[0] for retry in journey.asked] == [
        "http://h/chat is gone: reset",
        "cannot connect to http://h/chat (h port 80): refused",
        "http://h/chat refused the WebSocket with status 503 (busy)",
        "http://h/chat is gone: again",
    ]
    assert journey.told() == ["Connecting", "Connected", "Reconnecting", "Reconnected", "Reconnecting"]


def test_a_client_gives_up_in_the_end() -> None:
    journey = Returning(reconnect=ReconnectPolicy(delays=[0, 2]))
    journey.cut()
    for seconds in (0.0, 2.0):
        journey.turn(seconds)
        journey.socket.open_failed(OSError("refused"), Obstacle.REFUSED, now=journey.now)
        journey.run()
    assert journey.state() is ClientState.DISCONNECTED
    assert journey.client.stopped
    assert journey.client.next_timeout() is None
    with pytest.raises(ReconnectFailed) as failed:
        journey.client.connected()
    assert str(failed.value).startswith(
        "the connection to http://h/chat was lost, and not made again by 2 attempts within 2 s: cannot connect to"
    )
    assert isinstance(failed.value.__cause__, ConnectionRefused)
    assert journey.heard[-1] == Closed(failed.value)
    assert journey.told() == ["Connecting", "Connected", "Reconnecting", "Closed"]


def test_one_attempt_is_not_many() -> None:
    journey = Returning(0.0, None)
    journey.cut()
    journey.turn()
    journey.cut()
    with pytest.raises(ReconnectFailed, match="by 1 attempt within 0 s"):
        journey.client.connected()


@pytest.mark.parametrize("delays", [(None,), ()], ids=["it says so", "it fails"])
def test_a_policy_may_not_want_to_return_at_all(delays: tuple[None, ...], caplog: pytest.LogCaptureFixture) -> None:
    journey = Returning(*delays)
    journey.cut()
    assert journey.told() == ["Connecting", "Connected", "Closed"]
    with pytest.raises(ServerGone):
        journey.client.connected()
    assert [record.getMessage() for record in caplog.records] == [
        "the reconnect policy failed, which ends the connection: IndexError"
    ] * (not delays)


def test_a_delay_that_is_none_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    journey = Returning(reconnect=lambda retry: "soon")
    journey.cut()
    assert journey.told() == ["Connecting", "Connected", "Closed"]
    assert "TypeError" in caplog.text


def test_a_negative_delay_is_none_at_all() -> None:
    journey = Returning(-5.0)
    journey.cut()
    assert journey.client.next_timeout() == 0.0


def test_without_a_policy_a_loss_is_the_end() -> None:
    journey = Returning(reconnect=None)
    journey.cut()
    assert journey.told() == ["Connecting", "Connected", "Closed"]
    assert journey.client.stopped
    with pytest.raises(EndOfStream):
        journey.events.receive_nowait()


@pytest.mark.parametrize("allow", [True, False])
def test_the_server_says_whether_a_client_may_return(allow: bool) -> None:
    journey = Returning(0.0)
    journey.told()
    call = waiting(journey)
    journey.say({"type": 7, "error": "restart", "allowReconnect": allow})
    with pytest.raises(HubError, match="The server closed the connection with the following error: restart"):
        call.outcome()
    assert journey.told() == ["Reconnecting" if allow else "Closed"]
    assert len(journey.asked) == allow
    assert [journey.client.stopped] == [False]  # its socket still says farewell
    journey.turn()
    assert len(journey.sockets) == 1 + allow
    if allow:
        journey.open()
        assert journey.told() == ["Reconnected"]
    journey.sockets[0].receive_eof(now=0.0)
    assert journey.client.stopped is not allow


def test_a_close_without_an_error_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    journey = Returning(0.0)
    call = waiting(journey)
    journey.say({"type": 7, "allowReconnect": True})
    with pytest.raises(TransportError, match="Invocation canceled due to the underlying connection being closed."):
        call.outcome()
    assert journey.heard[-1] == Reconnecting(None)
    (record,) = caplog.records
    assert record.getMessage() == "no connection to http://h/chat, trying again in 0 s: closed by the server"


def test_a_first_attempt_that_fails_is_not_repeated_and_nothing_was_closed() -> None:
    journey = Returning(0.0, open_now=False)
    journey.answer("", 404)
    assert journey.state() is ClientState.DISCONNECTED
    assert journey.told() == ["Connecting"]
    assert journey.asked == []
    journey.start()
    journey.open()
    assert journey.told() == ["Connecting", "Connected"]


def test_a_later_start_that_is_stopped_closes_nothing_either() -> None:
    journey = Returning(None)
    journey.cut()
    journey.told()
    journey.events = journey.client.events()
    journey.start()
    journey.client.stop(now=0.0)
    assert journey.told() == ["Connecting"]
    assert "was stopped before it was made" in journey.refused()


def test_an_attempt_to_come_back_has_its_time_too() -> None:
    journey = Returning(0.0, 1.0, connect_timeout=7.0)
    journey.cut()
    journey.turn()
    journey.turn(7.0)
    assert journey.sockets[1].finished
    assert isinstance(journey.asked[1].reason, ConnectTimeout)
    journey.turn(1.0)
    journey.open()
    assert journey.state() is ClientState.CONNECTED


def test_the_token_is_asked_for_again_by_each_attempt() -> None:
    tokens = iter("abc")
    journey = Returning(0.0, 0.0, access_token=lambda: next(tokens), open_now=False)
    journey.turn()
    journey.open()
    for token in "bc":
        journey.cut()
        journey.turn()
        journey.turn()
        assert journey.request()[2]["authorization"] == f"Bearer {token}"


# --- stopping in each state ------------------------------------------------------------------------------------------


def test_stopping_while_it_waits_for_the_next_attempt() -> None:
    journey = Returning(5.0)
    journey.cut()
    journey.client.stop(now=0.0)
    assert journey.client.stopped
    assert journey.client.next_timeout() is None
    assert journey.heard[-1] == Reconnecting(journey.asked[0].reason)
    assert journey.told() == ["Connecting", "Connected", "Reconnecting", "Closed"]
    journey.turn(10.0)
    assert len(journey.sockets) == 1
    with pytest.raises(ConnectionFailed, match="the connection to http://h/chat is closed"):
        journey.client.connected()


def test_stopping_during_an_attempt_to_come_back() -> None:
    journey = Returning(0.0)
    journey.cut()
    journey.turn()
    journey.client.stop(now=0.0)
    assert journey.client.stopped
    assert journey.socket.finished
    assert journey.told() == ["Connecting", "Connected", "Reconnecting", "Closed"]


def test_stopping_in_a_callback() -> None:
    journey = Returning(0.0)
    journey.client.on_event(Reconnecting, lambda error: journey.client.stop(now=0.0))
    journey.cut()
    journey.turn()
    assert journey.client.stopped
    assert len(journey.sockets) == 1


def test_a_connection_that_is_stopped_is_gone_with_its_socket() -> None:
    journey = Returning()
    journey.client.stop(now=0.0)
    assert journey.state() is ClientState.DISCONNECTING
    with pytest.raises(NotConnected, match="it is disconnecting"):
        journey.client.connected()
    assert journey.told() == ["Connecting", "Connected"]
    journey.client.stop(now=0.0)
    journey.hear()
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.over()
    assert journey.state() is ClientState.DISCONNECTED
    assert journey.heard == [Closed(None)]
    journey.told()
    journey.start()
    journey.open()
    assert [type(event) for event in journey.heard] == [Connecting, Connected]


def test_stopping_does_not_wait_for_the_farewell_of_an_earlier_connection() -> None:
    journey = Returning(0.0)
    journey.say({"type": 7, "allowReconnect": True})
    journey.turn()
    journey.client.stop(now=0.0)
    assert journey.sockets[0].finished
    assert journey.client.stopped


def test_leaving_is_for_ever() -> None:
    journey = Returning()
    journey.client.leave(now=0.0)
    assert journey.client.next_timeout() == 5.0
    journey.hear()
    journey.over()
    assert journey.client.finished
    assert journey.told() == ["Connecting", "Connected", "Closed"]
    with pytest.raises(LocalProtocolError, match="was left, and cannot start again"):
        journey.client.start(now=0.0)


def test_leaving_ends_the_events_of_a_client_that_was_never_connected() -> None:
    journey = Journey(start=False)
    events = journey.client.events()
    journey.client.leave(now=0.0)
    assert journey.client.finished
    assert journey.woken(journey.client)
    with pytest.raises(EndOfStream):
        events.receive_nowait()


def test_leaving_waits_for_callbacks_but_not_for_ever() -> None:
    async def slowly(error: Exception | None) -> None:
        raise AssertionError("the test ends it")

    journey = Returning()
    journey.client.on_event(Closed, slowly)
    journey.client.leave(now=0.0)
    journey.hear()
    journey.over()
    assert journey.client.stopped
    assert not journey.client.finished
    journey.turn(5.0)
    journey.shell.cancel_asked()
    assert journey.client.finished


@pytest.mark.parametrize("stage", ["connecting", "connected", "waiting", "returning"])
def test_a_client_can_be_dropped_at_any_time(stage: str) -> None:
    journey = Returning(1.0, open_now=stage != "connecting")
    if stage in ("waiting", "returning"):
        journey.cut()
    if stage == "returning":
        journey.turn(1.0)
    calls = [waiting(journey)] if stage == "connected" else []
    journey.client.abandon(now=0.0)
    assert journey.client.stopped
    assert journey.socket.finished or stage == "waiting"
    assert all(call.done for call in calls)
    assert stage == "waiting" or journey.socket.data_to_send(now=0.0) == b""
    assert ("Closed" in journey.told()) is (stage != "connecting")
    journey.client.abandon(now=0.0)


# --- the table -------------------------------------------------------------------------------------------------------

# For every step: what comes before it, and what makes it.
Deed = Callable[[Returning], object]


def nothing(journey: Returning) -> None:
    pass


def opens(journey: Returning) -> None:
    journey.open()


def is_cut(journey: Returning) -> None:
    journey.cut()


def opens_and_is_cut(journey: Returning) -> None:
    journey.open()
    journey.cut()


def comes_back(journey: Returning) -> None:
    journey.turn()
    journey.open()


def fails_to_come_back(journey: Returning) -> None:
    journey.turn()
    journey.answer("", 503)


def is_closed(journey: Returning) -> None:
    journey.say({"type": 7})


def starts(journey: Returning) -> None:
    journey.start()


def stops(journey: Returning) -> None:
    journey.client.stop(now=journey.now)


def opens_and_stops(journey: Returning) -> None:
    journey.open()
    stops(journey)


def gives_up(journey: Returning) -> None:
    journey.delays[:] = [None]
    fails_to_come_back(journey)


STEPS: dict[tuple[ClientState, ClientCause], tuple[Deed, Deed, ClientState]] = {
    (ClientState.DISCONNECTED, ClientCause.START): (is_cut, starts, ClientState.CONNECTING),
    (ClientState.CONNECTING, ClientCause.MADE): (nothing, opens, ClientState.CONNECTED),
    (ClientState.CONNECTING, ClientCause.FAILED): (nothing, is_cut, ClientState.DISCONNECTED),
    (ClientState.CONNECTING, ClientCause.STOP): (nothing, stops, ClientState.DISCONNECTED),
    (ClientState.CONNECTED, ClientCause.LOST): (opens, is_cut, ClientState.RECONNECTING),
    (ClientState.CONNECTED, ClientCause.ENDED): (opens, is_closed, ClientState.DISCONNECTED),
    (ClientState.CONNECTED, ClientCause.STOP): (opens, stops, ClientState.DISCONNECTING),
    (ClientState.RECONNECTING, ClientCause.MADE): (opens_and_is_cut, comes_back, ClientState.CONNECTED),
    (ClientState.RECONNECTING, ClientCause.FAILED): (opens_and_is_cut, fails_to_come_back, ClientState.RECONNECTING),
    (ClientState.RECONNECTING, ClientCause.GIVEN_UP): (opens_and_is_cut, gives_up, ClientState.DISCONNECTED),
    (ClientState.RECONNECTING, ClientCause.STOP): (opens_and_is_cut, stops, ClientState.DISCONNECTED),
    (ClientState.DISCONNECTING, ClientCause.GONE): (opens_and_stops, is_cut, ClientState.DISCONNECTED),
}


def test_every_step_of_a_client_is_tried() -> None:
    assert set(STEPS) == {(state, cause) for state, steps in CLIENT.items() for cause in steps}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[0]}: {step[1]}")
def test_a_client_takes_every_step(step: tuple[ClientState, ClientCause]) -> None:
    before, deed, after = STEPS[step]
    journey = Returning(0.0, 0.0, open_now=False)
    before(journey)
    assert journey.state() is step[0]
    deed(journey)
    assert journey.state() is after
    reached = CLIENT[step[0]][step[1]]
    assert reached is after or CLIENT[reached] == {ClientCause.GONE: after}


def test_a_step_that_is_not_in_the_table_cannot_be_taken() -> None:
    assert set(CLIENT) == set(ClientState)
    for state, steps in CLIENT.items():
        for cause in set(ClientCause) - set(steps):
            client = Journey(start=False).client
            client._state = state
            with pytest.raises(KeyError):
                client._step(cause)


class Life(RuleBasedStateMachine):
    """Whatever happens, in whatever order, a client is in a state that its table can have reached."""

    def __init__(self) -> None:
        super().__init__()
        self.journey = Returning(*[0.0, 1.0, None] * 50, open_now=False)

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 30.0]))
    def turn(self, seconds: float) -> None:
        self.journey.turn(seconds)

    @precondition(lambda self: self.is_opening())
    @rule()
    def open(self) -> None:
        self.journey.open()

    @precondition(lambda self: self.is_opening())
    @rule(status=st.sampled_from([404, 503]))
    def refuse(self, status: int) -> None:
        self.journey.answer("", status)

    @precondition(lambda self: self.journey.state() is ClientState.CONNECTED)
    @rule(how=st.sampled_from(["cut", "for now", "for good"]))
    def lose(self, how: str) -> None:
        if how == "cut":
            self.journey.cut()
        else:
            self.journey.say({"type": 7, "allowReconnect": how == "for now"})

    @rule(sharply=st.booleans())
    def stop(self, sharply: bool) -> None:
        client = self.journey.client
        (client.abandon if sharply else client.stop)(now=self.journey.now)

    @rule()
    def lose_sockets(self) -> None:
        for socket in self.journey.sockets:
            if socket.finished:
                socket.receive_eof(now=self.journey.now)

    @precondition(lambda self: self.journey.state() is ClientState.DISCONNECTED)
    @rule()
    def start(self) -> None:
        self.journey.events = self.journey.client.events()
        self.journey.heard.clear()
        self.journey.start()

    def is_opening(self) -> bool:
        attempt = self.journey.client._attempt
        return attempt is not None and attempt.progress is Progress.CONNECTING and attempt.session is None

    @invariant()
    def everybody_hears_the_same(self) -> None:
        self.journey.told()

    @invariant()
    def calls_are_legal_when_it_is_connected(self) -> None:
        client = self.journey.client
        if client.state is ClientState.CONNECTED:
            assert client.connected() is client.started()
        else:
            with pytest.raises(TransportError):
                client.connected()

    @invariant()
    def what_is_not_stopped_has_a_socket_or_a_deadline(self) -> None:
        client = self.journey.client
        open_sockets = [socket for socket in self.journey.sockets if not socket.finished]
        assert client.stopped or open_sockets or client.next_timeout() is not None
        assert len(client._attempts) <= len(open_sockets) + 1


def test_a_client_lives() -> None:
    run_state_machine_as_test(Life, settings=settings(deadline=None, max_examples=100, stateful_step_count=30))
