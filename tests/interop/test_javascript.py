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
