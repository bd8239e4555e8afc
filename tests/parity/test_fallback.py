"""An ASGI application beside a hub, on real sockets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hubproto_core import Hub, HubConfig
from hubproto_core.http import HttpConfig
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp

START = {"type": "http.response.start", "status": 200, "headers": []}


class App:
    """A hand-written application, with a path for each thing that it can do."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.diary: list[Any] = []
        self.entered = rt.Event()
        self.go_on = rt.Event()
        self.sent = 0
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send, scope["state"])
            return
        self.scope = scope
        await getattr(self, scope["path"][1:])(receive, send)

    async def lifespan(self, receive: Any, send: Any, state: dict[str, Any]) -> None:
        self.diary.append((await receive())["type"])
        state["name"] = "beside"
        await send({"type": "lifespan.startup.complete"})
        self.diary.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async def hello(self, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async def echo(self, receive: Any, send: Any) -> None:
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def fail(self, receive: Any, send: Any) -> None:
        raise KeyError("on purpose")

    async def flood(self, receive: Any, send: Any) -> None:
        await send(START)
        self.entered.set()
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                self.sent += 1
        except OSError as error:
            self.diary.append(str(error))
            raise

    async def watch(self, receive: Any, send: Any) -> None:
        await receive()
        self.entered.set()
        self.diary.append((await receive())["type"])

    async def linger(self, receive: Any, send: Any) -> None:
        await self.hello(receive, send)
        await self.go_on.wait()
        self.diary.append("done")

    async def hang(self, receive: Any, send: Any) -> None:
        self.entered.set()
        try:
            await self.rt.sleep_forever()
        finally:
            self.diary.append("cancelled")


def request(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *headers, "", ""]).encode() + body


async def read_until(tcp: Tcp, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = await tcp.receive()
        assert piece, f"it ended after {data!r}"
        data += piece
    return data


async def test_a_page_lives_beside_a_hub(rt: Runtime) -> None:
    app, hub = App(rt), Hub()
    hub.method("Add")(lambda a, b: a + b)
    async with rt.serve(hub, fallback=app) as served:
        assert app.diary == ["lifespan.startup"]
        with await Tcp.connect(rt, served.port) as tcp:
            async with rt.connect(served.url) as client:
                assert await client.invoke("Add", 1, 2) == 3
            for _ in range(2):
                await tcp.send(request("/hello"))
                assert await read_until(tcp, b"hello") == b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nhello"
            assert app.scope["state"] == {"name": "beside"}
            assert app.scope["client"][0] == "127.0.0.1"
            assert app.scope["server"] == ("127.0.0.1", served.port)
    assert app.diary == ["lifespan.startup", "lifespan.shutdown"]


async def test_bodies_stream_both_ways(rt: Runtime) -> None:
    app = App(rt)
    async with rt.serve(Hub(), fallback=app) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(request("/echo", "Transfer-Encoding: chunked", method="PUT"))
            await tcp.send(b"3\r\none\r\n")
            assert (await read_until(tcp, b"one\r\n")).startswith(b"HTTP/1.1 200 ")
            await tcp.send(b"3\r\ntwo\r\n")
            assert await read_until(tcp, b"two\r\n") == b"3\r\ntwo\r\n"
            await tcp.send(b"0\r\n\r\n")
            assert await read_until(tcp, b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_an_application_that_raises_is_one_record_and_500(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.serve(Hub(), fallback=App(rt)) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(request("/fail"))
            assert (await read_until(tcp, b"Internal Server Error")).startswith(b"HTTP/1.1 500 ")
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == [
        "the fallback application failed at /fail: KeyError"
    ]
    caplog.clear()


async def test_a_client_that_reads_slowly_holds_its_application_back(rt: Runtime) -> None:
    app = App(rt)
    async with rt.serve(Hub(), fallback=app) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(request("/flood"))
            await app.entered.wait()  # left to itself, it would never wait for anything again
        await rt.eventually(lambda: app.diary[1:] == ["the client has left"])
        assert app.sent < 1000


async def test_an_application_hears_that_its_client_has_left(rt: Runtime) -> None:
    app = App(rt)
    async with rt.serve(Hub(), fallback=app) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(request("/watch"))
            await app.entered.wait()
        await rt.eventually(lambda: app.diary[1:] == ["http.disconnect"])


async def test_a_server_waits_for_what_follows_an_answer(rt: Runtime) -> None:
    app = App(rt)
    async with rt.serve(Hub(), fallback=app) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(request("/linger"))
            await read_until(tcp, b"hello")
        served.server.close()
        app.go_on.set()
    assert app.diary == ["lifespan.startup", "done", "lifespan.shutdown"]


async def test_an_application_that_hangs_is_cancelled_at_the_end(rt: Runtime) -> None:
    app = App(rt)
    config = HubConfig(shutdown_timeout=0.2)
    async with rt.serve(Hub(), fallback=app, config=config) as served:
        tcp = await Tcp.connect(rt, served.port)
        await tcp.send(request("/hang"))
        await app.entered.wait()
    assert app.diary == ["lifespan.startup", "cancelled", "lifespan.shutdown"]
    with tcp:
        assert (await tcp.receive()).startswith(b"HTTP/1.1 503 ")


async def test_an_application_that_cannot_start(rt: Runtime) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="^the fallback application failed to start: no database$"):
        async with rt.serve(Hub(), fallback=app):
            pass


async def test_who_sends_too_much_may_read_that(rt: Runtime) -> None:
    http = HttpConfig(max_post_size=1000)
    async with rt.serve(Hub(), http=http) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            body = b"x" * 1_000_000
            await tcp.send(request("/hub/negotiate", f"Content-Length: {len(body)}", method="POST", body=body))
            assert (await tcp.receive()).startswith(b"HTTP/1.1 413 ")
