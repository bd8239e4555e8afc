"""The queue of effects."""

from hubproto_core import Effect, EffectQueue, Wake


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
