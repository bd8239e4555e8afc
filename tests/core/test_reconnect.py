"""When a client tries again: the usual policy, asked step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hubproto_core import ReconnectPolicy, Retry, retry_policy


def delays(policy: ReconnectPolicy, up_to: int = 10, random: float = 0.5) -> list[float | None]:
    """What the policy answers until it gives up, if each attempt fails at once."""
    answers: list[float | None] = []
    elapsed = 0.0
    for count in range(up_to):
        delay = policy(Retry(count=count, elapsed=elapsed, reason=None, random=random))
        answers.append(delay)
        if delay is None:
            break
        elapsed += delay
    return answers


def test_the_reference_s_delays() -> None:
    assert delays(ReconnectPolicy()) == [0, 2, 10, 30, None]


def test_own_delays_and_no_more() -> None:
    assert delays(ReconnectPolicy(delays=[1, 120])) == [1, 120, None]


def test_fewer_attempts_than_delays() -> None:
    assert delays(ReconnectPolicy(max_attempts=2)) == [0, 2, None]
    assert delays(ReconnectPolicy(max_attempts=0)) == [None]


def test_further_delays_grow_up_to_a_limit() -> None:
    policy = ReconnectPolicy(delays=[0, 3], max_attempts=math.inf, growth=2.0, max_delay=20)
    assert delays(policy, 6) == [0, 3, 6, 12, 20, 20]
    assert policy(Retry(count=100_000, elapsed=0, reason=None, random=0)) == 20
    assert delays(ReconnectPolicy(delays=[0], max_attempts=4, growth=3)) == [0, 3, 9, 27, None]


def test_a_limit_below_the_given_delays_does_not_shorten_them() -> None:
    assert delays(ReconnectPolicy(delays=[50], max_attempts=3, max_delay=5)) == [50, 50, 50, None]


def test_a_limit_in_time() -> None:
    policy = ReconnectPolicy(delays=[10], max_attempts=math.inf, growth=1, max_elapsed=30)
    assert delays(policy) == [10, 10, 10, None]


@pytest.mark.parametrize(("random", "expected"), [(0.0, 3.0), (0.5, 4.0), (0.75, 4.5)])
def test_chance_spreads_the_delays(random: float, expected: float) -> None:
    policy = ReconnectPolicy(delays=[4], jitter=0.25)
    assert policy(Retry(count=0, elapsed=0, reason=None, random=random)) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"delays": []},
        {"delays": [1, -1]},
        {"delays": [math.nan]},
        {"growth": 0.5},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"max_attempts": -1},
        {"max_delay": math.nan},
        {"max_elapsed": -1},
    ],
)
def test_numbers_that_make_no_sense(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"ReconnectPolicy.{name} must"):
        ReconnectPolicy(**settings)


def test_what_reconnect_may_be() -> None:
    def own(retry: Retry) -> float | None:
        return 7.0

    assert retry_policy(False) is None
    assert retry_policy(True) == ReconnectPolicy()
    assert retry_policy(own) is own
