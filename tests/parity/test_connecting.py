"""Getting to a hub, or not."""

from __future__ import annotations

import re
import socket
import ssl

import pytest
import trustme

from hubproto_core import Call, Hub, HubConfig, LocalProtocolError, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime
from tests.kit.tcp import Tcp


def small_hub() -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)

    @hub.method("Lab")
    def lab(call: Call) -> str | None:
        return call.connection.headers.get("x-lab")

    return hub


@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_nobody_listens(rt: Runtime, skip_negotiation: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hub"
        with pytest.raises(TransportError, match=re.escape(url)):
            async with rt.connect(url, skip_negotiation=skip_negotiation):
                pass


@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_there_is_no_hub_at_this_path(rt: Runtime, skip_negotiation: bool) -> None:
    async with rt.serve(small_hub()) as server:
        url = f"{server.origin}/elsewhere"
        with pytest.raises(TransportError, match=f"{re.escape(url)}.*404.*is it the address of a SignalR hub"):
            async with rt.connect(url, skip_negotiation=skip_negotiation):
                pass


ANSWERS = {
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>Hi</html>",
    "a server error": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nhelp",
    "an endless web page": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000,
    "garbage": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "nothing": b"",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "another JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "a refusal": b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"error":"full"}',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_what_answers_is_no_hub(rt: Runtime, answer: bytes, skip_negotiation: bool) -> None:
    async def server(tcp: Tcp) -> None:
        await tcp.receive()
        try:
            await tcp.send(answer)
        except ConnectionError:
            return  # the client has seen enough

    async with rt.listen(server) as port:
        url = f"http://127.0.0.1:{port}/hub"
        with pytest.raises(TransportError, match=re.escape(url)):
            async with rt.connect(url, skip_negotiation=skip_negotiation):
                pass


async def test_a_websocket_with_a_wrong_accept_is_refused(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        await tcp.receive()
        await tcp.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: none\r\n\r\n"
        )
        await tcp.receive_all()

    async with rt.listen(server) as port:
        with pytest.raises(TransportError, match="Sec-WebSocket-Accept"):
            async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True):
                pass


@pytest.mark.parametrize("host", ["x" * 64 + ".invalid", "a..invalid"], ids=["a label too long", "an empty label"])
async def test_a_host_name_that_cannot_be(rt: Runtime, host: str) -> None:
    with pytest.raises(TransportError, match=re.escape(host)):
        async with rt.connect(f"http://{host}/hub"):
            pass


@pytest.mark.parametrize("url", ["", "hub", "ftp://127.0.0.1/hub", "http:///hub"])
def test_a_url_that_is_none(rt: Runtime, url: str) -> None:
    with pytest.raises(ValueError, match="is no http"):
        rt.connect(url)


async def test_connecting_can_be_cancelled(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        await tcp.receive_all()

    async with rt.listen(server) as port:
        async with rt.move_on_after(0.05) as outcome:
            async with rt.connect(f"http://127.0.0.1:{port}/hub"):
                pass
        assert outcome.cancelled


async def test_no_handshake_in_time(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        await Peer.accept(tcp)
        await tcp.receive_all()

    config = HubConfig(handshake_timeout=0.1)
    async with rt.listen(server) as port:
        with pytest.raises(TransportError, match=r"no handshake within 0\.1 s"):
            async with rt.connect(f"http://127.0.0.1:{port}/hub", skip_negotiation=True, config=config):
                pass


async def test_headers_go_with_every_request(rt: Runtime) -> None:
    requests: list[bytes] = []

    async def server(tcp: Tcp) -> None:
        requests.append(await tcp.receive())
        body = b'{"connectionId":"i","connectionToken":"t","negotiateVersion":1,"availableTransports":[{"transport":'
        body += b'"WebSockets","transferFormats":["Text"]}]}'
        if b"/negotiate" in requests[-1]:
            await tcp.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with rt.listen(server) as port:
        with pytest.raises(TransportError):
            async with rt.connect(
                f"http://127.0.0.1:{port}/hub?a=b", headers={"X-Lab": "hello"}, access_token="token-ann"
            ):
                pass
    assert [request.partition(b"\r\n")[0] for request in requests] == [
        b"POST /hub/negotiate?a=b&negotiateVersion=1 HTTP/1.1",
        b"GET /hub?a=b&id=t HTTP/1.1",
    ]
    for request in requests:
        assert b"x-lab: hello\r\n" in request.lower()
        assert b"authorization: Bearer token-ann\r\n" in request


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_tls(
    rt: Runtime, server_context: ssl.SSLContext, client_context: ssl.SSLContext, skip_negotiation: bool
) -> None:
    hub = small_hub()
    hub.method("Echo")(lambda text: text)
    config = HubConfig(max_message_size=None)
    async with rt.serve(hub, ssl_context=server_context, config=config) as server:
        assert server.url.startswith("https:")
        async with rt.connect(
            server.url, ssl_context=client_context, skip_negotiation=skip_negotiation, headers={"X-Lab": "hello"}
        ) as client:
            assert await client.invoke("Add", 2, 3) == 5
            assert await client.invoke("Lab") == "hello"
            assert await client.invoke("Echo", "x" * 1_000_000) == "x" * 1_000_000


async def test_a_certificate_that_nobody_trusts(rt: Runtime, server_context: ssl.SSLContext) -> None:
    async with rt.serve(small_hub(), ssl_context=server_context) as server:
        with pytest.raises(TransportError, match=f"{re.escape(server.url)}.*certificate"):
            async with rt.connect(server.url):
                pass


async def test_plain_http_to_a_tls_port_and_the_reverse(
    rt: Runtime, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with rt.serve(small_hub(), ssl_context=server_context) as server:
        with pytest.raises(TransportError, match="127"):
            async with rt.connect(server.url.replace("https", "http")):
                pass
        async with rt.connect(server.url, ssl_context=client_context) as client:
            assert await client.invoke("Add", 2, 3) == 5
    async with rt.serve(small_hub()) as server:
        with pytest.raises(TransportError, match="127"):
            async with rt.connect(server.url.replace("http", "https"), ssl_context=client_context):
                pass
        async with rt.connect(server.url) as client:
            assert await client.invoke("Add", 2, 3) == 5


async def test_a_tls_client_that_says_nothing_holds_up_no_shutdown(
    rt: Runtime, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with rt.fail_after(5), rt.serve(small_hub(), ssl_context=server_context) as server:
        with await rt.tcp(server.port):
            async with rt.connect(server.url, ssl_context=client_context) as client:  # which comes behind it
                assert await client.invoke("Add", 2, 3) == 5
            server.server.close()
            await server.server.wait_closed()


async def test_calling_before_the_connection_is_entered(rt: Runtime) -> None:
    client = rt.connect("http://127.0.0.1:1/hub")
    with pytest.raises(LocalProtocolError, match="not open yet"):
        await client.invoke("Add", 2, 3)
    with pytest.raises(LocalProtocolError, match="not open yet"):
        async with client.stream("Ticks"):
            pass
