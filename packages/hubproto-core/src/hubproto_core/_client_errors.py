"""Why a client has no connection: each reason its own exception, whose text says where, what, and what to try."""

from __future__ import annotations

from typing import ClassVar

from ._errors import HubError, TransportError

__all__ = [
    "ConnectTimeout",
    "ConnectionFailed",
    "ConnectionRefused",
    "Forbidden",
    "HandshakeRefused",
    "HostNotFound",
    "LegacyServer",
    "NoCommonTransport",
    "NotAHub",
    "NotConnected",
    "ProtocolNotSupported",
    "ProxyFailed",
    "ReconnectFailed",
    "ServerGone",
    "TlsFailed",
    "TokenFailed",
    "Unauthorized",
    "handshake_refused",
]


class ConnectionFailed(TransportError):
    """There is no connection to the hub at `url` (for messages: without the query, which may be secret)."""

    advice: ClassVar[str] = ""
    """What to try."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(url, what)
        self.url: str = url
        self.what: str = what
        """What has happened, with the URL in it."""

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what


class ConnectionRefused(ConnectionFailed):
    """Nobody listens at this host and port."""

    advice = "is the server running, and is it the right port?"


class HostNotFound(ConnectionFailed):
    """The name of the host has no address."""

    advice = "is the name of the host right, and is there a network?"


class ProxyFailed(ConnectionFailed):
    """The proxy cannot be reached, or does not lead to the server. `proxy` is its host:port, without a password."""

    def __init__(self, url: str, what: str, *, proxy: str) -> None:
        super().__init__(url, what)
        self.proxy: str = proxy


class TlsFailed(ConnectionFailed):
    """There is no encryption that both sides trust."""

    advice = "does the server speak TLS at this port? `ssl_context` decides whom to trust"


class NotAHub(ConnectionFailed):
    """What answers at this address is no SignalR hub."""

    advice = "is it the address of a SignalR hub?"


class LegacyServer(ConnectionFailed):
    """The server speaks the protocol of ASP.NET SignalR, the predecessor, which is another one (SPEC 4.2.6)."""

    advice = "only ASP.NET Core SignalR can be talked to"


class Unauthorized(ConnectionFailed):
    """The server wants to know who this is: status 401."""

    advice = "it wants a (valid) access token"


class Forbidden(ConnectionFailed):
    """The server knows who this is, and says no: status 403."""

    advice = "the access token does not give access"


class NoCommonTransport(ConnectionFailed):
    """The server offers no transport that this client may use, and that carries its encoding."""

    advice = "None of the transports supported by the client are supported by the server."


class ConnectTimeout(ConnectionFailed):
    """No connection was made within `ClientOptions.connect_timeout`."""

    advice = "is the server overloaded, or something in between dropping packets?"


class TokenFailed(ConnectionFailed):
    """The access-token provider raised, or gave something that no header can carry. Its error is the `__cause__`."""


class ServerGone(ConnectionFailed):
    """A connection that was made has broken."""

    advice = "did the server stop? With `reconnect=True` the client comes back by itself"


class ReconnectFailed(ConnectionFailed):
    """The connection was lost, and could not be made again. The last failure is the `__cause__`."""


class NotConnected(ConnectionFailed):
    """There is no connection at the moment, and the client is busy to make one: wait for it and call again."""


class HandshakeRefused(HubError):
    """The server refused the hub's handshake: its text, and the URL."""


class ProtocolNotSupported(HandshakeRefused):
    """The server does not speak the encoding that this client wants."""


def handshake_refused(url: str, error: HubError, protocol: str) -> HandshakeRefused:
    """Return what a client says of a refused handshake, in which the reference's text stays readable."""
    text = f"{error} ({url})"
    if "protocol" not in str(error) or "is not supported" not in str(error):
        return HandshakeRefused(text)
    other = "messagepack" if protocol == "json" else "json"
    return ProtocolNotSupported(f"{text}; does it speak {other!r}, or is a package of the server's missing?")
