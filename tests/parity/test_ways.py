"""Ways to a server that are not straight: addresses that are dead, upgrades that are swallowed, tokens that expire."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from hubproto_core import Hub, ServerGone, Transport
from tests.kit.proxy import HttpProxy
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp
from tests.parity.test_client_reasons import PROVIDERS, Guard

hub = Hub()
hub.method("Add")(lambda x, y: x + y)


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address of its own on Linux only")
async def test_a_dead_address_does_not_hold_the_client_up(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    if rt.name == "asyncio-uvloop":
        pytest.skip("uvloop asks the system for addresses in C")
    async with rt.serve(hub) as server:
        with socket.create_server(("127.0.0.2", server.port), backlog=0) as dead:
            with socket.create_connection(dead.getsockname()):  # which fills its queue: who comes now is not answered
                look_up = socket.getaddrinfo

                def two_addresses(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
                    if host not in ("two.test", b"two.test"):
                        return look_up(host, port, *arguments, **options)
                    return [
                        found
                        for address in ("127.0.0.2", "127.0.0.1")
                        for found in look_up(address, port, *arguments, **options)
                    ]

                monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
                before = rt.current_time()
                url = f"http://two.test:{server.port}/hub"
                async with rt.connect(url, skip_negotiation=True, connect_timeout=10) as client:
                    assert 0.2 < rt.current_time() - before < 5
                    assert await client.invoke("Add", 2, 3) == 5


async def test_an_address_of_version_6(rt: Runtime) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    async with rt.serve(hub, host="::1") as server:
        url = f"http://[::1]:{server.port}/hub"
        async with rt.connect(url) as client:
            assert await client.invoke("Add", 2, 3) == 5
        proxy = HttpProxy(rt)
        async with rt.listen(proxy) as port:
            with pytest.raises(Exception, match="no way to"):  # the proxy of the tests knows 127.0.0.1 only
                async with rt.connect(url, proxy=f"127.0.0.1:{port}"):
                    pass
        assert proxy.asked[0].startswith(f"CONNECT [::1]:{server.port} HTTP/1.1\r\n")


async def test_an_upgrade_that_is_swallowed_costs_a_share_of_the_time(rt: Runtime) -> None:
    class Swallower(HttpProxy):
        """Leads to the server, but for WebSockets."""

        upgrades = 0

        async def __call__(self, near: Tcp) -> None:
            head = await near.receive()
            if b"upgrade: websocket" in head.lower():
                self.upgrades += 1
                await near.receive_all()
                return
            await self.lead(near, server.port, head)

    swallower = Swallower(rt)
    async with rt.serve(hub) as server, rt.listen(swallower) as port:
        before = rt.current_time()
        url = f"http://127.0.0.1:{port}/hub"
        async with rt.connect(url, connect_timeout=1.5) as client:
            assert 0.5 <= rt.current_time() - before < 1.5
            assert await client.invoke("Add", 2, 3) == 5
    assert swallower.upgrades == 1


async def test_a_server_that_has_forgotten_the_connection_has_a_second_to_say_why(rt: Runtime) -> None:
    class Forgetful(HttpProxy):
        """Answers POSTs with 404, once it has forgotten."""

        forgot = False

        async def __call__(self, near: Tcp) -> None:
            await self.lead(near, server.port)

        async def pass_on(self, source: Tcp, target: Tcp) -> None:
            while data := await source.receive():
                if self.forgot and data.startswith(b"POST"):
                    await source.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                else:
                    await target.send(data)

    forgetful = Forgetful(rt)
    async with rt.serve(hub) as server, rt.listen(forgetful) as port:
        url = f"http://127.0.0.1:{port}/hub"
        async with rt.connect(url, transports=[Transport.SERVER_SENT_EVENTS]) as client:
            forgetful.forgot = True
            before = rt.current_time()
            with pytest.raises(ServerGone, match="refused what was posted with status 404"):
                await client.invoke("Add", 2, 3)
            assert 0.9 < rt.current_time() - before < 3


@pytest.mark.parametrize("transport", [Transport.SERVER_SENT_EVENTS, Transport.LONG_POLLING], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS, ids=["plain", "async"])
async def test_tokens_may_expire_during_a_session(rt: Runtime, transport: Transport, provider: Any) -> None:
    guard = Guard(rt)
    async with rt.serve(guard.hub, authenticator=guard.authenticate) as server:
        async with rt.connect(server.url, access_token=provider(guard), transports=[transport]) as client:
            connection_id = client.connection_id
            for _ in range(5):
                guard.valid = guard.asked + 1
                assert await client.invoke("Who") == "user 1"
            assert client.connection_id == connection_id
    assert guard.asked == 6
