"""The handshake: one JSON record each way, whatever the encoding that it agrees on (SPEC 1.4)."""

from __future__ import annotations

import re

import msgspec

from ._codecs._json_text import check_text, read_members
from ._errors import HubError, RemoteProtocolError
from ._framing import RECORD_SEPARATOR

__all__ = ["parse_request", "parse_response", "request", "response"]

CANCELED = "Handshake was canceled."
_MAX_DEPTH = 64
FAILED = "An unexpected error occurred during connection handshake."

_FIRST_VALUE = re.compile(rb"\s*\{")
_decode_string = msgspec.json.Decoder(str).decode


def request(protocol: str, version: int) -> bytes:
    """Return the record with which a client begins."""
    return msgspec.json.encode({"protocol": protocol, "version": version}) + RECORD_SEPARATOR


def response(error: str | None = None) -> bytes:
    """Return the record with which a server answers; an error ends the connection."""
    return msgspec.json.encode({} if error is None else {"error": error}) + RECORD_SEPARATOR


def parse_request(record: bytes) -> tuple[str, int]:
    """Return protocol and version. Raises `RemoteProtocolError` with the reference's local text (SPEC 1.4.1)."""
    members = read_members(check_text(_first_object(record), _MAX_DEPTH))
    text = record.decode("utf-8", "replace")
    protocol = _string(members.get("protocol"), "protocol")
    version = members.get("version")
    if version is not None:
        value = bytes(version)
        if value == b"null":
            version = None
        elif value[:1] not in b"-0123456789":
            raise RemoteProtocolError("Expected 'version' to be of type Number.")
    if protocol is None:
        raise RemoteProtocolError(f"Missing required property 'protocol'. Message content: {text}")
    if version is None:
        raise RemoteProtocolError(f"Missing required property 'version'. Message content: {text}")
    try:
        number = int(bytes(version)[:32])
    except ValueError:
        number = 2**31
    if not -(2**31) <= number < 2**31:
        raise RemoteProtocolError(
            "Either the JSON value is not in a supported format, or is out of bounds for an Int32.",
            kind="FormatException",
        )
    return protocol, number


def parse_response(record: bytes) -> None:
    """Accept a server's answer. Raises `HubError` with the server's text, or `RemoteProtocolError` (SPEC 1.4.3)."""
    members = read_members(check_text(_first_object(record), _MAX_DEPTH))
    if "type" in members:
        raise RemoteProtocolError("Expected a handshake response from the server.")
    error = _string(members.get("error"), "error")
    if error is not None:
        raise HubError(f"Unable to complete handshake with the server due to an error: {error}")


def _string(value: msgspec.Raw | None, name: str) -> str | None:
    if value is None:
        return None
    if bytes(value)[:1] != b'"':
        raise RemoteProtocolError(f"Expected '{name}' to be of type String.")
    return _decode_string(value)


def _first_object(record: bytes) -> bytes:
    """Cut off what follows the first object: the reference reads one value and ignores the rest of the record."""
    if not _FIRST_VALUE.match(record):
        return record
    depth = 0
    for token in _STRUCTURE.finditer(record):
        if token[0] == b"{" or token[0] == b"[":
            depth += 1
        elif token[0] == b"}" or token[0] == b"]":
            depth -= 1
            if depth == 0:
                return record[: token.end()]
    return record


_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
