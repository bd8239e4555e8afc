"""Who is connected, and who gets what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hubproto_core import (
    Call,
    CallerClients,
    CallerGroups,
    Clients,
    Hub,
    HubConfig,
    HubContext,
    Invocation,
    LocalProtocolError,
    Registry,
    Selection,
)
from tests.kit.shell import HubPeer, Shell


class Room:
    """Clients of one hub: ann (a1, a2), bob (b1) and nobody in particular (n1)."""

    def __init__(self, config: HubConfig | None = None) -> None:
        self.owner = object()
        self.registry = Registry(self.owner)
        self.shell = Shell()
        hub = Hub(config)
        users = {"a1": "ann", "a2": "ann", "b1": "bob", "n1": None}
        self.peers = {
            name: HubPeer(hub, name=name, user=user, registry=self.registry, shell=self.shell)
            for name, user in users.items()
        }
        self.context = HubContext(self.registry)
        self.clients = self.context.clients

    def heard(self) -> dict[str, list[Any]]:
        """What each of them was sent, without those who were sent nothing."""
        heard = {name: peer.hear() for name, peer in self.peers.items()}
        return {name: messages for name, messages in heard.items() if messages}

    def groups(self, name: str) -> CallerGroups:
        return CallerGroups(self.registry, name)


@pytest.fixture
def room() -> Room:
    room = Room()
    for name in ("a1", "b1"):
        room.groups(name).add("red")
    room.groups("a1").add("Red")
    room.groups("n1").add("blue")
    return room


NEWS = {"type": 1, "target": "news", "arguments": [1, "x"]}


@pytest.mark.parametrize(
    ("select", "names"),
    [
        (lambda clients: clients.all, ["a1", "a2", "b1", "n1"]),
        (lambda clients: clients.all_except("a2", "nobody"), ["a1", "b1", "n1"]),
        (lambda clients: clients.all_except(), ["a1", "a2", "b1", "n1"]),
        (lambda clients: clients.client("b1"), ["b1"]),
        (lambda clients: clients.client("nobody"), []),
        (lambda clients: clients.clients("n1", "a1", "nobody"), ["a1", "n1"]),
        (lambda clients: clients.clients(), []),
        (lambda clients: clients.group("red"), ["a1", "b1"]),
        (lambda clients: clients.group("Red"), ["a1"]),
        (lambda clients: clients.group("RED"), []),
        (lambda clients: clients.groups("red", "Red", "green"), ["a1", "a1", "b1"]),
        (lambda clients: clients.groups("blue", "red"), ["a1", "b1", "n1"]),
        (lambda clients: clients.group_except("red", "b1"), ["a1"]),
        (lambda clients: clients.user("ann"), ["a1", "a2"]),
        (lambda clients: clients.user("Ann"), []),
        (lambda clients: clients.users("bob", "ann", "eve"), ["a1", "a2", "b1"]),
        (lambda clients: CallerClients(clients._registry, "b1").caller, ["b1"]),
        (lambda clients: CallerClients(clients._registry, "b1").others, ["a1", "a2", "n1"]),
        (lambda clients: CallerClients(clients._registry, "b1").others_in_group("red"), ["a1"]),
        (lambda clients: CallerClients(clients._registry, "b1").user("bob"), ["b1"]),
    ],
)
def test_selectors(room: Room, select: Callable[[Clients], Selection], names: list[str]) -> None:
    select(room.clients).send("news", 1, "x")
    assert room.heard() == {name: [NEWS] * names.count(name) for name in names}


def test_a_selection_is_looked_up_at_every_send(room: Room) -> None:
    selection = room.clients.groups("green", "blue")
    room.groups("n1").add("green", "a2")
    room.groups("n1").remove("blue")
    selection.send("news", 1, "x")
    assert room.heard() == {"a2": [NEWS]}


def test_members_may_be_named_by_id(room: Room) -> None:
    room.groups("n1").remove("red", "b1")
    room.groups("n1").add("red", "a2")
    room.groups("n1").add("red", "a2")
    room.clients.group("red").send("news", 1, "x")
    assert room.heard() == {"a1": [NEWS], "a2": [NEWS]}


def test_groups_that_nobody_is_in_are_forgotten(room: Room) -> None:
    room.groups("n1").remove("blue")
    room.groups("n1").remove("blue")
    room.groups("n1").remove("never was")
    room.groups("nobody").add("green")
    room.groups("n1").add("green", "nobody")
    assert sorted(room.registry.groups) == ["Red", "red"]


def test_a_client_that_ends_leaves_everything(room: Room) -> None:
    room.shell.run()
    room.shell.woken.clear()
    for name in ("a1", "b1"):
        room.peers[name].ask({"type": 7})
    assert sorted(room.registry.connections) == ["a2", "n1"]
    assert list(room.registry.groups) == ["blue"]
    assert list(room.registry.users) == ["ann"]
    assert room.shell.woken.count(room.owner) == 2
    room.clients.all.send("news", 1, "x")
    assert room.heard() == {"a2": [NEWS], "n1": [NEWS]}


class NeverWalked(dict[str, Any]):
    """A table that is so large that nobody may go through it."""

    def __iter__(self) -> Any:
        raise AssertionError("somebody walks through all groups")

    keys = items = values = __iter__


def test_leaving_costs_what_the_memberships_of_one_cost(room: Room) -> None:
    room.registry.groups = NeverWalked(room.registry.groups)
    room.registry.users = NeverWalked(room.registry.users)
    room.peers["a1"].ask({"type": 7})
    assert room.registry.groups.get("Red") is None
    assert list(room.registry.groups["red"]) == ["b1"]
    room.registry.remove(room.peers["a1"].session)  # once more: it is gone already
    assert sorted(room.registry.connections) == ["a2", "b1", "n1"]


def test_a_connection_that_has_left_its_groups_ends_like_any_other(room: Room) -> None:
    groups = room.context.groups
    groups.add("green", "a1")
    groups.remove("green", "a1")
    for name in ("red", "Red", "red"):
        groups.remove(name, "a1")
    room.peers["a1"].ask({"type": 7})
    assert sorted(room.registry.groups) == ["blue", "red"]


def test_groups_from_outside_of_any_call(room: Room) -> None:
    groups = room.context.groups
    groups.add("green", "a2")
    groups.add("green", "a2")
    groups.add("green", "nobody")
    groups.add("green", "")
    assert room.context.members("green") == ["a2"]
    groups.remove("green", "n1")
    groups.remove("green", "nobody")
    room.context.clients.groups("green", "red").send("news", 1, "x")
    assert room.heard() == {"a1": [NEWS], "a2": [NEWS], "b1": [NEWS]}
    groups.remove("green", "a2")
    assert room.context.members("green") == []


def test_who_is_there(room: Room) -> None:
    context = room.context
    assert context.connections == ["a1", "a2", "b1", "n1"]
    assert context.users == ["ann", "bob"]
    assert context.connections_of("ann") == ["a1", "a2"]
    assert context.connections_of("eve") == []
    assert context.members("red") == ["a1", "b1"]
    assert context.members("RED") == []
    for name in ("a1", "b1"):
        room.peers[name].ask({"type": 7})
    assert context.connections == ["a2", "n1"]
    assert context.users == ["ann"]
    assert context.connections_of("ann") == ["a2"]
    assert context.members("red") == []
    for kept in (context.connections, context.users, context.connections_of("ann")):
        kept.clear()
    assert (context.connections, context.users, context.connections_of("ann")) == (["a2", "n1"], ["ann"], ["a2"])


def test_nothing_is_sent_to_groups_of_which_one_has_no_name(room: Room) -> None:
    with pytest.raises(LocalProtocolError, match=r"^Cannot send to an empty group name\.$") as caught:
        room.clients.groups("red", "")
    assert caught.value.kind == "InvalidOperationException"
    room.clients.group("").send("news", 1, "x")
    room.clients.groups().send("news", 1, "x")
    assert room.heard() == {}


def test_a_broadcast_is_encoded_once_for_each_encoding_and_shared() -> None:
    hub = Hub()
    encoded: list[bytes] = []
    for codec in hub.codecs:
        note_encodings(codec, encoded)
    registry, shell = Registry(), Shell()
    peers = [HubPeer(hub, name=f"c{n}", registry=registry, shell=shell, handshake=False) for n in range(6)]
    for number, peer in enumerate(peers):
        name = ("json", "messagepack")[number % 2]
        peer.say_bytes(b'{"protocol":"%s","version":1}\x1e' % name.encode())
        peer.take()
    Clients(registry).all.send("news", 1, "x")
    assert len(encoded) == 2
    for peer in peers:
        (held,) = peer.session._conn._output
        assert any(held is one for one in encoded)
        assert peer.take() == held


def note_encodings(codec: Any, encoded: list[bytes]) -> None:
    encode = type(codec).encode

    class Noting(type(codec)):  # type: ignore[misc]
        __slots__ = ()

        def encode(self, message: Any) -> bytes:
            data: bytes = encode(self, message)
            if isinstance(message, Invocation):
                encoded.append(data)
            return data

    codec.__class__ = Noting


def test_a_client_that_is_closing_gets_nothing(room: Room) -> None:
    room.peers["a1"].session.abort()
    room.clients.user("ann").send("news", 1, "x")
    assert room.heard() == {"a1": [{"type": 7}], "a2": [NEWS]}


def test_the_carrier_is_woken_once_for_many_messages(room: Room) -> None:
    session = room.peers["b1"].session
    room.shell.run()
    room.shell.woken.clear()
    for _ in range(5):
        room.clients.client("b1").send("news", 1, "x")
    room.shell.run()
    assert room.shell.woken == [session]
    assert room.heard() == {"b1": [NEWS] * 5}


def test_an_argument_that_cannot_be_written_reaches_nobody(room: Room) -> None:
    with pytest.raises(LocalProtocolError):
        room.clients.all.send("news", object())
    assert room.heard() == {}


def test_a_client_that_does_not_read_is_given_up_and_others_do_not_notice(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(HubConfig(send_limit=1000))
    slow, quick = room.peers["a1"], room.peers["b1"]
    text = "x" * 100
    for _ in range(20):
        room.clients.clients("a1", "b1").send("news", text)
        assert len(quick.hear()) == 1
    assert slow.hear() == [{"type": 7}]  # what it has not read is not kept for it
    assert slow.session.finished
    assert not quick.session.finished
    assert caplog.messages == ["connection a1 is given up: it leaves more than 1000 bytes unread"]


def test_methods_reach_the_others_through_their_call() -> None:
    hub = Hub()

    @hub.method("Say")
    def say(text: str, call: Call) -> None:
        call.groups.add("talkers")
        call.clients.others.send("said", call.user, text)

    registry, shell = Registry(), Shell()
    ann = HubPeer(hub, name="a", user="ann", registry=registry, shell=shell)
    bob = HubPeer(hub, name="b", registry=registry, shell=shell)
    ann.say({"type": 1, "target": "Say", "arguments": ["hello"]})
    assert ann.hear() == []
    assert bob.hear() == [{"type": 1, "target": "said", "arguments": ["ann", "hello"]}]
    assert list(registry.groups) == ["talkers"]
