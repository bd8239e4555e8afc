"""What a peer, or the user, may do wrong, and what comes of it. `docs/violations.md` lists the rows of this file.

A row that is about bytes holds them in each encoding that can say them; a row that is not, does it to the peer's end.
"""
# ruff: noqa: E501 - a row is a line

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from hubproto_core import (
    EndOfStream,
    Handlers,
    Hub,
    HubConfig,
    HubConnection,
    HubError,
    IncomingStream,
    Invocation,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    Role,
    Shape,
    StreamInvocation,
    StreamItem,
    TransportError,
    WouldBlock,
)
from tests.kit.shell import WAITS, HubPeer, Peer, ServerPeer
from tests.kit.wire import HANDSHAKE, HANDSHAKE_2, pack

CONFIG = HubConfig(
    detailed_errors=True,
    keep_alive_interval=1e6,
    max_message_size=2000,
    max_handshake_size=200,
    max_depth=8,
    max_arguments=3,
    max_headers=2,
    max_header_size=30,
    max_id_length=10,
    max_open_calls=4,
    max_open_streams=4,
)
"""Small limits, so that the rows can be short."""


class Outcome(Enum):
    """What comes of it. The connection lives on in all but the last two."""

    IGNORED = "ignored"
    CALL_FAILS = "that call fails"
    OUR_CALL_FAILS = "our call fails"
    STREAM_FAILS = "that stream fails"
    REFUSED = "the handshake fails"
    CLOSES = "the connection closes"


class Stage(Enum):
    """When it is done."""

    HANDSHAKE = "before the handshake is done"
    OPEN = "on an open connection"
    STATEFUL = "with stateful reconnect"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One row. `text` is what the peer is told, or where it is told nothing, the user at this end.

    `kind` is the name that detailed errors give the mistake; a server's Close says "kind: text", and the user hears
    the text.
    """

    title: str
    outcome: Outcome
    kind: str = ""
    text: str = ""
    stage: Stage = Stage.OPEN
    json: bytes | None = None
    does: Callable[[Peer], None] | None = None


IGNORED, CALL_FAILS, OUR_CALL_FAILS = Outcome.IGNORED, Outcome.CALL_FAILS, Outcome.OUR_CALL_FAILS
STREAM_FAILS, REFUSED, CLOSES = Outcome.STREAM_FAILS, Outcome.REFUSED, Outcome.CLOSES
FIRST, STATEFUL = Stage.HANDSHAKE, Stage.STATEFUL


def says(title: str, *messages: dict[str, Any], **rest: Any) -> Violation:
    """A row whose bytes are these messages'."""
    return Violation(title=title, json=pack(*messages), **rest)


def writes(title: str, record: bytes, **rest: Any) -> Violation:
    """A row whose bytes are those of one JSON record."""
    return Violation(title=title, json=record + b"\x1e", **rest)


def does(title: str, deed: Callable[[Peer], None], **rest: Any) -> Violation:
    """A row that is not about bytes."""
    return Violation(title=title, does=deed, **rest)


def call(target: str, *arguments: Any, id: str | None = "9", **more: Any) -> dict[str, Any]:  # noqa: A002
    named = {} if id is None else {"invocationId": id}
    return {"type": 1, **named, "target": target, "arguments": list(arguments), **more}


def stream(target: str, *arguments: Any, id: str = "9") -> dict[str, Any]:  # noqa: A002
    return {"type": 4, "invocationId": id, "target": target, "arguments": list(arguments)}


def item(value: Any, id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": 2, "invocationId": id, "item": value}


def completion(id: str, **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, **more}


def cancel(id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": 5, "invocationId": id}


def ack(number: int) -> dict[str, Any]:
    return {"type": 8, "sequenceId": number}


def sequence(number: int) -> dict[str, Any]:
    return {"type": 9, "sequenceId": number}


# deeds


def falls_silent(peer: Peer) -> None:
    peer.session.handle_timeout(now=30.0)


def pings_and_falls_silent(peer: Peer) -> None:
    peer.say({"type": 6})
    falls_silent(peer)


def waits_too_long(peer: Peer) -> None:
    peer.session.handle_timeout(now=15.0)


def leaves(peer: Peer) -> None:
    peer.session.receive_eof(now=0.0)


def leaves_in_the_middle(peer: Peer) -> None:
    peer.say_bytes(b'{"type":')
    leaves(peer)


def is_cut_off(peer: Peer) -> None:
    peer.session.receive_eof(TransportError("connection reset"), now=0.0)


def is_cut_off_for_long(peer: Peer) -> None:
    is_cut_off(peer)
    peer.session.handle_timeout(now=15.0)


# rows

_JSON = "Error reading JSON."
_DATA, _FORMAT = "InvalidDataException", "FormatException"
_NO_INTEGER = "Either the JSON value is not in a supported format, or is out of bounds for an Int{}."
_TOO_LARGE = "was exceeded. The message size can be configured in AddHubOptions."


def malformed() -> list[tuple[str, bytes, str, str]]:
    """What is no message, whoever sends it: what it is, one record, the name of the mistake, and the text."""
    return [
        ("a record that is no JSON", b"hello", _DATA, _JSON),
        ("an empty record", b"", _DATA, _JSON),
        ("JSON that is cut short", b'{"type":6', _DATA, _JSON),
        (
            "text that is no UTF-8",
            b'{"type":7,"error":"\xff"}',
            "InvalidOperationException",
            "Cannot transcode invalid UTF-8 JSON text to UTF-16 string.",
        ),
        ("JSON that is no object", b"[]", _DATA, "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("more levels than `max_depth`", b'{"type":6,"x":[[[[[[[[0]]]]]]]]}', _DATA, _JSON),
        (
            "a message larger than `max_message_size`",
            b"x" * 2000,
            _DATA,
            f"The maximum message size of 2000B {_TOO_LARGE}",
        ),
        ("no type", b"{}", _DATA, "Missing required property 'type'."),
        ("a type that is no number", b'{"type":"6"}', _DATA, "Expected 'type' to be of type Number."),
        ("a type that is no integer", b'{"type":1.5}', _FORMAT, _NO_INTEGER.format(32)),
        ("a call without target", b'{"type":1,"arguments":[]}', _DATA, "Missing required property 'target'."),
        (
            "a call whose target is no string",
            b'{"type":1,"target":1}',
            _DATA,
            "Expected 'target' to be of type String.",
        ),
        ("a call without arguments", b'{"type":1,"target":"x"}', _DATA, "Missing required property 'arguments'."),
        (
            "arguments that are no array",
            b'{"type":1,"target":"x","arguments":{}}',
            _DATA,
            "Expected 'arguments' to be of type Array.",
        ),
        (
            "an id that is no string",
            b'{"type":5,"invocationId":1}',
            _DATA,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            "stream ids that are no array",
            b'{"type":1,"streamIds":"u"}',
            _DATA,
            "Expected 'streamIds' to be of type Array.",
        ),
        (
            "a stream id that is null",
            b'{"type":1,"streamIds":[null]}',
            _DATA,
            "Null value for 'streamIds' is not valid.",
        ),
        (
            "headers that are no object",
            b'{"type":6,"headers":[]}',
            _DATA,
            "Expected 'headers' to be of type StartObject.",
        ),
        (
            "a header that is no string",
            b'{"type":6,"headers":{"a":1}}',
            _DATA,
            "Expected header 'a' to be of type String.",
        ),
        (
            "a streaming call without id",
            b'{"type":4,"target":"Count","arguments":[1]}',
            _DATA,
            "Missing required property 'invocationId'.",
        ),
        ("an item without id", b'{"type":2,"item":1}', _DATA, "Missing required property 'invocationId'."),
        ("an item without item", b'{"type":2,"invocationId":"2"}', _DATA, "Missing required property 'item'."),
        ("a completion without id", b'{"type":3,"error":"x"}', _DATA, "Missing required property 'invocationId'."),
        (
            "a completion with error and result",
            b'{"type":3,"invocationId":"2","error":"x","result":1}',
            _DATA,
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        (
            "an error that is no string",
            b'{"type":3,"invocationId":"2","error":null}',
            _DATA,
            "Expected 'error' to be of type String.",
        ),
        ("a cancellation without id", b'{"type":5}', _DATA, "Missing required property 'invocationId'."),
        (
            "an allowReconnect that is no boolean",
            b'{"type":7,"allowReconnect":1}',
            _DATA,
            "Expected 'allowReconnect' to be true or false.",
        ),
        ("an Ack without sequence id", b'{"type":8}', _DATA, "Missing required property 'sequenceId'."),
        (
            "a sequence id that is no number",
            b'{"type":9,"sequenceId":"1"}',
            _DATA,
            "Expected 'sequenceId' to be of type Number.",
        ),
        (
            "a sequence id that is no integer",
            b'{"type":9,"sequenceId":1.5}',
            _FORMAT,
            _NO_INTEGER.format(64),
        ),
        (
            "an id longer than `max_id_length`",
            b'{"type":5,"invocationId":"12345678901"}',
            _DATA,
            "An id is longer than 10 characters.",
        ),
        (
            "more headers than `max_headers`",
            b'{"type":5,"invocationId":"9","headers":{"a":"","b":"","c":""}}',
            _DATA,
            "A message has more than 2 headers.",
        ),
        (
            "headers larger than `max_header_size`",
            b'{"type":5,"invocationId":"9","headers":{"a":"123456789012345678901234567890"}}',
            _DATA,
            "The headers of a message are larger than 30B.",
        ),
    ]


def ignored_by_both() -> list[Violation]:
    """What means nothing, whoever sends it."""
    return [
        says("an unknown type of message", {"type": 99, "x": 1}, outcome=IGNORED),
        says("an unknown member", {"type": 6, "x": [1]}, outcome=IGNORED),
        says("an item of a stream that is not open", item(1, "7"), outcome=IGNORED),
        says("a completion of what is not open", completion("7"), outcome=IGNORED),
        says("a cancellation of what is not open", cancel("7"), outcome=IGNORED),
        says("Ack and Sequence without stateful reconnect", ack(99), sequence(99), outcome=IGNORED),
        says("an Ack of what has been acknowledged", ack(1), ack(0), stage=STATEFUL, outcome=IGNORED),
    ]


def counted_wrongly() -> list[tuple[str, dict[str, Any], str]]:
    """Sequence ids that cannot be, whoever sends them."""
    return [
        ("an Ack of what has not been sent", ack(99), "Ack ID greater than amount of messages we've sent."),
        (
            "a Sequence of what has not been received",
            sequence(99),
            "Sequence ID greater than amount of messages we've received.",
        ),
        ("a Sequence below 1", sequence(0), "Sequence ID less than that of the first message."),
    ]


_FAILED = f"An unexpected error occurred during connection handshake. {_DATA}: "
_MISSING = "Missing required property 'protocol'. Message content: "
_NOT_BOUND = f"Failed to invoke 'Add' due to an error on the server. {_DATA}: "
_NOT_TYPED = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."
_NO_SUCH = "Failed to invoke 'Nowhere' due to an error on the server. HubException: Method does not exist."
_UNEXPECTED = "An unexpected error occurred invoking"

BY_CLIENTS = [
    writes("what is no JSON", b"hello", stage=FIRST, outcome=REFUSED, text=f"{_FAILED.replace(_DATA, 'JsonReaderException')}{_JSON}"),
    says("a hub message", {"type": 6}, stage=FIRST, outcome=REFUSED, text=_FAILED + _MISSING + '{"type": 6}'),
    says("a protocol that is no string", {"protocol": 1, "version": 1}, stage=FIRST, outcome=REFUSED, text=f"{_FAILED}Expected 'protocol' to be of type String."),
    says("a version that is no number", {"protocol": "json", "version": "1"}, stage=FIRST, outcome=REFUSED, text=f"{_FAILED}Expected 'version' to be of type Number."),
    says("an unknown protocol", {"protocol": "smoke", "version": 1}, stage=FIRST, outcome=REFUSED, text="The protocol 'smoke' is not supported."),
    says("a version that is too high", {"protocol": "json", "version": 3}, stage=FIRST, outcome=REFUSED, text="The server does not support version 3 of the 'json' protocol."),
    writes("more than `max_handshake_size`", b"x" * 200, stage=FIRST, outcome=REFUSED, text="Handshake was canceled."),
    does("nothing for `handshake_timeout`", waits_too_long, stage=FIRST, outcome=REFUSED, text="Handshake was canceled."),
    does("leaving in the middle", leaves_in_the_middle, stage=FIRST, outcome=REFUSED),
    *(writes(title, record, outcome=CLOSES, kind=kind, text=text) for title, record, kind, text in malformed()),
    *ignored_by_both(),
    says("a method that does not exist", call("Nowhere"), outcome=CALL_FAILS, text=_NO_SUCH),
    says("a method that does not exist, without id", call("Nowhere", id=None), outcome=IGNORED),
    says("too few arguments, or too many", call("Add", 1), outcome=CALL_FAILS, text=f"{_NOT_BOUND}Invocation provides 1 argument(s) but target expects 2."),
    says("an argument of a wrong type", call("Add", 1, "x"), outcome=CALL_FAILS, text=f"{_NOT_BOUND}{_NOT_TYPED}"),
    says("more arguments than `max_arguments`", call("Sum", 1, 2, 3, 4), outcome=CALL_FAILS, text=f"{_NOT_BOUND.replace('Add', 'Sum')}Invocation provides 4 argument(s) but at most 3 are accepted."),
    says("a plain call of a streaming method", call("Count", 1), outcome=CALL_FAILS, text="The client attempted to invoke the streaming 'Count' method with a non-streaming invocation."),
    says("a streaming call of a plain method", stream("Add", 1, 2), outcome=CALL_FAILS, text="The client attempted to invoke the non-streaming 'Add' method with a streaming invocation."),
    says("too few streams", call("Upload", streamIds=["x"]), outcome=CALL_FAILS, text=f"{_UNEXPECTED} 'Upload' on the server. HubException: Client sent 1 stream(s), Hub method expects 2."),
    says("too many streams", call("Add", 1, 2, streamIds=["x"]), outcome=CALL_FAILS, text=f"{_UNEXPECTED} 'Add' on the server. HubException: Client sent 1 stream(s), Hub method expects 0."),
    says("a streaming call under the id of one that runs", stream("Count", 1, id="2"), outcome=CALL_FAILS, text="Invocation ID '2' is already in use."),
    says("more calls than `max_open_calls`", stream("Count", 1, id="5"), stream("Count", 1, id="6"), stream("Count", 1), outcome=CALL_FAILS, text="Failed to invoke 'Count': at most 4 calls may be open on a connection."),
    says("more uploads than `max_open_streams`", call("Upload", streamIds=["a", "b", "c"]), outcome=CALL_FAILS, text="Failed to invoke 'Upload': at most 4 streams may be open on a connection."),
    says("an item of a wrong type", item("x", "u"), outcome=STREAM_FAILS, text="Failed to bind Stream message. JsonException: Expected `int`, got `str`"),
    says("an item, or another end, after the end of its stream", completion("u"), item(1, "u"), completion("u", error="x"), outcome=IGNORED),
    says("messages that have arrived before", sequence(3), call("Add", 1, 2, id="1"), stage=STATEFUL, outcome=IGNORED),
    *(says(title, message, stage=STATEFUL, outcome=CLOSES, kind=_DATA, text=text) for title, message, text in counted_wrongly()),
    does("a cut, and no new transport for `resume_window`", is_cut_off_for_long, stage=STATEFUL, outcome=CLOSES, text="the transport was lost, and not replaced within 15 s: connection reset"),
    does("a cut", is_cut_off, outcome=CLOSES, kind="TransportError", text="connection reset"),
    does("leaving in the middle of a message", leaves_in_the_middle, outcome=CLOSES, kind=_DATA, text="Connection terminated while reading a message."),
    does("nothing for `silence_timeout` after a first Ping", pings_and_falls_silent, outcome=CLOSES, kind="OperationCanceledException", text="Client hasn't sent a message/ping within the configured ClientTimeoutInterval."),
    does("nothing for `silence_timeout` without ever a Ping", falls_silent, outcome=IGNORED),
]  # fmt: skip

BY_SERVERS = [
    writes("what is no JSON", b"hello", stage=FIRST, outcome=REFUSED, text=_JSON),
    says("a hub message", {"type": 6}, stage=FIRST, outcome=REFUSED, text="Expected a handshake response from the server."),
    says("an error that is no string", {"error": None}, stage=FIRST, outcome=REFUSED, text="Expected 'error' to be of type String."),
    writes("more than `max_handshake_size`", b"x" * 200, stage=FIRST, outcome=REFUSED, text=f"The maximum message size of 200B {_TOO_LARGE}"),
    does("nothing for `handshake_timeout`", waits_too_long, stage=FIRST, outcome=REFUSED, text="no handshake within 15 s"),
    does("leaving in the middle", leaves_in_the_middle, stage=FIRST, outcome=REFUSED, text="The server disconnected before sending a handshake response"),
    *(writes(title, record, outcome=CLOSES, text=text) for title, record, _, text in malformed()),
    *ignored_by_both(),
    says("a call that has no handler", call("nowhere"), outcome=CALL_FAILS, text="Client didn't provide a result."),
    says("a call that has no handler, without id", call("nowhere", id=None), outcome=IGNORED),
    says("arguments that do not fit", call("ask", "x"), outcome=CALL_FAILS, text="Client failed to parse argument(s)."),
    says("arguments that do not fit, without id", call("ask", "x", id=None), outcome=IGNORED),
    says("more calls than `max_open_calls`", *(call("ask", 1, id=f"s{n}") for n in range(4)), call("ask", 1), outcome=CALL_FAILS, text="Failed to invoke 'ask': at most 4 calls may be open on a connection."),
    says("an item for a plain call", item(1, "1"), outcome=IGNORED),
    says("an item of a wrong type", item("x", "2"), outcome=STREAM_FAILS, text="Failed to bind Stream message. JsonException: Expected `int`, got `str`"),
    says("a result of a wrong type", completion("1", result="x"), outcome=OUR_CALL_FAILS, text="Error trying to deserialize result to Int64. Expected `int`, got `str`"),
    says("an item, or another end, after the end of its stream", completion("2"), item(1, "2"), completion("2", error="x"), outcome=IGNORED),
    says("messages that have arrived before", sequence(1), item(1, "2"), stage=STATEFUL, outcome=IGNORED),
    *(says(title, message, stage=STATEFUL, outcome=CLOSES, text=text) for title, message, text in counted_wrongly()),
    does("a cut, and no new transport for `resume_window`", is_cut_off_for_long, stage=STATEFUL, outcome=CLOSES, text="the transport was lost, and not replaced within 15 s: connection reset"),
    does("a cut", is_cut_off, outcome=CLOSES, text="connection reset"),
    does("leaving in the middle of a message", leaves_in_the_middle, outcome=CLOSES, text="Connection terminated while reading a message."),
    does("nothing for `silence_timeout`", falls_silent, outcome=CLOSES, text="Server timeout (30000.00ms) elapsed without receiving a message from the server."),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PackedViolation:
    """One row of what a client may do wrong in MessagePack where JSON knows no such thing, or other words for it.

    `record` is in hexadecimal digits, with the length before it.
    """

    title: str
    record: str
    outcome: Outcome
    kind: str = ""
    text: str = ""
    stage: Stage = Stage.OPEN


def packed(
    title: str, record: str, outcome: Outcome, text: str = "", kind: str = "InvalidDataException"
) -> PackedViolation:
    return PackedViolation(title=title, record=record, outcome=outcome, text=text, kind=kind)


BINDING = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."

IN_MESSAGEPACK = [
    packed("a length of more than five bytes", "ff ff ff ff ff 01", CLOSES, "Messages over 2GB in size are not supported.", "FormatException"),
    packed("a length above `max_message_size`", "d1 0f", CLOSES, "The maximum message size of 2000B was exceeded. The message size can be configured in AddHubOptions."),
    packed("an empty record", "00", CLOSES, "Attempted to read past the end of the stream.", "EndOfStreamException"),
    packed("a record that is no array", "02 a1 31", CLOSES, "Unexpected msgpack code 161 (fixstr) encountered.", "MessagePackSerializationException"),
    packed("a record with less than it announces", "02 95 01", CLOSES, "Attempted to read past the end of the stream.", "EndOfStreamException"),
    packed("a type that is no integer", "03 91 a1 36", CLOSES, "Reading 'messageType' as Int32 failed."),
    packed("headers that are nil", "05 93 05 c0 a1 39", CLOSES, "Reading map length for 'headers' failed."),
    packed("a header without text", "08 93 05 81 a1 61 a0 a1 39", CLOSES, "Null or empty value in header."),
    packed("a header whose name is no text", "08 93 05 81 05 a1 62 a1 39", CLOSES, "Reading 'headers[0].Key' as String failed."),
    packed("an id that is no text", "04 93 05 80 09", CLOSES, "Reading 'invocationId' as String failed."),
    packed("a streaming call without id", "08 96 04 80 c0 a1 78 90 90", CLOSES, "Null or empty invocation ID for StreamInvocation message."),
    packed("a call without target", "07 96 01 80 c0 a0 90 90", CLOSES, "Null or empty target for Invocation message."),
    packed("stream ids that are no array", "0a 96 01 80 c0 a3 53 75 6d 90 c0", CLOSES, "Reading array length for 'streamIds' failed."),
    packed("a completion of an unknown kind", "06 94 03 80 a1 32 07", CLOSES, "Invalid invocation result kind."),
    packed("an allowReconnect that is no boolean", "04 93 07 c0 c0", CLOSES, "Reading 'allowReconnect' as Boolean failed."),
    packed("a sequence id that is no integer", "03 92 08 c0", CLOSES, "Reading 'sequenceId' as Int64 failed."),
    packed("an unknown type of message", "03 92 63 c0", IGNORED),
    packed("more elements than the message has", "05 93 06 c0 c1 c1", IGNORED),
    packed("an item of a stream that is not open", "06 94 02 80 a1 37 01", IGNORED),
    packed("arguments that are no array", "0a 96 01 80 a1 39 a3 41 64 64 c0", CALL_FAILS, "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Reading array length for 'arguments' failed."),
    packed("too few arguments", "0b 96 01 80 a1 39 a3 41 64 64 91 01", CALL_FAILS, "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Invocation provides 1 argument(s) but target expects 2."),
    packed("an argument of a wrong type", "0d 96 01 80 a1 39 a3 41 64 64 92 01 a1 78", CALL_FAILS, f"Failed to invoke 'Add' due to an error on the server. InvalidDataException: {BINDING}"),
    packed("arguments nested deeper than `max_depth`", "12 95 01 80 a1 39 a3 53 75 6d 91 91 91 91 91 91 91 91 01", CALL_FAILS, f"Failed to invoke 'Sum' due to an error on the server. InvalidDataException: {BINDING}"),
    packed("an item of a wrong type", "07 94 02 80 a1 75 a1 78", STREAM_FAILS, "Failed to bind Stream message. InvalidDataException: Deserializing object of the `Int64` type for 'item' failed. Expected `int`, got `str`"),
]  # fmt: skip

Command = Callable[[HubConnection], object]


@dataclass(frozen=True, kw_only=True)
class Misuse:
    """A command that breaks the rules: it raises `LocalProtocolError` with this text, and changes nothing."""

    title: str
    role: Role
    command: Command
    text: str
    stage: Stage = Stage.OPEN


def misuse(title: str, role: Role, command: Command, text: str, stage: Stage = Stage.OPEN) -> Misuse:
    return Misuse(title=title, role=role, command=command, text=text, stage=stage)


def sends_after_closing(conn: HubConnection) -> None:
    conn.close()
    conn.send("x")


SERVER, CLIENT = Role.SERVER, Role.CLIENT

MISUSES = [
    misuse("anything before the handshake is done", CLIENT, lambda c: c.send("x"), "nothing can be sent: the handshake is not done yet", FIRST),
    misuse("anything after the end", CLIENT, sends_after_closing, "nothing can be sent: the connection is closed"),
    misuse("asking a client for a stream", SERVER, lambda c: c.stream("x"), "only a client can ask for a stream (SPEC 2.1)"),
    misuse("an upload to a client", SERVER, lambda c: c.new_stream_id(), "only a client can upload a stream (SPEC 2.1)"),
    misuse("cancelling what is not open", CLIENT, lambda c: c.cancel("7"), "there is no call '7' to cancel"),
    misuse("cancelling twice", CLIENT, lambda c: c.cancel("2"), "there is no call '2' to cancel"),
    misuse("an item of what is not open", CLIENT, lambda c: c.send_item("7", 1), "the peer has no stream '7' open"),
    misuse("an item of a plain call", SERVER, lambda c: c.send_item("1", 1), "the peer has no stream '1' open"),
    misuse("an item of an upload before its call", CLIENT, lambda c: c.send_item("3", 1), "the peer has no stream '3' open"),
    misuse("completing what is not open", SERVER, lambda c: c.complete("7"), "the peer has no call '7' open"),
    misuse("completing an upload before its call", CLIENT, lambda c: c.complete("3"), "the peer has no call '3' open"),
    misuse("a completion with result and error", SERVER, lambda c: c.complete("1", 1, error="x"), "a completion carries a result or an error, not both"),
    misuse("a stream id that was not reserved", CLIENT, lambda c: c.send("x", stream_ids=["3", "7"]), "'7' is no stream id from new_stream_id() that waits for its call"),
    misuse("an argument that cannot be written", CLIENT, lambda c: c.invoke("x", [object()], stream_ids=["3"]), "Invocation cannot be written as JSON: a value of type object needs the codec's enc_hook"),
    misuse("an item that cannot be written", SERVER, lambda c: c.send_item("2", object()), "StreamItem cannot be written as JSON: a value of type object needs the codec's enc_hook"),
    misuse("a result that cannot be written", SERVER, lambda c: c.complete("1", object()), "Completion cannot be written as JSON: a value of type object needs the codec's enc_hook"),
    misuse("replacing a transport that cannot be", CLIENT, lambda c: c.resume(), "the transport cannot be replaced: stateful reconnect was not agreed on, or is over"),
]  # fmt: skip


# the tests


def make_hub() -> Hub:
    hub = Hub(CONFIG)

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Sum")
    def sum_(*numbers: int) -> int:
        return sum(numbers)

    @hub.method("Count")
    async def count(n: int) -> AsyncIterator[int]:
        yield n

    @hub.method("Upload")
    async def upload(a: AsyncIterator[int], b: AsyncIterator[int]) -> None:
        raise NotImplementedError

    return hub


HUB = make_hub()
CLOSED = "Connection closed with an error."


def title_of(row: Violation | PackedViolation | Misuse) -> str:
    return f"{row.stage.value}: {row.title}"


def do(row: Violation, peer: Peer) -> list[Any]:
    """Do what is wrong; return what the peer hears then."""
    if row.does is not None:
        row.does(peer)
    else:
        assert row.json is not None
        peer.say_bytes(row.json)
    return peer.hear()


def failure(stream: IncomingStream) -> str | None:
    """What the reader of a stream is told where there is no item; None if it may still come."""
    try:
        stream.receive_nowait()
    except WouldBlock:
        return None
    except EndOfStream:
        return "ended"
    except HubError as error:
        return str(error)
    raise AssertionError("there was an item")


@pytest.mark.parametrize("row", BY_CLIENTS, ids=title_of)
def test_what_a_client_does_wrong(row: Violation) -> None:
    """It has a stream and an upload of two streams open, has called once more and been answered."""
    client = HubPeer(HUB, stateful=row.stage is STATEFUL, handshake=False)
    if row.stage is not FIRST:
        client.say_bytes(HANDSHAKE_2 if row.stage is STATEFUL else HANDSHAKE)
        client.say(stream("Count", 1, id="2"), call("Upload", id="3", streamIds=["u", "v"]), call("Add", 1, 2, id="1"))
        assert client.hear() == [{}, completion("1", result=3)]

    heard = do(row, client)

    if row.outcome is REFUSED:
        assert heard == ([{"error": row.text}] if row.text else [])
        assert client.session.closed is not None
        return
    if row.outcome is CLOSES:
        assert str(client.session.error) == row.text
        close = {"type": 7, "error": f"{CLOSED} {row.kind}: {row.text}", "allowReconnect": True}
        assert heard == ([close] if row.kind else [])  # without a transport there is nobody to be told
        return
    assert heard == ([completion(heard[0]["invocationId"], error=row.text)] if row.outcome is CALL_FAILS else [])
    assert client.session.closed is None
    uploaded, other = client.shell.find("Upload").incoming
    if row.outcome is STREAM_FAILS:
        assert failure(uploaded) == row.text
    client.say(item(7, "v"))
    assert other.receive_nowait() == 7


@pytest.mark.parametrize("row", IN_MESSAGEPACK, ids=title_of)
def test_what_a_client_does_wrong_in_messagepack(row: PackedViolation) -> None:
    """It has a stream and an upload of two streams open, as above."""
    codec = MessagePackCodec()
    client = HubPeer(HUB, handshake=False)
    client.say_bytes(HANDSHAKE.replace(b"json", b"messagepack"))
    client.say_bytes(codec.encode(StreamInvocation(invocation_id="2", target="Count", arguments=[1])))
    client.say_bytes(codec.encode(Invocation(invocation_id="3", target="Upload", arguments=[], stream_ids=["u", "v"])))
    assert client.hear() == []

    client.say_bytes(bytes.fromhex(row.record))
    heard = client.hear()

    if row.outcome is CLOSES:
        assert (str(client.session.error), heard) == (row.text, [[7, f"{CLOSED} {row.kind}: {row.text}", True]])
        return
    assert heard == ([[3, {}, "9", 1, row.text]] if row.outcome is CALL_FAILS else [])
    uploaded, other = client.shell.find("Upload").incoming
    if row.outcome is STREAM_FAILS:
        assert failure(uploaded) == row.text
    client.say_bytes(codec.encode(StreamItem(invocation_id="v", item=7)))
    assert other.receive_nowait() == 7


@pytest.mark.parametrize("row", BY_SERVERS, ids=title_of)
def test_what_a_server_does_wrong(row: Violation) -> None:
    """We have a call and two streams open."""
    handlers = Handlers()
    handlers.add("ask", ask)
    server = ServerPeer(handlers, CONFIG, stateful=row.stage is STATEFUL, handshake=False)
    server.hear()
    if row.stage is FIRST:
        assert do(row, server) == []
        assert row.outcome is REFUSED
        assert str(server.session.error) == row.text
        return
    server.say_bytes(b"{}\x1e")
    ours = server.session.invoke("Add", [1, 2], Shape(int))
    down, other = server.session.stream("Count", shape=Shape(int)), server.session.stream("Count", shape=Shape(int))
    server.say(item(1, "2"))
    assert down.receive_nowait() == 1
    server.hear()

    heard = do(row, server)

    if row.outcome is CLOSES:
        assert str(server.session.error) == row.text
        assert heard == []
        return
    assert heard == ([completion("9", error=row.text)] if row.outcome is CALL_FAILS else [])
    assert server.session.closed is None
    if row.outcome is OUR_CALL_FAILS:
        with pytest.raises(HubError) as failed:
            ours.outcome()
        assert str(failed.value) == row.text
    if row.outcome is STREAM_FAILS:
        assert failure(down) == row.text
    server.say(item(7, "3"))
    assert other.receive_nowait() == 7


def ask(number: int) -> object:
    return WAITS


def drain(conn: HubConnection) -> None:
    while conn.next_event(now=0.0) is not None:
        pass


@pytest.mark.parametrize("row", MISUSES, ids=title_of)
def test_what_the_user_does_wrong(row: Misuse) -> None:
    """A client has made a call and reserved an upload, a server has a call and a stream to answer."""
    conn = HubConnection(row.role, [JsonCodec()], now=0.0)
    if row.stage is not FIRST:
        conn.receive_data(HANDSHAKE if row.role is SERVER else b"{}\x1e", now=0.0)
        drain(conn)
        if row.role is SERVER:
            conn.receive_data(pack(call("Add", 1, 2, id="1"), stream("Count", id="2")), now=0.0)
            drain(conn)
        else:
            conn.invoke("Slow")
            conn.cancel(conn.invoke("Slow"))
            conn.new_stream_id()
    conn.data_to_send(now=0.0)
    before = (conn.is_open, conn.next_timeout())
    with pytest.raises(LocalProtocolError) as raised:
        row.command(conn)
    assert str(raised.value) == row.text
    if conn.is_over:
        return
    assert (conn.is_open, conn.next_timeout()) == before
    assert conn.unsent == 0
    if row.stage is FIRST:
        return
    if row.role is SERVER:
        conn.send_item("2", 1)
        conn.complete("1", 3)
        conn.complete("2")
    else:
        conn.send("Up", stream_ids=["3"])
        conn.send_item("3", 1)
        conn.cancel("1")
    assert conn.data_to_send(now=0.0).count(b"\x1e") == 3
