"""Members of objects are read whatever their case, as System.Text.Json reads them for SignalR (SPEC 2.2.6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from ._json_payloads import ReceivedFloat

__all__ = ["decoder_for"]

_NAME = re.compile(rb'"([^"\\]*)"\s*:')
_decode_any = msgspec.json.Decoder(float_hook=ReceivedFloat).decode
_encode = msgspec.json.Encoder(enc_hook=lambda v: msgspec.Raw(v.text.encode())).encode


class _Names:
    """The members of the objects that may stand at one place of a value, and what may stand below them."""

    __slots__ = ("elements", "members")

    def __init__(self) -> None:
        self.members: dict[str, tuple[str, _Names]] = {}  # folded name -> declared name, what stands there
        self.elements: list[_Names] = []  # of a list or of a dictionary

    def fold(self, value: Any) -> Any:
        """Return the value with its members named as declared."""
        if isinstance(value, list):
            for i, element in enumerate(value):
                below = self.elements[i] if i < len(self.elements) else self.elements[-1] if self.elements else None
                if below is not None:
                    value[i] = below.fold(element)
        elif isinstance(value, dict):
            folded = {}
            for name, member in value.items():
                declared, below = self.members.get(name.lower(), (name, self.elements[-1] if self.elements else None))
                folded[declared] = member if below is None else below.fold(member)
            return folded
        return value


def decoder_for(type: Any) -> Callable[[Any], Any]:  # noqa: A002 - it is one
    """Return a function that decodes JSON text into this type."""
    decode = msgspec.json.Decoder(type, float_hook=ReceivedFloat).decode
    declared: dict[str, str] = {}
    names = _collect(inspect.type_info(type), {}, declared)
    if not declared:
        return decode
    canonical = {name.encode() for name in declared.values()}

    def decode_folded(text: Any) -> Any:
        for name in _NAME.findall(text):
            if name not in canonical and name.lower().decode("utf-8", "replace") in declared:
                return decode(_encode(names.fold(_decode_any(text))))
        return decode(text)

    return decode_folded


def _collect(info: inspect.Type, seen: dict[Any, _Names], declared: dict[str, str]) -> _Names:
    """Walk a type; `declared` gathers the names of all members by their folded names."""
    fields: tuple[inspect.Field, ...] = getattr(info, "fields", ())
    if not fields:
        names = _Names()
        match info:
            case inspect.UnionType(types=types):
                for member in types:
                    one = _collect(member, seen, declared)
                    names.members.update(one.members)
                    names.elements = names.elements or one.elements
            case inspect.TupleType(item_types=types):
                names.elements = [_collect(item, seen, declared) for item in types]
            case inspect.DictType(value_type=value_type):
                names.elements = [_collect(value_type, seen, declared)]
            case inspect.CollectionType(item_type=item_type):
                names.elements = [_collect(item_type, seen, declared)]
            case inspect.Metadata(type=inner):
                return _collect(inner, seen, declared)
        return names
    key = getattr(info, "cls", None)
    if key in seen:
        return seen[key]
    names = seen[key] = _Names()
    for field in fields:
        declared[field.encode_name.lower()] = field.encode_name
        names.members[field.encode_name.lower()] = (field.encode_name, _collect(field.type, seen, declared))
    return names
