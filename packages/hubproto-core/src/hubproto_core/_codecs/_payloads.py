"""Payloads: Python values of declared types as .NET has them on the wire (SPEC 2.2.6, 2.3.5, appendix K).

msgspec does the reading and the writing. `PayloadFormat` adds what it does not know of .NET: how members are named, and
the leaves that .NET writes in another way, which the two encodings bring along.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import lru_cache, reduce
from operator import or_
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from msgspec import NODEFAULT, UNSET, Struct, inspect

from .._values import Char, Single
from ._naming import Rename, renamer

__all__ = ["Leaf", "Leaves", "PayloadFormat", "decimal_text", "member_names", "offset_minutes", "time_span"]

Leaf = Callable[[Any], Any]
"""Converts one value; what it does not understand it returns as it is, for msgspec to judge."""

Leaves = Mapping[type[inspect.Type], Leaf]

_Hook = Callable[[type, Any], Any]

_MAX_TIME_SPAN = timedelta(microseconds=(2**63 - 1) // 10)
_MAX_PLAIN_EXPONENT = 100


class PayloadFormat(ABC):
    """How one encoding carries payloads, with the naming policy and the hooks that its user has chosen."""

    __slots__ = ("_base_writers", "_dec_hook", "_enc_hook", "_writers", "wire_name")

    plain: ClassVar[frozenset[type]]
    """The types that msgspec writes just as .NET does."""

    str_keys: ClassVar[bool]
    """Keys of maps are always text on the wire."""

    any_case: ClassVar[bool]
    """Names of members are read whatever their case."""

    leaves: ClassVar[Leaves]
    """What has to be done to leaves of a declared type, before msgspec converts them."""

    foreign: ClassVar[frozenset[type[inspect.Type]]]
    """Those leaves of which msgspec makes nothing, or something wrong, without that: it is not asked first."""

    def __init__(
        self,
        rename: Rename,
        enc_hook: Callable[[Any], Any] | None,
        dec_hook: Callable[[type, Any], Any] | None,
    ) -> None:
        self.wire_name = renamer(rename)
        self._enc_hook = enc_hook
        self._dec_hook = dec_hook
        self._base_writers: dict[type, Callable[[Any], Any]] = {  # for what derives from them, too
            str: str.__str__,  # not what a derived class makes of it
            int: int.__int__,
            bytes: bytes,
            bytearray: _untouched,
            memoryview: _untouched,
            UUID: str,
            list: self._write_elements,
            tuple: self._write_elements,
            set: self._write_elements,
            frozenset: self._write_elements,
            deque: self._write_elements,
            dict: self._write_map,
            **self.leaf_writers(),
        }
        self._writers = self._base_writers.copy()  # other types are added as they are met

    @classmethod
    @lru_cache(maxsize=32)
    def of(
        cls,
        rename: Rename,
        enc_hook: Callable[[Any], Any] | None,
        dec_hook: Callable[[type, Any], Any] | None,
    ) -> Self:
        """The format with these settings, made once: the decoders of all types are kept under it."""
        return cls(rename, enc_hook, dec_hook)

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
    def write_key(self, key: Any) -> Any:
        """Return the key of a map, which is no text, as msgspec must be given it."""

    @abstractmethod
    def must_prepare(self, raw: Any, names: Mapping[str, str | None]) -> bool:
        """Whether a payload has a member that msgspec would not find by itself, or must not find.

        `names` are all names of members in their compared form, with the one name as which msgspec knows such a member
        everywhere, None if there is no such name.
        """

    def compared(self, name: str) -> str:
        """Return what two names that count as equal have in common."""
        return name.lower() if self.any_case else name

    # writing

    def write(self, value: Any) -> Any:
        """Return the value as msgspec must be given it.

        Raises TypeError for what cannot be written, ValueError for what .NET does not write, and what the enc_hook
        raises.
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
        return {key if type(key) is str else self.write_key(key): self.write(member) for key, member in value.items()}

    def write_custom(self, value: Any) -> Any:
        """What msgspec's encoder does with values that it does not know."""
        if self._enc_hook is None:
            raise TypeError(f"a value of type {type(value).__name__} needs the codec's enc_hook")
        return self.write(self._enc_hook(value))

    def _writer_for(self, kind: type) -> Callable[[Any], Any]:
        if issubclass(kind, Enum):
            return self.write_enum
        members = _declared_members(kind)
        if members is not None:
            return _ObjectWriter(self, kind, members, self.wire_name).write
        for base in kind.__mro__:
            if base in self._base_writers:
                return self._base_writers[base]
        return _untouched

    # reading

    def decoder(self, type_: Any) -> Callable[[Any], Any]:
        """Return a function from a payload's bytes to a value of this type.

        The function raises an exception, of whatever kind, for what does not fit: hooks and the `__post_init__` of
        classes run in it. Most are `msgspec.DecodeError`s, which are ValueErrors.
        """
        planner = _Planner(self)
        place = planner.place(inspect.type_info(type_))
        native = self.native_decoder(type_, self._read_custom)
        if place is None:
            return native
        names = planner.names
        if not self.any_case and all(compared == name for compared, name in names.items()):
            names = {}  # no payload is for msgspec to misunderstand
        return _Decoder(self, type_, None if planner.foreign else native, self._read_custom, place, names).decode

    def _read_custom(self, type_: Any, value: Any) -> Any:
        """What msgspec does for types that it does not know."""
        if type_ is Char:
            return self.read_char(value)
        if type_ is Single:
            return _read_single(value)
        if isinstance(type_, type) and isinstance(value, type_):
            return value  # of `object`, or of an abstract class
        if self._dec_hook is None:
            raise TypeError(f"a value for {type_.__name__} needs the codec's dec_hook")
        return self._dec_hook(type_, value)


def _untouched(value: Any) -> Any:
    return value


def _read_single(value: Any) -> Single:
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise ValueError(f"Expected a number, got {type(value).__name__}")
    return Single(value)


def decimal_text(value: Decimal) -> str:
    """Return a decimal as .NET writes it: with its scale, and without an exponent unless it is beyond all reason.

    Raises ValueError for infinities and what is no number.
    """
    if not value.is_finite():
        raise ValueError(f".NET knows no decimal {value}")
    return f"{value:f}" if abs(value.adjusted()) < _MAX_PLAIN_EXPONENT else str(value)


def time_span(value: timedelta) -> timedelta:
    """Return the value itself. Raises ValueError for more than a TimeSpan can hold, 10675199 days."""
    if abs(value) > _MAX_TIME_SPAN:
        raise ValueError(f".NET knows no TimeSpan of {value}")
    return value


def offset_minutes(value: datetime) -> int | None:
    """Return how far a time's zone is from UTC, None if it has no zone. Raises ValueError for parts of a minute."""
    offset = value.utcoffset()
    if offset is None:
        return None
    minutes, rest = divmod(offset, timedelta(minutes=1))
    if rest:
        raise ValueError(f".NET knows no offset of {offset}")
    return minutes


def member_names(value: Enum) -> str:
    """Return the name of a member, for a combination of flags all their names: a number if some have none."""
    name: str | None = value.name
    names = [] if name is None else name.split("|")
    return ", ".join(names) if names and not names[-1].isdecimal() else str(value.value)


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
        omit = kind.__struct_config__.omit_defaults and not kind.__struct_config__.array_like
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
        if self._as_array:
            return [*self._head.values(), *(write(getattr(value, attribute)) for attribute, _, _ in self._members)]
        written = dict(self._head)
        for attribute, name, default in self._members:
            member = getattr(value, attribute)
            if member is not UNSET and (default is NODEFAULT or member != default):
                written[name] = write(member)
        return written


class _Place:
    """What may stand at one place of a payload: what is done to it before msgspec converts it to its type."""

    __slots__ = ("elements", "forbids", "key", "leaves", "members", "natives", "rest", "tag_name", "variants")

    def __init__(self) -> None:
        self.leaves: tuple[Leaf, ...] = ()
        self.natives: tuple[type, ...] = ()  # values of these types are no business of the leaves
        self.members: dict[str, tuple[str, _Place | None]] | None = None  # compared name -> msgspec's name, its place
        self.forbids = False  # other members
        self.variants: dict[Any, _Place] = {}  # tag -> what it stands for
        self.tag_name = ""  # compared
        self.elements: list[_Place | None] = []  # the first elements of an array
        self.rest: _Place | None = None  # the other elements of an array, the values of a map
        self.key: _Place | None = None

    def prepare(self, format_: PayloadFormat, value: Any) -> Any:
        """Return the value as msgspec must be given it. Raises ValueError for what cannot be meant."""
        if isinstance(value, list | dict):
            if self.variants:
                variant = self.variants.get(self._tag(format_, value))
                if variant is not None:
                    return variant.prepare(format_, value)
            value = self._prepare_list(format_, value) if isinstance(value, list) else self._prepare_map(format_, value)
        if not isinstance(value, self.natives):
            for leaf in self.leaves:
                value = leaf(value)
        return value

    def _tag(self, format_: PayloadFormat, value: list[Any] | dict[Any, Any]) -> str | int | None:
        tag = None
        if isinstance(value, list):
            tag = value[0] if value else None
        else:
            for name, member in value.items():
                if isinstance(name, str) and format_.compared(name) == self.tag_name:
                    tag = member
        return tag if isinstance(tag, str | int) else None

    def _prepare_list(self, format_: PayloadFormat, value: list[Any]) -> list[Any]:
        firsts = len(self.elements)
        if not firsts and self.rest is None:
            return value
        prepared = []
        for i, element in enumerate(value):
            place = self.elements[i] if i < firsts else self.rest
            prepared.append(element if place is None else place.prepare(format_, element))
        return prepared

    def _prepare_map(self, format_: PayloadFormat, value: dict[Any, Any]) -> dict[Any, Any]:
        if self.members is not None:
            return self._prepare_members(format_, value, self.members)
        if self.rest is None and self.key is None:
            return value
        prepared = {}
        for key, member in value.items():
            if self.key is not None:
                key = self.key.prepare(format_, key)
            prepared[key] = member if self.rest is None else self.rest.prepare(format_, member)
        return prepared

    def _prepare_members(
        self, format_: PayloadFormat, value: dict[Any, Any], members: dict[str, tuple[str, _Place | None]]
    ) -> dict[Any, Any]:
        prepared = {}
        for name, member in value.items():
            if not isinstance(name, str):
                raise ValueError(f"Expected the name of a member, got `{name!r:.20}`")
            known = members.get(format_.compared(name))
            if known is not None:
                prepared[known[0]] = member if known[1] is None else known[1].prepare(format_, member)
            elif self.forbids:
                raise ValueError(f"Object contains unknown field `{name}`")
        return prepared


class _Decoder:
    """Decodes payloads of one type: by msgspec alone where that does, else prepared by its places."""

    __slots__ = ("_any", "_format", "_hook", "_names", "_native", "_place", "_type")

    def __init__(
        self,
        format_: PayloadFormat,
        type_: Any,
        native: Callable[[Any], Any] | None,
        hook: _Hook,
        place: _Place,
        names: Mapping[str, str | None],
    ) -> None:
        self._format = format_
        self._type = type_
        self._native = native
        self._hook = hook
        self._any = format_.native_decoder(Any, hook)
        self._place = place
        self._names = names

    def decode(self, raw: Any) -> Any:
        if self._native is not None and not (self._names and self._format.must_prepare(raw, self._names)):
            try:
                return self._native(raw)
            except msgspec.ValidationError:
                pass  # it may fit all the same, once prepared
        prepared = self._place.prepare(self._format, self._any(raw))
        return msgspec.convert(prepared, self._type, dec_hook=self._hook, str_keys=self._format.str_keys)


class _Planner:
    """Walks a type and makes its places.

    `names` gathers the names of members as `PayloadFormat.must_prepare` wants them; `foreign`: there are such leaves.
    """

    __slots__ = ("_format", "_seen", "foreign", "names")

    def __init__(self, format_: PayloadFormat) -> None:
        self._format = format_
        self._seen: dict[Any, _Place] = {}
        self.names: dict[str, str | None] = {}
        self.foreign = False

    def place(self, info: inspect.Type) -> _Place | None:
        """Return the place for a value of this type, None where msgspec needs no help."""
        match info:
            case inspect.Metadata(type=inner):
                return self.place(inner)
            case inspect.StructType(array_like=True) | inspect.NamedTupleType():
                return self._record(info)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self._object(info)
            case inspect.TupleType(item_types=types):
                elements = [self.place(type_) for type_ in types]
                return self._container(elements=elements) if any(elements) else None
            case inspect.DictType(key_type=key_type, value_type=value_type):
                return self._container(key=self.place(key_type), rest=self.place(value_type))
            case inspect.CollectionType(item_type=item_type):
                return self._container(rest=self.place(item_type))
            case inspect.UnionType(types=types):
                return self._union(types)
            case inspect.EnumType(cls=kind):
                return self._leaf(_EnumNames(kind).value_of)
        if type(info) in self._format.foreign:
            self.foreign = True
        leaf = self._format.leaves.get(type(info))
        return None if leaf is None else self._leaf(leaf)

    def _leaf(self, leaf: Leaf) -> _Place:
        place = _Place()
        place.leaves = (leaf,)
        return place

    def _container(
        self, *, elements: Sequence[_Place | None] = (), key: _Place | None = None, rest: _Place | None = None
    ) -> _Place | None:
        if not elements and key is None and rest is None:
            return None
        place = _Place()
        place.elements, place.key, place.rest = list(elements), key, rest
        return place

    def _record(self, info: inspect.StructType | inspect.NamedTupleType) -> _Place:
        """The place of a class whose instances are arrays."""
        if info.cls in self._seen:
            return self._seen[info.cls]
        place = self._seen[info.cls] = _Place()
        if isinstance(info, inspect.StructType) and info.tag is not None:
            place.elements.append(None)
        for field in info.fields:
            place.elements.append(self.place(field.type))
        return place

    def _object(self, info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType) -> _Place:
        if info.cls in self._seen:
            return self._seen[info.cls]
        place = self._seen[info.cls] = _Place()
        place.members = {}
        if isinstance(info, inspect.StructType):
            place.forbids = info.forbid_unknown_fields
            if info.tag_field is not None:
                self._add_member(place.members, info.tag_field, info.tag_field, None)
        renames = not isinstance(info, inspect.TypedDictType)
        for field in info.fields:
            wire_name = field.encode_name
            if renames and wire_name == field.name:
                wire_name = self._format.wire_name(wire_name)
            self._add_member(place.members, wire_name, field.encode_name, self.place(field.type))
        return place

    def _add_member(
        self, members: dict[str, tuple[str, _Place | None]], wire_name: str, name: str, place: _Place | None
    ) -> None:
        compared = self._format.compared(wire_name)
        members[compared] = (name, place)
        self.names[compared] = name if self.names.get(compared, name) == name else None
        own = self._format.compared(name)
        if own != compared:
            self.names[own] = None  # msgspec would take it for this member

    def _union(self, types: Sequence[inspect.Type]) -> _Place | None:
        """The places of all its types in one: msgspec allows a union only one type of each kind, but for classes with
        tags."""
        union = _Place()
        helped = False
        for info in types:
            union.natives += _NATIVES.get(type(info), ())
            place = self.place(info)
            if place is None:
                continue
            helped = True
            if isinstance(info, inspect.StructType) and info.tag_field is not None:
                union.variants[info.tag] = place
                union.tag_name = self._format.compared(info.tag_field)
                continue
            union.leaves += place.leaves
            union.members = union.members or place.members
            union.elements = union.elements or place.elements
            union.rest = union.rest or place.rest
            union.key = union.key or place.key
        return union if helped else None


_NATIVES: dict[type[inspect.Type], tuple[type, ...]] = {
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.BoolType: (bool,),
}


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
        if not isinstance(name, str) or not self._values:
            return name
        if name.removeprefix("-").isdecimal():
            return int(name)  # .NET has no name for it
        if issubclass(self._kind, Flag) and "," in name:
            values = [self._values.get(_folded(part)) for part in name.split(",")]
            return name if None in values else reduce(or_, values)
        return self._values.get(_folded(name), name)


def _folded(name: str) -> str:
    """The same for `DARK_BLUE` as for `DarkBlue`."""
    return name.strip().replace("_", "").lower()
