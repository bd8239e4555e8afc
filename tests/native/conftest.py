"""Each file is collected only where the runtime that it is about is tested."""

from tests.kit.runtimes import runtimes

collect_ignore = [f"test_{name}.py" for name in ("trio", "asyncio") if not runtimes(name)]
