"""The course of one `listen`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from .._errors import TransportError
from ._parse import ListenCommand
from ._values import to_line

__all__ = ["Listening"]

_LINES = 100  # that wait to be written, before whoever hears more has to wait


class Listening:
    """Which calls of the hub are shown, and when it has been enough.

    What the hub has said before it closed the connection is shown, too: lines wait here until they are taken.
    """

    def __init__(self, command: ListenCommand) -> None:
        self._targets = frozenset(target.lower() for target in command.targets)
        self._left = command.count
        self._lines: deque[bytes] = deque()
        self._closed = False
        self._error: Exception | None = None

    @property
    def full(self) -> bool:
        """Too many lines wait: the hub is to wait, too."""
        return len(self._lines) >= _LINES

    @property
    def finished(self) -> bool:
        """Every line is taken, and no other one will come: `outcome` says how it has ended."""
        return not self._lines and (self._closed or self._left == 0)

    def hear(self, target: str, arguments: Sequence[Any]) -> None:
        """The hub has called."""
        if self._left == 0 or (self._targets and target.lower() not in self._targets):
            return
        if self._left is not None:
            self._left -= 1
        self._lines.append(to_line({"target": target, "arguments": arguments}))

    def take(self) -> bytes | None:
        """Return the next line to be written; None if there is none at the moment."""
        return self._lines.popleft() if self._lines else None

    def close(self, error: Exception | None) -> None:
        """The connection is over for good."""
        self._closed = True
        self._error = error

    def outcome(self) -> None:
        """Raise what went wrong: the connection was over before it was enough."""
        if self._left != 0:
            raise self._error or TransportError("the hub has closed the connection")
