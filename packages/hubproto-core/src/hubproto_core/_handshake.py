"""The handshake: one JSON record each way, whatever the encoding that it agrees on (SPEC 1.4)."""

from __future__ import annotations

import msgspec

from ._codecs._json_reader import JsonReader, MalformedJson
from ._codecs._json_text import dotnet_text
from ._errors import HubError, RemoteProtocolError
from ._framing import RECORD_SEPARATOR

__all__ = ["parse_request", "parse_response", "request", "response"]

CANCELED = "Handshake was canceled."
_MAX_DEPTH = 64
FAILED = "An unexpected error occurred during connection handshake."


def request(protocol: str, version: int) -> bytes:
    """Return the record with which a client begins."""
    return msgspec.json.encode({"protocol": protocol, "version": version}) + RECORD_SEPARATOR


def response(error: str | None = None) -> bytes:
    """Return the record with which a server answers; an error ends the connection."""
    return dotnet_text(msgspec.json.encode({} if error is None else {"error": error})) + RECORD_SEPARATOR


def parse_request(record: bytes) -> tuple[str, int]:
    """Return protocol and version. Raises `RemoteProtocolError` with the reference's local text (SPEC 1.4.1)."""
    try:
        protocol, version = _read_request(JsonReader(record, _MAX_DEPTH, (b"protocol", b"version")))
    except MalformedJson as error:
        raise _malformed() from error
    if protocol is None or version is None:
        missing = "protocol" if protocol is None else "version"
        content = record.decode("utf-8", "replace")
        raise RemoteProtocolError(f"Missing required property '{missing}'. Message content: {content}")
    return protocol, version


def parse_response(record: bytes) -> None:
    """Accept a server's answer. Raises `HubError` with the server's text, or `RemoteProtocolError` (SPEC 1.4.3)."""
    try:
        error = _read_response(JsonReader(record, _MAX_DEPTH, (b"type", b"error")))
    except MalformedJson as malformed:
        raise _malformed() from malformed
    if error is not None:
        raise HubError(f"Unable to complete handshake with the server due to an error: {error}")


def _read_request(reader: JsonReader) -> tuple[str | None, int | None]:
    protocol: str | None = None
    version: int | None = None
    reader.read_object()
    while (name := reader.read_name()) is not None:
        if name == "protocol":
            protocol = reader.read_string(name)
        elif name == "version":
            version = reader.read_integer(name, 32)
        else:
            reader.read()
            reader.skip()
    return protocol, version


def _read_response(reader: JsonReader) -> str | None:
    error: str | None = None
    reader.read_object()
    while (name := reader.read_name()) is not None:
        if name == "type":
            raise RemoteProtocolError("Expected a handshake response from the server.")
        if name == "error":
            error = reader.read_string(name)
        else:
            reader.read()
            reader.skip()
    return error


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError("Error reading JSON.", kind="JsonReaderException")
