"""What fuzzing starts from: a few inputs of our own, the vectors, and what Microsoft's clients and servers have said.

`HUBPROTO_VECTORS` names the folder of conformance.json, `HUBPROTO_CONVERSATIONS` that of the recordings; what is not
there is left out.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.scripts import BINARY, STATEFUL, Script

RS = b"\x1e"
REQUEST = b'{"protocol":"json","version":1}' + RS
BINARY_REQUEST = b'{"protocol":"messagepack","version":1}' + RS
STATEFUL_REQUEST = b'{"protocol":"json","version":2}' + RS
MESSAGES = [
    b'{"type":1,"invocationId":"1","target":"Add","arguments":[1,2],"streamIds":["2"],"headers":{"a":"b"}}',
    b'{"type":1,"target":"Many","arguments":[{"x":[1.5,2e300]},null,"AQID"]}',
    b'{"type":4,"invocationId":"3","target":"Count","arguments":[{"a":["\\u00e9\\ud83d\\ude00",true,null]}]}',
    b'{"type":1,"target":"Times","arguments":["2024-02-29T23:59:59.1234567Z","1.02:03:04.5","2024-02-29","23:59:59.1"]}',
    b'{"type":1,"target":"Money","arguments":[12.50,"00112233-4455-6677-8899-aabbccddeeff",1.5,"x"]}',
    b'{"type":1,"target":"Things","arguments":[[{"kind":1,"name":"a","data":"AQID","parts":{"7":{"kind":2}}}],2]}',
    b'{"type":2,"invocationId":"2","item":[]}',
    b'{"type":3,"invocationId":"1","result":-0.0}',
    b'{"type":3,"invocationId":"1","error":"no"}',
    b'{"type":5,"invocationId":"3"}',
    b'{"type":6}',
    b'{"type":7,"error":"bye","allowReconnect":true}',
    b'{"type":8,"sequenceId":1}',
    b'{"type":9,"sequenceId":1}',
]
TYPED_BODIES = [
    b"\x96\x01\x80\xc0\xa5Times\x94\xd6\xff\x65\xe1\x1a\x00\xcf\0\0\x01\0\0\0\0\0\xaa2024-02-29\xce\0\1\0\0\x90",
    b"\x96\x01\x80\xc0\xa5Money\x94\xa512.50\xd9\x2400112233-4455-6677-8899-aabbccddeeff\xca\x3f\xc0\0\0\x78\x90",
    b"\x96\x01\x80\xc0\xa6Things\x92\x91\x82\xa4kind\xa3ONE\xa5parts\x81\x07\x81\xa4kind\xa3TWO\xa3ONE\x90",
]
OPERATIONS = tuple((place, kind | place & 0xF0) for place, kind in zip(range(15, 256, 16), range(2, 16), strict=False))
UPGRADE = (
    b"GET /hub HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
NEGOTIATE = b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"


def seeds(target: str) -> Iterator[bytes]:
    """The seeds of one target."""
    streams = dict(_streams())
    match target:
        case "json":
            yield from MESSAGES
            for case in _vectors("json"):
                yield case["input"].encode().removesuffix(RS)
            for stream in streams.get("json", ()):
                yield from stream.split(RS)[1:-1]
        case "messagepack":
            yield from TYPED_BODIES
            for case in _vectors("messagepack"):
                yield from _bodies(bytes.fromhex(case["input"]))
            for stream in streams.get("messagepack", ()):
                yield from _bodies(stream.partition(RS)[2])
        case "handshake":
            yield from (REQUEST[:-1], b"{}", b'{"error":"no"}', b'{"type":6}')
            for case in _vectors("handshake"):
                yield case["input"].encode().removesuffix(RS)
        case "text-framing" | "binary-framing":
            yield Script.write(b"ab\x1e\x1ecdef\x1e", ((100, 0), (200, 0)), flags=1)
            yield Script.write(b"\x02ab\x00\x85\x00abcde", ((100, 0), (200, 0)), flags=1)
            yield Script.write(b"\x80\x01" + bytes(128))
        case "server" | "client":
            heads = (REQUEST, BINARY_REQUEST, STATEFUL_REQUEST) if target == "server" else (b"{}" + RS,)
            for head in heads:
                for flags in range(16):
                    yield Script.write(head, OPERATIONS, flags)
                yield Script.write(head + RS.join(MESSAGES) + RS, OPERATIONS)
                lost = ((150, 4 | 16), (160, 5), (170, 1), (200, 2), (220, 4 | 16), (221, 1), (240, 4 | 16))
                yield Script.write(head + RS.join(MESSAGES[::-1] * 2) + RS, lost, STATEFUL)
                for message in MESSAGES:
                    yield Script.write(head + message + RS)
            for flags, protocol in ((0, "json"), (BINARY, "messagepack")):
                for stream in streams.get(protocol, ()):
                    if stream.startswith(b'{"protocol"') == (target == "server"):
                        yield Script.write(stream[:4000], flags=flags)
                for case in _vectors(protocol):
                    record = case["input"].encode() if protocol == "json" else bytes.fromhex(case["input"])
                    head = (BINARY_REQUEST if flags else REQUEST) if target == "server" else b"{}" + RS
                    yield Script.write(head + record, ((128, 2),), flags)
        case "endpoint":
            yield from _endpoint_seeds()


def _endpoint_seeds() -> Iterator[bytes]:
    yield Script.write(NEGOTIATE * 2 + b"GET /hub?id=AAAAAAAAAAAAAAAAAAAAAg HTTP/1.1\r\nHost: h\r\n\r\n")
    yield Script.write(b"DELETE /hub?id=x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + NEGOTIATE)
    chunked = b"POST /hub HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    yield Script.write(chunked + b"3\r\nabc\r\n0\r\n\r\n")
    calls = [
        b'{"type":1,"invocationId":"1","target":"echo","arguments":[[1]]}',
        b'{"type":1,"invocationId":"2","target":"waits","arguments":["x"]}',
        b'{"type":4,"invocationId":"3","target":"counts","arguments":[3]}',
        b'{"type":1,"invocationId":"4","target":"collects","arguments":[],"streamIds":["s"]}',
        b'{"type":2,"invocationId":"s","item":1}',
        b'{"type":5,"invocationId":"3"}',
        b'{"type":1,"invocationId":"5","target":"fails","arguments":[]}',
    ]
    frames = [_frame(1, REQUEST), *(_frame(1, call + RS) for call in calls)]
    yield Script.write(UPGRADE + b"".join(frames), tuple((place, place) for place in range(100, 250, 10)))
    yield Script.write(UPGRADE + b"".join([*frames, _frame(9, b"ping"), _frame(8, b"\x03\xe8")]))
    yield Script.write(UPGRADE + _frame(1, REQUEST) + UPGRADE, ((128, 2),))
    yield from _stateful_seeds(frames[1:])
    yield Script.write(UPGRADE + _frame(2, BINARY_REQUEST) + _frame(2, b"\x02\x91\x06"), ((250, 1), (255, 25)))


def _stateful_seeds(calls: list[bytes]) -> Iterator[bytes]:
    """One WebSocket after another: each on a new socket, the one before cut, or left as it is; some come too late."""
    negotiate = NEGOTIATE.replace(b"=1 ", b"=1&useStatefulReconnect=true ")
    upgrade = UPGRADE.replace(b"/hub", b"/hub?id=AAAAAAAAAAAAAAAAAAAAAg")  # the second id that is given out
    again = upgrade + _frame(1, b'{"type":9,"sequenceId":1}' + RS) + b"".join(calls)
    stream = negotiate + upgrade + _frame(1, STATEFUL_REQUEST) + b"".join(calls)
    first, second = len(negotiate), len(stream)
    stream += 2 * again
    places = [-(-place * 255 // len(stream)) for place in (first, second, second + len(again))]
    for happens in ((), (3 | 8 | 16,), (3, 1 | 8), (3 | 8, 1 | 24)):
        operations = [(places[1], operation) for operation in happens]
        yield Script.write(stream, (*operations, (places[1], 2), (places[2], 2), (255, 5), (255, 6)))


def _frame(kind: int, data: bytes) -> bytes:
    """A client's frame whose mask changes nothing."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([0x80 | kind]) + size + bytes(4) + data


def _vectors(protocol: str) -> Iterator[dict[str, Any]]:
    """The vectors of one protocol that have bytes as input."""
    folder = os.environ.get("HUBPROTO_VECTORS")
    if folder:
        cases = json.loads(Path(folder, "conformance.json").read_text(encoding="utf-8"))
        yield from (case for case in cases if case["protocol"] == protocol and isinstance(case.get("input"), str))


def _streams() -> dict[str, list[bytes]]:
    """What each side of each recorded WebSocket said, by protocol, handshake first."""
    folder = os.environ.get("HUBPROTO_CONVERSATIONS")
    found: dict[str, list[bytes]] = defaultdict(list)
    for file in sorted(Path(folder, "clients").glob("*.jsonl")) if folder else ():
        said: dict[tuple[int, str], bytes] = defaultdict(bytes)
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "socket" in entry and ("text" in entry or "hex" in entry):
                data = entry["text"].encode() if "text" in entry else bytes.fromhex(entry["hex"])
                said[entry["socket"], entry["dir"]] += data
        protocol = "messagepack" if "msgpack" in file.name else "json"
        found[protocol] += said.values()
    return found


def _bodies(stream: bytes) -> Iterator[bytes]:
    """The bodies of records that have their length before them."""
    while stream:
        size = shift = place = 0
        while place < len(stream) and shift < 35:
            byte = stream[place]
            size |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                break
        yield stream[place : place + size]
        stream = stream[place + size :]
