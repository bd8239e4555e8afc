"""Each file is collected only where the runtime that it is about is tested."""

import pytest

from tests.kit.command_line import ADAPTERS
from tests.kit.runtimes import runtimes

collect_ignore = [f"test_{name}.py" for name in ("trio", "asyncio") if not runtimes(name)]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    """Whose command line is run."""
    name: str = request.param
    return name
