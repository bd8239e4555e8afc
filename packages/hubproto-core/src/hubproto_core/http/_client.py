"""`HubClient`: the logical connection of a client to a hub, without I/O (SPEC 5.1, 5.2).

It reaches its hub by an `Attempt`, whose sockets the shell opens and pumps.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from .._client_session import ClientSession, Handlers
from .._codecs import Codec, find_codec
from .._config import HubConfig
from .._effects import EffectQueue, Wake
from .._errors import LocalProtocolError, TransportError, WouldBlock
from ._attempt import Attempt, Progress, check_headers
from ._client_options import ClientOptions, Route
from ._client_socket import ClientEffect
from ._url import show_url, split_url

__all__ = ["HubClient"]


class _State(Enum):
    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class HubClient:
    """One logical connection of a client to the hub at `url` (http, https, ws or wss).

    `entropy(n)` returns n random bytes; `protocol` is "json", "messagepack" or a `Codec`. Raises ValueError for a URL
    that is none, and for a protocol that nobody knows.
    """

    def __init__(
        self,
        url: str,
        *,
        entropy: Callable[[int], bytes],
        options: ClientOptions | None = None,
        config: HubConfig | None = None,
        protocol: str | Codec = "json",
    ) -> None:
        self.url = url
        self.effects: EffectQueue[ClientEffect] = EffectQueue()
        self.handlers: Handlers = Handlers()
        target = split_url(url)
        self._route = Route(
            target=target,
            shown_url=show_url(target),
            options=options or ClientOptions(),
            config=config or HubConfig(max_message_size=None),
            codec=find_codec(protocol),
            handlers=self.handlers,
            entropy=entropy,
        )
        check_headers(self._route)
        self._state = _State.IDLE
        self._error: Exception | None = None
        self._attempt: Attempt | None = None

    # facts

    @property
    def config(self) -> HubConfig:
        """What the connection obeys."""
        return self._route.config

    @property
    def session(self) -> ClientSession | None:
        """The session, from when it has a socket."""
        return self._attempt.session if self._attempt is not None else None

    @property
    def connection_id(self) -> str | None:
        """The public id that the server gave; None without negotiation."""
        return self._attempt.connection_id if self._attempt is not None else None

    @property
    def closed(self) -> bool:
        """The connection is over and its socket is finished. Wait for `Wake` of this client until it is."""
        return self._state is _State.CLOSED and (self._attempt is None or self._attempt.finished)

    def started(self) -> ClientSession:
        """Return the session once calls are legal; `WouldBlock` before that, the reason if it will never be.

        Raises `LocalProtocolError` before `start`.
        """
        shown = self._route.shown_url
        if self._state is _State.IDLE:
            raise LocalProtocolError(f"the connection to {shown} is not open yet; `async with` opens it")
        if self._state is _State.CLOSED:
            raise self._error or TransportError(f"the connection to {shown} is closed")
        session = self.session
        if self._state is not _State.OPEN or session is None:
            raise WouldBlock
        return session

    # verbs

    def start(self, *, now: float) -> None:
        """Begin. Raises `LocalProtocolError` the second time."""
        if self._state is not _State.IDLE:
            raise LocalProtocolError("a HubClient starts once")
        self._state = _State.CONNECTING
        self._attempt = Attempt(self, self._route, self.effects, now=now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._attempt.next_timeout() if self._attempt is not None else None

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        if self._attempt is not None:
            self._attempt.handle_timeout(now=now)

    def stop(self, *, now: float) -> None:
        """Say farewell if there is anybody to say it to, and end within `HubConfig.close_timeout`."""
        if self._attempt is not None:
            self._attempt.stop(now=now)
        else:
            self._state = _State.CLOSED
            self.effects.append(Wake(self))

    # AttemptOwner

    def attempt_moved(self, *, now: float) -> None:
        """See `AttemptOwner`."""
        attempt = self._attempt
        assert attempt is not None  # it reports from the first step after its making
        if attempt.progress is Progress.OPEN:
            self._state = _State.OPEN
        elif attempt.progress is Progress.OVER and self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._error = attempt.error
        self.effects.append(Wake(self))
