"""`HttpServerConnection`: one accepted HTTP/1.1 socket, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import h11

from .._connection import Role
from .._effects import EffectSink, Wake
from .._errors import HubProtoError
from .._hub_session import HubSession
from .._logs import NOBODY, facts, http_log, one_line
from .._timers import Timer, TimerTable
from ._admission import Admission
from ._app import SocketInfo
from ._deflate import BoundedDeflate, accept_deflate
from ._endpoint import Endpoint, WebSocketAccepted
from ._exchange import Exchange
from ._fallback import Fallback
from ._messages import Request, Response
from ._pace import Pace
from ._send_watch import SendWatch
from ._websocket import WebSocketTransport, accept_token

__all__ = ["HttpConfig", "HttpServerConnection", "SocketOwner"]

_NO_CONTENT = 204
_GOING_AWAY = Response(503)
_BAD_REQUEST = 400
_TOO_LARGE = 431
_OUTPUT_LIMIT = 65536  # bytes of answers above which no further request is read, so that they cannot pile up
_LINGER_PAUSE = 0.5  # seconds without a byte, seconds, and
_LINGER_TIME = 5.0
_LINGER_SIZE = 33_554_432  # bytes, in which a client that was answered before it had sent all may read that
_TURN = 4  # of h11's events in one turn, as many as two requests; then other sockets have theirs
_NO_HTTP = b"This is no valid HTTP/1.1 request."
_BAD_REQUESTS = {
    _TOO_LARGE: b"The request line and the headers are too large.",
    501: b"Only the transfer encoding 'chunked' is supported.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Limits of HTTP itself. Durations are seconds, sizes are bytes."""

    max_header_size: int = 32768
    """Request line and headers together; more is answered 431."""

    max_header_count: int = 100
    """Headers of a request; more are answered 431."""

    max_body_size: int = 65536
    """Body of a request that nobody reads, such as a negotiation's; more is answered 413."""

    max_post_size: int = 30_000_000
    """Body of a request that sends to a hub, or that the fallback application answers; more is answered 413. It is
    handed over as it comes and never held as a whole: how much is held at a time, `HubConfig.max_message_size` says."""

    request_timeout: float = 15.0
    """Seconds that a request may take to arrive whole, from the opening of the connection or its first byte; and
    seconds that authenticator and policy may then take to decide about it. A late request is answered 408."""

    min_body_rate: float = 240.0
    """Bytes a second at which such a body must come. It may fall `request_timeout` seconds behind, then it is answered
    408. The time in which nobody takes it does not count."""

    idle_timeout: float = 120.0
    """Seconds that a connection is kept for another request."""

    max_connections: int | None = None
    """Sockets that are open at a time, those of WebSockets too; one more is closed as soon as it is accepted. None is
    no limit."""

    compression: bool = False
    """Let clients compress WebSocket messages, and compress for them (permessage-deflate, RFC 7692). Some 300 KB of
    memory and much time for each of them; and what is secret should not be compressed together with what others say."""

    max_decompressed_size: int = 1_048_576
    """What a compressed WebSocket message may become; a larger one ends the connection with code 1009."""

    send_timeout: float = 10.0
    """Seconds that the client may take to accept what is written of an answer at one time, TransportSendTimeout: a
    poll's or a stream's, say. Then the connection is cut. Of a WebSocket it is asked for the last bytes only."""


class SocketOwner(Protocol):
    """What a socket asks of the server."""

    @property
    def effects(self) -> EffectSink: ...

    @property
    def fallback(self) -> Fallback | None: ...

    def find(self, path: str) -> tuple[Endpoint | None, str]:
        """Return the endpoint that a path belongs to, and which part of it: "", "negotiate" or "description"."""

    def admission(self, endpoint: Endpoint, request: Request, host: object) -> Admission | None:
        """Return what decides about a request; None where everybody is let in and nobody is known."""

    def forget(self, connection: HttpServerConnection) -> None:
        """The socket is finished."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and where it belongs."""

    request: Request
    endpoint: Endpoint
    part: str


class HttpServerConnection:
    """One accepted socket: HTTP/1.1 requests, until one of them makes it a WebSocket."""

    __slots__ = (
        "_accepted",
        "_admission",
        "_answering",
        "_asked",
        "_body_size",
        "_config",
        "_cors",
        "_exchange",
        "_finished",
        "_guest",
        "_h11",
        "_info",
        "_is_last",
        "_lingers",
        "_output",
        "_pace",
        "_reply",
        "_request",
        "_resumes",
        "_server",
        "_timers",
        "_too_large",
        "_transport",
        "_turn",
        "_watch",
    )

    def __init__(self, server: SocketOwner, config: HttpConfig, info: SocketInfo | None = None, *, now: float) -> None:
        self._server = server
        self._info = info
        self._config = config
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=config.max_header_size)
        self._request: h11.Request | None = None
        self._body_size = 0
        self._output = bytearray()
        self._finished = False
        self._timers = TimerTable()
        self._timers.arm(Timer.HANDSHAKE, now + config.request_timeout)
        self._transport: WebSocketTransport | None = None
        self._accepted: WebSocketAccepted | None = None
        self._admission: Admission | None = None  # it is being decided about
        self._asked: _Asked | None = None  # what waits for it
        self._cors: dict[str, str] = {}  # what a browser must read in the answer
        self._reply: Response | None = None  # waits for the end of the request's body
        self._exchange: Exchange | None = None  # what answers the request, sooner or later
        self._guest: Exchange | None = None  # that, or what answered the last one: its client may come again
        self._pace: Pace | None = None  # at which its body must come
        self._answering = False  # the head of its answer has been sent
        self._turn = 0  # events read in this turn
        self._resumes: float | None = None  # when the next turn may begin, as this one is over
        self._watch = SendWatch(config.send_timeout)
        self._is_last = False  # no further request is taken
        self._too_large = False  # the head of the request was
        self._lingers = 0  # bytes that may still come from a client that has been answered before its request ended

    @property
    def session(self) -> HubSession | None:
        """The session that this socket carries as a WebSocket."""
        return self._accepted.session if self._accepted else None

    @property
    def finished(self) -> bool:
        """Nothing more will be sent or read: close the socket once the output is written."""
        return self._transport.finished if self._transport else self._finished

    @property
    def want_read(self) -> bool:
        """Bytes are welcome. While a whole request waits, they may only say that the client has gone away."""
        if self._transport is not None:
            return self._transport.want_read
        if self._finished or self._waits:
            return False
        if self._exchange is not None and self._h11.their_state is h11.SEND_BODY:
            return self._exchange.want_read
        if self._lingers:
            return True
        return (self._admission is None and self._exchange is None) or not self._h11.trailing_data[0]

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""
        if self._transport is not None:
            self._transport.receive_data(data, now=now)
        elif self._lingers:
            self._lingers -= len(data)
            self._timers.arm(Timer.KEEP_ALIVE, now + _LINGER_PAUSE)
            if self._lingers <= 0:
                self._finish(now)
        elif not self._finished:
            self._h11.receive_data(data)
            self._begin_turn(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes, in order or because of an error. Nothing is owed to a half request."""
        if self._transport is not None:
            self._transport.receive_eof(error, now=now)
        self._finish(now)

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed. Early and spurious calls change nothing.

        If it is `finished` and the socket still takes nothing, the socket is to be dropped.
        """
        if self._transport is not None and not self._transport.finished:
            self._transport.handle_timeout(now=now)
            return
        if self._exchange is not None:
            self._exchange.handle_timeout(now=now)
            if self._exchange.finished:  # without an end: the client takes nothing any more
                self._finish(now)
                return
            self._begin_turn(now)
        elif self._resumes is not None and len(self._output) <= _OUTPUT_LIMIT:
            self._begin_turn(now)
        if self._watch.must_try(now=now):
            self._server.effects.append(Wake(self))
        elif self._watch.is_stuck(now=now):
            self._watch.asked(0, now=now)
            self._finish(now)
        for timer in self._timers.expire(now):
            if self._admission is not None:
                self._admission.abandon(timed_out=True)
                self._go_on(now)
            elif timer is Timer.HANDSHAKE and self._h11.their_state is not h11.IDLE:
                self._respond(Response(408), now)
            self._finish(now)

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget the bytes to be written now."""
        if self._is_last and self._timers.armed(Timer.KEEP_ALIVE) and not self._has_guest:
            self._finish(now)
        self._go_on(now)
        while self._exchange is not None:
            complete = self._answer_on(self._exchange, now)
            self._read_on(now)  # to the rest of a body that was not wanted before, or to the next request
            if not complete:
                break
        data = bytes(self._output)
        self._output.clear()
        if self._transport is not None:
            data += self._transport.data_to_send(now=now)
            if self._transport.finished:
                self._finish(now)
        if self._transport is None or self._transport.finished:
            self._watch.asked(len(data), is_last=self.finished, now=now)
        return data

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        if self._transport is not None and not self._transport.finished:
            return self._transport.next_timeout()
        other = None if self._exchange is None else self._exchange.next_timeout()
        resumes = None if len(self._output) > _OUTPUT_LIMIT else self._resumes
        deadlines = (self._timers.next(), self._watch.next_timeout(), other, resumes)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def shut_down(self, *, now: float) -> None:
        """Take no further request, but what a connection that has begun still needs; let it end in order."""
        self._is_last = True
        if self.session is not None:
            self.session.shut_down(now=now)
        elif self._exchange is None:
            if not self._has_guest:
                self._finish(now)
            elif self._timers.armed(Timer.KEEP_ALIVE):
                self._await_another(now)
        self._server.effects.append(Wake(self))

    def cut_short(self, *, now: float) -> None:
        """The session is to end at once: wait for its peer no longer."""
        if self._transport is not None:
            self._transport.cut_short(now=now)
        else:
            if self._exchange is not None:
                self._answer_on(self._exchange, now)
            self._finish(now)
        self._server.effects.append(Wake(self))

    def replaced(self, *, now: float) -> None:
        """Another socket carries the session of this WebSocket from now on: say goodbye here."""
        self._part()
        self._finish(now)
        self._server.effects.append(Wake(self))

    def _part(self) -> None:
        """The session lives on, and is no business of this socket's any longer."""
        assert self._transport is not None
        self._output += self._transport.part()
        self._transport = self._accepted = None

    def _finish(self, now: float) -> None:
        self._server.forget(self)
        self._drop_request(now)
        self._guest = None
        self._finished = True
        self._lingers = 0
        if self._accepted is not None:
            self._accepted.detach(self, now=now)
            if self._accepted.session.closed is None:
                self._part()

    def _drop_request(self, now: float) -> None:
        if self._admission is not None:
            self._admission.abandon()
            self._admission = None
        if self._exchange is not None:
            self._exchange.receive_eof(now=now)
            self._exchange = None
        self._resumes = None
        self._pace = None
        self._timers.clear()

    def _close(self, now: float) -> None:
        """Nothing more is answered. Whoever still sends would lose the answer if the socket were closed under it."""
        if self._is_last or not self._may_still_send:
            self._finish(now)
        else:
            self._drop_request(now)
            self._lingers = _LINGER_SIZE
            self._timers.arm(Timer.CLOSE, now + _LINGER_TIME)
            self._timers.arm(Timer.KEEP_ALIVE, now + _LINGER_PAUSE)

    @property
    def _may_still_send(self) -> bool:
        """The client has not ended its request, as far as we have read. What is no request at all does not count."""
        return self._too_large or self._h11.their_state is h11.SEND_BODY

    @property
    def _has_guest(self) -> bool:
        """Whose last request was answered here will come again: a client that polls, for example, for the farewell."""
        return self._guest is not None and self._guest.goes_on

    # requests

    @property
    def _waits(self) -> bool:
        """It is up to us to read on, or to the client to take its answers."""
        return self._resumes is not None or len(self._output) > _OUTPUT_LIMIT

    def _begin_turn(self, now: float) -> None:
        self._turn = 0
        self._resumes = None
        self._read_on(now)

    def _read_on(self, now: float) -> None:
        self._advance(now)
        if self._pace is not None:
            self._keep_pace(self._pace, now)
        elif self._h11.trailing_data[0] and self._timers.armed(Timer.KEEP_ALIVE) and not self._waits:
            self._await_request(now)  # the next one has begun

    def _keep_pace(self, pace: Pace, now: float) -> None:
        """The body must not be late, but may wait for us."""
        assert self._exchange is not None
        pace.run(self._exchange.want_read, now=now)
        if pace.deadline is None:
            self._timers.disarm(Timer.HANDSHAKE)
        else:
            self._timers.arm(Timer.HANDSHAKE, pace.deadline)

    def _await_request(self, now: float) -> None:
        """A request may take so long to arrive, and so long to be decided about."""
        self._timers.clear()
        self._timers.arm(Timer.HANDSHAKE, now + self._config.request_timeout)

    def _advance(self, now: float) -> None:
        """Read on, as far as what has been asked allows."""
        while self._reads_on():
            if self._turn == _TURN:
                self._resumes = now
                return
            self._turn += 1
            if self._h11.they_are_waiting_for_100_continue:
                if self._declares_too_much():
                    self._respond(Response(413), now)
                    return
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint
                self._too_large = status == _TOO_LARGE
                self._respond(Response(status, _BAD_REQUESTS.get(status, _NO_HTTP)), now)
                return
            match event:
                case h11.Request():
                    self._request = event
                    self._body_size = 0
                    self._cors = {}
                    if self._timers.armed(Timer.KEEP_ALIVE):  # it came in one piece, behind another
                        self._await_request(now)
                    if self._heads_too_much(event):
                        self._respond(Response(_TOO_LARGE, _BAD_REQUESTS[_TOO_LARGE]), now)
                    elif event.method == b"POST" or self._is_for_the_fallback(event):
                        self._ask(now)  # what takes its body must be known before
                case h11.Data(data=data):
                    self._receive_body(bytes(data), now)
                case h11.EndOfMessage():
                    self._receive_end(now)
                case h11.ConnectionClosed():
                    self._finish(now)
                case _:  # NEED_DATA, or PAUSED until the request has been answered
                    return

    def _reads_on(self) -> bool:
        if self._finished or self._lingers or self._transport is not None or self._admission is not None:
            return False
        if self._exchange is None:
            return True
        return self._h11.their_state is h11.SEND_BODY and self._exchange.want_read

    def _heads_too_much(self, request: h11.Request) -> bool:
        """Whether the head of a request is over a limit. h11 looks only at one that comes in pieces."""
        size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
        return size > self._config.max_header_size or len(request.headers) > self._config.max_header_count

    def _is_for_the_fallback(self, request: h11.Request) -> bool:
        if self._server.fallback is None or request.method == b"CONNECT":
            return False
        return self._server.find(Request("", request.target.decode("latin-1")).path)[0] is None

    @property
    def _body_limit(self) -> int:
        return self._config.max_body_size if self._exchange is None else self._config.max_post_size

    def _declares_too_much(self) -> bool:
        assert self._request is not None
        length = dict(self._request.headers).get(b"content-length", b"0")
        return int(length) > self._body_limit

    def _receive_body(self, data: bytes, now: float) -> None:
        self._body_size += len(data)
        if self._body_size > self._body_limit:
            self._respond(Response(413), now)
        elif self._pace is not None:
            assert self._exchange is not None
            self._pace.receive(len(data), now=now)
            self._exchange.receive_data(data, now=now)

    def _receive_end(self, now: float) -> None:
        if self._exchange is not None:
            self._pace = None
            self._timers.disarm(Timer.HANDSHAKE)
            self._exchange.receive_end(now=now)
        elif self._reply is not None:
            self._respond(self._reply, now)
        else:
            self._ask(now)

    def _ask(self, now: float) -> None:
        """Find out who answers the request, and whether it may come in."""
        assert self._request is not None
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._request.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            joint = "; " if name == "cookie" else ", "
            headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
        request = Request(self._request.method.decode("ascii"), self._request.target.decode("latin-1"), headers)
        endpoint, part = self._server.find(request.path)
        if endpoint is None:
            self._fall_back(request, now)
            return
        if self._is_last and (part or request.wants_websocket):
            self._reply_with(_GOING_AWAY, now)
            return
        self._cors = endpoint.cors.headers(request)
        settled = endpoint.cors.answer(request)
        if settled is not None:
            self._reply_with(settled, now)
            return
        self._admission = self._server.admission(endpoint, request, self)
        asked = _Asked(request, endpoint, part)
        if self._admission is None:
            self._answer(asked, None, now)
        else:
            self._asked = asked
            self._await_request(now)

    def _fall_back(self, request: Request, now: float) -> None:
        """Answer what is asked for beside the hubs."""
        assert self._request is not None
        fallback = self._server.fallback
        if fallback is None or request.method == "CONNECT":
            self._reply_with(Response(404), now)
            return
        version = self._request.http_version.decode("ascii")
        answer = fallback.answer(request, list(self._request.headers), self, http_version=version, info=self._info)
        if isinstance(answer, Response):
            self._reply_with(answer, now)
        else:
            self._carry(answer, now)

    def _go_on(self, now: float) -> None:
        """Answer the request that has been decided about, if it has."""
        admission, asked = self._admission, self._asked
        if admission is None or asked is None or not admission.decided:
            return
        self._admission = self._asked = None
        if admission.answer is not None:
            self._reply_with(admission.answer, now)
        else:
            self._answer(asked, admission.principal, now)
        self._read_on(now)

    # answers

    def _answer(self, asked: _Asked, principal: Any, now: float) -> None:
        request, endpoint = asked.request, asked.endpoint
        wrong = _wrong_upgrade(request) if request.wants_websocket and not asked.part else None
        answer = wrong or endpoint.answer(asked.part, request, self, principal, now=now)
        if isinstance(answer, Response):
            self._reply_with(answer, now)
        elif isinstance(answer, WebSocketAccepted):
            self._upgrade(answer, request, endpoint, now)
        else:
            self._carry(answer, now)

    def _carry(self, exchange: Exchange, now: float) -> None:
        """Let this be the exchange that takes the request's body, and answers it."""
        self._exchange = self._guest = exchange
        if self._h11.their_state is not h11.SEND_BODY:
            self._timers.disarm(Timer.HANDSHAKE)
            exchange.receive_end(now=now)
        elif self._declares_too_much():
            self._respond(Response(413), now)
        else:
            self._pace = Pace(self._config.min_body_rate, self._config.request_timeout, now=now)

    def _upgrade(self, accepted: WebSocketAccepted, request: Request, endpoint: Endpoint, now: float) -> None:
        self._accepted = accepted
        accepted.attach(self, now=now)
        accept = accept_token(request.headers["sec-websocket-key"])
        headers = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
        deflate: BoundedDeflate | None = None
        if self._config.compression:
            offers = request.headers.get("sec-websocket-extensions", "")
            if (agreed := accept_deflate(offers, self._config.max_decompressed_size)) is not None:
                deflate, terms = agreed
                headers.append(("sec-websocket-extensions", terms))
        switch = h11.InformationalResponse(
            status_code=101,
            reason=b"Switching Protocols",
            headers=headers,
        )
        self._write(switch)
        self._timers.clear()
        self._transport = WebSocketTransport(
            accepted.session,
            Role.SERVER,
            close_timeout=endpoint.config.close_timeout,
            trailing=self._h11.trailing_data[0],
            deflate=deflate,
            now=now,
        )

    def _reply_with(self, response: Response, now: float) -> None:
        """Answer once the request's body, which nobody wants, has been read."""
        self._guest = None
        if self._h11.their_state is h11.SEND_BODY:
            self._reply = response
        else:
            self._respond(response, now)

    def _answer_on(self, exchange: Exchange, now: float) -> bool:
        """Send what there is of an answer; tell whether it is complete."""
        if not self._answering:
            response = exchange.response(now=now)
            if response is None:
                return False
            if exchange.finished:
                self._exchange = None
                self._respond(response, now)
                return True
            self._answering = True
            self._write(h11.Response(status_code=response.status, headers=self._headers(response)))
            self._write(h11.Data(data=response.body))
        data = exchange.data_to_send(now=now)
        if data:
            self._write(h11.Data(data=data))
        if not exchange.finished:
            return False
        self._exchange = None
        self._answering = False
        self._end_answer(now)
        return True

    def _respond(self, response: Response, now: float) -> None:
        if response.status >= _BAD_REQUEST:
            path = b"what is no request" if self._request is None else self._request.target.partition(b"?")[0]
            text = one_line(path.decode("latin-1"))
            http_log.debug("%s is answered with status %d", text, response.status, extra=facts(NOBODY))
        length = [(b"content-length", b"%d" % len(response.body))] if response.status != _NO_CONTENT else []
        self._write(h11.Response(status_code=response.status, headers=[*length, *self._headers(response)]))
        if self._request is None or self._request.method != b"HEAD":
            self._write(h11.Data(data=response.body))
        self._end_answer(now)

    def _end_answer(self, now: float) -> None:
        self._reply = self._pace = None
        self._write(h11.EndOfMessage())
        if self._h11.states == {h11.SERVER: h11.DONE, h11.CLIENT: h11.DONE}:
            self._h11.start_next_cycle()
            self._request = None
            self._await_another(now)
        else:
            self._close(now)

    def _await_another(self, now: float) -> None:
        """Keep the socket for the next request; during a shutdown not for long."""
        kept = self._config.idle_timeout
        if self._is_last and self._guest is not None:
            kept = min(kept, self._guest.farewell_timeout)
        self._timers.clear()
        self._timers.arm(Timer.KEEP_ALIVE, now + kept)

    def _headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [*response.headers.items(), *self._cors.items()]
        if response.content_type is not None:
            headers.append(("content-type", response.content_type))
        if (self._is_last and not self._has_guest) or self._may_still_send:
            headers.append(("connection", "close"))
        return [*((name.encode(), value.encode()) for name, value in headers), *response.raw_headers]

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._output += data


def _wrong_upgrade(request: Request) -> Response | None:
    """Return the answer to a WebSocket upgrade that RFC 6455 does not allow."""
    if request.headers.get("sec-websocket-version") != "13":
        return Response(426, headers={"sec-websocket-version": "13", "upgrade": "websocket"})
    if not request.headers.get("sec-websocket-key"):
        return Response(400, b"Sec-WebSocket-Key required")
    return None
