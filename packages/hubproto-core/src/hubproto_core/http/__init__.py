"""HTTP and WebSockets without I/O: what stands between sockets and hub sessions, for servers and for clients."""

from ._access_token import AccessToken, TokenProvider
from ._admission import AccessDenied, Authenticator
from ._app import AsgiApplication, Moment, SocketInfo
from ._asgi import AsgiMachine, AsgiMessage, AsgiRequest, AsgiWebSocket, asgi_machine
from ._client import HubClient
from ._client_options import ClientOptions
from ._client_socket import ClientEffect, ClientSocket, Obstacle, OpenSocket
from ._cors import AllowedOrigins, Cors
from ._endpoint import Endpoint, EndpointConfig, WebSocketAccepted
from ._exchange import Exchange
from ._machine import SocketMachine
from ._messages import Request, Response
from ._server import HubServer, Mount
from ._server_connection import HttpConfig, HttpServerConnection
from ._tunnel import Tunnel
from ._websocket import WebSocketTransport

__all__ = [
    "AccessDenied",
    "AccessToken",
    "AllowedOrigins",
    "AsgiApplication",
    "AsgiMachine",
    "AsgiMessage",
    "AsgiRequest",
    "AsgiWebSocket",
    "Authenticator",
    "ClientEffect",
    "ClientOptions",
    "ClientSocket",
    "Cors",
    "Endpoint",
    "EndpointConfig",
    "Exchange",
    "HttpConfig",
    "HttpServerConnection",
    "HubClient",
    "HubServer",
    "Moment",
    "Mount",
    "Obstacle",
    "OpenSocket",
    "Request",
    "Response",
    "SocketInfo",
    "SocketMachine",
    "TokenProvider",
    "Tunnel",
    "WebSocketAccepted",
    "WebSocketTransport",
    "asgi_machine",
]
