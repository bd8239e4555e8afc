"""`Fallback`: the ASGI application that answers what is asked for beside the hubs of a server."""

from __future__ import annotations

from collections.abc import Sequence

from .._effects import EffectSink, Wake
from .._running import Waiter
from ._app import AsgiApplication, Moment, SocketInfo
from ._app_exchange import AppExchange
from ._exchange import Exchange
from ._lifespan import Lifespan
from ._messages import Request, Response

__all__ = ["Fallback"]

_UNKNOWN = SocketInfo()
_NO_WEBSOCKET = Response(404, b"There is no hub here, and other WebSockets are not served.")


class Fallback:
    """All that an application is called for: its lifespan, and the requests that it has not done with.

    `owner` is woken when the last of them has ended.
    """

    def __init__(self, app: AsgiApplication, effects: EffectSink, owner: object) -> None:
        self.effects: EffectSink = effects
        self._app = app
        self._owner = owner
        self._waiter: Waiter | None = None
        self._lifespan = Lifespan(app, self)
        self._running: dict[AppExchange, None] = {}

    @property
    def waiter(self) -> Waiter:
        """The runner by which the application waits. It must be set before anything is called."""
        assert self._waiter is not None, "a fallback application needs something that can wait: HubServer.let_wait"
        return self._waiter

    @waiter.setter
    def waiter(self, waiter: Waiter) -> None:
        self._waiter = waiter

    @property
    def busy(self) -> bool:
        """Requests are being answered, or something is still done after their answer."""
        return bool(self._running)

    @property
    def ended(self) -> bool:
        """Its lifespan is over."""
        return self._lifespan.ended

    def start(self) -> Moment:
        """Tell the application that the server begins; what is returned tells when requests may come."""
        self._lifespan.start()
        return self._lifespan.started

    def stop(self) -> None:
        """Tell the application that the server ends."""
        self._lifespan.stop()

    def cancel_requests(self) -> None:
        """They have had their time."""
        for exchange in self._running:
            exchange.cancel()

    def cut_short(self) -> None:
        """Wait for nothing any longer."""
        self.cancel_requests()
        self._lifespan.cancel()

    def answer(
        self,
        request: Request,
        headers: Sequence[tuple[bytes, bytes]],
        host: object,
        *,
        http_version: str,
        info: SocketInfo | None,
    ) -> Response | Exchange:
        """Answer a request for a path that is no hub's. `headers` are as they came, but for lower-case names."""
        if request.wants_websocket:
            return _NO_WEBSOCKET
        where = info or _UNKNOWN
        exchange = AppExchange(
            self._app,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": http_version,
                "method": request.method,
                "scheme": where.scheme,
                "path": request.path,
                "raw_path": request.raw_path.encode("latin-1"),
                "query_string": request.query_string.encode("latin-1"),
                "root_path": "",
                "headers": headers,
                "client": where.client,
                "server": where.server,
                "state": self._lifespan.state.copy(),
            },
            host,
            self,
        )
        self._running[exchange] = None
        return exchange

    # for what it runs

    def wake(self, target: object) -> None:
        """See `AppHost`."""
        self.effects.append(Wake(target))

    def call_ended(self, call: object) -> None:
        """See `AppHost`."""
        if isinstance(call, AppExchange):
            del self._running[call]
        self.wake(self._owner)
