"""The standard streams of a command line, without holding up the tasks beside: what may block runs in a thread.

They are read and written by their file descriptors: a thread that still waits for them at the end of the program would
hold the locks of `sys.stdin` and `sys.stdout`.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TextIO

import trio

from hubproto_core.cli import JsonLines

__all__ = ["read_items", "write"]

_CHUNK = 65536
_AT_ONCE = getattr(select, "PIPE_BUF", 0)  # what a pipe that is ready takes without blocking; on Windows nobody knows

_in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)


async def read_items(lines: JsonLines) -> AsyncIterator[Any]:
    """Yield the items that stdin holds."""
    while True:
        try:
            data = await _in_thread(os.read, _descriptor(sys.stdin, "stdin"), _CHUNK)
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
        await _in_thread(_write_all, descriptor, line)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _descriptor(stream: TextIO | None, name: str) -> int:
    if stream is None:  # its number may be that of a socket by now
        raise OSError(f"there is no {name}")
    return stream.fileno()
