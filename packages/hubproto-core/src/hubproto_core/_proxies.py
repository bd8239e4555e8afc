"""`Contract`: the methods that a `typing.Protocol` declares, as calls of a peer's methods."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, Generic, Protocol, TypeVar, cast, get_args, get_origin

from ._binding import Shape
from ._codecs._naming import Rename, renamer
from ._errors import LocalProtocolError

__all__ = ["Contract", "Parameters", "contract_of", "is_one_way", "one_way", "signature_of", "wire_name"]

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Target(Protocol):
    """Whose methods are called. One that can be asked for results also has `invoke(target, *arguments, returns=T)`."""

    def send(self, target: str, /, *arguments: Any) -> object: ...


def wire_name(name: str) -> Callable[[F], F]:
    """Decorate a method of a `Protocol` that is called `name` on the wire, whatever is done to the others' names."""

    def decorate(function: F) -> F:
        function.__wire_name__ = name  # type: ignore[attr-defined]  # a function takes any
        return function

    return decorate


def one_way(function: F) -> F:
    """Decorate a method of a client's `Protocol` that is sent, without an answer from the hub: it returns None."""
    function.__one_way__ = True  # type: ignore[attr-defined]  # a function takes any
    return function


def is_one_way(function: FunctionType) -> bool:
    """Whether `one_way` was said of it."""
    return getattr(function, "__one_way__", False)


class Contract(Generic[P]):
    """What a peer can be told and asked, declared as a `typing.Protocol`: inspected once, for any number of proxies.

    A plain method sends and returns None. An `async def` one asks for a result, and what it returns is to be awaited;
    the result is converted to the annotated type. Arguments are given as the declaration has them, by position or by
    name, and travel by position; of those that have defaults, the ones declared as `...` at the end are left out when
    they are not given.
    """

    __slots__ = ("_class",)

    def __init__(self, protocol: type, rename: Rename = None) -> None:
        """Raises TypeError for what is no Protocol or has members that cannot be called over the wire."""
        if not getattr(protocol, "_is_protocol", False):
            raise TypeError(f"{protocol!r} is no typing.Protocol")
        to_wire = renamer(rename)
        members: dict[str, Any] = {"__slots__": ()}
        for name, function in _members(protocol).items():
            if not isinstance(function, FunctionType):
                raise TypeError(f"{protocol.__name__}.{name}: only methods can be called over the wire")
            method = self._method(function, getattr(function, "__wire_name__", None) or to_wire(name))
            method.__name__, method.__qualname__ = function.__name__, function.__qualname__
            method.__doc__ = function.__doc__
            members[name] = method
        self._class = type(protocol.__name__, (_Proxy,), members)

    def proxy(self, target: Target) -> P:
        """Return an object with the declared methods, which call those of `target`."""
        return cast("P", self._class(target))

    def _method(self, function: FunctionType, name: str) -> Callable[..., Any]:
        """The method that calls `name`. It is made at definition, so that a call only has to be arranged."""
        signature = signature_of(function)
        parameters = Parameters(function, signature)
        returns = signature.return_annotation
        if get_origin(returns) in (Awaitable, Coroutine):
            returns = get_args(returns)[-1]
        elif not inspect.iscoroutinefunction(function):
            if returns not in (None, inspect.Parameter.empty):
                raise TypeError(f"{function.__qualname__} returns a result, and so must be declared with `async def`")

            def send(self: _Proxy, /, *positional: Any, **named: Any) -> None:
                self._target.send(name, *parameters.arrange(positional, named))

            return send
        if is_one_way(function):
            raise TypeError(f"{function.__qualname__} is one_way: what clients are told is declared with a plain `def`")
        returns = Any if returns is inspect.Parameter.empty else returns
        Shape.of(returns)

        def ask(self: _Proxy, /, *positional: Any, **named: Any) -> Any:
            invoke = getattr(self._target, "invoke", None)
            if invoke is None:
                text = f"{function.__name__!r} asks for a result: only one client can be asked, not several at once"
                raise LocalProtocolError(text, kind="InvalidOperationException")
            return invoke(name, *parameters.arrange(positional, named), returns=returns)

        return ask


def contract_of(protocol: Callable[..., P], rename: Rename = None) -> Contract[P]:
    """The contract that a Protocol declares, made once; for `rename` see `Rename`."""
    return _contract_of(protocol, rename)


@lru_cache(maxsize=256)
def _contract_of(protocol: Any, rename: Rename) -> Contract[Any]:
    return Contract(protocol, rename)


class _Proxy:
    """Base of all proxies."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        self._target = target

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self._target!r}>"


class Parameters:
    """Puts arguments into the order of their declaration."""

    __slots__ = ("_count", "_signature")

    def __init__(self, function: FunctionType, signature: inspect.Signature) -> None:
        self._signature = signature
        _, *parameters = signature.parameters.values()
        for parameter in parameters:
            if parameter.kind not in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL):
                raise TypeError(f"{function.__qualname__}: arguments travel by position, as {parameter} cannot")
        varies = any(parameter.kind not in _POSITIONAL for parameter in parameters)
        self._count = -1 if varies else len(parameters)

    def arrange(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Sequence[Any]:
        """Raises TypeError for arguments that are not as declared."""
        if len(positional) == self._count and not named:
            return positional
        bound = self._signature.bind(None, *positional, **named)
        bound.apply_defaults()
        arguments = bound.args[1:]
        while arguments and arguments[-1] is ...:
            arguments = arguments[:-1]
        if ... in arguments:
            raise TypeError("an argument that is left out must be the last one")
        return arguments


def _members(protocol: type) -> dict[str, Any]:
    """The public members that a Protocol and its bases declare."""
    members: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            members |= dict.fromkeys(inspect.get_annotations(base)) | vars(base)
    return {name: member for name, member in members.items() if not name.startswith("_")}


def signature_of(function: FunctionType) -> inspect.Signature:
    """The signature of a declared method, with its annotations resolved. Raises TypeError where that cannot be."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TypeError(
            f"{function.__qualname__}: an annotation cannot be resolved: {error}. What it names must be defined or "
            "imported (not only for type checkers) in the module, above the call that takes the Protocol"
        ) from error
    if not signature.parameters:
        raise TypeError(f"{function.__qualname__} lacks `self`")
    return signature
