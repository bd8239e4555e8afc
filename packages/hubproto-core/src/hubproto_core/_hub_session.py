"""`HubSession`: a server's end of a connection: runs the methods of a `Hub` for one client (SPEC 3)."""

from __future__ import annotations

from collections.abc import Coroutine, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET

from ._binding import ANY, Shape
from ._call import Call, ConnectionInfo
from ._call_checks import Check, misuse
from ._clients import CallerClients, CallerGroups, HubContext, Registry
from ._codecs import Codec
from ._config import HubConfig
from ._connection import HubConnection, Role
from ._connection_log import ConnectionLog
from ._effects import CancelCall, EffectSink, Wake
from ._errors import HubError, HubProtoError, LocalProtocolError, TransportError, error_text
from ._events import ConnectionClosed
from ._hub import Hub, Method
from ._messages import Completion, Invocation, InvocationBindingFailure, StreamInvocation
from ._observer import ConnectionStatus, ObservedCall, ObservedConnection
from ._running import Departure, IncomingStream, OutgoingCall, RunningCall
from ._session import Session
from ._signature import Signature
from ._timers import Timer, TimerTable

__all__ = ["HubSession"]

_TURN = 50  # messages of one client that are looked at before the others have their turn


class HubSession(Session):
    """One client's connection to a hub.

    `connection_id` is the public id, `info` what the opening request said, `principal` what the authenticator said of
    it, `user` whom the connection belongs to. It is closed when `expires` passes. `stateful`: its transport may be
    replaced (SPEC 4.7).
    """

    __slots__ = (
        "_check",
        "_cut_short",
        "_departure",
        "_dismissed",
        "_draining",
        "_hub",
        "_log",
        "_observed",
        "_pending",
        "_plain_calls",
        "_registry",
        "_session_timers",
        "_welcome",
        "_welcomed",
        "connection_id",
        "finished",
        "groups",
        "info",
        "items",
        "principal",
        "user",
    )

    def __init__(
        self,
        hub: Hub,
        codecs: Sequence[Codec],
        *,
        connection_id: str,
        registry: Registry | None = None,
        config: HubConfig | None = None,
        effects: EffectSink,
        info: ConnectionInfo | None = None,
        user: str | None = None,
        principal: Any = None,
        expires: float | None = None,
        stateful: bool = False,
        now: float,
    ) -> None:
        super().__init__(config or hub.config, effects)
        self.info: ConnectionInfo = info or ConnectionInfo()
        self._log = ConnectionLog(hub.name, connection_id, user)
        self._conn = HubConnection(
            Role.SERVER,
            codecs,
            config=self._config,
            binder=self,
            transport=self.info.transport,
            stateful=stateful,
            log_facts=self._log.facts,
            turn_size=_TURN,
            now=now,
        )
        self._hub = hub
        self._registry = registry or Registry()
        self._pending: tuple[Method, Invocation | StreamInvocation] | None = (
            None  # waits for a slot, and everything behind it too
        )
        self._check: RunningCall | None = None  # a policy decides about a call, and everything behind it waits
        self._plain_calls = 0
        self._welcome: RunningCall | None = None  # on_connected runs; no call is taken before it ends
        self._welcomed = False  # on_connected has succeeded, so on_disconnected will run
        self._dismissed = False  # on_disconnected has begun
        self._draining = False  # shutting down: no new call is begun
        self._cut_short = False  # shutting down at once: whatever still begins is cancelled
        self._session_timers = TimerTable()
        if expires is not None:
            self._session_timers.arm(Timer.EXPIRY, expires)
        self.connection_id: str = connection_id
        self.user: str | None = user
        self.principal: Any = principal
        self.items: dict[Any, Any] = {}
        self._departure: Departure | None = None  # what is woken at the end, if somebody waits for that
        self.groups: CallerGroups = CallerGroups(self._registry, connection_id)
        self._observed: ObservedConnection | None = None
        if hub.observation is not None:
            self._observed = hub.observation.connection_opened(
                hub.name, connection_id, user, self.info.transport, now=now
            )
        self.finished: bool = False
        """Nothing of this connection runs any more, `on_disconnected` included."""

    def renew(self, user: str | None, principal: Any, expires: float | None) -> None:
        """Its client has shown anew who it is: from now on that decides about calls, and ends the connection in time.

        Whom the connection belongs to stays as it was (SPEC 4.1, 4.6).
        """
        if user != self.user:
            self._log.other_user(user)
        self.principal = principal
        self._session_timers.disarm(Timer.EXPIRY)
        if expires is not None and not self.is_over:
            self._session_timers.arm(Timer.EXPIRY, expires)

    # --- facts, inputs and outputs -----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """See `HubConnection.next_timeout`."""
        deadlines = [d for d in (self._conn.next_timeout(), self._session_timers.next()) if d is not None]
        return min(deadlines, default=None)

    def handle_timeout(self, *, now: float) -> None:
        """See `HubConnection.handle_timeout`."""
        for timer in self._session_timers.expire(now):
            if timer is Timer.EXPIRY:
                self._log.expired()
                self.close(allow_reconnect=True)
            else:
                self.cancel_all()
        super().handle_timeout(now=now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """See `HubConnection.receive_eof`. A client that is lost does not find a server that shuts down again."""
        was_lost = self.is_lost
        super().receive_eof(error, now=now)
        if self.is_lost and not was_lost:
            self._log.lost(error)
            if self._draining:
                self._close_if_drained()

    # commands

    def resume(self) -> None:
        """See `Session.resume`."""
        super().resume()
        self._log.resumed()

    def push(self, data: bytes) -> None:
        """Send an encoded Invocation without id; a client that reads far too slowly is given up instead."""
        if not self._conn.is_open:
            return
        self._conn.send_encoded(data)
        self._limit_output()
        self._output_made()

    def push_latest(self, key: Hashable, data: bytes) -> None:
        """Send like `push`, but let it wait while the client is behind, in the place of the last with this key."""
        if self._conn.is_open and (self._latest is not None or not self.writable):
            self._hold(key, data)
            self._limit_output()
            self._output_made()
        else:
            self.push(data)

    def invoke(self, target: str, arguments: Sequence[Any] = (), shape: Shape = ANY) -> OutgoingCall:
        """See `Session.invoke`; a client that reads far too slowly is given up here too."""
        call = super().invoke(target, arguments, shape)
        self._limit_output()
        return call

    def clients_of(self, call: RunningCall) -> CallerClients:
        """Return the selectors for a running call: when it waits for a client, its slot is free (SPEC 3.9)."""
        return CallerClients(self._registry, self.connection_id, partial(self._begin_to_ask, call))

    def context(self) -> HubContext:
        """Return the hub as it is seen from outside of any call."""
        return HubContext(self._registry)

    def wait_over(self) -> Coroutine[Any, Any, None]:
        """Wait until the connection has ended, or is being ended."""
        if self._registry.waiter is None:
            raise LocalProtocolError("no server runs here that could wait: see Registry.waiter")
        return self._registry.waiter.outcome_of(self._await_departure)

    def abort(self) -> None:
        """End the connection now; the client is told not to come back by itself (SPEC 3.11)."""
        self.close()

    def shut_down(self, *, now: float) -> None:
        """Begin nothing new, give running calls `shutdown_timeout` to end, then close and invite the client back."""
        if not self._draining:
            self._draining = True
            if self._pending is not None:  # it is never begun; behind it may be what running calls wait for
                self._pending = None
                self._look_again()
            self._session_timers.arm(Timer.SHUTDOWN, now + self._config.shutdown_timeout)
            self._close_if_drained()

    def cancel_all(self) -> None:
        """Cancel everything that runs for this connection, calls without an id and its last hook included."""
        for call in self._running:
            self._cancel_running(call)

    def cut_short(self, *, now: float) -> None:
        """Shut down at once: close, and cancel whatever runs or still begins; who was cancelled before, once more."""
        self.shut_down(now=now)
        self._cut_short = True
        for call in self._running:
            call.cancelled = True
            self.effects.append(CancelCall(call))
        self.close(allow_reconnect=True)

    def build_arguments(self, call: RunningCall, iterators: Sequence[Any]) -> Sequence[Any]:
        """Return what the function takes, with the shell's iterator for each of `call.incoming` in its place."""
        signature: Signature = call.origin.signature
        if signature.plain:  # what is left out at the end, Python itself fills in
            return call.arguments
        return signature.filled(call.arguments, iterators, Call(self, call))

    def arguments_shape(self, target: str) -> Shape:
        """See `Binder`."""
        return self._hub.lookup(target).signature.arguments

    # within

    def _dispatch(self, now: float) -> None:
        super()._dispatch(now)
        if self._conn.waits_for_ack and self._conn.unsent > self._config.send_limit:
            self._give_up()
            super()._dispatch(now)

    def _held_back(self) -> bool:
        if self._welcome is not None or self._pending is not None or self._check is not None:
            return True
        if self.writable:
            return False
        return not self._conn.waits_for_ack or self._conn.unsent > self._config.send_limit

    def _somebody_waits(self) -> bool:
        return bool(self._outgoing)  # a slow reader may be slow because it waits for the client's answer

    def _limit_output(self) -> None:
        if self.unsent > self._config.send_limit:
            self._give_up()

    def _give_up(self) -> None:
        """End the connection of a client that does not read, and hold nothing for it any more."""
        self._log.given_up(self._config.send_limit)
        self._conn.close(discard=True)
        self._look_again()

    def _await_departure(self) -> Departure:
        if self._departure is None:
            self._departure = Departure(self)
        return self._departure

    def _opened(self) -> None:
        self._log.opened(self.codec.name)
        self._registry.add(self)
        hook = self._hub.connected_hook
        if hook is None:
            self._welcomed = True
        else:
            self._welcome = self._run(hook, ())

    def _receive_call(self, event: Invocation | StreamInvocation) -> None:
        method = self._hub.lookup(event.target)
        if method.policy is None:
            self._admit(method, event)
        else:
            self._check = Check(method, event).asks(method.policy, self, self.principal, self.connection_id)
            self._start(self._check)

    def _decide(self, check: Check, allowed: bool) -> None:
        if not self._conn.is_open:
            return
        if allowed:
            self._admit(check.method, check.event)
        else:
            self._refuse(check.event, check.denial)

    def _admit(self, method: Method, event: Invocation | StreamInvocation) -> None:
        """The client may call this method; but does it do so in the right way?"""
        error = misuse(method, event, self._running)
        if error is not None:
            self._refuse(event, error)
        elif self._draining:
            self._log.refused(method.name, "the server is shutting down")
        elif isinstance(event, StreamInvocation) or method.signature.streams:
            self._start_call(method, event)
        elif self._plain_calls < self._config.max_parallel_calls:
            self._start_plain(method, event)
        else:
            self._pending = (method, event)

    def _receive_bad_call(self, event: InvocationBindingFailure) -> None:
        target = event.target
        if not isinstance(event.error, HubError):
            target = self._hub.lookup(target).name
        base = f"Failed to invoke '{target}' due to an error on the server."
        text = error_text(base, event.error, detailed=self._config.detailed_errors)
        self._log.refused(target, str(event.error), event.error)
        if event.invocation_id is not None:
            self._conn.complete(event.invocation_id, error=text)

    def _refuse(self, event: Invocation | StreamInvocation, error: str) -> None:
        self._log.refused(self._hub.lookup(event.target).name, error)
        if event.invocation_id is not None:
            self._conn.complete(event.invocation_id, error=error)
        for stream_id in event.stream_ids or ():
            if stream_id not in self._streams:
                self._conn.ignore_stream(stream_id)

    def _start_plain(self, method: Method, event: Invocation | StreamInvocation) -> None:
        self._plain_calls += 1
        self._start_call(method, event).holds_slot = True

    def _start_call(self, method: Method, event: Invocation | StreamInvocation) -> RunningCall:
        incoming: tuple[IncomingStream, ...] = ()
        if event.stream_ids:
            pairs = zip(event.stream_ids, method.signature.streams, strict=True)
            incoming = tuple(IncomingStream(self, stream_id, shape) for stream_id, shape in pairs)
            for stream in incoming:
                if stream.stream_id in self._streams:
                    self._log.taken_over(method.name, stream.stream_id)
            self._streams.update((stream.stream_id, stream) for stream in incoming)
        return self._run(method, event.arguments, event.invocation_id, incoming, event.headers)

    def _run(
        self,
        method: Method,
        arguments: Sequence[Any],
        invocation_id: str | None = None,
        incoming: tuple[IncomingStream, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> RunningCall:
        call = RunningCall(
            self,
            method.function,
            arguments,
            invocation_id=invocation_id,
            label=method.name,
            origin=method,
            streams=method.signature.is_stream,
            inline=method.signature.inline,
            incoming=incoming,
            coalesces=method.coalesces,
            headers=headers,
        )
        if self._observed is not None:
            self._observe(call, self._observed, headers)
        self._start(call)
        return call

    def _observe(self, call: RunningCall, connection: ObservedConnection, headers: Mapping[str, str] | None) -> None:
        assert self._hub.observation is not None
        is_hook = call.origin is self._hub.connected_hook or call.origin is self._hub.disconnected_hook
        call.observed = ObservedCall(
            connection, call.label, headers or {}, call.invocation_id, is_stream=call.streams, is_hook=is_hook
        )
        call.context = self._hub.observation.call_started(call.observed)

    def _tell_end(self, call: RunningCall, error: Exception | None = None, *, cancelled: bool = False) -> None:
        if call.observed is not None and self._hub.observation is not None:
            self._hub.observation.call_ended(call.observed, error=error, cancelled=cancelled)

    def _begin_to_ask(self, call: RunningCall) -> None:
        """A call is about to wait for a client, possibly its own: let others run meanwhile, for it never stops them.

        It goes on afterwards without a slot.
        """
        if call.origin is self._hub.connected_hook:
            text = "Client results inside OnConnectedAsync Hub methods are not allowed."
            raise LocalProtocolError(text, kind="InvalidOperationException")
        if self._free_slot(call):
            self._start_pending()
            self._look_again()

    def _free_slot(self, call: RunningCall) -> bool:
        """Take the slot from a call; tell whether it had one."""
        if not call.holds_slot:
            return False
        call.holds_slot = False
        self._plain_calls -= 1
        return True

    def _start_pending(self) -> None:
        """Begin what waits for a slot, if it waits and there is one."""
        if self._pending is not None and self._plain_calls < self._config.max_parallel_calls:
            (method, event), self._pending = self._pending, None
            self._start_plain(method, event)

    def _end_call(self, call: RunningCall) -> bool:
        first = super()._end_call(call)
        self._free_slot(call)
        if call is self._welcome:
            self._welcome = None
        if call is self._check:
            self._check = None
        return first

    def _settle(self) -> None:
        super()._settle()
        if self._closed is None:
            if self._draining:
                self._close_if_drained()
            else:
                self._start_pending()
        else:
            self._dismiss()

    def _dismiss(self) -> None:
        """After the connection's end: run `on_disconnected`, then be finished."""
        if self._welcome is not None:
            return
        hook = self._hub.disconnected_hook
        if self._welcomed and not self._dismissed and hook is not None:
            self._dismissed = True
            call = self._run(hook, (self.error,) if hook.signature.arguments.length else ())
            if self._cut_short:
                self._cancel_running(call)
        if not self._running and not self.finished:
            self._registry.remove(self)
            self.finished = True
            self.effects.append(Wake(self._registry.owner))

    def _cancel_at_end(self, call: RunningCall) -> None:
        """Stop what only the peer could have used. A call without an id was sent to be done, not to be answered."""
        if call.invocation_id is not None or call.incoming or isinstance(call.origin, Check):
            super()._cancel_at_end(call)

    def _complete_call(self, call: RunningCall, result: Any) -> None:
        if call.invocation_id is not None:
            if self._conn.is_open:
                try:
                    self._conn.complete(call.invocation_id, UNSET if call.streams else result)
                except LocalProtocolError as error:
                    if not hasattr(result, "__aiter__"):
                        raise
                    text = (
                        "it returned an asynchronous iterator; the annotation -> AsyncIterator[...] makes it a stream"
                    )
                    raise LocalProtocolError(text) from error
        elif isinstance(call.origin, Check):
            self._decide(call.origin, bool(result))
        elif call.origin is self._hub.connected_hook:
            self._welcomed = True
        if call.observed is not None:
            self._tell_end(call)

    def _fail_call(self, call: RunningCall, error: Exception) -> None:
        self._log.failed(call.label, error)
        self._tell_end(call, error)
        if call.origin is self._hub.connected_hook:
            text = error_text("Connection closed with an error.", error, detailed=self._config.detailed_errors)
            self.close(text)
            return
        if isinstance(call.origin, Check):
            if self._conn.is_open:
                self._refuse(call.origin.event, self._failure_text(call, error))
            return
        super()._fail_call(call, error)

    def _cancel_call(self, call: RunningCall) -> None:
        if isinstance(call.origin, Check):
            if not self._draining:  # it has cancelled itself: whoever does not decide lets nobody in
                self._decide(call.origin, allowed=False)
            return
        if self._draining and call.invocation_id is not None and self._conn.is_open:
            # Its client still waits, and must not take a result that is none, or half a stream, for the whole.
            stopped = TransportError("A task was canceled.", kind="TaskCanceledException")
            self._conn.complete(call.invocation_id, error=self._failure_text(call, stopped))
        else:
            super()._cancel_call(call)
        self._tell_end(call, cancelled=True)

    def _failure_text(self, call: RunningCall, error: Exception) -> str:
        base = f"An unexpected error occurred invoking '{call.label}' on the server."
        if call.iterating:
            base = "An error occurred on the server while streaming results."
        return error_text(base, error, detailed=self._config.detailed_errors)

    def _cancel_on_request(self, call: RunningCall) -> None:
        if call.streams or call.origin.cancellable:
            self._cancel_running(call)

    def _lost_call_error(self, lost: Exception) -> Exception:
        error = TransportError(f"Connection '{self.connection_id}' disconnected.", kind="IOException")
        error.__cause__ = lost
        return error

    def _lost_stream_error(self, lost: Exception) -> Exception:
        return HubError("The underlying connection was closed.")

    def _completion_error(self, event: Completion) -> HubError | None:
        return None if event.error is None else HubError(event.error)  # of a client's, an empty one counts

    def _succeed(self, call: OutgoingCall, result: Any) -> None:
        if result is UNSET:  # the reference fails too, but does not say why
            call.fail(HubError("The client sent no result."))
        else:
            call.succeed(result)

    def _close_if_drained(self) -> None:
        if not self._running or self.is_lost:
            self.close(allow_reconnect=True)

    def _ended(self, event: ConnectionClosed) -> None:
        self._log.ended(event.error)
        if self._observed is not None and self._hub.observation is not None:
            self._hub.observation.connection_closed(
                self._observed, status=self._status(), error=event.error, now=self._now
            )
        self._pending = None
        self._session_timers.disarm(Timer.EXPIRY)
        if self._departure is not None:
            self.effects.append(Wake(self._departure))
        self._dismiss()

    def _status(self) -> ConnectionStatus:
        if self._conn.timed_out:
            return "timeout"
        return "app_shutdown" if self._draining else "normal_closure"
