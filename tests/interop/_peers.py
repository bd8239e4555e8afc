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
JAVA = Path(__file__).parent / "java"


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
    _install("js", [npm, "ci"], JAVASCRIPT / "package-lock.json", JAVASCRIPT / "node_modules")
    return [node, str(JAVASCRIPT / "checks.mjs")]


def java() -> list[str]:
    """The command that runs the Java checks; fetches their libraries when they are absent or outdated."""
    jdk, maven = shutil.which("java"), shutil.which("mvn")
    if jdk is None or shutil.which("javac") is None or maven is None:
        missing("java", "java, javac and mvn are not all on PATH")
    libraries = JAVA / "lib"
    _install("java", [maven, "--quiet", "--batch-mode", "dependency:copy-dependencies"], JAVA / "pom.xml", libraries)
    return [jdk, "-cp", f"{libraries}/*", str(JAVA / "Checks.java")]


def _install(peer: str, command: list[str], wanted: Path, installed: Path) -> None:
    """Run a command that installs, where the file lies, what it names, unless that has been done."""
    stamp = installed / ".installed-from"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(installed, ignore_errors=True)
    run = subprocess.run(command, cwd=wanted.parent, capture_output=True, text=True, timeout=300, check=False)
    if run.returncode != 0:
        missing(peer, f"{command[0]} failed: {(run.stderr or run.stdout).strip()[-2000:]}")
    stamp.write_text(digest)


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
