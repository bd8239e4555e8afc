"""Servers under test as processes of their own: our lab server on each adapter, and Microsoft's."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.interop import _peers

START_LIMIT = 60.0  # Microsoft's server unpacks its runtime when it first starts
STOP_LIMIT = 10.0
NOISE = re.compile(r"Traceback|was never (awaited|retrieved)")

T = TypeVar("T")


def poll(probe: Callable[[], T | None], limit: float, what: str) -> T:
    """Ask until there is an answer; fail when there is none within the limit."""
    deadline = time.monotonic() + limit
    while (answer := probe()) is None:
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.01)
    return answer


@dataclass(frozen=True)
class Lab:
    """A running server: its base URL, its process, and what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    is_ours: bool

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def noise(self) -> str:
        """What it wrote to stderr, if that tells of an exception nobody handled; else nothing."""
        text = self.stderr.read_text(errors="replace")
        return text if NOISE.search(text) else ""

    def kill(self) -> None:
        """End the process at once, without a farewell."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the process; a server that SIGTERM does not end is killed, and if it is ours, that is a failure.

        Microsoft's waits for up to half a minute for whom it thinks connected.
        """
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            if not self.is_ours:
                return
            raise AssertionError(f"the server at {self.url} did not end within {STOP_LIMIT} s of SIGTERM") from None


def start_lab(server: str, logs: Path, *, port: int = 0, **settings: str) -> Lab:
    """Start a server of the lab hub with LAB_... settings: our own on an adapter ("trio", "asyncio"), or Microsoft's.

    `port` 0 is any free one.

    Of those, "reference" is ASP.NET Core 10, and "aspnetcore31" is ASP.NET Core 3.1.
    """
    environment: dict[str, str] = {}
    announces = server != "reference"
    if server == "reference":
        port = port or free_port()
        command = [str(_peers.dotnet() / "server"), str(port)]
    elif server == "aspnetcore31":
        program = _peers.aspnetcore31()
        command, environment = [*program.command, str(port)], program.environment
    else:
        command = [sys.executable, "-m", "tests.interop.lab_server", server, str(port)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    stdout, stderr = logs / "stdout", logs / "stderr"
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            command,
            cwd=_peers.ROOT,
            env={**clean, "PYTHONUNBUFFERED": "1", **environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )

    def ready() -> str | None:
        assert process.poll() is None, f"{command} ended with {process.returncode}: {stderr.read_text()[-4000:]}"
        if not announces:
            return f"http://127.0.0.1:{port}" if listens(port) else None
        line = re.search(r"^listening on (http://\S+)$", stdout.read_text(), re.MULTILINE)
        return line and line[1]

    try:
        url = poll(ready, START_LIMIT, f"{command} was to listen")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Lab(url, process, stdout, stderr, server not in ("reference", "aspnetcore31"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Labs:
    """Servers of the lab hub, one for each kind and set of settings, started when they are first asked for."""

    def __init__(self, make_folder: Callable[[str], Path]) -> None:
        self._make_folder = make_folder
        self._running: dict[tuple[str, tuple[tuple[str, str], ...]], Lab] = {}

    def start(self, server: str, **settings: str) -> Lab:
        """Return the server of this kind (see `start_lab`) with these settings."""
        key = (server, tuple(sorted(settings.items())))
        if key not in self._running:
            self._running[key] = start_lab(server, self._make_folder(f"lab-{server}"), port=0, **settings)
        return self._running[key]

    def stop(self) -> None:
        """End them all; that one of them told of an exception nobody handled is a failure."""
        with ExitStack() as ends:
            for lab in self._running.values():
                ends.callback(lab.stop)
        noise = [lab.noise() for lab in self._running.values() if lab.noise()]
        assert not noise, noise
