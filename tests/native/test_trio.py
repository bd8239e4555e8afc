"""What is trio's own: cancel scopes and nurseries."""

from __future__ import annotations

import pytest
import trio

from hubproto_core import Call, Hub, TransportError
from hubproto_trio import HubApp, connect, serve
from tests.kit.asgi import Host
from tests.kit.peer import Peer
from tests.kit.runtimes import Runtime, runtimes


@pytest.fixture(params=runtimes("trio"), ids=str)
def rt(request: pytest.FixtureRequest) -> Runtime:
    runtime: Runtime = request.param
    return runtime


class TornError(BaseException):
    """No Exception: nothing that is meant to be survived."""


def native_hub() -> Hub:
    hub = Hub()
    hub.method("Add")(lambda a, b: a + b)
    hub.method("Slow")(trio.sleep_forever)

    @hub.method("Call")
    def call_back(call: Call) -> None:
        call.clients.caller.send("back")

    @hub.method("Tear")
    async def tear() -> None:
        raise TornError

    return hub


async def test_connecting_inside_a_cancelled_scope_is_cancelled(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with connect(server.url):
                pytest.fail("it was cancelled before")
        assert scope.cancelled_caught


async def test_calling_inside_a_cancelled_scope_is_cancelled(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server, connect(server.url) as hub:
        with trio.CancelScope() as scope:
            scope.cancel()
            await hub.invoke("Slow")
        assert scope.cancelled_caught
        async with hub.stream("Missing") as items:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(items)
            assert scope.cancelled_caught
        assert await hub.invoke("Add", 2, 3) == 5


async def test_move_on_after_and_fail_after_end_a_call(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server, connect(server.url) as hub:
        with trio.move_on_after(0.02) as scope:
            await hub.invoke("Slow")
        assert scope.cancelled_caught
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.02):
                await hub.invoke("Slow")
        assert await hub.invoke("Add", 2, 3) == 5


async def test_a_shielded_call_survives_a_cancelled_scope(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server, connect(server.url) as hub:
        with trio.CancelScope() as outer:
            outer.cancel()
            with trio.CancelScope(shield=True):
                assert await hub.invoke("Add", 2, 3) == 5


async def test_an_exception_raised_while_cancelled_comes_out_as_it_is(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server:
        with pytest.raises(KeyError, match="mine"):
            with trio.CancelScope() as scope:
                async with connect(server.url) as hub:
                    scope.cancel()
                    try:
                        await hub.invoke("Slow")
                    finally:
                        raise KeyError("mine")


async def test_an_exception_beside_a_failing_sibling_comes_out_in_the_users_group_only(rt: Runtime) -> None:
    async def fail() -> None:
        raise ValueError("sibling")

    async with rt.serve(native_hub()) as server:
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery, connect(server.url) as hub:
                nursery.start_soon(fail)
                await hub.invoke("Slow")
        assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_calls_in_a_nursery(rt: Runtime) -> None:
    results: list[int] = []
    async with rt.serve(native_hub()) as server, connect(server.url) as hub:

        async def add(number: int) -> None:
            results.append(await hub.invoke("Add", number, 1))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(add, number)
    assert sorted(results) == list(range(1, 11))


async def test_calls_from_within_a_handler_share_its_scope(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server, connect(server.url) as hub:
        outcome: list[bool] = []
        done = trio.Event()

        @hub.on("back")
        async def back() -> None:
            with trio.move_on_after(0.02) as scope:
                await hub.invoke("Slow")
            outcome.append(scope.cancelled_caught)
            done.set()

        await hub.invoke("Call")
        await done.wait()
        assert outcome == [True]


async def test_a_base_exception_of_a_method_tears_the_servers_nursery_down(rt: Runtime) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, native_hub(), "/hub")
            with await Peer.dial(rt, server.port) as peer:
                await peer.send({"type": 1, "invocationId": "1", "target": "Tear", "arguments": []})
                await peer.read_until_closed()
                await trio.sleep_forever()
    assert caught.group_contains(TornError)


async def test_a_base_exception_of_a_clients_handler_tears_the_connection_down(rt: Runtime) -> None:
    async with rt.serve(native_hub()) as server:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with connect(server.url) as hub:

                @hub.on("back")
                async def back() -> None:
                    raise TornError

                await hub.invoke("Call")
                await trio.sleep_forever()
        assert caught.group_contains(TornError)


async def test_serve_returns_when_it_is_closed_and_when_it_is_cancelled(rt: Runtime) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, native_hub(), "/hub")
        server.close()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, native_hub(), "/hub")
        nursery.cancel_scope.cancel()
    with pytest.raises(TransportError):
        async with connect(f"http://127.0.0.1:{server.port}/hub"):
            pass


async def test_an_application_that_is_not_running_says_how_it_would_be(rt: Runtime) -> None:
    async with Host.of(rt, HubApp(native_hub()), "websocket", "/") as client:
        await client.end()
        assert isinstance(client.raised, RuntimeError)
        assert "that one's lifespan must contain `async with hub_app.running():`" in str(client.raised)


async def test_a_socket_that_the_server_writes_to_at_the_same_time_is_lost(rt: Runtime) -> None:
    hub = native_hub()
    ends: list[str] = []
    hub.on_disconnected(lambda error: ends.append(str(error)))
    app = HubApp(hub)
    async with app.running():
        async with Host.websocket(rt, app) as client:
            client.failure = trio.BusyResourceError("another task is sending")
            client.write({"type": 1, "invocationId": "1", "target": "Add", "arguments": [1, 2]})
            await client.end()
            assert client.raised is None
        await rt.eventually(lambda: ends == ["the connection was lost: another task is sending"])
