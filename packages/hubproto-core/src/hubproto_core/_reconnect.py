"""When a client that has lost its connection tries again (SPEC 5.10): the question, and the usual answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

__all__ = ["ReconnectPolicy", "Retry", "RetryPolicy", "retry_policy"]


class Retry(Struct, frozen=True, kw_only=True):
    """What a policy is asked about: the next attempt to connect again."""

    count: int
    """How many attempts have failed since the connection was lost: 0 at first."""

    elapsed: float
    """Seconds since the connection was lost."""

    reason: Exception | None
    """What ended the connection, or the last attempt; None if the server just closed it."""

    random: float
    """At least 0 and below 1, fresh for each question."""


RetryPolicy = Callable[[Retry], "float | None"]
"""Returns in how many seconds to try again, or None to give up. One that raises gives up, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconnectPolicy:
    """Wait longer after each failure, and give up in the end. The defaults are the reference's: 0, 2, 10, 30 s.

    Raises ValueError for numbers that make no sense.
    """

    delays: Sequence[float] = (0.0, 2.0, 10.0, 30.0)
    """Seconds to wait before the first attempts, one for each."""

    max_attempts: float | None = None
    """Give up after so many attempts, `math.inf` for never. None: as many as there are `delays`. Attempts beyond those
    wait `growth` times as long as the one before, up to `max_delay`."""

    growth: float = 2.0
    """By what the delays grow beyond the given ones."""

    max_delay: float = 60.0
    """Seconds that a grown delay does not exceed."""

    max_elapsed: float = math.inf
    """Seconds after the loss from which on nothing is tried any more."""

    jitter: float = 0.0
    """Which part of each delay is left to chance, so that not all clients of a server that is back come at once:
    with 0.25, from 75 % to 125 % of it."""

    def __post_init__(self) -> None:
        if not self.delays or not all(delay >= 0 for delay in self.delays):
            raise ValueError(f"ReconnectPolicy.delays must be some, and not negative, not {self.delays!r}")
        if not self.growth >= 1:
            raise ValueError(f"ReconnectPolicy.growth must be at least 1, not {self.growth!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"ReconnectPolicy.jitter must be from 0 to 1, not {self.jitter!r}")
        for name in ("max_attempts", "max_delay", "max_elapsed"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"ReconnectPolicy.{name} must not be negative, not {value!r}")

    def __call__(self, retry: Retry) -> float | None:
        """Return in how many seconds to try again, or None to give up."""
        attempts = len(self.delays) if self.max_attempts is None else self.max_attempts
        if retry.count >= attempts:
            return None
        delay = self._delay(retry.count) * (1 + self.jitter * (2 * retry.random - 1))
        return delay if retry.elapsed + delay <= self.max_elapsed else None

    def _delay(self, count: int) -> float:
        if count < len(self.delays):
            return self.delays[count]
        last = self.delays[-1] or 1.0  # nothing would never grow
        try:
            grown = last * self.growth ** (count - len(self.delays) + 1)
        except OverflowError:
            grown = math.inf
        return min(grown, max(self.max_delay, self.delays[-1]))


def retry_policy(reconnect: bool | RetryPolicy) -> RetryPolicy | None:
    """Return what `reconnect=` means: False is no policy, True the default one, a policy itself."""
    if isinstance(reconnect, bool):
        return ReconnectPolicy() if reconnect else None
    return reconnect
