"""`AppExchange`: one request, answered by an ASGI application of the user's."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from .._effects import CancelCall, StartCall
from .._logs import NOBODY, error_kind, facts, http_log, one_line
from .._running import PlainCallOwner, RunningCall
from ._app import AppHost, AsgiApplication, Moment
from ._messages import Response

__all__ = ["AppExchange", "ClientHasLeft"]

_ENOUGH = 65536  # bytes of a body, in either direction, that are held before its sender has to wait
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\n\r\f\v]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_STATUSES = range(200, 1000)
_BODILESS = (204, 304)
_FAILED = Response(500, b"Internal Server Error")
_CANCELLED = Response(503)


class ClientHasLeft(OSError):
    """Raised by an application's `send`, as ASGI 2.4 wants it: nobody takes the answer any longer."""


class AppExchange(PlainCallOwner):
    """An `Exchange` whose other side is an application: what it sends is the answer, what it receives is the body.

    It may go on when all has been said, and when the client has left: until it returns, its host counts it. Where it
    fails, the client is answered 500, or cut off if the answer has begun.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_broken",
        "_call",
        "_ended",
        "_gone",
        "_head",
        "_heard",
        "_held",
        "_left",
        "_message",
        "_owner",
        "_path",
        "_room",
        "_told",
        "_whole",
        "_without_body",
        "finished",
        "host",
    )

    goes_on: bool = False
    farewell_timeout: float = 0.0

    def __init__(self, app: AsgiApplication, scope: Mapping[str, Any], host: object, owner: AppHost) -> None:
        self.host: object = host
        self.finished: bool = False
        self._owner = owner
        self._path = one_line(scope["path"])
        self._held = bytearray()  # of the request's body, what the application has not received
        self._whole = False  # all of that has come
        self._heard = False  # and the application has received it
        self._head: Response | None = None
        self._without_body = scope["method"] == "HEAD"
        self._left: int | None = None  # bytes of the answer's body that its content-length still promises
        self._body = bytearray()  # of the answer, what has not been taken
        self._begun = False  # there is something of the answer's body, so that its head may leave
        self._told = False  # the head has been taken
        self._ended = False  # the application has said the last of it
        self._broken = False  # it will not come to its end
        self._gone = False  # the client
        self._message = Moment(self._has_message, self._take_message)
        self._room = Moment(self._has_room, self._go_on)
        self._call = RunningCall(
            self, app, (scope, self._receive, self._send), invocation_id=None, label="fallback application"
        )
        owner.effects.append(StartCall(self._call))

    def cancel(self) -> None:
        """The application has had its time."""
        self._owner.effects.append(CancelCall(self._call))

    # the exchange

    @property
    def want_read(self) -> bool:
        return len(self._held) < _ENOUGH

    def receive_data(self, data: bytes, *, now: float) -> None:
        if not (self._gone or self._ended):
            self._held += data
            self._wake(self._message)

    def receive_end(self, *, now: float) -> None:
        self._whole = True
        self._wake(self._message)

    def receive_eof(self, *, now: float) -> None:
        self._gone = True
        self._held.clear()
        self._body.clear()
        self._wake(self._message)
        self._wake(self._room)

    def response(self, *, now: float) -> Response | None:
        if self._head is None or not self._begun:
            return None
        self._told = True
        self.finished = self._head is _FAILED or self._head is _CANCELLED
        return self._head

    def data_to_send(self, *, now: float) -> bytes:
        data = bytes(self._body)
        self.finished = self._ended and not self._broken
        if data:
            self._body.clear()
            self._wake(self._room)
        return data

    def next_timeout(self) -> float | None:
        return 0.0 if self._broken else None  # long past

    def handle_timeout(self, *, now: float) -> None:
        if self._broken:
            self.finished = True

    # what the application is given

    def _receive(self) -> Coroutine[Any, Any, Any]:
        return self._owner.waiter.outcome_of(lambda: self._message)

    def _send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        return self._owner.waiter.outcome_of(lambda: self._say(message))

    def _has_message(self) -> bool:
        return self._is_over or bool(self._held) or (self._whole and not self._heard)

    def _take_message(self) -> dict[str, Any]:
        if self._is_over:
            return {"type": "http.disconnect"}
        body = bytes(self._held)
        self._held.clear()
        self._heard = self._whole
        self._wake(self.host)  # there is room for more
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    def _has_room(self) -> bool:
        return self._gone or len(self._body) < _ENOUGH

    def _go_on(self) -> None:
        if self._gone:
            raise ClientHasLeft("the client has left")

    def _say(self, message: Mapping[str, Any]) -> Moment:
        match message["type"]:
            case _ if self._gone:
                pass
            case "http.response.start" if self._head is None:
                self._begin(message["status"], message.get("headers", ()))
            case "http.response.body" if self._head is not None and not self._ended:
                self._add(b"" if self._without_body else message.get("body", b""), not message.get("more_body", False))
            case other:
                raise RuntimeError(f"the application sends {other!r} when it may not")
        return self._room

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if status not in _STATUSES:
            raise RuntimeError(f"the application answers with a status that is none: {status!r}")
        raw: list[tuple[bytes, bytes]] = []
        length: int | None = None
        for given_name, given_value in headers:
            name, value = bytes(given_name).lower(), bytes(given_value).strip(b" \t")
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise RuntimeError(f"the application answers with a header that is none: {given_name!r}")
            if name == b"content-length":
                if length is not None or not _LENGTH.fullmatch(value):
                    raise RuntimeError(f"the application answers with a content-length that is none: {value!r}")
                length = int(value)
            if name != b"transfer-encoding":  # how the answer is framed is the server's business
                raw.append((name, value))
        self._without_body = self._without_body or status in _BODILESS
        self._left = None if self._without_body else length
        self._head = Response(status, content_type=None, raw_headers=raw)

    def _add(self, body: bytes, last: bool) -> None:
        if self._left is not None:
            left = self._left - len(body)
            if left < 0 or (last and left):
                raise RuntimeError(f"the application sends {'more' if left < 0 else 'less'} than its content-length")
            self._left = left
        self._body += body
        self._begun = True
        self._ended = last
        self._wake(self.host)
        if last:
            self._wake(self._message)

    # CallOwner

    def call_returned(self, call: RunningCall, result: Any = None) -> None:
        """See `Session`."""
        if not self._is_over:
            http_log.error(
                "the fallback application has left its answer at %s unfinished", self._path, extra=facts(NOBODY)
            )
        self._leave(_FAILED)

    def call_failed(self, call: RunningCall, error: Exception) -> None:
        """See `Session`. That the client has left is nobody's fault."""
        if not (self._gone and _tells_of_departure(error)):
            http_log.error(
                "the fallback application failed at %s: %s",
                self._path,
                error_kind(error),
                exc_info=error,
                extra=facts(NOBODY, error=error),
            )
        self._leave(_FAILED)

    def call_cancelled(self, call: RunningCall) -> None:
        """See `Session`. It was one of the last, or everything is dropped. What has been reported already counts."""
        if not self._call.done:
            self._leave(_CANCELLED)

    def _leave(self, answer: Response) -> None:
        """The application has returned. If it owes an answer, it is this one, or none if another one has begun."""
        self._call.done = True
        if not self._is_over:
            if self._told:
                self._broken = True
            else:
                self._head = answer
                self._begun = True
            self._ended = True
            self._body.clear()
            self._wake(self.host)
        self._owner.call_ended(self)

    # within

    @property
    def _is_over(self) -> bool:
        """There is nothing more to be said."""
        return self._gone or self._ended

    def _wake(self, target: object) -> None:
        self._owner.wake(target)


def _tells_of_departure(error: BaseException) -> bool:
    """Whether an application failed because of `ClientHasLeft`, which it may have turned into another error."""
    seen: set[int] = set()  # frameworks raise an error again where it is its own context's context
    causes: list[BaseException | None] = [error]
    while causes:
        cause = causes.pop()
        if isinstance(cause, ClientHasLeft):
            return True
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            causes += [cause.__cause__, cause.__context__]
            if isinstance(cause, BaseExceptionGroup):
                causes += cause.exceptions
    return False
