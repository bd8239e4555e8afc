"""Bad input comes to a clear end, the server's console shows no exception, and other connections do not notice."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.interop._lab import Lab, poll
from tests.interop._link import HANDSHAKE, LIMIT, RS, Closed, Link, Record, Refused
from tests.interop.conftest import StartLab

NORMAL = Closed(1000)
BROKEN_HANDSHAKE = Record('{"error":"An unexpected error occurred during connection handshake."}')
BROKEN = Record('{"type":7,"error":"Connection closed with an error.","allowReconnect":true}')
RECEIVE_LIMIT = 32768


@pytest.fixture
def lab(start: StartLab) -> Lab:
    """A lab server that no other module uses: connections are counted here, and those of polls outlive their tests."""
    return start(LAB_PARALLEL="10")


def last_words(link: Link) -> list[Record]:
    """What the server says before it ends the connection, which it must do soon."""
    link.wait(lambda: link.closed is not None, "the end of the connection")
    assert link.faults == []
    return link.records


def length_call(size: int) -> str:
    """A call of Length in a message of exactly this size."""
    empty = '{"type":1,"invocationId":"1","target":"Length","arguments":[""]}' + RS
    return empty.replace('""', '"' + "z" * (size - len(empty)) + '"')


@contextmanager
def tcp(lab: Lab, data: bytes) -> Iterator[socket.socket]:
    """A TCP connection on which these bytes were sent."""
    with socket.create_connection(("127.0.0.1", lab.port), LIMIT) as connection:
        connection.sendall(data)
        yield connection


def answer(connection: socket.socket) -> bytes:
    """All that the server sends until it ends the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


# -------------------------------------------------------------------------------------------- before the handshake


def test_no_handshake_in_time(start: StartLab) -> None:
    """A client that says nothing is told so and let go after the handshake timeout."""
    lab = start(LAB_HANDSHAKE="1")
    with Link(f"{lab.url}/hub").handshake() as other, Link(f"{lab.url}/hub") as link:
        begun = time.monotonic()
        assert last_words(link) == [Record('{"error":"Handshake was canceled."}')]
        assert link.closed == NORMAL
        assert 0.5 < time.monotonic() - begun < 3.5
        assert other.call("Add", 1, 2)["result"] == 3


NOT_A_HANDSHAKE = {
    "a call": ('{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}', BROKEN_HANDSHAKE),
    "a ping": ('{"type":6}', BROKEN_HANDSHAKE),
    "no version": ('{"protocol":"json"}', BROKEN_HANDSHAKE),
    "no JSON": ("Good morning", BROKEN_HANDSHAKE),
    "nothing": ("", BROKEN_HANDSHAKE),
    "null": ("null", BROKEN_HANDSHAKE),
    "unknown protocol": (
        '{"protocol":"semaphore","version":1}',
        Record('{"error":"The protocol \'semaphore\' is not supported."}'),
    ),
    "unknown version": (
        '{"protocol":"json","version":3}',
        Record('{"error":"The server does not support version 3 of the \'json\' protocol."}'),
    ),
}


@pytest.mark.parametrize(("first", "end"), NOT_A_HANDSHAKE.values(), ids=NOT_A_HANDSHAKE)
def test_first_message_is_no_handshake(lab: Lab, bystander: Link, first: str, end: Record) -> None:
    """Anything but a good handshake request gets an error and the end."""
    with Link(f"{lab.url}/hub") as link:
        link.send(first + RS)
        assert last_words(link) == [end]
        assert link.closed == NORMAL


def test_handshake_without_an_end(lab: Lab, bystander: Link) -> None:
    """A first message larger than any message may be ends at once, not when the timeout comes."""
    with Link(f"{lab.url}/hub") as link:
        link.send("{" + " " * 2 * RECEIVE_LIMIT)
        assert last_words(link) == [Record('{"error":"Handshake was canceled."}')]
        assert link.closed == NORMAL


# --------------------------------------------------------------------------------------------- after the handshake


BREAKING = {
    "broken JSON": "{" + RS,
    "JSON cut short": '{"type":1,"target":"Add","arguments":[1,2' + RS,
    "a control character": "\x00" + RS,
    "an empty record": RS,
    "an array": "[1,2,3]" + RS,
    "a string": '"text"' + RS,
    "null": "null" + RS,
    "a number": "6" + RS,
    "no type": "{}" + RS,
    "no target": '{"type":1,"arguments":[]}' + RS,
    "no arguments": '{"type":1,"target":"Add"}' + RS,
    "no item": '{"type":2,"invocationId":"1"}' + RS,
    "no id": '{"type":4,"target":"Counter","arguments":[1,0]}' + RS,
    "arguments a number": '{"type":1,"target":"Add","arguments":7}' + RS,
    "target an array": '{"type":1,"target":["Add"],"arguments":[1,2]}' + RS,
    "nested very deep": "[" * 20000 + RS,
    "33 KiB": length_call(33 * 1024),
    "one byte over the limit": length_call(RECEIVE_LIMIT + 1),
    "over the limit without an end": length_call(RECEIVE_LIMIT + 2).removesuffix(RS),
}


@pytest.mark.parametrize("message", BREAKING.values(), ids=BREAKING)
def test_message_that_breaks_the_protocol(lab: Lab, bystander: Link, message: str) -> None:
    """Broken JSON, no object, a missing or wrong member, too much: a Close with an error, then the end."""
    with Link(f"{lab.url}/hub").handshake() as link:
        link.send(message)
        assert last_words(link) == [BROKEN]
        assert link.closed == NORMAL


def test_text_that_is_not_utf8(lab: Lab, bystander: Link) -> None:
    """A text message that is no UTF-8 breaks the WebSocket; in a binary one it is read as U+FFFD."""
    message = b'{"type":1,"invocationId":"1","target":"Echo","arguments":["\xff"]}\x1e'
    with Link(f"{lab.url}/hub").handshake() as link:
        link.send(message)
        assert last_words(link) == []
        assert link.closed == Closed(1007)
    with Link(f"{lab.url}/hub").handshake() as link:
        link.send_binary(message)
        (answer,) = link.take(1)
        assert json.loads(answer.text) == {"type": 3, "invocationId": "1", "result": "\ufffd"}


def test_message_of_exactly_the_limit(lab: Lab, bystander: Link) -> None:
    """The largest message allowed is answered, and so is the next."""
    with Link(f"{lab.url}/hub").handshake() as link:
        for _ in range(2):
            link.send(length_call(RECEIVE_LIMIT))
            [completion] = link.take(1)
            assert json.loads(completion.text)["result"] > RECEIVE_LIMIT - 100


def test_binary_message_under_json(lab: Lab, bystander: Link) -> None:
    """A binary WebSocket message under JSON is read like a text message, the handshake and a call."""
    with Link(f"{lab.url}/hub") as link:
        link.send_binary(HANDSHAKE.encode())
        assert link.take(1) == [Record("{}")]
        link.send_binary(b'{"type":1,"invocationId":"1","target":"Add","arguments":[40,2]}\x1e')
        assert link.take(1) == [Record('{"type":3,"invocationId":"1","result":42}')]


# --------------------------------------------------------------------------------------------------- disappearing


@pytest.mark.parametrize("upload", [False, True], ids=["down", "both ways"])
def test_client_that_disappears_in_a_stream(lab: Lab, bystander: Link, upload: bool) -> None:
    """The connection is counted out again, and its stream is cancelled on the server."""

    def stats() -> dict[str, int]:
        counts: dict[str, int] = bystander.call("Stats")["result"]
        return counts

    poll(lambda: stats()["open"] == 1 or None, LIMIT, "the connections of other tests to be gone")
    before = stats()
    with Link(f"{lab.url}/hub").handshake() as link:
        link.send('{"type":4,"invocationId":"1","target":"Counter","arguments":[1000000,2]}' + RS)
        if upload:
            link.send('{"type":1,"invocationId":"2","target":"Upload","arguments":[],"streamIds":["s"]}' + RS)
            link.send('{"type":2,"invocationId":"s","item":"x"}' + RS)
        assert len(link.take(3)) >= 3
        assert stats()["open"] == 2
        link.reset()
    poll(lambda: stats()["open"] == 1 or None, LIMIT, "the connection to be counted out")
    poll(lambda: stats()["cancelled"] == before["cancelled"] + 1 or None, LIMIT, "the stream to be cancelled")


def test_client_that_disappears_with_calls_running(lab: Lab, bystander: Link) -> None:
    """Calls that nobody waits for any more, a message cut short, and then a reset."""
    with Link(f"{lab.url}/hub").handshake() as link:
        for call in range(12):
            link.send(f'{{"type":1,"invocationId":"{call}","target":"Slow","arguments":[1000]}}' + RS)
        link.send('{"type":1,"invoc')
        link.reset()
    poll(lambda: bystander.call("Stats")["result"]["open"] == 1 or None, LIMIT, "the connection to be counted out")


# --------------------------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"NONSENSE\r\n\r\n", b"\x1e" * 1000 + b"\r\n\r\n"],
    ids=["TLS", "text", "bytes"],
)
def test_garbage_instead_of_http(lab: Lab, bystander: Link, garbage: bytes) -> None:
    """What is no HTTP is answered with 400 and the end of the connection."""
    with tcp(lab, garbage) as connection:
        assert answer(connection).startswith(b"HTTP/1.1 400 ")


def test_header_without_an_end(lab: Lab, bystander: Link) -> None:
    """A request head that grows without an end is cut off with a client error."""
    with tcp(lab, b"GET /hub HTTP/1.1\r\nHost: x\r\n") as connection:
        try:
            for _ in range(1024):
                connection.sendall(b"X-More: " + b"m" * 1000 + b"\r\n")
        except OSError:
            pass
        assert answer(connection)[:10] in (b"HTTP/1.1 4", b"")


def test_unknown_path(lab: Lab, bystander: Link) -> None:
    """404, for a request and for an upgrade."""
    with tcp(lab, b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as connection:
        assert answer(connection).startswith(b"HTTP/1.1 404 ")
    with pytest.raises(Refused) as refused:
        Link(f"{lab.url}/nowhere")
    assert refused.value.status == 404


def test_upgrade_with_an_unknown_id(lab: Lab, bystander: Link) -> None:
    """An id that negotiation never gave out is not found."""
    with pytest.raises(Refused) as refused:
        Link(f"{lab.url}/hub?id=never-given-out")
    assert (refused.value.status, refused.value.body) == (404, "No Connection with that ID")


def test_half_requests_and_silence(lab: Lab, bystander: Link) -> None:
    """Fifty requests that stop half way leave another connection's calls as quick as they are without."""
    slowest = 0.0
    with ExitStack() as halves:
        for count in range(50):
            halves.enter_context(tcp(lab, b"GET /hub HTTP/1.1\r\nHost: x\r\nUpg"[: 10 + count % 20]))
            for i in range(4):
                begun = time.monotonic()
                assert bystander.call("Add", count, i)["result"] == count + i
                slowest = max(slowest, time.monotonic() - begun)
        with Link(f"{lab.url}/hub").handshake() as newcomer:
            assert newcomer.call("Add", 1, 1)["result"] == 2
    assert slowest < 1.0
