"""`Signature`: what a function takes from the wire and what it gives back, inspected once (SPEC 3.3, 3.6)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from ._binding import Shape
from ._call import Call
from ._values import Char, Single

__all__ = ["Parameter", "Signature", "unwrapped", "where"]

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORDS = inspect.Parameter.VAR_KEYWORD
_EMPTY = inspect.Parameter.empty
_UNIONS = (Union, UnionType)
_UNTYPED = (str, int, float, bool, NoneType, list, dict, bytes)  # what is read where no type is declared


class Parameter:
    """How a parameter gets its value."""

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
    names: tuple[str, ...] = ()  # of the parameters, beside `slots`
    defaults: tuple[Any, ...] = ()  # of the last arguments, where a call may leave them out
    result: Any = Any  # the type of the result, or of the items of a stream
    plain: bool = field(init=False)  # every parameter is an argument

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", not {Parameter.CALL, Parameter.STREAM} & set(self.slots))

    @classmethod
    def of(cls, function: Callable[..., Any], name: str, *, converts: bool = True, foreign: bool = True) -> Signature:
        """Inspect a function. Raises TypeError for one that no call could reach; its text says which, and what to do.

        `converts=False`: its arguments do not come over the wire, so their types do not matter. `foreign=False`: no
        hook of a codec makes instances of classes that msgspec does not know.
        """
        signature = _inspected(function, name)
        types: list[Any] = []
        defaults: list[Any] = []
        streams: list[Shape] = []
        slots: list[str] = []
        names: list[str] = []
        rest: Any = None
        for position, parameter in enumerate(signature.parameters.values()):
            annotation = Any if parameter.annotation is _EMPTY or not converts else parameter.annotation
            kind = _slot(parameter.annotation)
            if inspect.isfunction(function) and position == 0 and str(parameter) == "self":  # not that of str.upper
                raise TypeError(
                    f"{name!r}: {where(function)} is bound to no instance, so nothing can fill its 'self'; add "
                    "instance.method, or see hub_method"
                )
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL and not types:
                rest = annotation
                kind = Parameter.REST
            elif parameter.kind not in _POSITIONAL:
                if parameter.default is _EMPTY and parameter.kind is not _KEYWORDS:
                    raise TypeError(
                        f"{name!r}: nothing can fill the parameter '{parameter}' of {where(function)}: arguments are "
                        "positional, and *arguments take all of them or none"
                    )
                continue
            slots.append(kind)
            names.append(parameter.name)
            if kind == Parameter.STREAM:
                streams.append(_shape(_item_type(_bare(annotation)), name, parameter, foreign))
            elif kind != Parameter.CALL:
                _shape(annotation, name, parameter, foreign)
                if kind == Parameter.ARGUMENT:
                    types.append(annotation)
                    defaults += [] if parameter.default is _EMPTY else [parameter.default]
        code = _code_of(function)
        returns = Any if signature.return_annotation is _EMPTY else _awaited(signature.return_annotation)
        is_stream = inspect.isasyncgenfunction(code) or _is_stream(returns)
        if get_origin(_bare(returns)) in _UNIONS and any(_is_stream(one) for one in get_args(_bare(returns))):
            raise TypeError(
                f"{name!r}: {where(function)} returns a stream or something else, but clients must know which before "
                "they call: annotate it to return AsyncIterator[...] alone, and raise HubError for what goes wrong"
            )
        return cls(
            arguments=(
                Shape.of_arguments(tuple(types), len(types) - len(defaults))
                if rest is None
                else Shape(tuple[rest, ...])
            ),
            streams=tuple(streams),
            slots=tuple(slots),
            is_stream=is_stream,
            inline=not is_stream and not inspect.iscoroutinefunction(code),
            names=tuple(names),
            defaults=tuple(defaults),
            result=_item_type(_bare(returns)) if is_stream else returns,
        )

    def filled(self, arguments: Sequence[Any], streams: Sequence[Any], call: Any) -> list[Any]:
        """Return a value for each parameter: the arguments and the streams of a call, and its context."""
        given = iter(self.completed(arguments) if self.defaults else arguments)
        uploads = iter(streams)
        values: list[Any] = []
        for slot in self.slots:
            if slot == Parameter.CALL:
                values.append(call)
            elif slot == Parameter.REST:
                values.extend(given)
            else:
                values.append(next(uploads if slot == Parameter.STREAM else given))
        return values

    def completed(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """Return the arguments of a call with the default values of those that it has left out."""
        missing = (self.arguments.length or 0) - len(arguments)
        return (*arguments, *self.defaults[-missing:]) if missing > 0 else arguments


def where(function: Callable[..., Any]) -> str:
    """What to call a function in a text for whoever wrote it."""
    qualified = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    return repr(function) if qualified is None else f"{module}.{qualified}" if module else qualified


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a partial carries; anything else is itself."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _code_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that runs when something is called, which may be the `__call__` of an object."""
    function = unwrapped(function)
    if inspect.isroutine(function):
        return function
    code: Callable[..., Any] = getattr(function, "__init__" if inspect.isclass(function) else "__call__")
    return code


def _inspected(function: Callable[..., Any], name: str) -> inspect.Signature:
    if isinstance(function, staticmethod | classmethod):
        raise TypeError(
            f"{name!r}: {where(function)} is a {type(function).__name__} still: put @{type(function).__name__} above "
            "the decorator that makes it a method of a hub"
        )
    if not callable(function):
        raise TypeError(f"{name!r}: {function!r} cannot be called")
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"{name!r}: {where(function)} does not tell its parameters; wrap it in a function") from error
    written = {one.name: one.annotation for one in signature.parameters.values() if one.annotation is not _EMPTY}
    if signature.return_annotation is not _EMPTY:
        written["return"] = signature.return_annotation
    try:
        types = _resolved(written, inspect.unwrap(_code_of(function)))
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TypeError(
            f"{name!r}: an annotation of {where(function)} cannot be resolved: {error}. What it names must be defined "
            "or imported (not only for type checkers) in the module, above the decorator"
        ) from error
    return signature.replace(
        parameters=[one.replace(annotation=types.get(one.name, _EMPTY)) for one in signature.parameters.values()],
        return_annotation=types.get("return", _EMPTY),
    )


def _resolved(annotations: dict[str, Any], code: Callable[..., Any]) -> dict[str, Any]:
    """Put in what annotations name in quotes, in whatever depth."""

    def holder() -> None: ...

    holder.__annotations__ = annotations
    own = {one.__name__: one for one in getattr(code, "__type_params__", ())}
    return get_type_hints(holder, getattr(code, "__globals__", {}), own, include_extras=True)


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    return annotation


def _slot(annotation: Any) -> str:
    annotation = _bare(annotation)
    if get_origin(annotation) in _UNIONS:
        others = [one for one in get_args(annotation) if one is not NoneType]
        annotation = others[0] if len(others) == 1 and _is_call(others[0]) else annotation
    if _is_call(annotation):
        return Parameter.CALL
    return Parameter.STREAM if (get_origin(annotation) or annotation) in _STREAMS else Parameter.ARGUMENT


def _is_call(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Call)


def _is_stream(returns: Any) -> bool:
    origin = get_origin(_bare(returns)) or _bare(returns)
    return inspect.isclass(origin) and issubclass(origin, AsyncIterable)


def _item_type(stream: Any) -> Any:
    return next(iter(get_args(stream)), Any)


def _awaited(returns: Any) -> Any:
    """What a function gives back in the end that is annotated to give back something to be awaited."""
    return get_args(returns)[-1] if get_origin(returns) in (Awaitable, Coroutine) else returns


def _shape(annotation: Any, name: str, parameter: inspect.Parameter, foreign: bool) -> Shape:
    """Raises TypeError for what cannot be made of a payload."""
    parts = list(_parts(annotation))
    if any(_slot(part) != Parameter.ARGUMENT for part in parts):
        raise TypeError(
            f"{name!r}: in '{parameter}' a stream or Call is part of another type, where nothing can fill it: annotate "
            "the parameter with AsyncIterator[...] or Call itself"
        )
    if any(isinstance(part, TypeVar) for part in parts):
        raise TypeError(
            f"Method '{name}' is a generic method which is not supported on a Hub. Nothing tells a call what "
            f"'{parameter}' is: annotate it with a type"
        )
    try:
        shape = Shape(annotation)
        unknown = [] if foreign else list(_unknown(msgspec.inspect.type_info(annotation), []))
    except (TypeError, NameError, AttributeError) as error:  # the last two: of an annotation inside of a class
        raise TypeError(f"{name!r}: nothing that arrives can be converted to '{parameter}': {error}") from error
    if unknown:
        raise TypeError(
            f"{name!r}: nothing that arrives can be converted to '{parameter}': make {where(unknown[0])} a dataclass "
            "or another class with declared members, or give the hub codecs with a dec_hook"
        )
    return shape


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _unknown(node: Any, seen: list[Any]) -> Iterator[type]:
    """The classes in a type of which only a hook could make instances."""
    if isinstance(node, tuple):
        for one in node:
            yield from _unknown(one, seen)
    elif isinstance(node, msgspec.inspect.CustomType):
        if node.cls not in (Char, Single) and not any(issubclass(kind, node.cls) for kind in _UNTYPED):
            yield node.cls
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) and all(node is not other for other in seen):
        seen.append(node)  # a class may have members of its own type
        for name in node.__struct_fields__:
            yield from _unknown(getattr(node, name), seen)
