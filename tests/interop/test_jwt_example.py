"""The example with JSON Web Tokens: who is let in, who is not, and what they may do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest

from examples.jwt_hub import TokenAuthenticator, chat
from hubproto_asyncio import HubError, HubProtoError, TransportError, connect, serve

KEY = "a key of at least thirty-two bytes, as HS256 wants it"


def token(user: str, *roles: str, key: str = KEY, seconds: float = 60, **more: Any) -> str:
    return jwt.encode({"sub": user, "roles": roles, "exp": time.time() + seconds, **more}, key, algorithm="HS256")


def test_who_is_let_in_and_what_they_may_do() -> None:
    async def main() -> None:
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        async with (
            serve(chat, "/chat", authenticator=TokenAuthenticator(KEY)) as server,
            connect(f"http://127.0.0.1:{server.port}/chat", access_token=token("ann")) as ann,
            connect(f"http://127.0.0.1:{server.port}/chat", access_token=token("root", "admin")) as root,
        ):
            ann.on("said", lambda who, text: heard.put_nowait((who, text)))
            ann.on("warned", lambda text: heard.put_nowait(("warned", text)))
            await root.invoke("Say", "hello")
            assert await heard.get() == ("root", "hello")
            await root.invoke("Warn", "ann")
            assert await heard.get() == ("warned", "by root")
            with pytest.raises(HubError, match=r"^Failed to invoke 'Warn' because user is unauthorized$"):
                await ann.invoke("Warn", "root")

    asyncio.run(main())


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "no token at all",
        token("ann", key="another key that is long enough for HS256 too"),
        token("ann", seconds=-1),
        jwt.encode({"sub": "ann"}, KEY, algorithm="HS256"),
        jwt.encode({"sub": "ann", "exp": time.time() + 60}, "", algorithm="none"),
    ],
    ids=["none", "nonsense", "another key", "expired", "without an end", "unsigned"],
)
def test_who_is_not_let_in(bad: str | None) -> None:
    async def main() -> None:
        async with serve(chat, "/chat", authenticator=TokenAuthenticator(KEY)) as server:
            with pytest.raises(TransportError, match="status 401"):
                async with connect(f"http://127.0.0.1:{server.port}/chat", access_token=bad):
                    raise AssertionError("it was let in")

    asyncio.run(main())


def test_a_connection_lives_as_long_as_its_token() -> None:
    async def main() -> None:
        async with serve(chat, "/chat", authenticator=TokenAuthenticator(KEY)) as server:
            url = f"http://127.0.0.1:{server.port}/chat"
            async with connect(url, access_token=token("ann", seconds=2)) as client, asyncio.timeout(10):
                with pytest.raises(HubProtoError):
                    while True:
                        await client.invoke("Say", "still here")

    asyncio.run(main())
