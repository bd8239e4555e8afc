"""A client that is behind gets the latest of what only the latest counts of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Clients, Hub, HubConfig, LocalProtocolError, RunningCall, TransportError
from tests.kit.shell import HubPeer
from tests.kit.wire import unpack

LONG = "x" * 100  # a message with this is more than `send_buffer`


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Prices", coalesce=True)
    async def prices() -> AsyncIterator[float]:
        yield 1.0

    @hub.method("All")
    async def everything() -> AsyncIterator[float]:
        yield 1.0

    return hub


class Trader:
    """A client that is behind as soon as it has been sent `LONG`."""

    def __init__(self, *, stateful: bool = False, **settings: Any) -> None:
        config = HubConfig(**{"send_buffer": 100, **settings})
        self.peer = HubPeer(make_hub(), config, stateful=stateful)
        self.session = self.peer.session
        self.clients = Clients(self.session._registry)

    def price(self, key: object, value: Any) -> None:
        self.clients.all.coalesce(key).send("price", key, value)

    def news(self, text: str = LONG) -> None:
        self.clients.all.send("news", text)

    def stream(self, target: str = "Prices", id: str = "1") -> RunningCall:  # noqa: A002
        self.peer.say({"type": 4, "invocationId": id, "target": target, "arguments": []})
        return self.peer.shell.running[-1]

    def hear(self) -> list[Any]:
        """What arrives, in short."""
        return [
            message.get("arguments") or message.get("item") or message.get("error") or message["type"]
            for message in self.peer.hear()
        ]


def test_a_client_that_is_not_behind_gets_everything() -> None:
    trader = Trader()
    for value in (1, 2, 3):
        trader.price("EUR", value)
        assert trader.hear() == [["EUR", value]]


def test_a_client_that_is_behind_gets_the_latest_of_each_key() -> None:
    trader = Trader()
    trader.news()
    for value in (1, 2, 3):
        trader.price("EUR", value)
        trader.price("USD", value * 10)
    assert trader.hear() == [[LONG], ["EUR", 3], ["USD", 30]]
    trader.price("EUR", 4)
    assert trader.hear() == [["EUR", 4]]


def test_keys_come_in_the_order_in_which_they_began_to_wait_and_behind_what_is_not_coalesced() -> None:
    trader = Trader()
    trader.news()
    for key in ("b", "a", "c", "a", "b"):
        trader.price(key, 0)
    trader.news("later")
    assert trader.hear() == [[LONG], ["later"], ["b", 0], ["a", 0], ["c", 0]]


def test_what_still_waits_may_be_replaced_after_some_has_left() -> None:
    trader = Trader(send_buffer=200)
    for text in ("1", "2"):
        trader.news(LONG + text)
    for key in "abcdefgh":
        trader.price(key, LONG)
    first = unpack(trader.session.data_to_send(now=0.0))
    assert [message["arguments"][0][0] for message in first] == ["x", "x", "a", "b"]
    for key in "bcd":
        trader.price(key, "new")
    assert trader.hear() == [["c", "new"], ["d", "new"], *([key, LONG] for key in "efgh"), ["b", "new"]]


def test_the_carrier_is_woken_for_what_waits() -> None:
    trader = Trader()
    trader.news()
    trader.hear()
    trader.peer.shell.woken.clear()
    trader.news()
    trader.session.data_to_send(now=0.0)
    trader.news()
    for key in "abcdefgh":
        trader.price(key, LONG)
    trader.peer.shell.run()
    for _ in range(8):
        trader.peer.shell.woken.clear()
        assert trader.session.data_to_send(now=0.0) != b""
        trader.peer.shell.run()
        if trader.session.unsent:
            assert trader.session in trader.peer.shell.woken
    assert trader.session.data_to_send(now=0.0) == b""
    assert trader.session._latest is None


def test_what_waits_counts_for_the_limit_with_each_key(caplog: pytest.LogCaptureFixture) -> None:
    trader = Trader(send_limit=3000)
    trader.news()
    for value in range(1000):
        trader.price("EUR", value)
    assert caplog.messages == []
    for key in range(10):
        trader.price(key, 0)
    assert trader.hear() == [7]
    assert caplog.messages == ["connection c1 is given up: it leaves more than 3000 bytes unread"]
    trader.price("EUR", 1)
    assert trader.hear() == []


def test_an_orderly_close_sends_what_waits() -> None:
    trader = Trader()
    trader.news()
    trader.price("EUR", 1)
    trader.session.shut_down(now=0.0)
    assert trader.hear() == [[LONG], ["EUR", 1], 7]


def test_nothing_waits_for_a_client_that_is_gone() -> None:
    trader = Trader()
    trader.news()
    trader.price("EUR", 1)
    trader.session.receive_eof(TransportError("cut"), now=0.0)
    assert trader.session.closed is not None
    assert trader.hear() == [[LONG], "Connection closed with an error."]
    assert trader.session.unsent == 0


def test_it_waits_for_acks_too() -> None:
    trader = Trader(stateful=True, replay_buffer=50)
    for _ in range(3):
        trader.news()
    for value in (1, 2, 3):
        trader.price("EUR", value)
    assert trader.hear() == [[LONG]]
    trader.price("EUR", 4)
    trader.peer.say({"type": 8, "sequenceId": 1})
    assert trader.hear() == [[LONG]]
    trader.peer.say({"type": 8, "sequenceId": 2})
    assert trader.hear() == [[LONG]]
    trader.peer.say({"type": 8, "sequenceId": 3})
    assert trader.hear() == [["EUR", 4]]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_of_which_the_latest_counts_is_not_paused() -> None:
    trader = Trader()
    prices = trader.stream()
    assert trader.session.send_item(prices, 1.0)
    assert not trader.session.must_wait(prices)
    trader.news()
    for value in (2.0, 3.0, 4.0):
        assert trader.session.send_item(prices, value)
    assert trader.hear() == [1.0, [LONG], 4.0]
    assert trader.session.send_item(prices, 5.0)
    assert trader.hear() == [5.0]


def test_it_gives_others_their_turn_while_the_client_is_behind() -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    trader.session.send_item(prices, 2.0)
    trader.peer.shell.run()
    trader.peer.shell.woken.clear()
    assert trader.session.must_wait(prices)
    assert trader.peer.shell.was_woken(trader.session)
    assert not trader.session.must_wait(prices)
    assert not trader.peer.shell.was_woken(trader.session)


def test_an_item_does_not_overtake_the_one_that_waits() -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    for key in "ab":
        trader.price(key, LONG)
    trader.session.send_item(prices, 1.0)
    assert len(unpack(trader.session.data_to_send(now=0.0))) == 2
    assert trader.session.writable
    trader.session.send_item(prices, 2.0)
    assert trader.hear() == [["b", LONG], 2.0]


def test_another_stream_of_the_same_client_waits() -> None:
    trader = Trader()
    prices, everything = trader.stream(), trader.stream("All", id="2")
    trader.news()
    for value in (1.0, 2.0):
        trader.session.send_item(prices, value)
        trader.session.send_item(everything, value)
    assert trader.session.must_wait(everything)
    assert trader.hear() == [[LONG], 1.0, 2.0, 2.0]
    assert not trader.session.must_wait(everything)


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
def test_the_last_item_comes_before_the_end(end: str) -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    trader.price("EUR", 1)
    for value in (2.0, 3.0):
        trader.session.send_item(prices, value)
    if end == "fail":
        trader.peer.shell.fail(prices, ValueError("no"))
    else:
        getattr(trader.peer.shell, end)(prices)
    told = "An unexpected error occurred invoking 'Prices' on the server." if end == "fail" else 3
    assert trader.hear() == [[LONG], 3.0, told, ["EUR", 1]]
    assert not trader.session.send_item(prices, 4.0)


def test_a_stream_that_ends_after_its_last_item_has_left_just_ends() -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    trader.price("EUR", 1)
    trader.peer.shell.finish(prices)
    assert trader.hear() == [[LONG], 3, ["EUR", 1]]


def test_a_stream_that_outlives_its_connection_keeps_nothing() -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    trader.session.send_item(prices, 1.0)
    trader.session._conn.close()
    trader.peer.shell.cancel(prices)
    assert trader.hear() == [[LONG], 7]
    assert trader.session.finished


def test_an_item_that_cannot_be_written_is_an_error_at_once() -> None:
    trader = Trader()
    prices = trader.stream()
    trader.news()
    with pytest.raises(LocalProtocolError):
        trader.session.send_item(prices, object())


def test_only_streams_can_be_coalesced() -> None:
    hub = Hub()
    with pytest.raises(TypeError, match="'Add': only the items of a stream can be coalesced"):
        hub.method("Add", coalesce=True)(lambda a, b: a + b)
