"""A small site: a hub that adds, and what is said to it over each transport."""

from __future__ import annotations

import json
from typing import Any

from hubproto_core import Call, Hub, HubConfig
from hubproto_core.http import HttpConfig
from tests.http._site import Site, Socket, http
from tests.kit.shell import WAITS
from tests.kit.wire import HANDSHAKE, pack

NEGOTIATE = http("POST", "/chat/negotiate?negotiateVersion=1")


def make_hub() -> Hub:
    hub = Hub()

    @hub.method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @hub.method("Header")
    def header(name: str, call: Call) -> str | None:
        return call.connection.headers.get(name)

    @hub.method("Slow")
    def slow() -> object:
        return WAITS

    return hub


def site(config: HubConfig | None = None, **limits: Any) -> Site:
    return Site(make_hub(), config, HttpConfig(**limits))


def call(target: str, *arguments: Any, id: str = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 1, "invocationId": id, "target": target, "arguments": list(arguments)}


def result(value: Any, id: str = "1") -> dict[str, Any]:  # noqa: A002
    return {"type": 3, "invocationId": id, "result": value}


def over(socket: Socket) -> bool:
    return socket.conn.finished


def negotiated(served: Site) -> str:
    token: str = json.loads(served.socket().ask(NEGOTIATE).body)["connectionToken"]
    return f"/chat?id={token}"


def posted(target: str, body: bytes) -> bytes:
    return http("POST", target, body=body.decode())


EVENTS = "Accept: text/event-stream"
ADD = pack(call("Add", 1, 2))
SUM = b'{"type":3,"invocationId":"1","result":3}\x1e'


def chunks(data: bytes) -> list[bytes]:
    """The body of a chunked answer, as far as it has come."""
    found = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found.append(data[:length])
        data = data[length + 2 :]
    return found


def streaming(served: Site) -> tuple[Socket, str]:
    """A socket with a stream of events whose hub handshake is done."""
    target = negotiated(served)
    stream = served.socket()
    head, _, body = stream.send(http("GET", target, EVENTS)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in head.lower()
    assert chunks(body) == [b":\r\n"]
    assert served.socket().ask(posted(target, HANDSHAKE)).status == 200
    assert chunks(stream.take()) == [b"data: {}\x1e\r\n\r\n"]
    return stream, target


def polling(served: Site) -> str:
    """The address of a connection over long polling whose hub handshake is done."""
    target = negotiated(served)
    socket = served.socket()
    socket.ask(http("GET", target))
    socket.ask(posted(target, HANDSHAKE))
    socket.ask(http("GET", target))
    return target


def answered_early(socket: Socket) -> bool:
    """Whether nothing more is answered, although the socket is open for what its client has not sent yet."""
    return not over(socket) and socket.conn.want_read and socket.send(NEGOTIATE) == b""
