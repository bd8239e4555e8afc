"""Values as lines of JSON: results and items on their way out, the items of an upload on their way in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from .._codecs._json_payloads import ReceivedFloat
from .._errors import HubError
from .._values import Single

__all__ = ["JsonLines", "to_json", "to_line"]


def to_line(value: Any) -> bytes:
    """Return a result or an item as a line of output."""
    return to_json(value).encode() + b"\n"


def to_json(value: Any) -> str:
    """Return a value as one line of JSON.

    What JSON has no notation for is shown as the JSON protocol would carry it: bytes as base64 text, times as ISO 8601
    text. A number that is none becomes null, a key its text, and an extension of MessagePack's
    `{"extension": code, "data": base64}`.
    """
    return msgspec.json.encode(value, enc_hook=_shown).decode()


def _shown(value: Any) -> Any:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"extension": value.code, "data": b64encode(value.data).decode()}
    if isinstance(value, ReceivedFloat):
        return msgspec.Raw(value.text.encode())
    return value.shortest if isinstance(value, Single) else str(value)


class JsonLines:
    """The items of an upload: values out of chunks of bytes, each a line of JSON. Empty lines are none."""

    def __init__(self) -> None:
        self.error: HubError | None = None
        """What is wrong with the input: it ends the upload, and is what the person is told."""
        self._pieces: list[bytes] = []  # of a line whose end is still to come
        self._count = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the values that are complete with these bytes; none at all are the end.

        Raises `HubError` for a line that is no JSON, behind the values before it.
        """
        first, *others = data.split(b"\n") if data else (b"", b"")
        self._pieces.append(first)
        for other in others:
            line = b"".join(self._pieces)
            self._pieces = [other]
            self._count += 1
            if line.strip():
                yield self._value(line)

    def failed(self, what: str) -> HubError:
        """Return what is to be raised when the input is wrong, or cannot be read."""
        self.error = HubError(what)
        return self.error

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Around the call that the upload is for: what is wrong with it comes before what the hub says."""
        try:
            yield
        except HubError:
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error

    def _value(self, line: bytes) -> Any:
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.failed(f"line {self._count} of the input is no JSON: {error}") from None
