"""A shell without a runtime: inline calls run at once, all others end when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Final

from hubproto_core import (
    CancelCall,
    ClientSession,
    Effect,
    EffectQueue,
    Handlers,
    Hub,
    HubConfig,
    HubSession,
    JsonCodec,
    OutgoingCall,
    Registry,
    RunningCall,
    Session,
    StartCall,
    Wake,
)
from tests.kit.wire import HANDSHAKE, HANDSHAKE_2, pack, unpack, unpack_binary

WAITS: Final = object()
"""What a plain function returns for something to be awaited."""


class Shell:
    """Carries out effects. `run()` does what is due; what tests look at afterwards is kept here."""

    def __init__(self, effects: EffectQueue[Effect] | None = None) -> None:
        self.effects: EffectQueue[Effect] = EffectQueue() if effects is None else effects
        self.running: list[RunningCall] = []
        self.asked_to_cancel: list[RunningCall] = []
        self.woken: list[object] = []
        self.count = 0
        self._coroutines: dict[RunningCall, Coroutine[Any, Any, Any]] = {}

    def run(self) -> bool:
        """Carry out all effects, and those that they lead to; tell whether there were any."""
        before = self.count
        while (effect := self.effects.take()) is not None:
            self.count += 1
            match effect:
                case StartCall(call=call):
                    self.running.append(call)
                    if call.inline:
                        self._run_inline(call)
                case CancelCall(call=call):
                    self.asked_to_cancel.append(call)
                case Wake(target=target):
                    self.woken.append(target)
        return self.count > before

    def find(self, label: str) -> RunningCall:
        """The one running call of this name."""
        self.run()
        (call,) = [call for call in self.running if call.label == label]
        return call

    def labels(self) -> list[str]:
        """The names of all running calls."""
        self.run()
        return [call.label for call in self.running]

    def finish(self, call: RunningCall, result: Any = None) -> None:
        """The call returns."""
        self._end(call)
        call.session.call_returned(call, result)
        self.run()

    def fail(self, call: RunningCall, error: Exception) -> None:
        """The call raises."""
        self._end(call)
        call.session.call_failed(call, error)
        self.run()

    def cancel(self, call: RunningCall) -> None:
        """The call has been cancelled."""
        self._end(call)
        call.session.call_cancelled(call)
        self.run()

    def cancel_asked(self) -> None:
        """Cancel whatever is to be cancelled."""
        self.run()
        for call in self.asked_to_cancel:
            if call in self.running:
                self.cancel(call)

    def step(self, call: RunningCall) -> None:
        """The call goes on, from where it waited, to where it waits again or ends; it ends as it is bound to."""
        self.run()
        if call not in self._coroutines:
            self._coroutines[call] = call.function(*call.session.build_arguments(call, call.incoming))
        try:
            self._coroutines[call].send(None)
        except StopIteration as stop:
            self.finish(call, stop.value)
        except Exception as error:
            self.fail(call, error)
        self.run()

    async def invoke(self, begin: Callable[[], OutgoingCall]) -> Any:
        """See `Waiter`; it looks again at every `step`."""
        call = begin()
        try:
            while not call.done:
                await _a_step()
            return call.outcome()
        finally:
            call.abandon()

    def was_woken(self, target: object) -> bool:
        """Whether there was a `Wake` for *target* since the last time this was asked about anything."""
        self.run()
        woken, self.woken = self.woken, []
        return any(other is target for other in woken)

    def _run_inline(self, call: RunningCall) -> None:
        try:
            result = call.function(*call.session.build_arguments(call, call.incoming))
        except Exception as error:
            self.fail(call, error)
        else:
            if result is WAITS:
                call.session.call_waits(call)
            else:
                self.finish(call, result)

    def _end(self, call: RunningCall) -> None:
        self.run()
        self.running.remove(call)
        waiting = self._coroutines.pop(call, None)
        if waiting is not None:
            waiting.close()


@coroutine
def _a_step() -> Generator[None, None, None]:
    yield


class Peer:
    """The other end of a session, in whose shell everything runs at once."""

    def __init__(self, session: Session, shell: Shell) -> None:
        self.session = session
        self.shell = shell

    def say(self, *messages: dict[str, Any], now: float = 0.0) -> None:
        """Send messages to the session."""
        self.say_bytes(pack(*messages), now=now)

    def say_bytes(self, data: bytes, now: float = 0.0) -> None:
        """Send bytes to the session."""
        self.session.receive_data(data, now=now)
        self.shell.run()

    def hear(self, now: float = 0.0) -> list[Any]:
        """Take all that the session has to say."""
        data = self.take(now)
        return unpack_binary(data) if self.session.transfer_format == "binary" else unpack(data)

    def take(self, now: float = 0.0) -> bytes:
        """Take all that the session has to say, as bytes."""
        data = b""
        self.shell.run()
        while True:
            piece = self.session.data_to_send(now=now)
            if not self.shell.run() and not piece:
                return data
            data += piece

    def ask(self, *messages: dict[str, Any]) -> list[Any]:
        """Send messages and take the answers."""
        self.say(*messages)
        return self.hear()


class HubPeer(Peer):
    """A client of a hub."""

    session: HubSession

    def __init__(
        self,
        hub: Hub,
        config: HubConfig | None = None,
        *,
        name: str = "c1",
        user: str | None = None,
        principal: Any = None,
        expires: float | None = None,
        registry: Registry | None = None,
        shell: Shell | None = None,
        stateful: bool = False,
        handshake: bool = True,
    ) -> None:
        shell = shell or Shell()
        registry = registry or Registry()
        registry.waiter = shell
        session = HubSession(
            hub,
            hub.codecs,
            connection_id=name,
            registry=registry,
            config=config,
            effects=shell.effects,
            user=user,
            principal=principal,
            expires=expires,
            stateful=stateful,
            now=0.0,
        )
        super().__init__(session, shell)
        if handshake:
            self.say_bytes(HANDSHAKE_2 if stateful else HANDSHAKE)
            assert self.hear()[0] == {}


class ServerPeer(Peer):
    """A server of a client's session."""

    session: ClientSession

    def __init__(
        self,
        handlers: Handlers | None = None,
        config: HubConfig | None = None,
        *,
        stateful: bool = False,
        handshake: bool = True,
    ) -> None:
        shell = Shell()
        session = ClientSession(
            JsonCodec(),
            handlers or Handlers(),
            config=config or HubConfig(),
            effects=shell.effects,
            stateful=stateful,
            now=0.0,
        )
        super().__init__(session, shell)
        if handshake:
            assert self.hear() == [{"protocol": "json", "version": 2 if stateful else 1}]
            self.say_bytes(b"{}\x1e")
            assert self.hear() == [{"type": 6}]
