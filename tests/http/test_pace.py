"""How long a body may take."""

from __future__ import annotations

from hubproto_core.http._pace import Pace


def test_a_sender_that_sends_nothing_has_its_patience() -> None:
    assert Pace(10.0, 5.0, now=100.0).deadline == 105.0


def test_each_byte_is_worth_some_time_but_none_can_be_saved_up() -> None:
    pace = Pace(10.0, 5.0, now=0.0)
    pace.receive(1000, now=1.0)
    assert pace.deadline == 6.0
    pace.receive(10, now=3.0)
    assert pace.deadline == 7.0
    pace.receive(1, now=3.0)
    assert pace.deadline == 7.1


def test_the_clock_stands_still_while_nothing_is_wanted() -> None:
    pace = Pace(10.0, 5.0, now=0.0)
    pace.run(True, now=1.0)
    assert pace.deadline == 5.0
    pace.run(False, now=2.0)
    pace.run(False, now=20.0)
    assert [pace.deadline] == [None]
    pace.receive(10, now=50.0)
    pace.run(True, now=100.0)
    assert [pace.deadline] == [104.0]
