"""Every check that a person or CI runs. `python3 dev.py` brings nox along; CONTRIBUTING.md has examples."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "coverage", "fuzz", "interop", "autobahn", "demo", "build"]

# All that is installed, with pip or uv, by a session or by an isolated build, has the version that is written down.
for variable in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT"):
    os.environ[variable] = "constraints.txt"

WORKSPACE = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]

CORE = "packages/hubproto-core"
CORE_HTTP = f"{CORE}[http]"
CORE_ALL = f"{CORE}[http,opentelemetry]"
TRIO = "packages/hubproto-trio"
ASYNCIO = "packages/hubproto-asyncio"
ASYNCIO_UVLOOP = f"{ASYNCIO}[uvloop]"

# world: what of ours is installed, the dependency group of the tests, where they are
WORLDS = {
    "core": ([CORE], "test", ["tests/core"]),
    "http": ([CORE_HTTP], "test", ["tests/http"]),
    "trio": ([CORE_HTTP, TRIO], "sockets", ["tests/parity", "tests/native"]),
    "asyncio": ([CORE_HTTP, ASYNCIO], "sockets", ["tests/parity", "tests/native"]),
    "asyncio-uvloop": ([CORE_HTTP, ASYNCIO_UVLOOP], "sockets", ["tests/parity", "tests/native/test_asyncio.py"]),
}

# Most tests wait for sockets and for other programs, so more of them run at a time than there are processors.
SIDE_BY_SIDE = ["--numprocesses", "3", "--dist", "worksteal"]


def install(session: nox.Session, *packages: str, group: str | None = None) -> None:
    """Install *packages* of ours, editable, and what a dependency group of the workspace names."""
    editables = [argument for package in packages for argument in ("--editable", package)]
    session.install(*editables, *(nox.project.dependency_groups(WORKSPACE, group) if group else ()))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes."""
    install(session, group="lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types within the project, and the completeness of those that users see."""
    install(session, CORE_ALL, TRIO, ASYNCIO_UVLOOP, group="types")
    session.env["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # the version is pinned on purpose
    session.run("mypy")
    for package in ("hubproto_core", "hubproto_trio", "hubproto_asyncio"):
        session.run("pyright", "--verifytypes", package, "--ignoreexternal")


@nox.session(python=PYTHONS)
@nox.parametrize("world", [nox.param(world, id=world, tags=[world]) for world in WORLDS])
def tests(session: nox.Session, world: str) -> None:
    """The tests that need nothing from outside, in one world: with no more installed than it is about.

    What is to hold over each transport is tested so on the first Python, and over WebSockets on the others.
    """
    if world == "asyncio-uvloop" and session.python not in (PYTHONS[0], PYTHONS[-1]):
        session.skip("uvloop is tested on the first and on the last Python")
    packages, group, folders = WORLDS[world]
    install(session, *packages, group=group)
    env = {"HUBPROTO_WORLD": world}
    if session.python != PYTHONS[0]:
        env["HUBPROTO_TRANSPORTS"] = "WebSockets"
    session.run("pytest", *SIDE_BY_SIDE, *folders, *session.posargs, env=env)


@nox.session
def coverage(session: nox.Session) -> None:
    """The synchronous tests reach every branch of the core."""
    install(session, CORE_ALL, group="coverage")
    session.run("coverage", "run", "-m", "pytest", *SIDE_BY_SIDE, "tests/core", "tests/http", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Each fuzz target and each state machine, for some 20 s or `-- --minutes N`; other arguments name targets."""
    if sys.platform != "linux" or sys.version_info >= (3, 14):
        session.skip("atheris is built for Linux and CPython up to 3.13")
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", default="0.3")
    options, rest = parser.parse_known_args(session.posargs)
    install(session, CORE_HTTP, group="fuzz")
    session.run("python", "-m", "fuzz.run", "--minutes", options.minutes, *rest)
    if not rest:
        session.run(
            "pytest", *SIDE_BY_SIDE, "tests/core/test_machine.py", env={"HUBPROTO_FUZZ_MINUTES": options.minutes}
        )


@nox.session
def bench(session: nox.Session) -> None:
    """What the core costs. Fails where hostile input, or a client that never reads, costs more than it may."""
    install(session, CORE_HTTP, TRIO, ASYNCIO)
    session.run("python", "-m", "benchmarks.throughput")
    session.run("python", "-m", "benchmarks.hostile")
    if sys.platform == "linux":
        session.run("python", "-m", "benchmarks.slow_consumers")
        session.run("python", "-m", "benchmarks.attacks")


@nox.session
def interop(session: nox.Session) -> None:
    """Microsoft's clients and server at the other end; tests/interop/README.md says where they come from."""
    install(session, CORE_HTTP, TRIO, ASYNCIO, group="interop")
    session.run("pytest", *SIDE_BY_SIDE, "tests/interop", "-ra", "-v", *session.posargs)


@nox.session
def autobahn(session: nox.Session) -> None:
    """The Autobahn test suite finds no fault with the WebSocket layer; arguments are patterns of cases."""
    python2 = find_python2()
    if python2 is None:
        reason = "the Autobahn test suite needs CPython 2.7, on PATH or in pyenv"
        required = "autobahn" in os.environ.get("HUBPROTO_REQUIRE_PEERS", "").split(",")
        if required:
            session.error(reason)
        session.skip(reason)
    install(session, CORE_HTTP, TRIO, ASYNCIO)
    requirements = Path("tests/autobahn/requirements.txt")
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    suite = Path(session.create_tmp(), f"suite-{digest[:8]}")
    if not (suite / "zope/__init__.py").exists():
        pip = [python2, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--upgrade"]
        wanted = ["--target", str(suite), "--requirement", str(requirements)]
        session.run(*pip, *wanted, external=True, env={"PIP_CONSTRAINT": None})  # those are for Python 3
        (suite / "zope/__init__.py").touch()  # the suite wants it, and its installation leaves it out
    session.run("python", "-m", "tests.autobahn.run", python2, str(suite), *session.posargs)


def find_python2() -> str | None:
    """Return a CPython 2.7 that runs, if there is one."""
    candidates = [shutil.which("python2.7")]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += map(str, Path(root).glob("versions/2.7.*/bin/python2.7"))
    for python in filter(None, candidates):  # what pyenv puts on PATH runs only if it is told to use that version
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


@nox.session
def demo(session: nox.Session) -> None:
    """A hub, served and called on both runtimes, step by step."""
    install(session, CORE_HTTP, TRIO, ASYNCIO)
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The distributions build, and install with nothing but pip: from wheels, and from the source tree."""
    session.install("uv")
    wheelhouse = Path(session.create_tmp(), "dist")
    session.run("uv", "build", "--all-packages", "--clear", "--out-dir", str(wheelhouse))
    wheels = [str(wheel) for wheel in sorted(wheelhouse.glob("*.whl"))]
    for name, packages in {"wheels": wheels, "tree": [f"./{CORE}", f"./{TRIO}"]}.items():
        fresh = Path(session.create_tmp(), name)
        session.run("python", "-m", "venv", "--clear", str(fresh))
        python = str(fresh / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        session.run(python, "-m", "pip", "install", "--quiet", *packages, external=True)
        session.run(python, "-c", "import hubproto_core, hubproto_core.http, hubproto_trio", external=True)
