"""HTTP requests and responses as data, whoever parses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

__all__ = ["Request", "Response"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, but for its body.

    Header names are lower case; of repeated headers the values are joined by commas (of cookies by semicolons).
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show nothing that may hold a token, so that a request can be logged."""
        return f"<Request {self.method} {self.path}>"

    @property
    def path(self) -> str:
        """The path, without the query, its percent-encoding undone. The target may be a whole URL (RFC 9112, 3.2.2)."""
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        """The path, as it came."""
        path = self.target.partition("?")[0]
        return path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]

    @property
    def query_string(self) -> str:
        """The query, without its question mark."""
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        """The query's values by lower-case name; the last one of a name counts."""
        return {name.lower(): value for name, value in parse_qsl(self.query_string, keep_blank_values=True)}

    @property
    def access_token(self) -> str | None:
        """The bearer token of the Authorization header; of a GET, else the one in the query as `access_token`.

        Browsers cannot give a WebSocket or an EventSource headers, so their clients put it there (SPEC 4.3).
        """
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
        return self.query.get("access_token") if self.method == "GET" else None

    @property
    def wants_events(self) -> bool:
        """It asks for server-sent events, and that is no matter of preference (SPEC 4.1)."""
        return "text/event-stream" in [kind.strip().lower() for kind in self.headers.get("accept", "").split(",")]

    @property
    def wants_websocket(self) -> bool:
        """It asks for an upgrade to a WebSocket (RFC 6455, 4.2.1)."""
        return (
            self.method == "GET"
            and self.headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in [token.strip().lower() for token in self.headers.get("connection", "").split(",")]
        )


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    body: bytes = b""
    content_type: str | None = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    """More of them, whose names may be repeated."""
