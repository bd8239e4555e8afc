"""The exceptions of hubproto, told apart by who is to blame."""

from __future__ import annotations

__all__ = [
    "EndOfStream",
    "HubError",
    "HubProtoError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "TransportError",
    "WouldBlock",
    "error_text",
    "forget_frames",
]


class HubProtoError(Exception):
    """Base of every exception that hubproto raises on purpose.

    `kind` is the name that detailed errors give it, if that is not its class's own.
    """

    kind: str

    def __init__(self, *arguments: object, kind: str | None = None) -> None:
        super().__init__(*arguments)
        if kind is not None:
            self.kind = kind


class LocalProtocolError(HubProtoError):
    """You broke the rules: raised by the command, which has changed nothing."""


class RemoteProtocolError(HubProtoError):
    """The peer broke the rules. Never raised by an input; it arrives in `ConnectionClosed.error`.

    `kind` is the name that the reference implementation gives this mistake in detailed errors.
    """

    def __init__(self, message: str, *, kind: str = "InvalidDataException") -> None:
        super().__init__(message, kind=kind)


class TransportError(HubProtoError):
    """The way to the peer failed: refused, cut, timed out, or answered by something that is no hub."""


class HubError(HubProtoError):
    """An error whose text crosses the wire.

    Raised by a hub method, its text reaches the caller even without detailed errors (SPEC 3.4); raised by a client's
    call, it is what the server answered.
    """

    kind = "HubException"


class WouldBlock(HubProtoError):
    """There is nothing yet: wait for the `Wake` of what you asked, then ask again."""


class EndOfStream(HubProtoError):
    """The peer ended its stream: no item follows."""


def forget_frames(error: BaseException) -> None:
    """Let an error that was raised, and what caused it, not keep what their frames hold: all that was received last."""
    seen: BaseException | None = error
    while seen is not None and seen.__traceback__ is not None:  # ends where causes go round, too
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def error_text(base: str, error: BaseException | None, *, detailed: bool) -> str:
    """Build a text for the peer (SPEC 3.4): the details of anything but a `HubError` only when asked for.

    A class may carry `kind`, the name to show; otherwise the class's own name is shown.
    """
    if error is None or not (detailed or isinstance(error, HubError)):
        return base
    return f"{base} {getattr(error, 'kind', type(error).__name__)}: {error}"
