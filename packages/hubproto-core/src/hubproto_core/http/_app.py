"""An ASGI application that somebody else has written, as the core sees it: a call, and what it can wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .._effects import EffectSink
from .._running import Waiter

__all__ = ["AppHost", "AsgiApplication", "Moment", "SocketInfo"]

AsgiApplication = Callable[[Any, Any, Any], Awaitable[None]]
"""What takes `scope`, `receive` and `send` of ASGI 3; frameworks have types of their own for these."""

Address = tuple[str, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketInfo:
    """What an application may want to know of the socket on which it was asked, as ASGI writes it."""

    scheme: str = "http"
    """"https" over TLS."""

    client: Address | None = None
    """Address and port of the peer; None where it has none, as at a Unix socket."""

    server: Address | None = None
    """Address and port that were connected to, or the path of a Unix socket and None."""


class AppHost(Protocol):
    """What a call of the application needs from whoever serves it."""

    @property
    def effects(self) -> EffectSink: ...
    @property
    def waiter(self) -> Waiter: ...

    def wake(self, target: object) -> None:
        """Whoever waits for it looks again."""

    def call_ended(self, call: object) -> None:
        """The application has returned from this call."""


class Moment:
    """Something that the application waits for, a `Pending`: it is there when `is_there` says so, and then taken."""

    __slots__ = ("_is_there", "_take")

    def __init__(self, is_there: Callable[[], bool], take: Callable[[], Any]) -> None:
        self._is_there = is_there
        self._take = take

    @property
    def done(self) -> bool:
        """It is there."""
        return self._is_there()

    def outcome(self) -> Any:
        """Take it."""
        return self._take()

    def abandon(self) -> None:
        """Others may still wait for it."""
