"""`Hub`: names to functions. Signatures are inspected once, at definition (SPEC 3.3, 3.6)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from ._auth import Policy, Requirement, policy_of, user_id_of
from ._binding import Shape
from ._call import Call
from ._codecs import Codec, default_codecs
from ._config import HubConfig
from ._errors import HubError

__all__ = ["Hub", "Method", "Parameter", "Signature"]

F = TypeVar("F", bound=Callable[..., Any])

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORDS = inspect.Parameter.VAR_KEYWORD


class Parameter:
    """How a parameter gets its value when it does not come from the arguments of the call."""

    CALL = "call"
    STREAM = "stream"
    ARGUMENT = "argument"
    REST = "all arguments"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes from the wire and what it gives back."""

    arguments: Shape
    streams: tuple[Shape, ...]
    slots: tuple[str, ...]  # one of Parameter for each parameter that is filled, in order
    is_stream: bool
    inline: bool
    plain: bool = field(init=False)  # every parameter is an argument

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", not {Parameter.CALL, Parameter.STREAM} & set(self.slots))

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Signature:
        """Inspect a function. Raises TypeError for one that no call could reach."""
        signature = inspect.signature(function, eval_str=True)
        arguments: list[Any] = []
        streams: list[Shape] = []
        slots: list[str] = []
        rest: Any = None
        for parameter in signature.parameters.values():
            annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL and not arguments:
                rest = annotation
                slots.append(Parameter.REST)
                continue
            if parameter.kind not in _POSITIONAL:
                if parameter.default is inspect.Parameter.empty and parameter.kind is not _KEYWORDS:
                    raise TypeError(f"{name!r}: nothing can fill the parameter {parameter}; arguments are positional")
                continue
            if isinstance(annotation, type) and issubclass(annotation, Call):
                slots.append(Parameter.CALL)
            elif (get_origin(annotation) or annotation) in _STREAMS:
                slots.append(Parameter.STREAM)
                item = get_args(annotation)
                streams.append(Shape(item[0] if item else Any))
            else:
                slots.append(Parameter.ARGUMENT)
                arguments.append(annotation)
        returns = signature.return_annotation
        is_stream = inspect.isasyncgenfunction(function) or (get_origin(returns) or returns) in _STREAMS
        return cls(
            arguments=Shape.of_arguments(tuple(arguments)) if rest is None else Shape(tuple[rest, ...]),
            streams=tuple(streams),
            slots=tuple(slots),
            is_stream=is_stream,
            inline=not is_stream and not inspect.iscoroutinefunction(function),
        )


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a hub."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    cancellable: bool
    policy: Policy | None = None  # who may call it


class Hub:
    """A set of methods that clients can call. It holds no connection, so any number of servers may serve it.

    `config` is what its connections obey unless the server is given another one. `codecs` are the encodings among which
    clients choose, JSON and MessagePack by default; give your own to name the members of objects in another way on the
    wire, or to teach them types of yours.

    `requires` says who may connect at all: the names of roles of which any one suffices, or a policy. Others are
    answered 401, or 403 if they are known. Who somebody is, the server's authenticator says. `user_id` gives the user
    whose connection it is from what the authenticator returned; by default that is its attribute `user_id`.
    """

    def __init__(
        self,
        config: HubConfig | None = None,
        *,
        codecs: Sequence[Codec] | None = None,
        requires: Requirement | None = None,
        user_id: Callable[[Any], str | None] = user_id_of,
    ) -> None:
        self.config: HubConfig = config or HubConfig()
        self.policy: Policy | None = policy_of(requires)
        """Who may connect."""
        self.user_id: Callable[[Any], str | None] = user_id
        """Gives the user id of a principal."""
        self.codecs: tuple[Codec, ...] = default_codecs() if codecs is None else tuple(codecs)
        self._methods: dict[str, Method] = {}
        self._connected: Method | None = None
        self._disconnected: Method | None = None

    def method(
        self, name: str | None = None, *, cancellable: bool = True, requires: Requirement | None = None
    ) -> Callable[[F], F]:
        """Decorate a function that clients may call, as `name` or else by its own name, in any case.

        It may be a plain function, an `async def` one, or an asynchronous generator, whose items the client gets as a
        stream (as it does from a function annotated to return an `AsyncIterator`). Its annotations say what the
        arguments must be; `AsyncIterator[T]` is a stream that the client uploads, `Call` the caller's context.

        `cancellable=False`: a client that gives up waiting does not stop it (it is still stopped when the connection
        ends). Streams can always be stopped.

        `requires`: who may call it: the names of roles of which any one suffices, or a policy, which is asked at every
        call and may be an `async def` function; what the client sends meanwhile waits.

        Raises TypeError for a name that is taken and for parameters that no call could fill.
        """
        policy = policy_of(requires)

        def decorate(function: F) -> F:
            wire_name = name if name is not None else function.__name__
            method = Method(wire_name, function, Signature.of(function, wire_name), cancellable, policy)
            if wire_name.lower() in self._methods:
                raise TypeError(f"Duplicate definitions of '{wire_name}'. Overloading is not supported.")
            self._methods[wire_name.lower()] = method
            return function

        return decorate

    def on_connected(self, function: F) -> F:
        """Decorate the function that runs first on every connection; no call is taken before it ends (SPEC 3.2).

        It may have a `Call` parameter. If it raises, the connection is closed.
        """
        self._connected = self._hook(function, "on_connected", 0)
        return function

    def on_disconnected(self, function: F) -> F:
        """Decorate the function that runs last on every connection for which `on_connected` succeeded (SPEC 3.2).

        It may have a `Call` parameter, and one for the error that ended the connection, None after an orderly end.
        """
        self._disconnected = self._hook(function, "on_disconnected", 1)
        return function

    def lookup(self, target: str) -> Method:
        """Return the method that a client means, whatever case it uses. Raises `HubError` if there is none."""
        method = self._methods.get(target) or self._methods.get(target.lower())
        if method is None:
            raise HubError("Method does not exist.")
        return method

    @property
    def connected_hook(self) -> Method | None:
        """What `on_connected` decorated."""
        return self._connected

    @property
    def disconnected_hook(self) -> Method | None:
        """What `on_disconnected` decorated."""
        return self._disconnected

    @staticmethod
    def _hook(function: Callable[..., Any], name: str, arguments: int) -> Method:
        signature = Signature.of(function, name)
        if signature.streams or signature.is_stream or (signature.arguments.length or 0) > arguments:
            raise TypeError(f"{name} takes a Call and {'the error' if arguments else 'nothing else'}, not a stream")
        return Method(name, function, signature, cancellable=False)
