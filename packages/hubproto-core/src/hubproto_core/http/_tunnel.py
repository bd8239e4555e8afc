"""`Tunnel`: the way of one socket through an HTTP proxy: CONNECT, and its answer (RFC 9110, 9.3.6)."""

from __future__ import annotations

from typing import Protocol

import h11

from .._client_errors import ProxyFailed
from .._errors import HubProtoError
from ._proxy import Proxy, join_host

__all__ = ["Tunnel", "TunnelOwner"]

_ADVICE = {
    403: "does it allow CONNECT to this port?",
    405: "does it allow CONNECT at all?",
    407: "it wants a user and a password that it knows: proxy='http://user:password@host:port'",
    502: "can it reach the server?",
    503: "can it reach the server?",
    504: "can it reach the server?",
}


class TunnelOwner(Protocol):
    """The socket that is to be led through the proxy."""

    @property
    def url(self) -> str: ...

    def tunnel_failed(self, error: ProxyFailed, *, now: float) -> None:
        """There is no way through."""


class Tunnel:
    """Asks a proxy for a way to a server. A shell pumps it through the socket to the proxy until it is `finished`.

    If it is `open` then, the socket is as good as one to the server. Nobody speaks there before the client does, be it
    TLS or HTTP: if something comes all the same, or the end, while the shell still pumps, there is no way either.
    """

    __slots__ = ("_h11", "_output", "_owner", "_server", "finished", "open", "proxy")

    def __init__(self, owner: TunnelOwner, proxy: Proxy, host: str, port: int) -> None:
        self.proxy: Proxy = proxy
        self.open: bool = False
        """The proxy has agreed, and nothing has gone wrong since."""
        self.finished: bool = False
        """The proxy has agreed, or there is no way."""
        self._owner = owner
        self._server = join_host(host, port)
        self._h11 = h11.Connection(h11.CLIENT)
        headers = [("host", self._server)]
        if proxy.authorization is not None:
            headers.append(("proxy-authorization", proxy.authorization))
        request = h11.Request(method="CONNECT", target=self._server, headers=headers)
        self._output = (self._h11.send(request) or b"") + (self._h11.send(h11.EndOfMessage()) or b"")

    def data_to_send(self) -> bytes:
        """Return and forget the bytes to be written now."""
        data, self._output = self._output, b""
        return data

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""
        if self.open:
            self._fail("sent something before it was asked", now)
        elif not self.finished:
            self._h11.receive_data(data)
            self._advance(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes, in order or because of an error."""
        if self.open or not self.finished:
            self._fail(f"closed the connection{f' ({error})' if error is not None else ''}", now)

    def not_opened(self, reason: str, *, now: float) -> None:
        """The socket to the proxy could not be opened, or failed."""
        if not self.finished and self._output:
            self._fail(f"cannot be reached: {reason}; is it running, and is it the right port?", now)
        elif not self.finished:
            self._fail(f"failed: {reason}", now)

    def _advance(self, now: float) -> None:
        while not self.finished:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._fail(f"does not answer in HTTP ({error}); is it an HTTP proxy?", now)
                return
            match event:
                case h11.InformationalResponse():
                    pass
                case h11.Response(status_code=status, reason=reason) if not 200 <= status < 300:
                    said = f"{status} {reason.decode('latin-1')}".strip()
                    advice = _ADVICE.get(status)
                    self._fail(f"refused with status {said}{f'; {advice}' if advice else ''}", now)
                case h11.Response():
                    self.open = self.finished = True
                    if self._h11.trailing_data[0]:
                        self._fail("sent something before it was asked", now)
                case _:
                    return

    def _fail(self, what: str, now: float) -> None:
        self.open = False
        self.finished = True
        text = f"no way to {self._owner.url}: the proxy {self.proxy}, asked for a tunnel to {self._server}, {what}"
        self._owner.tunnel_failed(ProxyFailed(self._owner.url, text, proxy=str(self.proxy)), now=now)
