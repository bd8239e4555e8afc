"""Records out of a stream of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import RemoteProtocolError
from hubproto_core._framing import RECORD_SEPARATOR, RecordBuffer


def take_all(buffer: RecordBuffer, limit: int | None = None) -> list[bytes]:
    records = []
    while (record := buffer.take_text(limit)) is not None:
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
