"""The course of one `listen`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._errors import TransportError
from ._parse import ListenCommand
from ._values import to_line

__all__ = ["Listening"]


class Listening:
    """Which calls of the hub are shown, and when it has been enough."""

    def __init__(self, command: ListenCommand) -> None:
        self._targets = frozenset(target.lower() for target in command.targets)
        self._left = command.count
        self._error: Exception | None = None
        self.finished: bool = False
        """There is nothing more to wait for: `outcome` says how it has ended."""

    def line(self, target: str, arguments: Sequence[Any]) -> bytes | None:
        """The hub has called: return the line to be written, if that is to be shown."""
        if self.finished or (self._targets and target.lower() not in self._targets):
            return None
        if self._left is not None:
            self._left -= 1
            self.finished = not self._left
        return to_line({"target": target, "arguments": arguments})

    def fail(self, error: Exception) -> None:
        """A line could not be written."""
        self.finished = True
        self._error = error

    def close(self, error: Exception | None) -> None:
        """The connection is over for good: before it was enough, that is a failure."""
        if not self.finished:
            self.fail(error or TransportError("the hub has closed the connection"))

    def outcome(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error
