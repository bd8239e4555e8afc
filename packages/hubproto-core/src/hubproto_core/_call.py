"""`Call`: the context of a hub method, asked for by annotation (SPEC 3.16)."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from ._clients import CallerClients, CallerGroups, HubContext
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
    groups: CallerGroups

    @property
    def is_over(self) -> bool: ...
    def clients_of(self, call: RunningCall) -> CallerClients: ...
    def context(self) -> HubContext: ...
    def wait_over(self) -> Coroutine[Any, Any, None]: ...
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
    """Who is calling, and the way back to it and to the others. It may be kept, and outlive the call."""

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
    def headers(self) -> Mapping[str, str]:
        """The headers of the message that called, such as `traceparent`; not those of the HTTP request."""
        return self._running.headers

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
    def groups(self) -> CallerGroups:
        """The way to put the caller, or another connection, into groups."""
        return self._session.groups

    @property
    def hub(self) -> HubContext:
        """The hub as code outside of any call sees it, and so who is in a group, and who is there at all.

        Ask clients for results by `clients` rather than from here: a call that waits keeps its place otherwise.
        """
        return self._session.context()

    def abort(self) -> None:
        """End the caller's connection; it is told not to come back by itself (SPEC 3.11)."""
        self._session.abort()

    @property
    def is_disconnected(self) -> bool:
        """The caller's connection has ended, or is being ended; nothing that is sent to it arrives any more.

        True in `on_disconnected`, and from `abort` on. A connection that is waiting to be resumed has not ended.
        """
        return self._session.is_over

    def wait_disconnected(self) -> Coroutine[Any, Any, None]:
        """Wait until the caller's connection has ended: `await call.wait_disconnected()`. It may have already.

        For tasks of your own that outlive the call. The call itself is cancelled when its connection ends, but for one
        that was sent without asking for an answer. Raises `LocalProtocolError` where no server runs.
        """
        return self._session.wait_over()
