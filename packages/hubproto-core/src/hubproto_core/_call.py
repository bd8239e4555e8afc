"""`Call`: the context of a hub method, asked for by annotation (SPEC 3.16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ._clients import CallerClients, Groups
from ._running import RunningCall
from ._transport import Transport

__all__ = ["Call", "ConnectionInfo"]


class _Connection(Protocol):
    """The connection behind a call: a `HubSession`."""

    connection_id: str
    user: str | None
    principal: Any
    info: ConnectionInfo
    items: dict[Any, Any]
    groups: Groups

    def clients_of(self, call: RunningCall) -> CallerClients: ...
    def abort(self) -> None: ...


class ConnectionInfo:
    """Where a connection came from: what its first HTTP request said."""

    __slots__ = ("headers", "query", "query_string", "transport")

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        query_string: str = "",
        transport: Transport = Transport.WEB_SOCKETS,
    ) -> None:
        self.headers: Mapping[str, str] = headers or {}
        self.query: Mapping[str, str] = query or {}
        self.query_string: str = query_string
        self.transport: Transport = transport


class Call:
    """Who is calling, and the way back to it and to the others. Valid while the method runs."""

    __slots__ = ("_running", "_session")

    def __init__(self, session: _Connection, running: RunningCall) -> None:
        self._session = session
        self._running = running

    @property
    def connection_id(self) -> str:
        """The connection's public id."""
        return self._session.connection_id

    @property
    def user(self) -> str | None:
        """The user's id, or None."""
        return self._session.user

    @property
    def principal(self) -> Any:
        """What the server's authenticator returned for the request that opened the connection, or None."""
        return self._session.principal

    @property
    def connection(self) -> ConnectionInfo:
        """Headers, query and transport of the request that opened the connection. Header names are lower case."""
        return self._session.info

    @property
    def items(self) -> dict[Any, Any]:
        """A dictionary of your own that lives as long as the connection."""
        return self._session.items

    @property
    def clients(self) -> CallerClients:
        """The way to call methods of the caller and of other clients.

        A plain call that awaits `invoke` of a client gives its place back (`HubConfig.max_parallel_calls`): the
        caller's next call may run meanwhile.
        """
        return self._session.clients_of(self._running)

    @property
    def groups(self) -> Groups:
        """The way to put the caller, or another connection, into groups."""
        return self._session.groups

    def abort(self) -> None:
        """End the caller's connection; it is told not to come back by itself (SPEC 3.11)."""
        self._session.abort()
