"""What goes into the log: three loggers below that of the package, and the facts that each record carries.

`logging.getLogger("hubproto_core")` hears everything; `hubproto_core.hub` is what happens on hubs' connections,
`hubproto_core.http` what becomes of requests, `hubproto_core.client` what clients do. Every record of them has the
attributes of `FACTS`, None where they do not apply, so that a formatter may name any of them. docs/hubs.md lists the
records.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

__all__ = ["NOBODY", "client_log", "connection_facts", "error_kind", "facts", "http_log", "hub_log", "one_line"]

hub_log = logging.getLogger("hubproto_core.hub")
http_log = logging.getLogger("hubproto_core.http")
client_log = logging.getLogger("hubproto_core.client")

FACTS = ("hub", "connection_id", "user_id", "hub_method", "error_kind")
_LONGEST = 200  # characters of what a peer has written that are shown


def connection_facts(hub: str | None, connection_id: str | None, user_id: str | None) -> Mapping[str, object]:
    """Return what every record about one connection carries."""
    return {"hub": hub, "connection_id": connection_id, "user_id": user_id}


NOBODY = connection_facts(None, None, None)
"""The facts of a record that is about no connection."""


def facts(
    connection: Mapping[str, object], *, method: str | None = None, error: BaseException | None = None
) -> dict[str, object]:
    """Return the `extra` of one record."""
    return {**connection, "hub_method": method, "error_kind": None if error is None else error_kind(error)}


def error_kind(error: BaseException) -> str:
    """Return the short name of an exception, the reference's where it has one (see `HubProtoError.kind`)."""
    kind: str = getattr(error, "kind", type(error).__name__)
    return kind


def one_line(value: object) -> str:
    """Return what a peer has written, or a text that may quote it, fit for a line of a log: short, and printable."""
    text = str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()
