"""What a hub's sessions, connections and HTTP sockets log: each incident once, at its level, with its facts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Hub, HubConfig, HubConnection, HubError, JsonCodec, RemoteProtocolError, Role, TransportError
from hubproto_core._logs import FACTS
from tests.kit.shell import HubPeer
from tests.kit.wire import HANDSHAKE, pack

Entry = tuple[int, str, dict[str, Any]]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def entries(caplog: pytest.LogCaptureFixture) -> list[Entry]:
    """Level, text and facts that are not None of all records, of which only mistakes in user code have tracebacks."""
    found = []
    for record in caplog.records:
        assert (record.exc_info is not None) is (record.levelno == logging.ERROR)
        facts = {name: vars(record)[name] for name in FACTS}
        found.append((record.levelno, record.getMessage(), {k: v for k, v in facts.items() if v is not None}))
    return found


def make_hub() -> Hub:
    hub = Hub(name="Chat")
    hub.method("Add")(_add)
    hub.method("Fail")(_fail)
    hub.method("Refuse")(_refuse)
    hub.method("Lose")(_lose)
    hub.method("Slow")(_slow)
    hub.method("Read")(_read)
    return hub


def _add(a: int, b: int) -> int:
    return a + b


def _fail() -> None:
    raise ValueError("two\nlines")


def _refuse() -> None:
    raise HubError("no")


def _lose() -> None:
    raise TransportError("Connection 'c2' disconnected.", kind="IOException")


async def _slow() -> None: ...


async def _read(items: AsyncIterator[int]) -> None: ...


ABOUT = {"hub": "Chat", "connection_id": "c1", "user_id": "ann"}


def peer_of(caplog: pytest.LogCaptureFixture, **limits: Any) -> HubPeer:
    peer = HubPeer(make_hub(), HubConfig(**limits), user="ann")
    caplog.clear()
    return peer


def call(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


def test_a_connection_begins_and_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    peer = HubPeer(make_hub(), user="ann")
    peer.ask(call("Add", 1, 2), {"type": 7})
    assert entries(caplog) == [
        (logging.DEBUG, "connection c1 is open, in json", ABOUT),
        (logging.DEBUG, "connection c1 ended", ABOUT),
    ]


REFUSED = [
    (call("Missing"), "Missing", "Method does not exist.", "HubException"),
    (call("x\ny" * 100), r"x\ny" * 66 + "x\\n...", "Method does not exist.", "HubException"),
    (call("ADD", 1), "Add", "Invocation provides 1 argument(s) but target expects 2.", "InvalidDataException"),
    ({**call("Add", 1, 2), "type": 4}, "Add", "The client attempted to invoke the non-streaming", None),
    (call("Add", 1, 2, streamIds=["7"]), "Add", "An unexpected error occurred invoking 'Add' on the server.", None),
]


@pytest.mark.parametrize(("message", "shown", "reason", "kind"), REFUSED, ids=range(len(REFUSED)))
def test_a_call_that_is_refused_is_no_more_than_a_detail(
    message: dict[str, Any], shown: str, reason: str, kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    peer_of(caplog).say(message)
    ((level, text, facts),) = entries(caplog)
    assert level == logging.DEBUG
    assert text.startswith(f"connection c1: a call of {shown} is refused: {reason}")
    assert facts == {**ABOUT, "hub_method": shown} | ({} if kind is None else {"error_kind": kind})


def test_a_call_that_comes_while_the_server_shuts_down_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    peer = peer_of(caplog)
    peer.say(call("Slow"))
    peer.session.shut_down(now=0.0)
    peer.say(call("Add", 1, 2))
    ((level, text, _),) = entries(caplog)
    assert (level, text) == (logging.DEBUG, "connection c1: a call of Add is refused: the server is shutting down")


def test_a_mistake_in_the_hub_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    peer_of(caplog).say(call("Fail"))
    text = r"hub method 'Fail' failed for connection c1: ValueError: two\nlines"
    assert entries(caplog) == [(logging.ERROR, text, {**ABOUT, "hub_method": "Fail", "error_kind": "ValueError"})]


@pytest.mark.parametrize(("target", "kind"), [("Refuse", "HubException"), ("Lose", "IOException")])
def test_a_refusal_and_the_absence_of_another_client_are_no_mistakes(
    target: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer_of(caplog).say(call(target))
    ((level, _, facts),) = entries(caplog)
    assert level == logging.DEBUG
    assert facts == {**ABOUT, "hub_method": target, "error_kind": kind}


def test_a_client_that_does_not_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    peer = peer_of(caplog, send_limit=100)
    for _ in range(3):
        peer.session.push(b"x" * 60)
    assert entries(caplog) == [
        (logging.WARNING, "connection c1 is given up: it leaves more than 100 bytes unread", ABOUT)
    ]


def test_what_breaks_the_protocol_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    peer_of(caplog).say_bytes(b"no\nJSON\x1e" * 2)
    about = {**ABOUT, "error_kind": "InvalidDataException"}
    assert entries(caplog) == [(logging.INFO, "connection c1 ended: Error reading JSON.", about)]


def test_a_bad_handshake_is_told_in_short(caplog: pytest.LogCaptureFixture) -> None:
    peer = HubPeer(make_hub(), handshake=False)
    peer.say_bytes(pack({"token": "s3cret" + "x" * 1000}))
    ((level, text, _),) = entries(caplog)
    assert level == logging.INFO
    assert len(text) < 250


IGNORED = [
    ({"type": 2, "invocationId": "7", "item": 1}, "an item of 7 is ignored: nobody waits for it"),
    ({"type": 3, "invocationId": "a\nb"}, r"a completion of a\nb is ignored: nobody waits for it"),
    ({"type": 5, "invocationId": "7"}, "a cancellation of 7 is ignored: nobody waits for it"),
]


@pytest.mark.parametrize(("message", "text"), IGNORED, ids=[row[1][:10] for row in IGNORED])
def test_what_nobody_waits_for_is_a_detail(
    message: dict[str, Any], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer_of(caplog).say(message)
    assert entries(caplog) == [(logging.DEBUG, f"connection c1: {text}", ABOUT)]


def test_an_upload_that_changes_hands_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    peer = peer_of(caplog)
    peer.say(call("Read", streamIds=["7"]), call("Read", streamIds=["7"]))
    text = "connection c1: a call of Read takes over the upload 7 from an earlier one"
    assert entries(caplog) == [(logging.DEBUG, text, {**ABOUT, "hub_method": "Read"})]


def test_a_call_too_many_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    peer_of(caplog, max_open_calls=1).say(call("Slow"), call("Slow"))
    text = "connection c1: a call of Slow is refused: at most 1 calls may be open on a connection."
    assert entries(caplog) == [(logging.DEBUG, text, ABOUT)]


def test_details_cost_nothing_when_nobody_wants_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    peer_of(caplog).say({"type": 5, "invocationId": "7"})
    assert entries(caplog) == []


def test_a_connection_of_an_embedder_is_nobodys_until_it_says_whose(caplog: pytest.LogCaptureFixture) -> None:
    for role, name, handshake in ((Role.SERVER, "hub", HANDSHAKE), (Role.CLIENT, "client", b"{}\x1e")):
        caplog.clear()
        conn = HubConnection(role, [JsonCodec()], now=0.0)
        conn.receive_data(handshake + pack({"type": 3, "invocationId": "7"}), now=0.0)
        assert conn.next_event(now=0.0) is not None
        assert conn.next_event(now=0.0) is None
        assert [(record.name, vars(record)["connection_id"]) for record in caplog.records] == [
            (f"hubproto_core.{name}", None)
        ]


def test_an_error_that_is_no_mistake_of_the_peers_is_told_like_one(caplog: pytest.LogCaptureFixture) -> None:
    peer = peer_of(caplog)
    peer.session.receive_eof(RemoteProtocolError("odd", kind="Odd"), now=0.0)
    assert entries(caplog) == [(logging.INFO, "connection c1 ended: odd", {**ABOUT, "error_kind": "Odd"})]
