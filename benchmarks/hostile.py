"""What hostile input costs: `python -m benchmarks.hostile` prints nanoseconds a byte, by size and encoding.

The exit status is 1 where a byte of a large input costs more than twice as much as one of a small input, so that a
peer could make the core work out of proportion to what it sends; and where more is held than one message and one read.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hubproto_core as hp
from hubproto_core.testing import take_events

KIB = 1024
SIZES = (KIB, 64 * KIB, KIB * KIB)
READ = 64 * KIB  # bytes of one read, as sockets are read
GROWTH = 2.0  # what a byte may cost more
NOISE = 2.0  # ns: growth below this is the memory's doing
CODECS: list[hp.Codec] = [hp.JsonCodec(), hp.MessagePackCodec()]


@dataclass(frozen=True)
class Case:
    """An input of about so many bytes, and in what pieces it is read."""

    name: str
    build: Callable[[hp.Codec, int], bytes]
    read: int = READ


def text(codec: hp.Codec, size: int) -> bytes:
    return codec.encode(hp.Invocation(target="T", arguments=("x" * size,)))


def escaped_text(codec: hp.Codec, size: int) -> bytes:
    return codec.encode(hp.Invocation(target="T", arguments=('"\n\u2028é' * (size // 12),)))


def numbers(codec: hp.Codec, size: int) -> bytes:
    return codec.encode(hp.Invocation(target="T", arguments=([1] * (size // 2),)))


def arguments(codec: hp.Codec, size: int) -> bytes:
    return codec.encode(hp.Invocation(target="T", arguments=(1,) * (size // 2)))


def members(codec: hp.Codec, size: int) -> bytes:
    return codec.encode(hp.Invocation(target="T", arguments=({f"{n:07}": None for n in range(size // 15)},)))


def pings(codec: hp.Codec, size: int) -> bytes:
    ping = codec.encode(hp.Ping())
    return ping * (size // len(ping))


def tiny_calls(codec: hp.Codec, size: int) -> bytes:
    call = codec.encode(hp.Invocation(target="T", arguments=()))
    return call * (size // len(call))


def empty_records(codec: hp.Codec, size: int) -> bytes:
    return (b"\x1e" if codec.name == "json" else b"\0") * size


def nested(codec: hp.Codec, size: int) -> bytes:
    """Arrays in arrays, far deeper than is allowed."""
    if codec.name == "json":
        return b'{"type":1,"target":"T","arguments":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}\x1e"
    return framed(b"\x95\x01\x80\xc0\xa1T" + b"\x91" * size + b"\xc0")


def deep_and_wide(codec: hp.Codec, size: int) -> bytes:
    """As deep as is allowed, again and again."""
    value: list[object] = []
    for _ in range(50):
        value = [value]
    return codec.encode(hp.Invocation(target="T", arguments=([value] * (size // 100),)))


def unfinished(codec: hp.Codec, size: int) -> bytes:
    """A record whose end never comes."""
    if codec.name == "json":
        return b'{"type":1,"target":"T","arguments":["' + b"x" * size
    return framed(b"\x95\x01\x80\xc0\xa1T\x91" + b"\xc0" * 2 * size)[:size]


def bad_at_the_end(codec: hp.Codec, size: int) -> bytes:
    """Everything is in order but the last byte."""
    if codec.name == "json":
        return b'{"type":1,"target":"T","arguments":[' + b"1," * (size // 2) + b"}\x1e"
    return framed(b"\x96\x01\x80\xc0\xa1T" + b"\xdd" + size.to_bytes(4, "big") + b"\x01" * size + b"\xc0")


def no_unicode(codec: hp.Codec, size: int) -> bytes:
    """A text that is not UTF-8."""
    if codec.name == "json":
        return b'{"type":1,"target":"T","arguments":["' + b"\xc3" * size + b'"]}\x1e'
    return framed(b"\x95\x01\x80\xc0\xa1T\x91\xdb" + size.to_bytes(4, "big") + b"\xc3" * size)


def open_quotes(codec: hp.Codec, size: int) -> bytes:
    """Quotes and brackets that nothing closes, or headers that are none."""
    if codec.name == "json":
        return b'{"type":1,"target":"T","arguments":[' + b'[\\u"' * (size // 5) + b"}\x1e"
    return framed(b"\x95\x01\xdf" + (size // 2).to_bytes(4, "big") + b"\xa1a" * (size // 2))


def again_and_again(codec: hp.Codec, size: int) -> bytes:
    """The same member many times, its name escaped; or stream ids without end."""
    if codec.name == "json":
        return b'{"type":1,"target":"T"' + b',"\\u0061rguments":[]' * (size // 20) + b"}\x1e"
    return framed(b"\x96\x01\x80\xc0\xa1T\x90\xdd" + (size // 2).to_bytes(4, "big") + b"\xa1a" * (size // 2))


def framed(record: bytes) -> bytes:
    size, prefix = len(record), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*prefix, size]) + record


CASES = (
    Case("one huge text", text),
    Case("one huge text, escapes", escaped_text),
    Case("one array of numbers", numbers),
    Case("one object of members", members),
    Case("one call, many arguments", arguments),
    Case("many pings", pings),
    Case("many tiny calls", tiny_calls),
    Case("empty records", empty_records),
    Case("nested too deep", nested),
    Case("nested as deep as may be", deep_and_wide),
    Case("wrong at its end", bad_at_the_end),
    Case("text that is no UTF-8", no_unicode),
    Case("open quotes, bad headers", open_quotes),
    Case("again and again", again_and_again),
    Case("unfinished record", unfinished, read=512),
    Case("one text, byte by byte", text, read=1),
    Case("tiny calls, byte by byte", tiny_calls, read=1),
    Case("unfinished, byte by byte", unfinished, read=1),
)


def server(codec: hp.Codec, limit: int | None) -> hp.HubConnection:
    """A connection whose handshake is done."""
    conn = hp.HubConnection(hp.Role.SERVER, [codec], config=hp.HubConfig(max_message_size=limit), now=0.0)
    conn.receive_data(f'{{"protocol":"{codec.name}","version":1}}\x1e'.encode(), now=0.0)
    take_events(conn, now=0.0)
    return conn


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def cost(case: Case, codec: hp.Codec, size: int) -> float:
    """Nanoseconds of CPU a byte: of several runs the quickest, which is the one that the machine disturbed least.

    Without the garbage collector, whose work depends on all that is alive in the process.
    """
    data = case.build(codec, size)
    reads = list(pieces(data, case.read))
    best = float("inf")
    runs = 2 if len(data) > READ else 5
    repeat = max(1, 16 * KIB // len(data))
    for _ in range(runs):
        conns = [server(codec, None) for _ in range(repeat)]
        gc.collect()
        gc.disable()
        start = time.process_time()
        for conn in conns:
            for piece in reads:
                conn.receive_data(piece, now=0.0)
                while conn.next_event(now=0.0) is not None:
                    pass
        best = min(best, time.process_time() - start)
        gc.enable()
    return best * 1e9 / (repeat * len(data))


def most_held(codec: hp.Codec, limit: int, data: bytes, read: int) -> int:
    """How many bytes the connection holds at most, consumed or not."""
    conn = server(codec, limit)
    most = 0
    for piece in pieces(data, read):
        conn.receive_data(piece, now=0.0)
        most = max(most, len(conn._buffer._data))
        take_events(conn, now=0.0)
        most = max(most, len(conn._buffer._data))
    return most


def grown(costs: Sequence[float]) -> bool:
    """Whether a byte of a larger input costs more than may be."""
    return any(large > GROWTH * small + NOISE for place, small in enumerate(costs) for large in costs[place + 1 :])


def main() -> int:
    failures = 0
    print(f"{'nanoseconds a byte':34} {'1 KiB':>9} {'64 KiB':>9} {'1 MiB':>9}")
    for codec in CODECS:
        for case in CASES:
            costs = [cost(case, codec, size) for size in SIZES]
            if grown(costs):  # the machine may have been busy: the same once more
                costs = [cost(case, codec, size) for size in SIZES]
            failures += grown(costs)
            columns = " ".join(f"{value:9.2f}" for value in costs)
            print(f"{case.name:26} {codec.name[:7]:7} {columns}{'  GROWS' if grown(costs) else ''}", flush=True)
    limit = 32 * KIB
    print(f"\nmost bytes held, of messages up to {limit}, in reads of {', '.join(map(str, (1000, 4096, READ)))}")
    for codec in CODECS:
        for case in CASES:
            data = case.build(codec, KIB * KIB) + case.build(codec, limit // 4) * 100
            held = {read: most_held(codec, limit, data, read) for read in (1000, 4096, READ)}
            good = all(most <= limit + read for read, most in held.items())
            failures += not good
            columns = " ".join(f"{most:9}" for most in held.values())
            print(f"{case.name:26} {codec.name[:7]:7} {columns}{'' if good else '  TOO MUCH'}", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
