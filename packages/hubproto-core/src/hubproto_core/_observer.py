"""`Observer`: what happens on the connections of a hub, told as it happens, for metrics and traces (SPEC 3.17).

A hub without observers has no `Observation`, and then nothing here is run or made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from ._logs import NOBODY, facts, hub_log
from ._transport import Transport

__all__ = ["ConnectionStatus", "Observation", "ObservedCall", "ObservedConnection", "Observer"]

T = TypeVar("T")

ConnectionStatus = Literal["normal_closure", "timeout", "app_shutdown"]
"""How a connection ended, in the reference's words. What is no timeout and no shutdown is normal, cut off or not."""

_TRANSPORTS = {
    Transport.WEB_SOCKETS: "web_sockets",
    Transport.SERVER_SENT_EVENTS: "server_sent_events",
    Transport.LONG_POLLING: "long_polling",
}


@dataclass(frozen=True, slots=True, eq=False)
class ObservedConnection:
    """A connection that is observed: the same object from its opening to its end."""

    hub: str
    """`Hub.name`."""

    connection_id: str
    """The public id."""

    user: str | None
    """The user's id, or None."""

    transport: str
    """`web_sockets`, `server_sent_events` or `long_polling`."""

    opened_at: float
    """When it began, in seconds of the server's clock."""


@dataclass(frozen=True, slots=True, eq=False)
class ObservedCall:
    """A function of a hub that runs for a connection: the same object from its start to its end."""

    connection: ObservedConnection
    """Whose call it is."""

    method: str
    """The method's name as the hub declares it; `on_connected` or `on_disconnected` for these."""

    headers: Mapping[str, str]
    """The headers of the client's message, for example `traceparent`; mostly empty."""

    invocation_id: str | None
    """The id under which the client waits for the end, None if it does not."""

    is_stream: bool
    """It sends a stream; it ends when the stream does."""

    is_hook: bool
    """It is `on_connected` or `on_disconnected`, which no client calls."""


class Observer:
    """What wants to know of the connections and calls of a hub: `Hub(observers=[...])`. Override what is of interest.

    Its methods are called in the middle of the server's work, one after another, never from two threads at a time: they
    must be quick, and wait for nothing. One that raises hurts nobody; that is logged once for each method.

    Calls that are refused before any of the hub's code runs (unknown, unauthorized, with arguments that do not fit) are
    not told.
    """

    def connection_opened(self, connection: ObservedConnection) -> None:
        """A client has connected; its handshake is still to come."""

    def connection_closed(
        self, connection: ObservedConnection, *, duration: float, status: ConnectionStatus, error: Exception | None
    ) -> None:
        """The connection is over. `duration` is in seconds; `error` is None after an orderly end.

        What runs for it may still end later, and `on_disconnected` is still to come.
        """

    def call_started(self, call: ObservedCall) -> Context | None:
        """A function of the hub is about to run.

        What is returned, for example a `contextvars.copy_context()` with another current span in it, is the context in
        which all of it runs, the whole of a stream included; None for the one there is. Later observers of the same hub
        are called in a copy of it.
        """
        return None

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        """The function has returned, raised `error`, or was cancelled: by its client, or because the end has come."""


class Observation:
    """All observers of one hub, as one that never raises."""

    __slots__ = ("_complaints", "_observers")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._complaints: set[tuple[int, str]] = set()

    def connection_opened(
        self, hub: str, connection_id: str, user: str | None, transport: Transport, *, now: float
    ) -> ObservedConnection:
        """Tell of a new connection; returns what the others are told about."""
        connection = ObservedConnection(hub, connection_id, user, _TRANSPORTS[transport], now)
        for number, observer in enumerate(self._observers):
            self._tell(number, partial(observer.connection_opened, connection))
        return connection

    def connection_closed(
        self, connection: ObservedConnection, *, status: ConnectionStatus, error: Exception | None, now: float
    ) -> None:
        """Tell of the end of a connection."""
        duration = now - connection.opened_at
        for number, observer in enumerate(self._observers):
            hook = partial(observer.connection_closed, connection, duration=duration, status=status, error=error)
            self._tell(number, hook)

    def call_started(self, call: ObservedCall) -> Context | None:
        """Tell of a call that starts; returns the context in which it runs, nobody else's, or None."""
        context: Context | None = None
        for number, observer in enumerate(self._observers):
            hook: partial[Context | None] = partial(observer.call_started, call)
            made = self._tell(number, hook, context)
            if made is not None:
                context = made.copy()
        return context

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        """Tell of the end of a call."""
        for number, observer in enumerate(self._observers):
            self._tell(number, partial(observer.call_ended, call, error=error, cancelled=cancelled))

    def _tell(self, number: int, hook: partial[T], context: Context | None = None) -> T | None:
        try:
            return hook() if context is None else context.run(hook)
        except Exception as error:
            self._complain(number, hook.func, error)
            return None

    def _complain(self, number: int, method: Callable[..., object], error: Exception) -> None:
        name = getattr(method, "__name__", repr(method))
        if (number, name) not in self._complaints:
            self._complaints.add((number, name))
            hub_log.error(
                "%s of the observer %r failed; it will not be logged again",
                name,
                self._observers[number],
                exc_info=error,
                extra=facts(NOBODY, error=error),
            )
