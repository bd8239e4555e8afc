"""hubproto for asyncio: serve SignalR hubs, and call them."""

from hubproto_core import (
    ZERO_OFFSET,
    Authorization,
    Call,
    Char,
    Clients,
    Codec,
    Hub,
    HubConfig,
    HubError,
    HubProtoError,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    Principal,
    RemoteProtocolError,
    Single,
    TransportError,
    Upload,
    authenticated,
)
from hubproto_core.http import AccessDenied, HttpConfig, Request

from ._client import Connection, Stream, connect
from ._server import Server, serve

__all__ = [
    "ZERO_OFFSET",
    "AccessDenied",
    "Authorization",
    "Call",
    "Char",
    "Clients",
    "Codec",
    "Connection",
    "HttpConfig",
    "Hub",
    "HubConfig",
    "HubError",
    "HubProtoError",
    "JsonCodec",
    "LocalProtocolError",
    "MessagePackCodec",
    "Principal",
    "RemoteProtocolError",
    "Request",
    "Server",
    "Single",
    "Stream",
    "TransportError",
    "Upload",
    "authenticated",
    "connect",
    "serve",
]
