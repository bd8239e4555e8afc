"""`Pace`: how long a peer may still take with a body that it is sending."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """A deadline that recedes with each byte, at `rate` bytes a second, but is never more than `patience` seconds away.

    So whoever sends faster may pause as long as that, and whoever is slower is given up in the end. While the body
    waits because nobody takes it, the clock stands still.
    """

    __slots__ = ("_left", "_patience", "_rate", "deadline")

    def __init__(self, rate: float, patience: float, *, now: float) -> None:
        self._rate = rate
        self._patience = patience
        self._left = patience  # when the clock stands still
        self.deadline: float | None = now + patience
        """When more must have come, or None while the clock stands still."""

    def receive(self, size: int, *, now: float) -> None:
        """So many bytes have come."""
        left = self._left if self.deadline is None else self.deadline - now
        self._left = min(left + size / self._rate, self._patience)
        if self.deadline is not None:
            self.deadline = now + self._left

    def run(self, wanted: bool, *, now: float) -> None:
        """More bytes are wanted, or not: let the clock run, or stop it."""
        if wanted and self.deadline is None:
            self.deadline = now + self._left
        elif not wanted and self.deadline is not None:
            self._left = self.deadline - now
            self.deadline = None
