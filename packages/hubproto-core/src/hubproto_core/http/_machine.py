"""The contract between a machine that owns a socket and the pump that serves it."""

from __future__ import annotations

from typing import Protocol

from .._errors import HubProtoError

__all__ = ["SocketMachine"]


class SocketMachine(Protocol):
    """The verbs of `HttpServerConnection` and `ClientSocket`.

    A pump feeds what it reads, while `want_read`, to `receive_data`; the end of it to `receive_eof`, and that the
    socket is closed too. It writes `data_to_send()` whenever the machine is woken and the socket takes it, calls
    `handle_timeout` at `next_timeout()`, and at each wake while the socket takes nothing. When the machine is
    `finished` it closes the socket as soon as what is left to write has been taken, or `next_timeout()` is past, or
    None. Calling any of them once too often is harmless.
    """

    @property
    def finished(self) -> bool: ...
    @property
    def want_read(self) -> bool: ...
    def receive_data(self, data: bytes, *, now: float) -> None: ...
    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def data_to_send(self, *, now: float) -> bytes: ...
    def next_timeout(self) -> float | None: ...
