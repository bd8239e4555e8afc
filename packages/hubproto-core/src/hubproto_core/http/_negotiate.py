"""Negotiation: which connection, which transports (SPEC 4.2), as text and back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .._client_errors import ConnectionFailed, LegacyServer, NotAHub
from .._codecs._json_reader import JsonReader, MalformedJson
from .._errors import RemoteProtocolError

__all__ = [
    "AvailableTransport",
    "NegotiateResponse",
    "asks_for_stateful_reconnect",
    "decode_response",
    "encode_error",
    "encode_response",
    "parse_response",
    "requested_version",
]

MAX_VERSION = 1
_MAX_DEPTH = 64
_LEGACY = "InvalidOperationException"  # the reference's name for an answer of ASP.NET SignalR; its others have another


class AvailableTransport(Struct, frozen=True, rename="camel"):
    """A transport that a server offers, with the formats it can carry: "Text", "Binary"."""

    transport: str
    transfer_formats: tuple[str, ...]


class NegotiateResponse(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A server's answer, its members in the reference's order. An `error` stands alone."""

    use_stateful_reconnect: bool = False
    negotiate_version: int | UnsetType = UNSET
    url: str | None = None
    access_token: str | None = None
    connection_id: str | None = None
    connection_token: str | None = None
    available_transports: tuple[AvailableTransport, ...] | UnsetType = UNSET
    error: str | None = None

    @property
    def token(self) -> str | None:
        """What identifies the connection in every further request."""
        return self.connection_token if self.negotiate_version else self.connection_id


def requested_version(query: dict[str, str]) -> int:
    """Return the version to answer with. Raises ValueError, its text for the client, for what is no version."""
    raw = query.get("negotiateversion")
    if raw is None:
        return 0
    try:
        version = int(raw[:32])
    except ValueError:
        version = None
    if version is None or not -(2**31) <= version < 2**31:
        raise ValueError("The client requested a non-integer protocol version.")
    if version < 0:
        raise ValueError(f"The client requested version '{version}', but the server does not support this version.")
    return min(version, MAX_VERSION)


def asks_for_stateful_reconnect(query: dict[str, str]) -> bool:
    """Whether the client wants it: "true", in any case and with any space around, is what .NET takes for that."""
    return query.get("usestatefulreconnect", "").strip().lower() == "true"


def encode_response(
    version: int,
    connection_id: str | None,
    connection_token: str | None,
    transports: Sequence[AvailableTransport],
    *,
    use_stateful_reconnect: bool = False,
) -> bytes:
    """Return the body that reserves a connection."""
    return msgspec.json.encode(
        NegotiateResponse(
            use_stateful_reconnect=use_stateful_reconnect,
            negotiate_version=version,
            connection_id=connection_id,
            connection_token=connection_token if version > 0 else None,
            available_transports=tuple(transports),
        )
    )


def encode_error(error: str) -> bytes:
    """Return the body that refuses a connection; its status is 200 all the same."""
    return msgspec.json.encode({"error": error})


def parse_response(body: bytes, url: str) -> NegotiateResponse:
    """Read a server's answer (SPEC 4.2.6). Raises `ConnectionFailed` that says what is wrong with it."""
    try:
        response = decode_response(body)
    except MalformedJson as error:
        raise NotAHub(url, f"{url} answered the negotiation with something that is no JSON") from error
    except RemoteProtocolError as error:
        kind = LegacyServer if error.kind == _LEGACY else NotAHub
        raise kind(url, f"{url}: Invalid negotiation response received. {error}") from error
    if response.error is not None:
        raise ConnectionFailed(url, f"{url} refused the negotiation: {response.error}")
    return response


def decode_response(body: bytes) -> NegotiateResponse:
    """Return what a server answers. Raises `MalformedJson`, or `RemoteProtocolError` with the reference's words."""
    reader = JsonReader(body, _MAX_DEPTH, _NAMES)
    strings: dict[str, str] = {}
    version = 0
    use_stateful_reconnect = False
    transports: tuple[AvailableTransport, ...] | UnsetType = UNSET
    reader.read_object()
    while (name := reader.read_name()) is not None:
        if name in _STRINGS:
            strings[name] = reader.read_string(name)
        elif name == "negotiateVersion":
            version = reader.read_integer(name, 32) or 0
        elif name == "availableTransports":
            transports = _read_transports(reader)
        elif name == "useStatefulReconnect":
            use_stateful_reconnect = reader.read_boolean(name)
        elif name == "ProtocolVersion":
            raise RemoteProtocolError(
                "Detected a connection attempt to an ASP.NET SignalR Server. This client only supports connecting to "
                "an ASP.NET Core SignalR Server. See https://aka.ms/signalr-core-differences for details.",
                kind=_LEGACY,
            )
        else:
            reader.read()
            reader.skip()
    if "url" not in strings and "error" not in strings:
        for required in ("connectionId", "connectionToken") if version > 0 else ("connectionId",):
            if required not in strings:
                raise _required(required)
        if transports is UNSET:
            raise _required("availableTransports")
    return NegotiateResponse(
        use_stateful_reconnect=use_stateful_reconnect,
        negotiate_version=version,
        url=strings.get("url"),
        access_token=strings.get("accessToken"),
        connection_id=strings.get("connectionId"),
        connection_token=strings.get("connectionToken"),
        available_transports=transports,
        error=strings.get("error"),
    )


_STRINGS = frozenset({"url", "accessToken", "connectionId", "connectionToken", "error"})
_OTHERS = ("negotiateVersion", "availableTransports", "useStatefulReconnect", "ProtocolVersion")
_NAMES = [name.encode() for name in (*_STRINGS, *_OTHERS)]


def _read_transports(reader: JsonReader) -> tuple[AvailableTransport, ...]:
    """Read an array, of which the reference sees the objects only."""
    reader.read_array()
    transports: list[AvailableTransport] = []
    while (kind := reader.read()) != "EndArray":
        if kind == "StartObject":
            transports.append(_read_transport(reader))
        elif kind == "StartArray":
            raise RemoteProtocolError("Unexpected token 'EndArray' when reading negotiation response JSON.")
    return tuple(transports)


def _read_transport(reader: JsonReader) -> AvailableTransport:
    transport: str | None = None
    formats: list[str] | None = None
    while (name := reader.read_name()) is not None:
        if name == "transport":
            transport = reader.read_string(name)
        elif name == "transferFormats":
            reader.read_array()
            formats = []
            while (kind := reader.read()) != "EndArray":
                if kind != "String":
                    raise RemoteProtocolError(f"Unexpected token '{kind}' when reading transfer formats JSON.")
                formats.append(reader.text())
        else:
            reader.read()
            reader.skip()
    if transport is None:
        raise _required("transport")
    if formats is None:
        raise _required("transferFormats")
    return AvailableTransport(transport, tuple(formats))


def _required(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"Missing required property '{name}'.")
