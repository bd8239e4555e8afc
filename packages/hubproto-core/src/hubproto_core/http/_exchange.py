"""The contract between a connection and whoever speaks HTTP with its client: one request, answered sooner or later."""

from __future__ import annotations

from typing import Protocol

from ._messages import Response

__all__ = ["Exchange"]


class Exchange(Protocol):
    """What becomes of one request.

    Its host, a socket's machine or an ASGI application, hands over the body of the request while `want_read`, and then
    that it is complete. It sends first the `response`, when there is one, then `data_to_send`, until the exchange is
    `finished`. `Wake(host)` says that it is to look again; it calls `handle_timeout` at `next_timeout`, and at each
    wake while the client takes nothing.
    """

    @property
    def host(self) -> object: ...
    @property
    def finished(self) -> bool:
        """Nothing follows what `response` and `data_to_send` have returned."""

    @property
    def goes_on(self) -> bool:
        """Its client has more to ask or to say afterwards: during a shutdown, too, its socket is kept for that."""

    @property
    def farewell_timeout(self) -> float:
        """Seconds that the socket is then kept for."""

    @property
    def want_read(self) -> bool:
        """More of the request's body is welcome."""

    def receive_data(self, data: bytes, *, now: float) -> None:
        """A piece of the request's body has come."""

    def receive_end(self, *, now: float) -> None:
        """The request's body is complete."""

    def receive_eof(self, *, now: float) -> None:
        """The client has gone away: nobody can be answered."""

    def response(self, *, now: float) -> Response | None:
        """Return the answer's head with the beginning of its body, as soon as it is known; the same at every time."""

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget what follows of the answer's body."""

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing.

        Where the exchange is `finished` then, the client takes nothing any more: the socket is to be closed.
        """
