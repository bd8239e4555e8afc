"""Stateful reconnect as a client of a hub sees it: what a hub of ASP.NET Core 10 says in the same conversations, or
what it had better say (SPEC 4.7, appendix E)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import (
    Completion,
    EndOfStream,
    Hub,
    HubConfig,
    HubConnection,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    RemoteProtocolError,
    Role,
    StreamInvocation,
    TransportError,
)
from tests.kit.shell import WAITS, HubPeer
from tests.kit.wire import pack, unpack


def make_hub() -> Hub:
    hub = Hub(HubConfig(keep_alive_interval=1e6))

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Slow")
    def slow() -> object:
        return WAITS

    @hub.method("Counter")
    async def counter() -> AsyncIterator[int]:
        yield 0

    @hub.method("Upload")
    async def upload(items: AsyncIterator[str]) -> str:
        raise NotImplementedError

    return hub


HUB = make_hub()


class Client(HubPeer):
    """A client that negotiated stateful reconnect, and can have its socket cut."""

    def __init__(self, *, stateful: bool = True, version: int = 2, config: HubConfig | None = None) -> None:
        super().__init__(HUB, config, stateful=stateful, handshake=False)
        self.say({"protocol": "json", "version": version})
        assert self.hear() == [{}]

    def cut(self, now: float = 0.0) -> None:
        self.session.receive_eof(TransportError("cut"), now=now)
        self.shell.run()

    def reopen(self, now: float = 0.0) -> list[Any]:
        """A new socket; return what is said on it at once."""
        self.session.resume()
        return self.hear(now)

    def wait(self, now: float) -> list[Any]:
        self.session.handle_timeout(now=now)
        return self.hear(now)


def add(id_: str, x: int, y: int) -> dict[str, Any]:
    return {"type": 1, "invocationId": id_, "target": "Add", "arguments": [x, y]}


def result(id_: str, value: Any) -> dict[str, Any]:
    return {"type": 3, "invocationId": id_, "result": value}


def item(id_: str, value: Any) -> dict[str, Any]:
    return {"type": 2, "invocationId": id_, "item": value}


def ack(number: int) -> dict[str, Any]:
    return {"type": 8, "sequenceId": number}


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


CLOSED = {"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}
PING = {"type": 6}


def added(**settings: Any) -> Client:
    """A client that has called and been answered once."""
    client = Client(**settings)
    assert client.ask(add("1", 1, 2)) == [result("1", 3)]
    return client


def reopened() -> Client:
    """The same after a cut, with nothing acknowledged by either side."""
    client = added()
    client.cut()
    assert client.reopen() == [sequence(1), result("1", 3)]
    return client


def test_the_server_acknowledges_within_a_second_or_two() -> None:
    client = added()
    assert client.wait(0.9) == []
    assert client.wait(1.5) == [ack(1)]


def test_the_server_counts_types_1_to_5_only() -> None:
    client = Client()
    assert client.ask(PING, add("1", 1, 2), {"type": 5, "invocationId": "zz"}, PING) == [result("1", 3)]
    assert client.wait(1.5) == [ack(2)]


def test_an_item_for_an_unknown_stream_counts() -> None:
    client = Client()
    assert client.ask(item("nope", 1), add("1", 1, 2)) == [result("1", 3)]
    assert client.wait(1.5) == [ack(2)]  # as its sender counted; the reference says 1


def test_what_is_acknowledged_is_not_sent_again() -> None:
    client = added()
    assert client.ask(ack(1)) == []
    client.cut()
    assert client.reopen() == [sequence(2)]
    assert client.ask(sequence(2)) == []
    assert client.ask(add("2", 2, 2)) == [result("2", 4)]


def test_a_result_made_while_no_socket_was_there() -> None:
    client = Client()
    assert client.ask({"type": 1, "invocationId": "1", "target": "Slow", "arguments": []}) == []
    client.cut()
    client.shell.finish(client.shell.find("Slow"), "slept 600")
    assert client.session.data_to_send(now=0.6) == b""
    assert client.wait(0.9) == []
    assert client.reopen(0.9) == [sequence(1), result("1", "slept 600")]
    assert client.ask(sequence(2)) == []


def test_what_the_client_sends_again_runs_once() -> None:
    client = reopened()
    assert client.ask(sequence(1), add("1", 1, 2), add("2", 2, 2)) == [result("2", 4)]
    assert client.wait(1.3) == [ack(2)]


def test_no_sequence_from_the_client_after_the_cut() -> None:
    client = reopened()
    assert client.ask(add("2", 2, 2)) == [result("2", 4)]
    assert client.wait(1.3) == [ack(2)]


@pytest.mark.parametrize("number", [7, 0])
def test_a_sequence_from_the_future_or_below_the_first(number: int) -> None:
    client = reopened()
    assert client.ask(sequence(number)) == [CLOSED]  # the reference never answers again after a 0
    assert isinstance(client.session.error, RemoteProtocolError)


def test_a_new_socket_takes_over_while_the_old_one_lives() -> None:
    client = added()
    assert client.reopen() == [sequence(1), result("1", 3)]  # the reference refuses it, and ends the connection
    assert client.ask(sequence(2), add("2", 2, 2)) == [result("2", 4)]


def test_two_cuts() -> None:
    client = reopened()
    assert client.ask(sequence(2)) == []
    client.cut()
    assert client.reopen() == [sequence(1), result("1", 3)]
    assert client.ask(sequence(2)) == []
    assert client.ask(add("2", 2, 2)) == [result("2", 4)]


def test_a_stream_goes_on_across_the_cut() -> None:
    client = Client()
    client.say({"type": 4, "invocationId": "1", "target": "Counter", "arguments": []})
    stream = client.shell.find("Counter")
    for number in (0, 1):
        assert client.session.send_item(stream, number)
    assert client.hear() == [item("1", 0), item("1", 1)]
    client.cut()
    for number in (2, 3, 4):
        assert client.session.send_item(stream, number)
    assert client.shell.asked_to_cancel == []
    assert client.reopen() == [sequence(1), *(item("1", number) for number in range(5))]
    assert client.session.send_item(stream, 5)
    client.shell.finish(stream)
    assert client.ask(sequence(2)) == [item("1", 5), {"type": 3, "invocationId": "1"}]
    assert client.wait(1.0) == [ack(1)]


def test_an_upload_goes_on_across_the_cut() -> None:
    client = Client()
    start = {"type": 1, "invocationId": "1", "target": "Upload", "arguments": [], "streamIds": ["s"]}
    client.say(start, item("s", "a"))
    call = client.shell.find("Upload")
    (upload,) = call.incoming
    assert upload.receive_nowait() == "a"
    client.cut()
    assert client.reopen() == [sequence(1)]
    assert client.wait(1.0) == [ack(2)]
    assert client.ask(sequence(2), item("s", "a"), item("s", "b"), {"type": 3, "invocationId": "s"}) == []
    assert upload.receive_nowait() == "b"
    with pytest.raises(EndOfStream):
        upload.receive_nowait()
    client.shell.finish(call, "2:ab")
    assert client.hear() == [result("1", "2:ab")]


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(lambda: added(version=1), id="version 1 turns it off"),
        pytest.param(lambda: added(stateful=False), id="version 2 without having negotiated it"),
    ],
)
def test_where_it_is_off_a_cut_ends_the_connection_and_nothing_is_acknowledged(client: Any) -> None:
    client = client()
    assert not client.session.stateful
    assert client.wait(1.5) == []
    client.cut()
    assert client.session.closed is not None
    with pytest.raises(LocalProtocolError):
        client.session.resume()


def test_version_1_refuses_a_second_socket_beside_the_first() -> None:
    client = added(version=1)
    with pytest.raises(LocalProtocolError):
        client.session.resume()
    assert client.ask(add("2", 2, 2)) == [result("2", 4)]


def test_an_orderly_end_of_the_socket_ends_it_for_good() -> None:
    client = added()
    client.session.receive_eof(now=0.0)
    assert client.session.closed is not None
    with pytest.raises(LocalProtocolError):
        client.session.resume()


def test_17_seconds_are_too_late() -> None:
    client = added()
    client.cut(1.0)
    client.session.handle_timeout(now=15.9)
    assert client.session.is_lost
    assert client.wait(18.5) == []
    assert isinstance(client.session.error, TransportError)
    with pytest.raises(LocalProtocolError):
        client.session.resume()


def test_an_ack_beyond_what_was_sent() -> None:
    client = Client()
    assert client.ask(ack(99), add("1", 1, 2)) == [CLOSED]  # the reference forgets messages that it will send
    assert isinstance(client.session.error, RemoteProtocolError)


def test_an_unsolicited_sequence_without_a_cut() -> None:
    client = added()
    assert client.ask(sequence(1)) == []
    assert client.ask(add("2", 2, 2)) == []
    assert client.wait(1.0) == [ack(1)]
    assert client.ask(add("3", 3, 3)) == [result("3", 6)]


def test_everything_that_is_said_arrives_over_three_sockets_in_order() -> None:
    client = Client()
    frames = [pack(add(str(number), number, 0)) for number in range(9)]
    for number, frame in enumerate(frames):
        client.say_bytes(frame)
        if number % 3 == 2:
            client.cut()
            assert unpack(client.session.data_to_send(now=0.0)) == []
            client.session.resume()
    assert client.hear() == [sequence(1), *(result(str(number), number) for number in range(9))]


# --- both ends ------------------------------------------------------------------------------------------------------


class Talk:
    """A client and a server with something to say to each other, and a link between them that carries single bytes.

    The link is cut behind the `cut`-th byte, of both directions together: nothing that is under way arrives.
    """

    def __init__(self, codec: type[JsonCodec | MessagePackCodec], cut: int | None = None) -> None:
        self.client = HubConnection(Role.CLIENT, [codec()], stateful=True, now=0.0)
        self.server = HubConnection(Role.SERVER, [codec()], stateful=True, now=0.0)
        self.heard: dict[HubConnection, list[Any]] = {self.client: [], self.server: []}
        self._under_way = {self.client: b"", self.server: b""}
        self.carried = 0
        self._cut = cut
        self._go_on()
        first = self.carried
        upload = self.client.new_stream_id()
        self.client.invoke("Up", [1], stream_ids=[upload])
        self.client.stream("Count")
        for number in range(3):
            self.client.send_item(upload, number)
            self._go_on(steps=20)
        self.client.complete(upload)
        self.client.send("Log", ["\u2603"])
        self.server.send("news", ["x"])
        self._go_on()
        self.begun = first

    def _go_on(self, steps: int = 1_000_000) -> None:
        """Carry bytes one at a time, to either end in turn, until there are none."""
        for _ in range(steps):
            self._under_way[self.server] += self.client.data_to_send(now=0.0)
            self._under_way[self.client] += self.server.data_to_send(now=0.0)
            if not any(self._under_way.values()):
                self.client.handle_timeout(now=1.5)  # so long it waits to learn whether an upload is over
                self._under_way[self.server] = self.client.data_to_send(now=0.0)
                if not self._under_way[self.server]:
                    return
            for end in self.heard:
                data, self._under_way[end] = self._under_way[end][:1], self._under_way[end][1:]
                if data:
                    end.receive_data(data, now=0.0)
                    self._hear(end)
                    self.carried += 1
                    if self.carried == self._cut:
                        self._replace()

    def _replace(self) -> None:
        for end in self.heard:
            end.receive_eof(TransportError("cut"), now=0.0)
            self._hear(end)
            self._under_way[end] = b""
        for end in self.heard:
            end.resume()

    def conversations(self) -> list[dict[str | None, list[Any]]]:
        """What each end has heard, in its order under each id."""
        found: list[dict[str | None, list[Any]]] = []
        for events in self.heard.values():
            by_id: dict[str | None, list[Any]] = {}
            for event in events[1:]:  # behind the handshake
                by_id.setdefault(event.invocation_id, []).append(event)
            found.append(by_id)
        return found

    def _hear(self, end: HubConnection) -> None:
        while (event := end.next_event(now=0.0)) is not None:
            self.heard[end].append(event)
            match event:
                case StreamInvocation(invocation_id=stream):
                    for number in range(3):
                        self.server.send_item(stream, number)
                    self.server.complete(stream)
                case Completion() if end is self.server:
                    self.server.complete("2", "thanks")


@pytest.mark.parametrize("codec", [JsonCodec, MessagePackCodec])
def test_a_cut_at_any_byte_loses_nothing_and_repeats_nothing(codec: type[JsonCodec | MessagePackCodec]) -> None:
    whole = Talk(codec)
    assert [{key: len(events) for key, events in heard.items()} for heard in whole.conversations()] == [
        {None: 1, "2": 1, "3": 4},
        {None: 1, "1": 4, "2": 1, "3": 1},
    ]
    for cut in range(whole.begun + 1, whole.carried + 1):
        talk = Talk(codec, cut)
        assert talk.client.resumed
        assert talk.server.resumed
        assert talk.conversations() == whole.conversations(), cut
