"""Attacks that honest clients must not notice: a tenth of what `python -m benchmarks.attacks` does."""

from __future__ import annotations

import sys

import pytest

from benchmarks.attacks import GROWTH, measure
from tests.kit.runtimes import Runtime

NOTICED = 0.05  # seconds for an echo, on a machine that has other things to do; a flood that is read at once costs more


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("attack", ["pings", "empty-fragments", "small-bombs", "pipelined-negotiations"])
def test_honest_clients_do_not_notice(rt: Runtime, attack: str) -> None:
    figures = measure(rt.name, attack, 0.1)
    print(figures)
    assert figures.attacked < NOTICED
    assert figures.after < GROWTH * figures.fresh
    assert figures.kept < GROWTH
    assert "ERROR" not in figures.log
    assert "Traceback" not in figures.log
