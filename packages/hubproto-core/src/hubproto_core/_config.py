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

    ack_interval: float = 1.0
    """Seconds between two acknowledgements of what has arrived, with stateful reconnect (SPEC 4.7.5)."""

    resume_window: float = 15.0
    """Seconds that a stateful connection lives without a transport, and that a negotiated id waits for its connection:
    DisconnectTimeout of a server (SPEC 4.7.7, 4.8)."""

    shutdown_timeout: float = 5.0
    """Seconds that running calls have to end when the server shuts down (SPEC 3.11, 4.8)."""

    max_message_size: int | None = 32768
    """Largest message accepted, framing included; None is no limit (SPEC 1.5). Clients accept any size by default."""

    max_handshake_size: int = 32768
    """Largest handshake request or response accepted, framing included; `max_message_size` holds too (SPEC 1.4.2)."""

    max_depth: int = 64
    """Levels of arrays and objects that may be nested in each other in one message (SPEC appendix A)."""

    max_arguments: int = 1024
    """Arguments of one call. A call with more is an `InvocationBindingFailure`; the connection lives."""

    max_headers: int = 64
    """Headers of one message. More end the connection."""

    max_header_size: int = 16384
    """Bytes (UTF-8) of all names and values of one message's headers. More end the connection."""

    max_id_length: int = 1024
    """Characters of an invocation's or a stream's id. More end the connection."""

    max_open_calls: int = 1024
    """Calls of the peer's, streaming or not, that wait for their completion; those without id wait for none. A call
    beyond is answered with an error; the connection lives."""

    max_open_streams: int = 1024
    """Uploads of the peer's that have been announced and have not ended. (What we stream to it are calls.) A call that
    announces more is answered with an error, if it has an id, and its items are dropped; the connection lives."""

    max_parallel_calls: int = 1
    """Plain calls of one client that run side by side; streams and uploads do not count (SPEC 3.9)."""

    stream_buffer: int = 10
    """Items of one incoming stream held for a reader that is slower than its writer (SPEC 3.8); at a client also
    calls of the server held for a slower handler. A client reads on while somebody waits for another message."""

    stream_buffer_limit: int = 10_000
    """Items or calls beyond which a client's reading stops whoever else waits for a message."""

    replay_buffer: int = 100_000
    """Bytes that may be on their way unacknowledged with stateful reconnect, StatefulReconnectBufferSize: the message
    that passes this is still written, the next ones wait for an Ack (SPEC 4.7.3). Where Acks may have been lost with
    transports, one message more is written over each new one, until these make more than a tenth of this."""

    send_buffer: int = 65536
    """Bytes waiting for the socket, or for an Ack, above which our streams and uploads pause
    (SPEC 4.8, TransportMaxBufferSize)."""

    send_limit: int = 16 * 1024 * 1024
    """Bytes waiting for the socket, or for an Ack, above which the connection is given up, and they are forgotten: its
    reader is too slow (SPEC 3.14)."""

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            if not getattr(self, name) > 0:
                raise ValueError(f"HubConfig.{name} must be positive, not {getattr(self, name)!r} seconds")
        for name in _LIMITS:
            if getattr(self, name) < 1:
                raise ValueError(f"HubConfig.{name} must be at least 1, not {getattr(self, name)!r}")
        if self.max_message_size is not None and self.max_message_size < 1:
            raise ValueError(f"HubConfig.max_message_size must be at least 1 or None, not {self.max_message_size!r}")


_DURATIONS = (
    "handshake_timeout",
    "keep_alive_interval",
    "silence_timeout",
    "close_timeout",
    "ack_interval",
    "resume_window",
)
_LIMITS = (
    "max_handshake_size",
    "max_depth",
    "max_arguments",
    "max_headers",
    "max_header_size",
    "max_id_length",
    "max_open_calls",
    "max_open_streams",
    "max_parallel_calls",
    "stream_buffer",
    "stream_buffer_limit",
    "replay_buffer",
    "send_buffer",
    "send_limit",
)
