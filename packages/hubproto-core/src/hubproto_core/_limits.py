"""How large the parts of a message may be: what `HubConfig` allows a peer, and what every peer can read of us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ._config import HubConfig
from ._errors import LocalProtocolError, RemoteProtocolError
from ._messages import Invocation, InvocationBindingFailure, StreamInvocation

__all__ = ["check_headers", "check_id", "limited", "sendable"]


def check_id(name: str, config: HubConfig) -> None:
    """Raise `RemoteProtocolError` for the id of a call or of a stream that is too long."""
    if len(name) > config.max_id_length:
        raise RemoteProtocolError(f"An id is longer than {config.max_id_length} characters.")


def check_headers(headers: Mapping[str, str], config: HubConfig) -> None:
    """Raise `RemoteProtocolError` for headers that are too many, or too large."""
    if len(headers) > config.max_headers:
        raise RemoteProtocolError(f"A message has more than {config.max_headers} headers.")
    size = sum(_utf8_size(name) + _utf8_size(value) for name, value in headers.items())
    if size > config.max_header_size:
        raise RemoteProtocolError(f"The headers of a message are larger than {config.max_header_size}B.")


def limited(
    call: Invocation | StreamInvocation | InvocationBindingFailure, config: HubConfig
) -> Invocation | StreamInvocation | InvocationBindingFailure:
    """Return a call of the peer's, or, where it has too many arguments, one that does not bind.

    Raises `RemoteProtocolError` for ids and headers that are too large.
    """
    if call.invocation_id is not None:
        check_id(call.invocation_id, config)
    if isinstance(call, InvocationBindingFailure):
        return call
    if call.headers is not None:
        check_headers(call.headers, config)
    for stream_id in call.stream_ids or ():
        check_id(stream_id, config)
    count = len(call.arguments)
    if count <= config.max_arguments:
        return call
    text = f"Invocation provides {count} argument(s) but at most {config.max_arguments} are accepted."
    return InvocationBindingFailure(
        invocation_id=call.invocation_id, target=call.target, error=RemoteProtocolError(text)
    )


def sendable(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return headers that every peer can read, or None if there are none. A value may be a secret: it is not shown."""
    if not headers:
        return None
    pairs: Iterable[tuple[object, object]] = headers.items()  # nothing else looks at their types
    for name, value in pairs:
        if not (isinstance(name, str) and name and isinstance(value, str) and value):
            raise LocalProtocolError(f"names and values of headers are texts that are not empty: {name!r} is not so")
    return headers


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
