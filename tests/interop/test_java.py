"""Microsoft's Java client, over each transport that it knows, drives the lab hub on both adapters, in JSON."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest

from tests.interop import _peers
from tests.interop._lab import Lab
from tests.interop.conftest import StartLab

PACE = {"LAB_KEEPALIVE": "1", "LAB_TIMEOUT": "2"}
"""Short enough for a silent connection to need pings from both sides while a check looks on."""

TRANSPORTS = {"ws": "WebSockets", "lp": "LongPolling"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_checks(
    java: list[str], start: StartLab, adapter: str, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every check passes."""
    lab = start(**PACE)
    if TRANSPORTS[transport] not in offered(lab):
        pytest.skip(f"the server does not offer {TRANSPORTS[transport]} yet")
    checks = _peers.run_checks([*java, f"{lab.url}/hub", transport, "json"], PACE)
    with capsys.disabled():
        print(f"\nMicrosoft's Java client, {TRANSPORTS[transport]}, against {adapter}:\n{checks.output}", end="")
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"


def offered(lab: Lab) -> list[str]:
    """The transports that a server offers when it is asked."""
    with urlopen(Request(f"{lab.url}/hub/negotiate?negotiateVersion=1", method="POST")) as answer:
        return [transport["transport"] for transport in json.load(answer)["availableTransports"]]
