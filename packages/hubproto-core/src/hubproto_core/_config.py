"""Every limit and every duration of a connection, with the defaults of ASP.NET Core (SPEC 3.1, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HubConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """Settings of one connection or of every connection of a hub. Durations are seconds, sizes are bytes."""

    detailed_errors: bool = False
    """Tell the peer the class and text of exceptions. They may hold secrets: for development only (SPEC 3.4)."""

    handshake_timeout: float = 15.0
    """Seconds until both sides must have agreed on a protocol (SPEC 1.4.2)."""

    keep_alive_interval: float = 15.0
    """Seconds between our pings (SPEC 3.12, 5.7)."""

    silence_timeout: float = 30.0
    """Seconds without a message after which the peer counts as gone: ClientTimeoutInterval of a server, serverTimeout
    of a client (SPEC 3.13, 5.7). Choose at least twice the peer's keep-alive interval."""

    close_timeout: float = 5.0
    """Seconds that the peer has to answer our close frame, and that a client's `close` may take (SPEC 4.3)."""

    shutdown_timeout: float = 5.0
    """Seconds that running calls have to end when the server shuts down (SPEC 3.11, 4.8)."""

    max_message_size: int | None = 32768
    """Largest message accepted, framing included; None is no limit (SPEC 1.5). Clients accept any size by default."""

    max_depth: int = 64
    """Levels of arrays and objects that may be nested in each other in one message (SPEC appendix A)."""

    max_parallel_calls: int = 1
    """Plain calls of one client that run side by side; streams and uploads do not count (SPEC 3.9)."""

    stream_buffer: int = 10
    """Items of one incoming stream held for a reader that is slower than its writer (SPEC 3.8); at a client also
    calls of the server held for a slower handler. A client reads on while somebody waits for another message."""

    stream_buffer_limit: int = 10_000
    """Items or calls beyond which a client's reading stops whoever else waits for a message."""

    send_buffer: int = 65536
    """Bytes waiting for the socket above which our streams and uploads pause (SPEC 4.8, TransportMaxBufferSize)."""

    send_limit: int = 16 * 1024 * 1024
    """Bytes waiting for the socket above which the connection is given up: its reader is too slow (SPEC 3.14)."""

    def __post_init__(self) -> None:
        for name in ("handshake_timeout", "keep_alive_interval", "silence_timeout", "close_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"HubConfig.{name} must be positive, not {getattr(self, name)!r} seconds")
        for name in (
            "max_depth",
            "max_parallel_calls",
            "stream_buffer",
            "stream_buffer_limit",
            "send_buffer",
            "send_limit",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"HubConfig.{name} must be at least 1, not {getattr(self, name)!r}")
        if self.max_message_size is not None and self.max_message_size < 1:
            raise ValueError(f"HubConfig.max_message_size must be at least 1 or None, not {self.max_message_size!r}")
