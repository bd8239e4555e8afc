"""Each file is collected only where the runtime that it is about is tested."""

import sys

import pytest

from tests.kit.command_line import ADAPTERS
from tests.kit.runtimes import runtimes

collect_ignore = [f"test_{name}.py" for name in ("trio", "asyncio") if not runtimes(name)]
if not runtimes("asyncio"):
    collect_ignore.append("test_blocking.py")
if sys.platform == "win32":  # it has no terminals and signals of this kind
    collect_ignore.append("test_command_line_clients.py")


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    """Whose command line is run."""
    name: str = request.param
    return name
