"""Who is connected to a hub, in which groups, as which user; and the selectors that send to them (SPEC 3.14)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, overload

from ._binding import Shape
from ._codecs import Codec
from ._codecs._naming import Rename
from ._errors import LocalProtocolError, TransportError
from ._messages import Invocation
from ._proxies import Contract, contract_of
from ._running import OutgoingCall, Waiter

__all__ = [
    "CallerClients",
    "CallerGroups",
    "Clients",
    "Groups",
    "HubContext",
    "Member",
    "Registry",
    "Selection",
    "SingleClient",
    "TypedCallerClients",
    "TypedClients",
]

Many = TypeVar("Many")
One = TypeVar("One")
P = TypeVar("P")
T = TypeVar("T")


class Member(Protocol):
    """One client's connection, as far as the others on its server are concerned. `HubSession` documents each."""

    connection_id: str
    user: str | None

    @property
    def codec(self) -> Codec: ...
    def push(self, data: bytes) -> None: ...
    def push_latest(self, key: Hashable, data: bytes) -> None: ...
    def invoke(self, target: str, arguments: Sequence[Any], shape: Shape) -> OutgoingCall: ...
    def cancel_all(self) -> None: ...
    def cut_short(self, *, now: float) -> None: ...


class Registry:
    """The connections of one hub on one server. `owner` is woken when one of them is finished.

    `waiter`, set by the shell, lets user code wait for what clients answer.
    """

    __slots__ = ("_joined", "connections", "groups", "owner", "users", "waiter")

    def __init__(self, owner: object = None) -> None:
        self.owner: object = owner
        self.waiter: Waiter | None = None
        self.connections: dict[str, Member] = {}
        self.groups: dict[str, dict[str, Member]] = {}
        self.users: dict[str, dict[str, Member]] = {}
        self._joined: dict[str, set[str]] = {}  # the groups of each connection that has been in any

    def add(self, session: Member) -> None:
        """Make a connection reachable."""
        self.connections[session.connection_id] = session
        if session.user is not None:
            self.users.setdefault(session.user, {})[session.connection_id] = session

    def remove(self, session: Member) -> None:
        """Forget a connection, its groups included."""
        connection_id = session.connection_id
        if self.connections.pop(connection_id, None) is None:
            return
        if session.user is not None:
            _drop(self.users, session.user, connection_id)
        for group in self._joined.pop(connection_id, ()):
            _drop(self.groups, group, connection_id)

    def join(self, group: str, connection_id: str) -> None:
        """Put a connection into a group, if there is such a connection."""
        session = self.connections.get(connection_id)
        if session is not None:
            self.groups.setdefault(group, {})[connection_id] = session
            self._joined.setdefault(connection_id, set()).add(group)

    def leave(self, group: str, connection_id: str) -> None:
        """Take a connection out of a group, if it is in it."""
        joined = self._joined.get(connection_id)
        if joined is not None and group in joined:
            joined.remove(group)
            _drop(self.groups, group, connection_id)


def _drop(table: dict[str, dict[str, Member]], name: str, connection_id: str) -> None:
    """Take a connection out of a table; a name that nobody is under is forgotten."""
    del table[name][connection_id]
    if not table[name]:
        del table[name]


class Selection:
    """Some of the clients. Which ones is looked up at every `send`."""

    __slots__ = ("_excluded", "_key", "_members")

    def __init__(
        self, members: Iterable[dict[str, Member]], excluded: Collection[str] = (), key: Hashable = None
    ) -> None:
        self._members = members
        self._excluded = excluded
        self._key = key

    def __iter__(self) -> Iterator[Member]:
        for members in self._members:
            for connection_id, session in members.items():
                if connection_id not in self._excluded:
                    yield session

    def send(self, target: str, /, *arguments: Any) -> None:
        """Call `target` on each of them, without an answer.

        Nobody waits: a client that does not read has what is sent queued, up to `HubConfig.send_limit`. The message is
        encoded once for each encoding in use. Raises `LocalProtocolError` when an argument cannot be encoded.
        """
        message = Invocation(target=target, arguments=arguments)
        encoded: dict[Codec, bytes] = {}
        key = self._key
        for session in list(self):
            codec = session.codec
            data = encoded.get(codec)
            if data is None:
                data = encoded[codec] = codec.encode(message)
            if key is None:
                session.push(data)
            else:
                session.push_latest(key, data)

    def coalesce(self, key: Hashable) -> Selection:
        """Return the same clients, to be sent something of which only the latest counts:
        `clients.group("eur").coalesce("EURUSD").send("price", 1.1)`.

        A client with more than `HubConfig.send_buffer` bytes to read gets no more of these messages queued: one of
        them waits until there is room, and is replaced by the next with the same key, which can be anything hashable
        but None. Messages that are not coalesced stay in order among each other and may overtake one that waits; keys
        come in the order in which they began to wait. What waits counts for `HubConfig.send_limit`, with 256 bytes
        more for each key.
        """
        return Selection(self._members, self._excluded, key)


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
        return waiter.outcome_of(partial(self._begin, target, arguments, Shape.of(returns)))

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


class Selectors(ABC, Generic[One, Many]):
    """Selectors for the clients of a hub: what they give for one client, and what for several."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @abstractmethod
    def _one(self, connection_id: str) -> One: ...

    @abstractmethod
    def _many(self, members: Iterable[dict[str, Member]], excluded: Collection[str] = ()) -> Many: ...

    @property
    def all(self) -> Many:
        """Everybody."""
        return self._many([self._registry.connections])

    def all_except(self, *connection_ids: str) -> Many:
        """Everybody but these connections."""
        return self._many([self._registry.connections], connection_ids)

    def client(self, connection_id: str) -> One:
        """The connection with this id."""
        return self._one(connection_id)

    def clients(self, *connection_ids: str) -> Many:
        """The connections with these ids."""
        return self._many(_Connections(self._registry.connections, connection_ids))

    def group(self, name: str) -> Many:
        """Everybody in the group."""
        return self._many(_Lookup(self._registry.groups, (name,)))

    def groups(self, *names: str) -> Many:
        """Everybody in each of the groups; who is in two of them gets the message twice.

        Raises `LocalProtocolError` for an empty name.
        """
        if "" in names:
            raise LocalProtocolError("Cannot send to an empty group name.", kind="InvalidOperationException")
        return self._many(_Lookup(self._registry.groups, names))

    def group_except(self, name: str, *connection_ids: str) -> Many:
        """Everybody in the group but these connections."""
        return self._many(_Lookup(self._registry.groups, (name,)), connection_ids)

    def user(self, user: str) -> Many:
        """Every connection of the user."""
        return self._many(_Lookup(self._registry.users, (user,)))

    def users(self, *users: str) -> Many:
        """Every connection of each of the users."""
        return self._many(_Lookup(self._registry.users, users))


class CallerSelectors(Selectors[One, Many]):
    """Selectors from inside a call."""

    __slots__ = ()

    _caller_id: str

    @property
    def caller(self) -> One:
        """The client that calls."""
        return self._one(self._caller_id)

    @property
    def others(self) -> Many:
        """Everybody but the caller."""
        return self.all_except(self._caller_id)

    def others_in_group(self, name: str) -> Many:
        """Everybody in the group but the caller."""
        return self.group_except(name, self._caller_id)


class Clients(Selectors[SingleClient, Selection]):
    """Selectors for the clients of a hub, from outside of any call."""

    __slots__ = ()

    def typed(self, protocol: Callable[..., P], *, rename: Rename = None) -> TypedClients[P]:
        """Return selectors that give objects with the methods of a `typing.Protocol`: what clients can be told.

        `chat = clients.typed(ChatClient); chat.all.said("ann", "hi"); await chat.client(id).ask_me("why?")`. A plain
        method of the Protocol sends. An `async def` one asks one client for a result, of the annotated type; asked of
        several at once it raises `LocalProtocolError`. On the wire a method has the name that it has here, changed by
        `rename` ("pascal", "camel" or a function), or the one that `wire_name` gives it.

        Raises TypeError for what is no Protocol, and for one whose members cannot be called over the wire.
        """
        return TypedClients(self, contract_of(protocol, rename))

    def _one(self, connection_id: str) -> SingleClient:
        return SingleClient(self._registry, connection_id)

    def _many(self, members: Iterable[dict[str, Member]], excluded: Collection[str] = ()) -> Selection:
        return Selection(members, excluded)


class CallerClients(Clients, CallerSelectors[SingleClient, Selection]):
    """Selectors for the clients of a hub, from inside a call. For `before` see `SingleClient`."""

    __slots__ = ("_before", "_caller_id")

    def __init__(self, registry: Registry, caller_id: str, before: Callable[[], None] | None = None) -> None:
        super().__init__(registry)
        self._caller_id = caller_id
        self._before = before

    def typed(self, protocol: Callable[..., P], *, rename: Rename = None) -> TypedCallerClients[P]:
        """See `Clients.typed`."""
        return TypedCallerClients(self, self._caller_id, contract_of(protocol, rename))

    def _one(self, connection_id: str) -> SingleClient:
        return SingleClient(self._registry, connection_id, self._before)


class TypedClients(Selectors[P, P]):
    """Selectors that give objects with the methods of a Protocol. `Clients.typed` makes them."""

    __slots__ = ("_clients", "_contract", "_key")

    def __init__(self, clients: Clients, contract: Contract[P], key: Hashable = None) -> None:
        super().__init__(clients._registry)
        self._clients = clients
        self._contract = contract
        self._key = key

    def coalesce(self, key: Hashable) -> TypedClients[P]:
        """Return selectors for what only the latest of counts; see `Selection.coalesce`."""
        return TypedClients(self._clients, self._contract, key)

    def _one(self, connection_id: str) -> P:
        return self._contract.proxy(self._coalesced(self._clients._one(connection_id)))

    def _many(self, members: Iterable[dict[str, Member]], excluded: Collection[str] = ()) -> P:
        return self._contract.proxy(self._coalesced(self._clients._many(members, excluded)))

    def _coalesced(self, selection: Selection) -> Selection:
        return selection if self._key is None else selection.coalesce(self._key)


class TypedCallerClients(TypedClients[P], CallerSelectors[P, P]):
    """Selectors from inside a call that give objects with the methods of a Protocol."""

    __slots__ = ("_caller_id",)

    def __init__(self, clients: Clients, caller_id: str, contract: Contract[P], key: Hashable = None) -> None:
        super().__init__(clients, contract, key)
        self._caller_id = caller_id

    def coalesce(self, key: Hashable) -> TypedCallerClients[P]:
        """Return selectors for what only the latest of counts; see `Selection.coalesce`."""
        return TypedCallerClients(self._clients, self._caller_id, self._contract, key)


class Groups:
    """Who belongs to which group. Names are case-sensitive; a connection leaves its groups when it ends."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def add(self, name: str, connection_id: str) -> None:
        """Put the connection with this id into the group. An unknown id changes nothing."""
        self._registry.join(name, connection_id)

    def remove(self, name: str, connection_id: str) -> None:
        """Take the connection with this id out of the group, if it is in it."""
        self._registry.leave(name, connection_id)


class CallerGroups(Groups):
    """The groups from inside a call."""

    __slots__ = ("_caller_id",)

    def __init__(self, registry: Registry, caller_id: str) -> None:
        super().__init__(registry)
        self._caller_id = caller_id

    def add(self, name: str, connection_id: str | None = None) -> None:
        """Put the caller, or the connection with this id, into the group. An unknown id changes nothing."""
        self._registry.join(name, self._caller_id if connection_id is None else connection_id)

    def remove(self, name: str, connection_id: str | None = None) -> None:
        """Take the caller, or the connection with this id, out of the group, if it is in it."""
        self._registry.leave(name, self._caller_id if connection_id is None else connection_id)


class HubContext:
    """A hub as one server serves it: its clients, its groups, and who is there now.

    A connection is there from before `on_connected` until after `on_disconnected`.
    """

    __slots__ = ("_registry", "clients", "groups")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.clients: Clients = Clients(registry)
        """The way to call methods of the clients."""
        self.groups: Groups = Groups(registry)
        """The way to put connections into groups."""

    @property
    def connections(self) -> list[str]:
        """The ids of all connections, oldest first."""
        return list(self._registry.connections)

    @property
    def users(self) -> list[str]:
        """The ids of the users that have a connection."""
        return list(self._registry.users)

    def members(self, group: str) -> list[str]:
        """The ids of the connections in the group; none in one that there is not."""
        return list(self._registry.groups.get(group, ()))

    def connections_of(self, user: str) -> list[str]:
        """The ids of the connections of the user, oldest first."""
        return list(self._registry.users.get(user, ()))
