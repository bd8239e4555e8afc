"""`HubApp`, in an ASGI server in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, TransportError
from hubproto_core.http import EndpointConfig, Mount
from tests.kit.asgi import Host
from tests.kit.runtimes import App, Runtime
from tests.kit.wire import HANDSHAKE, RS, pack, unpack

ADD = {"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}
SUM = {"type": 3, "invocationId": "1", "result": 3}


class AddingHub(Hub):
    """What it does, and what it has seen."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.diary: list[Any] = []
        self.method("Add")(self.add)
        self.method("Slow")(self.slow)
        self.on_connected(self.come)
        self.on_disconnected(self.gone)

    def add(self, x: int, y: int) -> int:
        return x + y

    async def slow(self) -> None:
        self.diary.append("slow")
        try:
            await self.rt.sleep_forever()
        finally:
            self.diary.append("slow ended")

    def come(self, call: Call) -> None:
        self.diary.append("come")

    async def gone(self, error: Exception | None) -> None:
        self.diary.append(error if error is None else str(error))


@asynccontextmanager
async def living(rt: Runtime, app: App) -> AsyncIterator[Host]:
    """The lifespan of an application: from its startup to its shutdown."""
    async with Host.of(rt, app, "lifespan") as lifespan:
        lifespan.say("lifespan.startup")
        await lifespan.hears("lifespan.startup.complete")
        yield lifespan
        lifespan.say("lifespan.shutdown")
        await lifespan.hears("lifespan.shutdown.complete")
        await lifespan.end()


async def negotiate(rt: Runtime, app: App, path: str = "") -> str:
    status, body = await Host.answer(rt, app, "POST", f"{path}/negotiate?negotiateVersion=1")
    assert status == 200
    token: str = json.loads(body)["connectionToken"]
    return token


async def test_a_websocket_lives_until_its_client_leaves(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with living(rt, app):
        async with Host.websocket(rt, app) as client:
            client.write(ADD)
            assert await client.read() == [SUM]
            assert len(app.context(hub).connections) == 1
            client.say("websocket.disconnect", code=1000)
            await client.end()
            assert client.raised is None
        await rt.eventually(lambda: hub.diary == ["come", None])


async def test_the_lifespan_ends_in_order(rt: Runtime) -> None:
    hub = AddingHub(rt, HubConfig(shutdown_timeout=0.1))
    app = rt.app(hub)
    async with Host.of(rt, app, "lifespan") as lifespan:
        lifespan.say("lifespan.startup")
        await lifespan.hears("lifespan.startup.complete")
        async with Host.websocket(rt, app) as client:
            client.write({"type": 1, "target": "Slow", "arguments": []})
            await rt.eventually(lambda: "slow" in hub.diary)
            lifespan.say("lifespan.shutdown")
            assert await client.read() == [{"type": 7, "allowReconnect": True}]
            await client.hears("websocket.close")
            assert (await Host.answer(rt, app, "POST", "/negotiate"))[0] == 503
            assert not lifespan.sent
            client.say("websocket.disconnect", code=1000)
            await client.end()
        await lifespan.hears("lifespan.shutdown.complete")
        await lifespan.end()
        assert hub.diary == ["come", "slow", "slow ended", None]


async def test_it_is_mounted_in_another_application(rt: Runtime) -> None:
    app = rt.app({"/": AddingHub(rt), "/other": AddingHub(rt)})
    async with app.running():
        for path in ("/api/chat", "/api/chat/other"):
            async with Host.websocket(rt, app, path, root_path="/api/chat") as client:
                client.write(ADD)
                assert await client.read() == [SUM]


async def test_long_polling(rt: Runtime) -> None:
    app = rt.app(AddingHub(rt), "/chat")
    async with app.running():
        url = f"/chat?id={await negotiate(rt, app, '/chat')}"
        assert await Host.answer(rt, app, "GET", url) == (200, b"")
        assert await Host.answer(rt, app, "POST", url, HANDSHAKE) == (200, b"")
        assert await Host.answer(rt, app, "GET", url) == (200, b"{}" + RS)
        async with Host.of(rt, app, "http", url, method="GET") as poll:
            poll.say("http.request")
            poll.say("http.disconnect")
            await poll.end()
            assert not poll.sent
        async with Host.of(rt, app, "http", url, method="GET") as poll:
            poll.say("http.request")
            assert await Host.answer(rt, app, "POST", url, pack(ADD)) == (200, b"")
            await poll.end()
            assert unpack(poll.sent[1]["body"]) == [SUM]
        assert await Host.answer(rt, app, "DELETE", url) == (202, b"")


async def test_events(rt: Runtime) -> None:
    app = rt.app(AddingHub(rt))
    async with app.running():
        url = f"/?id={await negotiate(rt, app)}"
        headers = [(b"accept", b"text/event-stream")]
        async with Host.of(rt, app, "http", url, method="GET", headers=headers) as stream:
            stream.say("http.request")
            await stream.hears("http.response.start")
            assert (await stream.hears("http.response.body"))["body"] == b":\r\n"
            assert await Host.answer(rt, app, "POST", url, HANDSHAKE) == (200, b"")
            assert (await stream.hears("http.response.body"))["body"] == b"data: {}\x1e\r\n\r\n"
            stream.say("http.disconnect")
            await stream.end()
        assert (await Host.answer(rt, app, "POST", url, HANDSHAKE))[0] == 404


async def test_a_connection_that_has_no_request_keeps_time(rt: Runtime) -> None:
    """What outlives its requests is done by the application itself."""
    app = rt.app({"/": Mount(AddingHub(rt), EndpointConfig(disconnect_timeout=0.1))})
    async with app.running():
        url = f"/?id={await negotiate(rt, app)}"
        assert await Host.answer(rt, app, "GET", url) == (200, b"")
        async with Host.of(rt, app, "http", url, method="POST") as post:  # a body that never ends
            post.say("http.request", body=b"{", more_body=True)
            await post.end()
            assert post.sent[0]["status"] == 404


async def test_a_client_that_takes_nothing_is_given_up(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    hub = AddingHub(rt, HubConfig(send_limit=100_000, close_timeout=0.2))
    app = rt.app(hub)
    async with app.running():
        async with Host.websocket(rt, app) as client:
            client.stuck = True
            for _ in range(12):
                app.context(hub).clients.all.send("News", "x" * 10_000)
            await client.end()
            assert client.raised is None
        await rt.eventually(lambda: len(hub.diary) == 2)
    assert "is given up: it leaves more than 100000 bytes unread" in caplog.text


async def test_a_listener_that_takes_nothing_is_given_up(rt: Runtime) -> None:
    hub = AddingHub(rt, HubConfig(send_limit=100_000, close_timeout=0.2))
    app = rt.app(hub)
    async with app.running():
        url = f"/?id={await negotiate(rt, app)}"
        headers = [(b"accept", b"text/event-stream")]
        async with Host.of(rt, app, "http", url, method="GET", headers=headers) as stream:
            stream.say("http.request")
            assert await Host.answer(rt, app, "POST", url, HANDSHAKE) == (200, b"")
            await rt.eventually(lambda: len(stream.sent) == 3)
            stream.stuck = True
            for _ in range(12):
                app.context(hub).clients.all.send("News", "x" * 10_000)
            await stream.end()
            assert stream.raised is None
        assert hub.diary == ["come", None]


async def test_a_server_that_ends_an_application_ends_its_connection(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with app.running():
        async with Host.websocket(rt, app) as client:
            client.task.cancel()
            await client.end()
        await rt.eventually(lambda: hub.diary == ["come", "the connection was dropped"])


async def test_a_send_that_fails_says_that_the_client_has_gone(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with app.running():
        async with Host.websocket(rt, app) as client:
            client.failure = OSError("gone")
            client.write(ADD)
            await client.end()
            assert client.raised is None
        await rt.eventually(lambda: hub.diary == ["come", "the connection was lost: gone"])


async def test_any_other_failure_of_the_server_is_its_own_and_harms_nobody_else(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with app.running(), Host.websocket(rt, app) as other:
        async with Host.websocket(rt, app) as client:
            client.failure = failure = ValueError("a bug")
            client.write(ADD)
            await client.end()
            assert isinstance(client.raised, ExceptionGroup)
            assert client.raised.exceptions == (failure,)
        await rt.eventually(lambda: hub.diary == ["come", "come", "the connection was dropped"])
        other.write(ADD)
        assert await other.read() == [SUM]
        other.say("websocket.disconnect", code=1000)


async def test_who_leaves_by_an_error_drops_every_connection(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with rt.tasks() as tasks:
        opened = rt.Event()
        ended = rt.Event()

        async def client() -> None:
            async with Host.websocket(rt, app) as client:
                client.write({"type": 1, "target": "Slow", "arguments": []})
                await rt.eventually(lambda: "slow" in hub.diary)
                opened.set()
                await client.end()
                ended.set()

        with pytest.raises(TransportError, match=r"^because$"):
            async with app.running():
                tasks.start_soon(client)
                await opened.wait()
                raise TransportError("because")
        await ended.wait()
        assert "slow ended" in hub.diary


async def test_it_may_run_again_but_not_twice(rt: Runtime) -> None:
    app = rt.app(AddingHub(rt))
    for _ in range(2):
        async with app.running():
            with pytest.raises(RuntimeError, match="this HubApp is running already"):
                async with app.running():
                    raise AssertionError
            async with Host.websocket(rt, app) as client:
                client.write(ADD)
                assert await client.read() == [SUM]
                client.say("websocket.disconnect", code=1000)
                await client.end()


async def test_closed_twice_it_waits_for_nobody(rt: Runtime) -> None:
    hub = AddingHub(rt)
    app = rt.app(hub)
    async with app.running():
        async with Host.websocket(rt, app) as client:
            client.write({"type": 1, "target": "Slow", "arguments": []})
            await rt.eventually(lambda: "slow" in hub.diary)
            app.close()
            app.close()
            await client.end()
            assert "slow ended" in hub.diary
