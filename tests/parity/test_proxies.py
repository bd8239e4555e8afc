"""Clients behind an HTTP proxy: every socket goes through a tunnel."""

from __future__ import annotations

import re
import ssl
from base64 import b64encode

import pytest
import trustme

from hubproto_core import ConnectTimeout, Hub, ProxyFailed
from tests.kit.proxy import HttpProxy
from tests.kit.runtimes import Runtime, over_each_transport
from tests.kit.tcp import Tcp
from tests.parity.test_client_lifecycle import free_port

hub = Hub()
hub.method("Add")(lambda x, y: x + y)


@over_each_transport
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_all_sockets_go_through_the_proxy(rt: Runtime, tls: bool) -> None:
    authority = trustme.CA()
    there, here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(there)
    authority.configure_trust(here)
    proxy = HttpProxy(rt)
    async with rt.serve(hub, ssl_context=there if tls else None) as server, rt.listen(proxy) as port:
        url = f"http://me:s%33cret@127.0.0.1:{port}"
        async with rt.connect(server.url, proxy=url, ssl_context=here) as client:
            assert await client.invoke("Add", 2, 3) == 5
            big = "x" * 10_000
            assert await client.invoke("Add", big, big) == big + big
    assert len(proxy.asked) >= 2
    for head in proxy.asked:
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
        assert f"proxy-authorization: Basic {b64encode(b'me:s3cret').decode()}\r\n" in head.replace(
            "Proxy-A", "proxy-a"
        )


async def test_the_environment_s_proxy(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = HttpProxy(rt)
    async with rt.serve(hub) as server, rt.listen(proxy) as port:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 2, 3) == 5
        assert not proxy.asked
        async with rt.connect(server.url, proxy="env") as client:
            assert await client.invoke("Add", 2, 3) == 5
        assert len(proxy.asked) == 2
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        async with rt.connect(server.url, proxy="env") as client:
            assert await client.invoke("Add", 2, 3) == 5
        assert len(proxy.asked) == 2


REFUSALS = {
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno", "status 403 Forbidden; does it allow"),
    "who are you": (b"HTTP/1.1 407 Who?\r\n\r\n", "status 407 Who\\?; it wants a user"),
    "no way": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway; can it reach the server"),
    "no HTTP": (b"SSH-2.0-x\r\n\r\n", "does not answer in HTTP"),
    "closes": (b"", "closed the connection"),
    "talks": (b"HTTP/1.1 200 OK\r\n\r\nhello", "sent something before it was asked"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("answer", "text"), REFUSALS.values(), ids=REFUSALS)
async def test_a_proxy_that_refuses(
    rt: Runtime, answer: bytes, text: str, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with rt.listen(HttpProxy(rt, answer)) as port:
        with pytest.raises(ProxyFailed, match=text) as failed:
            async with rt.connect(f"{scheme}://example.test/hub", proxy=f"http://me:s3cret@127.0.0.1:{port}"):
                pass
    assert failed.value.proxy == f"127.0.0.1:{port}"
    assert f"{scheme}://example.test/hub" in str(failed.value)
    assert f"127.0.0.1:{port}" in str(failed.value)
    assert "s3cret" not in str(failed.value) + caplog.text


async def test_a_proxy_that_is_not_there(rt: Runtime) -> None:
    port = free_port()
    with pytest.raises(ProxyFailed, match=f"the proxy 127.0.0.1:{port}.*cannot be reached.*is it running"):
        async with rt.connect("http://example.test/hub", proxy=f"http://127.0.0.1:{port}"):
            pass


async def test_a_proxy_that_resets(rt: Runtime) -> None:
    async def proxy(tcp: Tcp) -> None:
        await tcp.receive()
        tcp.reset()

    async with rt.listen(proxy) as port:
        with pytest.raises(ProxyFailed, match="failed|closed the connection"):
            async with rt.connect("https://example.test/hub", proxy=f"http://127.0.0.1:{port}"):
                pass


async def test_a_proxy_that_says_nothing(rt: Runtime) -> None:
    async def proxy(tcp: Tcp) -> None:
        await tcp.receive_all()

    async with rt.listen(proxy) as port:
        what = re.escape(f"no connection to http://example.test/hub through the proxy 127.0.0.1:{port} within 0.1 s")
        with pytest.raises(ConnectTimeout, match=what):
            async with rt.connect("http://example.test/hub", proxy=f"http://127.0.0.1:{port}", connect_timeout=0.1):
                pass
