"""A FastAPI application beside a hub, in our own server: its pages, uploads, streams and background tasks."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from hubproto_core import Hub
from tests.kit.runtimes import Runtime, Served
from tests.kit.tcp import Tcp


class Site:
    """The application, and what happened in it."""

    def __init__(self, rt: Runtime) -> None:
        self.diary: list[str] = []
        self.produced = 0
        self.app = FastAPI(lifespan=self.lifespan)
        self.app.get("/health")(self.health)
        self.app.put("/size")(self.size)
        self.app.get("/fail")(self.fail)
        self.app.get("/endless")(self.endless)
        self.app.get("/later")(self.later)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[dict[str, str]]:
        self.diary.append("begins")
        yield {"name": "beside"}
        self.diary.append("ends")

    async def health(self, request: Request) -> dict[str, Any]:
        assert request.client is not None
        return {"name": request.state.name, "client": request.client.host, "url": str(request.url)}

    async def size(self, request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    async def fail(self) -> None:
        raise KeyError("on purpose")

    async def endless(self) -> StreamingResponse:
        return StreamingResponse(Endless(self))

    async def later(self, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.diary.append, "later")
        return "soon"


class Endless:
    """What would be produced for ever. (Starlette leaves generators of its users unclosed, which trio warns about.)"""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        self._site.produced += 1
        return b"x" * 65536


async def ask(rt: Runtime, served: Served, method: str, path: str, *headers: str, body: bytes = b"") -> tuple[str, str]:
    """The status line of an answer, and its body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Connection: close", *headers]
    with await Tcp.connect(rt, served.port) as tcp:
        await tcp.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        head, _, rest = (await tcp.receive_all()).decode().partition("\r\n\r\n")
    return head.partition("\r\n")[0], rest


@pytest.fixture(params=[False, True], ids=["plain", "with-middleware"])
def site(rt: Runtime, request: pytest.FixtureRequest) -> Site:
    site = Site(rt)
    if request.param:

        async def passes(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        site.app.add_middleware(BaseHTTPMiddleware, dispatch=passes)
    return site


async def test_its_pages_live_beside_the_hub(rt: Runtime, site: Site) -> None:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)
    async with rt.serve(hub, fallback=site.app) as served:
        assert site.diary == ["begins"]
        async with rt.connect(served.url) as client:
            assert await client.invoke("Add", 1, 2) == 3
        status, body = await ask(rt, served, "GET", "/health?a=b%20c")
        assert status.startswith("HTTP/1.1 200")
        url = f"http://127.0.0.1:{served.port}/health?a=b%20c"
        assert json.loads(body) == {"name": "beside", "client": "127.0.0.1", "url": url}
        assert (await ask(rt, served, "GET", "/nothing"))[0].startswith("HTTP/1.1 404")
        assert (await ask(rt, served, "PUT", "/size", body=b"x" * 1_000_000))[1] == "1000000"
        assert (await ask(rt, served, "GET", "/later"))[1] == '"soon"'
    assert site.diary == ["begins", "later", "ends"]


async def test_what_fails_in_it_is_answered_and_logged_once(
    rt: Runtime, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with rt.serve(Hub(), fallback=site.app) as served:
        assert (await ask(rt, served, "GET", "/fail"))[0].startswith("HTTP/1.1 500")
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == [
        "the fallback application failed at /fail: KeyError"
    ]


async def test_what_it_streams_ends_with_its_client(rt: Runtime, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.serve(Hub(), fallback=site.app) as served:
        with await Tcp.connect(rt, served.port) as tcp:
            await tcp.send(f"GET /endless HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
            assert (await tcp.receive()).startswith(b"HTTP/1.1 200")
    assert 0 < site.produced < 1000
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == []
