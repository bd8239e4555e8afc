"""Microsoft's JavaScript client, over each transport, drives the lab hub in all servers."""

from __future__ import annotations

import pytest

from tests.interop import _peers
from tests.interop.conftest import Show, StartLab, everywhere

PACE = {"LAB_KEEPALIVE": "1", "LAB_TIMEOUT": "2"}
"""Short enough for a silent connection to need pings from both sides while a check looks on."""

PATIENCE = {"CHECK_LIMIT": "60"}
"""Seconds for one check: without a WebSocket each item of an upload is a request."""


@pytest.mark.timeout(300)
@everywhere
@pytest.mark.parametrize(("transport", "encoding"), _peers.CARRIED)
def test_checks(js: list[str], start: StartLab, adapter: str, transport: str, encoding: str, show: Show) -> None:
    """Every check passes."""
    checks = _peers.run_checks([*js, f"{start(**PACE).url}/hub", encoding, transport], {**PACE, **PATIENCE})
    show(f"Microsoft's JavaScript client, {transport}, {encoding}, against {adapter}:\n{checks.output}")
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"


@pytest.mark.timeout(300)
@everywhere
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_cuts(start: StartLab, adapter: str, encoding: str, show: Show) -> None:
    """200 cuts at random moments during calls, downloads and uploads: with stateful reconnect nobody notices."""
    checks = _peers.run_checks([*_peers.cuts(), f"{start().url}/hub", encoding, "200"])
    show(f"Microsoft's JavaScript client, 200 cuts, {encoding}, against {adapter}:\n{checks.output}")
    assert checks.results
    assert not checks.failed, checks.failed
