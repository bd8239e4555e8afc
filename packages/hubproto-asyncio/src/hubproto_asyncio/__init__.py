"""hubproto for asyncio: serve SignalR hubs, and call them."""

from hubproto_core import (
    Call,
    Clients,
    Hub,
    HubConfig,
    HubError,
    HubProtoError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    Upload,
)
from hubproto_core.http import HttpConfig

from ._client import Connection, Stream, connect
from ._server import Server, serve

__all__ = [
    "Call",
    "Clients",
    "Connection",
    "HttpConfig",
    "Hub",
    "HubConfig",
    "HubError",
    "HubProtoError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "Server",
    "Stream",
    "TransportError",
    "Upload",
    "connect",
    "serve",
]
