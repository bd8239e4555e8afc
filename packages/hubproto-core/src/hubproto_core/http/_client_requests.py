"""`RequestSocket`: HTTP exchanges on one socket of a client, one after the other, while the server keeps it."""

from __future__ import annotations

from abc import abstractmethod
from urllib.parse import SplitResult

import h11
from msgspec import Struct

from .._client_errors import ConnectionFailed, Forbidden, ServerGone, Unauthorized
from .._errors import HubProtoError
from ._client_socket import ClientSocket, OutgoingRequest, Reach

__all__ = ["Answer", "RequestSocket"]

_MAX_TEXT = 1000  # bytes of an answer that is no success, for messages


_KINDS = {401: Unauthorized, 403: Forbidden, 404: ServerGone}


class Answer(Struct):
    """An answer that has begun; `text` is its body, if that is no success."""

    status: int
    content_type: str
    text: bytes = b""


class RequestSocket(ClientSocket):
    """A socket that asks for its next request whenever it has none. What comes of them is for those who inherit."""

    __slots__ = ("_answer", "_busy", "_finished", "_h11", "_output", "_spent")

    def __init__(self, target: SplitResult, reach: Reach) -> None:
        super().__init__(target, reach)
        self._h11 = h11.Connection(h11.CLIENT)
        self._output = b""
        self._busy = False  # a request waits for the end of its answer
        self._answer: Answer | None = None  # as far as it has come
        self._spent = False  # no further request can be sent
        self._finished = False

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def want_read(self) -> bool:
        return not self._finished and not self._spent and (not self._busy or self._welcome())

    @property
    def idle(self) -> bool:
        """No request waits for its answer."""
        return not self._busy

    def abandon(self) -> None:
        self._finished = True
        self._output = b""

    def receive_data(self, data: bytes, *, now: float) -> None:
        if not self._finished and not self._spent:
            self._h11.receive_data(data)
            self._advance(now)
            self._look(now)

    def receive_eof(self, error: HubProtoError | None = None, *, now: float) -> None:
        if not self._finished:
            begun = not self._busy or self._answer is not None
            if error is None and begun and not self._spent:
                self._h11.receive_data(b"")
                self._advance(now)
            if self._busy and not self._finished:
                self._break(str(error or "it closed the connection before it answered"), now)
            elif not self._spent:
                self._end_use(now)
            elif error is not None:
                self._break(str(error), now)
            self._look(now)
        self._left(now)

    def data_to_send(self, *, now: float) -> bytes:
        if not self._finished:
            self._turn(now)
            if not self._busy and not self._spent and not self._finished:
                request = self._next_request(now)
                if request is not None:
                    self._busy = True
                    self._output += self._encode(self._h11, request, now)
            self._look(now)
        data, self._output = self._output, b""
        return data

    # for those who inherit

    @abstractmethod
    def _next_request(self, now: float) -> OutgoingRequest | None:
        """What to ask the server now, if anything. An exchange ends before the next one begins."""

    @abstractmethod
    def _welcome(self) -> bool:
        """Whether more of an answer can be taken now."""

    @abstractmethod
    def _begun(self, answer: Answer, now: float) -> None:
        """The head of an answer has come."""

    @abstractmethod
    def _received(self, data: bytes, now: float) -> None:
        """A piece of the body of an answer of status 200 has come."""

    @abstractmethod
    def _answered(self, answer: Answer, now: float) -> None:
        """The answer is complete."""

    @abstractmethod
    def _used_up(self, now: float) -> None:
        """All that was asked has been answered, but the server does not keep the socket."""

    @abstractmethod
    def _break(self, why: str, now: float) -> None:
        """The socket, or what came from it, is broken."""

    @abstractmethod
    def _turn(self, now: float) -> None:
        """The socket was woken, or looks for its next request."""

    @abstractmethod
    def _look(self, now: float) -> None:
        """Something has happened."""

    @abstractmethod
    def _left(self, now: float) -> None:
        """The socket is gone."""

    # within

    def _advance(self, now: float) -> None:
        while not self._finished and not self._spent:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if self._busy:
                    self._break(str(error), now)
                else:
                    self._end_use(now)
                return
            match event:
                case h11.Response() if not self._busy:  # as some say farewell to a socket that they have kept
                    self._end_use(now)
                case h11.Response(status_code=status, headers=headers):
                    self._take_cookies(event, now)
                    types = [value for name, value in headers if name == b"content-type"]
                    self._answer = Answer(status, types[0].decode("latin-1") if types else "")
                    self._begun(self._answer, now)
                case h11.Data(data=data):
                    assert self._answer is not None  # h11 sees to the order
                    if self._answer.status == 200:
                        self._received(bytes(data), now)
                    else:
                        self._answer.text = (self._answer.text + bytes(data))[:_MAX_TEXT]
                case h11.EndOfMessage():
                    self._end(now)
                case h11.InformationalResponse():
                    pass
                case _:
                    return

    def _end(self, now: float) -> None:
        answer, self._answer, self._busy = self._answer, None, False
        assert answer is not None  # h11 sees to the order
        reusable = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if reusable:
            self._h11.start_next_cycle()
        self._answered(answer, now)
        if not reusable:
            self._end_use(now)

    def _end_use(self, now: float) -> None:
        self._spent = True
        if not self._finished:
            self._used_up(now)

    def _refused(self, what: str, answer: Answer) -> ConnectionFailed:
        """Return the error for an answer that is not to be."""
        text = answer.text[:200].decode("utf-8", "replace").strip()
        said = f" ({text})" if text else ""
        kind = _KINDS.get(answer.status, ConnectionFailed)
        return kind(self.url, f"{self.url} refused {what} with status {answer.status}{said}")
