"""The access token of a client: given once, or asked for before each attempt to connect (SPEC 5.12, 5.13)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from .._auth import is_plain
from .._client_errors import TokenFailed
from .._effects import CancelCall, EffectSink, StartCall, Wake
from .._errors import WouldBlock
from .._running import PlainCallOwner, RunningCall

__all__ = ["AccessToken", "TokenProvider", "TokenRequest", "fits_a_header"]

TokenProvider = Callable[[], "str | Awaitable[str | None] | None"]
"""Returns the access token, None for none. It may be an `async def` function."""

AccessToken = str | TokenProvider

_TOKEN = re.compile(r"[!-~]*")


def fits_a_header(token: str) -> bool:
    """Tell whether a token can be sent."""
    return _TOKEN.fullmatch(token) is not None


class TokenRequest(PlainCallOwner):
    """One question to a token provider, whom the shell runs. `Wake(host)` says that there is an answer."""

    __slots__ = ("_call", "_effects", "_error", "_host", "_result", "_url")

    def __init__(self, provider: TokenProvider, url: str, host: object, effects: EffectSink) -> None:
        self._url = url
        self._host = host
        self._effects = effects
        self._result: Any = None
        self._error: Exception | None = None
        self._call: RunningCall | None = RunningCall(
            self, provider, (), invocation_id=None, label="access-token provider", inline=is_plain(provider)
        )
        effects.append(StartCall(self._call))

    def token(self) -> str | None:
        """Return the answer; `WouldBlock` if there is none yet. Raises `TokenFailed` if it is no token.

        The provider's own text is left out: it may hold a token. It is in the `__cause__`.
        """
        if self._call is not None:
            raise WouldBlock
        if self._error is not None:
            kind = type(self._error).__name__
            raise TokenFailed(self._url, f"the access-token provider for {self._url} failed: {kind}") from self._error
        token = self._result
        if token is None or (isinstance(token, str) and fits_a_header(token)):
            return token
        what = "a text that no header can carry" if isinstance(token, str) else f"a {type(token).__name__} object"
        raise TokenFailed(self._url, f"the access-token provider for {self._url} gave {what}")

    def abandon(self) -> None:
        """Nobody waits any longer."""
        call, self._call = self._call, None
        if call is not None:
            self._effects.append(CancelCall(call))

    # CallOwner

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """See `Session`."""
        self._end(call, result, None)

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """See `Session`."""
        self._end(call, None, error)

    def call_cancelled(self, call: RunningCall) -> None:
        """See `Session`. Both shells say so of every call at its end, whatever became of it."""
        self._end(call, None, TimeoutError("cancelled"))

    def _end(self, call: RunningCall, result: Any, error: Exception | None) -> None:
        if call is self._call:
            self._call = None
            self._result = result
            self._error = error
            self._effects.append(Wake(self._host))
