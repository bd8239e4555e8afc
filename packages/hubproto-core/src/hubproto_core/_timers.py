"""The deadlines of one machine, of which only the earliest is the shell's business."""

from __future__ import annotations

from enum import Enum

__all__ = ["Timer", "TimerTable"]


class Timer(Enum):
    """What can fall due on a connection."""

    HANDSHAKE = "handshake"
    KEEP_ALIVE = "keep-alive"
    SILENCE = "silence"
    ACK = "ack"
    RESUME = "resume"
    CLOSE = "close"
    SHUTDOWN = "shutdown"
    EXPIRY = "expiry"
    RECONNECT = "reconnect"
    TRANSPORT = "transport"


class TimerTable:
    """Deadlines by name, in seconds of whatever clock `now` is taken from."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}

    def arm(self, timer: Timer, deadline: float) -> None:
        self._deadlines[timer] = deadline

    def disarm(self, timer: Timer) -> None:
        self._deadlines.pop(timer, None)

    def clear(self) -> None:
        self._deadlines.clear()

    def armed(self, timer: Timer) -> bool:
        return timer in self._deadlines

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        return min(self._deadlines.values()) if self._deadlines else None

    def expire(self, now: float) -> list[Timer]:
        """Disarm and return what is due, the earliest first."""
        due = sorted((deadline, timer.value) for timer, deadline in self._deadlines.items() if deadline <= now)
        expired = [Timer(value) for _, value in due]
        for timer in expired:
            del self._deadlines[timer]
        return expired
