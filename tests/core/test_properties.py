"""What holds for any bytes and any messages, in each encoding: cuts change nothing, and nothing is lost in writing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from hubproto_core import (
    Ack,
    Binder,
    CancelInvocation,
    Close,
    Codec,
    Completion,
    ConnectionClosed,
    HubConfig,
    HubConnection,
    HubMessage,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    Ping,
    Role,
    SequenceMessage,
    StreamInvocation,
    StreamItem,
    TransportError,
)
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RecordBuffer
from hubproto_core.testing import feed, take_events

JSON, MESSAGE_PACK = JsonCodec(), MessagePackCodec()
EACH_CODEC = pytest.mark.parametrize("codec", [JSON, MESSAGE_PACK], ids=lambda codec: codec.name)
BOTH_ROLES = pytest.mark.parametrize("role", Role)
BINDER: Binder = AnyBinder()

# messages

TEXTS = st.text(max_size=20)
NAMES = st.text(min_size=1, max_size=20)
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
FLOATS = st.floats(-(2.0**53), 2.0**53) | st.floats(min_value=1e17, allow_infinity=False)
"""Without those that JSON writes as whole numbers of more digits than they have: they are read as just those."""
SCALARS = st.none() | st.booleans() | INT64 | FLOATS | TEXTS


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
    )


VALUES = nested(SCALARS)
BINARY_VALUES = nested(SCALARS | st.binary(max_size=300) | st.integers(min_value=2**63, max_value=2**64 - 1))
HEADERS = st.none() | st.dictionaries(NAMES, NAMES, min_size=1, max_size=3)
STREAM_IDS = st.none() | st.lists(NAMES, min_size=1, max_size=3).map(tuple)


def messages(values: st.SearchStrategy[Any]) -> st.SearchStrategy[HubMessage]:
    """All that can be sent, of every type."""
    arguments = st.lists(values, max_size=4).map(tuple)
    errors = st.none() | NAMES
    return st.one_of(
        st.builds(
            Invocation,
            headers=HEADERS,
            invocation_id=st.none() | NAMES,
            target=NAMES,
            arguments=arguments,
            stream_ids=STREAM_IDS,
        ),
        st.builds(
            StreamInvocation,
            headers=HEADERS,
            invocation_id=NAMES,
            target=NAMES,
            arguments=arguments,
            stream_ids=STREAM_IDS,
        ),
        st.builds(StreamItem, headers=HEADERS, invocation_id=NAMES, item=values),
        st.builds(Completion, headers=HEADERS, invocation_id=NAMES, result=st.just(UNSET) | values),
        st.builds(Completion, headers=HEADERS, invocation_id=NAMES, error=errors),
        st.builds(CancelInvocation, headers=HEADERS, invocation_id=NAMES),
        st.just(Ping()),
        st.builds(Close, error=errors, allow_reconnect=st.booleans()),
        st.builds(Ack, sequence_id=INT64),
        st.builds(SequenceMessage, sequence_id=INT64),
    )


MESSAGES = {JSON.name: messages(VALUES), MESSAGE_PACK.name: messages(BINARY_VALUES)}


def there_and_back(codec: Codec, message: HubMessage) -> HubMessage:
    """The message, written and read."""
    buffer = RecordBuffer()
    buffer.append(codec.encode(message))
    record = codec.next_record(buffer, None)
    assert record is not None
    assert len(buffer) == 0
    read = codec.decode(record, BINDER, 64)
    assert read is not None
    return read


def plain(value: Any) -> Any:
    """A value with all arrays as lists: which of Python's sequences one is read as is not part of the message."""
    match value:
        case list() | tuple():
            return [plain(element) for element in value]
        case dict():
            return {key: plain(element) for key, element in value.items()}
    return value


def members(message: HubMessage) -> tuple[type, Any]:
    return type(message), plain(structs.asdict(message))


@EACH_CODEC
@given(data=st.data())
def test_what_is_written_is_read_again(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[codec.name])
    assert members(there_and_back(codec, message)) == members(message)


@given(message=messages(VALUES))
def test_the_codecs_agree_on_all_that_both_can_express(message: HubMessage) -> None:
    assert members(there_and_back(JSON, message)) == members(there_and_back(MESSAGE_PACK, message))


# bytes


def greeting(role: Role, codec: Codec) -> bytes:
    """The handshake's record that a connection of this role waits for."""
    return f'{{"protocol":"{codec.name}","version":1}}\x1e'.encode() if role is Role.SERVER else b"{}\x1e"


@st.composite
def streams(draw: st.DrawFn, role: Role, codec: Codec) -> bytes:
    """A handshake and messages, mostly in order, and mutations of them; sometimes nothing but noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    sent = draw(st.lists(MESSAGES[codec.name], max_size=6))
    data = bytearray(greeting(role, codec) + b"".join(codec.encode(message) for message in sent))
    for place, size, noise in draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=3)), max_size=2)
    ):
        start = place % (len(data) + 1)
        data[start : start + size] = noise
    return bytes(data)


def hear(role: Role, codec: Codec, data: bytes, cuts: list[int]) -> tuple[list[str], bytes]:
    """What a connection makes of the bytes: its events and its output, up to the end of the transport."""
    conn = HubConnection(role, [codec], config=HubConfig(max_message_size=200, detailed_errors=True), now=0.0)
    events = feed(conn, data, now=0.0, cuts=cuts)
    assert len(conn._buffer) <= 200
    conn.receive_eof(now=0.0)
    events += take_events(conn, now=0.0)
    assert [isinstance(event, ConnectionClosed) for event in events] == [False] * (len(events) - 1) + [True]
    output = conn.data_to_send(now=0.0)
    assert conn.next_timeout() is None
    return [repr(event) for event in events], output


@EACH_CODEC
@BOTH_ROLES
@given(data=st.data())
def test_cutting_changes_nothing(role: Role, codec: Codec, data: st.DataObject) -> None:
    stream = data.draw(streams(role, codec))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    whole = hear(role, codec, stream, [])
    assert hear(role, codec, stream, cuts) == whole
    assert hear(role, codec, stream, list(range(len(stream)))) == whole


@EACH_CODEC
@BOTH_ROLES
@given(data=st.data(), error=st.sampled_from([None, TransportError("cut")]), at=st.integers(0, 10))
def test_there_is_one_end(role: Role, codec: Codec, data: st.DataObject, error: TransportError | None, at: int) -> None:
    """Whatever comes, and however often the transport ends, time passes and the outputs are asked."""
    conn = HubConnection(role, [codec], now=0.0)
    stream = data.draw(streams(role, codec))
    events = feed(conn, stream[: len(stream) * at // 10], now=0.0)
    conn.receive_eof(error, now=1.0)
    events += feed(conn, stream, now=2.0)
    for _ in range(2):
        conn.handle_timeout(now=100.0)
        events += take_events(conn, now=100.0)
        conn.receive_eof(TransportError("again"), now=100.0)
        events += feed(conn, stream, now=100.0)
        conn.data_to_send(now=100.0)
    assert [event for event in events if isinstance(event, ConnectionClosed)] == events[-1:]
    assert (conn.is_over, conn.is_open, conn.want_read) == (True, False, False)
    assert conn.next_timeout() is None
