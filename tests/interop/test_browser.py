"""A real browser: a page of another origin than the hub's runs Microsoft's JavaScript client, over each transport."""

from __future__ import annotations

import pytest

from tests.interop import _nginx, _peers
from tests.interop._lab import free_port
from tests.interop.conftest import Proxy, StartLab

pytestmark = pytest.mark.timeout(300)  # more than `run_checks` waits, which tells how far the browser got

PACE = {"LAB_KEEPALIVE": "1", "LAB_TIMEOUT": "2"}


@pytest.fixture(scope="session")
def browser() -> list[str]:
    """The command that runs checks in Chromium."""
    return _peers.browser()


@pytest.fixture(scope="session")
def page() -> int:
    """The port that pages come from."""
    return free_port()


@pytest.mark.parametrize("how", ["json ws", "msgpack ws", "json sse", "json lp", "msgpack lp"])
def test_a_page_of_an_allowed_origin_passes_every_check(
    browser: list[str], page: int, start: StartLab, how: str
) -> None:
    lab = start(**PACE, LAB_ORIGIN=f"http://localhost:{page}")
    checks = _peers.run_checks([*browser, str(page), f"{lab.url}/hub", *how.split()], PACE)
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"


@pytest.mark.parametrize("transport", ["ws", "sse", "lp"])
def test_a_page_of_another_origin_gets_nowhere(browser: list[str], page: int, start: StartLab, transport: str) -> None:
    lab = start(**PACE, LAB_ORIGIN="http://somebody.else")
    checks = _peers.run_checks(
        [*browser, str(page), f"{lab.url}/hub", "json", transport, "--only", "stop is clean"], PACE, timeout=90
    )
    assert "Failed to fetch" in checks.failed["stop is clean"]


@pytest.mark.parametrize("transport", ["ws", "sse", "lp"])
def test_a_page_reaches_the_hub_through_a_proxy(
    browser: list[str], page: int, start: StartLab, proxy: Proxy, transport: str
) -> None:
    lab = start(**PACE, LAB_ORIGIN=f"http://localhost:{page}")
    with proxy(_nginx.ONE, lab.port) as nginx:
        checks = _peers.run_checks(
            [*browser, str(page), f"{nginx.url}/hub", "json", transport, "--only", "stream"], PACE, timeout=90
        )
    assert not checks.failed, checks.failed
    assert len(checks.results) > 10
