"""What a person sees beside the results: on stderr, and in the exit status."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol, TextIO

from .._client_errors import (
    ConnectionFailed,
    NoCommonTransport,
    ProtocolNotSupported,
    ServerGone,
    TlsFailed,
    Unauthorized,
)
from .._transport import Transport

__all__ = ["Console", "Watched"]

_ADVICE: dict[type[Exception], str] = {
    NoCommonTransport: "--transport and --protocol choose among what the server offers",
    ProtocolNotSupported: "--protocol chooses the other encoding",
    ServerGone: "did the server stop? With --reconnect, `listen` comes back by itself",
    TlsFailed: "does the server speak TLS at this port? --insecure takes any certificate",
    Unauthorized: "--token or --header gives it the access token that it wants",
}
"""What to try, where it is something else for a person at a shell than for a program."""

_STYLES = {"connecting": "dim", "connected": "green", "reconnecting": "yellow", "closed": "dim", "error": "bold red"}


class Watched(Protocol):
    """A client, as both adapters make it."""

    @property
    def transport(self) -> Transport | None: ...
    def on_connecting(self, callback: Callable[[], None], /) -> Any: ...
    def on_connected(self, callback: Callable[[str | None], None], /) -> Any: ...
    def on_reconnecting(self, callback: Callable[[Exception | None], None], /) -> Any: ...
    def on_reconnected(self, callback: Callable[[str | None], None], /) -> Any: ...
    def on_closed(self, callback: Callable[[Exception | None], None], /) -> Any: ...


class Console:
    """Writes to `stream`, stderr: what goes wrong in any case, how things go only where a person looks at a terminal.

    There it is coloured if `rich` is installed. None is for a program that has no stderr.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()
        self._rich = _rich_console(stream) if self._terminal and find_spec("rich") else None

    def watch(self, client: Watched) -> None:
        """Tell from now on what becomes of this client's connection, if there is a person to be told."""
        if not self._terminal:
            return

        def describe(what: str, connection_id: str | None) -> None:
            known_as = "" if connection_id is None else f" as {connection_id}"
            self._say(f"{what} over {client.transport}{known_as}", "connected")

        def lost(error: Exception | None) -> None:
            reason = "the server has closed it" if error is None else _one_line(getattr(error, "what", error))
            self._say(f"connection lost, reconnecting: {reason}", "reconnecting")

        client.on_connecting(lambda: self._say("connecting", "connecting"))
        client.on_connected(lambda connection_id: describe("connected", connection_id))
        client.on_reconnecting(lost)
        client.on_reconnected(lambda connection_id: describe("reconnected", connection_id))
        client.on_closed(lambda _: self._say("closed", "closed"))

    def warn(self, text: str) -> None:
        """Say what a person must know even if nobody asked."""
        self._say(f"warning: {text}", "reconnecting")

    def fail(self, error: Exception) -> int:
        """Say in one line what went wrong, and return the exit status for it.

        That is 2 for what could not be tried at all, 1 for what has failed. A reader of the output that has had enough
        (`BrokenPipeError`) is no failure, and nothing is said of it.
        """
        if isinstance(error, BrokenPipeError):
            return 0
        self._say(explanation(error), "error")
        return 2 if isinstance(error, ValueError) else 1

    def _say(self, text: str, style: str) -> None:
        if self._rich is not None:
            self._rich.print(text, style=_STYLES[style], markup=False, emoji=False, highlight=False, soft_wrap=True)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)


def explanation(error: Exception) -> str:
    """Return one line that says what went wrong, and what a person at a shell can try."""
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), None)
    what = error.what if isinstance(error, ConnectionFailed) and advice else error
    return _one_line(f"{what}; {advice}" if advice else str(error) or type(error).__name__)


def _one_line(text: object) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _rich_console(stream: TextIO | None) -> Any:
    from rich.console import Console as RichConsole

    return RichConsole(file=stream)
