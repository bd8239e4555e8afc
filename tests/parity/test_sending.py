"""What a hub sends to its clients, and what it knows about the caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from hubproto_core import Call, Hub, TransportError
from tests.kit.runtimes import Connection, Runtime, Served


def sending_hub() -> Hub:
    hub = Hub()

    @hub.method("All")
    def send_all(text: str, call: Call) -> None:
        call.clients.all.send("note", text)

    @hub.method("Others")
    def send_others(text: str, call: Call) -> None:
        call.clients.others.send("note", text)

    @hub.method("Caller")
    def send_caller(text: str, call: Call) -> None:
        call.clients.caller.send("note", text)

    @hub.method("Client")
    def send_client(connection_id: str, text: str, call: Call) -> None:
        call.clients.client(connection_id).send("note", text)

    @hub.method("Join")
    def join(group: str, call: Call) -> None:
        call.groups.add(group)

    @hub.method("Leave")
    def leave(group: str, call: Call) -> None:
        call.groups.remove(group)

    @hub.method("Group")
    def send_group(group: str, text: str, call: Call) -> None:
        call.clients.group(group).send("note", text)

    @hub.method("OthersInGroup")
    def send_others_in_group(group: str, text: str, call: Call) -> None:
        call.clients.others_in_group(group).send("note", text)

    @hub.method("Remember")
    def remember(key: str, value: int, call: Call) -> None:
        call.items[key] = value

    @hub.method("Recall")
    def recall(key: str, call: Call) -> int | None:
        value: int | None = call.items.get(key)
        return value

    @hub.method("WhoAmI")
    def who_am_i(call: Call) -> dict[str, str | None]:
        return {
            "id": call.connection_id,
            "lab": call.connection.headers.get("x-lab"),
            "auth": call.connection.headers.get("authorization"),
            "room": call.connection.query.get("room"),
            "transport": call.connection.transport,
        }

    @hub.method("Abort")
    def abort(call: Call) -> None:
        call.abort()

    return hub


class Audience:
    """Three clients a, b and c, and what each was told."""

    def __init__(self, clients: list[Connection]) -> None:
        self.a, self.b, self.c = self.clients = clients
        self.told: list[list[str]] = [[], [], []]
        for client, told in zip(clients, self.told, strict=True):
            client.on("note", told.append)

    async def hear(self) -> list[str]:
        """What was told until now, by client."""
        for client in self.clients:  # who is answered has been told all that was sent before
            await client.invoke("Recall", "nothing")
        heard = ["".join(told) for told in self.told]
        for told in self.told:
            told.clear()
        return heard


@asynccontextmanager
async def audience(rt: Runtime, server: Served) -> AsyncIterator[Audience]:
    async with AsyncExitStack() as stack:
        yield Audience([await stack.enter_async_context(rt.connect(server.url)) for _ in range(3)])


async def test_all_others_caller_and_one_client(rt: Runtime) -> None:
    async with rt.serve(sending_hub()) as server, audience(rt, server) as people:
        await people.a.invoke("All", "x")
        assert await people.hear() == ["x", "x", "x"]
        await people.a.invoke("Others", "x")
        assert await people.hear() == ["", "x", "x"]
        await people.a.invoke("Caller", "x")
        assert await people.hear() == ["x", "", ""]
        await people.a.invoke("Client", people.c.connection_id, "x")
        assert await people.hear() == ["", "", "x"]
        await people.a.invoke("Client", "nobody", "x")
        assert await people.hear() == ["", "", ""]


async def test_groups(rt: Runtime) -> None:
    async with rt.serve(sending_hub()) as server, audience(rt, server) as people:
        await people.a.invoke("Join", "room")
        await people.b.invoke("Join", "room")
        await people.c.invoke("Group", "room", "x")
        assert await people.hear() == ["x", "x", ""]
        await people.a.invoke("OthersInGroup", "room", "x")
        assert await people.hear() == ["", "x", ""]
        await people.b.invoke("Leave", "room")
        await people.c.invoke("Group", "room", "x")
        assert await people.hear() == ["x", "", ""]
        await people.c.invoke("Group", "empty", "x")
        assert await people.hear() == ["", "", ""]


async def test_who_has_left_is_told_nothing(rt: Runtime) -> None:
    hub = sending_hub()
    async with rt.serve(hub) as server, audience(rt, server) as people:
        async with rt.connect(server.url) as guest:
            await guest.invoke("Join", "room")
        await people.a.invoke("Group", "room", "x")
        await people.a.invoke("All", "y")
        assert await people.hear() == ["y", "y", "y"]


async def test_messages_of_one_sender_stay_in_order(rt: Runtime) -> None:
    async with rt.serve(sending_hub()) as server, audience(rt, server) as people:
        texts = [f"{number}," for number in range(200)]
        for text in texts:
            await people.a.send("All", text)
        await people.a.invoke("Recall", "nothing")
        assert await people.hear() == ["".join(texts)] * 3


async def test_the_server_sends_from_outside_of_any_call(rt: Runtime) -> None:
    hub = sending_hub()
    async with rt.serve(hub) as server, audience(rt, server) as people:
        clients = server.server.context(hub).clients
        clients.all.send("note", "x")
        assert people.b.connection_id is not None
        clients.all_except(people.b.connection_id).send("note", "y")
        assert await people.hear() == ["xy", "x", "xy"]
        with pytest.raises(KeyError):
            server.server.context(Hub())


async def test_items_belong_to_one_connection(rt: Runtime) -> None:
    async with rt.serve(sending_hub()) as server, rt.connect(server.url) as a, rt.connect(server.url) as b:
        await a.invoke("Remember", "key", 1)
        await b.invoke("Remember", "key", 2)
        assert await a.invoke("Recall", "key") == 1
        assert await b.invoke("Recall", "key") == 2
        assert await b.invoke("Recall", "other") is None


@pytest.mark.parametrize("skip_negotiation", [False, True])
async def test_a_method_sees_the_request_that_opened_the_connection(rt: Runtime, skip_negotiation: bool) -> None:
    async with rt.serve(sending_hub()) as server:
        async with rt.connect(
            f"{server.url}?room=blue%20one",
            headers={"X-Lab": "hello"},
            access_token="token-ann",
            skip_negotiation=skip_negotiation,
        ) as client:
            seen = await client.invoke("WhoAmI")
            identity = seen.pop("id")
            assert identity
            assert client.connection_id == (None if skip_negotiation else identity)
    assert client.connection_id is None
    assert seen == {"lab": "hello", "auth": "Bearer token-ann", "room": "blue one", "transport": "WebSockets"}


async def test_abort_ends_the_callers_connection_and_no_other(rt: Runtime) -> None:
    async with rt.serve(sending_hub()) as server, rt.connect(server.url) as other:
        async with rt.connect(server.url) as client:
            with pytest.raises(TransportError):
                await client.invoke("Abort")
            with pytest.raises(TransportError):
                await client.invoke("Recall", "key")
        assert await other.invoke("Recall", "key") is None
