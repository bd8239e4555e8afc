"""`HubFilter`: what runs around the methods of a hub and around its connections' beginning and end (SPEC 3.15).

Filters are `async def`, and this module, as all of the core, is not: it only puts together what is to be awaited. The
chain of a method is made when the filter is added; a hub without filters never comes here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import replace
from typing import Any

from ._binding import Shape
from ._call import Call
from ._signature import Parameter, Signature

__all__ = ["HOOKS", "HubFilter", "HubInvocation", "Next", "filtered_hook", "filtered_method"]

Next = Callable[..., Coroutine[Any, Any, Any]]
"""Goes on to the next filter or to the hub's own function, when what it returns is awaited."""

Inspected = tuple[Callable[..., Any], Signature]


class HubInvocation:
    """A call of a method on its way through the filters."""

    __slots__ = ("arguments", "call", "function", "is_stream", "method")

    def __init__(
        self, call: Call, method: str, arguments: Sequence[Any], function: Callable[..., Any], is_stream: bool
    ) -> None:
        self.call: Call = call
        """Who calls, and the way to everybody else."""
        self.method: str = method
        """The method's name, as the hub declares it."""
        self.arguments: list[Any] = list(arguments)
        """What the method is given, but for its `Call`, in the order of its parameters: default values and uploaded
        streams included. It may be changed, or replaced."""
        self.function: Callable[..., Any] = function
        """What was made a method: attributes that a decorator has left on it say what it wants of a filter."""
        self.is_stream: bool = is_stream
        """The method gives a stream: `await call_next(invocation)` returns it before its first item."""


class HubFilter:
    """Runs around calls, and around the beginning and the end of connections. Derive, and override what is needed.

    Each of the three goes on by `await call_next(...)`, and may do so not at all, or more than once. What it raises
    counts as if the hub's own function had raised it.
    """

    def invoke(self, invocation: HubInvocation, call_next: Next, /) -> Awaitable[Any]:
        """A client calls a method: `return await call_next(invocation)`. What is returned is the call's result.

        It runs once the call is allowed, and its arguments and streams fit. For a method that gives a stream the result
        is the stream, an asynchronous iterator, which may be replaced by another one.
        """
        return call_next(invocation)

    def connected(self, call: Call, call_next: Next, /) -> Awaitable[None]:
        """A client has connected: `await call_next(call)` runs the hub's `on_connected`.

        No call is taken before it ends. If it raises, the connection is closed, and `disconnected` never runs for it.
        """
        return call_next(call)

    def disconnected(self, call: Call, error: Exception | None, call_next: Next, /) -> Awaitable[None]:
        """A connection has ended: `await call_next(call, error)` runs the hub's `on_disconnected`."""
        return call_next(call, error)


def filtered_method(name: str, own: Inspected, filters: Sequence[HubFilter]) -> Inspected:
    """Return what runs in place of a method."""
    function, signature = own
    end = _MethodEnd(function, signature)
    chain = _chain("invoke", filters, end)
    if chain is end:
        return own
    outside = [slot for slot in signature.slots if slot != Parameter.CALL]
    outer = replace(signature, slots=(Parameter.CALL, *outside), inline=False)
    return _MethodBegin(chain, name, function, signature.is_stream), outer


def filtered_hook(place: str, own: Inspected | None, filters: Sequence[HubFilter]) -> Inspected | None:
    """Return what runs in place of the hub's own function at one of the places of `HOOKS`; None if nothing does."""
    end = _HookEnd(*own) if own else _do_nothing
    chain = _chain(place, filters, end)
    return own if chain is end else (chain, HOOKS[place])


HOOKS = {
    place: Signature(
        arguments=Shape.of_arguments((Any,) * len(errors)),
        streams=(),
        slots=(Parameter.CALL, *errors),
        is_stream=False,
        inline=False,
    )
    for place, errors in (("connected", ()), ("disconnected", (Parameter.ARGUMENT,)))
}
"""What the filters at the two places take."""


def _chain(place: str, filters: Sequence[HubFilter], end: Next) -> Next:
    chain = end
    for one in reversed(filters):
        if getattr(type(one), place) is not getattr(HubFilter, place):  # what only goes on is left out
            chain = _Link(getattr(one, place), chain)
    return chain


class _Link:
    """A filter at one place, and what comes behind it."""

    __slots__ = ("_hook", "_next")

    def __init__(self, hook: Callable[..., Any], call_next: Next) -> None:
        self._hook = hook
        self._next = call_next

    def __call__(self, *arguments: Any) -> _Step:
        return _Step(self._hook, (*arguments, self._next))


class _MethodBegin:
    """What is called in place of a method."""

    __slots__ = ("_chain", "_function", "_is_stream", "_name")

    def __init__(self, chain: Next, name: str, function: Callable[..., Any], is_stream: bool) -> None:
        self._chain = chain
        self._name = name
        self._function = function
        self._is_stream = is_stream

    def __call__(self, call: Call, *arguments: Any) -> Coroutine[Any, Any, Any]:
        return self._chain(HubInvocation(call, self._name, arguments, self._function, self._is_stream))


class _MethodEnd:
    """The method, behind all filters."""

    __slots__ = ("_calls", "_function")

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self._function = function
        self._calls = [i for i, slot in enumerate(signature.slots) if slot == Parameter.CALL]

    def __call__(self, invocation: HubInvocation) -> _Step:
        return _Step(self._run, (invocation,))

    def _run(self, invocation: HubInvocation) -> Any:
        values = list(invocation.arguments)
        for i in self._calls:
            values.insert(i, invocation.call)
        return self._function(*values)


class _HookEnd:
    """The hub's own function for the beginning or the end of connections, behind all filters."""

    __slots__ = ("_function", "_slots")

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self._function = function
        self._slots = [slot for slot in signature.slots if slot != Parameter.REST]

    def __call__(self, call: Call, error: Exception | None = None) -> _Step:
        return _Step(self._function, [call if slot == Parameter.CALL else error for slot in self._slots])


def _do_nothing(call: Call, error: Exception | None = None) -> _Step:
    return _Step(_nothing, ())


def _nothing() -> None:
    pass


class _Step(Coroutine[Any, Any, Any]):
    """Calls a function when it is awaited, and awaits what that gives back if it can be awaited."""

    __slots__ = ("_steps",)

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._steps = _steps(function, arguments)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps

    # a task can be made of it, too

    def send(self, value: Any) -> Any:
        return self._steps.send(value)

    def throw(self, *exception: Any) -> Any:
        return self._steps.throw(*exception)

    def close(self) -> None:
        self._steps.close()


def _steps(function: Callable[..., Any], arguments: Sequence[Any]) -> Generator[Any, Any, Any]:
    result = function(*arguments)
    awaitable: bool = inspect.isawaitable(result)
    if not awaitable:
        return result
    return (yield from (result.__await__() if hasattr(result, "__await__") else result))  # else of types.coroutine
