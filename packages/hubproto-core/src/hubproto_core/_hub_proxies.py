"""`HubContract`: the methods that a `typing.Protocol` declares, as calls of a hub's; what `Contract` is to clients."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from ._binding import Shape
from ._codecs._naming import Rename
from ._proxies import Contract, Parameters, is_one_way, signature_of
from ._running import Upload

__all__ = ["HubContract", "hub_contract_of"]

P = TypeVar("P")

_EMPTY = inspect.Parameter.empty


_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_PLAIN_STREAMS = (Iterator, Iterable, Generator)
_SHOWN = "AbstractAsyncContextManager[AsyncIterator[T]]"


class HubContract(Contract[P]):
    """What a hub can be told and asked, declared as a `typing.Protocol`: inspected once, for any number of clients.

    An `async def` method invokes, and converts the result to the annotated type; one that is `one_way` sends. A plain
    one that returns `AbstractAsyncContextManager[AsyncIterator[T]]`, or the adapter's `Stream[T]`, is a stream of T. A
    parameter annotated as an `AsyncIterable` (or the like) or as `Upload` is an upload.

    What is called is the target's `invoke`, `send`, `stream` and `upload`, as both adapters have them.
    """

    __slots__ = ()

    def _method(self, function: FunctionType, name: str) -> Callable[..., Any]:
        signature = signature_of(function)
        parameters = Parameters(function, signature)
        uploads = self._uploads(function, signature)
        verb, options = self._verb(function, signature.return_annotation)

        def call(proxy: Any, /, *positional: Any, **named: Any) -> Any:
            target = proxy._target
            arguments = parameters.arrange(positional, named)
            if uploads:
                arguments = [
                    target.upload(argument) if position in uploads and _is_to_be_sent(argument) else argument
                    for position, argument in enumerate(arguments)
                ]
            return getattr(target, verb)(name, *arguments, **options)

        return call

    def _verb(self, function: FunctionType, returns: Any) -> tuple[str, dict[str, Any]]:
        """Which method of the client a declared one stands for, and the options that it is given."""
        name = function.__qualname__
        waits = inspect.iscoroutinefunction(function)
        if get_origin(returns) in (Awaitable, Coroutine):
            waits, returns = True, get_args(returns)[-1]
        returns = Any if returns is _EMPTY else returns
        item = self._item_type(name, returns)
        if item is not None:
            if waits or is_one_way(function):
                raise TypeError(f"{name} returns a stream: declare it with a plain `def`, and not as one_way")
            return "stream", {"returns": _checked(name, item)}
        if not waits:
            raise TypeError(
                f"{name}: declare it with `async def`, even if it returns nothing; say @one_way if the hub is not to "
                f"answer. Only a stream has a plain `def`, and returns {_SHOWN}"
            )
        if not is_one_way(function):
            return "invoke", {"returns": _checked(name, returns)}
        if returns not in (None, Any):
            raise TypeError(f"{name} is one_way, so that nobody answers: it can only return None")
        return "send", {}

    def _item_type(self, name: str, returns: Any) -> Any:
        """The type of the items, if it is a stream that is returned."""
        kind = _kind(returns)
        if kind in (*_STREAMS, *_PLAIN_STREAMS):
            raise TypeError(
                f"{name}: a stream ends where its block is left, and so it is to be a context manager: annotate it to "
                f"return {_SHOWN}"
            )
        if not inspect.isclass(kind) or not issubclass(kind, AbstractAsyncContextManager):
            return None
        inner = next(iter(get_args(_bare(returns))), Any)
        if kind is not AbstractAsyncContextManager:  # a class of the adapter's, `Stream[T]`
            return inner
        if _kind(inner) not in (*_STREAMS, Any):
            raise TypeError(f"{name}: entering a stream gives an iterator: annotate it to return {_SHOWN}")
        return next(iter(get_args(_bare(inner))), Any)

    def _uploads(self, function: FunctionType, signature: inspect.Signature) -> frozenset[int]:
        """The positions of the parameters that take a stream."""
        _, *parameters = signature.parameters.values()
        found: list[int] = []
        for position, parameter in enumerate(parameters):
            where = f"{function.__qualname__}: '{parameter}'"
            kinds = [_kind(one) for one in _alternatives(parameter.annotation)]
            if any(kind in _STREAMS or kind is Upload for kind in kinds):
                if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                    raise TypeError(f"{where} takes any number of streams: give each a parameter of its own")
                found.append(position)
            elif any(kind in _PLAIN_STREAMS for kind in kinds):
                raise TypeError(
                    f"{where} is to be annotated as AsyncIterable[...] for a stream, as list[...] or Sequence[...] for "
                    "an array"
                )
        return frozenset(found)


def hub_contract_of(protocol: Callable[..., P], rename: Rename = None) -> HubContract[P]:
    """The contract that a Protocol declares, made once; for `rename` see `Rename`."""
    return _hub_contract_of(protocol, rename)


@lru_cache(maxsize=256)
def _hub_contract_of(protocol: Any, rename: Rename) -> HubContract[Any]:
    return HubContract(protocol, rename)


def _checked(name: str, returns: Any) -> Any:
    try:
        Shape.of(returns)
    except TypeError as error:
        raise TypeError(f"{name}: nothing that arrives can be converted to {returns!r}: {error}") from error
    return returns


def _is_to_be_sent(argument: Any) -> bool:
    """Whether what an upload's parameter is given is yet to be made an upload; None is an argument like any other."""
    return argument is not None and not isinstance(argument, Upload)


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    return annotation


def _kind(annotation: Any) -> Any:
    return get_origin(_bare(annotation)) or _bare(annotation)


def _alternatives(annotation: Any) -> list[Any]:
    annotation = _bare(annotation)
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [one for one in get_args(annotation) if one is not NoneType]
