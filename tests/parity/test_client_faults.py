"""Faults that were seen in other clients of this protocol, each with the test that it does not exist here.

Those that the other modules show: a call that is pending at a cut fails at once (`test_client_lifecycle`, by hand; here
over each transport), the budget of attempts is whole again after a success (there), the token provider is asked before
the first connection (`test_client_reasons`), a handler may call the hub (`test_client_handlers`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from hubproto_core import (
    Call,
    ClientState,
    ConnectionFailed,
    ConnectTimeout,
    Hub,
    HubConfig,
    HubError,
    Principal,
    ReconnectPolicy,
    ServerGone,
    Transport,
    TransportError,
    Unauthorized,
    authenticated,
)
from hubproto_core.http import EndpointConfig, Mount, Request
from tests.kit.link import Link
from tests.kit.mute import MuteServer, Stage
from tests.kit.peer import Peer
from tests.kit.runtimes import Connection, Runtime, over_each_transport
from tests.kit.tcp import Tcp
from tests.kit.wire import pack

SOON = ReconnectPolicy(delays=[0.01], max_attempts=1000, growth=1)
NEVER = ReconnectPolicy(delays=[60.0])
BIG = 2 * 1024 * 1024


class FaultyHub(Hub):
    """Calls that last as long as the test wants."""

    def __init__(self, rt: Runtime, **options: Any) -> None:
        super().__init__(HubConfig(max_parallel_calls=10, shutdown_timeout=0.1), **options)
        self.rt = rt
        self.begun: list[str] = []
        self.left: list[Exception | None] = []
        self.gates: dict[str, Any] = {}
        self.method("Add")(lambda a, b: a + b)
        self.method("Big")(lambda: "x" * BIG)
        self.method("Slow")(self.slow)
        self.method("Ticks")(self.ticks)
        self.method("Fail")(self.fail)
        self.method("Tell")(self.tell)
        self.method("Who")(self.who)
        self.on_disconnected(self.gone)

    async def slow(self) -> None:
        self.begun.append("Slow")
        await self.rt.sleep_forever()

    async def ticks(self) -> AsyncIterator[int]:
        yield 0
        self.begun.append("Ticks")
        await self.rt.sleep_forever()

    async def fail(self, name: str) -> None:
        """Fail when it is told to."""
        gate = self.gates[name] = self.rt.Event()
        await gate.wait()
        raise HubError(name)

    def tell(self, text: str, call: Call) -> None:
        call.clients.all.send("news", text)

    def who(self, call: Call) -> list[Any]:
        return [call.user, call.connection.query.get("room")]

    def gone(self, error: Exception | None) -> None:
        self.left.append(error)


def carrier(rt: Runtime) -> Transport:
    """What carries the clients of a runtime."""
    (transport,) = rt.of_clients.get("transports", [Transport.WEB_SOCKETS])
    return transport  # type: ignore[no-any-return]


async def raises(kind: type[Exception], call: Any, into: list[Exception]) -> None:
    """Wait for a call that must fail so."""
    try:
        await call
    except kind as error:
        into.append(error)


async def read(client: Connection, into: list[Any]) -> None:
    """Read a stream that must break off."""
    try:
        async with client.stream("Ticks") as items:
            async for item in items:
                into.append(item)  # noqa: PERF401 - what came before the error counts
    except ServerGone as error:
        into.append(error)


# messages in the same read as the handshake's answer


async def test_what_comes_in_the_same_read_as_the_handshake_s_answer_is_delivered(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        peer = await Peer.accept(tcp)
        await peer.read()
        calls = ({"type": 1, "target": "news", "arguments": [n]} for n in (1, 2))
        await peer.write(b"{}\x1e" + pack(*calls))
        await peer.read_until_closed()

    news: list[int] = []
    async with rt.listen(server) as port:
        client = rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True)
        client.on("news", news.append)
        async with client:
            await rt.eventually(lambda: news == [1, 2])


# a cut


@over_each_transport
async def test_what_is_pending_at_a_cut_fails_at_once_and_handlers_fire_again(rt: Runtime) -> None:
    hub = FaultyHub(rt)
    news: list[str] = []
    errors: list[Exception] = []
    items: list[Any] = []
    async with rt.serve(hub) as server:
        link = Link(rt, server.port)
        async with rt.listen(link) as port, rt.tasks() as tasks:
            async with rt.connect(f"http://127.0.0.1:{port}/hub", reconnect=SOON) as client:
                client.on("news", news.append)
                for round_ in range(3):
                    for _ in range(2):
                        tasks.start_soon(raises, ServerGone, client.invoke("Slow"), errors)
                    tasks.start_soon(read, client, items)
                    await rt.eventually(lambda r=round_: (len(hub.begun), len(items)) == (3 * r + 3, 2 * r + 1))  # type: ignore[misc]
                    async with rt.fail_after(2):
                        await link.cut_until(lambda r=round_: len(errors) + len(items) == 4 * (r + 1))  # type: ignore[misc]
                    await rt.eventually(lambda: client.state is ClientState.CONNECTED)
                    await client.send("Tell", f"round {round_}")
                    await rt.eventually(lambda r=round_: news[r:] == [f"round {r}"])  # type: ignore[misc]
    assert [type(item) for item in items] == [int, ServerGone] * 3
    assert all("is gone" in str(error) for error in errors)


# a server that is frozen, or a way to it that loses everything


@over_each_transport
async def test_a_frozen_server_is_noticed_within_the_server_timeout(rt: Runtime) -> None:
    if carrier(rt) is Transport.LONG_POLLING:
        pytest.skip("a poll waits for 90 s at a server in order: tests/http/test_client_carrier.py turns the clock")
    config = HubConfig(silence_timeout=0.3, keep_alive_interval=0.1, close_timeout=0.2)
    errors: list[Exception] = []
    hub = FaultyHub(rt)
    async with rt.serve(hub, config=HubConfig(close_timeout=0.2, shutdown_timeout=0.2)) as server:
        link = Link(rt, server.port)
        async with rt.listen(link) as port, rt.tasks() as tasks:
            async with rt.connect(f"http://127.0.0.1:{port}/hub", config=config, reconnect=NEVER) as client:
                tasks.start_soon(raises, TransportError, client.invoke("Slow"), errors)
                await rt.eventually(lambda: hub.begun)
                link.swallow()
                begun = rt.current_time()
                await rt.eventually(lambda: client.state is ClientState.RECONNECTING)
                await rt.eventually(lambda: errors)
                assert rt.current_time() - begun < 0.3 + 1.0
    assert "Server timeout (300.00ms) elapsed without receiving a message from the server." in str(errors[0])


@over_each_transport
async def test_a_client_of_whom_nothing_comes_any_more_is_noticed_by_the_server(rt: Runtime) -> None:
    config = HubConfig(silence_timeout=0.3, keep_alive_interval=0.1, close_timeout=0.2, shutdown_timeout=0.2)
    hub = FaultyHub(rt)
    mount = Mount(hub, EndpointConfig(poll_timeout=0.1, disconnect_timeout=0.2))
    async with rt.serve(mount, config=config) as server:
        link = Link(rt, server.port)
        keeps_alive = HubConfig(keep_alive_interval=0.1, close_timeout=0.1)
        async with rt.listen(link) as port:
            async with rt.connect(f"http://127.0.0.1:{port}/hub", config=keeps_alive) as client:
                begun = rt.current_time()
                while rt.current_time() < begun + 0.6:  # it is there for longer than it may be silent
                    assert await client.invoke("Add", 2, 3) == 5
                    await rt.sleep(0.05)
                assert hub.left == []
                link.swallow()
                begun = rt.current_time()
                await rt.eventually(lambda: len(hub.left) == 1)
                assert rt.current_time() - begun < 0.4 + 1.0


def limits(stage: Stage) -> dict[str, Any]:
    """Options with which a client waits for 0.15 s."""
    if stage is Stage.HANDSHAKE:
        return {"config": HubConfig(handshake_timeout=0.15, close_timeout=0.15)}
    return {"connect_timeout": 0.15, "config": HubConfig(close_timeout=0.15)}


@over_each_transport
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name.lower())
async def test_a_server_that_says_nothing_fails_in_time(rt: Runtime, stage: Stage) -> None:
    async with rt.listen(MuteServer(rt, carrier(rt), stage)) as port:
        begun = rt.current_time()
        with pytest.raises(ConnectionFailed, match=f"http://127.0.0.1:{port}/hub") as failed:
            async with rt.connect(f"http://127.0.0.1:{port}/hub", **limits(stage)):
                pass
        assert 0.1 < rt.current_time() - begun < 0.3 + 1.0
    if stage is Stage.HANDSHAKE:
        assert "no handshake within 0.15 s" in str(failed.value)
    else:
        assert type(failed.value) is ConnectTimeout


@over_each_transport
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name.lower())
async def test_a_stop_while_a_server_says_nothing_ends_in_time(rt: Runtime, stage: Stage) -> None:
    server = MuteServer(rt, carrier(rt), stage)
    errors: list[Exception] = []
    config = HubConfig(close_timeout=0.2)
    async with rt.listen(server) as port, rt.tasks() as tasks:
        async with rt.client(f"http://127.0.0.1:{port}/hub", config=config) as client:
            tasks.start_soon(raises, ConnectionFailed, client.start(), errors)
            await server.reached.wait()
            begun = rt.current_time()
            await client.stop()
            assert rt.current_time() - begun < 0.2 + 1.0
            assert client.state is ClientState.DISCONNECTED
            await rt.eventually(lambda: errors)
    assert "was stopped before it was made" in str(errors[0])


@over_each_transport
@pytest.mark.parametrize("again", [False, True], ids=["once", "while it is disconnecting"])
async def test_a_stop_of_a_connection_of_which_nothing_comes_any_more_ends_in_time(rt: Runtime, again: bool) -> None:
    config = HubConfig(close_timeout=0.2)
    async with rt.serve(FaultyHub(rt), config=HubConfig(close_timeout=0.2)) as server:
        link = Link(rt, server.port)
        async with rt.listen(link) as port, rt.tasks() as tasks:
            async with rt.client(f"http://127.0.0.1:{port}/hub", config=config, reconnect=SOON) as client:
                await client.start()
                link.swallow()
                begun = rt.current_time()
                if again:
                    tasks.start_soon(client.stop)
                    await rt.eventually(lambda: client.state is ClientState.DISCONNECTING)
                await client.stop()
                assert rt.current_time() - begun < 0.2 + 1.0
                assert client.state is ClientState.DISCONNECTED
                count = link.count
            assert link.count == count


# pings that wait for a handler


@over_each_transport
async def test_a_slow_handler_does_not_stall_pings(rt: Runtime) -> None:
    """Nothing is said for longer than the server bears silence, nor than the client does."""
    if carrier(rt) is Transport.LONG_POLLING:
        pytest.skip("there are no pings over long polling")
    config = HubConfig(silence_timeout=0.25, keep_alive_interval=0.05)
    hub = FaultyHub(rt)
    called, gate = rt.Event(), rt.Event()
    ended: list[str] = []
    async with rt.serve(hub, config=config) as server:
        client = rt.connect(server.url, config=config)

        @client.on("news")
        async def slowly(text: str) -> None:
            called.set()
            await gate.wait()
            ended.append(text)

        async with client:
            for text in ("one", "two"):
                await client.send("Tell", text)
            await called.wait()
            await rt.sleep(3 * config.silence_timeout)
            assert (client.state, hub.left, ended) == (ClientState.CONNECTED, [], [])
            gate.set()
            await rt.eventually(lambda: ended == ["one", "two"])


# an error of the hub reported to another call


@over_each_transport
async def test_an_error_of_the_hub_reaches_its_own_call(rt: Runtime) -> None:
    hub = FaultyHub(rt)
    names = ["one", "two", "three", "four"]
    errors: dict[str, list[Exception]] = {name: [] for name in names}
    async with rt.serve(hub) as server, rt.connect(server.url) as client, rt.tasks() as tasks:
        for name in names:
            tasks.start_soon(raises, HubError, client.invoke("Fail", name), errors[name])
        await rt.eventually(lambda: len(hub.gates) == 4)
        for number, name in enumerate(reversed(names), 1):
            hub.gates[name].set()
            await rt.eventually(lambda n=number: sum(map(len, errors.values())) == n)  # type: ignore[misc]
            assert await client.invoke("Add", 2, 3) == 5
            (error,) = errors[name]
            assert str(error).endswith(f"HubException: {name}")


# big messages


@over_each_transport
async def test_a_big_message_of_the_server_arrives(rt: Runtime) -> None:
    async with rt.serve(FaultyHub(rt)) as server, rt.connect(server.url) as client:
        assert await client.invoke("Big") == "x" * BIG


# redirects


class Redirector:
    """Sends whoever negotiates here to another address, and remembers what it was asked."""

    def __init__(self, url: str) -> None:
        self.heads: list[str] = []
        self._body = json.dumps({"url": url, "accessToken": "s3cret-of-the-redirect"}).encode()

    async def __call__(self, tcp: Tcp) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await tcp.receive()
        self.heads.append(head.decode().lower())
        await tcp.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self._body), self._body))
        await tcp.receive()


def guarded(requests: list[Request]) -> Any:
    """An authenticator that knows the token of the redirect, and remembers everybody who asks."""

    def authenticate(request: Request) -> Principal | None:
        requests.append(request)
        return Principal("ann") if request.access_token == "s3cret-of-the-redirect" else None

    return authenticate


@over_each_transport
async def test_a_redirect_keeps_the_hub_s_query_and_uses_its_own_token(rt: Runtime) -> None:
    requests: list[Request] = []
    hub = FaultyHub(rt, requires=authenticated)
    async with rt.serve(hub, authenticator=guarded(requests)) as server:
        redirector = Redirector(f"{server.url}?room=blue%20sky")
        async with rt.listen(redirector) as port:
            url = f"http://127.0.0.1:{port}/elsewhere?own=1"
            async with rt.connect(url, access_token=lambda: "s3cret-of-our-own") as client:
                assert await client.invoke("Who") == ["ann", "blue sky"]
    (head,) = redirector.heads
    assert head.startswith("post /elsewhere/negotiate?own=1&negotiateversion=1 http/1.1\r\n")
    assert "authorization: bearer s3cret-of-our-own\r\n" in head
    assert len(requests) >= 2
    assert all(request.query.get("room") == "blue sky" for request in requests)
    assert {request.access_token for request in requests} == {"s3cret-of-the-redirect"}


# the token where it does not belong


def spoken(error: BaseException | None) -> str:
    """All that an exception says, and those behind it."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@over_each_transport
async def test_the_token_is_in_no_text(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the provider's nor the redirect's, nor the id by which a connection is found, in no log line of any
    logger at any level, in no exception, in no event and in no `repr`."""
    for name in [None, *logging.root.manager.loggerDict]:
        caplog.set_level(1, logger=name)
    hub = FaultyHub(rt, requires=authenticated)
    requests: list[Request] = []
    texts: list[str] = []
    errors: list[Exception] = []
    async with rt.serve(hub, authenticator=guarded(requests)) as server:
        link = Link(rt, server.port)
        async with rt.listen(link) as port:
            redirector = Redirector(f"http://127.0.0.1:{port}/hub")
            async with rt.listen(redirector) as front, rt.tasks() as tasks:
                url = f"http://127.0.0.1:{front}/hub?access_token=s3cret-of-the-query"
                client = rt.connect(url, access_token=lambda: "s3cret-of-our-own", reconnect=SOON)
                for hear in (client.on_reconnecting, client.on_reconnected, client.on_closed):
                    hear(lambda *what: texts.extend(map(repr, what)))
                async with client:
                    tasks.start_soon(raises, ServerGone, client.invoke("Slow"), errors)
                    await rt.eventually(lambda: hub.begun)
                    with pytest.raises(HubError) as refused:
                        await client.invoke("Missing")
                    await link.cut_until(lambda: len(errors) == 1)
                    await rt.eventually(lambda: client.state is ClientState.CONNECTED)
                    await client.send("Tell", "unheard")
                    await rt.eventually(lambda: "unheard" in caplog.text or "news" in caplog.text)
                    texts += [repr(client), str(client)]
            with pytest.raises(Unauthorized) as unauthorized:
                async with rt.connect(f"{server.url}?access_token=s3cret-of-the-query", access_token="s3cret-wrong"):
                    pass
    with suppress(ConnectionFailed):
        async with rt.connect(url, access_token="s3cret-of-our-own"):
            pass
    texts += [spoken(error) for error in (refused.value, unauthorized.value, *errors)]
    texts.append(caplog.text)
    texts += [f"{vars(record)}" for record in caplog.records]
    tokens = {request.query["id"] for request in requests if "id" in request.query}
    assert len(tokens) >= 2
    assert len(requests) > 4
    for secret in ("s3cret", *tokens):
        assert [text for text in texts if secret in text] == []
