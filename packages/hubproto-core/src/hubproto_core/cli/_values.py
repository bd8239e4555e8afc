"""Values as lines of JSON: results and items on their way out, the items of an upload on their way in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
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
    text. A number that is none becomes null, a key that is no text the text of what it would be as a value, and an
    extension of MessagePack's `{"extension": code, "data": base64}`.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_shown).decode()
    except (TypeError, ValueError, OverflowError):  # keys are no business of the hook, nor are integers beyond 64 bits
        return msgspec.json.encode(_plain(value), enc_hook=_shown).decode()


def _shown(value: Any) -> Any:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"extension": value.code, "data": b64encode(value.data).decode()}
    if isinstance(value, ReceivedFloat):
        return msgspec.Raw(value.text.encode())
    return value.shortest if isinstance(value, Single) else str(value)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                key if isinstance(key, str) else to_json(key).strip('"'): _plain(item) for key, item in value.items()
            }
        case list() | tuple():
            return [_plain(item) for item in value]
        case int() if not -(2**63) <= value < 2**64:
            return msgspec.Raw(str(value).encode())
        case _:
            return value


class JsonLines:
    """The items of an upload: values out of chunks of bytes, each a line of JSON. Empty lines are none."""

    def __init__(self) -> None:
        self.error: HubError | None = None
        """What is wrong with a line: it ends the upload, and is what the person is told."""
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

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Around the call that the upload is for: what is wrong with a line comes before what the hub makes of that."""
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
            self.error = HubError(f"line {self._count} of the input is no JSON: {error}")
            raise self.error from None
