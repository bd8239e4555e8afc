"""`ClientSession`: a client's end of a connection: its calls, and the handlers for what the server calls (SPEC 5.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from ._binding import ANY_ARGUMENTS, Shape
from ._codecs import Codec
from ._config import HubConfig
from ._connection import HubConnection, Role
from ._effects import EffectSink
from ._errors import HubError
from ._events import ConnectionClosed
from ._hub import Method
from ._logs import NOBODY, client_log, facts, one_line
from ._messages import Invocation, InvocationBindingFailure, StreamInvocation
from ._running import RunningCall, Upload
from ._session import Session
from ._signature import Parameter, Signature, where
from ._transport import Transport

__all__ = ["FAREWELL_GRACE", "ClientSession", "Handlers"]

FAREWELL_GRACE = 0.25
"""Seconds that a server has to answer our Close by ending the transport, as ASP.NET Core does since 8.0.

If we end it at once, ASP.NET Core drops now and then what it has received before the Close and not got to yet.
"""


class Handlers:
    """What a client does when the server calls. Outlives the connection."""

    __slots__ = ("_methods", "listeners")

    def __init__(self) -> None:
        self._methods: dict[str, list[Method]] = {}
        self.listeners: list[Method] = []
        """Called with the target and the arguments of every call."""

    def add(self, target: str, function: Callable[..., Any]) -> None:
        """Call `function` whenever the server calls `target`, in any case; several run in the order of their adding.

        The annotations of the first one say what the arguments must be.
        """
        signature = Signature.of(function, target)
        if not signature.plain or signature.is_stream:
            raise TypeError(f"the handler of {target!r} can have plain parameters only, and return no stream")
        self._methods.setdefault(target.lower(), []).append(Method(target, function, signature, cancellable=False))

    def remove(self, target: str, function: Callable[..., Any] | None = None) -> None:
        """Forget one handler of `target`, or all of them."""
        kept = [m for m in self._methods.pop(target.lower(), []) if function is not None and m.function is not function]
        if kept:
            self._methods[target.lower()] = kept

    def add_listener(self, function: Callable[..., Any]) -> None:
        """Call `function(target, arguments)` whenever the server calls anything, before the handlers of that target.

        It never answers: what it returns is dropped.
        """
        signature = Signature.of(function, "on_any", converts=False)
        least = len(signature.names) - len(signature.defaults)
        takes_two = Parameter.REST in signature.slots or least <= 2 <= len(signature.names)
        if not signature.plain or signature.is_stream or not takes_two:
            raise TypeError(f"{where(function)} cannot listen: it must take the target and the list of the arguments")
        self.listeners.append(Method("on_any", function, signature, cancellable=False))

    def remove_listener(self, function: Callable[..., Any] | None = None) -> None:
        """Forget one of those that listen to everything, or all of them."""
        self.listeners[:] = [m for m in self.listeners if function is not None and m.function is not function]

    def find(self, target: str) -> Sequence[Method]:
        """Return the handlers of `target`, possibly none."""
        return self._methods.get(target.lower(), ())


class ClientSession(Session):
    """One connection of a client to a hub. Handlers run one after another, in the order of the server's calls.

    `call_headers` is asked at every call for the headers of its message. `transport`, `stateful` and
    `log_facts`: see `HubConnection`.
    """

    __slots__ = ("_current", "_handlers", "_log_facts", "_queue", "is_open")

    def __init__(
        self,
        codec: Codec,
        handlers: Handlers,
        *,
        config: HubConfig,
        effects: EffectSink,
        transport: Transport = Transport.WEB_SOCKETS,
        stateful: bool = False,
        call_headers: Callable[[], Mapping[str, str]] | None = None,
        log_facts: Mapping[str, object] | None = None,
        now: float,
    ) -> None:
        super().__init__(config, effects, call_headers)
        self._log_facts = NOBODY if log_facts is None else log_facts
        self._conn = HubConnection(
            Role.CLIENT,
            [codec],
            config=config,
            binder=self,
            transport=transport,
            stateful=stateful,
            log_facts=self._log_facts,
            now=now,
        )
        self._handlers = handlers
        self._queue: deque[RunningCall] = deque()  # handlers that wait for the one that runs
        self._current: RunningCall | None = None
        self.is_open: bool = False
        """The handshake is done: calls are legal."""

    def build_arguments(self, call: RunningCall, iterators: Sequence[Any]) -> Sequence[Any]:
        """Return what the function takes."""
        return call.arguments

    def open_stream(self, call: RunningCall, result: Any) -> Any:
        """See `Session.open_stream`; an upload may come from a plain iterable too."""
        if isinstance(result, Iterable) and not isinstance(result, AsyncIterable):
            return result
        return super().open_stream(call, result)

    def arguments_shape(self, target: str) -> Shape:
        """See `Binder`."""
        methods = self._handlers.find(target)
        return methods[0].signature.arguments if methods else ANY_ARGUMENTS

    # within

    def _opened(self) -> None:
        self.is_open = True

    def _ended(self, event: ConnectionClosed) -> None:
        self.is_open = False

    def _held_back(self) -> bool:
        """Slow handlers slow the server, unless somebody, perhaps such a handler, waits for what comes behind."""
        waiting = len(self._queue)
        if waiting <= self._config.stream_buffer:
            return False
        if waiting > self._config.stream_buffer_limit:
            return True
        return not (self._conn.waits_for_ack or self._somebody_waits())

    def _somebody_waits(self) -> bool:
        return any(not call.done and key not in self._streams for key, call in self._outgoing.items()) or any(
            stream.waiting for stream in self._streams.values()
        )

    def _receive_call(self, event: Invocation | StreamInvocation) -> None:
        methods = self._handlers.find(event.target)
        for listener in self._handlers.listeners:
            self._queue.append(
                RunningCall(
                    self,
                    listener.function,
                    (event.target, list(event.arguments)),
                    invocation_id=None,
                    label=one_line(event.target),
                    origin=listener,
                    inline=listener.signature.inline,
                )
            )
        if not methods:
            if not self._handlers.listeners:
                target = one_line(event.target)
                client_log.warning(
                    "the server called '%s', which has no handler", target, extra=facts(self._log_facts, method=target)
                )
            if event.invocation_id is not None:
                self._conn.complete(event.invocation_id, error="Client didn't provide a result.")
        for method in methods:
            answers = method is methods[-1]
            self._queue.append(
                RunningCall(
                    self,
                    method.function,
                    event.arguments,
                    invocation_id=event.invocation_id if answers else None,
                    label=method.name,
                    origin=method,
                    inline=method.signature.inline,
                )
            )
        self._start_next()

    def _receive_bad_call(self, event: InvocationBindingFailure) -> None:
        target = one_line(event.target)
        client_log.warning(
            "the server called '%s' with arguments that do not fit: %s",
            target,
            one_line(event.error),
            extra=facts(self._log_facts, method=target, error=event.error),
        )
        if event.invocation_id is not None:
            self._conn.complete(event.invocation_id, error="Client failed to parse argument(s).")

    def _start_next(self) -> None:
        while self._current is None and self._queue:
            call = self._queue.popleft()
            if call.invocation_id is None:  # one that owes an answer holds nobody up
                self._current = call
            self._start(call)

    def _cancel_at_end(self, call: RunningCall) -> None:
        """Stop what only the server could have used; what it sent before the end is still handled."""
        if call.invocation_id is not None:
            super()._cancel_at_end(call)

    def _end_call(self, call: RunningCall) -> bool:
        if call is self._current:
            self._current = None
        return super()._end_call(call)

    def _settle(self) -> None:
        super()._settle()
        self._start_next()
        if not self._conn.want_read:  # calls of the server were held back; there may be room for them now
            self._look_again()

    def _complete_call(self, call: RunningCall, result: Any) -> None:
        if call.invocation_id is not None and self._conn.is_open:
            self._conn.complete(call.invocation_id, UNSET if isinstance(call.origin, Upload) else result)

    def _fail_call(self, call: RunningCall, error: Exception) -> None:
        if not isinstance(error, HubError):
            what = "upload" if isinstance(call.origin, Upload) else f"handler of {call.label!r}"
            client_log.error(
                "the %s failed: %s: %s",
                what,
                type(error).__name__,
                one_line(error),
                exc_info=error,
                extra=facts(self._log_facts, method=call.label, error=error),
            )
        super()._fail_call(call, error)

    def _cancel_call(self, call: RunningCall) -> None:
        if call.invocation_id is not None and self._conn.is_open:
            text = "Stream canceled by client." if isinstance(call.origin, Upload) else "The handler was cancelled."
            self._conn.complete(call.invocation_id, error=text)

    def _failure_text(self, call: RunningCall, error: Exception) -> str:
        return str(error) or type(error).__name__
