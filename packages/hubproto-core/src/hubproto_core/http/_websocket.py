"""A session on a WebSocket (SPEC 4.3, RFC 6455), for both roles. Frames are wsproto's business; no message is held.

Incoming payloads go to the session as they come, fragment by fragment: their boundaries mean nothing. What the session
has to say at one time leaves as one message.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from .._client_session import FAREWELL_GRACE
from .._connection import Role
from .._errors import HubProtoError, TransportError
from .._session import Session
from .._timers import Timer, TimerTable
from ._deflate import BoundedDeflate

__all__ = ["WebSocketTransport", "accept_token", "new_key"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NORMAL, _NO_STATUS = 1000, 1005
_OUTPUT_LIMIT = 65536  # bytes of unsent frames above which we do not read on, so that pongs cannot pile up
_TURN = 32  # frames read in one turn; then others have theirs
_REST = 0.01  # seconds until the next turn, if all the frames of the last one said nothing: nobody needs so many pings
_LARGE = 512  # bytes that count as another frame
_PIECE = 16384  # bytes given to wsproto at once: it moves what it holds with each frame
_DEFLATED_PIECE = 256  # the same where they may become a thousand times as many


def new_key(entropy: Callable[[int], bytes]) -> str:
    """Return a fresh Sec-WebSocket-Key."""
    return base64.b64encode(entropy(16)).decode()


def accept_token(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers a key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


class WebSocketTransport:
    """Carries one session on one WebSocket whose opening handshake is done.

    `trailing` is what has been read behind the opening handshake. `close_timeout` is how many seconds the peer has to
    answer our close frame. A client sends none before the server has had `FAREWELL_GRACE` to send its own. With
    `deflate`, messages may be compressed; then no frame is unpacked before the session has taken the last one, so that
    few bytes cannot become many at once.

    Frames are cheap to send and dear to read, so only a few are read in one turn; what else has come is read when
    `handle_timeout` is called, which `next_timeout` asks for at once, or soon if the frames said nothing.
    """

    __slots__ = (
        "_behind",
        "_close_due",
        "_close_sent",
        "_close_timeout",
        "_deflate",
        "_output",
        "_peer_close",
        "_piece",
        "_resumes",
        "_role",
        "_seen",
        "_timers",
        "_unread",
        "_ws",
        "finished",
        "session",
    )

    def __init__(
        self,
        session: Session,
        role: Role,
        *,
        close_timeout: float,
        trailing: bytes,
        deflate: BoundedDeflate | None = None,
        now: float,
    ) -> None:
        self.session: Session = session
        self.finished: bool = False
        """Nothing more will be sent or read: close the socket once the output is written."""
        self._role = role
        self._close_timeout = close_timeout
        self._close_due: float | None = None  # if the server is still expected to close
        self._close_sent = False
        self._peer_close: CloseConnection | None = None  # not answered before the session has taken all before it
        self._seen = now  # when a verb last told the time
        self._timers = TimerTable()
        self._output = bytearray()
        kind = ConnectionType.SERVER if role is Role.SERVER else ConnectionType.CLIENT
        self._deflate = deflate
        self._piece = _DEFLATED_PIECE if deflate else _PIECE
        self._behind = False  # there may be more frames in what has come
        self._resumes = now  # when the next turn begins
        self._unread = bytearray()  # what has come and waits for wsproto to read what came before it
        self._ws = Connection(kind, [deflate] if deflate else None)
        if trailing:
            self.receive_data(trailing, now=now)

    @property
    def want_read(self) -> bool:
        """Bytes are welcome."""
        return not self._behind and self._reads_on

    @property
    def _reads_on(self) -> bool:
        if self.finished or len(self._output) > _OUTPUT_LIMIT:
            return False
        return self.session.want_read or self.session.closed is not None or self._peer_close is not None

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the socket."""
        self._seen = now
        if self._peer_close is not None or self.finished:
            return
        if self._behind or len(data) > self._piece:
            self._unread += data
        else:
            self._ws.receive_data(data)
        if not self._behind:
            self._receive_events(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        """The socket gives no more bytes. Without a close frame that is a broken connection (SPEC 4.3)."""
        if not self.finished:
            lost = error or TransportError("The WebSocket was cut off without a close frame.")
            self.session.receive_eof(lost, now=now)
            self.finished = True

    def handle_timeout(self, *, now: float) -> None:
        """A deadline may have passed."""
        if self._timers.expire(now) or self._cannot_say_farewell(now):
            self.finished = True
        if self._close_due is not None:
            self._close(now)
        self.session.handle_timeout(now=now)
        if self._behind and self._reads_on and now >= self._resumes:
            self._receive_events(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, or None."""
        if self.finished:
            return None
        awaits_close = self._close_due is not None and not self._close_sent and self._peer_close is None
        if self.session.is_over and not self._close_sent and not awaits_close:
            return self._seen + self._close_timeout
        resumes = self._resumes if self._behind and self._reads_on else None
        closes = self._close_due if awaits_close else None
        deadlines = (self._timers.next(), self.session.next_timeout(), resumes, closes)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def data_to_send(self, *, now: float) -> bytes:
        """Return and forget the frames to be written now."""
        self._seen = now
        payload = self.session.data_to_send(now=now)
        if payload and self._ws.state is ConnectionState.OPEN and not self._close_sent:
            text = self.session.transfer_format == "text"
            self._output += self._ws.send(TextMessage(payload.decode()) if text else BytesMessage(payload))
        if self.session.closed is not None:
            self._close(now)
        if self.session.closed is not None and self._peer_close is not None and not self.finished:
            if self._ws.state is ConnectionState.REMOTE_CLOSING:
                self._output += self._ws.send(self._peer_close.response())
            self.finished = True
        if not self._output:
            return b""
        data = bytes(self._output)
        self._output.clear()
        return data

    def part(self) -> bytes:
        """Leave the session to another transport; return the last bytes to be written here, a close frame.

        What has come of a frame, or waits to be read, is dropped: its sender repeats it on the other one.
        """
        if not self.finished:
            self._output += self._ws.send(CloseConnection(code=_NORMAL))
            self.finished = True
        return bytes(self._output)

    def cut_short(self, *, now: float) -> None:
        """Wait for the peer no longer: neither for its close frame, nor for it to read what is still to be written."""
        self._close_timeout = 0.0
        if self._timers.armed(Timer.CLOSE):
            self._timers.arm(Timer.CLOSE, now)

    def _receive_events(self, now: float) -> None:
        """Read frames until there are none, or the turn is over, or what is compressed has to wait for the session."""
        self._behind = False
        holds_back = self._deflate is not None
        turn, said = _TURN, 0
        while True:
            for event in self._ws.events():
                match event:
                    case TextMessage(data=text):
                        self.session.receive_data(text.encode(), now=now)
                        said += len(text)
                    case BytesMessage(data=data):
                        self.session.receive_data(bytes(data), now=now)
                        said += len(data)
                    case Ping() if self._ws.state is ConnectionState.OPEN:
                        self._output += self._ws.send(event.response())
                    case CloseConnection():
                        self._receive_close(event, now)
                        return
                    case _:  # a pong, or a ping behind our close frame
                        pass
                turn -= 1
                if turn <= said // _LARGE or (holds_back and not self._reads_on):
                    self._behind = True
                    self._resumes = now if said and not self.session.is_over else now + _REST
                    return
            if not self._unread:
                return
            piece = bytes(self._unread[: self._piece])
            del self._unread[: self._piece]
            self._ws.receive_data(piece)

    def _receive_close(self, event: CloseConnection, now: float) -> None:
        error: TransportError | None = None
        if self._ws.state is ConnectionState.OPEN:  # not the peer's close frame: wsproto's verdict on a bad frame
            error = TransportError(f"The peer sent a bad WebSocket frame: {event.reason}")
            self.session.receive_eof(error, now=now)
            self._send_close(int(event.code), now)
            self.finished = True  # an answer could not be told from the rest of what nobody can read (RFC 6455, 7.1.7)
            return
        if self._role is Role.CLIENT and event.code not in (_NORMAL, _NO_STATUS):
            reason = event.reason or "no reason given"
            error = TransportError(f"WebSocket closed with status code: {int(event.code)} ({reason}).")
        self._peer_close = event
        self.session.receive_eof(error, now=now)

    def _cannot_say_farewell(self, now: float) -> bool:
        """The connection is over, but the socket has taken nothing since, not even the close frame."""
        return self.session.is_over and not self._close_sent and now >= self._seen + self._close_timeout

    def _close(self, now: float) -> None:
        """All is said: send a close frame, unless the server is to send its own first."""
        if self._ws.state is not ConnectionState.OPEN or self._close_sent:
            return
        if self._close_due is None and self._role is Role.CLIENT and self.session.said_farewell:
            self._close_due = now + min(FAREWELL_GRACE, self._close_timeout / 2)
        if self._close_due is None or now >= self._close_due:
            self._send_close(_NORMAL, now)

    def _send_close(self, code: int, now: float) -> None:
        self._close_sent = True
        self._output += self._ws.send(CloseConnection(code=code))
        self._timers.arm(Timer.CLOSE, now + self._close_timeout)
