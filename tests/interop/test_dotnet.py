"""Microsoft's .NET client, over each transport, drives the lab hub on both adapters, and in ASGI servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop import _peers
from tests.interop._lab import Lab
from tests.interop.conftest import Show, everywhere


@pytest.mark.timeout(300)
@everywhere
@pytest.mark.parametrize(("transport", "encoding"), [*_peers.CARRIED, ("auto", "json")])
def test_checks(dotnet: Path, lab: Lab, adapter: str, transport: str, encoding: str, show: Show) -> None:
    """Every check passes."""
    checks = _peers.run_checks([str(dotnet / "client"), f"{lab.url}/hub", transport, encoding])
    show(f"Microsoft's .NET client, {transport}, {encoding}, against {adapter}:\n{checks.output}")
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"
