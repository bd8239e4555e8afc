"""Who is connected to a hub, in which groups, as which user; and the selectors that send to them (SPEC 3.14)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, overload

from ._binding import Shape
from ._codecs import Codec
from ._errors import LocalProtocolError, TransportError
from ._messages import Invocation
from ._running import OutgoingCall, Waiter

__all__ = ["CallerClients", "Clients", "Groups", "Member", "Registry", "Selection", "SingleClient"]

T = TypeVar("T")


class Member(Protocol):
    """One client's connection, as far as calling its methods goes."""

    connection_id: str
    user: str | None

    @property
    def codec(self) -> Codec: ...
    def push(self, data: bytes) -> None: ...
    def invoke(self, target: str, arguments: Sequence[Any], shape: Shape) -> OutgoingCall: ...


class Registry:
    """The connections of one hub on one server. `owner` is woken when one of them is finished.

    `waiter`, set by the shell, lets user code wait for what clients answer.
    """

    __slots__ = ("connections", "groups", "owner", "users", "waiter")

    def __init__(self, owner: object = None) -> None:
        self.owner: object = owner
        self.waiter: Waiter | None = None
        self.connections: dict[str, Member] = {}
        self.groups: dict[str, dict[str, Member]] = {}
        self.users: dict[str, dict[str, Member]] = {}

    def add(self, session: Member) -> None:
        """Make a connection reachable."""
        self.connections[session.connection_id] = session
        if session.user is not None:
            self.users.setdefault(session.user, {})[session.connection_id] = session

    def remove(self, session: Member) -> None:
        """Forget a connection, its groups included."""
        self.connections.pop(session.connection_id, None)
        for table in (self.users, self.groups):
            for name in [name for name, members in table.items() if session.connection_id in members]:
                del table[name][session.connection_id]
                if not table[name]:
                    del table[name]


class Selection:
    """Some of the clients. Which ones is looked up at every `send`."""

    __slots__ = ("_excluded", "_members")

    def __init__(self, members: Iterable[dict[str, Member]], excluded: Collection[str] = ()) -> None:
        self._members = members
        self._excluded = excluded

    def __iter__(self) -> Iterator[Member]:
        for members in self._members:
            for connection_id, session in members.items():
                if connection_id not in self._excluded:
                    yield session

    def send(self, target: str, *arguments: Any) -> None:
        """Call `target` on each of them, without an answer.

        Nobody waits: a client that does not read has what is sent queued, up to `HubConfig.send_limit`. The message is
        encoded once for each encoding in use. Raises `LocalProtocolError` when an argument cannot be encoded.
        """
        message = Invocation(target=target, arguments=arguments)
        encoded: dict[Codec, bytes] = {}
        for session in list(self):
            codec = session.codec
            data = encoded.get(codec)
            if data is None:
                data = encoded[codec] = codec.encode(message)
            session.push(data)


class SingleClient(Selection):
    """One of the clients: it can also be asked for a result (SPEC 3.10). Looked up whenever it is called."""

    __slots__ = ("_before", "_connection_id", "_registry")

    def __init__(self, registry: Registry, connection_id: str, before: Callable[[], None] | None = None) -> None:
        """`before` is called before each call whose result is waited for; what it raises prevents the call."""
        super().__init__(_Connections(registry.connections, (connection_id,)))
        self._registry = registry
        self._connection_id = connection_id
        self._before = before

    @overload
    def invoke(self, target: str, /, *arguments: Any) -> Coroutine[Any, Any, Any]: ...
    @overload
    def invoke(self, target: str, /, *arguments: Any, returns: type[T]) -> Coroutine[Any, Any, T]: ...
    def invoke(self, target: str, /, *arguments: Any, returns: Any = Any) -> Coroutine[Any, Any, Any]:
        """Call a method of the client and return its result, converted to `returns`: `await client.invoke("AskMe")`.

        Nothing is sent before it is awaited. There is no limit of time: use the runtime's own (`trio.fail_after`,
        `asyncio.timeout`). When the waiting is cancelled the client is not told; what it still answers is ignored.

        Raises `HubError` with the client's text when it answers with an error, with no result, or with one that does
        not fit `returns`; `TransportError` when there is no such connection, or it ends before it has answered;
        `LocalProtocolError` for an argument that cannot be encoded, and in `on_connected`, before which no client is
        heard.
        """
        waiter = self._registry.waiter
        if waiter is None:
            raise LocalProtocolError("no server runs here that could wait for an answer: see Registry.waiter")
        return waiter.invoke(partial(self._begin, target, arguments, Shape.of(returns)))

    def _begin(self, target: str, arguments: Sequence[Any], shape: Shape) -> OutgoingCall:
        if self._before is not None:
            self._before()
        session = self._registry.connections.get(self._connection_id)
        if session is None:
            raise TransportError(f"Connection '{self._connection_id}' does not exist.", kind="IOException")
        return session.invoke(target, arguments, shape)


class _Lookup:
    """Tables of members by name, looked up when they are needed."""

    __slots__ = ("_names", "_table")

    def __init__(self, table: dict[str, dict[str, Member]], names: tuple[str, ...]) -> None:
        self._table = table
        self._names = names

    def __iter__(self) -> Iterator[dict[str, Member]]:
        for name in self._names:
            yield self._table.get(name, {})


class _Connections:
    """The connections with these ids, looked up when they are needed."""

    __slots__ = ("_connections", "_ids")

    def __init__(self, connections: dict[str, Member], ids: tuple[str, ...]) -> None:
        self._connections = connections
        self._ids = ids

    def __iter__(self) -> Iterator[dict[str, Member]]:
        for connection_id in self._ids:
            session = self._connections.get(connection_id)
            if session is not None:
                yield {connection_id: session}


class Clients:
    """Selectors for the clients of a hub, from outside of any call."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def all(self) -> Selection:
        """Everybody."""
        return Selection([self._registry.connections])

    def all_except(self, *connection_ids: str) -> Selection:
        """Everybody but these connections."""
        return Selection([self._registry.connections], connection_ids)

    def client(self, connection_id: str) -> SingleClient:
        """The connection with this id."""
        return SingleClient(self._registry, connection_id)

    def clients(self, *connection_ids: str) -> Selection:
        """The connections with these ids."""
        return Selection(_Connections(self._registry.connections, connection_ids))

    def group(self, name: str) -> Selection:
        """Everybody in the group."""
        return Selection(_Lookup(self._registry.groups, (name,)))

    def groups(self, *names: str) -> Selection:
        """Everybody in each of the groups; who is in two of them gets the message twice."""
        return Selection(_Lookup(self._registry.groups, names))

    def group_except(self, name: str, *connection_ids: str) -> Selection:
        """Everybody in the group but these connections."""
        return Selection(_Lookup(self._registry.groups, (name,)), connection_ids)

    def user(self, user: str) -> Selection:
        """Every connection of the user."""
        return Selection(_Lookup(self._registry.users, (user,)))

    def users(self, *users: str) -> Selection:
        """Every connection of each of the users."""
        return Selection(_Lookup(self._registry.users, users))


class CallerClients(Clients):
    """Selectors for the clients of a hub, from inside a call. For `before` see `SingleClient`."""

    __slots__ = ("_before", "_caller_id")

    def __init__(self, registry: Registry, caller_id: str, before: Callable[[], None] | None = None) -> None:
        super().__init__(registry)
        self._caller_id = caller_id
        self._before = before

    @property
    def caller(self) -> SingleClient:
        """The client that calls."""
        return self.client(self._caller_id)

    def client(self, connection_id: str) -> SingleClient:
        """The connection with this id."""
        return SingleClient(self._registry, connection_id, self._before)

    @property
    def others(self) -> Selection:
        """Everybody but the caller."""
        return self.all_except(self._caller_id)

    def others_in_group(self, name: str) -> Selection:
        """Everybody in the group but the caller."""
        return self.group_except(name, self._caller_id)


class Groups:
    """Who belongs to which group. Names are case-sensitive; a connection leaves its groups when it ends."""

    __slots__ = ("_caller_id", "_registry")

    def __init__(self, registry: Registry, caller_id: str) -> None:
        self._registry = registry
        self._caller_id = caller_id

    def add(self, name: str, connection_id: str | None = None) -> None:
        """Put the caller, or the connection with this id, into the group. An unknown id changes nothing."""
        session = self._registry.connections.get(connection_id or self._caller_id)
        if session is not None:
            self._registry.groups.setdefault(name, {})[session.connection_id] = session

    def remove(self, name: str, connection_id: str | None = None) -> None:
        """Take the caller, or the connection with this id, out of the group, if it is in it."""
        members = self._registry.groups.get(name, {})
        members.pop(connection_id or self._caller_id, None)
        if not members:
            self._registry.groups.pop(name, None)
