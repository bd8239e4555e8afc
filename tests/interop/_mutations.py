"""Valid records and handshakes, made wrong at random; a seed gives the same ones each time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from hubproto_core import (
    Ack,
    CancelInvocation,
    Close,
    Codec,
    Completion,
    HubMessage,
    Invocation,
    JsonCodec,
    Ping,
    SequenceMessage,
    StreamInvocation,
    StreamItem,
)
from hubproto_core._framing import RecordBuffer, frame_binary

MESSAGES: tuple[HubMessage, ...] = (
    Invocation(invocation_id="1", target="Add", arguments=[1, 2]),
    Invocation(invocation_id="2", target="Length", arguments=["na\u00efve \u2603"]),
    Invocation(target="Add", arguments=[1, 2], headers={"a": "b", "c": ""}),
    Invocation(invocation_id="3", target="Add", arguments=[1, 2], stream_ids=["s"]),
    Invocation(invocation_id="4", target="MovePoint", arguments=[{"X": 1.5, "Y": 2, "Label": "p"}, 1, 0.5]),
    Invocation(invocation_id="5", target="Nothing", arguments=[]),
    Invocation(invocation_id="6", target="Nowhere", arguments=[None, [True, {}]]),
    StreamInvocation(invocation_id="7", target="Add", arguments=[1, 2]),
    StreamItem(invocation_id="8", item={"a": [1, "b"]}),
    Completion(invocation_id="9", result=[1]),
    Completion(invocation_id="10", error="no"),
    CancelInvocation(invocation_id="11"),
    Ping(),
    Close(error="bye"),
    Ack(sequence_id=1),
    SequenceMessage(sequence_id=1),
)
"""One or more of each type, to methods of the lab hub that answer at once."""

HANDSHAKES = (
    b'{"protocol":"json","version":1}',
    b'{"protocol":"messagepack","version":2}',
    b'{"version":1,"extra":{"version":[null]},"protocol":"json"}',
)

_PUNCTUATION = '{ } [ ] , : " 0 -1 1.5 1e3 null true / \\ \\u0061 \\ud800 \n \x00 \ufeff'
_MEMBERS = """
    "type":6, "type":1.0, "type":null, "invocationId":null, "invocationId":"", "target":"Add", "arguments":null,
    "arguments":[1], "streamIds":[1], "headers":{"a":1}, "error":"x", "result":null, "item":[}], "allowReconnect":1,
    "sequenceId":99999999999999999999, "protocol":5, "version":null,
"""
_JSON_PIECES = (
    b"\xff",
    *(piece.encode() for piece in _PUNCTUATION.split(" ")),
    *(member.encode() for member in _MEMBERS.split()),
)
_MESSAGEPACK_VALUES = """
    00 80 90 91 92 a0 a161 c0 c1 c2 c3 ff cc24 ce7fffffff d3ffffffffffffffff ca42280000 c403010203 d6ff00000001
    dc0003 de0001 81a161a162
"""
_MESSAGEPACK_PIECES = tuple(bytes.fromhex(piece) for piece in _MESSAGEPACK_VALUES.split())


def mutated_records(codec: Codec, count: int, seed: int) -> Iterator[bytes]:
    """So many records, framed as they should be, whatever is in them."""
    text = isinstance(codec, JsonCodec)
    bodies = [_body(codec, message) for message in MESSAGES]
    for body in _mutated(bodies, _JSON_PIECES if text else _MESSAGEPACK_PIECES, count, seed):
        yield body.replace(b"\x1e", b"") + b"\x1e" if text else frame_binary(body)


def mutated_handshakes(count: int, seed: int) -> Iterator[bytes]:
    """So many requests."""
    for body in _mutated(HANDSHAKES, _JSON_PIECES, count, seed):
        yield body.replace(b"\x1e", b"") + b"\x1e"


def _body(codec: Codec, message: HubMessage) -> bytes:
    buffer = RecordBuffer()
    buffer.append(codec.encode(message))
    body = codec.next_record(buffer, None)
    assert body is not None
    return body


def _mutated(bodies: Sequence[bytes], pieces: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for number in range(count):
        body = bytearray(bodies[number % len(bodies)])
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            place = rng.randrange(len(body) + 1)
            match rng.randrange(6):
                case 0:
                    del body[place : place + rng.randint(1, 4)]
                case 1:
                    body[place : place + 1] = bytes([rng.randrange(256)])
                case 2:
                    del body[place:]
                case 3:
                    other = rng.choice(bodies)
                    start = rng.randrange(len(other))
                    body[place:place] = other[start : start + rng.randint(1, 30)]
                case _:
                    body[place : place + rng.randint(0, 2)] = rng.choice(pieces)
        yield bytes(body)
