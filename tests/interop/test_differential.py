"""Mutated records over real WebSockets: our lab server answers and ends as Microsoft's server does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import msgpack  # type: ignore[import-untyped]
import pytest

from hubproto_core import Codec, Invocation, Ping
from tests.interop._lab import Labs
from tests.interop._link import LIMIT, RS, Closed, Link, Record
from tests.interop._mutations import mutated_handshakes, mutated_records
from tests.interop._vectors import CODECS
from tests.interop.conftest import StartLab
from tests.interop.differences import LIVE

RECORDS, HANDSHAKES, SEED = 320, 80, 4
PROTOCOLS = ["json", "messagepack"]
"""The encodings that are compared."""
SETTINGS = {"LAB_DETAILED": "1", "LAB_MAXRECV": "0"}
"""Detailed errors tell more; with a limit the reference would stop at the first message of an unknown type."""
PLATFORM_TEXT = re.compile(r"(?P<name>\b(?!InvalidData|Hub)\w+Exception: ).*", re.DOTALL)
"""What exceptions of the reference's platform say; only their names are asked for."""
PATIENCE = 0.05
"""How long (s) the reference may leave a record behind one of an unknown type: until it has something to read."""


@dataclass(frozen=True)
class Outcome:
    """What a server answers to one input, and how it ends the connection if it does."""

    answers: tuple[str, ...]
    closed: Closed | None


class Talk:
    """Gives one server one input after the other, on the same connection as long as the server keeps it open."""

    def __init__(self, url: str, codec: Codec) -> None:
        self._url = url
        self._codec = codec
        self._link: Link | None = None
        self._probe = codec.encode(Invocation(invocation_id="probe", target="Nothing", arguments=()))
        self._ping = codec.encode(Ping())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def give(self, record: bytes) -> Outcome:
        """Send a record, and then a call that shows by its answer that the record has been dealt with."""
        link = self._link or self._shake_hands()
        link.send_binary(record)
        link.send_binary(self._probe)
        for _ in range(round(LIMIT / PATIENCE)):
            if link.until(lambda: self._answered(link), PATIENCE) or link.closed is not None:
                break
            link.send_binary(self._ping)
        answers = tuple(self._told(answer) for answer in link.take(0))
        outcome = Outcome(answers, link.closed)
        assert link.faults == []
        if link.closed is None:
            assert "probe" in answers[-1]
        else:
            self._leave()
        return outcome

    def _answered(self, link: Link) -> bool:
        return bool(link.records) and "probe" in self._told(link.records[-1])

    def _shake_hands(self) -> Link:
        self._link = Link(self._url)
        self._link.send_binary(f'{{"protocol":"{self._codec.name}","version":2}}{RS}'.encode())
        assert [answer.text for answer in self._link.take(1)] == ["{}"]
        return self._link

    def _leave(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _told(self, answer: Record) -> str:
        text = answer.text
        if self._codec.transfer_format == "binary":
            text = repr(msgpack.unpackb(bytes.fromhex(text), strict_map_key=False))
        return PLATFORM_TEXT.sub(r"\g<name>", text)


def judge_records(protocol: str, url: str) -> dict[bytes, Outcome]:
    """What the server at a URL does with each of the mutated records."""
    codec = CODECS[protocol]
    with Talk(f"{url}/serialhub", codec) as talk:
        return {record: talk.give(record) for record in mutated_records(codec, RECORDS, SEED)}


def judge_handshakes(url: str) -> dict[bytes, Outcome]:
    """What the server at a URL answers to each of the mutated handshakes; one that it accepts is not gone on with."""
    outcomes = {}
    for request in mutated_handshakes(HANDSHAKES, SEED):
        with Link(f"{url}/serialhub") as link:
            link.send_binary(request)
            answers = tuple(PLATFORM_TEXT.sub(r"\g<name>", answer.text) for answer in link.take(1))
            if answers != ("{}",):
                link.until(lambda: False, LIMIT)
            outcomes[request] = Outcome(answers, link.closed)
    return outcomes


Judge = Callable[[str], dict[bytes, Outcome]]
JUDGES: dict[str, Judge] = {
    **{protocol: partial(judge_records, protocol) for protocol in PROTOCOLS},
    "handshake": judge_handshakes,
}


@pytest.fixture(scope="module")
def reference(labs: Labs) -> Judge:
    """What Microsoft's server does with the inputs of a kind."""
    server = labs.start("reference", **SETTINGS)
    known: dict[str, dict[bytes, Outcome]] = {}

    def outcomes(kind: str) -> dict[bytes, Outcome]:
        if kind not in known:
            known[kind] = JUDGES[kind](server.url)
        return known[kind]

    return outcomes


@pytest.mark.parametrize("kind", JUDGES)
def test_the_same_is_done_with_mutated_input(kind: str, reference: Judge, start: StartLab, adapter: str) -> None:
    """Every input has the same answers and the same end, or is in the table of differences."""
    wanted = reference(kind)
    got = JUDGES[kind](start(**SETTINGS).url)
    assert adapter == "reference" or any(outcome.closed for outcome in wanted.values())
    differences = {
        f"{kind} {record!r}": f"expected {wanted[record]}, got {got[record]}"
        for record in wanted
        if got[record] != wanted[record]
    }
    listed = {name for name in LIVE if name.startswith(f"{kind} ")}
    new = [f"{name}: {difference}" for name, difference in differences.items() if name not in listed]
    assert not new, "\n".join(new)
    assert adapter == "reference" or listed <= differences.keys(), "the table of differences names what agrees"
