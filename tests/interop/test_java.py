"""Microsoft's Java client drives the lab hub on both adapters, over each of its transports, in each protocol."""

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
@pytest.mark.parametrize("protocol", ["json", "messagepack"])
def test_checks(java: list[str], start: StartLab, adapter: str, transport: str, protocol: str, show: Show) -> None:
    """Every check passes."""
    checks = _peers.run_checks([*java, f"{start(**PACE).url}/hub", transport, protocol], PACE)
    show(f"Microsoft's Java client, {transport}, {protocol}, against {adapter}:\n{checks.output}")
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"
