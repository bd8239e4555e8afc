"""permessage-deflate for servers."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from hubproto_core import Hub
from hubproto_core.http import HttpConfig
from hubproto_core.http._deflate import BoundedDeflate, accept_deflate
from tests.http._site import Site, Socket, WebSocket, upgrade
from tests.kit.shell import WAITS
from tests.kit.wire import HANDSHAKE, pack, pieces

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


def deflated(data: bytes, *, final: bool = False) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflater.compress(data)
    return data + deflater.flush() if final else data + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]


def frame(payload: bytes, head: int = 0xC1) -> bytes:
    """A client's frame: 0xC1 is a whole compressed text, 0x41 its beginning, 0x80 the end of a message."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([head]) + length + bytes(4) + payload


# --- what is agreed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("Permessage-Deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=15"),
        ("permessage-deflate; client_max_window_bits=9", "permessage-deflate; client_max_window_bits=9"),
        ("permessage-deflate;server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        ),
        ("x-else, permessage-deflate; unknown, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "permessage-deflate"),
    ],
)
def test_the_first_offer_that_can_be_accepted_is(offers: str, answer: str) -> None:
    agreed = accept_deflate(offers, 1000)
    assert agreed is not None
    deflate, terms = agreed
    assert terms == answer
    assert deflate.enabled()


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=08",
        'permessage-deflate; client_max_window_bits="10"',
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
        "permessage-deflate; unknown",
        ";,;,",
    ],
)
def test_anything_else_is_not_compressed(offers: str) -> None:
    assert accept_deflate(offers, 1000) is None


# --- what comes in ---------------------------------------------------------------------------------------------------


def received(data: bytes, limit: int = 1000, offer: str = "permessage-deflate") -> list[Any]:
    agreed = accept_deflate(offer, limit)
    assert agreed is not None
    conn = Connection(ConnectionType.SERVER, [agreed[0]], trailing_data=data)
    return [event.code if isinstance(event, CloseConnection) else event for event in conn.events()]


def texts(events: list[Any]) -> str:
    return "".join(event.data for event in events if isinstance(event, TextMessage))


def test_a_message_may_be_compressed_or_not() -> None:
    events = received(frame(b"plain", 0x81) + frame(deflated(b"small")) + frame(b"again", 0x81))
    assert texts(events) == "plainsmallagain"


def test_a_message_may_come_in_fragments_with_pings_between() -> None:
    data = deflated(b"Hello, compressed world")
    events = received(
        frame(b"0", 0x89)
        + frame(data[:5], 0x41)
        + frame(b"1", 0x89)
        + frame(data[5:9], 0x00)
        + frame(b"2", 0x89)
        + frame(data[9:], 0x80)
        + frame(b"3", 0x89)
        + frame(b"plain", 0x81)
    )
    assert texts(events) == "Hello, compressed worldplain"
    assert [bytes(event.payload) for event in events if isinstance(event, Ping)] == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_no_context_takeover"])
def test_a_message_may_refer_to_the_one_before_it_unless_that_was_excluded(offer: str) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, second = (deflater.compress(b"abcdefghij" * 20) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4] for _ in range(2))
    events = received(frame(first) + frame(second), offer=offer)
    assert texts(events[:1]) == "abcdefghij" * 20
    assert events[1:] == [1007] if "no_context" in offer else texts(events) == "abcdefghij" * 40


def test_a_final_block_ends_its_message_and_its_context() -> None:
    events = received(frame(deflated(b"one", final=True) + b"\0") + frame(deflated(b"two")))
    assert texts(events) == "onetwo"


def test_nothing_is_collected_behind_a_final_block() -> None:
    data = frame(deflated(b"one", final=True), 0x41) + frame(bytes(60_000), 0x00) * 10 + frame(b"", 0x80)
    deflate = BoundedDeflate(1000)
    deflate.accept("permessage-deflate")
    conn = Connection(ConnectionType.SERVER, [deflate], trailing_data=data)
    held = 0
    for _ in conn.events():
        held = max(held, 0 if deflate._inflater is None else len(deflate._inflater.unused_data))
    assert held < 100


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff\xff\xff"), 1007),
        (frame(deflated(b"\xff")), 1007),
        (frame(b"", 0xC9), 1002),
        (frame(b"abc", 0x01) + frame(b"abc", 0xC0), 1002),
        (frame(b"abc", 0xA1), 1002),
    ],
    ids=["no deflate", "no UTF-8", "a compressed ping", "a compressed continuation", "another reserved bit"],
)
def test_what_is_not_in_order_ends_the_connection(data: bytes, code: int) -> None:
    assert received(data)[-1:] == [code]


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_message_has_a_limit(cut: int) -> None:
    def sent(size: int) -> list[Any]:
        first, *rest = pieces(deflated(b"x" * size), cut)
        return received(frame(first, 0x41) + b"".join(frame(piece, 0x00) for piece in rest) + frame(b"", 0x80))

    assert len(texts(sent(1000))) == 1000
    assert sent(1001)[-1:] == [1009]
    assert sent(100_000)[-1:] == [1009]


# --- in front of a hub -----------------------------------------------------------------------------------------------


class Compressing(WebSocket):
    """The far end of a WebSocket that is compressed."""

    def __init__(self, socket: Socket, offer: str = OFFER) -> None:
        super().__init__(socket, "/chat", offer)
        extension = PerMessageDeflate()
        extension.finalize("permessage-deflate")
        self.ws = Connection(ConnectionType.CLIENT, [extension])


def make_hub() -> Hub:
    hub = Hub()
    hub.method("Echo")(lambda text: text)
    hub.method("Slow")(lambda: WAITS)
    return hub


def echo(text: str) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": "Echo", "arguments": [text]}


def compressing(**limits: Any) -> tuple[Site, Compressing]:
    served = Site(make_hub(), http=HttpConfig(compression=True, **limits))
    peer = Compressing(served.socket())
    peer.send_text(HANDSHAKE)
    assert peer.hear() == [{}]
    return served, peer


def test_nothing_is_compressed_unless_it_is_said() -> None:
    assert b"sec-websocket-extensions" not in Site().socket().send(upgrade("/chat", OFFER)).lower()
    served = Site(http=HttpConfig(compression=True))
    assert b"\r\nsec-websocket-extensions: permessage-deflate\r\n" in served.socket().send(upgrade("/chat", OFFER))
    assert b"sec-websocket-extensions" not in served.socket().send(upgrade("/chat")).lower()


def test_calls_and_answers_are_compressed() -> None:
    _, peer = compressing()
    peer.socket.conn.receive_data(peer.ws.send(TextMessage(pack(echo("x" * 5000)).decode())), now=0.0)
    data = peer.socket.take()
    assert data[0] == 0xC1
    assert len(data) < 100
    peer._read(data)
    assert peer.hear() == [{"type": 3, "invocationId": "1", "result": "x" * 5000}]


def test_a_bomb_ends_with_1009_and_little_memory() -> None:
    _, peer = compressing(max_decompressed_size=100_000)
    bomb = frame(deflated(b"x" * 60_000_000))
    assert len(bomb) < 65_536
    tracemalloc.start()
    try:
        events = peer.exchange_bytes(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [event.code for event in events if isinstance(event, CloseConnection)] == [1009]
    assert peak < 1_000_000


def test_many_messages_in_few_bytes_wait_for_each_other() -> None:
    served, peer = compressing()
    peer.ask({"type": 1, "target": "Slow", "arguments": []})
    peer.ask(echo("held"))  # and what follows waits, too
    message = deflated(pack(echo("y" * 30_000)))
    tracemalloc.start()
    try:
        peer.socket.conn.receive_data(frame(message) * 500 + peer.ws.send(Ping(b"behind")), now=0.0)
        assert peer.socket.take() == b""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # of 15 MB
    assert [peer.socket.conn.want_read] == [False]
    served.shell.finish(served.shell.find("Slow"))
    heard: list[Event] = []
    while not any(isinstance(event, Pong) for event in heard):
        events = peer.exchange_bytes(b"")
        assert events, "nothing comes any more"
        heard += events
    assert sum(len(event.data) for event in heard if isinstance(event, TextMessage)) > 15_000_000
    assert peer.socket.conn.want_read


def test_what_was_held_is_taken_up_even_while_output_is_stuck() -> None:
    served, peer = compressing()
    peer.ask({"type": 1, "target": "Slow", "arguments": []})
    peer.ask(echo("held"))
    peer.socket.conn.receive_data(peer.ws.send(Ping(b"a")) + peer.ws.send(Ping(b"b")), now=0.0)
    assert [peer.socket.conn.want_read] == [False]
    served.shell.finish(served.shell.find("Slow"))
    peer.socket.conn.handle_timeout(now=0.0)
    assert peer.socket.conn.want_read
