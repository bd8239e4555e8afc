"""A session on a WebSocket, for both roles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from hubproto_core import (
    ClientSession,
    Codec,
    Handlers,
    Hub,
    HubConfig,
    HubSession,
    JsonCodec,
    MessagePackCodec,
    Role,
    Session,
    TransportError,
)
from hubproto_core.http import WebSocketTransport
from hubproto_core.http._websocket import accept_token, new_key
from tests.http._site import ACCEPT, KEY, goes_on, masked, split
from tests.kit.shell import WAITS, Shell
from tests.kit.wire import HANDSHAKE, pack, pieces

CALL = pack({"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]})
RESULT = {"type": 3, "invocationId": "1", "result": 3}


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Slow")
    def slow() -> object:
        return WAITS

    return hub


HUB = make_hub()


class Wire:
    """A transport, and the other end of its WebSocket."""

    def __init__(
        self, session: Session, shell: Shell, role: Role, trailing: bytes = b"", close_timeout: float = 5.0
    ) -> None:
        self.shell = shell
        self.session = session
        self.transport = WebSocketTransport(session, role, close_timeout=close_timeout, trailing=trailing, now=0.0)
        self.far = Connection(ConnectionType.CLIENT if role is Role.SERVER else ConnectionType.SERVER)

    def take(self, now: float = 0.0) -> bytes:
        """Return the bytes of all frames that the transport sends."""
        taken = b""
        self.shell.run()
        while True:
            data = self.transport.data_to_send(now=now)
            if not self.shell.run() and not data and not goes_on(self.transport, now):
                return taken
            taken += data

    def frames(self, now: float = 0.0) -> list[Event]:
        """Return all frames that the transport sends."""
        data = self.take(now)
        if data:
            self.far.receive_data(data)
        return list(self.far.events())

    def send(self, *events: Event, now: float = 0.0) -> list[Event]:
        """Send frames, and return those that come back."""
        return self.send_bytes(b"".join(self.far.send(event) for event in events), now)

    def send_bytes(self, data: bytes, now: float = 0.0) -> list[Event]:
        """Send bytes, and return the frames that come back."""
        self.transport.receive_data(data, now=now)
        return self.frames(now)


def serving(config: HubConfig | None = None, trailing: bytes = b"", codec: Codec | None = None) -> Wire:
    shell = Shell()
    codecs = [codec or JsonCodec()]
    session = HubSession(HUB, codecs, connection_id="c1", config=config, effects=shell.effects, now=0.0)
    return Wire(session, shell, Role.SERVER, trailing)


def served(config: HubConfig | None = None) -> Wire:
    wire = serving(config)
    assert split(wire.send(TextMessage(HANDSHAKE.decode()))) == ([{}], [])
    return wire


def calling(codec: Codec | None = None, close_timeout: float = 5.0) -> Wire:
    shell = Shell()
    session = ClientSession(codec or JsonCodec(), Handlers(), config=HubConfig(), effects=shell.effects, now=0.0)
    return Wire(session, shell, Role.CLIENT, close_timeout=close_timeout)


def called(close_timeout: float = 5.0) -> Wire:
    wire = calling(close_timeout=close_timeout)
    assert split(wire.frames()) == ([{"protocol": "json", "version": 1}], [])
    assert split(wire.send(TextMessage("{}\x1e"))) == ([{"type": 6}], [])
    return wire


def over(wire: Wire) -> bool:
    return wire.transport.finished


def reads(wire: Wire) -> bool:
    return wire.transport.want_read


def test_a_key_is_answered_as_the_standard_says() -> None:
    assert accept_token(KEY) == ACCEPT
    assert new_key(lambda size: b"\x00" * size) == "AAAAAAAAAAAAAAAAAAAAAA=="


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TextMessage, BytesMessage])
def test_messages_of_either_kind_are_taken(kind: type[TextMessage] | type[BytesMessage]) -> None:
    data = HANDSHAKE + CALL
    message: Event = TextMessage(data.decode()) if kind is TextMessage else BytesMessage(data)
    assert split(serving().send(message)) == ([{}, RESULT], [])


def test_what_is_to_be_said_at_one_time_is_one_message() -> None:
    wire = served()
    assert wire.send(TextMessage((CALL + CALL).decode())) == [
        TextMessage('{"type":3,"invocationId":"1","result":3}\x1e' * 2)
    ]


def test_what_has_been_read_behind_the_opening_is_taken() -> None:
    far = Connection(ConnectionType.CLIENT)
    wire = serving(trailing=far.send(TextMessage(HANDSHAKE.decode())) + far.send(TextMessage(CALL.decode())))
    assert split(wire.frames()) == ([{}, RESULT], [])


def test_the_kind_of_frame_is_that_of_the_codec_once_it_is_agreed_on() -> None:
    server = serving(codec=MessagePackCodec())
    assert server.send(TextMessage('{"protocol":"messagepack","version":1}\x1e')) == [
        BytesMessage(bytearray(b"{}\x1e"))
    ]
    client = calling(MessagePackCodec())
    (hello,) = client.frames()
    assert isinstance(hello, TextMessage)
    (ping,) = client.send(BytesMessage(b"{}\x1e"))
    assert isinstance(ping, BytesMessage)


@settings(deadline=None, max_examples=40)
@given(
    parts=st.lists(st.integers(1, 60), max_size=8),
    sizes=st.integers(1, 50),
    name=st.text(st.characters(codec="utf-8", exclude_characters='"\\\x1e', min_codepoint=32), max_size=5),
)
def test_frames_and_chunks_mean_nothing(parts: list[int], sizes: int, name: str) -> None:
    text = HANDSHAKE.decode() + f'{{"type":1,"invocationId":"{name}","target":"Add","arguments":[1,2]}}\x1e'
    wire = serving()
    data, rest = b"", text
    for index, part in enumerate(parts):
        data += wire.far.send(TextMessage(rest[:part], message_finished=index % 3 == 0))
        rest = rest[part:]
    data += wire.far.send(TextMessage(rest))
    heard = []
    for piece in pieces(data, sizes):
        heard += split(wire.send_bytes(piece))[0]
    assert heard == [{}, {"type": 3, **({"invocationId": name} if name else {}), "result": 3}][: 2 if name else 1]


# --- control frames --------------------------------------------------------------------------------------------------


def test_pings_are_answered_and_pongs_are_not() -> None:
    wire = served()
    assert wire.send(Ping(b"abc"), Pong(b"def"), Ping(b"")) == [Pong(b"abc"), Pong(b"")]


def test_pings_between_fragments_are_answered() -> None:
    wire = served()
    half = len(CALL) // 2
    start, rest = CALL.decode()[:half], CALL.decode()[half:]
    pong, result = wire.send(TextMessage(start, message_finished=False), Ping(b"x"), TextMessage(rest))
    assert pong == Pong(b"x")
    assert split([result]) == ([RESULT], [])


def test_reading_stops_while_pongs_pile_up() -> None:
    wire = served()
    flood = b"".join(wire.far.send(Ping(b"x" * 125)) for _ in range(1000))
    wire.transport.receive_data(flood, now=0.0)
    now = 0.0
    while (due := wire.transport.next_timeout()) is not None and due < 1.0:
        now = due
        wire.transport.handle_timeout(now=now)
    assert not reads(wire)
    assert len(wire.frames(now)) == 544  # a pong more than fit in, as full turns go
    while not reads(wire):
        now += 0.01
        wire.transport.handle_timeout(now=now)
    assert len(wire.frames(now)) == 1000 - 544


def test_frames_are_read_in_turns() -> None:
    wire = served()
    wire.transport.receive_data(b"".join(wire.far.send(TextMessage(CALL.decode())) for _ in range(100)), now=1.0)
    turns: list[int] = []
    for now in (1.0, 1.1, 1.2, 1.3):
        goes_on(wire.transport, now)
        while (ran := wire.shell.run()) or (data := wire.transport.data_to_send(now=now)):
            if not ran:
                wire.far.receive_data(data)
        turns.append(len(split(list(wire.far.events()))[0]))
        assert reads(wire) is (sum(turns) == 100)
    assert turns == [29, 29, 29, 13]  # of up to 32 frames, and less when they are not the smallest


def test_large_frames_count_for_many() -> None:
    wire = served(HubConfig(max_message_size=None))
    record = pack({"type": 6, "x": "y" * 10_000}).decode()
    wire.transport.receive_data(b"".join(wire.far.send(TextMessage(record)) for _ in range(10)), now=1.0)
    turns = 1
    while not reads(wire):
        assert goes_on(wire.transport, 1.0)
        turns += 1
    assert turns > 5


@pytest.mark.parametrize("fragments", [False, True], ids=["pings", "empty fragments"])
def test_after_frames_that_say_nothing_there_is_a_rest(fragments: bool) -> None:
    wire = served()
    empty = TextMessage("", message_finished=False) if fragments else Ping(b"")
    wire.transport.receive_data(b"".join(wire.far.send(empty) for _ in range(40)), now=1.0)
    assert not reads(wire)
    wire.transport.data_to_send(now=1.0)
    assert wire.transport.next_timeout() == pytest.approx(1.01)
    wire.transport.handle_timeout(now=1.005)
    assert not reads(wire)
    wire.transport.handle_timeout(now=1.02)
    assert reads(wire)


def test_what_comes_meanwhile_waits_its_turn() -> None:
    wire = served()
    wire.transport.receive_data(b"".join(wire.far.send(Ping(b"first")) for _ in range(40)), now=1.0)
    wire.transport.receive_data(wire.far.send(Ping(b"last")), now=1.0)
    pongs = wire.frames(1.0) + wire.frames(2.0)
    assert [event.payload for event in pongs if isinstance(event, Pong)] == [b"first"] * 40 + [b"last"]


def test_a_ping_that_crosses_our_close_frame_is_no_trouble() -> None:
    wire = served()
    wire.session.close()
    data = wire.far.send(Ping(b"x"))
    assert split(wire.frames()) == ([{"type": 7}], [(1000, None)])
    wire.transport.receive_data(data, now=0.0)
    assert wire.frames() == []
    wire.send(CloseConnection(1000))
    assert over(wire)


def test_messages_that_cross_our_close_frame_are_dropped() -> None:
    wire = served()
    wire.session.close()
    data = wire.far.send(TextMessage(CALL.decode()))
    wire.frames()
    assert wire.send_bytes(data) == []


# --- the end ---------------------------------------------------------------------------------------------------------


def test_after_the_last_hub_message_comes_a_close_frame() -> None:
    wire = served()
    assert reads(wire)
    assert split(wire.send(TextMessage('{"type":7}\x1e'))) == ([{"type": 7}], [(1000, None)])
    assert not over(wire)
    assert reads(wire)
    assert wire.transport.next_timeout() == 5.0
    assert wire.send(CloseConnection(1000)) == []
    assert over(wire)
    assert not reads(wire)
    assert wire.transport.data_to_send(now=0.0) == b""


def test_a_close_frame_that_is_not_answered_is_not_waited_for_long() -> None:
    wire = served()
    wire.session.close()
    wire.frames(now=10.0)
    assert wire.transport.next_timeout() == 15.0
    wire.transport.handle_timeout(now=14.9)
    assert not over(wire)
    wire.transport.handle_timeout(now=15.0)
    assert over(wire)


def test_a_socket_that_takes_nothing_is_not_waited_for_long_either() -> None:
    wire = served()
    wire.session.data_to_send(now=2.0)
    wire.transport.data_to_send(now=2.0)
    wire.session.close()
    assert wire.transport.next_timeout() == 7.0
    wire.transport.handle_timeout(now=6.9)
    assert not over(wire)
    wire.transport.handle_timeout(now=7.0)
    assert over(wire)


@pytest.mark.parametrize(("code", "reason"), [(1000, None), (1000, "bye"), (1001, "going away"), (4000, None)])
def test_a_client_s_close_frame_is_answered_and_is_no_error(code: int, reason: str | None) -> None:
    wire = served()
    heard, closes = split(wire.send(CloseConnection(code, reason)))
    assert heard == []
    assert closes == [(code, reason)]
    assert over(wire)
    assert wire.session.closed is not None
    assert wire.session.error is None


def test_what_came_before_the_client_s_close_frame_is_done_first() -> None:
    wire = served(HubConfig(max_parallel_calls=1))
    slow = pack({"type": 1, "invocationId": "0", "target": "Slow", "arguments": []})
    assert wire.send(TextMessage((slow + slow).decode()), CloseConnection(1000)) == []
    assert not over(wire)
    assert reads(wire)
    wire.shell.finish(wire.shell.find("Slow"), "done")
    assert split(wire.frames()) == ([], [(1000, None)])
    assert over(wire)
    assert wire.shell.asked_to_cancel == [wire.shell.find("Slow")]


def test_what_comes_behind_a_close_frame_is_not_looked_at() -> None:
    wire = served()
    close = wire.far.send(CloseConnection(1000))
    wire.transport.receive_data(close + b"junk" * 10, now=0.0)
    wire.transport.receive_data(b"junk", now=0.0)
    wire.frames()
    wire.transport.receive_data(b"junk", now=0.0)
    assert over(wire)
    assert wire.session.error is None


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (1000, None, None),
        (1011, None, "WebSocket closed with status code: 1011 (no reason given)."),
        (1001, "restart", "WebSocket closed with status code: 1001 (restart)."),
    ],
)
def test_a_client_is_told_why_the_server_closed(code: int, reason: str | None, error: str | None) -> None:
    wire = called()
    assert split(wire.send(CloseConnection(code, reason))) == ([], [(code, reason)])
    assert (str(wire.session.error) if wire.session.error else None) == error
    assert over(wire)


def test_a_close_frame_without_a_code_is_no_error() -> None:
    wire = called()
    wire.transport.receive_data(b"\x88\x00", now=0.0)
    wire.take()
    assert wire.session.error is None
    assert over(wire)


def test_a_client_that_says_farewell_lets_the_server_close() -> None:
    wire = called()
    wire.session.send("Last", [])
    wire.session.close()
    assert split(wire.frames(10.0)) == ([{"type": 1, "target": "Last", "arguments": []}, {"type": 7}], [])
    assert reads(wire)
    assert split(wire.send(TextMessage('{"type":7}\x1e'), now=10.1)) == ([], [])
    assert split(wire.send(CloseConnection(1000), now=10.1)) == ([], [(1000, None)])
    assert over(wire)


@pytest.mark.parametrize(("close_timeout", "grace"), [(5.0, 0.25), (0.25, 0.125)])
def test_a_client_closes_if_the_server_does_not(close_timeout: float, grace: float) -> None:
    wire = called(close_timeout)
    wire.session.close()
    assert split(wire.frames(10.0)) == ([{"type": 7}], [])
    assert wire.transport.next_timeout() == 10.0 + grace
    wire.transport.handle_timeout(now=10.0)
    assert split(wire.frames(10.0 + grace - 0.001)) == ([], [])
    wire.transport.handle_timeout(now=10.0 + grace)
    assert wire.transport.next_timeout() == 10.0 + grace + close_timeout
    assert split(wire.frames(10.0 + grace)) == ([], [(1000, None)])
    wire.send(CloseConnection(1000))
    assert over(wire)


def test_what_crosses_a_client_s_farewell_is_read_up_to_the_close_frame() -> None:
    wire = called()
    wire.session.close()
    wire.frames()
    wire.transport.receive_data(b"".join(wire.far.send(TextMessage('{"type":6}\x1e')) for _ in range(100)), now=0.1)
    assert not reads(wire)
    assert wire.transport.next_timeout() == 0.11
    wire.transport.receive_data(wire.far.send(CloseConnection(1000)), now=0.1)
    turns = [event for now in (0.12, 0.14, 0.16, 0.18) for event in wire.frames(now)]
    assert split(turns) == ([], [(1000, None)])
    assert over(wire)


def test_a_client_whose_answer_to_a_close_frame_cannot_be_sent_does_not_wait_long() -> None:
    wire = called()
    wire.session.close()
    wire.frames()
    wire.transport.receive_data(wire.far.send(CloseConnection(1000)), now=0.1)
    wire.transport.handle_timeout(now=0.25)
    assert wire.transport.next_timeout() == 5.1
    wire.transport.handle_timeout(now=5.1)
    assert over(wire)


@pytest.mark.parametrize("refused", [False, True])
def test_a_client_that_does_not_say_farewell_closes_at_once(refused: bool) -> None:
    wire = calling() if refused else called()
    wire.frames()
    _, closes = split(wire.send(TextMessage('{"error":"no"}\x1e' if refused else "no json\x1e")))
    assert closes == [(1000, None)]


BAD_FRAMES = {
    "not masked": (b"\x81\x01x", 1002),
    "reserved bits": (b"\xf1\x81\x00\x00\x00\x00x", 1002),
    "unknown kind": (b"\x83\x81\x00\x00\x00\x00x", 1002),
    "long ping": (b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + b"x" * 126, 1002),
    "continuation of nothing": (b"\x80\x81\x00\x00\x00\x00x", 1002),
    "text that is no UTF-8": (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
    "close code that does not exist": (b"\x88\x82\x00\x00\x00\x00\x00\x05", 1002),
}


@pytest.mark.parametrize(("frame", "code"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_bad_frame_is_the_end(frame: bytes, code: int) -> None:
    wire = served()
    _, closes = split(wire.send_bytes(frame))
    assert [close[0] for close in closes] == [code]
    assert isinstance(wire.session.error, TransportError)
    assert str(wire.session.error).startswith("The peer sent a bad WebSocket frame: ")
    assert over(wire)
    wire.transport.receive_data(frame, now=0.0)
    wire.transport.receive_eof(now=0.0)
    assert wire.take() == b""


def test_nothing_is_waited_for_behind_a_bad_frame() -> None:
    """Its sender need not answer our close frame: it may have sent its own (a bad one, too)."""
    trailing = b"\xff\xff"
    wire = serving(trailing=trailing)
    assert over(wire)
    assert not reads(wire)
    assert split(wire.frames()) == ([], [(1002, None)])


def test_good_messages_before_a_bad_frame_are_done() -> None:
    wire = served()
    data = wire.far.send(TextMessage(CALL.decode())) + b"\xff\xff"
    wire.transport.receive_data(data, now=0.0)
    wire.shell.run()
    assert isinstance(wire.session.error, TransportError)


@pytest.mark.parametrize("error", [None, TransportError("reset")])
def test_a_socket_that_breaks_is_an_error(error: TransportError | None) -> None:
    wire = served()
    wire.transport.receive_eof(error, now=0.0)
    assert over(wire)
    told = wire.session.error
    assert isinstance(told, TransportError)
    assert str(told) == ("reset" if error else "The WebSocket was cut off without a close frame.")
    wire.transport.receive_eof(TransportError("again"), now=0.0)
    assert wire.session.error is told


def test_a_socket_that_breaks_behind_a_close_frame_ends_what_still_runs() -> None:
    wire = served(HubConfig(max_parallel_calls=1))
    slow = pack({"type": 1, "invocationId": "0", "target": "Slow", "arguments": []})
    wire.send(TextMessage((slow + slow + slow).decode()), CloseConnection(1000))
    wire.transport.receive_eof(None, now=0.0)
    wire.shell.cancel_asked()
    assert over(wire)
    assert wire.session.closed is not None


def test_hub_pings_and_silence_are_timed() -> None:
    wire = served(HubConfig(keep_alive_interval=10.0))
    assert wire.transport.next_timeout() == 10.0
    wire.transport.handle_timeout(now=10.0)
    assert split(wire.frames(now=10.0)) == ([{"type": 6}], [])


def test_a_session_that_fails_closes_the_websocket() -> None:
    wire = served()
    heard, closes = split(wire.send(TextMessage("junk\x1e")))
    assert heard == [{"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}]
    assert closes == [(1000, None)]


def test_a_refused_handshake_closes_the_websocket() -> None:
    heard, closes = split(serving().send(TextMessage("junk\x1e")))
    assert heard == [{"error": "An unexpected error occurred during connection handshake."}]
    assert closes == [(1000, None)]


def test_a_reader_that_is_behind_stops_the_socket() -> None:
    wire = served()
    slow = pack({"type": 1, "invocationId": "0", "target": "Slow", "arguments": []})
    wire.send(TextMessage((slow + slow).decode()))
    assert not reads(wire)
    wire.shell.finish(wire.shell.find("Slow"))
    wire.frames()
    assert reads(wire)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(1, 80),
)
def test_bad_bytes_never_raise(mutations: list[tuple[int, int, bytes]], size: int) -> None:
    wire = serving()
    data = masked(1, HANDSHAKE) + masked(9, b"x") + masked(1, CALL) + masked(8, b"\x03\xe8") + masked(9, b"y")
    for position, removed, inserted in mutations:
        position %= len(data)
        data = data[:position] + inserted + data[position + removed :]
    for piece in pieces(data, size):
        wire.transport.receive_data(piece, now=0.0)
        wire.take()
    wire.transport.receive_eof(now=0.0)
    wire.take()
    assert over(wire)
    assert wire.session.closed is not None
