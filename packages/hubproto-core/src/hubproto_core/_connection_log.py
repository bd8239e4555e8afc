"""`ConnectionLog`: what the log says of one served connection, every line of it, at its level (docs/hubs.md)."""

from __future__ import annotations

from collections.abc import Mapping
from logging import DEBUG, ERROR

from ._errors import HubError, TransportError
from ._logs import connection_facts, facts, hub_log, one_line

__all__ = ["ConnectionLog"]


class ConnectionLog:
    """Writes down what happens on one connection of a hub. `facts` is what every record about it carries."""

    __slots__ = ("_connection_id", "facts")

    def __init__(self, hub: str, connection_id: str, user: str | None) -> None:
        self._connection_id = connection_id
        self.facts: Mapping[str, object] = connection_facts(hub, connection_id, user)

    def opened(self, encoding: str) -> None:
        """The handshake is done."""
        hub_log.debug("connection %s is open, in %s", self._connection_id, encoding, extra=facts(self.facts))

    def expired(self) -> None:
        """Its principal is no longer valid."""
        hub_log.info(
            "connection %s is closed: what its client has shown to get in has expired",
            self._connection_id,
            extra=facts(self.facts),
        )

    def other_user(self, user: str | None) -> None:
        """A later request for it was sent by somebody else than the first one."""
        hub_log.warning(
            "connection %s: a request of another user is accepted: %s",
            self._connection_id,
            one_line(user),
            extra=facts(self.facts),
        )

    def lost(self, error: Exception | None) -> None:
        """Its WebSocket is gone, and another one is awaited."""
        extra = facts(self.facts, error=error)
        hub_log.debug(
            "connection %s waits for another WebSocket: %s", self._connection_id, one_line(error), extra=extra
        )

    def resumed(self) -> None:
        """It goes on with another WebSocket."""
        hub_log.debug("connection %s goes on with another WebSocket", self._connection_id, extra=facts(self.facts))

    def given_up(self, limit: int) -> None:
        """Its client does not read; `limit` is in bytes."""
        hub_log.warning(
            "connection %s is given up: it leaves more than %d bytes unread",
            self._connection_id,
            limit,
            extra=facts(self.facts),
        )

    def refused(self, target: str, reason: str, error: Exception | None = None) -> None:
        """One call is not begun, for a reason that its client is or will be told."""
        target = one_line(target)
        hub_log.debug(
            "connection %s: a call of %s is refused: %s",
            self._connection_id,
            target,
            one_line(reason),
            extra=facts(self.facts, method=target, error=error),
        )

    def taken_over(self, target: str, stream_id: str) -> None:
        """A client has used an id again while it is in use; as in the reference the later call gets what follows."""
        hub_log.debug(
            "connection %s: a call of %s takes over the upload %s from an earlier one",
            self._connection_id,
            target,
            one_line(stream_id),
            extra=facts(self.facts, method=target),
        )

    def failed(self, method: str, error: Exception) -> None:
        """A mistake in the hub has a traceback; a text for the client, or a client that is gone, needs none."""
        mistake = not isinstance(error, HubError | TransportError)
        hub_log.log(
            ERROR if mistake else DEBUG,
            "hub method %r failed for connection %s: %s: %s",
            method,
            self._connection_id,
            type(error).__name__,
            one_line(error),
            exc_info=error if mistake else None,
            extra=facts(self.facts, method=method, error=error),
        )

    def ended(self, error: Exception | None) -> None:
        """It is over: in order, or by an error."""
        extra = facts(self.facts, error=error)
        if error is None:
            hub_log.debug("connection %s ended", self._connection_id, extra=extra)
        else:
            hub_log.info("connection %s ended: %s", self._connection_id, one_line(error), extra=extra)
