"""A hub at /hubs/chat in a FastAPI application: `uvicorn examples.fastapi_hub:app`, or hypercorn in its place.

Needs FastAPI and one of the two servers beside hubproto-asyncio. On trio (`hypercorn -k trio`) only the import differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from hubproto_asyncio import Call, Hub, HubApp

chat = Hub()


@chat.method("Say")
def say(text: str, call: Call) -> None:
    """Tell everybody."""
    call.clients.all.send("said", call.connection_id, text)


hubs = HubApp(chat, "/chat")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve the hub as long as the application lives; mounted applications do not hear of that by themselves."""
    async with hubs.running():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/hubs", hubs)


@app.post("/announcements")
async def announce(text: str) -> int:
    """Tell everybody on behalf of the house; returns how many connections there are."""
    context = hubs.context(chat)
    context.clients.all.send("said", "the house", text)
    return len(context.connections)
