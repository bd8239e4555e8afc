"""The vectors and verdicts of HUBPROTO_VECTORS (see README.md): messages of ours in their terms, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from hubproto_core import (
    Ack,
    CancelInvocation,
    Close,
    Codec,
    Completion,
    HubError,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    JsonCodec,
    MessagePackCodec,
    Ping,
    RemoteProtocolError,
    SequenceMessage,
    Shape,
    Single,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from hubproto_core._framing import RecordBuffer
from hubproto_core._handshake import parse_request
from tests.interop import _peers

CODECS: dict[str, Codec] = {codec.name: codec for codec in (JsonCodec(), MessagePackCodec())}
NOT_YET: dict[str, str] = {}
"""Protocols, or single vectors by their ids, that wait for what the project does not have yet."""

MAX_DEPTH = 64
TEXT_LIMIT = 160
"""How many characters of an error's text the verdicts tell."""
_TYPES = {"int": int, "string": str, "bool": bool, "any": Any, "int[]": list[int]}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Vector(msgspec.Struct, frozen=True, rename="camel"):
    """One case of conformance.json."""

    id: str
    protocol: str
    direction: str
    encoding: str
    input: str
    peer: str
    message: dict[str, Any] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    alt_error: str | None = None
    binder: dict[str, Any] = {}
    size: int | None = None
    raw_message: bool = False
    response: str | None = None
    context: str | None = None

    @property
    def data(self) -> bytes:
        """The input as bytes."""
        return bytes.fromhex(self.input) if self.encoding == "hex" else self.input.encode()

    @property
    def of_dotnet(self) -> bool:
        """Whether this is the behaviour of .NET, whose texts are ours."""
        return "dotnet" in self.peer


class Verdict(msgspec.Struct, frozen=True):
    """One line of verdicts.jsonl: an input, and what the reference made of it."""

    protocol: str
    verdict: dict[str, Any]
    text: str | None = None
    hex: str | None = None

    @property
    def data(self) -> bytes:
        """The input as bytes."""
        return self.text.encode() if self.text is not None else bytes.fromhex(self.hex or "")

    @property
    def name(self) -> str:
        """What the tables of differences call it."""
        return f"{self.protocol} {self.text if self.text is not None else self.hex}"


def folder() -> Path | None:
    """The folder with the vectors, if there is one."""
    return _peers.folder("HUBPROTO_VECTORS")


def load_vectors() -> list[Vector]:
    """All vectors, or none where there is no folder."""
    found = folder()
    return msgspec.json.decode((found / "conformance.json").read_bytes(), type=list[Vector]) if found else []


def load_verdicts() -> list[Verdict]:
    """All verdicts, or none where there is no folder."""
    found = folder()
    if not found:
        return []
    return [msgspec.json.decode(line, type=Verdict) for line in (found / "verdicts.jsonl").read_bytes().splitlines()]


class Declared:
    """Binds what the `binder` of a vector says, and anything where it says nothing."""

    def __init__(self, types: dict[str, Any], arguments: int | None = None) -> None:
        self._types = types
        self._arguments = arguments

    def arguments_shape(self, target: str) -> Shape:
        """The parameters."""
        names = self._types.get("params")
        if names is not None:
            return Shape.of_arguments(tuple(_TYPES[name] for name in names))
        return Shape(tuple[Any, ...]) if self._arguments is None else Shape.of_arguments((Any,) * self._arguments)

    def item_shape(self, stream_id: str) -> Shape:
        """The type of a stream's items."""
        return Shape(_TYPES[self._types.get("item", "any")])

    def result_shape(self, invocation_id: str) -> Shape:
        """The type of a result; none for a call that nobody has made."""
        name = self._types.get("return", "any")
        if name is None:
            raise HubError("no such call")
        return Shape(_TYPES[name])


def records(codec: Codec, data: bytes) -> tuple[list[bytes], bytes]:
    """The records in a stream of bytes, and the bytes left over."""
    buffer = RecordBuffer()
    buffer.append(data)
    found = []
    while (record := codec.next_record(buffer, None)) is not None:
        found.append(record)
    return found, data[len(data) - len(buffer) :]


def decoded(codec: Codec, data: bytes, binder: Declared) -> tuple[HubMessage | dict[str, bool], bytes]:
    """The first message in a stream of bytes, and the bytes behind it."""
    buffer = RecordBuffer()
    buffer.append(data)
    record = codec.next_record(buffer, None)
    if record is None:
        return {"incomplete": True}, data
    message = codec.decode(record, binder, MAX_DEPTH)
    return {"ignored": True} if message is None else message, data[len(data) - len(buffer) :]


def described(message: HubMessage) -> dict[str, Any]:
    """A message in the normal form of the vectors."""
    match message:
        case Invocation() | StreamInvocation():
            return {
                "type": "invocation" if isinstance(message, Invocation) else "streamInvocation",
                "invocationId": message.invocation_id,
                "target": message.target,
                "arguments": [plain(argument) for argument in message.arguments],
                "streamIds": None if message.stream_ids is None else list(message.stream_ids),
                "headers": message.headers,
            }
        case StreamItem():
            return {
                "type": "streamItem",
                "invocationId": message.invocation_id,
                "item": plain(message.item),
                "headers": message.headers,
            }
        case Completion():
            ending: dict[str, Any] = {}
            if message.error is not None:
                ending["error"] = message.error
            elif message.result is not UNSET:
                ending["result"] = plain(message.result)
            return {
                "type": "completion",
                "invocationId": message.invocation_id,
                **ending,
                "headers": message.headers,
            }
        case CancelInvocation():
            return {"type": "cancelInvocation", "invocationId": message.invocation_id, "headers": message.headers}
        case Ping():
            return {"type": "ping"}
        case Close():
            return {"type": "close", "error": message.error, "allowReconnect": message.allow_reconnect}
        case Ack():
            return {"type": "ack", "sequenceId": message.sequence_id}
        case SequenceMessage():
            return {"type": "sequence", "sequenceId": message.sequence_id}
        case InvocationBindingFailure():
            return {
                "type": "invocationBindingFailure",
                "invocationId": message.invocation_id,
                "target": message.target,
                "reason": str(message.error),
            }
        case StreamBindingFailure():
            return {"type": "streamBindingFailure", "invocationId": message.invocation_id}


def message_of(form: dict[str, Any]) -> HubMessage:
    """The message that a normal form describes."""
    headers = form.get("headers")
    call_id = form.get("invocationId", "")
    match form["type"]:
        case "invocation":
            return Invocation(
                headers=headers,
                invocation_id=form["invocationId"],
                target=form["target"],
                arguments=[value_of(argument) for argument in form["arguments"]],
                stream_ids=form["streamIds"],
            )
        case "streamInvocation":
            return StreamInvocation(
                headers=headers,
                invocation_id=call_id,
                target=form["target"],
                arguments=[value_of(argument) for argument in form["arguments"]],
                stream_ids=form["streamIds"],
            )
        case "streamItem":
            return StreamItem(headers=headers, invocation_id=call_id, item=value_of(form["item"]))
        case "completion":
            result = value_of(form["result"]) if "result" in form else UNSET
            return Completion(headers=headers, invocation_id=call_id, error=form.get("error"), result=result)
        case "cancelInvocation":
            return CancelInvocation(headers=headers, invocation_id=call_id)
        case "ping":
            return Ping()
        case "close":
            return Close(error=form["error"], allow_reconnect=form["allowReconnect"])
        case "ack":
            return Ack(sequence_id=form["sequenceId"])
        case "sequence":
            return SequenceMessage(sequence_id=form["sequenceId"])
    raise AssertionError(f"no message of the wire: {form}")


_RAW_TYPES = {
    1: "invocation",
    2: "streamItem",
    3: "completion",
    4: "streamInvocation",
    5: "cancelInvocation",
    6: "ping",
    7: "close",
    8: "ack",
    9: "sequence",
}
_OPTIONAL: dict[str, dict[str, Any]] = {
    "invocation": {"invocationId": None, "streamIds": None, "headers": None},
    "streamInvocation": {"streamIds": None, "headers": None},
    "streamItem": {"headers": None},
    "completion": {"headers": None},
    "cancelInvocation": {"headers": None},
    "close": {"error": None, "allowReconnect": False},
}


def normal(raw: dict[str, Any]) -> dict[str, Any]:
    """The normal form of a message that is given as its JSON members (`rawMessage`)."""
    kind = _RAW_TYPES[raw["type"]]
    return {**_OPTIONAL.get(kind, {}), **raw, "type": kind}


def plain(value: Any) -> Any:
    """A received value in the notation of the vectors."""
    if isinstance(value, bytes):
        return {"$bin": value.hex()}
    if isinstance(value, datetime):
        return {"$time": (value - _EPOCH) / timedelta(microseconds=1)}
    if isinstance(value, Single):
        return {"$f32": float(value)}
    if isinstance(value, float):
        return {"$f64": float(value)}
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value


def value_of(notation: Any) -> Any:
    """The value that a notation of the vectors stands for."""
    if isinstance(notation, dict):
        if "$bin" in notation:
            return bytes.fromhex(notation["$bin"])
        if "$f32" in notation:
            return Single(notation["$f32"])
        if notation.get("$ext") == -1:
            data = bytes.fromhex(notation["data"])
            return msgspec.msgpack.decode(b"\xc7" + bytes([len(data), 0xFF]) + data, type=datetime)
        return {key: value_of(member) for key, member in notation.items()}
    if isinstance(notation, list):
        return [value_of(element) for element in notation]
    return notation


def verdict_on(protocol: str, data: bytes) -> dict[str, Any]:
    """What we make of an input, in the form of the verdicts."""
    try:
        return _judge_handshake(data) if protocol == "handshake" else _judge(CODECS[protocol], data)
    except RemoteProtocolError as error:
        return {"error": str(error), "exception": error.kind}


def _judge_handshake(data: bytes) -> dict[str, Any]:
    buffer = RecordBuffer()
    buffer.append(data)
    record = buffer.take_text(None)
    if record is None:
        return {"kind": "incomplete"}
    name, version = parse_request(record)
    return {"type": "handshakeRequest", "protocol": name, "version": version, "left": len(buffer)}


def _judge(codec: Codec, data: bytes) -> dict[str, Any]:
    message, rest = decoded(codec, data, Declared({}, _last_argument_count(data) if codec.name == "json" else None))
    if isinstance(message, dict):
        return {"kind": next(iter(message)), "left": len(rest)}
    form = {**described(message), "left": len(rest)}
    match message:
        case Invocation() | StreamInvocation():
            form["argc"] = len(form.pop("arguments"))
        case StreamItem():
            del form["item"]
        case Completion():
            form.pop("error", None)
            form.pop("result", None)
            form.update(completionError=message.error, hasResult=message.result is not UNSET)
        case Close():
            form["closeError"] = form.pop("error")
        case InvocationBindingFailure():
            form["type"] = "bindingFailure"
            del form["reason"]
    return form


def _last_argument_count(data: bytes) -> int | None:
    """How many arguments the methods have that the verdicts were made with: as many as the last `arguments`."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        members, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    arguments = members.get("arguments") if isinstance(members, dict) else None
    return len(arguments) if isinstance(arguments, list) else None


def differs(wanted: dict[str, Any], got: dict[str, Any]) -> str | None:
    """How two verdicts differ in class or envelope; None if they do not."""
    if "error" in wanted or "error" in got:
        return None if "error" in wanted and "error" in got else f"expected {wanted}, got {got}"
    members = wanted.keys() | got.keys()
    wrong = [name for name in sorted(members) if not _agree(name, wanted.get(name), got.get(name))]
    return f"{', '.join(wrong)}: expected {wanted}, got {got}" if wrong else None


def text_differs(wanted: dict[str, Any], got: dict[str, Any]) -> str | None:
    """How the words of two errors differ: those of SignalR itself, and the names of all exceptions."""
    if "error" not in wanted or "error" not in got:
        return None
    same = wanted["exception"] == got["exception"]
    if same and (wanted["exception"] != "InvalidDataException" or wanted["error"] == got["error"][:TEXT_LIMIT]):
        return None
    return f"expected {wanted['exception']}: {wanted['error']}, got {got['exception']}: {got['error']}"


_PLATFORM = "Error trying to deserialize result to "


def _agree(name: str, wanted: Any, got: Any) -> bool:
    if name == "completionError" and wanted and got and wanted.startswith(_PLATFORM):
        return bool(got.startswith(_PLATFORM))
    return bool((wanted or None) == (got or None)) if name in ("invocationId", "headers") else wanted == got
