"""Each file is collected only where the runtime that it is about is tested."""

from tests.kit.runtimes import runtimes

FILES = {"trio": ["test_trio.py"], "asyncio": ["test_asyncio.py", "test_blocking.py"]}

collect_ignore = [file for name, files in FILES.items() if not runtimes(name) for file in files]
