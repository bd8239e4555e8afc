"""Microsoft's Java client, over each transport that it knows, drives the lab hub on both adapters, in JSON."""

from __future__ import annotations

import pytest

from tests.interop import _peers
from tests.interop.conftest import Show, StartLab

PACE = {"LAB_KEEPALIVE": "1", "LAB_TIMEOUT": "2"}
"""Short enough for a silent connection to need pings from both sides while a check looks on."""

TRANSPORTS = ["ws", "lp"]
"""WebSockets and long polling."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_checks(java: list[str], start: StartLab, adapter: str, transport: str, show: Show) -> None:
    """Every check passes."""
    checks = _peers.run_checks([*java, f"{start(**PACE).url}/hub", transport, "json"], PACE)
    show(f"Microsoft's Java client, {transport}, against {adapter}:\n{checks.output}")
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"
