"""`Lifespan`: tells an ASGI application that the server begins and ends, and waits for what it has to do then."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from .._effects import CancelCall, StartCall
from .._logs import NOBODY, error_kind, facts, http_log
from .._running import PlainCallOwner, RunningCall
from ._app import AppHost, AsgiApplication, Moment

__all__ = ["Lifespan"]


class Lifespan(PlainCallOwner):
    """One call of the application, from before the first request to after the last one.

    An application that does not know lifespans raises or returns before it has received anything, and is served all
    the same.
    """

    __slots__ = ("_app", "_asked", "_call", "_message", "_owner", "_sent", "_stopping", "refusal", "started", "state")

    def __init__(self, app: AsgiApplication, owner: AppHost) -> None:
        self.state: dict[str, Any] = {}
        """What the application wants every request to find in its scope."""
        self.started: Moment = Moment(self._has_started, self._raise_refusal)
        """That requests may come. Its outcome raises RuntimeError if the application cannot start."""
        self.refusal: RuntimeError | None = None
        self._app = app
        self._owner = owner
        self._asked = 0  # how many messages it was given
        self._sent = ""  # what it has said last
        self._stopping = False
        self._message = Moment(self._has_message, self._take_message)
        self._call: RunningCall | None = None

    @property
    def ended(self) -> bool:
        """The application has returned, or was never called."""
        return self._call is None or self._call.done

    def start(self) -> None:
        """Call the application."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._call = RunningCall(
            self, self._app, (scope, self._receive, self._send), invocation_id=None, label="fallback application"
        )
        self._owner.effects.append(StartCall(self._call))

    def stop(self) -> None:
        """The last request has been answered."""
        self._stopping = True
        self._owner.wake(self._message)

    def cancel(self) -> None:
        """It has had its time."""
        if self._call is not None and not self._call.done:
            self._owner.effects.append(CancelCall(self._call))

    # what the application is given

    def _receive(self) -> Coroutine[Any, Any, Any]:
        return self._owner.waiter.outcome_of(lambda: self._message)

    def _send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        return self._owner.waiter.outcome_of(lambda: self._hear(message))

    def _has_message(self) -> bool:
        return self._asked == 0 or (self._asked == 1 and self._stopping)

    def _take_message(self) -> dict[str, Any]:
        self._asked += 1
        return {"type": "lifespan.startup" if self._asked == 1 else "lifespan.shutdown"}

    def _hear(self, message: Mapping[str, Any]) -> Moment:
        match message["type"]:
            case "lifespan.startup.complete" | "lifespan.startup.failed" if self._asked == 1 and not self._sent:
                self._sent = message["type"]
                if self._sent == "lifespan.startup.failed":
                    self._refuse(message.get("message", ""), None)
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed" if self._asked > 1:
                self._sent = message["type"]
                if self._sent == "lifespan.shutdown.failed":
                    http_log.error(
                        "the fallback application failed to shut down: %s",
                        message.get("message", ""),
                        extra=facts(NOBODY),
                    )
            case other:
                raise RuntimeError(f"the application sends {other!r} when it may not")
        self._owner.wake(self.started)
        return Moment(_at_once, _nothing)

    # what becomes of it

    def _has_started(self) -> bool:
        return bool(self._sent) or self.ended

    def _raise_refusal(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def _refuse(self, reason: str, cause: Exception | None) -> None:
        self.refusal = RuntimeError(f"the fallback application failed to start: {reason or 'no reason given'}")
        self.refusal.__cause__ = cause

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """See `Session`."""
        self._leave(call)

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """See `Session`."""
        if self._sent and self.refusal is None:
            http_log.error(
                "the fallback application failed in its lifespan: %s",
                error_kind(error),
                exc_info=error,
                extra=facts(NOBODY, error=error),
            )
        elif self._asked and self.refusal is None:
            self._refuse(str(error), error)
        self._leave(call)

    def call_cancelled(self, call: RunningCall) -> None:
        """See `Session`."""
        self._leave(call)

    def _leave(self, call: RunningCall) -> None:
        call.done = True
        self._owner.wake(self.started)
        self._owner.call_ended(self)


def _at_once() -> bool:
    return True


def _nothing() -> None:
    return None
