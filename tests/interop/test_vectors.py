"""The conformance vectors: read as what they say, written byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from hubproto_core import HubConnection, HubError, RemoteProtocolError, Role
from hubproto_core import _handshake as handshake
from hubproto_core._framing import RecordBuffer
from hubproto_core.http import _negotiate, _sse
from tests.interop import _peers, _vectors
from tests.interop._vectors import CODECS, NOT_YET, Declared, Vector
from tests.interop.differences import VECTORS

ALL = _vectors.load_vectors()
NONE = Vector(id="none", protocol="none", direction="none", encoding="text", input="", peer="none")


def vectors(*directions: str, answered: bool = False) -> pytest.MarkDecorator:
    """One test a vector, called by its id."""
    found = [
        vector
        for vector in ALL
        if vector.direction in directions and (not answered or (vector.response is not None and vector.context is None))
    ]
    return pytest.mark.parametrize("vector", found or [NONE], ids=lambda vector: vector.id)


def require(vector: Vector) -> None:
    """Skip, or fail, where there is nothing to test."""
    if vector is NONE:
        _peers.missing("vectors", "HUBPROTO_VECTORS names no folder (tests/interop/README.md says what it holds)")
    for name in (vector.protocol, vector.id):
        if name in NOT_YET:
            pytest.skip(f"not yet: {NOT_YET[name]}")


@vectors("decode", "both")
def test_reading(vector: Vector) -> None:
    """The input is what the vector says."""
    require(vector)
    got = read(vector)
    if vector.id in VECTORS:
        assert not agrees(vector, got), "the table of differences names a vector that holds"
    else:
        assert agrees(vector, got), got


@vectors("encode", "both")
def test_writing(vector: Vector) -> None:
    """The message is written as the input; of the JavaScript client's, whose members have another order, the same."""
    require(vector)
    written = write(vector)
    if vector.raw_message:
        assert json.loads(written[:-1]) == json.loads(vector.data[:-1])
    else:
        assert written == vector.data
        assert vector.size in (None, len(written))


@vectors("decode", "both", answered=True)
def test_answers_to_handshakes(vector: Vector) -> None:
    """A server answers a handshake request with what the vector says."""
    require(vector)
    server = HubConnection(Role.SERVER, list(CODECS.values()), now=0)
    server.receive_data(vector.data, now=0)
    while server.next_event(now=0) is not None:
        pass
    assert server.data_to_send(now=0).decode() == vector.response


def test_table() -> None:
    """The table of differences is short, and names existing vectors."""
    if not ALL:
        _peers.missing("vectors", "there is nothing to compare the table with")
    assert set(VECTORS) <= {vector.id for vector in ALL if vector.direction in ("decode", "both")}
    assert len(VECTORS) < 12


# within


def agrees(vector: Vector, got: dict[str, Any]) -> bool:
    """Whether what we read is what the vector says; the words of an error are asked for where .NET says them."""
    if vector.message is UNSET:
        return "error" in got and (not vector.of_dotnet or got["error"] in (vector.error, vector.alt_error))
    wanted = _vectors.normal(vector.message) if vector.raw_message else dict(vector.message)
    for name in ("arguments", "item", "result"):
        if name in wanted and vector.protocol in CODECS:
            wanted[name] = _vectors.plain(_vectors.value_of(wanted[name]))
    prefix = wanted.pop("errorPrefix", None)
    if prefix is not None:
        wanted["error"] = got.get("error") if str(got.get("error")).startswith(prefix) else prefix
    return bool(got == wanted)


def read(vector: Vector) -> dict[str, Any]:
    """What we make of the input, in the normal form of the vectors."""
    try:
        match vector.protocol:
            case "handshake":
                return read_handshake(vector)
            case "sse":
                return {"events": [payload.decode() for payload in _sse.EventReader(None).feed(vector.data)]}
            case "negotiate":
                return read_negotiation(vector)
        if vector.message is not UNSET and "frames" in vector.message:
            return read_frames(vector)
        message, _ = _vectors.decoded(CODECS[vector.protocol], vector.data, Declared(vector.binder))
        return message if isinstance(message, dict) else _vectors.described(message)
    except RemoteProtocolError as error:
        return {"error": str(error)}


def read_frames(vector: Vector) -> dict[str, Any]:
    """The records of the input."""
    found, rest = _vectors.records(CODECS[vector.protocol], vector.data)
    if vector.encoding == "hex":
        return {"frames": [record.hex() for record in found], "remaining": rest.hex()}
    return {"frames": [record.decode() for record in found], "remaining": rest.decode()}


def read_handshake(vector: Vector) -> dict[str, Any]:
    """A handshake's request or response, and what follows it."""
    buffer = RecordBuffer()
    buffer.append(vector.data)
    record = buffer.take_text(None)
    if record is None:
        return {"incomplete": True}
    rest = vector.data[len(vector.data) - len(buffer) :].decode()
    behind = {"remaining": rest} if rest else {}
    if vector.id.startswith("hs-res"):
        return {"type": "handshakeResponse", "error": response_error(record), **behind}
    name, version = handshake.parse_request(record)
    return {"type": "handshakeRequest", "protocol": name, "version": version, **behind}


def response_error(record: bytes) -> str | None:
    """The error of a handshake response."""
    try:
        handshake.parse_response(record)
    except HubError as error:
        return str(error).removeprefix("Unable to complete handshake with the server due to an error: ")
    return None


def read_negotiation(vector: Vector) -> dict[str, Any]:
    """A server's answer to a negotiation."""
    response = _negotiate.decode_response(vector.data)
    transports = response.available_transports
    return {
        "version": response.negotiate_version,
        "connectionId": response.connection_id,
        "connectionToken": response.connection_token,
        "url": response.url,
        "accessToken": response.access_token,
        "availableTransports": None
        if transports is UNSET
        else [
            {"transport": offered.transport, "transferFormats": list(offered.transfer_formats)}
            for offered in transports
        ],
        "error": response.error,
        "useStatefulReconnect": response.use_stateful_reconnect,
    }


def write(vector: Vector) -> bytes:
    """What we write for the vector's message."""
    message = vector.message
    assert message is not UNSET
    match vector.protocol:
        case "handshake" if message["type"] == "handshakeRequest":
            return handshake.request(message["protocol"], message["version"])
        case "handshake":
            return handshake.response(message["error"])
        case "sse":
            return _sse.encode_event(message["payload"].encode())
        case "negotiate" if message["error"] is not None:
            return _negotiate.encode_error(message["error"])
        case "negotiate":
            return _negotiate.encode_response(
                message["version"],
                message["connectionId"],
                message["connectionToken"],
                [
                    _negotiate.AvailableTransport(offered["transport"], tuple(offered["transferFormats"]))
                    for offered in message["availableTransports"] or ()
                ],
                use_stateful_reconnect=message["useStatefulReconnect"],
            )
    form = _vectors.normal(message) if vector.raw_message else message
    return CODECS[vector.protocol].encode(_vectors.message_of(form))
