"""`Latest`: what waits for a slow peer and is worth nothing once there is something newer."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Latest"]

_COST = 256  # bytes that a key costs beside its message, roughly: without this, tiny messages could have any number


class Latest:
    """Encoded messages, one for each key, in the order in which their keys began to wait."""

    __slots__ = ("_messages", "size")

    def __init__(self) -> None:
        self._messages: dict[Hashable, bytes] = {}
        self.size: int = 0
        """Bytes held: of the messages, and 256 for each key."""

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, key: Hashable, message: bytes) -> None:
        """Hold a message, in the place of the one with the same key if there is one."""
        old = self._messages.get(key)
        self._messages[key] = message
        self.size += len(message) - (-_COST if old is None else len(old))

    def take(self, key: Hashable) -> bytes | None:
        """Return and forget the message with this key, if there is one."""
        message = self._messages.pop(key, None)
        if message is not None:
            self.size -= len(message) + _COST
        return message

    def take_first(self) -> bytes:
        """Return and forget the message whose key has waited longest."""
        message = self._messages.pop(next(iter(self._messages)))
        self.size -= len(message) + _COST
        return message
