"""Clients that do not read: what is held for them is little, and nobody else notices."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator

import pytest

from benchmarks.slow_consumers import MIB, measure
from hubproto_core import Hub, HubConfig
from hubproto_core.http import HttpConfig
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp
from tests.kit.wire import HANDSHAKE


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_broadcast_reaches_all_who_read_and_gives_the_others_up_and_holds_little(rt: Runtime) -> None:
    """A fifth of what `python -m benchmarks.slow_consumers` does."""
    figures = measure(rt.name, clients=200, silent=10)
    print(figures)
    assert (figures.fewest_heard, figures.most_heard) == (1000, 1000)
    assert len(figures.given_up) == 10
    assert all("is given up: it leaves more than 262144 bytes unread" in line for line in figures.given_up)
    assert len(set(figures.given_up)) == 10
    assert figures.growth < 30 * MIB


async def cramped_peer(rt: Runtime, port: int) -> Peer:
    """A client with little room in the kernels, as far as the hub handshake is done."""
    peer = Peer(await Tcp.connect_cramped(rt, port), Peer.CLIENT)
    await peer.upgrade("/hub")
    await peer.write(HANDSHAKE)
    assert await peer.read() == {}
    return peer


@pytest.mark.parametrize("size", [100, 16_384], ids=["small items", "large items"])
async def test_a_generator_is_paused_with_less_than_1_mib_held_and_goes_on_when_the_client_reads(
    rt: Runtime, size: int
) -> None:
    hub = Hub()
    count = 4 * MIB // size
    produced = 0
    taken = 0

    @hub.method("Pieces")
    async def pieces() -> AsyncIterator[str]:
        nonlocal produced
        for _ in range(count):
            produced += 1
            yield "x" * size

    async with rt.serve(hub) as server, rt.connect(server.url):
        with await cramped_peer(rt, server.port) as peer:
            await peer.send({"type": 4, "invocationId": "1", "target": "Pieces", "arguments": []})
            held = await rt.settled(lambda: produced) * size
            print(f"paused with {held} bytes of items produced, those in the kernel included")
            assert held < MIB
            while (await peer.read())["type"] == 2:
                taken += 1
                assert (produced - taken) * size < MIB
    assert taken == produced == count


async def request(tcp: Tcp, method: str, target: str, header: str, body: bytes = b"") -> None:
    """Send a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", header, "", ""]
    await tcp.send("\r\n".join(lines).encode() + body)


async def ask(rt: Runtime, port: int, method: str, target: str, body: bytes = b"") -> bytes:
    """Send a request on a socket of its own and return the answer's body."""
    with await rt.tcp(port) as tcp:
        await request(tcp, method, target, "Connection: close", body)
        return (await tcp.receive_all()).partition(b"\r\n\r\n")[2]


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="open sockets are counted in /proc")
@pytest.mark.parametrize("header", ["Accept: text/event-stream", "Accept: */*", "Connection: close"])
async def test_a_client_that_takes_nothing_of_an_answer_is_cut_off(rt: Runtime, header: str) -> None:
    hub = Hub(HubConfig(keep_alive_interval=100.0))
    async with rt.fail_after(15), rt.serve(hub, http=HttpConfig(send_timeout=0.4)) as server:
        members = json.loads(await ask(rt, server.port, "POST", "/hub/negotiate?negotiateVersion=1"))
        target = f"/hub?id={members['connectionToken']}"
        if "event-stream" not in header:
            await ask(rt, server.port, "GET", target)
            await ask(rt, server.port, "POST", target, HANDSHAKE)
            assert await ask(rt, server.port, "GET", target) == b"{}\x1e"
        before = open_files()
        with await Tcp.connect_cramped(rt, server.port) as stuck:
            await request(stuck, "GET", target, header)
            if "event-stream" in header:
                await stuck.receive()
                await ask(rt, server.port, "POST", target, HANDSHAKE)
            context = server.server.context(hub)
            assert len(context.connections) == 1
            await rt.eventually(lambda: open_files() == before + 2)
            began = rt.current_time()
            context.clients.all.send("news", "x" * 3 * MIB)
            await rt.eventually(lambda: open_files() == before + 1)
            assert rt.current_time() - began > 0.2
