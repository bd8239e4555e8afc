"""Deadlines by name."""

from hubproto_core._timers import Timer, TimerTable


def test_nothing_is_due_when_nothing_is_armed() -> None:
    timers = TimerTable()
    assert timers.next() is None
    assert timers.expire(1e9) == []
    assert not timers.armed(Timer.CLOSE)


def test_the_earliest_deadline_comes_next() -> None:
    timers = TimerTable()
    timers.arm(Timer.SILENCE, 30.0)
    timers.arm(Timer.KEEP_ALIVE, 15.0)
    assert timers.next() == 15.0


def test_arming_again_moves_the_deadline() -> None:
    timers = TimerTable()
    timers.arm(Timer.SILENCE, 30.0)
    timers.arm(Timer.SILENCE, 40.0)
    assert timers.next() == 40.0
    assert timers.expire(39.9) == []


def test_what_is_due_expires_once_the_earliest_first() -> None:
    timers = TimerTable()
    timers.arm(Timer.SILENCE, 3.0)
    timers.arm(Timer.HANDSHAKE, 1.0)
    timers.arm(Timer.CLOSE, 2.0)
    timers.arm(Timer.SHUTDOWN, 3.1)
    assert timers.expire(3.0) == [Timer.HANDSHAKE, Timer.CLOSE, Timer.SILENCE]
    assert timers.expire(3.0) == []
    assert timers.next() == 3.1


def test_disarmed_timers_do_not_expire() -> None:
    timers = TimerTable()
    timers.arm(Timer.CLOSE, 1.0)
    timers.arm(Timer.SILENCE, 2.0)
    timers.disarm(Timer.CLOSE)
    timers.disarm(Timer.KEEP_ALIVE)
    assert not timers.armed(Timer.CLOSE)
    assert timers.armed(Timer.SILENCE)
    timers.clear()
    assert timers.expire(9.0) == []
