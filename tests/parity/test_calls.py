"""Calls and their results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, HubError, LocalProtocolError
from tests.kit.runtimes import Runtime, over_each_transport

pytestmark = over_each_transport


@dataclass
class Point:
    x: float
    y: float
    label: str | None = None


def calls_hub(config: HubConfig | None = None) -> Hub:
    hub = Hub(config)

    @hub.method("Echo")
    def echo(value: Any) -> Any:
        return value

    @hub.method("Add")
    async def add(a: int, b: int) -> int:
        return a + b

    @hub.method("MovePoint")
    async def move_point(point: Point, dx: float, dy: float) -> Point:
        return Point(point.x + dx, point.y + dy, point.label)

    @hub.method("Moment")
    def moment() -> datetime:
        return datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

    @hub.method("Nothing")
    async def nothing() -> None:
        pass

    @hub.method("Throw")
    async def throw() -> None:
        raise ValueError("secret detail")

    @hub.method("ThrowHubError")
    def throw_hub_error() -> None:
        raise HubError("told to the client")

    @hub.method("Unspeakable")
    def unspeakable() -> Any:
        return object()

    @hub.method("WhoAmI")
    def who_am_i(call: Call) -> str:
        return call.connection_id

    return hub


@pytest.mark.parametrize(
    "value",
    ["", "text with \U0001f600 and \x1e", 2**53, -1.5, True, None, [1, ["a", None]], {"a": {"b": []}}],
    ids=["empty text", "text", "int", "float", "bool", "null", "list", "object"],
)
async def test_a_value_comes_back_as_it_was(rt: Runtime, value: Any) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        assert await client.invoke("Echo", value) == value


async def test_methods_are_found_in_any_case(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        assert await client.invoke("aDD", 2, 3) == 5


async def test_typed_arguments_and_results(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        moved = await client.invoke("MovePoint", Point(1, 2, "p"), 10, 20, returns=Point)
        assert moved == Point(11, 22, "p")
        assert await client.invoke("MovePoint", {"x": 1, "y": 2}, 0, 0) == {"x": 1, "y": 2, "label": None}
        assert await client.invoke("Moment", returns=datetime) == datetime(2024, 2, 29, 12, 30, tzinfo=UTC)


async def test_a_void_method_returns_none(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        assert await client.invoke("Nothing") is None


async def test_a_call_without_an_answer_runs(rt: Runtime) -> None:
    hub = Hub()
    received: list[str] = []
    hub.method("Note")(received.append)
    async with rt.serve(hub) as server, rt.connect(server.url) as client:
        for text in "abc":
            await client.send("Note", text)
        await rt.eventually(lambda: received == ["a", "b", "c"])


ERRORS = {
    "an exception": ("Throw", (), "An unexpected error occurred invoking 'Throw' on the server."),
    "a hub error": (
        "ThrowHubError",
        (),
        "An unexpected error occurred invoking 'ThrowHubError' on the server. HubException: told to the client",
    ),
    "no such method": (
        "Missing",
        (),
        "Failed to invoke 'Missing' due to an error on the server. HubException: Method does not exist.",
    ),
    "too few": ("Add", (1,), "Failed to invoke 'Add' due to an error on the server."),
    "too many": ("Add", (1, 2, 3), "Failed to invoke 'Add' due to an error on the server."),
    "wrong type": ("Add", (1, "2"), "Failed to invoke 'Add' due to an error on the server."),
}


@pytest.mark.parametrize(("target", "arguments", "text"), ERRORS.values(), ids=ERRORS)
async def test_a_failed_call_has_the_hubs_text_and_the_connection_lives_on(
    rt: Runtime, target: str, arguments: tuple[Any, ...], text: str
) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError) as caught:
            await client.invoke(target, *arguments)
        assert str(caught.value) == text
        assert await client.invoke("Add", 2, 3) == 5


async def test_detailed_errors_tell_the_exception(rt: Runtime) -> None:
    async with rt.serve(calls_hub(HubConfig(detailed_errors=True))) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError) as caught:
            await client.invoke("Throw")
        assert str(caught.value) == (
            "An unexpected error occurred invoking 'Throw' on the server. ValueError: secret detail"
        )


async def test_a_masked_exception_is_logged_with_its_traceback(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(HubError):
            await client.invoke("Throw")
    (record,) = caplog.records
    assert "'Throw'" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[2] is not None


async def test_a_result_that_cannot_be_encoded_fails_the_call_only(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'Unspeakable' on the server\.$"):
            await client.invoke("Unspeakable")
        assert await client.invoke("Add", 2, 3) == 5


async def test_an_argument_that_cannot_be_encoded_is_not_sent(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        with pytest.raises(LocalProtocolError):
            await client.invoke("Echo", object())
        with pytest.raises(LocalProtocolError):
            await client.send("Echo", object())
        assert await client.invoke("Add", 2, 3) == 5


async def test_a_result_of_another_type_than_asked_for_is_an_error(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        with pytest.raises(Exception, match=r"(?i)int"):
            await client.invoke("Echo", "text", returns=int)


async def test_both_sides_know_the_connection_by_one_id(rt: Runtime) -> None:
    async with rt.serve(calls_hub()) as server, rt.connect(server.url) as client:
        assert client.connection_id is not None
        assert await client.invoke("WhoAmI") == client.connection_id


async def test_two_hubs_on_one_server(rt: Runtime) -> None:
    other = Hub()
    other.method("Name")(lambda: "other")
    async with rt.serve({"/hub": calls_hub(), "/deep/other": other}) as server:
        async with rt.connect(server.url) as client, rt.connect(f"{server.origin}/deep/other") as client_of_other:
            assert await client.invoke("Add", 2, 3) == 5
            assert await client_of_other.invoke("Name") == "other"
            with pytest.raises(HubError, match="Method does not exist"):
                await client_of_other.invoke("Add", 2, 3)
