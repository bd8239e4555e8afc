"""The standard streams of a command line, without holding up the tasks beside: what may block runs in a thread.

They are read and written by their file descriptors: a thread that still waits for them at the end of the program would
hold the locks of `sys.stdin` and `sys.stdout`. For the same reason it is no thread of an executor, whose end the loop
and the interpreter wait for.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TextIO, TypeVar

from hubproto_core.cli import JsonLines

__all__ = ["read_items", "write"]

T = TypeVar("T")

_CHUNK = 65536
_AT_ONCE = getattr(select, "PIPE_BUF", 0)  # what a pipe that is ready takes without blocking; on Windows nobody knows


async def read_items(lines: JsonLines) -> AsyncIterator[Any]:
    """Yield the items that stdin holds."""
    while True:
        try:
            descriptor = _descriptor(sys.stdin, "stdin")
            data = await _in_thread(partial(os.read, descriptor, _CHUNK))
        except OSError as error:
            raise lines.failed(f"the input cannot be read: {error}") from error
        for item in lines.feed(data):
            yield item
        if not data:
            return


async def write(line: bytes) -> None:
    """Write to stdout. Raises OSError; BrokenPipeError if nobody reads it any more."""
    descriptor = _descriptor(sys.stdout, "stdout")
    if len(line) <= _AT_ONCE and select.select([], [descriptor], [], 0)[1]:
        _write_all(descriptor, line)
    else:
        await _in_thread(partial(_write_all, descriptor, line))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _descriptor(stream: TextIO | None, name: str) -> int:
    if stream is None:  # its number may be that of a socket by now
        raise OSError(f"there is no {name}")
    return stream.fileno()


async def _in_thread(function: Callable[[], T]) -> T:
    """Return what a function returns that may block. Cancelling this leaves the thread to itself."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[Any], None], value: object) -> None:
        if not result.done():  # cancelled
            settled(value)

    def work() -> None:
        try:
            outcome: tuple[Callable[[Any], None], object] = (result.set_result, function())
        except OSError as error:
            outcome = (result.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True).start()
    return await result
