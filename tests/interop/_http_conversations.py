"""Recorded exchanges over plain HTTP: the format, playing one over real sockets, comparing the answers."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import h11
import msgspec

from tests.interop._link import LIMIT

QUIET = 0.05
"""How long (s) a silence must last to show that nothing else comes."""
COMPARED = ("content-type", "cache-control", "pragma", "expires", "content-encoding", "upgrade")
"""Headers that a client may look at. All others belong to the host: how it frames the body, `Date`, `Connection`."""
PLACEHOLDER = re.compile(r"\$\{(id|token)\}")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer: what of it has come when `open`, or all of it."""

    status: int
    headers: dict[str, str]
    body: str = ""
    body_hex: str = msgspec.field(default="", name="bodyHex")
    open: bool = False

    @property
    def bytes(self) -> bytes:
        """The body."""
        return bytes.fromhex(self.body_hex) if self.body_hex else self.body.encode()


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request with its answer; or one that is answered later (`background`); or such an answer (`answerOf`)."""

    request: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    body_hex: str = msgspec.field(default="", name="bodyHex")
    answer: Answer | None = None
    background: int | None = None
    answer_of: int | None = msgspec.field(default=None, name="answerOf")
    status: int = 0
    open: bool = False

    @property
    def late(self) -> Answer:
        """What the request in the background gets."""
        return Answer(self.status, self.headers, self.body, self.body_hex, self.open)

    def sent(self, ids: dict[str, str]) -> tuple[bytes, bytes, list[tuple[str, str]], bytes]:
        """The request's method, target, headers and body, with the ids that the server has chosen."""
        method, _, target = PLACEHOLDER.sub(lambda found: ids[found[1]], self.request).partition(" ")
        body = bytes.fromhex(self.body_hex) if self.body_hex else self.body.encode()
        headers = {"connection": "close", **self.headers}
        if body or method == "POST":
            headers["content-length"] = str(len(body))
        return method.encode(), target.encode(), list(headers.items()), body


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a file of conversations."""

    topic: str
    name: str
    steps: list[Step]


def load(path: Path) -> list[Conversation]:
    """The conversations of a file, one a line."""
    return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[Conversation])


class Request:
    """One request on a socket of its own, and what has come of its answer."""

    def __init__(self, base: str, step: Step, ids: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._http = h11.Connection(h11.CLIENT)
        where = urlsplit(base)
        self._socket = socket.create_connection((where.hostname or "", where.port or 80), LIMIT)
        method, target, headers, body = step.sent(ids)
        head = h11.Request(method=method, target=target, headers=[("host", where.netloc), *headers])
        data = self._http.send(head) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        self._socket.sendall(data + (self._http.send(h11.EndOfMessage()) or b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self, size: int | None, limit: float) -> None:
        """Read all of the answer, or so many bytes of its body at least; or until time is up."""
        deadline = time.monotonic() + limit
        while not self.complete and (size is None or not self.status or len(self.body) < size):
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                self._http.receive_data(self._socket.recv(65536))
            except TimeoutError:
                return
            self._take()

    def _take(self) -> None:
        while not self.complete:
            match self._http.next_event():
                case h11.Response() | h11.InformationalResponse() as head:
                    self.status = head.status_code
                    self.headers = {name.decode(): value.decode() for name, value in head.headers}
                    self.complete = head.status_code == 101
                case h11.Data(data=data):
                    self.body += bytes(data)
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    self.complete = True
                case _:
                    return


def play(conversation: Conversation, base: str) -> list[str]:
    """Play a conversation against the server at `base`; the differences, one a line."""
    differences: list[str] = []
    ids: dict[str, str] = {}
    background: dict[int, Request] = {}
    with ExitStack() as sockets:
        for number, step in enumerate(conversation.steps):
            if step.answer_of is None:
                request = sockets.enter_context(Request(base, step, ids))
            else:
                request = background[step.answer_of]
            if step.background is not None:
                background[step.background] = request
                request.read(None, QUIET)  # it is not answered, or not to the end
                if request.complete:
                    differences.append(f"step {number}: answered at once: {request.status} {request.body!r}")
                continue
            wanted = step.answer or step.late
            request.read(len(wanted.bytes) if wanted.open else None, LIMIT)
            if wanted.open:
                request.read(None, QUIET)  # nothing else comes
            differences += [f"step {number}: {line}" for line in compare(wanted, request, ids)]
    return differences


def compare(wanted: Answer, got: Request, ids: dict[str, str]) -> list[str]:
    """The differences between two answers. Ids that are met for the first time are read from the answer."""
    differences = []
    if got.status != wanted.status:
        differences.append(f"expected status {wanted.status}, got {got.status}")
    if got.complete == wanted.open:
        differences.append("the answer has ended" if wanted.open else "the answer does not end")
    pairs = [(name, wanted.headers.get(name, ""), got.headers.get(name, "")) for name in COMPARED]
    differences += [
        f"expected {name}: {one}, got {other}"
        for name, one, other in pairs
        if one != other and (name != "upgrade" or one.lower() != other.lower())  # hypercorn writes it in its own way
    ]
    pattern = PLACEHOLDER.sub(lambda found: f"(?P<{found[1]}>[\\w-]{{22}})", _escaped(wanted.bytes.decode("latin-1")))
    found = re.fullmatch(pattern, got.body.decode("latin-1"))
    if found is None:
        differences.append(f"expected {wanted.bytes!r}, got {got.body!r}")
    else:
        ids.update(found.groupdict())
    return differences


def _escaped(text: str) -> str:
    """A pattern for the text, in which placeholders stay what they are."""
    parts = re.split(r"(\$\{(?:id|token)\})", text)
    return "".join(part if PLACEHOLDER.fullmatch(part) else re.escape(part) for part in parts)
