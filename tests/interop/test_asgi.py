"""`HubApp` in uvicorn and hypercorn: the example with FastAPI, and what the servers do for clients that do not read.

That Microsoft's clients pass their checks there, test_javascript.py and test_dotnet.py show.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubproto_asyncio import Transport, connect
from tests.interop import _peers, lab_asgi
from tests.interop._lab import STOP_LIMIT, Labs, poll
from tests.interop._link import Link

EXAMPLE = _peers.ROOT / "examples" / "fastapi_hub.py"
COMMANDS = {
    "uvicorn": ["uvicorn", "--port", "0"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:0"],
    "hypercorn, uvloop": ["hypercorn", "--bind", "127.0.0.1:0", "--worker-class", "uvloop"],
    "hypercorn, trio": ["hypercorn", "--bind", "127.0.0.1:0", "--worker-class", "trio"],
}


@pytest.fixture(params=COMMANDS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of the example in a server that SIGTERM must end in time, without a traceback."""
    source = EXAMPLE.read_text()
    if "trio" in request.param:
        source = source.replace("hubproto_asyncio", "hubproto_trio")
    (tmp_path / "example.py").write_text(source)
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", *COMMANDS[request.param], "example:app"]
        process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:

        def ready() -> str | None:
            assert process.poll() is None, log.read_text()
            line = re.search(r"running on (http://\S+)", log.read_text(), re.IGNORECASE)
            return line and line[1]

        yield poll(ready, STOP_LIMIT, "the example was to listen")
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_LIMIT)
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_example(example: str) -> None:
    def announce(text: str) -> bytes:
        request = urllib.request.Request(f"{example}/announcements?text={text}", method="POST")
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: bytes = answer.read()
            return body

    async def main() -> None:
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        async with asyncio.timeout(20), connect(f"{example}/hubs/chat") as client:
            client.on("said", lambda who, text: heard.put_nowait((who, text)))
            await client.invoke("Say", "hello")
            assert await heard.get() == (client.connection_id, "hello")
            assert await asyncio.to_thread(announce, "welcome") == b"1"
            assert await heard.get() == ("the house", "welcome")

    asyncio.run(main())
