"""Payloads: Python values of declared types as .NET has them on the wire (SPEC 2.2.6, 2.3.5, appendix K).

msgspec does the reading and the writing. `PayloadFormat` adds what it does not know of .NET: how members are named, and
the leaves that .NET writes in another way, which the two encodings bring along.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, Flag
from typing import Any, ClassVar

import msgspec
from msgspec import NODEFAULT, UNSET, Struct, inspect

from .._values import Char, Single
from ._naming import Rename, renamer

__all__ = ["Leaf", "Leaves", "PayloadFormat"]

Leaf = Callable[[Any], Any]
"""Converts one value; what it does not understand it returns as it is, for msgspec to judge."""

Leaves = Mapping[type[inspect.Type], Leaf]

_Hook = Callable[[type, Any], Any]


class PayloadFormat(ABC):
    """How one encoding carries payloads, with the naming policy and the hooks that its user has chosen."""

    __slots__ = ("_dec_hook", "_enc_hook", "_wire_name", "_writers")

    plain: ClassVar[frozenset[type]]
    """The types that msgspec writes just as .NET does."""

    str_keys: ClassVar[bool]
    """Keys of maps are always text on the wire."""

    leaves: ClassVar[Leaves]
    """What has to be done to leaves of a declared type, before msgspec converts them."""

    def __init__(
        self,
        rename: Rename,
        enc_hook: Callable[[Any], Any] | None,
        dec_hook: Callable[[type, Any], Any] | None,
    ) -> None:
        self._wire_name = renamer(rename)
        self._enc_hook = enc_hook
        self._dec_hook = dec_hook
        self._writers: dict[type, Callable[[Any], Any]] = {  # subclasses are added as they are met
            str: str,
            int: int,
            bytes: bytes,
            list: self._write_elements,
            tuple: self._write_elements,
            set: self._write_elements,
            frozenset: self._write_elements,
            deque: self._write_elements,
            dict: self._write_map,
            **self.leaf_writers(),
        }

    # what the encodings do differently

    @abstractmethod
    def leaf_writers(self) -> Mapping[type, Callable[[Any], Any]]:
        """How values of these types, and of types derived from them, are given to msgspec's encoder."""

    @abstractmethod
    def write_enum(self, value: Enum) -> Any:
        """Return what stands for the member of an enumeration."""

    @abstractmethod
    def read_char(self, value: Any) -> Char:
        """Return the character that has arrived. Raises ValueError for what is none."""

    @abstractmethod
    def native_decoder(self, type_: Any, dec_hook: _Hook) -> Callable[[Any], Any]:
        """Return msgspec's decoder from the payload's bytes into this type."""

    @abstractmethod
    def compared(self, name: str) -> str:
        """Return what two names that count as equal have in common."""

    @abstractmethod
    def may_differ(self, raw: Any, names: frozenset[str], compared: frozenset[str]) -> bool:
        """Whether a payload may have members with other names than the declared ones, `names`, that are meant all the
        same, as one of `compared`."""

    # writing

    def write(self, value: Any) -> Any:
        """Return the value as msgspec must be given it.

        Raises TypeError for what cannot be written, ValueError for what .NET does not write.
        """
        kind = type(value)
        if kind in self.plain:
            return value
        writer = self._writers.get(kind)
        if writer is None:
            writer = self._writers[kind] = self._writer_for(kind)
        return writer(value)

    def _write_elements(self, value: Any) -> list[Any]:
        return [self.write(element) for element in value]

    def _write_map(self, value: dict[Any, Any]) -> dict[Any, Any]:
        return {self.write(key): self.write(member) for key, member in value.items()}

    def _write_by_hook(self, value: Any) -> Any:
        assert self._enc_hook is not None
        return self.write(self._enc_hook(value))

    def _writer_for(self, kind: type) -> Callable[[Any], Any]:
        if issubclass(kind, Enum):
            return self.write_enum
        members = _declared_members(kind)
        if members is not None:
            return _ObjectWriter(self, kind, members, self._wire_name).write
        for base in kind.__mro__:
            if base in self._writers:
                return self._writers[base]
        return _untouched if self._enc_hook is None else self._write_by_hook

    # reading

    def decoder(self, type_: Any) -> Callable[[Any], Any]:
        """Return a function from a payload's bytes to a value of this type.

        The function raises ValueError (a `msgspec.DecodeError`, say) or RecursionError for what does not fit.
        """
        declared: dict[str, str] = {}  # names as they are compared -> names as msgspec knows them
        place = _Planner(self, declared).place(inspect.type_info(type_))
        native = self.native_decoder(type_, self._read_custom)
        if place is None:
            return native
        return _Decoder(self, type_, native, self._read_custom, place, declared).decode

    def _read_custom(self, type_: type, value: Any) -> Any:
        """What msgspec does for types that it does not know."""
        if isinstance(value, type_):
            return value
        if type_ is Char:
            return self.read_char(value)
        if type_ is Single:
            return Single(value)
        if self._dec_hook is None:
            raise TypeError(f"a value for {type_.__name__} needs the codec's dec_hook")
        return self._dec_hook(type_, value)


def _untouched(value: Any) -> Any:
    return value


class _Member:
    """One member of a class, as declared."""

    __slots__ = ("attribute", "default", "name")

    def __init__(self, attribute: str, name: str, default: Any = NODEFAULT) -> None:
        self.attribute = attribute
        self.name = name  # as msgspec knows it
        self.default = default  # left out when it has this value


def _declared_members(kind: type) -> list[_Member] | None:
    """The members of a class with declared ones, None for any other class."""
    if issubclass(kind, Struct):
        omit = kind.__struct_config__.omit_defaults
        return [
            _Member(f.name, f.encode_name, _default(f) if omit else NODEFAULT) for f in msgspec.structs.fields(kind)
        ]
    if dataclasses.is_dataclass(kind):
        return [_Member(field.name, field.name) for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [_Member(field.name, field.name) for field in kind.__attrs_attrs__]
    return None


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


class _ObjectWriter:
    """Writes the instances of one class with declared members."""

    __slots__ = ("_as_array", "_format", "_head", "_members")

    def __init__(
        self, format_: PayloadFormat, kind: type, members: Sequence[_Member], wire_name: Callable[[str], str]
    ) -> None:
        config = getattr(kind, "__struct_config__", None)
        self._format = format_
        self._as_array = config is not None and config.array_like
        self._head = {} if config is None or config.tag is None else {config.tag_field: config.tag}
        self._members = [
            (
                member.attribute,
                wire_name(member.name) if member.name == member.attribute else member.name,
                member.default,
            )
            for member in members
        ]

    def write(self, value: Any) -> Any:
        write = self._format.write
        written = dict(self._head)
        for attribute, name, default in self._members:
            member = getattr(value, attribute)
            if member is not UNSET and (default is NODEFAULT or member != default):
                written[name] = write(member)
        return list(written.values()) if self._as_array else written


class _Place:
    """What may stand at one place of a payload: what is done to it before msgspec converts it to its type."""

    __slots__ = ("elements", "key", "leaf", "members", "natives", "rest")

    def __init__(self) -> None:
        self.leaf: Leaf | None = None
        self.natives: tuple[type, ...] = ()  # values of these types are no business of the leaf's
        self.members: dict[str, tuple[str, _Place | None]] | None = None  # compared name -> msgspec's name, its place
        self.elements: list[_Place | None] = []  # the first elements of an array
        self.rest: _Place | None = None  # the other elements of an array, the values of a map
        self.key: _Place | None = None

    def prepare(self, format_: PayloadFormat, value: Any) -> Any:
        """Return the value as msgspec must be given it."""
        if isinstance(value, list) and (self.elements or self.rest is not None):
            firsts = len(self.elements)
            places = [self.elements[i] if i < firsts else self.rest for i in range(len(value))]
            value = [
                element if place is None else place.prepare(format_, element)
                for place, element in zip(places, value, strict=True)
            ]
        elif isinstance(value, dict):
            if self.members is not None:
                return self._prepare_members(format_, value)
            if self.rest is not None or self.key is not None:
                return {
                    key if self.key is None else self.key.prepare(format_, key): member
                    if self.rest is None
                    else self.rest.prepare(format_, member)
                    for key, member in value.items()
                }
        if self.leaf is not None and not isinstance(value, self.natives):
            return self.leaf(value)
        return value

    def _prepare_members(self, format_: PayloadFormat, value: dict[Any, Any]) -> dict[Any, Any]:
        assert self.members is not None
        prepared = {}
        for name, member in value.items():
            known = self.members.get(format_.compared(name)) if isinstance(name, str) else None
            if known is not None:
                prepared[known[0]] = member if known[1] is None else known[1].prepare(format_, member)
        return prepared


class _Decoder:
    """Decodes payloads of one type: by msgspec alone where that does, else prepared by its places."""

    __slots__ = (
        "_any",
        "_compared",
        "_convert",
        "_declared",
        "_format",
        "_hook",
        "_names",
        "_native",
        "_place",
        "_type",
    )

    def __init__(
        self,
        format_: PayloadFormat,
        type_: Any,
        native: Callable[[Any], Any],
        hook: _Hook,
        place: _Place,
        declared: dict[str, str],
    ) -> None:
        self._format = format_
        self._type = type_
        self._native = native
        self._hook = hook
        self._any = format_.native_decoder(Any, hook)
        self._place = place
        self._names = frozenset(declared.values())
        self._compared = frozenset(declared)

    def decode(self, raw: Any) -> Any:
        if not self._compared or not self._format.may_differ(raw, self._names, self._compared):
            try:
                return self._native(raw)
            except msgspec.ValidationError:
                pass  # it may fit all the same, once prepared
        prepared = self._place.prepare(self._format, self._any(raw))
        return msgspec.convert(prepared, self._type, dec_hook=self._hook, str_keys=self._format.str_keys)


class _Planner:
    """Walks a type and makes its places; `declared` gathers the names of all members below it."""

    __slots__ = ("_declared", "_format", "_seen")

    def __init__(self, format_: PayloadFormat, declared: dict[str, str]) -> None:
        self._format = format_
        self._declared = declared
        self._seen: dict[Any, _Place] = {}

    def place(self, info: inspect.Type) -> _Place | None:
        """Return the place for a value of this type, None where msgspec needs no help."""
        match info:
            case inspect.Metadata(type=inner):
                return self.place(inner)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self._object(info)
            case inspect.NamedTupleType(fields=fields):
                return self._array([field.type for field in fields])
            case inspect.TupleType(item_types=types):
                return self._array(types)
            case inspect.DictType(key_type=key_type, value_type=value_type):
                return self._map(key_type, value_type)
            case inspect.CollectionType(item_type=item_type):
                return self._sequence(item_type)
            case inspect.UnionType(types=types):
                return self._union(types)
            case inspect.EnumType(cls=kind):
                return self._leaf(_EnumNames(kind).value_of)
        leaf = self._format.leaves.get(type(info))
        return None if leaf is None else self._leaf(leaf)

    def _leaf(self, leaf: Leaf) -> _Place:
        place = _Place()
        place.leaf = leaf
        return place

    def _object(self, info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType) -> _Place | None:
        if isinstance(info, inspect.StructType) and info.array_like:
            return self._array([field.type for field in info.fields], skipped=0 if info.tag is None else 1)
        if info.cls in self._seen:
            return self._seen[info.cls]
        place = self._seen[info.cls] = _Place()
        place.members = {}
        if isinstance(info, inspect.StructType) and info.tag_field is not None:
            self._add_member(place.members, info.tag_field, info.tag_field, None)
        renames = not isinstance(info, inspect.TypedDictType)
        for field in info.fields:
            wire_name = field.encode_name
            if renames and wire_name == field.name:
                wire_name = self._format._wire_name(wire_name)
            self._add_member(place.members, wire_name, field.encode_name, self.place(field.type))
        return place

    def _add_member(
        self, members: dict[str, tuple[str, _Place | None]], wire_name: str, name: str, place: _Place | None
    ) -> None:
        compared = self._format.compared(wire_name)
        members[compared] = (name, place)
        self._declared[compared] = name

    def _array(self, types: Sequence[inspect.Type], skipped: int = 0) -> _Place | None:
        elements = [*([None] * skipped), *map(self.place, types)]
        if not any(elements):
            return None
        place = _Place()
        place.elements = elements
        return place

    def _map(self, key_type: inspect.Type, value_type: inspect.Type) -> _Place | None:
        key, rest = self.place(key_type), self.place(value_type)
        if key is None and rest is None:
            return None
        place = _Place()
        place.key, place.rest = key, rest
        return place

    def _sequence(self, item_type: inspect.Type) -> _Place | None:
        rest = self.place(item_type)
        if rest is None:
            return None
        place = _Place()
        place.rest = rest
        return place

    def _union(self, types: Sequence[inspect.Type]) -> _Place | None:
        """The places of all its types in one: msgspec allows a union only one type of each kind."""
        places = [place for place in map(self.place, types) if place is not None]
        if len(places) < 2 and len(types) == 2 and inspect.NoneType() in types:
            return places[0] if places else None
        union = _Place()
        for one in places:
            union.leaf = union.leaf or one.leaf
            union.elements = union.elements or one.elements
            union.rest = union.rest or one.rest
            union.key = union.key or one.key
            if one.members is not None:
                union.members = {**(union.members or {}), **one.members}
        union.natives = tuple(_NATIVES[type(info)] for info in types if type(info) in _NATIVES)
        return union if places else None


_NATIVES: dict[type[inspect.Type], type] = {inspect.StrType: str, inspect.IntType: int}


class _EnumNames:
    """The members of an enumeration by name, as .NET may send them in both encodings: one, or several of a `Flag`."""

    __slots__ = ("_kind", "_values")

    def __init__(self, kind: type[Enum]) -> None:
        self._kind = kind
        self._values: dict[str, Any] = {}
        if not any(isinstance(member.value, str) for member in kind):
            for name, member in kind.__members__.items():
                self._values[_folded(name)] = member.value

    def value_of(self, name: Any) -> Any:
        if not isinstance(name, str):
            return name
        if issubclass(self._kind, Flag) and "," in name:
            values = [self._values.get(_folded(part)) for part in name.split(",")]
            return name if None in values else sum(set(values))
        return self._values.get(_folded(name), name)


def _folded(name: str) -> str:
    """The same for `DARK_BLUE` as for `DarkBlue`."""
    return name.strip().replace("_", "").lower()
