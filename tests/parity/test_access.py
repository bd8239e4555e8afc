"""Who a client is, and what it may call."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hubproto_core import Authorization, Call, Hub, HubError, Principal, Transport, TransportError, authenticated
from hubproto_core.http import AccessDenied, HttpConfig, Request
from tests.kit.runtimes import Runtime

UNAUTHORIZED = "Failed to invoke '{}' because user is unauthorized"


class Site:
    """A hub whose authenticator and policies wait for what they need, as those that ask a database do."""

    def __init__(self, rt: Runtime, requires: Any = None) -> None:
        self.rt = rt
        self.asked: list[str | None] = []
        self.cancelled = False
        self.hub = Hub(requires=requires)
        self.hub.method("WhoAmI")(self.who_am_i)
        self.hub.method("AdminOnly", requires=["admin"])(lambda: "secret")
        self.hub.method("OwnOnly", requires=self.owns)(lambda user: f"of {user}")
        self.hub.method("Say")(self.say)

    async def authenticate(self, request: Request) -> Principal | None:
        token = request.access_token
        await self.rt.sleep(0)
        self.asked.append(token)  # from here on nothing but what hangs can be cancelled
        if token == "hangs":
            try:
                await self.rt.sleep_forever()
            except self.rt.Cancelled:
                self.cancelled = True
                raise
        if token == "banned":
            raise AccessDenied("told to stay away", known=True)
        if token is None:
            return None
        name, _, seconds = token.partition(":")
        expires_at = time.time() + float(seconds) if seconds else None
        return Principal(name, frozenset({name}), {"token": len(token)}, expires_at)

    async def owns(self, authorization: Authorization) -> bool:
        await self.rt.sleep(0)
        return bool(
            authorization.principal is not None and authorization.arguments[0] == authorization.principal.user_id
        )

    def who_am_i(self, call: Call) -> Any:
        return None if call.principal is None else [call.user, call.principal.claims]

    def say(self, user: str, text: str, call: Call) -> None:
        call.clients.user(user).send("said", text)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_methods_know_who_calls(rt: Runtime) -> None:
    site = Site(rt)
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        async with rt.connect(server.url, headers=bearer("ann")) as client:
            assert await client.invoke("WhoAmI") == ["ann", {"token": 3}]
        async with rt.connect(server.url) as client:
            assert await client.invoke("WhoAmI") is None
    assert site.asked == ["ann", "ann", None, None]  # at the negotiation, and for the WebSocket


async def test_methods_for_some(rt: Runtime) -> None:
    site = Site(rt)
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        async with rt.connect(server.url, headers=bearer("admin")) as admin:
            assert await admin.invoke("AdminOnly") == "secret"
        async with rt.connect(server.url, headers=bearer("ann")) as ann:
            with pytest.raises(HubError, match=f"^{UNAUTHORIZED.format('AdminOnly')}$"):
                await ann.invoke("adminonly")
            assert await ann.invoke("OwnOnly", "ann") == "of ann"
            with pytest.raises(HubError, match=f"^{UNAUTHORIZED.format('OwnOnly')}$"):
                await ann.invoke("OwnOnly", "bob")


async def test_hubs_for_some(rt: Runtime) -> None:
    site = Site(rt, requires=["admin"])
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        async with rt.connect(server.url, headers=bearer("admin")) as admin:
            assert await admin.invoke("AdminOnly") == "secret"
        for headers, status in (({}, "401"), (bearer("ann"), "403"), (bearer("banned"), "403")):
            with pytest.raises(TransportError, match=f"status {status}"):
                async with rt.connect(server.url, headers=headers):
                    raise AssertionError("it was let in")


async def test_users_are_reached_at_all_their_connections(rt: Runtime) -> None:
    site = Site(rt)
    heard: list[str] = []
    async with (
        rt.serve(site.hub, authenticator=site.authenticate) as server,
        rt.connect(server.url, headers=bearer("ann")) as one,
        rt.connect(server.url, headers=bearer("ann")) as two,
        rt.connect(server.url, headers=bearer("bob")) as bob,
    ):
        one.on("said", lambda text: heard.append(f"one {text}"))
        two.on("said", lambda text: heard.append(f"two {text}"))
        bob.on("said", lambda text: heard.append(f"bob {text}"))
        await bob.invoke("Say", "ann", "hi")
        await rt.eventually(lambda: len(heard) == 2)
        await bob.invoke("Say", "bob", "me")
        await rt.eventually(lambda: len(heard) == 3)
    assert sorted(heard) == ["bob me", "one hi", "two hi"]


async def test_a_connection_ends_when_its_principal_expires(rt: Runtime) -> None:
    site = Site(rt, requires=authenticated)
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        async with rt.connect(server.url, headers=bearer("ann:0.3")) as client:
            assert (await client.invoke("WhoAmI"))[0] == "ann"
            clients = server.server.context(site.hub).clients
            await rt.eventually(lambda: not list(clients.all))


async def test_a_client_that_gives_up_cancels_its_authenticator(rt: Runtime) -> None:
    site = Site(rt)
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        with await rt.tcp(server.port) as tcp:
            await tcp.send(b"POST /hub/negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n")
            await tcp.send(b"Authorization: Bearer hangs\r\n\r\n")
            await rt.eventually(lambda: site.asked == ["hangs"])
        await rt.eventually(lambda: site.cancelled)


async def test_an_authenticator_that_fails_tells_nobody_why(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    users: dict[str | None, Principal] = {}

    async def authenticate(request: Request) -> Principal:
        await rt.sleep(0)
        return users[request.access_token]

    async def fine(request: Request) -> Principal:
        return Principal("ann")

    def no_user(principal: Principal) -> str:
        raise LookupError

    hubs = {"/hub": Hub(), "/other": Hub(user_id=no_user)}
    caplog.set_level("DEBUG")
    for authenticator, path in ((authenticate, "/hub"), (fine, "/other")):
        async with rt.serve(hubs, authenticator=authenticator) as server:
            for skip_negotiation in (False, True):  # the server outlives both
                with pytest.raises(TransportError, match="status 500"):
                    async with rt.connect(
                        f"{server.origin}{path}",
                        headers=bearer("s3cr3t"),
                        skip_negotiation=skip_negotiation,
                        transports=[Transport.WEB_SOCKETS],
                    ):
                        raise AssertionError("it was let in")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [
        "the authenticator of the hub at /hub/negotiate failed: KeyError",
        "the authenticator of the hub at /hub failed: KeyError",
        "the principal of the hub at /other failed: LookupError",
        "the principal of the hub at /other failed: LookupError",
    ]
    assert "s3cr3t" not in caplog.text


async def test_a_request_that_hangs_ends_in_time(rt: Runtime) -> None:
    site = Site(rt)
    http = HttpConfig(request_timeout=0.2)
    async with rt.serve(site.hub, authenticator=site.authenticate, http=http) as server, rt.fail_after(5):
        with await rt.tcp(server.port) as tcp:
            await tcp.send(b"GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await tcp.receive()).startswith(b"HTTP/1.1 404 ")
            await tcp.send(b"GET /hub HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer hangs\r\n\r\n")
            assert (await tcp.receive_all()).startswith(b"HTTP/1.1 503 ")
        await rt.eventually(lambda: site.cancelled)


async def test_tokens_never_reach_the_log(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    site = Site(rt, requires=authenticated)
    secret = "s3cr3t"
    async with rt.serve(site.hub, authenticator=site.authenticate) as server:
        async with rt.connect(server.url, headers=bearer(secret)) as client:
            with pytest.raises(HubError):
                await client.invoke("AdminOnly")
        with await rt.tcp(server.port) as tcp:
            await tcp.send(
                f"GET /hub?access_token={secret} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert (await tcp.receive()).startswith(b"HTTP/1.1 101 ")
            tcp.reset()
        with await rt.tcp(server.port) as tcp:
            await tcp.send(f"POST /hub/negotiate?access_token={secret} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert (await tcp.receive()).startswith(b"HTTP/1.1 401 ")
    assert caplog.records
    assert secret not in caplog.text
