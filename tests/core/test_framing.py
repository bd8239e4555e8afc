"""Records out of a stream of bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import RemoteProtocolError
from hubproto_core._framing import RECORD_SEPARATOR, RecordBuffer, frame_binary


def take_all(buffer: RecordBuffer, limit: int | None = None) -> list[bytes]:
    records = []
    while (record := buffer.take_text(limit)) is not None:
        records.append(record)
    return records


def take_all_binary(buffer: RecordBuffer, limit: int | None = None) -> list[bytes]:
    records = []
    while (record := buffer.take_binary(limit)) is not None:
        records.append(record)
    return records


def buffer_of(*chunks: bytes) -> RecordBuffer:
    buffer = RecordBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


@pytest.mark.parametrize(
    ("chunks", "records", "left"),
    [
        ([], [], 0),
        ([b"one\x1e"], [b"one"], 0),
        ([b"one\x1etwo\x1e"], [b"one", b"two"], 0),
        ([b"one\x1etw"], [b"one"], 2),
        ([b"o", b"n", b"e\x1e", b"two", b"\x1e"], [b"one", b"two"], 0),
        ([b"\x1e\x1e"], [b"", b""], 0),
        ([b"", b"one\x1e", b""], [b"one"], 0),
        ([b"on", b"", b"e\x1e"], [b"one"], 0),
    ],
)
def test_records_end_at_separators(chunks: list[bytes], records: list[bytes], left: int) -> None:
    buffer = buffer_of(*chunks)
    assert take_all(buffer) == records
    assert len(buffer) == left


def test_length_counts_what_no_record_has_taken() -> None:
    buffer = buffer_of(b"one\x1etwo")
    assert len(buffer) == 7
    assert buffer.take_text(None) == b"one"
    assert len(buffer) == 3


def test_a_record_of_exactly_the_limit_passes() -> None:
    assert take_all(buffer_of(b"1234\x1e5678\x1e"), 5) == [b"1234", b"5678"]


@pytest.mark.parametrize("chunks", [[b"12345\x1e"], [b"1234", b"5\x1e"], [b"123", b"45", b"\x1e"], [b"123456"]])
def test_a_record_over_the_limit_is_refused(chunks: list[bytes]) -> None:
    buffer = buffer_of(*chunks)
    with pytest.raises(RemoteProtocolError) as refused:
        buffer.take_text(5)
    assert str(refused.value) == (
        "The maximum message size of 5B was exceeded. The message size can be configured in AddHubOptions."
    )
    assert refused.value.kind == "InvalidDataException"


def test_a_record_that_may_still_fit_is_waited_for() -> None:
    buffer = buffer_of(b"1234")
    assert buffer.take_text(5) is None
    buffer.append(b"\x1e")
    assert buffer.take_text(5) == b"1234"


def test_whole_records_before_one_over_the_limit_are_taken() -> None:
    buffer = buffer_of(b"12\x1e34\x1e1234567\x1e")
    assert [buffer.take_text(5), buffer.take_text(5)] == [b"12", b"34"]
    with pytest.raises(RemoteProtocolError):
        buffer.take_text(5)


def test_many_records_together_may_be_over_the_limit() -> None:
    assert take_all(buffer_of(b"123\x1e" * 100), 5) == [b"123"] * 100


def test_cleared_buffer_is_empty() -> None:
    buffer = buffer_of(b"one\x1etwo")
    buffer.take_text(None)
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.take_text(None) is None
    buffer.append(b"three\x1e")
    assert buffer.take_text(None) == b"three"


def test_bytes_that_have_been_taken_do_not_pile_up() -> None:
    record = b"x" * 999
    buffer = buffer_of(record[:500])
    for _ in range(200):
        buffer.append(record[500:] + RECORD_SEPARATOR + record[:500])
        assert buffer.take_text(None) == record
        assert len(buffer) == 500


@given(
    records=st.lists(st.binary(max_size=6).map(lambda data: data.replace(RECORD_SEPARATOR, b"")), max_size=8),
    cuts=st.lists(st.integers(1, 5)),
    eager=st.booleans(),
)
def test_any_chunking_gives_the_same_records(records: list[bytes], cuts: list[int], eager: bool) -> None:
    stream = b"".join(record + RECORD_SEPARATOR for record in records)
    buffer = RecordBuffer()
    taken = []
    for cut in cuts:
        buffer.append(stream[:cut])
        stream = stream[cut:]
        if eager:
            taken += take_all(buffer, 7)
    buffer.append(stream)
    assert taken + take_all(buffer, 7) == records


# --- binary ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "records", "left"),
    [
        ("", [], 0),
        ("00", [b""], 0),
        ("03 414243", [b"ABC"], 0),
        ("00 0e 48656c6c6f2c0d0a576f726c6421", [b"", b"Hello,\r\nWorld!"], 0),
        ("02 9106 02 91", [b"\x91\x06"], 2),
        ("04 abcdef", [], 4),
        ("80", [], 1),
        ("80808080", [], 4),
        ("ffffffff07", [], 5),
        ("85 00 0102030405", [b"\1\2\3\4\5"], 0),
        ("80 80 80 80 00", [b""], 0),
        ("81 80 80 80 00 1e 01", [b"\x1e"], 1),
    ],
)
def test_records_are_as_long_as_the_number_before_them(stream: str, records: list[bytes], left: int) -> None:
    buffer = buffer_of(bytes.fromhex(stream))
    assert take_all_binary(buffer) == records
    assert len(buffer) == left


@pytest.mark.parametrize(
    ("length", "prefix"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (5248, "8029"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2097152, "80808001"),
    ],
)
def test_lengths_are_written_in_seven_bits_a_byte_lowest_first(length: int, prefix: str) -> None:
    record = bytes(length)
    framed = frame_binary(record)
    assert framed == bytes.fromhex(prefix) + record
    assert take_all_binary(buffer_of(framed)) == [record]


@pytest.mark.parametrize(
    "prefix", ["8080808008", "ffffffff08", "8080808010", "8080808080", "ffffffffff", "ffffffffff01"]
)
@pytest.mark.parametrize("limit", [None, 100])
def test_lengths_over_two_gigabytes_are_refused(prefix: str, limit: int | None) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        buffer_of(bytes.fromhex(prefix)).take_binary(limit)
    assert str(refused.value) == "Messages over 2GB in size are not supported."
    assert refused.value.kind == "FormatException"


def test_the_length_counts_towards_the_limit() -> None:
    assert buffer_of(b"\x041234").take_binary(5) == b"1234"
    assert buffer_of(frame_binary(bytes(200))).take_binary(202) == bytes(200)
    for stream in (b"\x0512345", b"\x85\x0012345", b"\x84\x001234"):
        with pytest.raises(RemoteProtocolError, match=r"The maximum message size of 5B was exceeded\."):
            buffer_of(stream).take_binary(5)


def test_a_record_over_the_limit_is_refused_as_soon_as_its_length_says_so() -> None:
    buffer = buffer_of(b"\xff")
    assert buffer.take_binary(5) is None
    buffer.append(b"\x07")
    with pytest.raises(RemoteProtocolError):
        buffer.take_binary(5)


def test_whole_binary_records_before_one_over_the_limit_are_taken() -> None:
    buffer = buffer_of(b"\x0212\x0234\x07")
    assert [buffer.take_binary(5), buffer.take_binary(5)] == [b"12", b"34"]
    with pytest.raises(RemoteProtocolError):
        buffer.take_binary(5)


def test_a_binary_record_may_follow_a_text() -> None:
    buffer = buffer_of(b"{}\x1e\x02\x91", b"\x06")
    assert buffer.take_text(100) == b"{}"
    assert buffer.take_binary(100) == b"\x91\x06"
    assert buffer.take_binary(100) is None


class _Counting(bytearray):
    """Counts how often the bytes of a buffer are looked at."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        self.looks += 1
        return super().__getitem__(place)


def test_one_byte_at_a_time_costs_the_same_for_each_byte() -> None:
    record = bytes(10_000)
    buffer = RecordBuffer()
    buffer._data = data = _Counting(b"\x90\x4e")
    for _ in record:
        assert buffer.take_binary(None) is None
        buffer.append(b"\0")
    assert buffer.take_binary(None) == record
    assert buffer._data is data
    assert data.looks <= 2 * len(record) + 3


@given(
    records=st.lists(st.binary(max_size=200), max_size=8),
    cuts=st.lists(st.integers(1, 50)),
    eager=st.booleans(),
)
def test_any_chunking_gives_the_same_binary_records(records: list[bytes], cuts: list[int], eager: bool) -> None:
    stream = b"".join(map(frame_binary, records))
    buffer = RecordBuffer()
    taken = []
    for cut in cuts:
        buffer.append(stream[:cut])
        stream = stream[cut:]
        if eager:
            taken += take_all_binary(buffer, 202)
    buffer.append(stream)
    assert taken + take_all_binary(buffer, 202) == records
