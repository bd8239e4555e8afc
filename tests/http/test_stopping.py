"""A stop in every state, at every stage, over every transport, with a server that says nothing any more: a table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hubproto_core import (
    ClientState,
    ConnectionFailed,
    HubConfig,
    ReconnectPolicy,
    Transport,
    TransportError,
)
from hubproto_core.http._websocket import accept_token
from tests.http._journey import OFFER, Journey, Opened, switching
from tests.http.test_client_carrier import Events, Polling, Trip

CLOSE_TIMEOUT = 3.0
CONFIG = HubConfig(close_timeout=CLOSE_TIMEOUT)
POLICY = ReconnectPolicy(delays=[1.0], max_attempts=1000, growth=1)
SSE, LP = Transport.SERVER_SENT_EVENTS, Transport.LONG_POLLING


def authorizing() -> Journey:
    """The token provider has not answered."""

    async def slow() -> str:
        raise AssertionError("nobody runs it")

    return Journey(config=CONFIG, reconnect=POLICY, access_token=slow)


def opening() -> Journey:
    """The socket of the negotiation is not open yet."""
    return Journey(config=CONFIG, reconnect=POLICY)


def negotiating() -> Journey:
    journey = opening()
    journey.request()
    return journey


def upgrading() -> Journey:
    journey = negotiating()
    journey.answer(OFFER)
    journey.request()
    return journey


def shaking_hands() -> Journey:
    """The WebSocket is open, and the handshake sent."""
    return Opened(config=CONFIG, reconnect=POLICY, handshake=False)


def asking_for_events() -> Journey:
    trip = Trip(SSE, config=CONFIG, reconnect=POLICY)
    assert trip.get.request() == ("GET", "text/event-stream", b"")
    return trip


def shaking_hands_over_events() -> Journey:
    return Events(config=CONFIG, reconnect=POLICY, handshake=False)


def asking_for_the_first_poll() -> Journey:
    trip = Trip(LP, config=CONFIG, reconnect=POLICY)
    assert trip.get.request() == ("GET", "", b"")
    return trip


def shaking_hands_over_polls() -> Journey:
    trip = asking_for_the_first_poll()
    assert isinstance(trip, Trip)
    trip.get.answer()
    trip.get.request()
    trip.wire().request()
    return trip


def connected() -> Journey:
    journey = negotiating()
    journey.answer(OFFER)
    journey.open()
    return journey


def connected_by_events() -> Journey:
    return Events(config=CONFIG, reconnect=POLICY)


def connected_by_polls() -> Journey:
    return Polling(config=CONFIG, reconnect=POLICY)


def lost(begin: Callable[[], Journey]) -> Callable[[], Journey]:
    """A connection that was made this way breaks; the next attempt has not begun."""

    def stage() -> Journey:
        journey = begin()
        for socket in [socket for socket in journey.sockets if not socket.finished]:
            socket.receive_eof(TransportError("reset"), now=journey.now)
        journey.turn()
        assert journey.client.state is ClientState.RECONNECTING
        return journey

    return stage


def trying_again(
    begin: Callable[[], Journey], *, answered: bool = False, upgraded: bool = False
) -> Callable[[], Journey]:
    """A connection that was made this way breaks; the next attempt has come so far."""

    def stage() -> Journey:
        journey = lost(begin)()
        journey.turn(1.0)
        if answered or upgraded:
            journey.request()
            journey.answer(OFFER)
        if upgraded:
            _, _, headers = journey.request()
            journey.receive(switching(accept_token(headers["sec-websocket-key"])))
        assert journey.client.state is ClientState.RECONNECTING
        return journey

    return stage


def disconnecting(begin: Callable[[], Journey]) -> Callable[[], Journey]:
    """A stop is on its way."""

    def stage() -> Journey:
        journey = begin()
        journey.client.stop(now=journey.now)
        journey.run()
        assert journey.client.state is ClientState.DISCONNECTING
        return journey

    return stage


STAGES: dict[str, Callable[[], Journey]] = {
    "connecting: the token": authorizing,
    "connecting: the socket": opening,
    "connecting: the negotiation": negotiating,
    "connecting: the upgrade": upgrading,
    "connecting: the handshake": shaking_hands,
    "connecting: the events": asking_for_events,
    "connecting: the handshake over events": shaking_hands_over_events,
    "connecting: the first poll": asking_for_the_first_poll,
    "connecting: the handshake over polls": shaking_hands_over_polls,
    "connected": connected,
    "connected by events": connected_by_events,
    "connected by polls": connected_by_polls,
    "reconnecting: waiting": lost(connected),
    "reconnecting: waiting, by events": lost(connected_by_events),
    "reconnecting: waiting, by polls": lost(connected_by_polls),
    "reconnecting: the negotiation": trying_again(connected),
    "reconnecting: the upgrade": trying_again(connected, answered=True),
    "reconnecting: the handshake": trying_again(connected, upgraded=True),
    "disconnecting": disconnecting(connected),
    "disconnecting by events": disconnecting(connected_by_events),
    "disconnecting by polls": disconnecting(connected_by_polls),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_stop_ends_within_the_close_timeout(stage: Callable[[], Journey]) -> None:
    """Nothing comes from the server any more; the shell only tells of time, and of sockets that it has closed."""
    journey = stage()
    client, begun, count = journey.client, journey.now, len(journey.sockets)
    was = client.state
    client.stop(now=begun)
    journey.run()
    gone: list[object] = []
    while not client.stopped:
        for socket in journey.sockets:
            socket.data_to_send(now=journey.now)
            if socket.finished and socket not in gone:
                gone.append(socket)
                socket.receive_eof(now=journey.now)
        journey.run()
        deadlines = [client.next_timeout(), *(socket.next_timeout() for socket in journey.sockets)]
        if not client.stopped:
            journey.now = max(journey.now, min(deadline for deadline in deadlines if deadline is not None))
            assert journey.now <= begun + CLOSE_TIMEOUT
            for socket in journey.sockets:
                socket.handle_timeout(now=journey.now)
            journey.turn()
    assert client.state is ClientState.DISCONNECTED
    with pytest.raises(
        ConnectionFailed, match="was stopped before it was made" if was == "connecting" else "is closed"
    ):
        client.started()
    assert all(socket.finished for socket in journey.sockets)
    assert len(journey.sockets) <= count + 1  # a farewell may need another
    journey.shell.cancel_asked()
    assert journey.shell.running == []
    count = len(journey.sockets)
    journey.turn(1000.0)
    assert len(journey.sockets) == count
    assert client.next_timeout() is None


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_client_that_was_stopped_can_start_again(stage: Callable[[], Journey]) -> None:
    journey = stage()
    journey.client.abandon(now=journey.now)
    assert journey.client.stopped
    journey.client.start(now=journey.now)
    journey.run()
    assert journey.client.state is ClientState.CONNECTING
