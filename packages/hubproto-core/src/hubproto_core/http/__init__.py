"""HTTP and WebSockets without I/O: what stands between sockets and hub sessions, for servers and for clients."""

from ._admission import AccessDenied, Authenticator
from ._asgi import AsgiMachine, AsgiMessage, AsgiRequest, AsgiWebSocket, asgi_machine
from ._client import ClientEffect, ClientOptions, ClientSocket, HubClient, OpenSocket
from ._endpoint import Endpoint, EndpointConfig, WebSocketAccepted
from ._exchange import Exchange
from ._machine import SocketMachine
from ._messages import Request, Response
from ._server import HubServer, Mount
from ._server_connection import HttpConfig, HttpServerConnection
from ._websocket import WebSocketTransport

__all__ = [
    "AccessDenied",
    "AsgiMachine",
    "AsgiMessage",
    "AsgiRequest",
    "AsgiWebSocket",
    "Authenticator",
    "ClientEffect",
    "ClientOptions",
    "ClientSocket",
    "Endpoint",
    "EndpointConfig",
    "Exchange",
    "HttpConfig",
    "HttpServerConnection",
    "HubClient",
    "HubServer",
    "Mount",
    "OpenSocket",
    "Request",
    "Response",
    "SocketMachine",
    "WebSocketAccepted",
    "WebSocketTransport",
    "asgi_machine",
]
