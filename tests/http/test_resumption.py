"""A client whose WebSocket breaks goes on over another one, on bytes (SPEC 4.7)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from wsproto.events import CloseConnection

from hubproto_core import (
    ClientState,
    Closed,
    EndOfStream,
    HubConfig,
    OutgoingCall,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    ServerGone,
    Transport,
    TransportError,
)
from hubproto_core.http import Obstacle
from tests.http._journey import OFFER, Journey
from tests.kit.wire import pack

STATEFUL_OFFER = {**OFFER, "useStatefulReconnect": True}
CUT = TransportError("cut")
PING = {"type": 6}


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


def invocation(call_id: str) -> dict[str, Any]:
    return {"type": 1, "invocationId": call_id, "target": "Add", "arguments": [1, 2]}


class Lasting(Journey):
    """A client whose session may go on over another WebSocket."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"stateful": True, **options})
        self.turn()
        self.answer(STATEFUL_OFFER)
        self.sockets[0].receive_eof(now=0.0)
        self.open()
        self.events = self.client.events()

    def call(self) -> OutgoingCall:
        return self.client.connected().invoke("Add", [1, 2])

    def cut(self, seconds: float = 0.0) -> None:
        """After some time the socket opened last breaks."""
        self.now += seconds
        self.socket.receive_eof(CUT, now=self.now)
        self.run()

    def refuse(self) -> None:
        """Nobody listens any more."""
        self.socket.open_failed(OSError("refused"), Obstacle.REFUSED, now=self.now)
        self.run()

    def go_on(self) -> list[Any]:
        """Accept the socket opened last as a WebSocket; return what is said there at once."""
        self.open(handshake=False)
        return self.hear()[0]

    def tries(self, seconds: float) -> list[float]:
        """When a socket is opened in so many seconds, if all are refused."""
        begun, times = self.now, []
        while (deadline := self.client.next_timeout()) is not None and deadline <= begun + seconds:
            count = len(self.sockets)
            self.turn(deadline - self.now)
            if len(self.sockets) > count:
                times.append(self.now - begun)
                self.refuse()
        return times

    def happened(self) -> list[Any]:
        """What became of the connection, for those who want to hear of it."""
        happened = []
        while self.events:
            happened.append(self.events.receive_nowait())
        return happened


def test_a_client_asks_for_it() -> None:
    assert Journey(stateful=True).request()[1] == "/chat/negotiate?negotiateVersion=1&useStatefulReconnect=true"
    assert Journey().request()[1] == "/chat/negotiate?negotiateVersion=1"


@pytest.mark.parametrize(("asked", "granted"), [(True, True), (True, False), (False, True)])
def test_it_is_agreed_on_if_both_want_it(asked: bool, granted: bool) -> None:
    journey = Journey(stateful=asked)
    journey.answer(STATEFUL_OFFER if granted else OFFER)
    journey.open(handshake=False)
    version = 2 if asked and granted else 1
    assert journey.hear() == ([{"protocol": "json", "version": version}], [])
    journey.say_text("{}\x1e")
    journey.hear()
    journey.socket.receive_eof(CUT, now=0.0)
    journey.turn()
    assert len(journey.sockets) == (3 if asked and granted else 2)
    assert journey.client.stopped is not (asked and granted)


def test_other_transports_are_not_stateful() -> None:
    journey = Journey(stateful=True, transports=[Transport.LONG_POLLING])
    journey.answer(STATEFUL_OFFER)
    journey.request()
    journey.answer("")  # the first poll
    assert journey.socket.data_to_send(now=0.0).endswith(b'{"protocol":"json","version":1}\x1e')


def test_it_needs_the_negotiation() -> None:
    with pytest.raises(ValueError, match="stateful reconnect is agreed on in the negotiation"):
        Journey(stateful=True, skip_negotiation=True)


def test_another_websocket_is_opened_to_the_same_connection() -> None:
    journey = Lasting(headers={"x-lab": "y"}, access_token="abc")
    journey.cut()
    assert (journey.client.state, journey.client.connection_id) == (ClientState.CONNECTED, "public")
    journey.turn()
    assert journey.sockets[1].finished
    method, target, headers = journey.request()
    assert (method, target) == ("GET", "/chat?id=secret")
    assert (headers["authorization"], headers["x-lab"]) == ("Bearer abc", "y")


def test_a_stream_goes_on() -> None:
    journey = Lasting()
    stream = journey.client.connected().stream("Count")
    journey.hear()
    journey.say({"type": 2, "invocationId": "1", "item": 0})
    journey.cut()
    journey.turn()
    assert [message["type"] for message in journey.go_on()] == [9, 4]
    journey.say(sequence(1), *({"type": 2, "invocationId": "1", "item": n} for n in (0, 1)))
    journey.say({"type": 3, "invocationId": "1"})
    assert [stream.receive_nowait(), stream.receive_nowait()] == [0, 1]
    with pytest.raises(EndOfStream):
        stream.receive_nowait()


def test_what_is_said_meanwhile_comes_behind_what_has_to_be_said_again() -> None:
    journey = Lasting()
    call = journey.call()
    journey.hear()
    journey.cut()
    late = journey.call()
    journey.turn()
    assert journey.go_on() == [sequence(1), invocation("1"), invocation("2")]
    journey.say(sequence(1), {"type": 3, "invocationId": "1", "result": 3})
    journey.say({"type": 3, "invocationId": "2", "result": 4})
    assert (call.outcome(), late.outcome()) == (3, 4)
    assert journey.happened() == []
    assert journey.client.next_timeout() is None


def test_a_new_token_for_each_websocket() -> None:
    tokens = iter("abcd")
    journey = Lasting(access_token=lambda: next(tokens))
    journey.cut()
    journey.turn()
    journey.turn()
    assert journey.request()[2]["authorization"] == "Bearer b"
    journey.refuse()
    journey.turn(1.0)
    journey.turn()
    assert journey.request()[2]["authorization"] == "Bearer c"


def test_the_token_of_a_redirect_stays() -> None:
    journey = Journey(stateful=True, access_token=lambda: "a")
    journey.turn()
    journey.answer({"url": "http://other/hub", "accessToken": "theirs"})
    journey.answer(STATEFUL_OFFER)
    journey.open()
    journey.socket.receive_eof(CUT, now=0.0)
    journey.turn()
    _, target, headers = journey.request()
    assert (headers["host"], target, headers["authorization"]) == ("other", "/hub?id=secret", "Bearer theirs")


def test_it_is_tried_again_and_again_while_the_server_remembers() -> None:
    journey = Lasting()
    call = journey.call()
    journey.hear()
    journey.cut(1.0)
    times = journey.tries(14.8)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 0.0
    assert gaps == pytest.approx([0.05, 0.1, 0.2, 0.4, *[0.5] * 28])  # this client draws but small numbers
    assert not call.done
    journey.turn(16.0 - journey.now)
    assert journey.client.state is ClientState.DISCONNECTED
    with pytest.raises(ServerGone) as gone:
        call.outcome()
    assert str(gone.value) == (
        "http://h/chat is gone: cut; it could not be reached again within 15 s: cannot connect to http://h/chat "
        "(h port 80): refused; is the server running, and is it the right port?; did the server stop? With "
        "`reconnect=True` the client comes back by itself"
    )
    assert journey.happened() == [Closed(gone.value)]
    assert journey.client.stopped
    assert journey.client.next_timeout() is None


def test_success_gives_a_whole_window_again() -> None:
    journey = Lasting()
    journey.cut()
    journey.tries(10.0)
    journey.turn(2.0)
    assert journey.go_on() == [sequence(1)]
    journey.say(sequence(1))
    journey.cut(100.0)
    assert journey.tries(14.0)[0] == 0.0


def test_a_websocket_over_which_nothing_comes_is_no_success() -> None:
    journey = Lasting()
    journey.cut()
    journey.turn()
    for _ in range(100):
        if journey.client.stopped:
            break
        if not journey.socket.finished:
            assert journey.go_on()[0] == sequence(1)
            journey.cut()
        deadline = journey.client.next_timeout()
        assert deadline is not None
        journey.turn(deadline - journey.now)
    assert journey.client.stopped
    assert journey.now == 15.0
    assert 20 < len(journey.sockets) < 40


def test_silence_is_given_up_early_enough_to_try_again() -> None:
    journey = Lasting()
    journey.cut()
    journey.turn()
    first = journey.socket
    assert journey.client.next_timeout() == 5.0
    journey.turn(5.0)
    assert first.finished
    assert journey.woken(first)
    journey.turn(0.2)
    assert journey.socket is not first
    first.open_failed(OSError("at last"), now=5.2)  # nobody cares any more
    assert not journey.socket.finished
    assert journey.go_on() == [sequence(1)]


def test_a_slow_token_provider_is_given_up_early_enough_to_ask_again() -> None:
    async def slowly() -> str:
        raise AssertionError("the test ends it")

    journey = Journey(stateful=True, access_token=slowly)
    journey.shell.finish(journey.shell.find("access-token provider"), "a")
    journey.turn()
    journey.answer(STATEFUL_OFFER)
    journey.open()
    journey.socket.receive_eof(CUT, now=0.0)
    journey.turn()
    assert journey.client.next_timeout() == 5.0
    journey.turn(5.0)
    assert len(journey.shell.asked_to_cancel) == 1
    journey.shell.cancel_asked()
    journey.turn(0.2)
    journey.shell.finish(journey.shell.find("access-token provider"), "b")
    journey.turn()
    assert journey.request()[2]["authorization"] == "Bearer b"


def test_a_token_provider_that_fails_is_asked_again() -> None:
    tokens = iter(["a", None, "c"])

    def token() -> str:
        given = next(tokens)
        if given is None:
            raise KeyError("the vault is closed")
        return given

    journey = Lasting(access_token=token)
    journey.cut()
    journey.turn()
    journey.turn()
    assert len(journey.sockets) == 2
    journey.turn(0.2)
    journey.turn()
    assert journey.request()[2]["authorization"] == "Bearer c"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_waited_for(status: int) -> None:
    journey = Lasting()
    journey.cut()
    journey.turn()
    journey.answer("later", status)
    journey.turn(0.2)
    assert journey.go_on() == [sequence(1)]


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, "", "it has forgotten the connection (status 404)"),
        (409, "no", "it refuses to resume the connection (status 409, no)"),
        (401, "", "it refuses to resume the connection (status 401)"),
    ],
)
def test_a_refusal_ends_the_connection(status: int, body: str, text: str) -> None:
    journey = Lasting(access_token="a")
    call = journey.call()
    journey.hear()
    journey.cut()
    journey.turn()
    journey.answer(body, status)
    with pytest.raises(ServerGone) as gone:
        call.outcome()
    assert str(gone.value).startswith(f"http://h/chat is gone: cut; {text}; ")
    assert isinstance(gone.value.__cause__, ServerGone)
    journey.socket.receive_eof(now=0.0)
    assert journey.happened() == [Closed(gone.value)]
    assert journey.client.stopped


def test_a_token_that_is_refused_is_asked_for_once_more() -> None:
    tokens = iter("abcd")
    journey = Lasting(access_token=lambda: next(tokens))
    journey.cut()
    journey.turn()
    journey.turn()
    journey.answer("", 401)
    journey.turn()
    assert journey.request()[2]["authorization"] == "Bearer c"
    journey.answer("", 401)
    journey.turn()
    assert journey.client.state is ClientState.DISCONNECTED
    assert next(tokens) == "d"


def test_a_client_that_is_forgotten_comes_back_by_a_new_connection() -> None:
    journey = Lasting(reconnect=ReconnectPolicy(delays=[0.0]))
    call = journey.call()
    journey.hear()
    journey.cut()
    journey.turn()
    journey.answer("", 404)
    assert call.done
    assert journey.client.state is ClientState.RECONNECTING
    journey.turn()
    journey.answer({**STATEFUL_OFFER, "connectionId": "another"})
    journey.open()
    lost, back = journey.happened()
    assert isinstance(lost, Reconnecting)
    assert isinstance(lost.error, ServerGone)
    assert back == Reconnected("another")


def test_a_websocket_that_is_frozen_is_lost_too() -> None:
    journey = Lasting(config=HubConfig(silence_timeout=20.0, keep_alive_interval=1e6))
    call = journey.call()
    journey.hear()
    frozen = journey.socket
    frozen.handle_timeout(now=20.0)
    journey.now = 20.0
    assert frozen.finished
    assert journey.woken(frozen)
    frozen.receive_data(journey.far.send(CloseConnection(1000)), now=20.0)  # too late
    journey.turn()
    assert journey.go_on() == [sequence(1), invocation("1")]
    frozen.receive_eof(CUT, now=20.0)
    journey.say(sequence(1), {"type": 3, "invocationId": "1", "result": 3})
    assert call.outcome() == 3


def test_silence_is_told_if_it_is_the_reason() -> None:
    journey = Lasting(config=HubConfig(silence_timeout=20.0, keep_alive_interval=1e6))
    journey.socket.handle_timeout(now=20.0)
    journey.now = 20.0
    journey.turn()
    journey.answer("", 404)
    (closed,) = journey.happened()
    assert str(closed.error).startswith(
        "http://h/chat is gone: Server timeout (20000.00ms) elapsed without receiving a message from the server.; "
    )


def test_the_window_ends_in_silence() -> None:
    journey = Lasting(config=HubConfig(resume_window=3.0, keep_alive_interval=1e6))
    journey.cut()
    journey.turn(3.0)
    (closed,) = journey.happened()
    assert "cut; it could not be reached again within 3 s; did" in str(closed.error)


def test_a_farewell_in_order_is_none_to_come_back_from() -> None:
    journey = Lasting()
    journey.receive(journey.far.send(CloseConnection(1000)))
    journey.hear()
    assert journey.client.state is ClientState.DISCONNECTED
    journey.turn()
    assert len(journey.sockets) == 2


@pytest.mark.parametrize("verb", ["stop", "leave", "abandon"])
@pytest.mark.parametrize("stage", ["just now", "dialing", "waiting"])
def test_it_can_be_stopped_at_any_time(verb: str, stage: str) -> None:
    journey = Lasting()
    call = journey.call()
    journey.hear()
    journey.cut()
    if stage != "just now":
        journey.turn()
    if stage == "waiting":
        journey.refuse()
    getattr(journey.client, verb)(now=journey.now)
    journey.run()
    assert call.done
    if stage == "dialing":
        assert journey.socket.finished
        assert journey.woken(journey.socket)
        journey.socket.receive_eof(now=0.0)
    assert journey.client.stopped
    count = len(journey.sockets)
    journey.turn(100.0)
    assert len(journey.sockets) == count


def test_stopping_ends_the_question_for_a_token() -> None:
    async def slowly() -> str:
        raise AssertionError("the test ends it")

    journey = Journey(stateful=True, access_token=slowly)
    journey.shell.finish(journey.shell.find("access-token provider"), "a")
    journey.turn()
    journey.answer(STATEFUL_OFFER)
    journey.open()
    journey.socket.receive_eof(CUT, now=0.0)
    journey.turn()
    journey.client.stop(now=0.0)
    journey.run()
    assert len(journey.shell.asked_to_cancel) == 1
    assert journey.client.stopped


def test_what_came_before_the_cut_may_end_the_connection() -> None:
    journey = Lasting(config=HubConfig(stream_buffer=1, stream_buffer_limit=1))
    stream = journey.client.connected().stream("Count")
    journey.hear()
    items = pack(*({"type": 2, "invocationId": "1", "item": n} for n in range(4)))
    journey.say_text(items.decode() + "no\x1e")
    journey.cut()
    journey.turn()
    dialing = journey.socket
    journey.woken(None)
    while stream.receive_nowait() != 3:
        assert journey.woken(journey.client)  # which drives the session meanwhile
        journey.turn()
    journey.turn()
    assert journey.client.state is ClientState.DISCONNECTED
    assert dialing.finished


def test_a_websocket_that_comes_too_late_is_closed() -> None:
    journey = Lasting()
    journey.cut()
    journey.turn()
    journey.client.connected().close()  # which nobody has noticed yet
    assert journey.go_on() == []
    assert journey.client.state is ClientState.DISCONNECTED
