"""Who sent a request, and whether it may come in: the authenticator and the hub's policy, run by the shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .._auth import Authorization, is_plain
from .._effects import CancelCall, EffectSink, StartCall, Wake
from .._errors import HubProtoError
from .._hub import Hub
from .._logs import connection_facts, facts, http_log, one_line
from .._running import PlainCallOwner, RunningCall
from ._messages import Request, Response

__all__ = ["AccessDenied", "Admission", "Authenticator"]

Authenticator = Callable[[Request], "Any | Awaitable[Any]"]
"""Says whose request it is: a `Principal` or an object of your own, None for nobody. It may be an `async def` function.

It is asked at every request. It may raise `AccessDenied`.
"""

_UNAUTHORIZED = Response(401, content_type=None, headers={"www-authenticate": "Bearer"})
_FORBIDDEN = Response(403, content_type=None)
_FAILED = Response(500, content_type=None)
_UNSAID = "(its text is not logged: it may hold a token)"
_TOO_SLOW = Response(503, content_type=None)


class AccessDenied(HubProtoError):
    """Raised by an authenticator that lets somebody not in, who is answered 401, or 403 if `known`.

    The message is for the log only; do not put the token in it.
    """

    def __init__(self, message: str = "", *, known: bool = False) -> None:
        super().__init__(message)
        self.known: bool = known


def failed(hub: Hub, what: str, path: str, error: Exception) -> Response:
    """Log that user code has failed which has seen a token, and return the answer.

    Where it failed is logged, but not the exception's own text: that of a `KeyError` is the key.
    """
    kind = type(error).__name__
    unsaid = HubProtoError(f"{kind} {_UNSAID}").with_traceback(error.__traceback__)
    http_log.error("the %s of the hub at %s failed: %s", what, path, kind, exc_info=unsaid, extra=_facts(hub, error))
    return _FAILED


def _facts(hub: Hub, error: Exception | None = None) -> dict[str, object]:
    return facts(connection_facts(hub.name, None, None), error=error)


class Admission(PlainCallOwner):
    """Decides about one request. `Wake(host)` says that it is decided: then there is an `answer`, or it is `admitted`.

    To the shell it is the owner of two calls, the authenticator's and the policy's, one after the other.
    """

    __slots__ = ("_call", "_effects", "_host", "_hub", "_request", "admitted", "answer", "principal")

    def __init__(
        self, hub: Hub, authenticator: Authenticator | None, request: Request, host: object, effects: EffectSink
    ) -> None:
        self.answer: Response | None = None
        """Why it is not admitted."""
        self.admitted: bool = False
        self.principal: Any = None
        self._hub = hub
        self._request = request
        self._host = host
        self._effects = effects
        self._call: RunningCall | None = None
        if authenticator is not None:
            self._run(authenticator, request, "authenticator")
        else:
            self._ask_policy()

    @property
    def decided(self) -> bool:
        """There is nothing to wait for."""
        return self.admitted or self.answer is not None

    def abandon(self, *, timed_out: bool = False) -> None:
        """Nobody waits any longer."""
        call, self._call = self._call, None
        if call is not None:
            self._effects.append(CancelCall(call))
            if timed_out:
                http_log.error(
                    "the %s of the hub at %s takes too long", call.label, self._path, extra=_facts(self._hub)
                )
            self._decide(_TOO_SLOW)

    # CallOwner

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """See `Session`."""
        if not self._ends(call):
            return
        if call.label == "policy":
            self._decide(None if result else self._refusal())
        else:
            self.principal = result
            self._ask_policy()

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """See `Session`."""
        if not self._ends(call):
            return
        if isinstance(error, AccessDenied):
            reason = one_line(error) or "no reason given"
            http_log.info(
                "a request for the hub at %s was not let in: %s", self._path, reason, extra=_facts(self._hub, error)
            )
            self._decide(_FORBIDDEN if error.known else _UNAUTHORIZED)
        else:
            self._decide(failed(self._hub, call.label, self._path, error))

    def call_cancelled(self, call: RunningCall) -> None:
        """See `Session`. Whoever cancels everything closes the socket too."""
        if self._ends(call):
            self._decide(_TOO_SLOW)

    # within

    @property
    def _path(self) -> str:
        return one_line(self._request.path)

    def _run(self, function: Callable[[Any], Any], argument: Any, label: str) -> None:
        self._call = RunningCall(
            self, function, (argument,), invocation_id=None, label=label, inline=is_plain(function)
        )
        self._effects.append(StartCall(self._call))

    def _ends(self, call: RunningCall) -> bool:
        """Note the one outcome of a call; tell whether anybody still waits for it."""
        awaited = call is self._call
        if awaited:
            self._call = None
        return awaited

    def _ask_policy(self) -> None:
        if self._hub.policy is None:
            self._decide(None)
        else:
            self._run(self._hub.policy, Authorization(self.principal), "policy")

    def _refusal(self) -> Response:
        return _UNAUTHORIZED if self.principal is None else _FORBIDDEN

    def _decide(self, answer: Response | None) -> None:
        self.answer = answer
        self.admitted = answer is None
        self._effects.append(Wake(self._host))
