"""The context of a hub method."""

from typing import Any

import pytest

from hubproto_core import Call, ConnectionInfo, Hub, HubSession, JsonCodec, LocalProtocolError, RunningCall, Transport
from tests.kit.shell import HubPeer, Shell


def test_a_call_knows_where_it_comes_from() -> None:
    info = ConnectionInfo(headers={"x-a": "1"}, query={"id": "2"}, query_string="id=2", transport=Transport.WEB_SOCKETS)
    session = HubSession(
        Hub(), [JsonCodec()], connection_id="c1", effects=Shell().effects, info=info, user="ann", now=0.0
    )
    running = RunningCall(session, print, (), invocation_id="1", label="Print")
    call = Call(session, running)
    assert (call.connection_id, call.user, call.connection) == ("c1", "ann", info)
    call.items["seen"] = 1
    assert Call(session, running).items == {"seen": 1}
    assert call.groups is session.groups
    call.abort()
    session.data_to_send(now=0.0)
    assert session.closed is not None


def test_what_is_not_known_about_a_connection_is_empty() -> None:
    info = ConnectionInfo()
    assert (info.headers, info.query, info.query_string, info.transport) == ({}, {}, "", Transport.WEB_SOCKETS)


class Keeper:
    """A client of a hub that keeps the contexts of its calls."""

    def __init__(self) -> None:
        hub = Hub()
        self.calls: list[Call] = []
        self.ended_in: list[bool] = []
        self.waits: list[str] = []
        hub.method("Keep")(self.keep)
        hub.method("Wait")(self.wait)
        hub.on_disconnected(self.on_disconnected)
        self.peer = HubPeer(hub)

    def keep(self, call: Call) -> None:
        self.calls.append(call)

    async def wait(self, call: Call) -> None:
        await call.wait_disconnected()
        self.waits.append(call.connection_id)

    def on_disconnected(self, call: Call) -> None:
        self.ended_in.append(call.is_disconnected)

    def kept(self, **more: Any) -> Call:
        self.peer.say({"type": 1, "target": "Keep", "arguments": [], **more})
        return self.calls[-1]


def test_the_headers_of_the_message_are_there() -> None:
    keeper = Keeper()
    assert keeper.kept(headers={"traceparent": "00-1-2-01"}).headers == {"traceparent": "00-1-2-01"}
    assert keeper.kept().headers == {}
    with pytest.raises(TypeError):
        keeper.kept().headers["a"] = "b"  # type: ignore[index]  # that is what is tested


def test_the_hub_is_seen_from_inside_a_call() -> None:
    call = Keeper().kept()
    call.groups.add("red")
    assert call.hub.members("red") == call.hub.connections == ["c1"]


def test_a_call_that_has_ended_still_knows_whether_its_client_is_there() -> None:
    keeper = Keeper()
    call = keeper.kept()
    known = [call.is_disconnected]
    keeper.peer.say({"type": 7})
    assert [*known, call.is_disconnected] == [False, True]
    assert keeper.ended_in == [True]


def test_abort_counts_as_an_end_at_once() -> None:
    keeper = Keeper()
    call = keeper.kept()
    call.abort()
    assert call.is_disconnected
    assert keeper.ended_in == []


def test_the_end_is_waited_for() -> None:
    keeper = Keeper()
    keeper.peer.say({"type": 1, "target": "Wait", "arguments": []})
    call = keeper.peer.shell.find("Wait")
    keeper.peer.shell.step(call)
    keeper.peer.shell.step(call)
    assert keeper.waits == []
    departure = keeper.peer.session._departure
    assert not keeper.peer.shell.was_woken(departure)
    keeper.peer.say({"type": 7})
    assert keeper.peer.shell.was_woken(departure)
    keeper.peer.shell.step(call)
    assert keeper.waits == ["c1"]
    assert keeper.peer.session._departure is departure


def test_an_end_that_has_come_already_is_not_waited_for() -> None:
    keeper = Keeper()
    call = keeper.kept()
    keeper.peer.say({"type": 7})
    for _ in range(2):
        with pytest.raises(StopIteration):
            call.wait_disconnected().send(None)


def test_several_wait_for_one_end() -> None:
    keeper = Keeper()
    call = keeper.kept()
    waits = [call.wait_disconnected() for _ in range(3)]
    for wait in waits:
        wait.send(None)
    waits.pop().close()
    keeper.peer.say({"type": 7})
    for wait in waits:
        with pytest.raises(StopIteration):
            wait.send(None)


def test_without_a_server_nothing_can_be_waited_for() -> None:
    session = HubSession(Hub(), [JsonCodec()], connection_id="c1", effects=Shell().effects, now=0.0)
    with pytest.raises(LocalProtocolError, match="no server runs here that could wait"):
        session.wait_over().close()
