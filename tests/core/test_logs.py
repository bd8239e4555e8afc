"""What log records carry, and how what a peer has written looks in them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hubproto_core import Handlers, Hub, HubConfig, HubError, RemoteProtocolError, TransportError
from hubproto_core._logs import FACTS, NOBODY, connection_facts, error_kind, facts, one_line
from tests.kit.logs import documented, facts_of, kind_of
from tests.kit.shell import HubPeer, ServerPeer


def test_no_fact_is_in_the_way_of_what_a_record_has_itself() -> None:
    record = logging.getLogger("hubproto_core").makeRecord("n", 10, "f", 1, "m", (), None, extra=facts(NOBODY))
    assert {name: vars(record)[name] for name in FACTS} == dict.fromkeys(FACTS)


def test_every_record_has_all_facts() -> None:
    assert tuple(facts(NOBODY)) == FACTS
    assert set(facts(NOBODY).values()) == {None}
    connection = connection_facts("Chat", "c1", "ann")
    assert facts(connection, method="Add", error=HubError("no")) == {
        "hub": "Chat",
        "connection_id": "c1",
        "user_id": "ann",
        "hub_method": "Add",
        "error_kind": "HubException",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "ValueError"),
        (HubError("x"), "HubException"),
        (RemoteProtocolError("x"), "InvalidDataException"),
        (RemoteProtocolError("x", kind="FormatException"), "FormatException"),
    ],
)
def test_errors_are_called_as_the_reference_calls_them(error: Exception, kind: str) -> None:
    assert error_kind(error) == kind


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Add", "Add"),
        ("Größe", "Größe"),
        ("a\nERROR forged", r"a\nERROR forged"),
        ("\x1b[2J", r"\x1b[2J"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "..."),
        (ValueError("two\nlines"), r"two\nlines"),
    ],
)
def test_what_a_peer_has_written_is_one_short_line(value: object, shown: str) -> None:
    assert one_line(value) == shown


# --- the records -----------------------------------------------------------------------------------------------------


class Failure(Exception):
    """A mistake in a hub."""


def make_hub() -> Hub:
    hub = Hub(name="Chat")

    @hub.method("Fail")
    def fail() -> None:
        raise Failure("two\nlines")

    @hub.method("Refuse")
    def refuse() -> None:
        raise HubError("not today")

    @hub.method("Ask")
    def ask() -> None:
        raise TransportError("Connection 'x' disconnected.", kind="IOException")

    @hub.method("Add")
    def add(a: int) -> None: ...

    @hub.method("Ban", requires=["admin"])
    def ban() -> None: ...

    @hub.method("Slow")
    async def slow() -> None: ...

    @hub.method("Upload")
    async def upload(items: AsyncIterator[int]) -> None: ...

    return hub


def call(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


def say(*messages: dict[str, Any]) -> Callable[[HubPeer], None]:
    return lambda peer: peer.say(*messages)


def shut_down_with_a_call_on_the_way(peer: HubPeer) -> None:
    peer.say(call("Slow"))
    peer.session.shut_down(now=0.0)
    peer.say(call("Add", 1, invocationId="2"))


def leave_much_unread(peer: HubPeer) -> None:
    for _ in range(3):
        peer.session.push(b"x" * 600)
    peer.session.handle_timeout(now=0.0)


TOO_FEW = "Invocation provides 0 argument(s) but target expects 1."
FAILED = "hub method %r failed for connection %s: %s: %s"
REFUSED = "connection %s: a call of %s is refused: %s"
IGNORED = "connection %s: %s is ignored, nobody waits for %s"
ENDED = "connection %s ended"
ENDED_BY = "connection %s ended: %s"

Act = Callable[[HubPeer], None]

INCIDENTS: dict[str, tuple[Act, list[tuple[str, str, list[object], str]]]] = {
    # what happens: what is logged of it: level, message, facts, text
    "a mistake in the hub": (
        say(call("Fail")),
        [("error", FAILED, ["Fail", "Failure"], r"hub method 'Fail' failed for connection c1: Failure: two\nlines")],
    ),
    "an error that the client is meant to read": (
        say(call("Refuse")),
        [
            (
                "debug",
                FAILED,
                ["Refuse", "HubException"],
                "hub method 'Refuse' failed for connection c1: HubError: not today",
            )
        ],
    ),
    "a method whose client is gone": (
        say(call("Ask")),
        [
            (
                "warning",
                FAILED,
                ["Ask", "IOException"],
                "hub method 'Ask' failed for connection c1: TransportError: Connection 'x' disconnected.",
            )
        ],
    ),
    "no such method": (
        say(call("Mis\nsing")),
        [
            (
                "debug",
                REFUSED,
                [r"Mis\nsing", "HubException"],
                r"connection c1: a call of Mis\nsing is refused: Method does not exist.",
            )
        ],
    ),
    "arguments that do not fit": (
        say(call("Add", 1, 2)),
        [
            (
                "debug",
                REFUSED,
                ["Add", "InvalidDataException"],
                "connection c1: a call of Add is refused: Invocation provides 2 argument(s) but target expects 1.",
            )
        ],
    ),
    "somebody who may not": (
        say(call("Ban")),
        [
            (
                "debug",
                REFUSED,
                ["Ban"],
                "connection c1: a call of Ban is refused: Failed to invoke 'Ban' because user is unauthorized",
            )
        ],
    ),
    "a call while the server shuts down": (
        shut_down_with_a_call_on_the_way,
        [
            (
                "debug",
                REFUSED,
                ["Add"],
                "connection c1: a call of Add is refused: the server is shutting down",
            )
        ],
    ),
    "too many streams": (
        say({**call("Upload"), "streamIds": ["a", "b", "c"]}),
        [
            (
                "debug",
                REFUSED,
                [],
                "connection c1: a call of Upload is refused: at most 2 streams may be open on a connection.",
            )
        ],
    ),
    "a completion for an unknown id": (
        say({"type": 3, "invocationId": "x" * 100}),
        [("debug", IGNORED, [], f"connection c1: Completion is ignored, nobody waits for {'x' * 100}")],
    ),
    "an item after the end": (
        say({"type": 2, "invocationId": "a", "item": 1}),
        [("debug", IGNORED, [], "connection c1: StreamItem is ignored, nobody waits for a")],
    ),
    "a client that does not read": (
        leave_much_unread,
        [
            (
                "warning",
                "connection %s is given up: it leaves more than %d bytes unread",
                [],
                "connection c1 is given up: it leaves more than 1024 bytes unread",
            ),
            ("debug", ENDED, [], "connection c1 ended"),
        ],
    ),
    "a client that leaves": (say({"type": 7}), [("debug", ENDED, [], "connection c1 ended")]),
    "a client that breaks the protocol": (
        lambda peer: peer.say_bytes(b"no\x1e"),
        [
            (
                "info",
                ENDED_BY,
                ["InvalidDataException"],
                "connection c1 ended: Error reading JSON.",
            )
        ],
    ),
    "a socket that breaks": (
        lambda peer: peer.session.receive_eof(TransportError("cut"), now=0.0),
        [("info", ENDED_BY, ["TransportError"], "connection c1 ended: cut")],
    ),
    "a token that expires": (
        lambda peer: peer.session.handle_timeout(now=5.0),
        [
            (
                "info",
                "connection %s is closed: what its client has shown to get in has expired",
                [],
                "connection c1 is closed: what its client has shown to get in has expired",
            ),
            ("debug", ENDED, [], "connection c1 ended"),
        ],
    ),
}


@pytest.mark.parametrize("incident", INCIDENTS)
def test_an_incident_on_a_connection_is_logged_once(incident: str, caplog: pytest.LogCaptureFixture) -> None:
    act, expected = INCIDENTS[incident]
    config = HubConfig(send_limit=1024, max_open_streams=2)
    peer = HubPeer(make_hub(), config, user="ann", expires=5.0)
    with caplog.at_level(logging.DEBUG):
        act(peer)
    kinds = [("hubproto_core.hub", level, message) for level, message, _, _ in expected]
    assert [kind_of(record) for record in caplog.records] == kinds
    assert [facts_of(record) for record in caplog.records] == [
        ["Chat", "c1", "ann", *more] for _, _, more, _ in expected
    ]
    assert caplog.messages == [text for _, _, _, text in expected]
    assert [bool(record.exc_info) for record in caplog.records] == [level == "error" for level, _, _, _ in expected]
    assert set(kinds) <= documented()


def test_a_connection_that_opens_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        HubPeer(make_hub(), user="ann")
    (record,) = caplog.records
    assert record.getMessage() == "connection c1 is open, in json"
    assert facts_of(record) == ["Chat", "c1", "ann"]
    assert kind_of(record) in documented()


def test_by_default_nothing_that_clients_do_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    peer = HubPeer(make_hub())
    peer.say(call("Missing"), call("Add", "x"), call("Ban"), call("Refuse"), {"type": 3, "invocationId": "1"})
    peer.say_bytes(b"no\x1e")
    assert caplog.records == []


def handlers() -> Handlers:
    found = Handlers()
    found.add("Fail", fail_here)
    return found


def fail_here(number: int) -> None:
    raise Failure("no")


@pytest.mark.parametrize(
    ("message", "kind", "facts", "text"),
    [
        (
            call("Missing"),
            ("warning", "the server called %r, which has no handler"),
            ["Missing"],
            "the server called 'Missing', which has no handler",
        ),
        (
            call("Fail"),
            ("warning", "the server called %r with arguments that do not fit: %s"),
            ["Fail", "InvalidDataException"],
            f"the server called 'Fail' with arguments that do not fit: {TOO_FEW}",
        ),
        (
            call("Fail", 1),
            ("error", "the %s failed: %s: %s"),
            ["Fail", "Failure"],
            "the handler of 'Fail' failed: Failure: no",
        ),
        (
            {"type": 3, "invocationId": "x"},
            ("debug", IGNORED),
            [],
            "connection None: Completion is ignored, nobody waits for x",
        ),
    ],
)
def test_what_a_client_logs(
    message: dict[str, Any], kind: tuple[str, str], facts: list[object], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = ServerPeer(handlers())
    with caplog.at_level(logging.DEBUG):
        peer.say(message)
    (record,) = caplog.records
    assert kind_of(record) == ("hubproto_core.client", *kind)
    assert facts_of(record) == facts
    assert record.getMessage() == text
    assert bool(record.exc_info) == (record.levelno == logging.ERROR)
    assert kind_of(record) in documented()


def test_every_fact_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/hubs.md").read_text(encoding="utf-8")
    assert [name for name in FACTS if f"`{name}`" not in page] == []
