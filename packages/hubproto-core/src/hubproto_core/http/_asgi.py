"""ASGI without I/O: one request, or one WebSocket, as the messages that an ASGI server and an application exchange.

The server at the other side has parsed the request and frames the answer; what is left of HTTP are dictionaries. So
these machines stand where `HttpServerConnection` stands for a socket of our own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import quote

from .._effects import Wake
from .._errors import HubProtoError, TransportError
from .._hub_session import HubSession
from .._logs import NOBODY, facts, http_log, one_line
from .._timers import Timer, TimerTable
from .._transport import Transport
from ._admission import Admission
from ._endpoint import Endpoint, WebSocketAccepted
from ._exchange import Exchange
from ._messages import Request, Response
from ._pace import Pace
from ._server import HubServer

__all__ = ["AsgiMachine", "AsgiMessage", "AsgiRequest", "AsgiWebSocket", "asgi_machine"]

AsgiMessage = MutableMapping[str, Any]
"""What `receive` returns and `send` takes."""

_BAD_REQUEST = 400
_NO_CONTENT = 204
_NORMAL, _NO_STATUS, _CUT_OFF = 1000, 1005, 1006
_NO_WEBSOCKET = Response(404, f"{Transport.WEB_SOCKETS} transport not supported by this end point type".encode())
_GOING_AWAY = Response(503)
_TOO_SLOW = Response(408)
_TOO_LARGE = Response(413)


class AsgiMachine(Protocol):
    """The verbs of an ASGI scope.

    A pump feeds what `receive` gives, while `want_read`, to `receive_message`. It sends `messages_to_send()` in order,
    whenever the machine is woken and `send` has returned, and calls `handle_timeout` at `next_timeout()`, and at each
    wake while a message is being sent, which it leaves when the machine is `given_up`. The application returns when
    the machine is `finished` and all is sent; however that ends, the pump says `receive_eof` last. Calling any of them
    once too often is harmless.
    """

    @property
    def finished(self) -> bool: ...
    @property
    def given_up(self) -> bool: ...
    @property
    def want_read(self) -> bool: ...
    def receive_message(self, message: AsgiMessage, *, now: float) -> None: ...
    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def messages_to_send(self, *, now: float) -> Sequence[AsgiMessage]: ...
    def next_timeout(self) -> float | None: ...


def asgi_machine(server: HubServer, scope: Mapping[str, Any], *, now: float) -> AsgiMachine:
    """Return the machine for a scope of the type "http" or "websocket". Raises ValueError for any other type."""
    match scope["type"]:
        case "http":
            return AsgiRequest(server, scope, now=now)
        case "websocket":
            return AsgiWebSocket(server, scope, now=now)
        case other:
            raise ValueError(f"a hub knows no ASGI scope of the type {other!r}")


class _Scope(ABC):
    """What requests and WebSockets have in common: somebody asks, is let in or not, and is answered."""

    def __init__(self, server: HubServer, scope: Mapping[str, Any], request: Request) -> None:
        self.finished: bool = False
        """Nothing follows what `messages_to_send` has returned."""
        self.given_up: bool = False
        """Whoever should take what is being sent has gone, or takes too long: leave it."""
        self._server = server
        self._request = request
        self._path = _path_within(scope)
        self._admission: Admission | None = None  # it is being decided about
        self._endpoint: Endpoint | None = None
        self._part = ""
        self._cors: dict[str, str] = {}  # what a browser must read in the answer
        self._output: list[AsgiMessage] = []
        self._timers = TimerTable()
        server.join(self)

    # the verbs that do not differ

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The server has nothing more to do with it, in order or because of an error."""
        self.finished = self.given_up = True
        self._timers.clear()
        if self._admission is not None:
            self._admission.abandon()
            self._admission = None
        self._lost(error, now)
        self._server.forget(self)

    def messages_to_send(self, *, now: float) -> Sequence[AsgiMessage]:
        """Return and forget the messages to be sent now."""
        self._go_on(now)
        self._speak(now)
        output, self._output = self._output, []
        return output

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing."""
        self._pass_time(now)
        for timer in self._timers.expire(now):
            if timer is Timer.CLOSE:
                self.finished = self.given_up = True
            elif self._admission is not None:
                self._admission.abandon(timed_out=True)
                self._go_on(now)
            else:
                self._respond(_TOO_SLOW, now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        own, other = self._timers.next(), self._other_timeout()
        return own if other is None else other if own is None else min(own, other)

    def shut_down(self, *, now: float) -> None:
        """Take up nothing new; let what there is end in order."""
        if self._admission is not None:
            self._admission.abandon()
            self._admission = None
            self._respond(_GOING_AWAY, now)
        self._server.effects.append(Wake(self))

    def cut_short(self, *, now: float) -> None:
        """Wait for the client no longer."""
        self._hurry(now)
        self._server.effects.append(Wake(self))

    # what differs

    @abstractmethod
    def _lost(self, error: HubProtoError | None, now: float) -> None:
        """The client cannot be reached any longer."""

    @abstractmethod
    def _speak(self, now: float) -> None:
        """Add to the output what there is to say."""

    @abstractmethod
    def _pass_time(self, now: float) -> None:
        """A deadline of what answers may have passed."""

    @abstractmethod
    def _other_timeout(self) -> float | None:
        """When `_pass_time` wants to be called."""

    @abstractmethod
    def _begins(self) -> bool:
        """Whether it would be the beginning of a connection."""

    @abstractmethod
    def _let_in(self, endpoint: Endpoint, principal: Any, now: float) -> None:
        """Answer whoever has been let in."""

    @abstractmethod
    def _answer_with(self, response: Response) -> list[AsgiMessage]:
        """Return a whole response as messages."""

    # within

    def _ask(self, now: float) -> None:
        """Find out who answers, and whether the client may come in."""
        endpoint, self._part = self._server.find(self._path)
        if endpoint is None:
            self._respond(Response(404), now)
        elif self._server.closing and self._begins():
            self._respond(_GOING_AWAY, now)
        else:
            self._cors = endpoint.cors.headers(self._request)
            settled = endpoint.cors.answer(self._request)
            if settled is not None:
                self._respond(settled, now)
                return
            self._endpoint = endpoint
            self._timers.arm(Timer.HANDSHAKE, now + self._server.http.request_timeout)
            self._admission = self._server.admission(endpoint, self._request, self)
            if self._admission is None:
                self._let_in(endpoint, None, now)

    def _go_on(self, now: float) -> None:
        """Answer the request that has been decided about, if it has."""
        admission, endpoint = self._admission, self._endpoint
        if admission is None or endpoint is None or not admission.decided:
            return
        self._admission = None
        if admission.answer is not None:
            self._respond(admission.answer, now)
        else:
            self._let_in(endpoint, admission.principal, now)

    def _respond(self, response: Response, now: float) -> None:
        """Say all there is to say in answer."""
        if response.status >= _BAD_REQUEST:
            text = one_line(self._request.path)
            http_log.debug("%s is answered with status %d", text, response.status, extra=facts(NOBODY))
        self._output += self._answer_with(self._with_cors(response))
        self._end(now + self._server.http.idle_timeout)

    def _with_cors(self, response: Response) -> Response:
        return replace(response, headers={**response.headers, **self._cors}) if self._cors else response

    def _end(self, deadline: float) -> None:
        """All has been said; so long has the client to take it."""
        self.finished = True
        self._timers.clear()
        self._timers.arm(Timer.CLOSE, deadline)

    def _hurry(self, now: float) -> None:
        if self.finished:
            self._end(now)


class AsgiRequest(_Scope):
    """One HTTP request and its answer."""

    def __init__(self, server: HubServer, scope: Mapping[str, Any], *, now: float) -> None:
        super().__init__(server, scope, Request(scope["method"], _target(scope), _headers(scope)))
        self._exchange: Exchange | None = None  # what answers, sooner or later
        self._answering = False  # the head of its answer has been sent
        self._held = b""  # of the body, what came before the request was let in
        self._complete = False  # all of the body has come
        self._size = 0  # of what has come
        self._pace: Pace | None = None  # at which the rest must come
        self._farewell_timeout = 0.0
        self._ask(now)

    @property
    def want_read(self) -> bool:
        """Another message is welcome. When the body is complete, it can only say that the client has gone away."""
        if self.finished:
            return False
        if self._complete:
            return True
        return not self._held if self._exchange is None else self._exchange.want_read

    def receive_message(self, message: AsgiMessage, *, now: float) -> None:
        """A message of the server's: a piece of the body, or that the client has gone away."""
        if message["type"] == "http.disconnect":
            self.receive_eof(now=now)
        elif not self.finished and not self._complete:
            body = message.get("body", b"")
            self._held += body
            self._size += len(body)
            self._complete = not message.get("more_body", False)
            if self._pace is not None:
                self._pace.receive(len(body), now=now)
            self._hand_over(now)

    def _lost(self, error: HubProtoError | None, now: float) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.receive_eof(now=now)

    def _speak(self, now: float) -> None:
        exchange = self._exchange
        if exchange is None or self.finished:
            return
        if not self._answering:
            response = exchange.response(now=now)
            if response is None:
                return
            if exchange.finished:
                self._respond(response, now)
                return
            self._answering = True
            self._output.append(_head("http.response", self._with_cors(response), []))
            self._say(response.body, more=True)
        data = exchange.data_to_send(now=now)
        if data or exchange.finished:
            self._say(data, more=not exchange.finished)
        if exchange.finished:
            self._end(now + self._farewell_timeout)

    def _say(self, body: bytes, *, more: bool) -> None:
        self._output.append({"type": "http.response.body", "body": body, "more_body": more})

    def _pass_time(self, now: float) -> None:
        if self._exchange is not None and not self.finished:
            self._exchange.handle_timeout(now=now)
            if self._exchange.finished:  # without an end: the client takes nothing any more
                self.finished = self.given_up = True

    def _other_timeout(self) -> float | None:
        return None if self._exchange is None or self.finished else self._exchange.next_timeout()

    def _begins(self) -> bool:
        return bool(self._part)

    def _hurry(self, now: float) -> None:
        self._speak(now)
        self._end(now)

    def _let_in(self, endpoint: Endpoint, principal: Any, now: float) -> None:
        if self._request.wants_websocket and not self._part:
            self._respond(_NO_WEBSOCKET, now)  # the server cannot do what the client wants, or it would be no request
            return
        answer = endpoint.answer(self._part, self._request, self, principal, now=now)
        assert not isinstance(answer, WebSocketAccepted)
        if isinstance(answer, Response):
            self._respond(answer, now)
        else:
            self._exchange = answer
            self._farewell_timeout = endpoint.config.close_timeout
            http = self._server.http
            self._pace = Pace(http.min_body_rate, http.request_timeout, now=now)
            self._hand_over(now)

    def _hand_over(self, now: float) -> None:
        """Give the body to what takes it, as far as it has come. The rest must come in time."""
        exchange, pace = self._exchange, self._pace
        if exchange is None or pace is None:
            return
        if max(self._size, self._declared_size) > self._server.http.max_post_size:
            self._exchange = None
            exchange.receive_eof(now=now)
            self._respond(_TOO_LARGE, now)
            return
        held, self._held = self._held, b""
        if held:
            exchange.receive_data(held, now=now)
        if self._complete:
            self._timers.disarm(Timer.HANDSHAKE)
            exchange.receive_end(now=now)
            return
        pace.run(exchange.want_read, now=now)
        if pace.deadline is None:
            self._timers.disarm(Timer.HANDSHAKE)
        else:
            self._timers.arm(Timer.HANDSHAKE, pace.deadline)

    @property
    def _declared_size(self) -> int:
        length = self._request.headers.get("content-length", "")
        return int(length) if length.isdecimal() else 0  # the server has looked at it

    def _answer_with(self, response: Response) -> list[AsgiMessage]:
        return _whole("http.response", response)


class AsgiWebSocket(_Scope):
    """One WebSocket, from the question whether it may be opened to its close. Frames are the server's business."""

    def __init__(self, server: HubServer, scope: Mapping[str, Any], *, now: float) -> None:
        upgrade = {"connection": "Upgrade", "upgrade": "websocket"}  # what it was, however the server was asked for it
        super().__init__(server, scope, Request("GET", _target(scope), {**_headers(scope), **upgrade}))
        self._can_answer = "websocket.http.response" in (scope.get("extensions") or {})
        self._accepted: WebSocketAccepted | None = None
        self._close_timeout = 0.0
        self._close_sent = False  # the client's own is waited for: hypercorn cuts a WebSocket off when the app returns
        self._seen = now  # when a message could last be sent

    @property
    def session(self) -> HubSession | None:
        """The session that this WebSocket carries."""
        return self._accepted.session if self._accepted else None

    @property
    def want_read(self) -> bool:
        """Another message is welcome."""
        session = self.session
        return not self.finished and (session is None or session.want_read or session.closed is not None)

    def receive_message(self, message: AsgiMessage, *, now: float) -> None:
        """A message of the server's: the opening, a payload, or the end."""
        if self.finished:
            return
        match message["type"]:
            case "websocket.connect":
                self._ask(now)
            case "websocket.disconnect":
                lost = TransportError("The WebSocket was cut off without a close frame.") if _cut_off(message) else None
                self.receive_eof(lost, now=now)
            case _:
                if self.session is not None:
                    text = message.get("text")
                    data: bytes = message["bytes"] if text is None else text.encode("utf-8", "surrogatepass")
                    self.session.receive_data(data, now=now)

    def shut_down(self, *, now: float) -> None:
        """Let the session, if there is one, end in order."""
        if self.session is not None:
            self.session.shut_down(now=now)
        super().shut_down(now=now)

    def replaced(self, *, now: float) -> None:
        """Another WebSocket carries the session from now on: say goodbye here."""
        self._accepted = None
        self._say_goodbye(now)
        self._server.effects.append(Wake(self))

    def _lost(self, error: HubProtoError | None, now: float) -> None:
        accepted, self._accepted = self._accepted, None
        if accepted is not None:
            accepted.session.receive_eof(error, now=now)
            accepted.detach(self, now=now)

    def _speak(self, now: float) -> None:
        self._seen = now
        session = self.session
        if session is None or self._close_sent:
            return
        payload = session.data_to_send(now=now)
        if payload and session.transfer_format == "text":
            self._output.append({"type": "websocket.send", "text": payload.decode()})
        elif payload:
            self._output.append({"type": "websocket.send", "bytes": payload})
        if session.closed is not None:
            self._say_goodbye(now)

    def _say_goodbye(self, now: float) -> None:
        self._close_sent = True
        self._output.append({"type": "websocket.close", "code": _NORMAL})
        self._timers.arm(Timer.CLOSE, now + self._close_timeout)

    def _pass_time(self, now: float) -> None:
        session = self.session
        if session is None:
            return
        if session.is_over and not self._close_sent and now >= self._seen + self._close_timeout:
            # nothing has been taken since, not even the close frame
            self.finished = self.given_up = True
        session.handle_timeout(now=now)

    def _other_timeout(self) -> float | None:
        session = self.session
        if session is None or self._close_sent:
            return None
        return self._seen + self._close_timeout if session.is_over else session.next_timeout()

    def _begins(self) -> bool:
        return True

    def _hurry(self, now: float) -> None:
        super()._hurry(now)
        self._close_timeout = 0.0
        if self._close_sent:
            self._timers.arm(Timer.CLOSE, now)

    def _let_in(self, endpoint: Endpoint, principal: Any, now: float) -> None:
        answer = endpoint.answer(self._part, self._request, self, principal, now=now)
        if isinstance(answer, WebSocketAccepted):
            self._timers.clear()
            self._accepted = answer
            self._close_timeout = endpoint.config.close_timeout
            answer.attach(self, now=now)
            self._output.append({"type": "websocket.accept"})
        else:
            assert isinstance(answer, Response)
            self._respond(answer, now)

    def _answer_with(self, response: Response) -> list[AsgiMessage]:
        if self._can_answer:
            return _whole("websocket.http.response", response)
        return [{"type": "websocket.close"}]  # which the server answers with status 403


def _cut_off(message: AsgiMessage) -> bool:
    """Whether a WebSocket has ended without a close frame. uvicorn tells by leaving out the reason."""
    code = message.get("code")
    return code == _CUT_OFF or (code == _NO_STATUS and "reason" not in message)


def _path_within(scope: Mapping[str, Any]) -> str:
    """Return the path below the one at which the application is mounted; most servers and frameworks leave that in."""
    path: str = scope["path"]
    root = (scope.get("root_path") or "").rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def _target(scope: Mapping[str, Any]) -> str:
    target = quote(scope["path"], errors="replace")
    query = scope["query_string"].decode("latin-1")
    return f"{target}?{query}" if query else target


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _head(kind: str, response: Response, length: list[tuple[bytes, bytes]]) -> AsgiMessage:
    headers = [
        *length,
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()),
    ]
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type.encode("latin-1")))
    return {"type": f"{kind}.start", "status": response.status, "headers": headers}


def _whole(kind: str, response: Response) -> list[AsgiMessage]:
    length = [(b"content-length", b"%d" % len(response.body))] if response.status != _NO_CONTENT else []
    return [_head(kind, response, length), {"type": f"{kind}.body", "body": response.body}]
