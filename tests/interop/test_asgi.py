"""`HubApp` in uvicorn and hypercorn: the example with FastAPI, and what the servers do for clients that do not read.

That Microsoft's clients pass their checks there, test_javascript.py and test_dotnet.py show.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from hubproto_asyncio import connect
from tests.http._site import masked, upgrade
from tests.interop import _peers, lab_asgi
from tests.interop._lab import STOP_LIMIT, Labs, poll
from tests.interop.conftest import Show
from tests.kit.wire import HANDSHAKE

MIB = 1024 * 1024
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


class Mute:
    """A WebSocket that has done the hub handshake and reads nothing more; the kernels keep little for it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1024)
        self._socket.settimeout(STOP_LIMIT)
        self._socket.connect(("127.0.0.1", port))
        self.send(upgrade("/hub"))
        self._read_until(b"\r\n\r\n")
        self.send(masked(1, HANDSHAKE))
        self._read_until(b"{}\x1e")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _read_until(self, end: bytes) -> None:
        read = b""
        while end not in read:
            data = self._socket.recv(4096)
            assert data, f"the connection has ended: {read!r}"
            read += data


@pytest.mark.parametrize("host", lab_asgi.HOSTS)
def test_a_client_that_does_not_read_is_given_up(labs: Labs, host: str, show: Show) -> None:
    """The servers and the kernel hold little for it: nearly all of it waits in the hub, which counts it."""
    lab = labs.start(host, LAB_SENDLIMIT=str(MIB))

    async def main() -> int:
        sent = 0
        async with asyncio.timeout(30), connect(f"{lab.url}/hub") as client:
            while "is given up: it leaves more than 1048576 bytes unread" not in lab.stderr.read_text():
                await client.invoke("Broadcast", "x" * 16_000)
                sent += 16_000
        return sent

    with Mute(lab.port):
        sent = asyncio.run(main())
    show(f"{host}: given up after {sent / MIB:.2f} MiB, of which the hub held 1")
    assert sent < 2 * MIB
