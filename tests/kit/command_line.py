"""The command line of an adapter, in processes of its own: a hub that is served, and clients of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

__all__ = ["ADAPTERS", "HUB", "next_line", "run", "running", "serving"]

ADAPTERS = [name for name in ("hubproto_trio", "hubproto_asyncio") if find_spec(name)]

HUB = """
import sys

from collections.abc import AsyncIterator

from hubproto_core import Call, Hub

if "hubproto_asyncio" in sys.modules:
    from asyncio import sleep
else:
    from trio import sleep

hub = Hub()
closed_hub = Hub(requires=["staff"])
brief_hub = Hub()


@brief_hub.on_connected
def say_all(call: Call):
    for i in range(1000):
        call.clients.caller.send("flood", i)
    call.abort()


@hub.on_connected
def connected(call: Call):
    call.clients.caller.send("welcome", 1)
    call.clients.caller.send("welcome", 2)
    print("connected", flush=True)


@hub.method("Add")
def add(x: int, y: int) -> int:
    return x + y


@hub.method("Count")
async def count(n: int):
    for i in range(n):
        yield {"i": i}


@hub.method("Slow")
async def slow():
    print("begun", flush=True)
    try:
        await sleep(3600)
    finally:
        print("ended", flush=True)


@hub.on_disconnected
def disconnected():
    print("disconnected", flush=True)


@hub.method("Ticks")
async def ticks(delay: float, call: Call):
    call.clients.caller.send("ticking", delay)
    try:
        i = 0
        while True:
            yield i
            i += 1
            await sleep(delay)
    finally:
        print("ticks ended", flush=True)


@hub.method("Sum")
async def add_all(numbers: AsyncIterator[int], start: int) -> int:
    return sum([number async for number in numbers], start)


@hub.method("Squares")
async def squares(numbers: AsyncIterator[int]):
    async for number in numbers:
        yield number**2


@hub.method("Say")
def say(text: str, call: Call) -> str:
    call.clients.all.send("said", text, len(text))
    print("said", text, flush=True)
    return text


@hub.method("Fail")
def fail() -> None:
    raise ValueError("the reason")
"""


@contextmanager
def serving(
    adapter: str, folder: Path, *options: str, hub: str = "hub", port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of a hub above, and its address."""
    (folder / "my_hubs.py").write_text(HUB)
    command = [sys.executable, "-m", adapter, "serve", f"my_hubs:{hub}", "--port", str(port), "--path", "/chat"]
    command += options
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            yield line.removeprefix("listening on ").strip(), server
        finally:
            server.kill()


def run(adapter: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run a client to its end: its exit status, and what it has written to stdout and stderr."""
    command = [sys.executable, "-m", adapter, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(adapter: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A client that runs; `options` are those of `Popen`, by default pipes."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", adapter, *arguments]
    with subprocess.Popen(command, text=True, bufsize=1, **{**pipes, **options}) as client:
        try:
            yield client
        finally:
            client.kill()


def next_line(stream: IO[str] | None) -> str:
    """The next line that comes out of a pipe, without its end; nothing at the end."""
    assert stream is not None
    return stream.readline().removesuffix("\n")
