"""Marks for the methods of a class that derives from `Hub`: each of its instances has them as its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ._auth import Requirement

if TYPE_CHECKING:
    from ._hub import Hub

__all__ = ["hub_method", "marked", "on_connected", "on_disconnected"]

F = TypeVar("F", bound=Callable[..., Any])

Mark = Callable[["Hub", Callable[..., Any]], object]
"""Gives a bound method to a hub, as what it has been marked as."""

_MARKS = "_hubproto_marks"


def hub_method(
    name: str | None = None,
    *,
    cancellable: bool = True,
    coalesce: bool = False,
    requires: Requirement | None = None,
) -> Callable[[F], F]:
    """Mark a method of a class that derives from `Hub` as one that clients may call; see `Hub.method`.

    A method that overrides it in a derived class needs no mark: it is called by the same name.
    """

    def register(hub: Hub, method: Callable[..., Any]) -> None:
        hub.method(name, cancellable=cancellable, coalesce=coalesce, requires=requires)(method)

    if name is not None and not isinstance(name, str):
        raise TypeError(f"hub_method takes a name, or nothing: write @hub_method() above {name!r}")
    return lambda function: _mark(function, register)


def on_connected(function: F) -> F:
    """Mark, in a class that derives from `Hub`, what runs first on every connection; see `Hub.on_connected`."""
    return _mark(function, lambda hub, method: hub.on_connected(method))


def on_disconnected(function: F) -> F:
    """Mark, in a class that derives from `Hub`, what runs last on every connection; see `Hub.on_disconnected`."""
    return _mark(function, lambda hub, method: hub.on_disconnected(method))


def marked(kind: type) -> Iterator[tuple[str, Sequence[Mark]]]:
    """Return the marked attributes of a class and their marks: its own, and those it inherits or overrides."""
    found: dict[str, Sequence[Mark]] = {}
    for base in reversed(kind.__mro__):
        for attribute, value in vars(base).items():
            marks = getattr(getattr(value, "__func__", value), _MARKS, None)  # a static method's are its function's
            if marks:
                found[attribute] = marks
    return iter(found.items())


def _mark(function: F, mark: Mark) -> F:
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise TypeError(f"{function!r}: put @{kind} above the decorator that marks a method of a hub")
    setattr(function, _MARKS, (*getattr(function, _MARKS, ()), mark))
    return function
