"""The hub, or code outside of it, calls a method of one client and waits for its result."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, LocalProtocolError, TransportError
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime, over_each_transport

pytestmark = over_each_transport


class AskingHub(Hub):
    """Methods that ask, and what became of them."""

    def __init__(self, rt: Runtime, config: HubConfig | None = None) -> None:
        super().__init__(config)
        self.rt = rt
        self.notes: list[str] = []
        self.method("AskClient")(self.ask_client)
        self.method("AskOther")(self.ask_other)
        self.method("AskInTime")(self.ask_in_time)
        self.method("AskPlainly")(self.ask_plainly)
        self.method("Forget")(self.forget)
        self.method("Improve")(self.improve)
        self.method("Countdown")(self.countdown)
        self.method("Tell")(self.tell)
        self.method("Add")(lambda a, b: a + b)

    async def ask_client(self, question: str, call: Call) -> str:
        self.notes.append("asks")
        try:
            return await call.clients.caller.invoke("AskMe", question, returns=str)
        except self.rt.Cancelled:
            self.notes.append("cancelled")
            raise

    async def ask_other(self, connection_id: str, question: str, call: Call) -> Any:
        return await call.clients.client(connection_id).invoke("AskMe", question)

    async def ask_in_time(self, seconds: float, call: Call) -> str:
        try:
            async with self.rt.fail_after(seconds):
                return await call.clients.caller.invoke("AskMe", "quick", returns=str)
        except TimeoutError:
            return "too late"

    def ask_plainly(self, question: str, call: Call) -> object:
        return call.clients.caller.invoke("AskMe", question)

    def forget(self, call: Call) -> str:
        question = call.clients.caller.invoke("AskMe", "never")
        del question
        return "forgotten"

    async def improve(self, words: AsyncIterator[str], call: Call) -> list[str]:
        return [await call.clients.caller.invoke("AskMe", word, returns=str) async for word in words]

    async def countdown(self, start: int, call: Call) -> AsyncIterator[str]:
        for number in range(start, 0, -1):
            yield await call.clients.caller.invoke("AskMe", str(number))

    def tell(self, text: str, call: Call) -> None:
        call.clients.all.send("told", text)


async def test_answers_come_back(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client:

        @client.on("AskMe")
        async def answer(question: str) -> str:
            await rt.sleep(0)
            return f"answer to {question}"

        assert await client.invoke("AskClient", "q1") == "answer to q1"
        assert await client.invoke("AskPlainly", "q2") == "answer to q2"


async def test_errors_of_the_client_come_back(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client:
        base = "An unexpected error occurred invoking 'AskClient' on the server."
        with pytest.raises(HubError) as caught:
            await client.invoke("AskClient", "nobody there")
        assert str(caught.value) == f"{base} HubException: Client didn't provide a result."

        @client.on("AskMe")
        def answer(question: str) -> str:
            raise ValueError(f"cannot say {question}")

        with pytest.raises(HubError) as caught:
            await client.invoke("AskClient", "it")
        assert str(caught.value) == f"{base} HubException: cannot say it"


async def test_code_outside_of_the_hub_asks_several_clients_side_by_side(rt: Runtime) -> None:
    hub = AskingHub(rt)
    gate = rt.Event()
    answers: list[str] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as a, rt.connect(server.url) as b:
        clients = server.server.context(hub).clients

        async def ask(connection_id: str | None) -> None:
            assert connection_id is not None
            answers.append(await clients.client(connection_id).invoke("AskMe", returns=str))

        @a.on("AskMe")
        async def answer_late() -> str:
            await gate.wait()
            return "a"

        @b.on("AskMe")
        def answer_at_once() -> str:
            gate.set()
            return "b"

        async with rt.tasks() as tasks:
            tasks.start_soon(ask, a.connection_id)
            tasks.start_soon(ask, b.connection_id)
    assert sorted(answers) == ["a", "b"]


async def test_what_invoke_returns_is_a_coroutine_like_any_other(rt: Runtime) -> None:
    hub = AskingHub(rt)
    asked: list[int] = []
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        client.on("AskMe", asked.append)
        assert client.connection_id is not None
        async with rt.tasks() as tasks:
            for number in range(3):
                tasks.start_soon(
                    server.server.context(hub).clients.client(client.connection_id).invoke, "AskMe", number
                )
    assert sorted(asked) == [0, 1, 2]


async def test_results_are_converted(rt: Runtime) -> None:
    hub = AskingHub(rt)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        client.on("AskMe", lambda: ["1", 2])
        assert client.connection_id is not None
        me = server.server.context(hub).clients.client(client.connection_id)
        assert await me.invoke("AskMe") == ["1", 2]
        assert await me.invoke("AskMe", returns=tuple[str, int]) == ("1", 2)
        with pytest.raises(HubError, match="^Error trying to deserialize result to "):
            await me.invoke("AskMe", returns=int)


async def test_clients_ask_each_other_at_once_with_one_slot_each(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as a, rt.connect(server.url) as b:
        results: list[str] = []

        async def ask(asker: Any, other: Any, question: str) -> None:
            results.append(await asker.invoke("AskOther", other.connection_id, question))

        a.on("AskMe", lambda question: f"a: {question}")
        b.on("AskMe", lambda question: f"b: {question}")
        async with rt.tasks() as tasks:
            for number in range(10):
                tasks.start_soon(ask, a, b, f"{number}")
                tasks.start_soon(ask, b, a, f"{number}")
    assert sorted(results) == [f"{name}: {number}" for name in "ab" for number in range(10)]


async def test_a_client_that_is_asked_may_call_the_hub_for_its_answer(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client:

        @client.on("AskMe")
        async def answer(question: str) -> str:
            return f"{question} {await client.invoke('Add', 2, 3)}"

        async with rt.fail_after(10):
            assert await client.invoke("AskClient", "is") == "is 5"


async def test_a_broadcast_reaches_a_client_that_is_being_asked(rt: Runtime) -> None:
    told, gate = rt.Event(), rt.Event()
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client, rt.connect(server.url) as other:
        client.on("told", lambda _text: told.set())

        @client.on("AskMe")
        async def answer(question: str) -> str:
            gate.set()
            await told.wait()
            return question

        async def tell() -> None:
            await gate.wait()
            await other.invoke("Tell", "news")

        async with rt.tasks() as tasks:
            tasks.start_soon(tell)
            assert await client.invoke("AskClient", "q") == "q"


async def test_streams_and_uploads_ask_for_every_item(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client:
        client.on("AskMe", str.upper)
        words = [f"word {number}" for number in range(500)]
        assert await client.invoke("Improve", client.upload(words)) == [word.upper() for word in words]
        async with client.stream("Countdown", 50) as items:
            assert [item async for item in items] == [str(number) for number in range(50, 0, -1)]


async def test_a_client_that_does_not_answer_in_time_is_given_up(rt: Runtime) -> None:
    async with rt.serve(AskingHub(rt)) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "AskInTime", "arguments": [0.05]})
            assert await peer.read() == {"type": 1, "invocationId": "s1", "target": "AskMe", "arguments": ["quick"]}
            assert await peer.read() == {"type": 3, "invocationId": "1", "result": "too late"}
            await peer.send({"type": 3, "invocationId": "s1", "result": "late"})
            await peer.send({"type": 1, "invocationId": "2", "target": "Add", "arguments": [2, 3]})
            assert await peer.read() == {"type": 3, "invocationId": "2", "result": 5}


async def test_a_call_that_waits_can_be_cancelled_by_its_client(rt: Runtime) -> None:
    hub = AskingHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "AskClient", "arguments": ["q"]})
            assert (await peer.read())["invocationId"] == "s1"
            await peer.send({"type": 5, "invocationId": "1"})
            assert await peer.read() == {"type": 3, "invocationId": "1"}
    assert hub.notes == ["asks", "cancelled"]


@pytest.mark.parametrize("farewell", [True, False])
async def test_a_client_that_leaves_ends_the_call_that_asks_it(
    rt: Runtime, farewell: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hub = AskingHub(rt)
    async with rt.serve(hub) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "AskClient", "arguments": ["q"]})
            assert (await peer.read())["invocationId"] == "s1"
            if farewell:
                await peer.send({"type": 7})
                await rt.eventually(lambda: "cancelled" in hub.notes)
        await rt.eventually(lambda: "cancelled" in hub.notes)
    assert hub.notes == ["asks", "cancelled"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_who_asks_another_is_told_that_it_left(rt: Runtime) -> None:
    hub = AskingHub(rt)
    asked: list[str] = []
    async with rt.serve(hub, config=HubConfig(detailed_errors=True)) as server, rt.connect(server.url) as client:
        async with rt.tasks() as tasks, rt.connect(server.url) as other:
            name = other.connection_id
            assert name is not None

            @other.on("AskMe")
            async def answer(question: str) -> None:
                asked.append(question)
                await rt.sleep_forever()

            async def ask() -> None:
                with pytest.raises(HubError, match=f"IOException: Connection '{name}' disconnected"):
                    await client.invoke("AskOther", name, "inside")

            async def ask_from_outside() -> None:
                assert name is not None
                with pytest.raises(TransportError, match=f"^Connection '{name}' disconnected"):
                    await server.server.context(hub).clients.client(name).invoke("AskMe", "outside")

            tasks.start_soon(ask)
            tasks.start_soon(ask_from_outside)
            await rt.eventually(lambda: sorted(asked) == ["inside", "outside"])
        with pytest.raises(HubError, match=f"IOException: Connection '{name}' does not exist"):
            await client.invoke("AskOther", name, "q")


async def test_a_server_that_stops_ends_what_waits(rt: Runtime) -> None:
    hub = AskingHub(rt)
    ended: list[str] = []
    async with rt.serve(hub, config=HubConfig(shutdown_timeout=0.1, close_timeout=0.1)) as server:
        with await Peer.dial(rt, server.port) as peer:
            await peer.send({"type": 1, "invocationId": "1", "target": "AskClient", "arguments": ["q"]})
            assert (await peer.read())["invocationId"] == "s1"
            (name,) = server.server.context(hub).clients._registry.connections

            async def ask() -> None:
                with pytest.raises(TransportError, match="disconnected"):
                    await server.server.context(hub).clients.client(name).invoke("AskMe")
                ended.append("outside")

            async with rt.tasks() as tasks:
                tasks.start_soon(ask)
                assert (await peer.read())["invocationId"] == "s2"
                server.server.close()
                await server.server.wait_closed()
    assert ended == ["outside"]
    assert hub.notes == ["asks", "cancelled"]


async def test_a_server_that_is_dropped_ends_what_waits(rt: Runtime) -> None:
    hub = AskingHub(rt)
    ended: list[str] = []

    class DropError(Exception):
        pass

    async with rt.tasks() as tasks:
        with pytest.raises(DropError):
            async with rt.serve(hub) as server:
                with await Peer.dial(rt, server.port) as peer:
                    await peer.send({"type": 1, "invocationId": "1", "target": "AskClient", "arguments": ["q"]})
                    assert (await peer.read())["invocationId"] == "s1"
                    clients = server.server.context(hub).clients
                    (name,) = clients._registry.connections

                    async def ask() -> None:
                        with pytest.raises(TransportError, match="disconnected"):
                            await clients.client(name).invoke("AskMe")
                        ended.append("outside")

                    tasks.start_soon(ask)
                    assert (await peer.read())["invocationId"] == "s2"
                    raise DropError
    assert ended == ["outside"]
    assert hub.notes == ["asks", "cancelled"]


async def test_on_connected_cannot_ask(rt: Runtime) -> None:
    hub = AskingHub(rt)
    errors: list[Exception] = []

    @hub.on_connected
    async def connected(call: Call) -> None:
        try:
            await call.clients.caller.invoke("AskMe")
        except LocalProtocolError as error:
            errors.append(error)

    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        assert await client.invoke("Add", 2, 3) == 5
    assert [str(error) for error in errors] == ["Client results inside OnConnectedAsync Hub methods are not allowed."]


async def test_a_question_that_nobody_awaits_is_not_asked_and_python_says_so(rt: Runtime) -> None:
    asked: list[object] = []
    async with rt.serve(AskingHub(rt)) as server, rt.connect(server.url) as client:
        client.on("AskMe", asked.append)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert await client.invoke("Forget") == "forgotten"
            gc.collect()
        assert await client.invoke("Add", 2, 3) == 5
    assert "coroutine 'Runner.outcome_of' was never awaited" in [str(warning.message) for warning in caught]
    assert asked == []
