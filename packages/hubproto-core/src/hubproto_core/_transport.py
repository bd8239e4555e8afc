"""The three transports, and what of them a connection must know (SPEC 1.3, 3.12, 4)."""

from __future__ import annotations

from enum import StrEnum

from ._codecs import TransferFormat

__all__ = ["Transport"]


class Transport(StrEnum):
    """What carries a connection, by its name in the negotiation."""

    WEB_SOCKETS = "WebSockets"
    SERVER_SENT_EVENTS = "ServerSentEvents"
    LONG_POLLING = "LongPolling"

    @property
    def transfer_formats(self) -> tuple[TransferFormat, ...]:
        """The kinds of messages that it can carry."""
        return ("text",) if self is Transport.SERVER_SENT_EVENTS else ("text", "binary")

    @property
    def shows_life(self) -> bool:
        """Its requests show that the client is there, so that there are no pings, and nobody counts as silent."""
        return self is Transport.LONG_POLLING
