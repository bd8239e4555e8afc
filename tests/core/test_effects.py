"""The queue of effects."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from hubproto_core import CancelCall, Effect, EffectQueue, StartCall, Wake


def test_effects_leave_in_order() -> None:
    queue: EffectQueue[Effect] = EffectQueue()
    assert queue.take() is None
    queue.append(Wake("a"))
    queue.append(Wake("b"))
    assert [queue.take(), queue.take(), queue.take()] == [Wake("a"), Wake("b"), None]


def test_the_doorbell_rings_when_the_queue_stops_being_empty() -> None:
    queue: EffectQueue[Effect] = EffectQueue()
    rings = []
    queue.doorbell = lambda: rings.append(1)
    queue.append(Wake("a"))
    queue.append(Wake("b"))
    assert len(rings) == 1
    queue.take()
    queue.append(Wake("c"))
    assert len(rings) == 1
    queue.take()
    queue.take()
    queue.append(Wake("d"))
    assert len(rings) == 2


@pytest.mark.parametrize("kind", [StartCall, CancelCall, Wake])
def test_the_collector_sees_effects(kind: Callable[[Any], Any]) -> None:
    """An error keeps the frames in which it was raised, and with them the effect that was being carried out."""
    assert gc.is_tracked(kind([]))
