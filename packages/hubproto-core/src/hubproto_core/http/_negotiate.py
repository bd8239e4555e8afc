"""Negotiation: which connection, which transports (SPEC 4.2), as text and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .._errors import TransportError

__all__ = [
    "AvailableTransport",
    "NegotiateResponse",
    "encode_error",
    "encode_response",
    "parse_response",
    "requested_version",
]

MAX_VERSION = 1


class AvailableTransport(Struct, frozen=True, rename="camel"):
    """A transport that a server offers, with the formats it can carry: "Text", "Binary"."""

    transport: str
    transfer_formats: tuple[str, ...]


class NegotiateResponse(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A server's answer, its members in the reference's order."""

    negotiate_version: int | UnsetType = UNSET
    url: str | None = None
    access_token: str | None = None
    connection_id: str | None = None
    connection_token: str | None = None
    available_transports: tuple[AvailableTransport, ...] | UnsetType = UNSET

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


def encode_response(
    version: int, connection_id: str, connection_token: str, transports: Sequence[AvailableTransport]
) -> bytes:
    """Return the body that reserves a connection."""
    return msgspec.json.encode(
        NegotiateResponse(
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
    """Read a server's answer (SPEC 4.2.6). Raises `TransportError` that says what is wrong with it."""
    try:
        members: Any = msgspec.json.decode(body)
        if not isinstance(members, dict):
            raise TransportError(f"{url} answered the negotiation with JSON that is no object")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TransportError(
            f"{url} answered the negotiation with something that is no JSON; is it the address of a SignalR hub?"
        ) from error
    if "ProtocolVersion" in members:
        raise TransportError(
            f"{url}: Detected a connection attempt to an ASP.NET SignalR Server. This client only supports connecting "
            "to an ASP.NET Core SignalR Server. See https://aka.ms/signalr-core-differences for details."
        )
    if members.get("error"):
        raise TransportError(f"{url} refused the negotiation: {members['error']}")
    try:
        response = msgspec.convert(members, NegotiateResponse)
    except msgspec.ValidationError as error:
        raise TransportError(f"{url}: Invalid negotiation response received. {error}") from error
    if response.url is None:
        for name, value in (("connectionId", response.connection_id), ("connectionToken", response.token)):
            if value is None:
                raise TransportError(
                    f"{url}: Invalid negotiation response received. Missing required property '{name}'."
                )
        if response.available_transports is UNSET:
            raise TransportError(
                f"{url}: Invalid negotiation response received. Missing required property 'availableTransports'."
            )
    return response
