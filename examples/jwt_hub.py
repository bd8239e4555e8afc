"""A hub for those who bring a signed token (JWT), on asyncio: `HUB_KEY=... python examples/jwt_hub.py [PORT]`.

Needs PyJWT beside hubproto-asyncio. On trio only the import and the last lines differ.
"""

from __future__ import annotations

import asyncio
import os
import sys

import jwt

from hubproto_asyncio import AccessDenied, Call, Hub, Principal, Request, authenticated, serve

chat = Hub(requires=authenticated)  # without a token: 401


@chat.method("Say")
def say(text: str, call: Call) -> None:
    """Tell everybody, and who said it."""
    call.clients.all.send("said", call.user, text)


@chat.method("Warn", requires=["admin"])
def warn(user: str, call: Call) -> None:
    """Tell all connections of one user; only an admin may."""
    call.clients.user(user).send("warned", f"by {call.user}")


class TokenAuthenticator:
    """Accepts tokens signed with a key that both sides know (HS256)."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def __call__(self, request: Request) -> Principal | None:
        """Return whose token it is. An `async def`, so that keys may be fetched here, or a user looked up."""
        if request.access_token is None:
            return None
        try:
            claims = jwt.decode(
                request.access_token, self._key, algorithms=["HS256"], options={"require": ["exp", "sub"]}
            )
        except jwt.InvalidTokenError as error:
            raise AccessDenied(str(error)) from error
        return Principal(claims["sub"], frozenset(claims.get("roles", ())), claims, expires_at=claims["exp"])


async def main() -> None:
    """Serve until interrupted."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    async with serve(chat, "/chat", port=port, authenticator=TokenAuthenticator(os.environ["HUB_KEY"])) as server:
        print(f"listening on http://127.0.0.1:{server.port}/chat", flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
