"""`SendWatch`: notices a client that takes nothing of an answer (SPEC 4.4, 4.6, TransportSendTimeout)."""

from __future__ import annotations

__all__ = ["SendWatch"]


class SendWatch:
    """The time that one write may take.

    Nobody tells a machine that what it gave to be written has been taken. But whoever can write asks for more when
    woken: so that is tried when half of the time is over, and who has not asked at its end is stuck.
    """

    __slots__ = ("_deadline", "_timeout", "_tried")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline: float | None = None  # of the last write, if it is not known to have been taken
        self._tried = False

    def asked(self, size: int, *, is_last: bool = False, now: float) -> None:
        """All that was given before has been taken; now so many bytes are. Behind the last ones nobody asks again."""
        self._deadline = now + self._timeout if size else None
        self._tried = is_last

    def next_timeout(self) -> float | None:
        """When to call `must_try` and `is_stuck`, or None."""
        if self._deadline is None or self._tried:
            return self._deadline
        return self._deadline - self._timeout / 2

    def must_try(self, *, now: float) -> bool:
        """Whether it is time to wake whoever writes; True once for each write."""
        due = self.next_timeout()
        if due is None or self._tried or now < due:
            return False
        self._tried = True
        self._deadline = now + self._timeout / 2  # however late we are
        return True

    def is_stuck(self, *, now: float) -> bool:
        """Whether the last write has taken too long."""
        return self._tried and self._deadline is not None and now >= self._deadline
