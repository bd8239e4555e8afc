"""`async def` tests run once on every runtime: there is no plugin, this hook hands them to the `rt` fixture."""

from __future__ import annotations

import inspect
from functools import partial
from importlib.util import find_spec

import hypothesis
import pytest

from hubproto_core import Transport
from tests.kit.runtimes import TEST_LIMIT, Runtime, runtimes

collect_ignore = [] if find_spec("opentelemetry") else ["core/test_opentelemetry.py", "parity/test_tracing.py"]
"""The worlds `core` and `http` show that all but its own module works without OpenTelemetry."""

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
"""How fast a machine is, and how busy, decides about no test: hypothesis allows an example 200 ms by itself."""


@pytest.fixture
def transport() -> Transport:
    """What carries the test's clients; to be parametrized by a test or a module (`over_each_transport`)."""
    return Transport.WEB_SOCKETS


@pytest.fixture(params=runtimes(), ids=str)
def rt(request: pytest.FixtureRequest, transport: Transport) -> Runtime:
    """The runtime that the test runs on."""
    runtime: Runtime = request.param
    return runtime if transport is Transport.WEB_SOCKETS else runtime.over(transport)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function on its runtime."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    runtime = pyfuncitem.funcargs.get("rt")
    assert isinstance(runtime, Runtime), "an `async def` test takes the fixture `rt`, which says what it runs on"
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    marker = pyfuncitem.get_closest_marker("limit")
    runtime.run(partial(pyfuncitem.obj, **arguments), marker.args[0] if marker else TEST_LIMIT)
    return True
