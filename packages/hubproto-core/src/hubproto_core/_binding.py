"""What types the payloads of an incoming message must have; the codec asks before it decodes them (SPEC 2.2.7)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import msgspec

__all__ = ["ANY", "ANY_ARGUMENTS", "BINDING_ERROR", "AnyBinder", "Binder", "Shape"]

BINDING_ERROR = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)
"""The reference's text for arguments of wrong types."""

_NAMES: dict[Any, str] = {
    Any: "Object",
    bool: "Boolean",
    int: "Int64",
    float: "Double",
    str: "String",
    bytes: "Byte[]",
}


class Shape:
    """The type of one payload. `length` is the number of arguments, for a payload that is a list of them.

    Codecs keep what they compile from the type in `decoders`, under a key of their own.
    """

    __slots__ = ("_first", "decoders", "length", "type")

    def __init__(self, type: Any, length: int | None = None) -> None:  # noqa: A002 - it is one
        """Raises TypeError for a type that no payload can be converted to."""
        msgspec.json.Decoder(type)
        self.type: Any = type
        self.length: int | None = length
        self.decoders: dict[object, Any] = {}
        self._first: dict[int, Shape] = {}

    @property
    def name(self) -> str:
        """What error texts call the type: as .NET does where it has the same one."""
        return str(_NAMES.get(self.type) or getattr(self.type, "__name__", self.type))

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, type: Any) -> Shape:  # noqa: A002 - it is one
        """The shape of this type, made once."""
        return cls(type)

    @classmethod
    def of_arguments(cls, types: tuple[Any, ...], least: int | None = None) -> Shape:
        """The shape of an argument list with exactly these types; the first `least` suffice, if it is given."""
        shape = cls(tuple.__class_getitem__(types), len(types))
        for count in range(len(types) if least is None else least, len(types)):
            shape._first[count] = cls.of_arguments(types[:count])
        return shape

    def first(self, count: int) -> Shape | None:
        """The shape of an argument list of only so many arguments; None unless they suffice and some are missing."""
        return self._first.get(count)


ANY = Shape(Any)
ANY_ARGUMENTS = Shape(tuple[Any, ...])


class Binder(Protocol):
    """Knows the shapes of what may arrive. Each method may raise `HubError` when nothing with that name is known."""

    def arguments_shape(self, target: str) -> Shape: ...

    def item_shape(self, stream_id: str) -> Shape: ...

    def result_shape(self, invocation_id: str) -> Shape: ...


class AnyBinder:
    """Takes every payload as plain Python values."""

    __slots__ = ()

    def arguments_shape(self, target: str) -> Shape:
        return ANY_ARGUMENTS

    def item_shape(self, stream_id: str) -> Shape:
        return ANY

    def result_shape(self, invocation_id: str) -> Shape:
        return ANY
