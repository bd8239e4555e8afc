"""Whether what is written is taken."""

from hubproto_core.http._send_watch import SendWatch


def test_nothing_written_is_nothing_to_watch() -> None:
    watch = SendWatch(10.0)
    assert watch.next_timeout() is None
    assert not watch.must_try(now=1e9)
    assert not watch.is_stuck(now=1e9)


def test_who_does_not_ask_again_when_woken_is_stuck() -> None:
    watch = SendWatch(10.0)
    watch.asked(1, now=1.0)
    assert watch.next_timeout() == 6.0
    assert not watch.must_try(now=5.9)
    assert watch.must_try(now=6.0)
    assert not watch.must_try(now=6.0)
    assert watch.next_timeout() == 11.0
    assert not watch.is_stuck(now=10.9)
    assert watch.is_stuck(now=11.0)


def test_who_asks_again_has_taken_what_was_written() -> None:
    watch = SendWatch(10.0)
    watch.asked(1, now=1.0)
    assert watch.must_try(now=6.0)
    watch.asked(0, now=6.0)
    assert (watch.next_timeout(), watch.is_stuck(now=99.0)) == (None, False)
    watch.asked(1, now=20.0)
    watch.asked(1, now=22.0)
    assert watch.next_timeout() == 27.0


def test_who_is_woken_late_has_half_of_the_time_all_the_same() -> None:
    watch = SendWatch(10.0)
    watch.asked(1, now=0.0)
    assert not watch.is_stuck(now=99.0)
    assert watch.must_try(now=99.0)
    assert not watch.is_stuck(now=103.9)
    assert watch.is_stuck(now=104.0)


def test_behind_the_last_write_nobody_asks() -> None:
    watch = SendWatch(10.0)
    watch.asked(1, is_last=True, now=0.0)
    assert watch.next_timeout() == 10.0
    assert not watch.must_try(now=9.0)
    assert watch.is_stuck(now=10.0)
