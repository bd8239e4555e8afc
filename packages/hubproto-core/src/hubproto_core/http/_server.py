"""`HubServer`: endpoints at their paths, and all sockets and connections that belong to them, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .._clients import HubContext, Member, Registry
from .._config import HubConfig
from .._effects import Effect, EffectQueue, Wake
from .._hub import Hub
from .._logs import NOBODY, facts, http_log
from .._running import Waiter
from ._admission import Admission, Authenticator
from ._app import AsgiApplication, Moment, SocketInfo
from ._endpoint import Endpoint, EndpointConfig
from ._fallback import Fallback
from ._messages import Request
from ._server_connection import HttpConfig, HttpServerConnection

__all__ = ["Host", "HubServer", "Mount"]

_ROOM = 0.9  # of `max_connections`
_READY = Moment(lambda: True, lambda: None)


@dataclass(frozen=True, slots=True)
class Mount:
    """A hub with how it is reached, in place of a hub alone: `serve({"/chat": Mount(chat, EndpointConfig(...))})`."""

    hub: Hub
    config: EndpointConfig


class Host(Protocol):
    """What carries connections or their requests, as the server sees it: a socket, or a scope of ASGI."""

    def shut_down(self, *, now: float) -> None: ...
    def cut_short(self, *, now: float) -> None: ...


class HubServer:
    """Hubs at their paths, and the effects of all their connections. One for each listening server.

    `entropy` returns so many random bytes, `clock` the Unix time in seconds. `authenticator` says who sends a request.
    `fallback` is the ASGI application that answers requests for other paths than the hubs'.
    """

    __slots__ = (
        "_authenticator",
        "_crowded",
        "_deadline",
        "_draining",
        "_endpoints",
        "_hosts",
        "_is_farewell",
        "_registries",
        "_told_to_hurry",
        "effects",
        "fallback",
        "http",
    )

    def __init__(
        self,
        hubs: Mapping[str, Hub | Mount],
        *,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float] | None = None,
        authenticator: Authenticator | None = None,
        config: HubConfig | None = None,
        http: HttpConfig | None = None,
        fallback: AsgiApplication | None = None,
    ) -> None:
        self._authenticator = authenticator
        self.effects: EffectQueue[Effect] = EffectQueue()
        if not hubs:
            raise ValueError("a HubServer needs at least one hub")
        self.http: HttpConfig = http or HttpConfig()
        self.fallback: Fallback | None = None if fallback is None else Fallback(fallback, self.effects, self)
        """Who answers requests for other paths; None where they are answered 404."""
        self._hosts: dict[Host, None] = {}
        self._crowded = False  # `max_connections` was reached, and that was logged
        self._draining = False
        self._deadline: float | None = None  # when the shutdown has taken too long
        self._told_to_hurry = False  # it had taken too long once before
        self._is_farewell = False  # all are gone, and the fallback application has been told so
        self._registries: dict[Hub, Registry] = {}
        self._endpoints: dict[str, Endpoint] = {}
        for path, mounted in hubs.items():
            hub, options = (mounted, None) if isinstance(mounted, Hub) else (mounted.hub, mounted.config)
            if not path.startswith("/"):
                raise ValueError(f"a hub's path starts with a slash: {path!r}")
            self._endpoints[path.rstrip("/").lower()] = Endpoint(
                hub,
                effects=self.effects,
                entropy=entropy,
                registry=self._registries.setdefault(hub, Registry(self)),
                config=config,
                options=options,
                clock=clock,
            )

    @property
    def closing(self) -> bool:
        """`shut_down` was asked for."""
        return self._draining

    @property
    def closed(self) -> bool:
        """`shut_down` was asked for and is done. Wait for `Wake` of this server until it is."""
        return self._draining and not self._is_busy and (self.fallback is None or self.fallback.ended)

    @property
    def _is_busy(self) -> bool:
        """There is a socket, a session, or a request that the fallback application has not done with."""
        if self._hosts or any(registry.connections for registry in self._registries.values()):
            return True
        return self.fallback is not None and self.fallback.busy

    def begin(self) -> Moment:
        """Begin to serve, once `let_wait` was called. Requests may come when what is returned is done.

        Its outcome is None; it raises RuntimeError if the fallback application says that it cannot start.
        """
        return _READY if self.fallback is None else self.fallback.start()

    def context(self, hub: Hub) -> HubContext:
        """Return one of the hubs as it is seen from outside of any call.

        Raises KeyError for a hub that is not served here.
        """
        return HubContext(self._registries[hub])

    def let_wait(self, waiter: Waiter) -> None:
        """From now on user code waits by this runner for what clients answer; see `Registry.waiter`."""
        for registry in self._registries.values():
            registry.waiter = waiter
        if self.fallback is not None:
            self.fallback.waiter = waiter

    def connection(self, info: SocketInfo | None = None, *, now: float) -> HttpServerConnection:
        """Return the machine for a socket that has just been accepted. The fallback application is told `info`."""
        full = self._is_full()
        connection = HttpServerConnection(self, self.http, info, now=now)
        self.join(connection)
        if self._draining or full:
            connection.shut_down(now=now)
        return connection

    def _is_full(self) -> bool:
        """Whether another socket is one too many. That is logged again once there has been some room."""
        limit = self.http.max_connections
        if limit is None:
            return False
        count = len(self._hosts)
        if count <= limit * _ROOM:
            self._crowded = False
        if count >= limit and not self._crowded:
            self._crowded = True
            http_log.warning("%d connections are open: what is above is closed at once", limit, extra=facts(NOBODY))
        return count >= limit

    def admission(self, endpoint: Endpoint, request: Request, host: object) -> Admission | None:
        """Return what decides about a request; None where everybody is let in and nobody is known."""
        if self._authenticator is None and endpoint.hub.policy is None:
            return None
        return Admission(endpoint.hub, self._authenticator, request, host, self.effects)

    def join(self, host: Host) -> None:
        """From now on it hears of the shutdown."""
        self._hosts[host] = None

    def forget(self, host: Host) -> None:
        """It is finished."""
        if self._hosts.pop(host, host) is None:
            self.effects.append(Wake(self))

    def find(self, path: str) -> tuple[Endpoint | None, str]:
        """Return the endpoint that a path belongs to, and which part of it: "", "negotiate" or "description"."""
        path = path.rstrip("/").lower()
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            return endpoint, ""
        path, _, part = path.rpartition("/")
        endpoint = self._endpoints.get(path)
        if part == "negotiate" or (part == "description" and endpoint is not None and endpoint.description is not None):
            return endpoint, part
        return None, part

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        deadlines = [d for e in self._endpoints.values() if (d := e.next_timeout()) is not None]
        if self._deadline is not None:
            deadlines.append(self._deadline)
        return min(deadlines, default=None)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline of an endpoint, or of the shutdown, may have passed."""
        for endpoint in self._endpoints.values():
            endpoint.handle_timeout(now=now)
        if self._deadline is not None and now >= self._deadline:
            self._hurry(now)
        if self._draining and not self._is_busy and self.fallback is not None and not self._is_farewell:
            self._is_farewell = True
            self.fallback.stop()
            self._told_to_hurry = True
            self._deadline = now + self._shutdown_timeout

    def reopen(self) -> None:
        """Serve again, after a shutdown that is done, or that nobody drives any longer."""
        self._draining = self._told_to_hurry = False
        self._deadline = None
        for endpoint in self._endpoints.values():
            endpoint.reopen()

    def close(self, *, now: float) -> None:
        """Shut down; asked for once more, do not wait for anything any longer."""
        if self._draining:
            self._cut_short(now)
        else:
            self.shut_down(now=now)

    def shut_down(self, *, now: float) -> None:
        """Let every connection end in order; see `HubSession.shut_down`. The second time changes nothing.

        After `HubConfig.shutdown_timeout` what still runs is cancelled, also for clients that have left. What begins
        then, as `on_disconnected` does, has as long once more, and `close_timeout`; after that all is cut short.
        """
        if not self._draining:
            self._draining = True
            for endpoint in self._endpoints.values():
                endpoint.shut_down(now=now)
            for host in list(self._hosts):
                host.shut_down(now=now)
            self._deadline = now + self._shutdown_timeout
            self.effects.append(Wake(self))

    @property
    def _shutdown_timeout(self) -> float:
        return max(endpoint.config.shutdown_timeout for endpoint in self._endpoints.values())

    def _hurry(self, now: float) -> None:
        if self._told_to_hurry:
            self._cut_short(now)
            return
        self._told_to_hurry = True
        for session in self._sessions():
            session.cancel_all()
        if self.fallback is not None:
            self.fallback.cancel_requests()
        configs = [endpoint.config for endpoint in self._endpoints.values()]
        self._deadline = now + max(config.shutdown_timeout + config.close_timeout for config in configs)

    def _cut_short(self, now: float) -> None:
        for session in self._sessions():
            session.cut_short(now=now)
        for host in list(self._hosts):
            host.cut_short(now=now)
        if self.fallback is not None:
            self.fallback.cut_short()
        self._deadline = None

    def _sessions(self) -> list[Member]:
        """Return whoever has done its handshake and is not finished, with a socket or without."""
        return [session for registry in self._registries.values() for session in registry.connections.values()]
