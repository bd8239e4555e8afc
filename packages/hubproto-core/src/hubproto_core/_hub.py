"""`Hub`: names to functions, inspected once, when they are given to it (SPEC 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ._auth import Policy, Requirement, policy_of, user_id_of
from ._codecs import Codec, JsonCodec, default_codecs
from ._config import HubConfig
from ._describe import describe
from ._errors import HubError
from ._filters import HOOKS, HubFilter, filtered_hook, filtered_method
from ._hub_class import marked
from ._observer import Observation, Observer
from ._signature import Signature, where

__all__ = ["Hub", "Method"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a hub."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    cancellable: bool
    coalesces: bool = False
    policy: Policy | None = None  # who may call it


class Hub:
    """A set of methods that clients can call. It holds no connection, so any number of servers may serve it.

    Methods are given to it by the decorator `method`; or it is of a class that derives from `Hub`, whose methods are
    marked by `hub_method`, `on_connected` and `on_disconnected`.

    `config` is what its connections obey unless the server is given another one. `codecs` are the encodings among which
    clients choose, JSON and MessagePack by default; give your own to name the members of objects in another way on the
    wire, or to teach them types of yours. `described`: a GET of the hub's path and `/description` is answered with
    what `describe` returns, as JSON. `observers` are told of its connections and calls (see `Observer`).

    `name` is what the log, metrics and traces call it; by default its class's, or `Hub` for a hub that has none.

    `requires` says who may connect at all: the names of roles of which any one suffices, or a policy. Others are
    answered 401, or 403 if they are known. Who somebody is, the server's authenticator says. `user_id` gives the user
    whose connection it is from what the authenticator returned; by default that is its attribute `user_id`.
    """

    def __init__(
        self,
        config: HubConfig | None = None,
        *,
        codecs: Sequence[Codec] | None = None,
        name: str | None = None,
        observers: Sequence[Observer] = (),
        requires: Requirement | None = None,
        user_id: Callable[[Any], str | None] = user_id_of,
        described: bool = False,
    ) -> None:
        self.config: HubConfig = config or HubConfig()
        self.name: str = name or type(self).__name__
        """What the log, metrics and traces call it."""
        self.observation: Observation | None = Observation(observers) if observers else None
        """What tells its observers, if it has any."""
        self.policy: Policy | None = policy_of(requires)
        """Who may connect."""
        self.user_id: Callable[[Any], str | None] = user_id
        """Gives the user id of a principal."""
        self.codecs: tuple[Codec, ...] = default_codecs() if codecs is None else tuple(codecs)
        self.described: bool = described
        self._foreign = codecs is not None  # they may have hooks for classes that nobody else knows
        self._filters: list[HubFilter] = []
        self._declared: dict[str, Method] = {}
        self._methods: dict[str, Method] = {}  # the same, with the filters around them
        self._declared_hooks: dict[str, Method] = {}
        self._hooks: dict[str, Method] = {}
        for attribute, marks in marked(type(self)):
            if hasattr(Hub, attribute) or attribute in vars(self):
                raise TypeError(f"{type(self).__name__}.{attribute} hides what every Hub has: give it another name")
            for mark in marks:
                mark(self, getattr(self, attribute))

    def method(
        self,
        name: str | None = None,
        *,
        cancellable: bool = True,
        coalesce: bool = False,
        requires: Requirement | None = None,
    ) -> Callable[[F], F]:
        """Decorate a function that clients may call, as `name` or else by its own name, in any case.

        It may be a plain function, an `async def` one, or an asynchronous generator, whose items the client gets as a
        stream (as it does from a function annotated to return an `AsyncIterator`). Its annotations say what the
        arguments must be; `AsyncIterator[T]` is a stream that the client uploads, `Call` the caller's context. Trailing
        arguments that a client leaves out have their default values. A function may have several names, by a decorator
        for each.

        `cancellable=False`: a client that gives up waiting does not stop it (it is still stopped when the connection
        ends). Streams can always be stopped.

        `coalesce=True`, of a stream: only its latest item counts. A client that reads too slowly does not pause it:
        what it has not been sent yet is replaced by the next item, so that one item waits at most. The last one before
        the end always arrives.

        `requires`: who may call it: the names of roles of which any one suffices, or a policy, which is asked at every
        call and may be an `async def` function; what the client sends meanwhile waits.

        Raises TypeError for a name that is taken, for parameters that no call could fill, and for annotations to which
        nothing can be converted.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"hub.method takes a name, or nothing: write @hub.method() above {name!r}")
        policy = policy_of(requires)

        def decorate(function: F) -> F:
            self._add(Method(*_inspected(name, function, self._foreign), cancellable, coalesce, policy))
            return function

        return decorate

    def on_connected(self, function: F) -> F:
        """Decorate the function that runs first on every connection; no call is taken before it ends (SPEC 3.2).

        It may have a `Call` parameter. If it raises, the connection is closed.
        Raises TypeError if there is one already.
        """
        self._add_hook("connected", function)
        return function

    def on_disconnected(self, function: F) -> F:
        """Decorate the function that runs last on every connection for which `on_connected` succeeded (SPEC 3.2).

        It may have a `Call` parameter, and one for the error that ended the connection, None after an orderly end.
        Raises TypeError if there is one already.
        """
        self._add_hook("disconnected", function)
        return function

    def add_filter(self, filter: HubFilter) -> None:  # noqa: A002 - what else
        """Put a filter around all methods, and around the beginning and the end of connections; see `HubFilter`.

        The first one that is added is the outermost. Add filters before the hub is served. A plain function behind a
        filter runs in a task, as an `async def` one does.
        """
        if not isinstance(filter, HubFilter):
            raise TypeError(f"a filter is an instance of a class that derives from HubFilter, not {filter!r}")
        self._filters.append(filter)
        self._methods = {key: self._filtered(method) for key, method in self._declared.items()}
        self._filter_hooks()

    def lookup(self, target: str) -> Method:
        """Return the method that a client means, whatever case it uses. Raises `HubError` if there is none."""
        method = self._methods.get(target) or self._methods.get(target.lower())
        if method is None:
            raise HubError("Method does not exist.")
        return method

    def describe(self) -> dict[str, Any]:
        """Return what clients can call, as plain data that can be written as JSON.

        `{"methods": {name: method}, "$defs": {name: schema}}`, where a method has `arguments` (each with `name`,
        `schema` and `required`; `variadic` if it stands for any number of them), `uploads` (each with `name` and the
        schema of its `items`), either `result` or, for a stream of such items, `items`, and its docstring as
        `description`. The schemas are JSON Schema 2020-12, of values as `JsonCodec` has them on the wire; `{}` allows
        anything, and a type that only hooks know has nothing but a title.
        """
        names = next((codec.member_name for codec in self.codecs if isinstance(codec, JsonCodec)), str)
        return describe(self._declared.values(), names)

    @property
    def connected_hook(self) -> Method | None:
        """What runs first on every connection, if anything does."""
        return self._hooks.get("connected")

    @property
    def disconnected_hook(self) -> Method | None:
        """What runs last on every connection, if anything does."""
        return self._hooks.get("disconnected")

    # within

    def _add(self, method: Method) -> None:
        if method.coalesces and not method.signature.is_stream:
            raise TypeError(f"{method.name!r}: only the items of a stream can be coalesced")
        key = method.name.lower()
        taken = self._declared.get(key)
        if taken is not None:
            raise TypeError(
                f"Duplicate definitions of '{method.name}'. Overloading is not supported. It is "
                f"{where(taken.function)} already, in whatever case, and cannot be {where(method.function)} too"
            )
        self._declared[key] = method
        self._methods[key] = self._filtered(method)

    def _add_hook(self, place: str, function: Callable[..., Any]) -> None:
        name = f"on_{place}"
        signature = Signature.of(function, name, converts=False)
        most = HOOKS[place].arguments.length or 0
        if signature.streams or signature.is_stream or (signature.arguments.length or 0) > most:
            raise TypeError(f"{name} takes a Call and {'the error' if most else 'nothing else'}, not a stream")
        taken = self._declared_hooks.get(place)
        if taken is not None:
            raise TypeError(f"{name} is {where(taken.function)} already, and cannot be {where(function)} too")
        self._declared_hooks[place] = Method(name, function, signature, cancellable=False)
        self._filter_hooks()

    def _filtered(self, method: Method) -> Method:
        function, signature = filtered_method(method.name, (method.function, method.signature), self._filters)
        return method if signature is method.signature else replace(method, function=function, signature=signature)

    def _filter_hooks(self) -> None:
        for place in HOOKS:
            own = self._declared_hooks.get(place)
            hook = filtered_hook(place, (own.function, own.signature) if own else None, self._filters)
            if hook is not None:
                self._hooks[place] = Method(f"on_{place}", *hook, cancellable=False)


def _inspected(
    name: str | None, function: Callable[..., Any], foreign: bool
) -> tuple[str, Callable[..., Any], Signature]:
    if name is None:
        name = getattr(function, "__name__", "<nameless>")
        if not name.isidentifier():
            raise TypeError(f"{function!r} has no name that a client could call: write hub.method('Name')")
    if not name:
        raise TypeError(f"a client cannot call {where(function)} by an empty name")
    return name, function, Signature.of(function, name, foreign=foreign)
