"""Why a client has no connection: each reason its own exception; and who is asked for an access token."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from hubproto_core import (
    Call,
    ConnectionFailed,
    ConnectionRefused,
    Forbidden,
    HandshakeRefused,
    HostNotFound,
    Hub,
    LegacyServer,
    NoCommonTransport,
    NotAHub,
    Principal,
    ProtocolNotSupported,
    ReconnectPolicy,
    ServerGone,
    TlsFailed,
    TokenFailed,
    TransportError,
    Unauthorized,
    authenticated,
)
from hubproto_core.http import Request
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime, over_each_transport
from tests.kit.tcp import Tcp
from tests.parity.test_client_lifecycle import free_port


async def failure(rt: Runtime, url: str, **options: Any) -> Exception:
    """Why there is no connection."""
    with pytest.raises((ConnectionFailed, HandshakeRefused), match=re.escape(url.partition("?")[0])) as failed:
        async with rt.connect(url, **options):
            pass
    return failed.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_refused(rt: Runtime, host: str) -> None:
    error = await failure(rt, f"http://{host}:{free_port()}/hub")
    assert type(error) is ConnectionRefused
    assert "is the server running" in str(error)


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".invalid"])
async def test_no_such_host(rt: Runtime, host: str) -> None:
    error = await failure(rt, f"http://{host}/hub")
    assert type(error) is HostNotFound
    assert "is the name of the host right" in str(error)


async def test_a_certificate_that_nobody_trusts(rt: Runtime) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with rt.serve(Hub(), ssl_context=context) as server:
        error = await failure(rt, server.url)
    assert type(error) is TlsFailed
    assert "`ssl_context` decides whom to trust" in str(error)


async def test_tls_to_a_port_that_speaks_none(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        await tcp.receive()
        await tcp.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with rt.listen(server) as port:
        assert type(await failure(rt, f"https://127.0.0.1:{port}/hub")) is TlsFailed


ANSWERS: dict[str, tuple[bytes, type[Exception]]] = {
    "a web page": (b"200 OK\r\nContent-Length: 6\r\n\r\n<html>", NotAHub),
    "not found": (b"404 Not Found\r\nContent-Length: 0\r\n\r\n", NotAHub),
    "who are you": (b"401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Unauthorized),
    "not you": (b"403 Forbidden\r\nContent-Length: 0\r\n\r\n", Forbidden),
    "broken": (b"502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ConnectionFailed),
    "ASP.NET SignalR": (b'200 OK\r\nContent-Length: 25\r\n\r\n{"ProtocolVersion":"1.4"}', LegacyServer),
    "no transports": (
        b'200 OK\r\nContent-Length: 45\r\n\r\n{"connectionId":"a","availableTransports":[]}',
        NoCommonTransport,
    ),
    "half an answer": (b"200 OK\r\nContent-Length: 100\r\n\r\n{", ConnectionFailed),
}


@pytest.mark.parametrize(("answer", "kind"), ANSWERS.values(), ids=ANSWERS)
async def test_what_the_server_answers(rt: Runtime, answer: bytes, kind: type[Exception]) -> None:
    async def server(tcp: Tcp) -> None:
        await tcp.receive()
        await tcp.send(b"HTTP/1.1 " + answer)

    async with rt.listen(server) as port:
        assert type(await failure(rt, f"http://127.0.0.1:{port}/hub?access_token=s3cret")) is kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [("The protocol 'json' is not supported.", ProtocolNotSupported), ("Handshake was canceled.", HandshakeRefused)],
)
async def test_a_handshake_that_is_refused(rt: Runtime, text: str, kind: type[Exception]) -> None:
    async def server(tcp: Tcp) -> None:
        peer = await Peer.accept(tcp)
        await peer.read()
        await peer.write(f'{{"error":"{text}"}}\x1e'.encode())
        await peer.read_until_closed()

    async with rt.listen(server) as port:
        error = await failure(rt, f"http://127.0.0.1:{port}/hub", skip_negotiation=True)
    assert type(error) is kind
    assert text in str(error)


async def test_a_server_that_goes(rt: Runtime) -> None:
    async def server(tcp: Tcp) -> None:
        await (await Peer.answer(tcp)).read()
        tcp.reset()

    async with rt.listen(server) as port:
        url = f"http://127.0.0.1:{port}/hub"
        async with rt.connect(url, skip_negotiation=True) as client:
            with pytest.raises(ServerGone, match=f"{re.escape(url)} is gone: .*reconnect=True"):
                await client.invoke("Slow")


# --- the access token ------------------------------------------------------------------------------------------------


class Guard:
    """A hub for those who have the latest token, and the provider that knows it."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.asked = 0
        self.valid = 1
        self.hub = Hub(requires=authenticated)
        self.hub.method("Who")(self.who)

    def who(self, call: Call) -> object:
        return call.user

    def authenticate(self, request: Request) -> Principal | None:
        return Principal(f"user {self.valid}") if request.access_token == f"token-{self.valid}" else None

    def token(self) -> str:
        self.asked += 1
        return f"token-{self.asked}"

    async def slow_token(self) -> str:
        await self.rt.sleep(0.01)
        return self.token()


PROVIDERS: list[Callable[[Guard], Any]] = [lambda guard: guard.token, lambda guard: guard.slow_token]


@pytest.mark.parametrize("provider", PROVIDERS, ids=["plain", "async"])
@pytest.mark.parametrize("skip_negotiation", [False, True], ids=["negotiated", "not negotiated"])
async def test_the_token_is_asked_for_before_the_first_connection(
    rt: Runtime, provider: Callable[[Guard], Any], skip_negotiation: bool
) -> None:
    guard = Guard(rt)
    async with rt.serve(guard.hub, authenticator=guard.authenticate) as server:
        async with rt.connect(server.url, access_token=provider(guard), skip_negotiation=skip_negotiation) as client:
            assert await client.invoke("Who") == "user 1"
        assert guard.asked == 1


@over_each_transport
@pytest.mark.parametrize("provider", PROVIDERS, ids=["plain", "async"])
async def test_a_token_that_is_stale_is_replaced_once(rt: Runtime, provider: Callable[[Guard], Any]) -> None:
    guard = Guard(rt)
    async with rt.serve(guard.hub, authenticator=guard.authenticate) as server:
        guard.valid = 2
        async with rt.connect(server.url, access_token=provider(guard)) as client:
            assert await client.invoke("Who") == "user 2"
        guard.valid = 100
        with pytest.raises(Unauthorized):
            async with rt.connect(server.url, access_token=provider(guard)):
                pass
        assert guard.asked == 4


@over_each_transport
@pytest.mark.parametrize("provider", PROVIDERS, ids=["plain", "async"])
async def test_every_attempt_asks_again(rt: Runtime, provider: Callable[[Guard], Any]) -> None:
    guard = Guard(rt)
    port = free_port()
    policy = ReconnectPolicy(delays=[0.01], growth=1, max_attempts=1000)
    async with rt.client(f"http://127.0.0.1:{port}/hub", access_token=provider(guard), reconnect=policy) as client:
        async with rt.serve(guard.hub, port=port, authenticator=guard.authenticate):
            await client.start()
        await rt.eventually(lambda: guard.asked >= 4)  # nobody listens
        guard.authenticate = lambda request: Principal(request.access_token)  # type: ignore[method-assign]
        async with rt.serve(guard.hub, port=port, authenticator=lambda request: guard.authenticate(request)):
            await rt.eventually(lambda: client.connection_id is not None and client.state == "connected")
            assert await client.invoke("Who") == f"token-{guard.asked}"


async def test_a_provider_that_fails(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> str:
        await rt.sleep(0)
        raise KeyError("s3cret")

    with pytest.raises(TokenFailed, match="provider for http://127.0.0.1:1/hub failed: KeyError$") as failed:
        async with rt.connect("http://127.0.0.1:1/hub", access_token=broken):
            pass
    assert isinstance(failed.value.__cause__, KeyError)
    assert "s3cret" not in caplog.text


async def test_a_provider_that_never_answers(rt: Runtime) -> None:
    cancelled = rt.Event()

    async def endless() -> str:
        try:
            await rt.sleep_forever()
        finally:
            cancelled.set()
        return ""

    with pytest.raises(TransportError, match=r"within 0\.1 s"):
        async with rt.connect("http://127.0.0.1:1/hub", access_token=endless, connect_timeout=0.1):
            pass
    await cancelled.wait()


async def test_the_token_is_in_no_message_and_no_log_line(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    received: list[bytes] = []

    async def server(tcp: Tcp) -> None:
        peer = await Peer.answer(tcp)
        while (record := await peer.read()) is not None:
            received.append(repr(record).encode())
            await peer.send({"type": 1, "target": "unheard", "arguments": []}, {"type": 7, "error": "enough"})

    async with rt.listen(server) as port:
        url = f"http://127.0.0.1:{port}/hub?access_token=s3cret"
        with pytest.raises(Exception, match="enough") as failed:
            async with rt.connect(url, access_token=lambda: "s3cret", skip_negotiation=True) as client:
                await client.invoke("Add", 2, 3)
    assert received
    assert b"s3cret" not in b"".join(received)
    assert "s3cret" not in str(failed.value)
    assert "unheard" in caplog.text
    assert "s3cret" not in caplog.text
    assert all("s3cret" not in str(vars(record)) for record in caplog.records)
