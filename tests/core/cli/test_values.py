"""Values as lines of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from hubproto_core import HubError, JsonCodec, Single
from hubproto_core.cli import JsonLines, to_json, to_line
from tests.kit.shell import ServerPeer


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, "\n\u2603"]}, '{"a":[1,null,"\\n\u2603"]}'),
        ([b"hi", datetime(2024, 2, 29, tzinfo=UTC), 1j], '["aGk=","2024-02-29T00:00:00Z","1j"]'),
        ([1.5, Single(0.1), float("nan"), float("inf")], "[1.5,0.1,null,null]"),
        ([2**64, -(2**63) - 1], "[18446744073709551616,-9223372036854775809]"),
        pytest.param(Ext(5, b"abc"), '{"extension":5,"data":"YWJj"}', id="an extension"),
        (
            {1: "a", "b": 2**64, None: (1.5,), b"hi": {datetime(2024, 2, 29, tzinfo=UTC): 2}},
            '{"1":"a","b":18446744073709551616,"None":[1.5],"aGk=":{"2024-02-29T00:00:00Z":2}}',
        ),
    ],
    ids=str,
)
def test_values_are_shown_as_one_line(value: Any, text: str) -> None:
    assert to_json(value) == text
    assert to_line(value) == text.encode() + b"\n"


def test_a_number_that_was_received_is_shown_as_it_came() -> None:
    server = ServerPeer()
    call = server.session.invoke("Price", [])
    server.hear()
    server.say_bytes(b'{"type":3,"invocationId":"1","result":[1.50,{"a":0.1e1}]}\x1e')
    assert to_json(call.outcome()) == '[1.50,{"a":0.1e1}]'
    assert server.session.codec.name == JsonCodec().name


def test_lines_are_values() -> None:
    lines = JsonLines()
    assert list(lines.feed(b'1\n\n  \r\n{"a": null}\r\n"x')) == [1, {"a": None}]
    assert list(lines.feed(b"\xe2\x98")) == []
    assert list(lines.feed(b'\x83"')) == []
    assert list(lines.feed(b"")) == ["x\u2603"]
    assert list(lines.feed(b"")) == []


@given(st.lists(st.integers() | st.text(), max_size=5), st.integers(min_value=1, max_value=9))
def test_it_does_not_matter_how_lines_are_cut(values: list[Any], size: int) -> None:
    data = b"".join(map(to_line, values))
    lines = JsonLines()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [value for piece in [*pieces, b""] for value in lines.feed(piece)] == values


@pytest.mark.parametrize("line", [b"x", b'"\xff"', b"[1"])
def test_a_line_that_is_no_json_comes_behind_the_values_before_it(line: bytes) -> None:
    lines = JsonLines()
    values = lines.feed(b"1\n\n" + line + b"\n2\n")
    assert next(values) == 1
    with pytest.raises(HubError, match="line 3 of the input is no JSON: ") as told:
        next(values)
    assert lines.error is told.value


def test_a_bad_line_is_to_blame_whatever_the_hub_makes_of_it() -> None:
    lines = JsonLines()
    with pytest.raises(HubError):
        list(lines.feed(b"x\n"))
    with pytest.raises(HubError, match="line 1 of the input"), lines.blamed():
        pass
    with pytest.raises(HubError, match="line 1 of the input"), lines.blamed():
        raise HubError("the upload failed")


def test_good_lines_are_not_to_blame() -> None:
    lines = JsonLines()
    with lines.blamed():
        list(lines.feed(b"1\n"))
    with pytest.raises(HubError, match="from the hub"), lines.blamed():
        raise HubError("from the hub")
