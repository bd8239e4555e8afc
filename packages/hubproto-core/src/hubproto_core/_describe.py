"""What a hub offers, as plain data: its methods, with JSON Schemas of what they take and give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, get_args

import msgspec
from msgspec.inspect import DataclassType, Field, StructType, Type, multi_type_info

from ._signature import Parameter, Signature, unwrapped
from ._values import Char, Single

__all__ = ["describe"]

_TIME_SPAN = r"^-?([0-9]{1,8}\.)?[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,7})?$"
_SCHEMAS: dict[str, dict[str, Any]] = {  # of what .NET writes in another way than msgspec, by msgspec's format
    "decimal": {"type": "number"},
    "duration": {"type": "string", "pattern": _TIME_SPAN},
}


class Described(Protocol):
    """A method of a hub."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def signature(self) -> Signature: ...


def describe(methods: Iterable[Described], member_name: Callable[[str], str]) -> dict[str, Any]:
    """See `Hub.describe`; `member_name` tells how a declared member of a class is called on the wire."""
    schemas = _Schemas(member_name)
    described = {method.name: _describe(method, schemas) for method in methods}
    return {"methods": described, "$defs": schemas.finish()}


def _describe(method: Described, schemas: _Schemas) -> dict[str, Any]:
    signature = method.signature
    types = iter(get_args(signature.arguments.type))
    streams = iter(signature.streams)
    least = (signature.arguments.length or 0) - len(signature.defaults)
    arguments: list[dict[str, Any]] = []
    uploads: list[dict[str, Any]] = []
    for name, slot in zip(signature.names, signature.slots, strict=True):
        if slot == Parameter.STREAM:
            uploads.append({"name": name, "items": schemas.of(next(streams).type)})
        elif slot == Parameter.REST:
            arguments.append({"name": name, "schema": schemas.of(next(types)), "required": False, "variadic": True})
        elif slot == Parameter.ARGUMENT:
            required = len(arguments) < least
            arguments.append({"name": name, "schema": schemas.of(next(types)), "required": required})
    text = inspect.getdoc(unwrapped(method.function))
    return {
        **({"description": text} if text else {}),
        "arguments": arguments,
        "uploads": uploads,
        "items" if signature.is_stream else "result": schemas.of(signature.result),
    }


class _Schemas:
    """Schemas that share their definitions: each is empty until all are known, when `finish` fills them in."""

    __slots__ = ("_member_name", "_schemas", "_types")

    def __init__(self, member_name: Callable[[str], str]) -> None:
        self._member_name = member_name
        self._types: list[Any] = []
        self._schemas: list[dict[str, Any]] = []

    def of(self, type_: Any) -> dict[str, Any]:
        """Return the schema of a type; it allows anything if there is none."""
        schema: dict[str, Any] = {}
        try:
            msgspec.json.schema(type_, schema_hook=_custom)
        except TypeError:  # of a result: it need not be of one type on the wire
            return schema
        self._types.append(type_)
        self._schemas.append(schema)
        return schema

    def finish(self) -> dict[str, Any]:
        """Fill in all schemas, and return what they refer to, by name."""
        classes: dict[Any, StructType | DataclassType] = {}
        for info in multi_type_info(self._types):
            _gather(info, classes)
        found, definitions = msgspec.json.schema_components([*self._types, *classes], schema_hook=_custom)
        for schema, one in zip(self._schemas, found, strict=False):
            schema.update(_as_dotnet_writes(one))
        definitions = {name: _as_dotnet_writes(one) for name, one in definitions.items()}
        for info, reference in zip(classes.values(), found[len(self._types) :], strict=True):
            self._name_members(definitions[reference["$ref"].rpartition("/")[2]], info)
        return definitions

    def _name_members(self, schema: dict[str, Any], info: StructType | DataclassType) -> None:
        if "properties" not in schema:  # it is an array
            return
        properties = schema["properties"]
        names: dict[str, str] = {}
        for field in info.fields:
            if field.encode_name == field.name:  # it has no name of its own for the wire
                names[field.name] = self._member_name(field.name)
            if not isinstance(field.default, str | int | float | None):
                properties[field.encode_name].pop("default", None)  # nor is it written as msgspec does
        schema["properties"] = {names.get(name, name): property_ for name, property_ in properties.items()}
        schema["required"] = [names.get(name, name) for name in schema["required"]]


def _custom(kind: type) -> dict[str, Any]:
    """The schema of a type that msgspec does not know."""
    if kind is Char:
        return {"type": "string", "minLength": 1, "maxLength": 1}
    return {"type": "number"} if kind is Single else {"title": kind.__name__}


def _as_dotnet_writes(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_as_dotnet_writes(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    for format_, other in _SCHEMAS.items():
        if schema.get("format") == format_:
            schema = {name: part for name, part in schema.items() if name != "format"} | other
    return {name: _as_dotnet_writes(part) for name, part in schema.items()}


def _gather(info: Any, classes: dict[Any, StructType | DataclassType]) -> None:
    """Find the classes in a type whose members have names."""
    if isinstance(info, StructType | DataclassType):
        if info.cls in classes:
            return
        classes[info.cls] = info
    if isinstance(info, Type | Field):
        for name in info.__struct_fields__:
            _gather(getattr(info, name), classes)
    elif isinstance(info, tuple):
        for one in info:
            _gather(one, classes)
