"""The real peers: where they are, and what happens when one of them is not there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = frozenset(filter(None, os.environ.get("HUBPROTO_REQUIRE_PEERS", "").split(",")))
JAVASCRIPT = Path(__file__).parent / "js"


def missing(peer: str, reason: str) -> NoReturn:
    """Skip for want of a peer; fail if the peer is one of those that HUBPROTO_REQUIRE_PEERS names."""
    if peer in REQUIRED:
        pytest.fail(f"the peer {peer!r} is required (HUBPROTO_REQUIRE_PEERS) but {reason}")
    pytest.skip(f"no peer {peer!r}: {reason}")


def folder(variable: str) -> Path | None:
    """The folder that an environment variable names, if it does and the folder is there."""
    path = os.environ.get(variable)
    return Path(path) if path and Path(path).is_dir() else None


def dotnet() -> Path:
    """The folder with Microsoft's server and .NET client."""
    found = folder("HUBPROTO_DOTNET")
    if found is None:
        missing("dotnet", "HUBPROTO_DOTNET names no folder (tests/interop/README.md says what it holds)")
    return found


def javascript() -> list[str]:
    """The command that runs the JavaScript checks; installs their packages when they are absent or outdated."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing("js", "node and npm are not both on PATH")
    stamp = JAVASCRIPT / "node_modules" / ".installed-from"
    wanted = hashlib.sha256((JAVASCRIPT / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        installed = subprocess.run(
            [npm, "ci"], cwd=JAVASCRIPT, capture_output=True, text=True, timeout=300, check=False
        )
        if installed.returncode != 0:
            missing("js", f"npm ci failed: {installed.stderr.strip()[-2000:]}")
        stamp.write_text(wanted)
    return [node, str(JAVASCRIPT / "checks.mjs")]


@dataclass(frozen=True)
class Checks:
    """What a peer that checks a server printed: PASS and FAIL lines, and TOTAL passed/all at the end."""

    results: dict[str, tuple[bool, str]]
    total: str
    output: str

    @property
    def failed(self) -> dict[str, str]:
        """The names of the failed checks, each with its error."""
        return {name: detail for name, (passed, detail) in self.results.items() if not passed}


def run_checks(command: list[str], environment: dict[str, str] | None = None, timeout: float = 240) -> Checks:
    """Run a peer's checks to their end and read the lines."""
    try:
        run = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as stuck:
        printed = stuck.output.decode(errors="replace") if isinstance(stuck.output, bytes) else stuck.output
        pytest.fail(f"{command[0]} did not end within {timeout} s; it printed\n{printed}")
    results: dict[str, tuple[bool, str]] = {}
    for word, name, detail in re.findall(r"^(PASS|FAIL) (.*?)  (.*)$", run.stdout, re.MULTILINE):
        assert name not in results, f"two checks are called {name!r}"
        results[name] = (word == "PASS", detail)
    total = re.findall(r"^TOTAL (\d+/\d+)$", run.stdout, re.MULTILINE)
    assert total, f"{command[0]} ended with status {run.returncode} before its TOTAL:\n{run.stdout}"
    return Checks(results, total[-1], run.stdout)
