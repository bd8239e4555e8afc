"""`HubClient`: from a URL to a running session, without I/O: negotiation, redirects, the WebSocket (SPEC 4.2, 5.2).

Sockets are the shell's: it opens the one that `OpenSocket` describes and pumps bytes through it with the verbs that
every machine here has. One socket carries one exchange, so that other transports can have several at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

import h11
from msgspec import Struct

from .._client_session import ClientSession, Handlers
from .._codecs import Codec, find_codec
from .._config import HubConfig
from .._connection import Role
from .._effects import Effect, EffectQueue, Wake
from .._errors import HubProtoError, LocalProtocolError, TransportError, WouldBlock
from .._timers import Timer, TimerTable
from ._negotiate import NegotiateResponse, parse_response
from ._websocket import WebSocketTransport, accept_token, new_key

__all__ = ["ClientEffect", "ClientOptions", "ClientSocket", "HubClient", "OpenSocket"]

_MAX_REDIRECTS = 100
_MAX_RESPONSE = 1024 * 1024
_USER_AGENT = "hubproto"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientOptions:
    """How a client reaches its hub."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""

    access_token: str | None = None
    """Sent as a bearer token with every request."""

    skip_negotiation: bool = False
    """Open the WebSocket at once: one round trip less, but no redirects (SPEC 4.2.7)."""

    connect_timeout: float = 30.0
    """Seconds from the start until the hub's handshake must be done."""


class OpenSocket(Struct, frozen=True):
    """Open this socket, pump it until it is finished, and close it."""

    socket: ClientSocket


ClientEffect = Effect | OpenSocket


class _State(Enum):
    IDLE = "idle"
    NEGOTIATING = "negotiating"
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
        self.session: ClientSession | None = None
        self.connection_id: str | None = None
        """The public id that the server gave; None without negotiation."""
        self._target = _split(url)
        self._shown_url = _show(self._target)
        self._entropy = entropy
        self._options = options or ClientOptions()
        self._config = config or HubConfig(max_message_size=None)
        self._codec: Codec = find_codec(protocol)
        self._token = self._options.access_token
        try:
            h11.Request(method="GET", target="/", headers=[("host", self._target.netloc), *self._headers().items()])
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise ValueError(f"these headers cannot be sent: {error}") from error
        self._state = _State.IDLE
        self._error: Exception | None = None
        self._socket: ClientSocket | None = None
        self._redirects = 0
        self._timers = TimerTable()

    # facts

    @property
    def config(self) -> HubConfig:
        """What the connection obeys."""
        return self._config

    @property
    def closed(self) -> bool:
        """The connection is over and its socket is finished. Wait for `Wake` of this client until it is."""
        return self._state is _State.CLOSED and (self._socket is None or self._socket.finished)

    def started(self) -> ClientSession:
        """Return the session once calls are legal; `WouldBlock` before that, the reason if it will never be.

        Raises `LocalProtocolError` before `start`.
        """
        if self._state is _State.IDLE:
            raise LocalProtocolError(f"the connection to {self._shown_url} is not open yet; `async with` opens it")
        if self._state is _State.CLOSED:
            raise self._error or TransportError(f"the connection to {self._shown_url} is closed")
        if self._state is not _State.OPEN or self.session is None:
            raise WouldBlock
        return self.session

    # verbs

    def start(self, *, now: float) -> None:
        """Begin. Raises `LocalProtocolError` the second time."""
        if self._state is not _State.IDLE:
            raise LocalProtocolError("a HubClient starts once")
        self._timers.arm(Timer.HANDSHAKE, now + self._options.connect_timeout)
        if self._options.skip_negotiation:
            self._open_websocket(None)
        else:
            self._negotiate()

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._timers.next()

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        for timer in self._timers.expire(now):
            if timer is Timer.HANDSHAKE:
                self._fail(
                    TransportError(f"no connection to {self._shown_url} within {self._options.connect_timeout:g} s")
                )
            self._drop_socket(now)

    def stop(self, *, now: float) -> None:
        """Say farewell if there is anybody to say it to, and end within `HubConfig.close_timeout`."""
        if self._state is _State.OPEN and self.session is not None:
            self.session.close()
            self._timers.arm(Timer.CLOSE, now + self._config.close_timeout)
        else:
            self._fail(TransportError(f"the connection to {self._shown_url} was stopped before it was made"))
            self._drop_socket(now)

    # what the sockets report

    def socket_failed(self, error: Exception) -> None:
        """The socket could not be opened, or broke before it carried a session."""
        self._fail(error)

    def negotiated(self, body: bytes) -> None:
        """The server answered the negotiation."""
        try:
            response = parse_response(body, _show(self._target))
            if response.url is not None:
                self._redirect(response, response.url)
                return
            self._require_websockets(response)
        except TransportError as error:
            self._fail(error)
            return
        self.connection_id = response.connection_id
        self._open_websocket(response.token)

    def upgraded(self, trailing: bytes, *, now: float) -> WebSocketTransport:
        """The server accepted the WebSocket."""
        self.session = ClientSession(self._codec, self.handlers, config=self._config, effects=self.effects, now=now)
        self.session.carrier = self._socket
        return WebSocketTransport(
            self.session, Role.CLIENT, close_timeout=self._config.close_timeout, trailing=trailing, now=now
        )

    def socket_finished(self) -> None:
        """The socket is gone."""
        if self._state is _State.CLOSED:
            self._timers.clear()
        self.effects.append(Wake(self))

    def session_moved(self) -> None:
        """Something happened on the session."""
        session = self.session
        assert session is not None  # only a socket that carries it reports
        if self._state is _State.CONNECTING and session.is_open:
            self._state = _State.OPEN
            self._timers.disarm(Timer.HANDSHAKE)
            self.effects.append(Wake(self))
        if session.closed is not None and self._state is not _State.CLOSED:
            error = session.error
            if self._state is _State.CONNECTING and error is None:
                error = TransportError(f"{self._shown_url} accepted the connection and closed it at once")
            self._fail(error)

    # within

    def _headers(self) -> dict[str, str]:
        headers = {"user-agent": _USER_AGENT, "x-requested-with": "XMLHttpRequest"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        headers.update((name.lower(), value) for name, value in self._options.headers.items())
        return headers

    def _negotiate(self) -> None:
        self._state = _State.NEGOTIATING
        target = self._target
        path = target.path.rstrip("/") + "/negotiate"
        target = target._replace(path=path, query=_with_query(target.query, "negotiateVersion=1"))
        self._open(ClientSocket(self, target, "POST", {**self._headers(), "content-length": "0"}))

    def _open_websocket(self, token: str | None) -> None:
        self._state = _State.CONNECTING
        target = self._target
        if token is not None:
            target = target._replace(query=_with_query(target.query, f"id={quote(token, safe='')}"))
        key = new_key(self._entropy)
        headers = {
            **self._headers(),
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        }
        self._open(ClientSocket(self, target, "GET", headers, accept=accept_token(key)))

    def _open(self, socket: ClientSocket) -> None:
        self._socket = socket
        self.effects.append(OpenSocket(socket))

    def _drop_socket(self, now: float) -> None:
        if self._socket is not None:
            self._socket.abandon()
            self.effects.append(Wake(self._socket))
        if self.session is not None:
            self.session.handle_timeout(now=now)
            self.session_moved()

    def _redirect(self, response: NegotiateResponse, url: str) -> None:
        self._redirects += 1
        if self._redirects > _MAX_REDIRECTS:
            raise TransportError(f"{self._shown_url}: Negotiate redirection limit exceeded.")
        try:
            self._target = _split(url)
        except ValueError as error:
            raise TransportError(f"{_show(self._target)} redirects to an address that is none: {error}") from error
        if response.access_token is not None:
            if not _TOKEN.fullmatch(response.access_token):
                raise TransportError(f"{_show(self._target)} redirects with an access token that no header can carry")
            self._token = response.access_token
        self._negotiate()

    def _require_websockets(self, response: NegotiateResponse) -> None:
        offered = response.available_transports or ()
        for transport in offered:
            wanted = self._codec.transfer_format.capitalize()
            if transport.transport == "WebSockets" and wanted in transport.transfer_formats:
                return
        names = ", ".join(t.transport for t in offered) or "nothing"
        raise TransportError(
            f"{_show(self._target)} offers {names}: "
            "None of the transports supported by the client are supported by the server."
        )

    def _fail(self, error: Exception | None) -> None:
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._error = error
            self._timers.disarm(Timer.HANDSHAKE)
            if self.session is not None:
                self.session.close()
            self.effects.append(Wake(self))


class ClientSocket:
    """One socket of a client: one HTTP exchange, which may make it a WebSocket."""

    __slots__ = (
        "_accept",
        "_body",
        "_client",
        "_finished",
        "_h11",
        "_output",
        "_status",
        "_transport",
        "host",
        "port",
        "tls",
        "url",
    )

    def __init__(
        self, client: HubClient, target: SplitResult, method: str, headers: Mapping[str, str], accept: str | None = None
    ) -> None:
        self.tls: bool = target.scheme == "https"
        """Speak TLS, with `host` as the name to verify."""
        self.host: str = target.hostname or ""
        self.port: int = target.port or (443 if self.tls else 80)
        self.url: str = _show(target)
        """For messages; without what may be secret in it."""
        self._client = client
        self._accept = accept
        self._status = 0
        self._body = bytearray()
        self._finished = False
        self._transport: WebSocketTransport | None = None
        self._h11 = h11.Connection(h11.CLIENT)
        path = urlunsplit(("", "", target.path or "/", target.query, ""))
        request = h11.Request(method=method, target=path, headers=[("host", _without_user(target)), *headers.items()])
        self._output = bytearray(self._h11.send(request) or b"")
        self._output += self._h11.send(h11.EndOfMessage()) or b""

    @property
    def finished(self) -> bool:
        """Nothing more will be sent or read: close the socket once the output is written."""
        return self._transport.finished if self._transport else self._finished

    @property
    def want_read(self) -> bool:
        """Bytes are welcome."""
        return self._transport.want_read if self._transport else not self._finished

    def open_failed(self, error: Exception) -> None:
        """The shell could not open the socket; `error` says why."""
        self._finished = True
        self._client.socket_failed(
            TransportError(
                f"cannot connect to {self.url} ({self.host} port {self.port}): {str(error) or type(error).__name__}"
            )
        )

    def abandon(self) -> None:
        """Nobody waits for this socket any more, or not any longer."""
        self._finished = True
        if self._transport is not None:
            self._transport.finished = True

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""
        if self._transport is not None:
            self._transport.receive_data(data, now=now)
            self._client.session_moved()
        elif not self._finished:
            self._h11.receive_data(data)
            self._advance(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes, in order or because of an error; also to be called when it is closed."""
        if self._transport is not None:
            self._transport.receive_eof(error, now=now)
            self._client.session_moved()
        elif not self._finished:
            if error is None:
                self._h11.receive_data(b"")
                self._advance(now)
            if not self._finished:
                why = error or "it closed the connection before it answered"
                self._fail(f"{self.url} failed: {why}")
        self._client.socket_finished()

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        if self._transport is not None:
            self._transport.handle_timeout(now=now)
            self._client.session_moved()

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget the bytes to be written now."""
        data = bytes(self._output)
        self._output.clear()
        if self._transport is not None:
            data += self._transport.data_to_send(now=now)
            self._client.session_moved()
        return data

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        return self._transport.next_timeout() if self._transport else None

    def _advance(self, now: float) -> None:
        while not self._finished and self._transport is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._fail(f"{self.url} does not answer in HTTP: {error}")
                return
            match event:
                case h11.InformationalResponse(status_code=101):
                    self._upgrade(event, now)
                case h11.Response(status_code=status):
                    self._status = status
                case h11.Data(data=data):
                    self._body += data
                    if len(self._body) > _MAX_RESPONSE:
                        self._fail(f"{self.url} answers with more than {_MAX_RESPONSE} bytes; is it a SignalR hub?")
                case h11.EndOfMessage():
                    self._answered()
                case h11.InformationalResponse():
                    pass
                case _:
                    return

    def _upgrade(self, event: h11.InformationalResponse, now: float) -> None:
        headers = dict(event.headers.raw_items())
        answer = {name.lower(): value for name, value in headers.items()}.get(b"sec-websocket-accept", b"")
        if self._accept is None or answer.decode("latin-1") != self._accept:
            self._fail(f"{self.url} answered the upgrade with a wrong Sec-WebSocket-Accept")
            return
        self._transport = self._client.upgraded(self._h11.trailing_data[0], now=now)
        self._client.session_moved()

    def _answered(self) -> None:
        if self._accept is None and self._status == 200:
            self._finished = True
            self._client.negotiated(bytes(self._body))
            return
        text = self._body[:200].decode("utf-8", "replace").strip()
        what = "WebSocket" if self._accept is not None else "negotiation"
        advice = {
            401: "; it wants a (valid) access token",
            403: "; the access token does not give access",
            404: "; is it the address of a SignalR hub?",
        }.get(self._status, "")
        self._fail(f"{self.url} refused the {what} with status {self._status}{advice}{f' ({text})' if text else ''}")

    def _fail(self, text: str) -> None:
        self._finished = True
        self._client.socket_failed(TransportError(text))


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, ready for the wire. Raises ValueError, saying why, for one that is none."""
    target = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(target.scheme, target.scheme)
    if scheme not in ("http", "https") or not target.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if not _HOST.fullmatch(target.hostname):
        raise ValueError(f"{url!r} has a host name that cannot be; write an international one in its xn-- form")
    if target.port == 0:
        raise ValueError(f"{url!r} has no port that can be connected to")
    path, query = quote(target.path, safe=_PATH_SAFE), quote(target.query, safe=_PATH_SAFE + "?")
    return target._replace(scheme=scheme, path=path, query=query, fragment="")


_HOST = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!-~]*")
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"


def _without_user(target: SplitResult) -> str:
    return target.netloc.rpartition("@")[2]


def _show(target: SplitResult) -> str:
    """The URL for messages: without the query and the password, which may be secrets."""
    return urlunsplit(target._replace(netloc=_without_user(target), query=""))


def _with_query(query: str, more: str) -> str:
    return f"{query}&{more}" if query else more
