"""The states of a connection and of the ids on it, and every step between them, as data (SPEC 1.4, 2.1, 3.11, 4.7).

The machines look their steps up here, so that a step that is not in a table cannot be taken. `docs/states.md` is drawn
from the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = [
    "CLIENT",
    "CONNECTION",
    "OUR_CALL",
    "OUR_UPLOAD",
    "THEIR_CALL",
    "THEIR_UPLOAD",
    "Cause",
    "ClientCause",
    "ClientState",
    "IdState",
    "State",
    "Step",
    "ids_that_take",
]


class State(StrEnum):
    """How far a connection has come."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    LOST = "lost"  # stateful reconnect: the transport is gone, another one is awaited
    CLOSING = "closing"  # over, but ConnectionClosed has not been taken yet
    CLOSED = "closed"


class Cause(StrEnum):
    """What takes a connection from one state to another."""

    ACCEPTED = "the handshake is accepted"
    REFUSED = "the handshake fails"
    BROKEN = "the transport breaks (stateful)"
    REPLACED = "resume() (stateful)"
    GIVEN_UP = "give_up() (stateful)"
    CLOSE = "close()"
    CLOSE_RECEIVED = "Close arrives"
    VIOLATED = "the peer breaks the protocol"
    GONE = "the transport ends"
    EXPIRED = "a deadline passes"
    TAKEN = "ConnectionClosed is taken"


CONNECTION: Mapping[State, Mapping[Cause, State]] = {
    State.HANDSHAKE: {
        Cause.ACCEPTED: State.OPEN,
        Cause.REFUSED: State.CLOSING,
        Cause.CLOSE: State.CLOSING,
        Cause.GONE: State.CLOSING,
        Cause.EXPIRED: State.CLOSING,
    },
    State.OPEN: {
        Cause.BROKEN: State.LOST,
        Cause.REPLACED: State.OPEN,
        Cause.CLOSE: State.CLOSING,
        Cause.CLOSE_RECEIVED: State.CLOSING,
        Cause.VIOLATED: State.CLOSING,
        Cause.GONE: State.CLOSING,
        Cause.EXPIRED: State.CLOSING,
    },
    State.LOST: {
        Cause.REPLACED: State.OPEN,
        Cause.CLOSE: State.CLOSING,
        Cause.CLOSE_RECEIVED: State.CLOSING,
        Cause.VIOLATED: State.CLOSING,
        Cause.GIVEN_UP: State.CLOSING,
        Cause.EXPIRED: State.CLOSING,
    },
    State.CLOSING: {Cause.TAKEN: State.CLOSED},
    State.CLOSED: {},
}


class ClientState(StrEnum):
    """How things stand between a client and its hub (SPEC 5.1)."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DISCONNECTING = "disconnecting"


class ClientCause(StrEnum):
    """What takes a client from one state to another."""

    START = "start()"
    MADE = "the connection is made"
    FAILED = "the attempt fails"
    LOST = "the connection is lost"
    ENDED = "the connection ends for good"
    GIVEN_UP = "the policy gives up"
    STOP = "stop()"
    GONE = "the sockets are gone"


CLIENT: Mapping[ClientState, Mapping[ClientCause, ClientState]] = {
    ClientState.DISCONNECTED: {ClientCause.START: ClientState.CONNECTING},
    ClientState.CONNECTING: {
        ClientCause.MADE: ClientState.CONNECTED,
        ClientCause.FAILED: ClientState.DISCONNECTED,
        ClientCause.STOP: ClientState.DISCONNECTING,
    },
    ClientState.CONNECTED: {
        ClientCause.LOST: ClientState.RECONNECTING,
        ClientCause.ENDED: ClientState.DISCONNECTED,
        ClientCause.STOP: ClientState.DISCONNECTING,
    },
    ClientState.RECONNECTING: {
        ClientCause.MADE: ClientState.CONNECTED,
        ClientCause.FAILED: ClientState.RECONNECTING,
        ClientCause.GIVEN_UP: ClientState.DISCONNECTED,
        ClientCause.STOP: ClientState.DISCONNECTING,
    },
    ClientState.DISCONNECTING: {ClientCause.GONE: ClientState.DISCONNECTED},
}


class IdState(StrEnum):
    """What an id stands for, and so what may follow under it."""

    CALL = "call"  # one Completion
    STREAM = "stream"  # StreamItems, then one Completion
    CANCELLED = "cancelled"  # whatever still comes up to the Completion, nobody wants to see it
    RESERVED = "reserved"  # an upload whose call has not been sent yet
    UPLOAD = "upload"  # StreamItems, then one Completion
    DONE = "done"  # the id means nothing any more, and may be used again


class Step(StrEnum):
    """What is said under an id, or done with it."""

    ANNOUNCE = "a call carries it"
    ITEM = "StreamItem"
    COMPLETION = "Completion"
    CANCEL = "CancelInvocation"
    FORGET = "cancel() at a server"
    IGNORE = "ignore_stream(), or the call is completed"


OUR_CALL: Mapping[IdState, Mapping[Step, IdState]] = {
    IdState.CALL: {Step.COMPLETION: IdState.DONE, Step.CANCEL: IdState.CANCELLED, Step.FORGET: IdState.DONE},
    IdState.STREAM: {Step.ITEM: IdState.STREAM, Step.COMPLETION: IdState.DONE, Step.CANCEL: IdState.CANCELLED},
    IdState.CANCELLED: {Step.COMPLETION: IdState.DONE},
}

OUR_UPLOAD: Mapping[IdState, Mapping[Step, IdState]] = {
    IdState.RESERVED: {Step.ANNOUNCE: IdState.UPLOAD},
    IdState.UPLOAD: {Step.ITEM: IdState.UPLOAD, Step.COMPLETION: IdState.DONE},
}

THEIR_CALL: Mapping[IdState, Mapping[Step, IdState]] = {
    IdState.CALL: {Step.CANCEL: IdState.CALL, Step.COMPLETION: IdState.DONE},
    IdState.STREAM: {Step.CANCEL: IdState.STREAM, Step.ITEM: IdState.STREAM, Step.COMPLETION: IdState.DONE},
}

THEIR_UPLOAD: Mapping[IdState, Mapping[Step, IdState]] = {
    IdState.UPLOAD: {Step.ITEM: IdState.UPLOAD, Step.COMPLETION: IdState.DONE, Step.IGNORE: IdState.DONE},
}


def ids_that_take(step: Step, table: Mapping[IdState, Mapping[Step, IdState]]) -> frozenset[IdState]:
    """Return the states in which an id of this table may take this step."""
    return frozenset(state for state, steps in table.items() if step in steps)
