"""The transition tables: each of their steps is one that a connection takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hubproto_core import HubConnection, JsonCodec, LocalProtocolError, Role, StreamItem, TransportError
from hubproto_core._states import (
    CONNECTION,
    OUR_CALL,
    OUR_UPLOAD,
    THEIR_CALL,
    THEIR_UPLOAD,
    Cause,
    IdState,
    State,
    Step,
    ids_that_take,
)
from tests.kit.wire import HANDSHAKE_2, pack

Deed = Callable[[HubConnection], object]
CUT = TransportError("cut")


def feed(conn: HubConnection, data: bytes) -> list[object]:
    conn.receive_data(data, now=0.0)
    return events(conn)


def events(conn: HubConnection) -> list[object]:
    taken: list[object] = []
    while (event := conn.next_event(now=0.0)) is not None:
        taken.append(event)
    return taken


def begun(role: Role = Role.SERVER) -> HubConnection:
    return HubConnection(role, [JsonCodec()], stateful=True, now=0.0)


def opened(role: Role = Role.SERVER) -> HubConnection:
    conn = begun(role)
    feed(conn, HANDSHAKE_2 if role is Role.SERVER else b"{}\x1e")
    return conn


def says(*data: bytes) -> Deed:
    """The peer says this, and one event is looked for."""

    def say(conn: HubConnection) -> None:
        for piece in data:
            conn.receive_data(piece, now=0.0)
        conn.next_event(now=0.0)

    return say


def leaves(conn: HubConnection) -> None:
    conn.receive_eof(now=0.0)
    conn.next_event(now=0.0)


def is_cut_off(conn: HubConnection) -> None:
    conn.receive_eof(CUT, now=0.0)


def has_said(data: bytes) -> Deed:
    """The peer had said this before its transport broke."""

    def lose(conn: HubConnection) -> None:
        conn.receive_data(data, now=0.0)
        conn.receive_eof(CUT, now=0.0)

    return lose


def times_out(conn: HubConnection) -> None:
    conn.handle_timeout(now=1e9)


def pings_and_times_out(conn: HubConnection) -> None:
    feed(conn, pack({"type": 6}))
    times_out(conn)


def is_given_up(conn: HubConnection) -> None:
    conn.give_up(CUT)


def takes(conn: HubConnection) -> None:
    conn.next_event(now=0.0)


def nothing(conn: HubConnection) -> None:
    pass


def closes(conn: HubConnection) -> None:
    conn.close()


def resumes(conn: HubConnection) -> None:
    conn.resume()


# For every step: what comes before it, and what makes it. One look for an event takes an ended connection to CLOSED.
STEPS: dict[tuple[State, Cause], tuple[Deed, Deed, State]] = {
    (State.HANDSHAKE, Cause.ACCEPTED): (nothing, says(HANDSHAKE_2), State.OPEN),
    (State.HANDSHAKE, Cause.REFUSED): (nothing, says(b"hello\x1e"), State.CLOSED),
    (State.HANDSHAKE, Cause.CLOSE): (nothing, closes, State.CLOSING),
    (State.HANDSHAKE, Cause.GONE): (nothing, is_cut_off, State.CLOSING),
    (State.HANDSHAKE, Cause.EXPIRED): (nothing, times_out, State.CLOSING),
    (State.OPEN, Cause.BROKEN): (nothing, is_cut_off, State.LOST),
    (State.OPEN, Cause.REPLACED): (nothing, resumes, State.OPEN),
    (State.OPEN, Cause.CLOSE): (nothing, closes, State.CLOSING),
    (State.OPEN, Cause.CLOSE_RECEIVED): (nothing, says(pack({"type": 7})), State.CLOSED),
    (State.OPEN, Cause.VIOLATED): (nothing, says(b"hello\x1e"), State.CLOSED),
    (State.OPEN, Cause.GONE): (nothing, leaves, State.CLOSED),
    (State.OPEN, Cause.EXPIRED): (nothing, pings_and_times_out, State.CLOSING),
    (State.LOST, Cause.REPLACED): (is_cut_off, resumes, State.OPEN),
    (State.LOST, Cause.CLOSE): (is_cut_off, closes, State.CLOSING),
    (State.LOST, Cause.CLOSE_RECEIVED): (has_said(pack({"type": 7})), takes, State.CLOSED),
    (State.LOST, Cause.VIOLATED): (has_said(b"hello\x1e"), takes, State.CLOSED),
    (State.LOST, Cause.GIVEN_UP): (is_cut_off, is_given_up, State.CLOSING),
    (State.LOST, Cause.EXPIRED): (is_cut_off, times_out, State.CLOSING),
    (State.CLOSING, Cause.TAKEN): (closes, takes, State.CLOSED),
}


def test_every_step_of_a_connection_is_tried() -> None:
    assert set(STEPS) == {(state, cause) for state, steps in CONNECTION.items() for cause in steps}
    assert set(CONNECTION) == set(State)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[0].value}: {step[1].value}")
def test_a_connection_takes_every_step(step: tuple[State, Cause]) -> None:
    before, deed, after = STEPS[step]
    conn = begun() if step[0] is State.HANDSHAKE else opened()
    before(conn)
    assert conn._state is step[0]
    deed(conn)
    assert conn._state is after
    reached = CONNECTION[step[0]][step[1]]
    assert reached is after or CONNECTION[reached] == {Cause.TAKEN: after}


def test_a_step_that_is_in_no_table_cannot_be_taken() -> None:
    for state, steps in CONNECTION.items():
        for cause in set(Cause) - set(steps):
            conn = begun()
            conn._state = state
            with pytest.raises(KeyError):
                conn._go(cause)


def call(id_: str) -> bytes:
    return pack({"type": 1, "invocationId": id_, "target": "x", "arguments": [], "streamIds": ["u"]})


def stream(id_: str) -> bytes:
    return pack({"type": 4, "invocationId": id_, "target": "x", "arguments": []})


def item(id_: str) -> bytes:
    return pack({"type": 2, "invocationId": id_, "item": 1})


def completion(id_: str) -> bytes:
    return pack({"type": 3, "invocationId": id_})


@pytest.mark.parametrize("state", OUR_CALL)
@pytest.mark.parametrize("step", [Step.ITEM, Step.COMPLETION, Step.CANCEL])
def test_calls_of_a_client(state: IdState, step: Step) -> None:
    conn = opened(Role.CLIENT)
    id_ = conn.stream("x") if state is IdState.STREAM else conn.invoke("x")
    if state is IdState.CANCELLED:
        conn.cancel(id_)
    after = OUR_CALL[state].get(step)
    if step is Step.CANCEL:
        if after is None:
            with pytest.raises(LocalProtocolError):
                conn.cancel(id_)
        else:
            conn.cancel(id_)
    else:
        seen = feed(conn, item(id_) if step is Step.ITEM else completion(id_))
        wanted = after is not None and state is not IdState.CANCELLED
        assert len(seen) == wanted
    expected = state if after is None else after
    assert conn._calls.outgoing.get(id_, IdState.DONE) is expected


def test_a_call_of_a_server_is_forgotten() -> None:
    conn = opened()
    id_ = conn.invoke("x")
    assert OUR_CALL[IdState.CALL][Step.FORGET] is IdState.DONE
    conn.cancel(id_)
    assert feed(conn, completion(id_)) == []
    assert ids_that_take(Step.FORGET, OUR_CALL) == {IdState.CALL}  # a server has no streams and nothing cancelled


@pytest.mark.parametrize("state", OUR_UPLOAD)
@pytest.mark.parametrize("step", [Step.ANNOUNCE, Step.ITEM, Step.COMPLETION])
def test_uploads_of_ours(state: IdState, step: Step) -> None:
    conn = opened(Role.CLIENT)
    id_ = conn.new_stream_id()
    if state is IdState.UPLOAD:
        conn.send("x", stream_ids=[id_])
    after = OUR_UPLOAD[state].get(step)
    deeds: dict[Step, Deed] = {
        Step.ANNOUNCE: lambda conn: conn.send("x", stream_ids=[id_]),
        Step.ITEM: lambda conn: conn.send_item(id_, 1),
        Step.COMPLETION: lambda conn: conn.complete(id_),
    }
    if after is None:
        with pytest.raises(LocalProtocolError):
            deeds[step](conn)
    else:
        deeds[step](conn)
    assert conn._calls.outgoing_streams.get(id_, IdState.DONE) is (state if after is None else after)


@pytest.mark.parametrize("state", THEIR_CALL)
@pytest.mark.parametrize("step", [Step.ITEM, Step.COMPLETION, Step.CANCEL])
def test_calls_of_the_peer(state: IdState, step: Step) -> None:
    conn = opened()
    feed(conn, stream("1") if state is IdState.STREAM else call("1"))
    after = THEIR_CALL[state].get(step)
    deeds: dict[Step, Deed] = {
        Step.ITEM: lambda conn: conn.send_item("1", 1),
        Step.COMPLETION: lambda conn: conn.complete("1"),
        Step.CANCEL: lambda conn: feed(conn, pack({"type": 5, "invocationId": "1"})),
    }
    if after is None:
        with pytest.raises(LocalProtocolError):
            deeds[step](conn)
    else:
        deeds[step](conn)
    assert conn._calls.incoming.get("1", [IdState.DONE]) == [state if after is None else after]


@pytest.mark.parametrize(
    ("step", "deeds"),
    [
        (Step.ITEM, [lambda conn: feed(conn, item("u"))]),
        (Step.COMPLETION, [lambda conn: feed(conn, completion("u"))]),
        (Step.IGNORE, [lambda conn: conn.ignore_stream("u"), lambda conn: conn.complete("1")]),
    ],
)
def test_uploads_of_the_peer(step: Step, deeds: list[Deed]) -> None:
    assert set(THEIR_UPLOAD[IdState.UPLOAD]) == {Step.ITEM, Step.COMPLETION, Step.IGNORE}
    for deed in deeds:
        conn = opened()
        feed(conn, call("1"))
        deed(conn)
        is_open = THEIR_UPLOAD[IdState.UPLOAD][step] is IdState.UPLOAD
        assert [type(event) for event in feed(conn, item("u"))] == [StreamItem] * is_open
