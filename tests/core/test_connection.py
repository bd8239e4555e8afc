"""`HubConnection` on a manual clock: bytes in, events and bytes out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from hubproto_core import (
    CancelInvocation,
    Codec,
    Completion,
    ConnectionClosed,
    Event,
    HandshakeCompleted,
    HubConfig,
    HubConnection,
    HubError,
    Invocation,
    InvocationBindingFailure,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    RemoteProtocolError,
    Role,
    Shape,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
    Transport,
    TransportError,
)
from tests.kit.wire import HANDSHAKE, HANDSHAKE_2, pack, pieces, unpack

OPENED = HandshakeCompleted(protocol="json", version=1)
PING = pack({"type": 6})
ADD = pack({"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]})
BOTH = pytest.mark.parametrize("role", Role)


def events(conn: HubConnection, now: float = 0.0) -> list[Event]:
    taken = []
    while (event := conn.next_event(now=now)) is not None:
        taken.append(event)
    return taken


def feed(conn: HubConnection, data: bytes, now: float = 0.0) -> list[Event]:
    conn.receive_data(data, now=now)
    return events(conn, now)


def sent(conn: HubConnection, now: float = 0.0) -> list[Any]:
    return unpack(conn.data_to_send(now=now))


def fresh(role: Role, **settings: Any) -> HubConnection:
    return HubConnection(role, [JsonCodec()], config=HubConfig(**settings), now=0.0)


def opened(role: Role, **settings: Any) -> HubConnection:
    conn = fresh(role, **settings)
    assert feed(conn, HANDSHAKE if role is Role.SERVER else b"{}\x1e") == [OPENED]
    conn.data_to_send(now=0.0)
    return conn


def server(**settings: Any) -> HubConnection:
    return opened(Role.SERVER, **settings)


def client(**settings: Any) -> HubConnection:
    return opened(Role.CLIENT, **settings)


def the_end(conn: HubConnection, now: float = 0.0) -> ConnectionClosed:
    """The last event, after which there is nothing to do."""
    (event,) = events(conn, now)
    assert isinstance(event, ConnectionClosed)
    assert events(conn, now) == []
    assert conn.next_timeout() is None
    assert not conn.want_read
    assert not conn.is_open
    return event


# --- handshake -------------------------------------------------------------------------------------------------------


def test_a_connection_needs_a_codec() -> None:
    with pytest.raises(ValueError, match="at least one codec"):
        HubConnection(Role.CLIENT, [], now=0.0)


def test_a_server_answers_the_handshake() -> None:
    conn = fresh(Role.SERVER)
    assert conn.role is Role.SERVER
    assert (conn.want_read, conn.is_open) == (True, False)
    assert conn.data_to_send(now=0.0) == b""
    assert feed(conn, HANDSHAKE) == [OPENED]
    assert (conn.want_read, conn.is_open) == (True, True)
    assert (conn.codec.name, conn.transfer_format) == ("json", "text")
    assert conn.data_to_send(now=0.0) == b"{}\x1e"


def test_a_client_asks_first_and_pings_at_once_when_it_is_accepted() -> None:
    conn = fresh(Role.CLIENT)
    assert conn.data_to_send(now=0.0) == HANDSHAKE
    assert feed(conn, b"{}\x1e") == [OPENED]
    assert sent(conn) == [{"type": 6}]


@BOTH
def test_messages_behind_the_handshake_are_read(role: Role) -> None:
    conn = fresh(role)
    first, *rest = feed(conn, (HANDSHAKE if role is Role.SERVER else b"{}\x1e") + ADD)
    assert first == OPENED
    assert rest == [Invocation(invocation_id="1", target="Add", arguments=(1, 2))]


@pytest.mark.parametrize(("protocol", "version"), [("JSON", 1), ("json", 0), ("Json", -5), ("json", 2)])
def test_a_server_accepts_any_case_and_any_version_up_to_its_own(protocol: str, version: int) -> None:
    conn = fresh(Role.SERVER)
    assert feed(conn, pack({"protocol": protocol, "version": version})) == [
        HandshakeCompleted(protocol="json", version=version)
    ]


class OtherCodec(JsonCodec):
    name: Any = "other"
    transfer_format: Any = "binary"


def test_the_client_chooses_among_the_server_s_codecs() -> None:
    conn = HubConnection(Role.SERVER, [JsonCodec(), OtherCodec()], now=0.0)
    assert (conn.codec.name, conn.transfer_format) == ("json", "text")
    assert feed(conn, pack({"protocol": "other", "version": 1})) == [HandshakeCompleted(protocol="other", version=1)]
    assert (conn.codec.name, conn.transfer_format) == ("other", "binary")


def test_a_client_asks_for_its_first_codec_in_text() -> None:
    conn = HubConnection(Role.CLIENT, [OtherCodec(), JsonCodec()], now=0.0)
    assert conn.transfer_format == "text"
    assert sent(conn) == [{"protocol": "other", "version": 1}]


FAILED = "An unexpected error occurred during connection handshake."


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pack({"protocol": "smoke", "version": 1}), "The protocol 'smoke' is not supported."),
        (pack({"protocol": "", "version": 1}), "The protocol '' is not supported."),
        (pack({"protocol": "JSON", "version": 3}), "The server does not support version 3 of the 'JSON' protocol."),
        (pack({"version": 1}), FAILED),
        (ADD, FAILED),
        (b"junk\x1e", FAILED),
        (b"\x1e", FAILED),
    ],
)
def test_a_server_refuses_a_bad_handshake_without_a_close_message(request_: bytes, text: str) -> None:
    conn = fresh(Role.SERVER)
    conn.receive_data(request_ + ADD, now=0.0)
    end = the_end(conn)
    assert isinstance(end.error, RemoteProtocolError)
    assert not end.allow_reconnect
    assert sent(conn) == [{"error": text}]


def test_details_of_a_bad_handshake_are_told_when_asked_for() -> None:
    conn = fresh(Role.SERVER, detailed_errors=True)
    feed(conn, b"[]\x1e")
    reason = "Unexpected JSON Token Type 'Array'. Expected a JSON Object."
    assert sent(conn) == [{"error": f"{FAILED} InvalidDataException: {reason}"}]


@pytest.mark.parametrize(
    ("response", "kind", "text"),
    [
        (b'{"error":"no"}\x1e', HubError, "Unable to complete handshake with the server due to an error: no"),
        (PING, RemoteProtocolError, "Expected a handshake response from the server."),
        (b"HTTP/1.1\x1e", RemoteProtocolError, "Error reading JSON."),
    ],
)
def test_a_client_that_is_not_accepted_ends(response: bytes, kind: type[Exception], text: str) -> None:
    conn = fresh(Role.CLIENT)
    conn.data_to_send(now=0.0)
    conn.receive_data(response, now=0.0)
    end = the_end(conn)
    assert (type(end.error), str(end.error)) == (kind, text)
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_a_handshake_may_come_byte_by_byte(role: Role) -> None:
    conn = fresh(role)
    taken = []
    for byte in pieces(HANDSHAKE if role is Role.SERVER else b"{}\x1e", 1):
        assert conn.want_read
        taken += feed(conn, byte)
    assert taken == [OPENED]


@pytest.mark.parametrize(("limit", "accepted"), [(len(HANDSHAKE), True), (len(HANDSHAKE) - 1, False)])
def test_a_handshake_has_the_limit_of_messages(limit: int, accepted: bool) -> None:
    conn = fresh(Role.SERVER, max_message_size=limit)
    taken = feed(conn, HANDSHAKE)
    if accepted:
        assert taken == [OPENED]
    else:
        assert isinstance(taken[0], ConnectionClosed)
        assert sent(conn) == [{"error": "Handshake was canceled."}]


def test_a_client_refuses_an_endless_handshake_silently() -> None:
    conn = fresh(Role.CLIENT, max_message_size=10)
    conn.data_to_send(now=0.0)
    conn.receive_data(b"x" * 11, now=0.0)
    assert isinstance(the_end(conn).error, RemoteProtocolError)
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_a_handshake_that_does_not_come_is_given_up(role: Role) -> None:
    conn = fresh(role, handshake_timeout=7.0, keep_alive_interval=100.0)
    conn.data_to_send(now=0.0)
    feed(conn, b'{"proto')
    assert conn.next_timeout() == 7.0
    conn.handle_timeout(now=6.9)
    assert events(conn) == []
    conn.handle_timeout(now=7.0)
    end = the_end(conn, 7.0)
    assert isinstance(end.error, TransportError)
    assert str(end.error) == "no handshake within 7 s"
    assert sent(conn) == ([{"error": "Handshake was canceled."}] if role is Role.SERVER else [])


def test_a_client_that_leaves_before_the_handshake_is_no_error() -> None:
    conn = fresh(Role.SERVER)
    feed(conn, b'{"proto')
    conn.receive_eof(now=0.0)
    assert the_end(conn) == ConnectionClosed()
    assert conn.data_to_send(now=0.0) == b""


@pytest.mark.parametrize("role", Role)
def test_a_transport_that_breaks_before_the_handshake_is_an_error(role: Role) -> None:
    conn = fresh(role)
    broken = TransportError("reset")
    conn.receive_eof(broken, now=0.0)
    assert the_end(conn).error is broken


def test_a_server_that_leaves_before_the_handshake_is_an_error() -> None:
    conn = fresh(Role.CLIENT)
    conn.receive_eof(now=0.0)
    error = the_end(conn).error
    assert isinstance(error, TransportError)
    assert str(error) == "The server disconnected before sending a handshake response"


# --- incoming messages -----------------------------------------------------------------------------------------------


def test_a_server_sees_calls_uploads_and_cancellations() -> None:
    conn = server()
    assert feed(
        conn,
        pack(
            {"type": 1, "target": "Log", "arguments": ["x"]},
            {"type": 4, "invocationId": "1", "target": "Count", "arguments": [5]},
            {"type": 5, "invocationId": "1"},
            {"type": 1, "invocationId": "2", "target": "Up", "arguments": [], "streamIds": ["3"]},
            {"type": 2, "invocationId": "3", "item": 7},
            {"type": 3, "invocationId": "3", "error": "broke"},
        ),
    ) == [
        Invocation(target="Log", arguments=("x",)),
        StreamInvocation(invocation_id="1", target="Count", arguments=(5,)),
        CancelInvocation(invocation_id="1"),
        Invocation(invocation_id="2", target="Up", arguments=(), stream_ids=("3",)),
        StreamItem(invocation_id="3", item=7),
        Completion(invocation_id="3", error="broke"),
    ]


def test_a_client_sees_calls_items_and_completions() -> None:
    conn = client()
    call, stream = conn.invoke("Add", [1, 2]), conn.stream("Count", [1])
    assert (call, stream) == ("1", "2")
    assert feed(
        conn,
        pack(
            {"type": 1, "target": "changed", "arguments": []},
            {"type": 2, "invocationId": stream, "item": 0},
            {"type": 3, "invocationId": call, "result": 3},
            {"type": 3, "invocationId": stream},
        ),
    ) == [
        Invocation(target="changed", arguments=()),
        StreamItem(invocation_id=stream, item=0),
        Completion(invocation_id=call, result=3),
        Completion(invocation_id=stream),
    ]


ITEM = {"type": 2, "invocationId": "9", "item": 1}
END = {"type": 3, "invocationId": "9"}


@pytest.mark.parametrize(
    "message",
    [
        {"type": 6},
        {"type": 8, "sequenceId": 1},
        {"type": 9, "sequenceId": 1},
        {"type": 10, "anything": {}},
        {"type": -7},
        {"type": 5, "invocationId": "9"},
        ITEM,
        END,
        {"type": 3, "invocationId": "s9", "result": 5},
    ],
)
@BOTH
def test_what_means_nothing_is_skipped_and_what_follows_is_seen_at_once(role: Role, message: dict[str, Any]) -> None:
    conn = opened(role)
    assert feed(conn, pack(message) + ADD) == [Invocation(invocation_id="1", target="Add", arguments=(1, 2))]
    assert conn.is_open
    assert conn.data_to_send(now=0.0) == b""


def test_nothing_follows_the_end_of_an_upload() -> None:
    conn = server()
    feed(conn, pack({"type": 1, "invocationId": "1", "target": "Up", "arguments": [], "streamIds": ["9"]}))
    assert len(feed(conn, pack(ITEM, END, ITEM, END))) == 2


def test_nothing_follows_the_end_of_a_call() -> None:
    conn = client()
    stream = conn.stream("Count")
    item = {"type": 2, "invocationId": stream, "item": 1}
    end = {"type": 3, "invocationId": stream}
    assert len(feed(conn, pack(item, end, item, end))) == 2


def test_a_plain_call_of_ours_gets_no_items() -> None:
    conn = client()
    call = conn.invoke("Add")
    assert feed(conn, pack({"type": 2, "invocationId": call, "item": 1})) == []


def test_uploads_of_a_completed_call_are_dropped() -> None:
    conn = server()
    feed(conn, pack({"type": 1, "invocationId": "1", "target": "Up", "arguments": [], "streamIds": ["9"]}))
    conn.complete("1", None)
    assert feed(conn, pack(ITEM, END)) == []


def test_a_later_upload_takes_over_an_id_from_a_call_that_completes() -> None:
    conn = server()
    for call in ("1", "2"):
        feed(conn, pack({"type": 1, "invocationId": call, "target": "Up", "arguments": [], "streamIds": ["9"]}))
    conn.complete("1", None)
    assert feed(conn, pack(ITEM)) == [StreamItem(invocation_id="9", item=1)]


def test_uploads_that_nobody_reads_can_be_ignored() -> None:
    conn = server()
    feed(conn, pack({"type": 1, "target": "Up", "arguments": [], "streamIds": ["9"]}))
    conn.ignore_stream("9")
    assert feed(conn, pack(ITEM, END)) == []


def test_an_id_may_be_used_again_after_its_completion() -> None:
    conn = server()
    for _ in range(2):
        assert len(feed(conn, ADD)) == 1
        conn.complete("1", 3)
    assert sent(conn) == [{"type": 3, "invocationId": "1", "result": 3}] * 2


def test_calls_at_the_same_time_may_have_one_id() -> None:
    conn = server()
    feed(conn, ADD + pack({"type": 4, "invocationId": "1", "target": "Count", "arguments": []}))
    conn.complete("1", 3)
    conn.send_item("1", 0)
    conn.complete("1")
    assert len(sent(conn)) == 3
    with pytest.raises(LocalProtocolError):
        conn.complete("1")


class Typed:
    def arguments_shape(self, target: str) -> Shape:
        if target != "Add":
            raise HubError("Method does not exist.")
        return Shape.of_arguments((int, int))

    def item_shape(self, stream_id: str) -> Shape:
        return Shape(int)

    def result_shape(self, invocation_id: str) -> Shape:
        return Shape(int)


def typed(role: Role) -> HubConnection:
    conn = HubConnection(role, [JsonCodec()], binder=Typed(), now=0.0)
    feed(conn, HANDSHAKE if role is Role.SERVER else b"{}\x1e")
    conn.data_to_send(now=0.0)
    return conn


def test_calls_that_do_not_bind_can_be_completed() -> None:
    conn = typed(Role.SERVER)
    call = {"type": 1, "invocationId": "1", "target": "Add", "arguments": ["x"]}
    (failure,) = feed(conn, pack(call))
    assert isinstance(failure, InvocationBindingFailure)
    conn.complete("1", error="no")
    assert sent(conn) == [{"type": 3, "invocationId": "1", "error": "no"}]
    (failure,) = feed(conn, pack({"type": 1, "target": "Nowhere", "arguments": []}))
    assert isinstance(failure, InvocationBindingFailure)
    assert failure.invocation_id is None


def test_items_that_do_not_bind_are_seen_where_their_stream_is_open() -> None:
    bad = {"type": 2, "item": "x"}
    upload = typed(Role.SERVER)
    assert feed(upload, pack({**bad, "invocationId": "9"})) == []
    feed(upload, pack({"type": 1, "target": "Add", "arguments": [1, 2], "streamIds": ["9"]}))
    (failure,) = feed(upload, pack({**bad, "invocationId": "9"}))
    assert isinstance(failure, StreamBindingFailure)

    download = typed(Role.CLIENT)
    assert feed(download, pack({**bad, "invocationId": "1"})) == []
    stream = download.stream("Count")
    (failure,) = feed(download, pack({**bad, "invocationId": stream}))
    assert isinstance(failure, StreamBindingFailure)


def test_reading_is_unwelcome_until_every_event_has_been_taken() -> None:
    conn = server()
    conn.receive_data(ADD + ADD, now=0.0)
    assert not conn.want_read
    conn.next_event(now=0.0)
    conn.next_event(now=0.0)
    assert not conn.want_read
    assert conn.next_event(now=0.0) is None
    assert conn.want_read


# --- limits and violations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("spare", "accepted"), [(0, True), (1, False)])
def test_a_message_may_be_as_large_as_the_limit(size: int, spare: int, accepted: bool) -> None:
    conn = server(max_message_size=100)
    empty = pack({"type": 1, "target": "", "arguments": []})
    record = pack({"type": 1, "target": "x" * (100 - len(empty) + spare), "arguments": []})
    assert len(record) == 100 + spare
    taken = []
    for piece in pieces(ADD + record, size):
        taken += feed(conn, piece)
    assert len(taken) == 2
    if accepted:
        assert isinstance(taken[1], Invocation)
        return
    (end,) = taken[1:]
    assert isinstance(end, ConnectionClosed)
    assert str(end.error) == (
        "The maximum message size of 100B was exceeded. The message size can be configured in AddHubOptions."
    )


@pytest.mark.parametrize("data", [b"{\x1e", b'{"type":1}\x1e', b"x" * 101])
def test_the_error_of_a_connection_does_not_keep_what_was_received(data: bytes) -> None:
    conn = server(max_message_size=100)
    (end,) = feed(conn, data)
    assert isinstance(end, ConnectionClosed)
    seen: BaseException | None = end.error
    assert seen is not None
    while seen is not None:
        assert seen.__traceback__ is None
        seen = seen.__cause__ or seen.__context__


def test_many_messages_together_may_be_larger_than_the_limit() -> None:
    conn = server(max_message_size=len(ADD))
    assert len(feed(conn, ADD * 50)) == 50


@pytest.mark.parametrize(
    "settings",
    [
        {"max_handshake_size": len(HANDSHAKE) - 1},
        {"max_handshake_size": len(HANDSHAKE) - 1, "max_message_size": None},
        {"max_handshake_size": 1000, "max_message_size": len(HANDSHAKE) - 1},
    ],
)
def test_the_smaller_limit_holds_for_a_handshake(settings: dict[str, Any]) -> None:
    conn = fresh(Role.SERVER, **settings)
    conn.receive_data(HANDSHAKE, now=0.0)
    assert isinstance(the_end(conn).error, RemoteProtocolError)
    assert sent(conn) == [{"error": "Handshake was canceled."}]


def test_a_handshake_of_just_its_limit_is_accepted() -> None:
    assert feed(fresh(Role.SERVER, max_handshake_size=len(HANDSHAKE)), HANDSHAKE) == [OPENED]
    assert feed(fresh(Role.CLIENT, max_handshake_size=3), b"{}\x1e") == [OPENED]


LIMITED: dict[str, Any] = {
    "max_arguments": 2,
    "max_headers": 2,
    "max_header_size": 10,
    "max_id_length": 4,
    "max_open_calls": 2,
    "max_open_streams": 2,
}


def invocation(id_: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if id_ is None else {"invocationId": id_}
    return {"type": 1, **named, "target": "Add", "arguments": [], **more}


@pytest.mark.parametrize(
    "message",
    [
        invocation(arguments=[1, 2]),
        invocation("1234"),
        invocation("1", streamIds=["1234", "5678"]),
        invocation(headers={"1": "2345", "6": "789a"}),
        invocation(headers={"\u00e9": "12345678"}),
        {"type": 4, "invocationId": "1234", "target": "Add", "arguments": [1, 2], "headers": {"": "1234567890"}},
    ],
)
def test_calls_at_the_limits_are_accepted(message: dict[str, Any]) -> None:
    conn = server(**LIMITED)
    (event,) = feed(conn, pack(message))
    assert isinstance(event, Invocation | StreamInvocation)


LONG = "12345"
WIDE = {"a": "1", "b": "2", "c": "3"}
BIG = {"\u00e9": "123456789"}
TOO_LONG = "An id is longer than 4 characters."
TOO_WIDE = "A message has more than 2 headers."
TOO_BIG = "The headers of a message are larger than 10B."


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (invocation(LONG), TOO_LONG),
        (invocation(LONG, arguments=[1, 2, 3]), TOO_LONG),
        (invocation("1", streamIds=["1", LONG]), TOO_LONG),
        ({"type": 4, "invocationId": LONG, "target": "Add", "arguments": []}, TOO_LONG),
        ({"type": 2, "invocationId": LONG, "item": 1}, TOO_LONG),
        ({"type": 3, "invocationId": LONG}, TOO_LONG),
        ({"type": 5, "invocationId": LONG}, TOO_LONG),
        (invocation(headers=WIDE), TOO_WIDE),
        (invocation(headers=BIG), TOO_BIG),
        ({"type": 4, "invocationId": "1", "target": "Add", "arguments": [], "headers": WIDE}, TOO_WIDE),
        ({"type": 2, "invocationId": "1", "item": 1, "headers": WIDE}, TOO_WIDE),
        ({"type": 3, "invocationId": "1", "headers": BIG}, TOO_BIG),
        ({"type": 5, "invocationId": "1", "headers": WIDE}, TOO_WIDE),
    ],
)
@BOTH
def test_ids_and_headers_beyond_the_limits_end_the_connection(role: Role, message: dict[str, Any], text: str) -> None:
    conn = opened(role, **LIMITED)
    conn.receive_data(pack(message, invocation()), now=0.0)
    end = the_end(conn)
    assert isinstance(end.error, RemoteProtocolError)
    assert str(end.error) == text
    assert end.allow_reconnect
    close = {"type": 7, "error": CLOSED, "allowReconnect": True}
    assert sent(conn) == ([close] if role is Role.SERVER else [])


def test_long_ids_of_items_that_do_not_bind_end_the_connection_too() -> None:
    class Unbound(Typed):
        def item_shape(self, stream_id: str) -> Shape:
            raise HubError("no such stream")

    conn = HubConnection(Role.SERVER, [JsonCodec()], binder=Unbound(), config=HubConfig(**LIMITED), now=0.0)
    feed(conn, HANDSHAKE)
    assert feed(conn, pack({"type": 2, "invocationId": "1234", "item": 1})) == []
    conn.receive_data(pack({"type": 2, "invocationId": LONG, "item": 1}), now=0.0)
    assert str(the_end(conn).error) == TOO_LONG


@pytest.mark.parametrize("kind", [1, 4])
def test_a_call_with_too_many_arguments_fails_and_the_connection_lives(kind: int) -> None:
    conn = server(**LIMITED)
    call = {"type": kind, "invocationId": "1", "target": "Add", "arguments": [1, 2, 3], "streamIds": ["7"]}
    (failure,) = feed(conn, pack(call))
    assert isinstance(failure, InvocationBindingFailure)
    assert (failure.invocation_id, failure.target) == ("1", "Add")
    assert str(failure.error) == "Invocation provides 3 argument(s) but at most 2 are accepted."
    assert feed(conn, pack({"type": 2, "invocationId": "7", "item": 1})) == []
    conn.complete("1", error="too many")
    assert len(feed(conn, pack(invocation("2")))) == 1


@BOTH
def test_a_call_beyond_the_open_ones_is_answered_with_an_error(role: Role) -> None:
    conn = opened(role, **LIMITED)
    stream = {"type": 4, "invocationId": "1", "target": "Add", "arguments": []}
    assert len(feed(conn, pack(stream, invocation("1"), invocation(), invocation()))) == 4
    assert feed(conn, pack(invocation("3", streamIds=["9"]), {**stream, "invocationId": "4"})) == []
    text = "Failed to invoke 'Add': at most 2 calls may be open on a connection."
    assert sent(conn) == [{"type": 3, "invocationId": id_, "error": text} for id_ in ("3", "4")]
    assert feed(conn, pack({"type": 2, "invocationId": "9", "item": 1})) == []
    conn.complete("1")
    assert len(feed(conn, pack(invocation("3")))) == 1
    assert len(sent(conn)) == 1


def test_a_call_that_does_not_bind_is_an_open_call_too() -> None:
    conn = HubConnection(Role.SERVER, [JsonCodec()], binder=Typed(), config=HubConfig(max_open_calls=1), now=0.0)
    feed(conn, HANDSHAKE)
    assert len(feed(conn, pack(invocation("1")))) == 1
    assert feed(conn, pack(invocation("2"))) == []
    assert sent(conn)[1:] == [
        {
            "type": 3,
            "invocationId": "2",
            "error": "Failed to invoke 'Add': at most 1 calls may be open on a connection.",
        }
    ]


def test_a_call_that_announces_too_many_uploads_is_answered_with_an_error() -> None:
    conn = server(**LIMITED)
    assert feed(conn, pack(invocation("1", streamIds=["7", "8", "9"]))) == []
    text = "Failed to invoke 'Add': at most 2 streams may be open on a connection."
    assert sent(conn) == [{"type": 3, "invocationId": "1", "error": text}]
    assert len(feed(conn, pack(invocation("1", streamIds=["7"]), invocation(streamIds=["8"])))) == 2
    assert feed(conn, pack(invocation(streamIds=["9"]), {"type": 2, "invocationId": "9", "item": 1})) == []
    assert conn.data_to_send(now=0.0) == b""
    feed(conn, pack({"type": 3, "invocationId": "7"}))
    assert len(feed(conn, pack(invocation("2", streamIds=["9"]), {"type": 2, "invocationId": "9", "item": 1}))) == 2


CLOSED = "Connection closed with an error."


@pytest.mark.parametrize(
    ("record", "details"),
    [
        (b"hello\x1e", "InvalidDataException: Error reading JSON."),
        (b"\x1e", "InvalidDataException: Error reading JSON."),
        (b'{"type":1,"target":"Add"}\x1e', "InvalidDataException: Missing required property 'arguments'."),
        (
            b'{"type":2.5}\x1e',
            "FormatException: Either the JSON value is not in a supported format, or is out of bounds for an Int32.",
        ),
    ],
)
@pytest.mark.parametrize("detailed", [False, True])
def test_a_server_closes_with_an_error_when_the_client_breaks_the_protocol(
    record: bytes, details: str, detailed: bool
) -> None:
    conn = server(detailed_errors=detailed)
    conn.receive_data(record + ADD, now=0.0)
    end = the_end(conn)
    assert isinstance(end.error, RemoteProtocolError)
    assert end.allow_reconnect
    text = f"{CLOSED} {details}" if detailed else CLOSED
    assert sent(conn) == [{"type": 7, "error": text, "allowReconnect": True}]


def test_a_client_just_ends_when_the_server_breaks_the_protocol() -> None:
    conn = client()
    conn.receive_data(b"hello\x1e", now=0.0)
    end = the_end(conn)
    assert isinstance(end.error, RemoteProtocolError)
    assert end.allow_reconnect
    assert conn.data_to_send(now=0.0) == b""


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": 7}, None),
        ({"type": 7, "error": "bye", "allowReconnect": True}, "bye"),
        ({"type": 7, "error": ""}, None),
    ],
)
def test_a_server_answers_close_with_close(message: dict[str, Any], error: str | None) -> None:
    conn = server()
    conn.receive_data(pack(message) + ADD, now=0.0)
    end = the_end(conn)
    assert (str(end.error) if end.error else None) == error
    assert end.error is None or isinstance(end.error, HubError)
    assert not end.allow_reconnect
    assert sent(conn) == [{"type": 7}]


@pytest.mark.parametrize(
    ("message", "error", "again"),
    [
        ({"type": 7}, None, False),
        ({"type": 7, "allowReconnect": True}, None, True),
        ({"type": 7, "error": "bye"}, "The server closed the connection with the following error: bye", False),
    ],
)
def test_a_client_is_told_why_the_server_closed(message: dict[str, Any], error: str | None, again: bool) -> None:
    conn = client()
    conn.receive_data(pack(message), now=0.0)
    end = the_end(conn)
    assert (str(end.error) if end.error else None, end.allow_reconnect) == (error, again)
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_closing_says_farewell_and_is_the_end(role: Role) -> None:
    conn = opened(role)
    conn.receive_data(ADD, now=0.0)
    conn.close("done", allow_reconnect=True)
    assert the_end(conn) == ConnectionClosed(allow_reconnect=True)
    assert sent(conn) == [{"type": 7, "error": "done", "allowReconnect": True}]
    conn.close()
    assert events(conn) == []
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_closing_before_the_handshake_just_ends(role: Role) -> None:
    conn = fresh(role)
    conn.data_to_send(now=0.0)
    conn.close()
    assert the_end(conn) == ConnectionClosed()
    assert conn.data_to_send(now=0.0) == b""


def test_after_the_end_nothing_happens() -> None:
    conn = server()
    conn.close()
    events(conn)
    conn.data_to_send(now=0.0)
    assert feed(conn, ADD) == []
    conn.receive_eof(now=0.0)
    conn.receive_eof(TransportError("late"), now=0.0)
    conn.handle_timeout(now=1e6)
    assert events(conn) == []
    assert conn.data_to_send(now=0.0) == b""


def test_a_client_that_stops_sending_is_told_goodbye() -> None:
    conn = server()
    conn.receive_eof(now=0.0)
    assert the_end(conn) == ConnectionClosed(allow_reconnect=True)
    assert sent(conn) == [{"type": 7, "allowReconnect": True}]


def test_a_server_that_stops_sending_may_be_back() -> None:
    conn = client()
    conn.receive_eof(now=0.0)
    assert the_end(conn) == ConnectionClosed(allow_reconnect=True)
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_half_a_message_at_the_end_is_an_error(role: Role) -> None:
    conn = opened(role)
    feed(conn, ADD[:-1])
    conn.receive_eof(now=0.0)
    assert str(the_end(conn).error) == "Connection terminated while reading a message."


@BOTH
def test_a_broken_transport_is_an_error(role: Role) -> None:
    conn = opened(role)
    broken = TransportError("reset")
    conn.receive_eof(broken, now=0.0)
    assert the_end(conn) == ConnectionClosed(error=broken, allow_reconnect=True)
    assert len(sent(conn)) == (1 if role is Role.SERVER else 0)


def test_messages_that_have_not_been_looked_at_are_no_half_message_at_the_end() -> None:
    conn = server()
    conn.receive_data(ADD + ADD, now=0.0)
    conn.receive_eof(now=0.0)
    conn.receive_data(ADD, now=0.0)
    call = Invocation(invocation_id="1", target="Add", arguments=(1, 2))
    assert events(conn) == [call, call, ConnectionClosed(allow_reconnect=True)]


def test_a_broken_transport_is_the_end_whatever_has_not_been_looked_at() -> None:
    conn = server()
    conn.receive_data(ADD + ADD, now=0.0)
    conn.receive_eof(TransportError("reset"), now=0.0)
    assert isinstance(the_end(conn).error, TransportError)


# --- timers ----------------------------------------------------------------------------------------------------------


def test_a_server_pings_at_its_interval_whatever_else_it_sends() -> None:
    conn = server(keep_alive_interval=10.0)
    assert conn.next_timeout() == 10.0
    conn.send("news")
    conn.data_to_send(now=9.0)
    conn.handle_timeout(now=10.0)
    assert sent(conn, 10.0) == [{"type": 6}]
    assert conn.next_timeout() == 20.0


def test_a_server_does_not_ping_before_the_handshake() -> None:
    conn = fresh(Role.SERVER, keep_alive_interval=2.0)
    conn.handle_timeout(now=2.0)
    assert conn.data_to_send(now=2.0) == b""
    assert conn.next_timeout() == 4.0


def test_a_client_pings_when_it_has_sent_nothing_for_the_interval() -> None:
    conn = client(keep_alive_interval=10.0)
    conn.send("news")
    conn.data_to_send(now=9.0)
    conn.handle_timeout(now=10.0)
    assert conn.data_to_send(now=10.0) == b""
    conn.handle_timeout(now=19.0)
    assert sent(conn, 19.0) == [{"type": 6}]
    assert conn.next_timeout() == 29.0


def test_a_client_that_never_pings_is_never_held_to_be_silent() -> None:
    conn = server(silence_timeout=5.0, keep_alive_interval=100.0)
    feed(conn, ADD)
    conn.handle_timeout(now=50.0)
    assert conn.is_open


def test_a_silent_client_is_told_and_given_up() -> None:
    conn = server(silence_timeout=5.0, keep_alive_interval=100.0, detailed_errors=True)
    feed(conn, PING, now=1.0)
    assert conn.next_timeout() == 6.0
    feed(conn, ADD, now=4.0)
    assert conn.next_timeout() == 9.0
    conn.handle_timeout(now=8.9)
    assert conn.is_open
    conn.handle_timeout(now=9.0)
    end = the_end(conn, 9.0)
    reason = "Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
    assert isinstance(end.error, TransportError)
    assert str(end.error) == reason
    assert end.allow_reconnect
    text = f"{CLOSED} OperationCanceledException: {reason}"
    assert sent(conn) == [{"type": 7, "error": text, "allowReconnect": True}]


@BOTH
def test_where_polls_show_life_nobody_pings_and_nobody_is_silent(role: Role) -> None:
    conn = HubConnection(role, [JsonCodec()], transport=Transport.LONG_POLLING, now=0.0)
    assert conn.next_timeout() == 15.0  # the handshake's
    assert feed(conn, HANDSHAKE if role is Role.SERVER else b"{}\x1e") == [OPENED]
    conn.data_to_send(now=0.0)
    assert feed(conn, PING) == []
    assert (conn.data_to_send(now=0.0), conn.next_timeout()) == (b"", None)


def test_a_silent_server_is_given_up() -> None:
    conn = client(silence_timeout=1.5, keep_alive_interval=100.0)
    assert conn.next_timeout() == 1.5
    feed(conn, PING, now=1.0)
    assert conn.next_timeout() == 2.5
    conn.handle_timeout(now=2.5)
    end = the_end(conn, 2.5)
    assert isinstance(end.error, TransportError)
    assert str(end.error) == "Server timeout (1500.00ms) elapsed without receiving a message from the server."
    assert end.allow_reconnect
    assert conn.data_to_send(now=2.5) == b""


def test_half_a_message_is_no_sign_of_life() -> None:
    conn = client(silence_timeout=5.0, keep_alive_interval=100.0)
    feed(conn, b'{"type"', now=4.0)
    assert conn.next_timeout() == 5.0


def test_unknown_messages_are_a_sign_of_life() -> None:
    conn = client(silence_timeout=5.0, keep_alive_interval=100.0)
    feed(conn, pack({"type": 99}), now=4.0)
    assert conn.next_timeout() == 9.0


def test_nobody_is_silent_while_events_have_not_been_taken() -> None:
    conn = client(silence_timeout=5.0, keep_alive_interval=100.0)
    conn.receive_data(ADD + ADD, now=4.0)
    conn.next_event(now=4.0)
    conn.handle_timeout(now=50.0)
    assert conn.is_open
    events(conn, 60.0)
    assert conn.next_timeout() == 65.0


def test_nobody_is_silent_whose_bytes_have_not_been_looked_at() -> None:
    conn = client(silence_timeout=5.0, keep_alive_interval=100.0)
    conn.receive_data(ADD, now=4.0)
    conn.handle_timeout(now=5.0)
    assert conn.is_open
    assert len(events(conn, 6.0)) == 1
    assert conn.next_timeout() == 11.0


def test_several_deadlines_may_pass_at_once() -> None:
    conn = client(silence_timeout=5.0, keep_alive_interval=5.0)
    conn.handle_timeout(now=60.0)
    assert isinstance(the_end(conn, 60.0).error, TransportError)


@BOTH
def test_early_and_spurious_calls_change_nothing(role: Role) -> None:
    conn = opened(role)
    deadline = conn.next_timeout()
    conn.receive_data(b"", now=0.0)
    conn.handle_timeout(now=1.0)
    assert conn.data_to_send(now=1.0) == b""
    assert events(conn, 1.0) == []
    assert conn.next_timeout() == deadline
    assert conn.want_read


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_client_calls_uploads_and_cancels() -> None:
    conn = client()
    conn.send("Log", ["x"])
    upload = conn.new_stream_id()
    call = conn.invoke("Up", stream_ids=[upload])
    conn.send_item(upload, 5)
    conn.complete(upload)
    stream = conn.stream("Count", [3])
    conn.cancel(stream)
    assert sent(conn) == [
        {"type": 1, "target": "Log", "arguments": ["x"]},
        {"type": 1, "invocationId": call, "target": "Up", "arguments": [], "streamIds": [upload]},
        {"type": 2, "invocationId": upload, "item": 5},
        {"type": 3, "invocationId": upload},
        {"type": 4, "invocationId": stream, "target": "Count", "arguments": [3]},
        {"type": 5, "invocationId": stream},
    ]
    assert (upload, call, stream) == ("1", "2", "3")


def test_uploads_may_fail_and_go_with_streams_and_sends() -> None:
    conn = client()
    first, second = conn.new_stream_id(), conn.new_stream_id()
    conn.send("Up", stream_ids=[first])
    conn.stream("Both", stream_ids=[second])
    conn.complete(second, error="broke")
    assert sent(conn)[-1] == {"type": 3, "invocationId": second, "error": "broke"}


def test_a_cancelled_call_is_heard_of_no_more() -> None:
    conn = client()
    call, stream = conn.invoke("Slow"), conn.stream("Count")
    conn.cancel(call)
    conn.cancel(stream)
    late = [{"type": 2, "invocationId": stream, "item": 1}, {"type": 3, "invocationId": stream}]
    assert feed(conn, pack({"type": 3, "invocationId": call, "result": 1}, *late)) == []


def test_a_server_calls_with_ids_of_its_own_and_only_stops_waiting() -> None:
    conn = server()
    call = conn.invoke("Ask", ["name"])
    assert call == "s1"
    assert sent(conn) == [{"type": 1, "invocationId": "s1", "target": "Ask", "arguments": ["name"]}]
    conn.cancel(call)
    assert conn.data_to_send(now=0.0) == b""
    assert feed(conn, pack({"type": 3, "invocationId": "s1", "result": 1})) == []
    again = conn.invoke("Ask")
    assert feed(conn, pack({"type": 3, "invocationId": again, "result": 2})) == [
        Completion(invocation_id=again, result=2)
    ]


def test_a_server_streams_and_completes() -> None:
    conn = server()
    feed(conn, pack({"type": 4, "invocationId": "1", "target": "Count", "arguments": []}))
    conn.send_item("1", 0)
    conn.send_item("1", None)
    conn.complete("1", error="broke")
    assert sent(conn) == [
        {"type": 2, "invocationId": "1", "item": 0},
        {"type": 2, "invocationId": "1", "item": None},
        {"type": 3, "invocationId": "1", "error": "broke"},
    ]


@pytest.mark.parametrize(("result", "members"), [(UNSET, {}), (None, {"result": None}), (5, {"result": 5})])
def test_no_result_is_not_a_null_result(result: Any, members: dict[str, Any]) -> None:
    conn = server()
    feed(conn, ADD)
    conn.complete("1", result)
    assert sent(conn) == [{"type": 3, "invocationId": "1", **members}]


def test_what_is_sent_at_one_time_leaves_as_one_piece_in_order() -> None:
    conn = server()
    conn.send("a")
    conn.send("b")
    conn.send_encoded(JsonCodec().encode(Invocation(target="c", arguments=[])))
    size = conn.unsent
    data = conn.data_to_send(now=0.0)
    assert len(data) == size
    assert [message["target"] for message in unpack(data)] == ["a", "b", "c"]
    assert conn.unsent == 0
    assert conn.data_to_send(now=0.0) == b""


Command = Callable[[HubConnection], object]
COMMANDS: dict[str, Command] = {
    "send": lambda conn: conn.send("x"),
    "invoke": lambda conn: conn.invoke("x"),
    "stream": lambda conn: conn.stream("x"),
    "cancel": lambda conn: conn.cancel("1"),
    "new_stream_id": lambda conn: conn.new_stream_id(),
    "send_item": lambda conn: conn.send_item("1", 1),
    "complete": lambda conn: conn.complete("1"),
    "send_encoded": lambda conn: conn.send_encoded(PING),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@BOTH
def test_nothing_can_be_sent_before_the_handshake_or_after_the_end(role: Role, command: Command) -> None:
    conn = fresh(role)
    conn.data_to_send(now=0.0)
    with pytest.raises(LocalProtocolError, match="the handshake is not done yet"):
        command(conn)
    conn.close()
    with pytest.raises(LocalProtocolError, match="the connection is closed"):
        command(conn)
    assert conn.data_to_send(now=0.0) == b""


BROKEN_RULES: dict[str, tuple[Role, Command]] = {
    "stream from a server": (Role.SERVER, lambda conn: conn.stream("x")),
    "upload from a server": (Role.SERVER, lambda conn: conn.new_stream_id()),
    "cancel of an unknown call": (Role.CLIENT, lambda conn: conn.cancel("9")),
    "cancel of a cancelled call": (Role.CLIENT, lambda conn: conn.cancel("2")),
    "item of an unknown stream": (Role.CLIENT, lambda conn: conn.send_item("9", 1)),
    "item of a plain call": (Role.SERVER, lambda conn: conn.send_item("1", 1)),
    "item of an upload before its call": (Role.CLIENT, lambda conn: conn.send_item("3", 1)),
    "completion of an unknown call": (Role.SERVER, lambda conn: conn.complete("9")),
    "completion of an upload before its call": (Role.CLIENT, lambda conn: conn.complete("3")),
    "result and error": (Role.SERVER, lambda conn: conn.complete("1", 1, error="no")),
    "stream id that was not reserved": (Role.CLIENT, lambda conn: conn.send("x", stream_ids=["3", "9"])),
    "argument that is no JSON": (Role.CLIENT, lambda conn: conn.invoke("x", [object()])),
    "argument of a stream that is no JSON": (Role.CLIENT, lambda conn: conn.stream("x", [{1j}], stream_ids=["3"])),
    "item that is no JSON": (Role.SERVER, lambda conn: conn.send_item("5", object())),
    "result that is no JSON": (Role.SERVER, lambda conn: conn.complete("1", object())),
}


@pytest.mark.parametrize(("role", "command"), BROKEN_RULES.values(), ids=BROKEN_RULES.keys())
def test_a_broken_rule_changes_nothing(role: Role, command: Command) -> None:
    conn = opened(role)
    if role is Role.SERVER:
        feed(conn, ADD + pack({"type": 4, "invocationId": "5", "target": "Count", "arguments": []}))
    else:
        conn.invoke("Slow")
        conn.cancel(conn.invoke("Slow"))
        assert conn.new_stream_id() == "3"
    conn.data_to_send(now=0.0)
    with pytest.raises(LocalProtocolError):
        command(conn)
    assert conn.is_open
    assert conn.unsent == 0
    if role is Role.SERVER:
        conn.send_item("5", 1)
        conn.complete("1", 3)
        conn.complete("5")
        assert len(sent(conn)) == 3
    else:
        conn.send("Up", stream_ids=["3"])
        conn.send_item("3", 1)
        conn.cancel("1")
        assert len(sent(conn)) == 3


# --- stateful reconnect ----------------------------------------------------------------------------------------------

LOST = TransportError("reset")
NOTHING = {"type": 3, "invocationId": "-"}


def stateful(role: Role, **settings: Any) -> HubConnection:
    """A connection that may be resumed. Timers other than the one that is tested are far away."""
    far = {"keep_alive_interval": 1e6, "silence_timeout": 1e6, **settings}
    conn = HubConnection(role, [JsonCodec()], config=HubConfig(**far), stateful=True, now=0.0)
    completed = HandshakeCompleted(protocol="json", version=2)
    assert feed(conn, HANDSHAKE_2 if role is Role.SERVER else b"{}\x1e") == [completed]
    conn.data_to_send(now=0.0)
    return conn


def facts(conn: HubConnection) -> list[str]:
    """Which of these are true."""
    return [name for name in ("stateful", "is_lost", "waits_for_ack", "want_read", "is_over") if getattr(conn, name)]


def call(number: int) -> dict[str, Any]:
    return {"type": 1, "target": str(number), "arguments": []}


def calls(*numbers: int) -> bytes:
    return pack(*(call(number) for number in numbers))


def targets(taken: list[Event]) -> list[int]:
    numbers = []
    for event in taken:
        assert isinstance(event, Invocation)
        numbers.append(int(event.target))
    return numbers


def say(conn: HubConnection, *numbers: int) -> None:
    for number in numbers:
        conn.send(str(number))


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


def ack(number: int) -> dict[str, Any]:
    return {"type": 8, "sequenceId": number}


@pytest.mark.parametrize("version", [-5, 0, 1])
def test_a_client_of_version_1_turns_stateful_reconnect_off(version: int) -> None:
    conn = HubConnection(Role.SERVER, [JsonCodec()], stateful=True, now=0.0)
    feed(conn, pack({"protocol": "json", "version": version}))
    assert facts(conn) == ["want_read"]
    conn.receive_eof(LOST, now=0.0)
    assert the_end(conn).error is LOST


def test_version_2_alone_does_not_turn_it_on() -> None:
    conn = fresh(Role.SERVER)
    feed(conn, HANDSHAKE_2)
    assert not conn.stateful
    with pytest.raises(LocalProtocolError):
        conn.resume()


def test_a_client_asks_for_version_2() -> None:
    conn = HubConnection(Role.CLIENT, [JsonCodec()], stateful=True, now=0.0)
    assert conn.data_to_send(now=0.0) == HANDSHAKE_2
    assert facts(conn) == ["want_read"]
    assert feed(conn, b"{}\x1e") == [HandshakeCompleted(protocol="json", version=2)]
    assert facts(conn) == ["stateful", "want_read"]
    assert sent(conn) == [{"type": 6}]


@BOTH
def test_a_transport_that_breaks_before_the_handshake_cannot_be_replaced(role: Role) -> None:
    conn = HubConnection(role, [JsonCodec()], stateful=True, now=0.0)
    with pytest.raises(LocalProtocolError, match="cannot be replaced"):
        conn.resume()
    conn.receive_eof(LOST, now=0.0)
    assert the_end(conn).error is LOST


@BOTH
def test_a_broken_transport_is_not_the_end_but_awaits_another(role: Role) -> None:
    conn = stateful(role)
    assert facts(conn) == ["stateful", "want_read"]
    conn.receive_eof(LOST, now=3.0)
    assert facts(conn) == ["stateful", "is_lost"]
    assert conn.is_open
    assert events(conn, 3.0) == []
    assert conn.next_timeout() == 18.0
    say(conn, 1)
    assert conn.data_to_send(now=4.0) == b""
    assert conn.unsent == len(JsonCodec().encode(Invocation(target="1", arguments=[])))
    conn.resume()
    assert facts(conn) == ["stateful"]
    assert events(conn, 5.0) == []
    assert facts(conn) == ["stateful", "want_read"]
    assert sent(conn, 5.0) == [sequence(1), call(1)]
    assert conn.unsent == 0
    conn.handle_timeout(now=20.0)
    assert conn.is_open


@BOTH
def test_what_is_lost_too_long_ends(role: Role) -> None:
    conn = stateful(role, resume_window=2.5)
    say(conn, 1)
    conn.receive_eof(LOST, now=1.0)
    conn.handle_timeout(now=3.4)
    assert facts(conn) == ["stateful", "is_lost"]
    conn.handle_timeout(now=3.5)
    assert facts(conn) == ["is_over"]
    end = the_end(conn, 3.5)
    assert isinstance(end.error, TransportError)
    assert str(end.error) == "the transport was lost, and not replaced within 2.5 s: reset"
    assert end.error.__cause__ is LOST
    assert end.allow_reconnect
    assert conn.unsent == 0
    assert conn.data_to_send(now=3.5) == b""
    with pytest.raises(LocalProtocolError):
        conn.resume()


@BOTH
def test_only_what_is_not_acknowledged_is_sent_again(role: Role) -> None:
    conn = stateful(role)
    say(conn, 1, 2, 3)
    conn.data_to_send(now=0.0)
    feed(conn, pack(ack(2)))
    conn.receive_eof(LOST, now=0.0)
    conn.resume()
    assert sent(conn) == [sequence(3), call(3)]
    say(conn, 4)
    conn.data_to_send(now=0.0)
    feed(conn, pack(ack(4)))
    conn.receive_eof(LOST, now=0.0)
    say(conn, 5)
    conn.resume()
    assert sent(conn) == [sequence(5), call(5)]


@BOTH
def test_a_sequence_is_one_that_microsoft_s_peers_take(role: Role) -> None:
    conn = stateful(role)
    say(conn, 1, 2, 3)
    conn.data_to_send(now=0.0)
    conn.receive_eof(LOST, now=0.0)
    conn.resume()
    assert sent(conn) == [sequence(1), call(1), call(2), call(3)]
    feed(conn, pack(ack(2)))  # it has them, but may have been cut off before it had them again
    conn.receive_eof(LOST, now=0.0)
    conn.resume()
    assert sent(conn) == [sequence(1), NOTHING, NOTHING, call(3)]


def test_of_an_item_something_is_counted_even_if_the_server_has_forgotten_the_upload() -> None:
    conn = stateful(Role.CLIENT)
    upload = conn.new_stream_id()
    conn.invoke("Up", stream_ids=[upload])
    conn.send_item(upload, 5)
    first = sent(conn)
    conn.receive_eof(LOST, now=0.0)
    conn.send_item(upload, 6)
    conn.resume()
    items = [{"type": 2, "invocationId": upload, "item": item} for item in (5, 6)]
    assert first[1:] == [items[0], sequence(2), NOTHING]
    assert sent(conn) == [sequence(1), *first, items[1], sequence(3), NOTHING]


def test_of_an_item_that_is_sent_again_to_a_client_something_is_counted_if_the_end_of_the_stream_has_left() -> None:
    conn = stateful(Role.SERVER)
    for stream in ("1", "2"):
        feed(conn, pack({"type": 4, "invocationId": stream, "target": "Count", "arguments": []}))
        conn.send_item(stream, 5)
    conn.complete("1")
    conn.data_to_send(now=0.0)
    conn.receive_eof(LOST, now=0.0)
    conn.complete("2")
    conn.resume()
    ended, going_on = ({"type": 2, "invocationId": stream, "item": 5} for stream in ("1", "2"))
    ends = [{"type": 3, "invocationId": stream} for stream in ("1", "2")]
    assert sent(conn) == [sequence(1), ended, sequence(1), NOTHING, going_on, *ends]


def test_pings_and_acks_that_have_not_left_are_not_sent_again() -> None:
    conn = stateful(Role.SERVER, keep_alive_interval=1.0)
    feed(conn, calls(1))
    conn.handle_timeout(now=1.0)
    assert conn.unsent > 0
    conn.receive_eof(LOST, now=1.0)
    assert conn.unsent == 0
    conn.handle_timeout(now=2.0)
    conn.resume()
    assert sent(conn, 2.0) == [sequence(1)]
    assert conn.next_timeout() == 3.0
    conn.handle_timeout(now=3.0)
    assert sent(conn, 3.0) == [ack(1), {"type": 6}]


def test_all_kinds_of_messages_are_kept_and_pings_and_acks_are_not_counted() -> None:
    conn = stateful(Role.CLIENT, keep_alive_interval=1.0)
    upload = conn.new_stream_id()
    feed(conn, pack({"type": 1, "invocationId": "s1", "target": "Ask", "arguments": []}))
    conn.invoke("Up", stream_ids=[upload])
    conn.send_item(upload, 5)
    conn.handle_timeout(now=1.0)
    conn.complete(upload)
    conn.complete("s1", 7)
    conn.cancel(conn.stream("Count"))
    before = [message for message in sent(conn, 1.0) if message["type"] not in (6, 8)]
    assert [message["type"] for message in before] == [1, 2, 9, 3, 3, 3, 4, 5]
    conn.receive_eof(LOST, now=1.0)
    conn.resume()
    assert sent(conn, 1.0) == [sequence(1), *before]
    conn.send("Log")
    conn.data_to_send(now=2.5)
    feed(conn, pack(ack(7)), now=2.5)
    conn.receive_eof(LOST, now=2.5)
    conn.resume()
    assert sent(conn, 2.5) == [sequence(8)]


@BOTH
def test_over_a_new_transport_acks_leave_soon_but_none_disturbs_what_the_peer_sends_again(role: Role) -> None:
    conn = stateful(role)
    feed(conn, calls(*range(1, 16)))
    conn.receive_eof(LOST, now=0.5)
    conn.resume()
    assert sent(conn, 0.5) == [sequence(1)]
    assert conn.next_timeout() == 1.5
    feed(conn, pack(sequence(1)) + calls(*range(1, 17)), now=0.95)
    feed(conn, pack(sequence(17)), now=1.0)  # one more that has a meaning of its own
    assert sent(conn, 1.0) == []
    assert conn.next_timeout() == 0.95 + 0.1
    conn.handle_timeout(now=1.04)
    assert sent(conn, 1.04) == []
    conn.handle_timeout(now=1.05)
    assert sent(conn, 1.05) == [ack(6)]
    feed(conn, calls(17), now=1.1)
    assert sent(conn, 1.1) == []
    assert conn.next_timeout() == 1.95
    conn.handle_timeout(now=1.95)
    assert sent(conn, 1.95) == [ack(17)]
    feed(conn, calls(18), now=1.96)
    assert sent(conn, 1.96) == []
    assert conn.next_timeout() == 2.0


@BOTH
def test_over_a_new_transport_an_ack_is_answered_at_once_for_the_peer_has_sent_all_again(role: Role) -> None:
    conn = stateful(role)
    feed(conn, calls(1))
    conn.receive_eof(LOST, now=0.5)
    conn.resume()
    feed(conn, pack(ack(0)), now=0.9)
    assert sent(conn, 0.9) == [sequence(1)]
    feed(conn, pack(sequence(2)) + calls(2), now=0.95)
    assert sent(conn, 0.95) == []
    feed(conn, pack(ack(0)), now=0.96)
    assert sent(conn, 0.96) == [ack(2)]
    assert conn.next_timeout() not in (0.95 + 0.1, 1.95)
    feed(conn, pack(ack(0)), now=0.97)
    assert sent(conn, 0.97) == []


@BOTH
def test_an_ack_that_was_due_does_not_leave_over_the_next_transport(role: Role) -> None:
    conn = stateful(role)
    feed(conn, calls(1))
    assert sent(conn, 0.9) == []
    conn.resume()
    conn.handle_timeout(now=1.0)
    assert sent(conn, 1.0) == [sequence(1)]


def test_a_broadcast_is_kept_too() -> None:
    conn = stateful(Role.SERVER)
    conn.send_encoded(calls(1))
    conn.data_to_send(now=0.0)
    conn.resume()
    assert sent(conn) == [sequence(1), call(1)]


@BOTH
def test_what_has_arrived_before_is_dropped_and_binding_failures_count(role: Role) -> None:
    conn = HubConnection(role, [JsonCodec()], binder=Typed(), stateful=True, now=0.0)
    feed(conn, HANDSHAKE_2 if role is Role.SERVER else b"{}\x1e")
    bad_call = {"type": 1, "target": "Nowhere", "arguments": []}
    bad_item = {"type": 2, "invocationId": "9", "item": "x"}
    good = {"type": 1, "target": "Add", "arguments": [1, 2]}
    assert len(feed(conn, pack({"type": 6}, bad_call, {"type": 77}, bad_item, good))) == 2
    conn.receive_eof(LOST, now=0.0)
    conn.resume()
    assert feed(conn, pack(sequence(1), bad_call, bad_item)) == []
    assert len(feed(conn, pack(good, good))) == 1


def test_a_new_socket_may_take_over_from_a_living_one() -> None:
    conn = stateful(Role.SERVER)
    say(conn, 1)
    conn.data_to_send(now=0.0)
    feed(conn, calls(1, 2) + calls(3)[:-4])
    conn.resume()
    assert not conn.is_lost
    assert sent(conn) == [sequence(1), call(1)]
    assert targets(feed(conn, pack(sequence(2)) + calls(2, 3))) == [3]


def test_what_the_living_socket_had_not_taken_is_said_to_the_new_one_behind_the_sequence() -> None:
    conn = stateful(Role.SERVER, keep_alive_interval=1.0)
    say(conn, 1)
    conn.handle_timeout(now=1.0)
    conn.resume()
    size = conn.unsent
    data = conn.data_to_send(now=1.0)
    assert unpack(data) == [sequence(1), call(1)]
    assert len(data) == size


@BOTH
def test_whole_messages_of_the_old_transport_come_first_and_half_ones_not_at_all(role: Role) -> None:
    conn = stateful(role)
    conn.receive_data(calls(1, 2), now=0.0)
    assert targets([conn.next_event(now=0.0)]) == [1]  # type: ignore[list-item]
    conn.receive_data(calls(3)[:10], now=0.0)
    conn.receive_eof(LOST, now=0.0)
    conn.receive_data(calls(3)[10:], now=0.0)  # of a transport that is gone
    conn.resume()
    conn.receive_data(pack(sequence(2)) + calls(2, 3)[:-5], now=0.0)
    assert not conn.want_read
    conn.resume()
    conn.resume()
    conn.receive_data(pack(sequence(1)) + calls(1, 2, 3, 4), now=0.0)
    assert targets(events(conn)) == [2, 3, 4]
    assert conn.want_read


def test_any_number_of_resumptions_leaves_nothing_behind() -> None:
    conn = stateful(Role.SERVER)
    conn.receive_data(calls(1), now=0.0)
    for _ in range(5):
        conn.resume()
    assert len(conn._later) == 1
    assert targets(events(conn)) == [1]
    conn.resume()
    assert conn._later == []
    conn.receive_data(calls(2), now=0.0)
    conn.resume()
    conn.close()
    assert conn._later == []


def test_half_a_message_of_the_last_transport_is_still_an_error_at_the_end() -> None:
    conn = stateful(Role.SERVER)
    conn.receive_data(calls(1), now=0.0)
    conn.resume()
    conn.receive_data(calls(2)[:-1], now=0.0)
    conn.receive_eof(now=0.0)
    assert not conn.stateful
    with pytest.raises(LocalProtocolError):
        conn.resume()
    first, end = events(conn)
    assert targets([first]) == [1]
    assert isinstance(end, ConnectionClosed)
    assert str(end.error) == "Connection terminated while reading a message."


def test_messages_received_before_the_cut_can_be_taken_while_there_is_no_transport() -> None:
    conn = stateful(Role.SERVER)
    conn.receive_data(calls(1, 2), now=0.0)
    conn.receive_eof(LOST, now=0.0)
    assert targets(events(conn)) == [1, 2]
    assert conn.next_timeout() == 15.0


@BOTH
def test_a_second_cut_before_the_resumption_changes_nothing(role: Role) -> None:
    conn = stateful(role)
    conn.receive_eof(LOST, now=0.0)
    conn.receive_eof(TransportError("again"), now=5.0)
    conn.receive_eof(now=5.0)
    assert conn.is_lost
    assert conn.next_timeout() == 15.0


def test_an_orderly_end_is_the_end_even_if_the_socket_breaks_behind_it() -> None:
    conn = stateful(Role.SERVER)
    conn.receive_eof(now=0.0)
    conn.receive_eof(LOST, now=0.0)
    assert the_end(conn).error is LOST


@pytest.mark.parametrize("message", [{"type": 7}, {"type": 7, "allowReconnect": True}])
@BOTH
def test_close_is_the_end_for_good(role: Role, message: dict[str, Any]) -> None:
    conn = stateful(role)
    conn.receive_data(pack(message), now=0.0)
    assert the_end(conn).error is None
    assert not conn.stateful
    with pytest.raises(LocalProtocolError):
        conn.resume()


@BOTH
def test_nothing_is_said_to_a_transport_that_is_gone(role: Role) -> None:
    conn = stateful(role)
    say(conn, 1)
    conn.receive_eof(LOST, now=0.0)
    conn.close("bye")
    assert the_end(conn) == ConnectionClosed()
    assert conn.unsent == 0
    assert conn.data_to_send(now=0.0) == b""


@BOTH
def test_close_can_forget_what_nobody_reads(role: Role) -> None:
    conn = stateful(role, replay_buffer=10)
    for number in range(5):
        say(conn, number)
    conn.close(discard=True)
    conn.close(discard=True)
    unsent = conn.unsent
    (farewell,) = unpack(data := conn.data_to_send(now=0.0))
    assert (farewell["type"], unsent) == (7, len(data))
    assert the_end(conn) == ConnectionClosed()


@pytest.mark.parametrize(("record", "error"), [(b"hello\x1e", RemoteProtocolError), (pack({"type": 7}), type(None))])
@BOTH
def test_an_end_that_had_arrived_before_the_cut_is_the_end(role: Role, record: bytes, error: type) -> None:
    conn = stateful(role)
    say(conn, 1)
    conn.receive_data(record, now=0.0)
    conn.receive_eof(LOST, now=0.0)
    assert isinstance(the_end(conn).error, error)
    assert conn.unsent == 0
    assert conn.data_to_send(now=0.0) == b""


# acknowledging


@BOTH
def test_acks_leave_at_whole_intervals_since_the_handshake_but_only_when_something_arrived(role: Role) -> None:
    conn = HubConnection(
        role,
        [JsonCodec()],
        config=HubConfig(ack_interval=2.0, keep_alive_interval=1e6, silence_timeout=1e6),
        stateful=True,
        now=0.0,
    )
    feed(conn, HANDSHAKE_2 if role is Role.SERVER else b"{}\x1e", now=10.5)
    conn.data_to_send(now=10.5)
    assert conn.next_timeout() not in (None, 12.5)
    feed(conn, calls(1), now=13.0)
    assert conn.next_timeout() == 14.5
    feed(conn, calls(2), now=14.0)
    conn.handle_timeout(now=14.4)
    assert conn.data_to_send(now=14.4) == b""
    conn.handle_timeout(now=14.5)
    assert sent(conn, 14.5) == [ack(2)]
    assert conn.next_timeout() != 16.5
    feed(conn, pack({"type": 6}, {"type": 77}, sequence(3), ack(0)), now=15.0)
    assert conn.next_timeout() != 16.5
    feed(conn, calls(3), now=16.5)
    assert conn.next_timeout() == 18.5


def test_no_ack_while_lost_and_the_last_one_again_after_the_resumption() -> None:
    conn = stateful(Role.SERVER)
    feed(conn, calls(1))
    conn.receive_eof(LOST, now=0.5)
    conn.handle_timeout(now=1.0)
    assert conn.next_timeout() == 15.5
    conn.resume()
    assert sent(conn, 4.2) == [sequence(1)]
    assert conn.next_timeout() == 5.2
    conn.handle_timeout(now=5.2)
    assert sent(conn, 5.2) == [ack(1)]
    conn.resume()
    assert sent(conn, 5.3) == [sequence(1)]
    conn.handle_timeout(now=6.3)
    assert sent(conn, 6.3) == [ack(1)]


def test_what_is_taken_while_lost_is_acknowledged_after_the_resumption() -> None:
    conn = stateful(Role.SERVER)
    conn.receive_data(calls(1), now=0.0)
    conn.receive_eof(LOST, now=0.5)
    assert targets(events(conn, 0.5)) == [1]
    assert conn.data_to_send(now=0.5) == b""
    assert conn.next_timeout() == 15.5
    conn.resume()
    conn.data_to_send(now=2.0)
    assert conn.next_timeout() == 3.0


def test_a_message_that_comes_again_is_acknowledged_again() -> None:
    conn = stateful(Role.SERVER)
    feed(conn, calls(1))
    conn.handle_timeout(now=1.0)
    assert sent(conn, 1.0) == [ack(1)]
    feed(conn, pack(sequence(1)) + calls(1), now=1.5)
    conn.handle_timeout(now=2.0)
    assert sent(conn, 2.0) == [ack(1)]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (sequence(3), "Sequence ID greater than amount of messages we've received."),
        (sequence(0), "Sequence ID less than that of the first message."),
        (ack(2), "Ack ID greater than amount of messages we've sent."),
    ],
)
@BOTH
def test_ids_that_cannot_be_end_the_connection(role: Role, message: dict[str, Any], text: str) -> None:
    conn = stateful(role)
    say(conn, 1)
    conn.data_to_send(now=0.0)
    say(conn, 2)
    feed(conn, calls(1))
    conn.receive_data(pack(message), now=0.0)
    end = the_end(conn)
    assert isinstance(end.error, RemoteProtocolError)
    assert str(end.error) == text
    close = {"type": 7, "error": CLOSED, "allowReconnect": True}
    assert sent(conn) == [call(2), *([close] if role is Role.SERVER else [])]


def test_a_sequence_without_a_cut_is_obeyed() -> None:
    conn = stateful(Role.SERVER)
    assert targets(feed(conn, calls(1, 2) + pack(sequence(2)) + calls(2, 3))) == [1, 2, 3]


# the limit


def test_messages_beyond_the_replay_limit_wait_for_acks_in_order() -> None:
    size = len(JsonCodec().encode(Invocation(target="1", arguments=[])))
    conn = stateful(Role.SERVER, replay_buffer=2 * size - 1, keep_alive_interval=5.0)
    say(conn, 1, 2)
    assert facts(conn) == ["stateful", "want_read"]
    say(conn, 3, 4, 5)
    assert facts(conn) == ["stateful", "waits_for_ack", "want_read"]
    assert conn.unsent == 5 * size
    assert sent(conn) == [call(1), call(2)]
    assert conn.unsent == 3 * size
    conn.handle_timeout(now=5.0)
    assert sent(conn, 5.0) == [{"type": 6}]  # past those that wait
    feed(conn, pack(ack(1)), 5.0)
    assert sent(conn, 5.0) == [call(3)]
    conn.receive_eof(LOST, now=5.0)
    assert facts(conn) == ["stateful", "is_lost"]
    assert conn.unsent == 4 * size
    conn.resume()
    assert facts(conn) == ["stateful", "waits_for_ack"]
    assert sent(conn, 5.0) == [sequence(2), call(2), call(3), call(4)]  # without a new one no Ack need come
    feed(conn, pack(ack(3)), 5.0)
    assert sent(conn, 5.0) == [call(5)]
    assert facts(conn) == ["stateful", "want_read"]


def test_an_ack_that_came_over_the_old_transport_spares_nothing_that_is_already_announced() -> None:
    conn = stateful(Role.SERVER)
    say(conn, 1, 2)
    conn.data_to_send(now=0.0)
    conn.receive_data(pack(ack(1)), now=0.0)
    conn.receive_eof(LOST, now=0.0)
    conn.resume()
    assert events(conn) == []
    assert sent(conn) == [sequence(1), call(1), call(2)]
    conn.receive_data(pack(ack(1)), now=0.0)
    conn.receive_eof(LOST, now=0.0)
    assert events(conn) == []
    conn.resume()
    assert sent(conn) == [sequence(1), {"type": 3, "invocationId": "-"}, call(2)]


@BOTH
def test_farewell_comes_behind_everything_that_waits(role: Role) -> None:
    conn = stateful(role, replay_buffer=1)
    say(conn, 1, 2, 3)
    conn.close()
    assert conn.unsent > 0
    assert sent(conn) == [call(1), call(2), call(3), {"type": 7}]


def test_the_farewell_of_an_error_comes_behind_everything_that_waits() -> None:
    conn = stateful(Role.SERVER, replay_buffer=1)
    say(conn, 1, 2)
    feed(conn, b"hello\x1e")
    assert [message["type"] for message in sent(conn)] == [1, 1, 7]


# silence


def test_nobody_is_silent_who_cannot_be_heard() -> None:
    conn = stateful(Role.CLIENT, silence_timeout=5.0, resume_window=100.0)
    conn.receive_eof(LOST, now=1.0)
    conn.handle_timeout(now=50.0)
    assert conn.is_lost
    conn.resume()
    assert conn.data_to_send(now=60.0) != b""
    assert events(conn, 60.0) == []
    assert conn.next_timeout() == 65.0
    conn.handle_timeout(now=65.0)
    assert conn.is_lost
    assert str(conn.lost_by) == "Server timeout (5000.00ms) elapsed without receiving a message from the server."
    conn.handle_timeout(now=165.0)
    assert "not replaced within 100 s: Server timeout" in str(the_end(conn, 165.0).error)


def test_a_client_that_gives_up_a_lost_transport_may_come_back() -> None:
    conn = stateful(Role.CLIENT)
    conn.give_up(TransportError("too early"))
    assert conn.is_open
    seen = [conn.lost_by]
    conn.receive_eof(LOST, now=0.0)
    assert [*seen, conn.lost_by] == [None, LOST]
    reason = TransportError("forgotten")
    conn.give_up(reason)
    end = the_end(conn)
    assert (end.error, end.allow_reconnect) == (reason, True)
    assert not conn.timed_out


def test_the_peer_s_sequence_says_that_the_connection_goes_on() -> None:
    conn = stateful(Role.CLIENT)
    seen = [conn.resumed]
    conn.receive_eof(LOST, now=0.0)
    seen.append(conn.resumed)
    conn.resume()
    seen.append(conn.resumed)
    feed(conn, pack({"type": 6}))
    seen.append(conn.resumed)
    feed(conn, pack(sequence(1)))
    assert [*seen, conn.resumed] == [True, True, False, False, True]


def test_the_ping_of_a_client_is_put_off_by_what_it_sends_after_the_resumption() -> None:
    conn = stateful(Role.CLIENT, keep_alive_interval=10.0)
    conn.receive_eof(LOST, now=1.0)
    conn.resume()
    conn.data_to_send(now=9.0)
    conn.handle_timeout(now=10.0)
    assert conn.data_to_send(now=10.0) == b""
    conn.handle_timeout(now=19.0)
    assert sent(conn, 19.0) == [{"type": 6}]


# --- properties ------------------------------------------------------------------------------------------------------

CONVERSATION = HANDSHAKE + pack(
    {"type": 6},
    {"type": 1, "invocationId": "1", "target": "Up", "arguments": [1, "\u2603"], "streamIds": ["2", "3"]},
    {"type": 2, "invocationId": "2", "item": {"a": [1.5, None]}},
    {"type": 3, "invocationId": "2"},
    {"type": 4, "invocationId": "4", "target": "Count", "arguments": [], "headers": {"h": "v"}},
    {"type": 5, "invocationId": "4"},
    {"type": 8, "sequenceId": 1},
    {"type": 77},
    {"type": 3, "invocationId": "3", "error": "broke"},
    {"type": 1, "target": "Log", "arguments": []},
    {"type": 7, "error": "bye"},
    {"type": 1, "target": "Never", "arguments": []},
)


def play(chunks: list[bytes]) -> tuple[list[Event], bytes]:
    conn = fresh(Role.SERVER, detailed_errors=True)
    taken = [event for chunk in chunks for event in feed(conn, chunk)]
    conn.receive_eof(now=0.0)
    return taken + events(conn), conn.data_to_send(now=0.0)


def shown(played: tuple[list[Event], bytes]) -> tuple[list[str], bytes]:
    return [repr(event) for event in played[0]], played[1]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(mark % len(data) for mark in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(marks)]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_any_chunking_gives_the_same_events_and_answers(cuts: list[int]) -> None:
    assert shown(play(cut(CONVERSATION, cuts))) == shown(play([CONVERSATION]))


mutations = st.lists(
    st.tuples(st.integers(0, len(CONVERSATION) - 1), st.integers(0, 2), st.binary(max_size=3)), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=300)
@given(mutations, st.lists(st.integers(0, len(CONVERSATION)), max_size=4), st.sampled_from(Role))
def test_bad_bytes_never_raise_and_end_in_one_last_event(
    mutations: list[tuple[int, int, bytes]], cuts: list[int], role: Role
) -> None:
    data = CONVERSATION if role is Role.SERVER else b"{}\x1e" + CONVERSATION.removeprefix(HANDSHAKE)
    for position, removed, inserted in mutations:
        position %= len(data)
        data = data[:position] + inserted + data[position + removed :]
    conn = fresh(role)
    taken = [event for chunk in cut(data or b"\x1e", cuts) for event in feed(conn, chunk)]
    conn.receive_eof(now=0.0)
    taken += events(conn)
    assert [isinstance(event, ConnectionClosed) for event in taken] == [False] * (len(taken) - 1) + [True]
    answers = sent(conn)
    assert {"type": 7} not in answers[:-1]


class Joined:
    """A client and a server that hear each other."""

    def __init__(self) -> None:
        self.client = fresh(Role.CLIENT, max_message_size=None)
        self.server = fresh(Role.SERVER, max_message_size=None)

    def move(self, size: int) -> tuple[list[Event], list[Event]]:
        """Carry bytes until there are none; return what the client and the server saw."""
        seen: tuple[list[Event], list[Event]] = ([], [])
        while True:
            to_server, to_client = self.client.data_to_send(now=0.0), self.server.data_to_send(now=0.0)
            if not to_server and not to_client:
                return seen
            for piece in pieces(to_server, size):
                seen[1].extend(feed(self.server, piece))
            for piece in pieces(to_client, size):
                seen[0].extend(feed(self.client, piece))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=50)
@given(st.lists(values, max_size=3), st.lists(values, max_size=4), st.integers(1, 64))
def test_client_and_server_agree(arguments: list[Any], items: list[Any], size: int) -> None:
    joined = Joined()
    assert joined.move(size) == ([OPENED], [OPENED])
    client, server = joined.client, joined.server

    upload = client.new_stream_id()
    call = client.invoke("Up", arguments, stream_ids=[upload])
    stream = client.stream("Count", arguments)
    for item in items:
        client.send_item(upload, item)
    client.complete(upload)
    assert joined.move(size) == (
        [],
        [
            Invocation(invocation_id=call, target="Up", arguments=tuple(arguments), stream_ids=(upload,)),
            StreamInvocation(invocation_id=stream, target="Count", arguments=tuple(arguments)),
            *(StreamItem(invocation_id=upload, item=item) for item in items),
            Completion(invocation_id=upload),
        ],
    )

    for item in items:
        server.send_item(stream, item)
    server.complete(stream)
    server.complete(call, items)
    question = server.invoke("Ask")
    assert joined.move(size) == (
        [
            *(StreamItem(invocation_id=stream, item=item) for item in items),
            Completion(invocation_id=stream),
            Completion(invocation_id=call, result=items),
            Invocation(invocation_id=question, target="Ask", arguments=()),
        ],
        [],
    )

    client.complete(question, error="no")
    client.close()
    assert joined.move(size) == (
        [ConnectionClosed()],
        [Completion(invocation_id=question, error="no"), ConnectionClosed()],
    )


class Link:
    """A client and a server with stateful reconnect, whose transport is cut every now and then."""

    def __init__(self, limit: int) -> None:
        config = HubConfig(replay_buffer=limit, keep_alive_interval=3.0, resume_window=1e9, silence_timeout=1e9)
        self.now = 0.0
        self.ends = [HubConnection(role, [JsonCodec()], config=config, stateful=True, now=0.0) for role in Role]
        self.on_their_way = [b"", b""]  # to each end
        self.said: list[list[int]] = [[], []]
        self.heard: list[list[int]] = [[], []]

    def say(self, end: int) -> None:
        self.said[end].append(len(self.said[end]))
        self.ends[end].send(str(self.said[end][-1]))

    def move(self, size: int) -> None:
        """Both ends write, and at most *size* bytes arrive at each."""
        for end, conn in enumerate(self.ends):
            self.on_their_way[1 - end] += conn.data_to_send(now=self.now)
        for end, conn in enumerate(self.ends):
            data, self.on_their_way[end] = self.on_their_way[end][:size], self.on_their_way[end][size:]
            for event in feed(conn, data, self.now):
                if not isinstance(event, HandshakeCompleted):
                    assert isinstance(event, Invocation)
                    self.heard[end].append(int(event.target))

    def cut(self, noticed: tuple[bool, bool]) -> None:
        """What is on its way is lost; each end may have noticed before there is a new transport."""
        self.on_their_way = [b"", b""]
        for conn, notices in zip(self.ends, noticed, strict=True):
            if notices:
                conn.receive_eof(LOST, now=self.now)

    def resume(self) -> None:
        for conn in self.ends:
            conn.resume()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for conn in self.ends:
            conn.handle_timeout(now=self.now)


acts = st.one_of(
    st.tuples(st.just("say"), st.integers(0, 1)),
    st.tuples(st.just("move"), st.integers(0, 200)),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 1.0, 4.0])),
    st.tuples(st.just("cut"), st.tuples(st.booleans(), st.booleans())),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(acts, max_size=60), st.sampled_from([1, 100, 100_000]), st.booleans())
def test_two_ends_of_a_link_that_is_cut_lose_nothing_and_hear_nothing_twice(
    acts: list[tuple[str, Any]], limit: int, at_once: bool
) -> None:
    link = Link(limit)
    for _ in range(4):
        link.move(1000)
    assert all(conn.stateful for conn in link.ends)
    lost = False
    for act, argument in acts:
        if act == "cut":
            link.cut(argument)
            lost = True
            if at_once:
                link.resume()
                lost = False
        elif act == "move":
            if lost:
                link.resume()
                lost = False
            link.move(argument)
        else:
            getattr(link, act)(argument)
    if lost:
        link.resume()
    for _ in range(4 * sum(map(len, link.said)) + 4):
        link.move(1_000_000)
        link.wait(1.0)
    assert all(conn.is_open for conn in link.ends)
    assert link.heard == [link.said[1], link.said[0]]
    assert not any(conn.waits_for_ack for conn in link.ends)


deeds = st.one_of(
    st.tuples(st.just("hear"), st.binary(max_size=3)),
    st.tuples(st.just("hear"), st.integers(0, len(CONVERSATION)).map(lambda stop: CONVERSATION[stop : stop + 60])),
    st.tuples(
        st.just("hear"),
        st.builds(
            lambda kind, number: pack({"type": kind, "sequenceId": number}), st.sampled_from([8, 9]), st.integers(-1, 5)
        ),
    ),
    st.tuples(st.sampled_from(["end", "cut", "resume", "send", "take"]), st.just(b"")),
    st.tuples(st.just("close"), st.just(b"")),
    st.tuples(st.just("wait"), st.just(b"")),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(deeds, max_size=30), st.sampled_from(Role), st.sampled_from([1, 100_000]))
def test_a_stateful_connection_never_raises_because_of_its_peer_and_ends_once(
    deeds: list[tuple[str, bytes]], role: Role, limit: int
) -> None:
    conn = stateful(role, replay_buffer=limit)
    now = 0.0
    taken: list[Event] = []
    for deed, data in deeds:
        match deed:
            case "hear":
                conn.receive_data(data, now=now)
            case "end":
                conn.receive_eof(now=now)
            case "cut":
                conn.receive_eof(LOST, now=now)
            case "resume" if conn.stateful:
                conn.resume()
            case "send" if conn.is_open:
                conn.send("x")
            case "take":
                taken += events(conn, now)
            case "close":
                conn.close()
            case "wait":
                now += 8.0
                conn.handle_timeout(now=now)
        data = conn.data_to_send(now=now)
        assert not (conn.is_lost and data)
        assert not data or data.endswith(b"\x1e")
    conn.close()
    taken += events(conn, now)
    assert [isinstance(event, ConnectionClosed) for event in taken] == [False] * (len(taken) - 1) + [True]
    assert conn.next_timeout() is None
    conn.data_to_send(now=now)
    assert conn.unsent == 0


# --- headers and deadlines -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)
def test_headers_travel_with_calls(codec: Codec) -> None:
    caller, called = (HubConnection(role, [codec], now=0.0) for role in (Role.CLIENT, Role.SERVER))
    feed(called, caller.data_to_send(now=0.0))
    feed(caller, called.data_to_send(now=0.0))
    headers = {"traceparent": "00-x", "tracestate": "a=b"}
    caller.send("a", headers=headers)
    caller.invoke("b", headers=headers)
    caller.stream("c", headers=headers)
    caller.invoke("d")
    calls = feed(called, caller.data_to_send(now=0.0))
    assert [call.headers for call in calls] == [headers, headers, headers, None]  # type: ignore[union-attr]


@BOTH
@pytest.mark.parametrize("why", ["handshake", "silence", "close", "broken"])
def test_an_end_by_a_deadline_is_told_apart(role: Role, why: str) -> None:
    conn = fresh(role)
    if why != "handshake":
        conn.receive_data(HANDSHAKE + PING if role is Role.SERVER else b"{}\x1e", now=0.0)
        events(conn)
    assert not conn.timed_out
    if why == "close":
        conn.close()
    elif why == "broken":
        conn.receive_eof(TransportError("reset"), now=1.0)
    else:
        conn.handle_timeout(now=40.0)
    the_end(conn)
    assert conn.timed_out is (why in ("handshake", "silence"))


# --- turns -----------------------------------------------------------------------------------------------------------

SEND = pack({"type": 1, "target": "Add", "arguments": [1, 2]})


def in_turns() -> HubConnection:  # its first ping is due after 15 s
    conn = HubConnection(Role.SERVER, [JsonCodec()], turn_size=3, now=0.0)
    assert feed(conn, HANDSHAKE) == [OPENED]
    assert (conn.want_read, conn.next_timeout()) == (True, 15.0)
    return conn


def test_messages_are_looked_at_in_turns() -> None:
    conn = in_turns()
    assert len(feed(conn, SEND * 7, 1.0)) == 3
    assert (conn.want_read, conn.next_timeout()) == (False, 1.0)
    assert feed(conn, SEND, 2.0) == []  # it waits behind the others
    assert conn.next_timeout() == 1.0
    conn.handle_timeout(now=2.0)
    assert len(events(conn, 2.0)) == 3
    assert (conn.want_read, conn.next_timeout()) == (False, 2.0)
    conn.handle_timeout(now=2.0)
    assert len(events(conn, 2.0)) == 2
    assert (conn.want_read, conn.next_timeout()) == (True, 15.0)


def test_a_turn_that_takes_all_is_followed_by_none() -> None:
    conn = in_turns()
    for now in (1.0, 2.0):
        assert len(feed(conn, SEND * 3, now)) == 3
        assert (conn.want_read, conn.next_timeout()) == (True, 15.0)


def test_what_comes_at_one_time_is_one_turn() -> None:
    conn = in_turns()
    assert [len(feed(conn, SEND, 1.0)) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert (conn.want_read, conn.next_timeout()) == (False, 1.0)


def test_after_a_turn_of_messages_that_say_nothing_there_is_a_rest() -> None:
    conn = in_turns()
    ignored = pack({"type": 3, "invocationId": "nobody", "result": 1})
    unknown = pack({"type": 99})
    assert feed(conn, PING + ignored + unknown + SEND, 1.0) == []
    assert (conn.want_read, conn.next_timeout()) == (False, 1.002)
    conn.handle_timeout(now=1.001)
    assert events(conn, 1.001) == []
    assert conn.next_timeout() == 1.002
    conn.handle_timeout(now=1.002)
    assert len(events(conn, 1.002)) == 1
    assert conn.want_read


def test_one_message_that_says_something_saves_the_rest() -> None:
    conn = in_turns()
    assert len(feed(conn, PING + SEND + PING + SEND, 1.0)) == 1
    assert conn.next_timeout() == 1.0


def test_the_end_ends_the_turn() -> None:
    conn = in_turns()
    assert len(feed(conn, SEND * 4, 1.0)) == 3
    conn.receive_eof(TransportError("cut"), now=1.0)
    assert [type(event) for event in events(conn, 1.0)] == [ConnectionClosed]
    assert conn.next_timeout() is None
