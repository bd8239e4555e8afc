"""What a session asks of the shell that runs it; a new kind of effect must fail type checking in both shells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ._running import RunningCall

__all__ = ["CancelCall", "Effect", "EffectQueue", "EffectSink", "StartCall", "Wake"]


# The collector must see effects (no gc=False): an error keeps the frames in which it was raised, and with them the
# effect that was being carried out there, which leads back to the error.


class StartCall(Struct, frozen=True):
    """Run this call, and report its outcome to its session."""

    call: RunningCall


class CancelCall(Struct, frozen=True):
    """Cancel this call by the runtime's own means; its outcome is still reported."""

    call: RunningCall


class Wake(Struct, frozen=True):
    """Whoever waits for `target` looks again: a reader, a caller, a sender, or the pump of a socket."""

    target: object


Effect = StartCall | CancelCall | Wake

E = TypeVar("E")


class EffectSink(Protocol):
    """Where a session puts its effects."""

    def append(self, effect: Effect) -> None: ...


class EffectQueue(Generic[E]):
    """Effects in order, of one session or of all sessions of a server.

    `doorbell`, set by the shell, is called when the queue stops being empty, possibly in the middle of a command: it
    must only see to it that the shell takes the effects soon.
    """

    __slots__ = ("_effects", "doorbell")

    def __init__(self) -> None:
        self._effects: deque[E] = deque()
        self.doorbell: Callable[[], None] | None = None

    def append(self, effect: E) -> None:
        """Add one effect."""
        self._effects.append(effect)
        if self.doorbell is not None and len(self._effects) == 1:
            self.doorbell()

    def take(self) -> E | None:
        """Return the next effect, or None."""
        return self._effects.popleft() if self._effects else None
