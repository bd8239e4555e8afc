"""hubproto for trio: serve SignalR hubs, and call them."""

from hubproto_core import (
    ZERO_OFFSET,
    Call,
    Char,
    Clients,
    Codec,
    Hub,
    HubConfig,
    HubContext,
    HubError,
    HubProtoError,
    JsonCodec,
    LocalProtocolError,
    MessagePackCodec,
    RemoteProtocolError,
    Single,
    TransportError,
    Upload,
    wire_name,
)
from hubproto_core.http import HttpConfig

from ._client import Connection, Stream, connect
from ._server import Server, serve

__all__ = [
    "ZERO_OFFSET",
    "Call",
    "Char",
    "Clients",
    "Codec",
    "Connection",
    "HttpConfig",
    "Hub",
    "HubConfig",
    "HubContext",
    "HubError",
    "HubProtoError",
    "JsonCodec",
    "LocalProtocolError",
    "MessagePackCodec",
    "RemoteProtocolError",
    "Server",
    "Single",
    "Stream",
    "TransportError",
    "Upload",
    "connect",
    "serve",
    "wire_name",
]
