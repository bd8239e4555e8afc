"""`HubClient`: the logical connection of a client to a hub, without I/O: its states, and how it comes back (SPEC 5).

It reaches its hub by `Attempt`s, one after the other, whose sockets the shell opens and pumps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._client_errors import ConnectionFailed, NotConnected, ReconnectFailed
from .._client_session import ClientSession, Handlers
from .._codecs import Codec, find_codec
from .._config import HubConfig
from .._effects import EffectQueue, Wake
from .._errors import LocalProtocolError, WouldBlock
from .._lifecycle import ClientEvent, Closed, Connected, Connecting, EventStream, Lifecycle, Reconnected, Reconnecting
from .._logs import client_log, connection_facts, facts, one_line
from .._reconnect import Retry
from .._states import CLIENT, ClientCause, ClientState
from .._timers import Timer, TimerTable
from .._transport import Transport
from ._attempt import Attempt, Progress, check_options
from ._client_options import ClientOptions, Route
from ._client_socket import ClientEffect, Reach
from ._proxy import Proxies
from ._url import show_url, split_url

__all__ = ["HubClient"]


class HubClient:
    """One logical connection of a client to the hub at `url` (http, https, ws or wss).

    `entropy(n)` returns n random bytes; `protocol` is "json", "messagepack" or a `Codec`; `environment` holds the
    variables that a `ClientOptions.proxy` of "env" looks at. Raises ValueError for a URL that is none, that of a proxy
    included, and for a protocol that nobody knows.
    """

    def __init__(
        self,
        url: str,
        *,
        entropy: Callable[[int], bytes],
        options: ClientOptions | None = None,
        config: HubConfig | None = None,
        protocol: str | Codec = "json",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        options = options or ClientOptions()
        self.effects: EffectQueue[ClientEffect] = EffectQueue()
        self.handlers: Handlers = Handlers()
        target = split_url(url)
        self._route = Route(
            target=target,
            shown_url=show_url(target),
            options=options,
            config=config or HubConfig(max_message_size=None),
            codec=find_codec(protocol),
            handlers=self.handlers,
            entropy=entropy,
            reach=Reach(Proxies(options.proxy, environment)),
        )
        check_options(self._route)
        self._log_facts = connection_facts(self._route.shown_url, None, None)
        self._lifecycle = Lifecycle(self, self.effects, self._log_facts)
        self._state = ClientState.DISCONNECTED
        self._started = False
        self._left = False
        self._was_made = False  # since the last start
        self._error: Exception | None = None  # why it is disconnected
        self._session: ClientSession | None = None  # while connected
        self._attempt: Attempt | None = None  # the one that counts
        self._attempts: dict[Attempt, None] = {}  # it, and those whose sockets are not gone yet
        self._retries = 0
        self._lost_at = 0.0
        self._timers = TimerTable()

    # facts

    @property
    def config(self) -> HubConfig:
        """What the connection obeys."""
        return self._route.config

    @property
    def state(self) -> ClientState:
        """How things stand."""
        return self._state

    @property
    def connection_id(self) -> str | None:
        """The public id that the server gave; None without negotiation, and while there is no connection."""
        return self._attempt.connection_id if self._attempt is not None else None

    @property
    def transport(self) -> Transport | None:
        """What carries the connection; None while there is none."""
        return self._attempt.transport if self._attempt is not None and self._session is not None else None

    @property
    def stopped(self) -> bool:
        """It is disconnected, and its sockets are finished. Wait for `Wake` of this client until it is."""
        return self._state is ClientState.DISCONNECTED and not self._attempts

    @property
    def finished(self) -> bool:
        """It is stopped, and no callback runs any more. Wait for `Wake` of this client until it is."""
        return self.stopped and self._lifecycle.idle

    def started(self) -> ClientSession:
        """Return the session once calls are legal; `WouldBlock` before that, the reason if it will never be.

        Raises `LocalProtocolError` before `start`.
        """
        if self._session is not None:
            return self._session
        if self._state is not ClientState.DISCONNECTED:
            raise WouldBlock
        url = self._route.shown_url
        if not self._started:
            raise LocalProtocolError(f"the connection to {url} is not open yet; `async with` opens it")
        raise self._error or ConnectionFailed(url, f"the connection to {url} is closed")

    def connected(self) -> ClientSession:
        """Return the session to call through. Raises like `started`, but `NotConnected` while there is none."""
        if self._session is not None:
            return self._session
        try:
            return self.started()
        except WouldBlock:
            url = self._route.shown_url
            raise NotConnected(url, f"there is no connection to {url} at the moment: it is {self._state}") from None

    # commands

    def start(self, *, now: float) -> None:
        """Begin. Raises `LocalProtocolError` unless it is disconnected."""
        if self._left:
            raise LocalProtocolError(f"the client of {self._route.shown_url} was left, and cannot start again")
        if self._state is not ClientState.DISCONNECTED:
            raise LocalProtocolError(f"a HubClient can only start when it is disconnected; it is {self._state}")
        self._step(ClientCause.START)
        self._started = True
        self._was_made = False
        self._error = None
        self._lifecycle.tell(Connecting())
        self._try(now)

    def stop(self, *, now: float) -> None:
        """Say farewell if there is anybody to say it to, and be `stopped` within `HubConfig.close_timeout`."""
        for attempt in [attempt for attempt in self._attempts if attempt is not self._attempt]:
            attempt.abandon(now=now)  # which is over; its sockets would only wait for the server's farewell
        if ClientCause.STOP not in CLIENT[self._state]:
            return
        self._step(ClientCause.STOP)
        self._session = None
        self._timers.disarm(Timer.RECONNECT)
        if self._attempt is not None:
            self._attempt.stop(now=now)
        self._look_whether_gone()

    def leave(self, *, now: float) -> None:
        """Stop for ever, and be `finished` within `HubConfig.close_timeout`, callbacks included."""
        self._left = True
        self._timers.arm(Timer.CLOSE, now + self.config.close_timeout)
        self.stop(now=now)
        self._look_whether_gone()
        self.effects.append(Wake(self))

    def abandon(self, *, now: float) -> None:
        """Be over at once: drop the sockets, without a farewell."""
        self.stop(now=now)
        for attempt in list(self._attempts):
            attempt.abandon(now=now)

    def on_event(self, kind: type[ClientEvent], callback: Callable[..., object]) -> None:
        """Call `callback`, plain or async, with the fields of each event of this kind."""
        self._lifecycle.add(kind, callback)

    def events(self) -> EventStream:
        """Return a stream of all further events, up to and with `Closed`."""
        return self._lifecycle.subscribe()

    # time

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        deadlines = [self._timers.next(), *(attempt.next_timeout() for attempt in self._attempts)]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed; to be called at each `Wake` of this client, too."""
        for timer in self._timers.expire(now):
            if timer is Timer.RECONNECT:
                self._try(now)
            else:
                self._lifecycle.cancel()
        for attempt in list(self._attempts):
            attempt.handle_timeout(now=now)

    # AttemptOwner

    def attempt_moved(self, attempt: Attempt, *, now: float) -> None:
        """See `AttemptOwner`."""
        if attempt.finished:
            self._attempts.pop(attempt, None)
        if attempt is self._attempt:
            if attempt.progress is Progress.OVER:
                self._attempt = self._session = None
                self._lost(attempt, now)
            else:
                self._made(attempt)
        self._look_whether_gone()
        self.effects.append(Wake(self))

    # within

    def _step(self, cause: ClientCause) -> None:
        self._state = CLIENT[self._state][cause]
        self.effects.append(Wake(self))

    def _try(self, now: float) -> None:
        attempt = self._attempt = Attempt(self, self._route, self.effects)
        self._attempts[attempt] = None
        attempt.start(now=now)

    def _made(self, attempt: Attempt) -> None:
        first = self._state is ClientState.CONNECTING
        self._step(ClientCause.MADE)
        self._session = attempt.session
        self._was_made = True
        self._lifecycle.tell(Connected(attempt.connection_id) if first else Reconnected(attempt.connection_id))

    def _lost(self, attempt: Attempt, now: float) -> None:
        """The attempt that counted has failed, or its connection has ended."""
        error = attempt.error
        match self._state:
            case ClientState.CONNECTING:
                self._error = error
                self._step(ClientCause.FAILED)
            case ClientState.CONNECTED:
                self._lost_at, self._retries = now, 0
                if attempt.may_return and self._will_retry(error, now):
                    self._step(ClientCause.LOST)
                    self._lifecycle.tell(Reconnecting(error))
                else:
                    self._close(ClientCause.ENDED, error)
            case ClientState.RECONNECTING:
                self._retries += 1
                if self._will_retry(error, now):
                    self._step(ClientCause.FAILED)
                else:
                    self._close(ClientCause.GIVEN_UP, self._exhausted(error, now))
            case _:  # stopped: there is nothing to do but to wait for the sockets
                pass

    def _will_retry(self, reason: Exception | None, now: float) -> bool:
        """Ask the policy; arm the next attempt if there is to be one."""
        policy = self._route.options.reconnect
        if policy is None:
            return False
        random = int.from_bytes(self._route.entropy(6)) / 2**48
        retry = Retry(count=self._retries, elapsed=now - self._lost_at, reason=reason, random=random)
        try:
            delay = policy(retry)
            if delay is None:
                return False
            delay = max(0.0, delay)
        except Exception as error:
            client_log.error(
                "the reconnect policy failed, which ends the connection: %s",
                type(error).__name__,
                exc_info=error,
                extra=facts(self._log_facts, error=error),
            )
            return False
        self._timers.arm(Timer.RECONNECT, now + delay)
        client_log.info(
            "no connection to %s, trying again in %g s: %s",
            self._route.shown_url,
            delay,
            "closed by the server" if reason is None else one_line(reason),
            extra=facts(self._log_facts, error=reason),
        )
        return True

    def _exhausted(self, error: Exception | None, now: float) -> ReconnectFailed:
        url, seconds = self._route.shown_url, now - self._lost_at
        attempts = f"{self._retries} attempt{'s' * (self._retries != 1)} within {seconds:.3g} s"
        failed = ReconnectFailed(url, f"the connection to {url} was lost, and not made again by {attempts}: {error}")
        failed.__cause__ = error
        return failed

    def _close(self, cause: ClientCause, error: Exception | None) -> None:
        self._error = error
        self._step(cause)
        self._lifecycle.tell(Closed(error))

    def _look_whether_gone(self) -> None:
        if self._state is ClientState.DISCONNECTING and not self._attempts:
            self._step(ClientCause.GONE)
            if self._was_made:
                self._lifecycle.tell(Closed(None))
            else:
                url = self._route.shown_url
                self._error = ConnectionFailed(url, f"the connection to {url} was stopped before it was made")
        if self._left and self._state is ClientState.DISCONNECTED:
            self._lifecycle.end()
