"""The servers under test and the real peers, as fixtures.

Every test that uses `adapter` (or a fixture built on it) runs once per adapter. With HUBPROTO_LAB=reference the server
under test is Microsoft's instead: that checks the checks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.interop import _nginx, _peers, lab_asgi
from tests.interop._lab import Lab, Labs
from tests.interop._link import Link
from tests.interop._nginx import Nginx

ADAPTERS = ["reference"] if os.environ.get("HUBPROTO_LAB") == "reference" else ["trio", "asyncio"]

HOSTS = ADAPTERS if ADAPTERS == ["reference"] else [*ADAPTERS, *lab_asgi.ONE_OF_EACH]
"""These, and an ASGI server for each adapter: for tests of what must hold in all of them, `@everywhere`."""

everywhere = pytest.mark.parametrize("adapter", HOSTS, indirect=True)

StartLab = Callable[..., Lab]
Show = Callable[[str], None]
Proxy = Callable[..., AbstractContextManager[Nginx]]


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Show:
    """`show(text)` has the text printed at the end of the session, whether the test passes or not."""

    def show(text: str) -> None:
        request.node.user_properties.append(("shown", text))

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests want to be seen; the reports bring it from wherever they ran."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, text in report.user_properties:
                if name == "shown":
                    terminalreporter.write_line(text)


@pytest.fixture(scope="session", params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    """The adapter that serves the lab hub."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """All servers that run for the tests; they end with the tests."""
    labs = Labs(tmp_path_factory.mktemp)
    yield labs
    labs.stop()


@pytest.fixture(scope="session")
def running_labs(labs: Labs, adapter: str) -> StartLab:
    """Starts lab servers on the adapter, one for each set of LAB_... settings."""
    return partial(labs.start, adapter)


@pytest.fixture
def start(running_labs: StartLab) -> Iterator[StartLab]:
    """`start(LAB_HANDSHAKE="1")` is a lab server with these settings; afterwards its console must show no exception."""
    used: list[tuple[Lab, str]] = []

    def start(**settings: str) -> Lab:
        lab = running_labs(**settings)
        used.append((lab, lab.noise()))
        return lab

    yield start
    for lab, before in used:
        assert lab.process.poll() is None, f"the server ended: {lab.stderr.read_text()[-4000:]}"
        noise = lab.noise()
        assert noise == before, f"the server's console shows:\n{noise.removeprefix(before)}"


@pytest.fixture
def lab(start: StartLab) -> Lab:
    """A lab server with its default settings."""
    return start()


@pytest.fixture
def bystander(lab: Lab) -> Iterator[Link]:
    """Another connection to the lab server, which must be answered before and after a test."""
    with Link(f"{lab.url}/hub").handshake() as link:
        assert link.call("Add", 1, 2)["result"] == 3
        yield link
        assert link.call("Add", 3, 4)["result"] == 7


@pytest.fixture(scope="session")
def js() -> list[str]:
    """The command that drives Microsoft's JavaScript client against a hub's URL."""
    return _peers.javascript()


@pytest.fixture(scope="session")
def java() -> list[str]:
    """The command that drives Microsoft's Java client against a hub's URL."""
    return _peers.java()


@pytest.fixture(scope="session")
def dotnet() -> Path:
    """The folder with Microsoft's server and .NET client."""
    return _peers.dotnet()


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """`proxy(documented, *ports)` runs nginx in front of servers; it must have nothing to complain of."""
    program = _peers.nginx()

    @contextmanager
    def proxy(documented: str, *ports: int) -> Iterator[Nginx]:
        with _nginx.proxy(program, tmp_path_factory.mktemp("nginx"), documented, *ports) as nginx:
            yield nginx
            assert not nginx.errors()

    return proxy
