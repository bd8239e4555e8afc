"""`ClientOptions`: how a client reaches its hub; `Route`: all that its attempts to do so have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult

from .._client_session import Handlers
from .._codecs import Codec
from .._config import HubConfig
from .._reconnect import RetryPolicy
from .._transport import Transport
from ._access_token import AccessToken
from ._client_socket import Reach

__all__ = ["ClientOptions", "Route"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientOptions:
    """How a client reaches its hub."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""

    access_token: AccessToken | None = None
    """Sent as a bearer token with every request; or who is asked for it before each attempt to connect, and once more
    when the server answers 401."""

    transports: Collection[Transport] = tuple(Transport)
    """What may carry the connection. The server says in which order they are tried (SPEC 4.2.7)."""

    skip_negotiation: bool = False
    """Open the WebSocket at once: one round trip less, but no redirects (SPEC 4.2.7)."""

    proxy: str | None = field(default=None, repr=False)
    """The HTTP proxy that all connections go through: http://user:password@host:port; "env" for what HTTP_PROXY,
    HTTPS_PROXY, ALL_PROXY and NO_PROXY say; None for none."""

    connect_timeout: float = 30.0
    """Seconds from the start of an attempt until the hub's handshake must be done. A transport that might be replaced
    by another has its share of them until the server must have accepted it."""

    reconnect: RetryPolicy | None = None
    """When to try again after the connection was lost; None for never (SPEC 5.10)."""

    call_headers: Callable[[], Mapping[str, str]] | None = None
    """Asked at every call, in the context of who calls, for the headers of its message (SPEC 2.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Where a client wants to go, and how: what all of its attempts have in common.

    `entropy(n)` returns n random bytes; `shown_url` is the target for messages, without secrets.
    """

    target: SplitResult
    shown_url: str
    options: ClientOptions
    config: HubConfig
    codec: Codec
    handlers: Handlers
    entropy: Callable[[int], bytes]
    reach: Reach
