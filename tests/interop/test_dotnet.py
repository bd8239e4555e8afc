"""Microsoft's .NET client, over each transport, drives the lab hub on both adapters, and in ASGI servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop import _peers
from tests.interop._lab import Lab
from tests.interop.conftest import Show, everywhere

LATER = {
    "stateful reconnect: nothing lost, nothing doubled, same id": "stateful reconnect",
}
"""Checks that need what is not there yet. One that passes all the same must leave the table."""


@pytest.mark.timeout(300)
@everywhere
@pytest.mark.parametrize(("transport", "encoding"), [*_peers.CARRIED, ("auto", "json")])
def test_checks(dotnet: Path, lab: Lab, adapter: str, transport: str, encoding: str, show: Show) -> None:
    """Every check passes but for those of the table."""
    checks = _peers.run_checks([str(dotnet / "client"), f"{lab.url}/hub", transport, encoding])
    show(f"Microsoft's .NET client, {transport}, {encoding}, against {adapter}:\n{checks.output}")
    later = LATER if adapter != "reference" and transport in ("ws", "auto") else {}
    assert later.keys() <= checks.results.keys(), "the table names checks that do not exist"
    assert checks.failed.keys() <= later.keys(), {k: v for k, v in checks.failed.items() if k not in later}
    assert checks.failed.keys() == later.keys(), f"these pass now: {sorted(later.keys() - checks.failed.keys())}"
