"""Server-sent events as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import RemoteProtocolError
from hubproto_core.http._sse import EventReader, encode_event


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"", b"\r\n"),
        (b"a", b"data: a\r\n\r\n"),
        (b'{"type":6}\x1e{"type":7}\x1e', b'data: {"type":6}\x1e{"type":7}\x1e\r\n\r\n'),
        (b"a\r\nb", b"data: a\r\ndata: b\r\n\r\n"),
        (b"a\n\nb\n", b"data: a\r\ndata: \r\ndata: b\r\ndata: \r\n\r\n"),
        (b"\n", b"data: \r\ndata: \r\n\r\n"),
        (b"\r\n", b"data: \r\r\ndata: \r\n\r\n"),
        (b"\r\r\n", b"data: \r\r\ndata: \r\n\r\n"),
        (b"a\rb", b"data: a\rb\r\n\r\n"),
    ],
)
def test_events_are_written_as_the_reference_writes_them(payload: bytes, event: bytes) -> None:
    assert encode_event(payload) == event


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"", []),
        (b":\r\n", []),
        (b":\r\ndata: a\r\n\r\n", [b"a"]),
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\r\n\ndata: b\r\r\n", [b"a", b"b"]),
        (b"data: a\r\n", []),
        (b"data: a\r\n\r", [b"a"]),
        (b"data: a\r\n\r\n\r\n\n\r", [b"a"]),
        (b"data: a", []),
        (b"data:a\ndata:  b\n\n", [b"a\n b"]),
        (b"data\n\n", [b""]),
        (b"data: \ndata:\n\n", [b"\n"]),
        (b"event: x\nid: 1\nretry: 5\nunknown\ndata: a\n: comment\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\n\n", []),
        (b"Data: a\n data: b\ndatas: c\n\n", []),
        (b"data: a:b\n\n", [b"a:b"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: \xff\x00\n\n", [b"\xff\x00"]),
    ],
)
def test_streams_are_read_as_browsers_read_them(stream: bytes, payloads: list[bytes]) -> None:
    assert EventReader(None).feed(stream) == payloads
    reader = EventReader(None)
    assert [payload for i in range(len(stream)) for payload in reader.feed(stream[i : i + 1])] == payloads


def test_an_event_is_there_as_soon_as_its_end_is() -> None:
    reader = EventReader(None)
    assert reader.feed(b"data: a\r\n\r") == [b"a"]
    assert reader.feed(b"\ndata: b\r\n") == []
    assert reader.feed(b"\r\n") == [b"b"]


@pytest.mark.parametrize("limit", [None, 8])
def test_events_and_lines_up_to_the_limit_are_read(limit: int | None) -> None:
    reader = EventReader(limit)
    assert reader.feed(b"data: 12\n\ndata: 12\ndata:3\n\n" * 2) == [b"12", b"12\n3"] * 2
    assert reader.feed(b"x" * 8) == []


@pytest.mark.parametrize(
    "stream",
    [b"data: 123\n", b"data:12\ndata:345\ndata:67\n", b"data\n" * 10, b"data: 123", b":" * 9, b":" * 9 + b"\n"],
)
def test_nothing_is_kept_over_the_limit(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^A server-sent event has more than 8 bytes\.$"):
        EventReader(8).feed(stream)
    reader = EventReader(8)
    with pytest.raises(RemoteProtocolError):
        for i in range(len(stream)):
            reader.feed(stream[i : i + 1])


@given(st.lists(st.text("ab:\n ", min_size=1)), st.lists(st.integers(0, 30)))
def test_what_is_written_is_read_back_however_it_is_cut(texts: list[str], cuts: list[int]) -> None:
    stream = b":\r\n" + b"".join(encode_event(text.encode()) for text in texts)
    reader = EventReader(None)
    found: list[bytes] = []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    found += reader.feed(stream)
    assert [payload.decode() for payload in found] == texts
