"""A client whose WebSocket breaks goes on over another one, against a server that a test plays."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from hubproto_core import ClientState, Closed, HubConfig, ServerGone
from tests.kit.peer import Peer
from tests.kit.runtimes import Connection, Runtime
from tests.kit.tcp import Tcp

OFFER = json.dumps(
    {
        "useStatefulReconnect": True,
        "negotiateVersion": 1,
        "connectionId": "public",
        "connectionToken": "secret",
        "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
    }
).encode()
CALL = {"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]}
SEQUENCE = {"type": 9, "sequenceId": 1}


class Server:
    """Negotiates, and treats the n-th WebSocket by the n-th of its behaviours, the last for ever."""

    def __init__(self, *behaviours: Callable[[Tcp], Any]) -> None:
        self._behaviours = behaviours
        self.count = -1

    async def __call__(self, tcp: Tcp) -> None:
        number, self.count = self.count, self.count + 1
        if number < 0:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await tcp.receive()
            assert b"?negotiateVersion=1&useStatefulReconnect=true " in request
            await tcp.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(OFFER), OFFER))
        else:
            await self._behaviours[min(number, len(self._behaviours) - 1)](tcp)


async def first(tcp: Tcp) -> Peer:
    """Be the first WebSocket, up to the client's call."""
    peer = await Peer.accept(tcp)
    assert await peer.read() == {"protocol": "json", "version": 2}
    await peer.write(b"{}\x1e")
    assert await peer.read() == CALL
    return peer


async def breaks(tcp: Tcp) -> None:
    (await first(tcp)).tcp.reset()


async def freezes(tcp: Tcp) -> None:
    await (await first(tcp)).read_until_closed()


async def refuses(tcp: Tcp) -> None:
    await tcp.receive()
    await tcp.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


async def resets(tcp: Tcp) -> None:
    tcp.reset()


async def forgets(tcp: Tcp) -> None:
    await tcp.receive()
    await tcp.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def says_nothing(tcp: Tcp) -> None:
    await tcp.receive_all()


async def goes_on(tcp: Tcp) -> None:
    peer = await Peer.accept(tcp)
    assert await peer.read() == SEQUENCE
    assert await peer.read() == CALL
    await peer.send(SEQUENCE, {"type": 3, "invocationId": "1", "result": 3})
    await peer.read_until_closed()


def connect(rt: Runtime, port: int, **settings: Any) -> Connection:
    return rt.connect(f"http://127.0.0.1:{port}/hub", stateful=True, config=HubConfig(**settings))


@pytest.mark.parametrize("loss", [breaks, freezes])
async def test_a_call_notices_nothing(
    rt: Runtime, loss: Callable[[Tcp], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hubproto_core")
    server = Server(loss, refuses, resets, goes_on)
    async with rt.listen(server) as port:
        async with connect(rt, port, silence_timeout=0.2, keep_alive_interval=5.0) as client:
            client.on_reconnecting(lambda error: pytest.fail(f"lost: {error}"))
            assert await client.invoke("Add", 1, 2) == 3
            assert (client.state, client.connection_id) == (ClientState.CONNECTED, "public")
    assert server.count == 4
    lines = [record.getMessage() for record in caplog.records if "socket" in record.getMessage()]
    assert [line.partition(":")[0] for line in lines] == [
        "connection public has lost its socket, another one is opened",
        "connection public goes on over another socket",
    ]


async def test_a_server_that_has_forgotten_ends_it(rt: Runtime) -> None:
    async with rt.listen(Server(breaks, forgets)) as port, connect(rt, port) as client:
        events = client.events()
        with pytest.raises(ServerGone, match="has forgotten the connection"):
            await client.invoke("Add", 1, 2)
        assert isinstance(await anext(events), Closed)
        assert client.state is ClientState.DISCONNECTED


@pytest.mark.parametrize("meanwhile", [says_nothing, refuses])
async def test_a_client_that_seeks_another_websocket_can_be_stopped(
    rt: Runtime, meanwhile: Callable[[Tcp], Any]
) -> None:
    server = Server(breaks, meanwhile)
    async with rt.listen(server) as port, connect(rt, port) as client:
        async with rt.tasks() as tasks:

            async def call() -> None:
                with pytest.raises(Exception, match=r"closed|stopped"):
                    await client.invoke("Add", 1, 2)

            tasks.start_soon(call)
            await rt.eventually(lambda: server.count >= 2)
            states = [client.state]
            async with rt.fail_after(2):
                await client.stop()
        assert [*states, client.state] == [ClientState.CONNECTED, ClientState.DISCONNECTED]
