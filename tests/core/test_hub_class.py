"""Classes that are hubs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from hubproto_core import Call, Hub, HubConfig, hub_method, on_connected, on_disconnected
from tests.kit.shell import HubPeer


class Chat(Hub):
    def __init__(self, greeting: str = "Hello") -> None:
        super().__init__(HubConfig(max_parallel_calls=2))
        self.greeting = greeting
        self.seen: list[Any] = []

    @hub_method("Greet")
    @hub_method("Welcome", cancellable=False)
    def greet(self, name: str = "you") -> str:
        return self.text(name)

    @hub_method()
    async def count(self, to: int) -> AsyncIterator[int]:
        yield to

    @hub_method("Point")
    def point(self, point: Point) -> Point:  # a reference forward
        return point

    @staticmethod
    @hub_method("Add")
    def add(x: int, y: int) -> int:
        return x + y

    @classmethod
    @hub_method("Kind")
    def kind(cls) -> str:
        return cls.__name__

    @on_connected
    def arrived(self, call: Call) -> None:
        self.seen.append(call.connection_id)

    @on_disconnected
    def left(self, call: Call, error: Exception | None) -> None:
        self.seen.append(error)

    def text(self, name: str) -> str:
        return f"{self.greeting}, {name}"


@dataclass
class Point:
    pass


class Loud(Chat):
    def text(self, name: str) -> str:
        return super().text(name).upper()

    def greet(self, name: str = "all") -> str:
        return f"{super().greet(name)}!"

    @hub_method("HowMany")
    async def count(self, to: int) -> AsyncIterator[int]:
        yield to + 1

    def left(self, call: Call, error: Exception | None) -> None:
        self.seen.append("left")


class Room(Hub):
    @hub_method("Enter")
    def enter(self) -> str:
        return "entered"

    @hub_method("Lock", requires=["admin"])
    def lock(self) -> None:
        raise NotImplementedError

    @hub_method("Watch", coalesce=True)
    async def watch(self) -> AsyncIterator[int]:
        yield 1


class LoudRoom(Loud, Room):
    pass


def invoke(target: str, *arguments: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments)}


def result(hub: Hub, target: str, *arguments: Any) -> Any:
    (answer,) = HubPeer(hub).ask(invoke(target, *arguments))
    assert answer.keys() == {"type", "invocationId", "result"}, answer
    return answer["result"]


def test_marked_methods_belong_to_each_instance() -> None:
    assert result(Chat(), "Greet", "World") == "Hello, World"
    assert result(Chat("Hi"), "welcome") == "Hi, you"
    assert result(Chat(), "Add", 2, 3) == 5
    assert result(Chat(), "Kind") == "Chat"
    assert Chat().config.max_parallel_calls == 2
    assert Chat().lookup("count").signature.is_stream
    assert Chat().lookup("point").signature.arguments.type == tuple[Point]
    assert [Chat().lookup(name).cancellable for name in ("greet", "welcome")] == [True, False]


@pytest.mark.parametrize("target", ["text", "arrived", "left", "lookup", "method", "describe", "add_filter"])
def test_nothing_else_can_be_called(target: str) -> None:
    (answer,) = HubPeer(Chat()).ask(invoke(target))
    assert answer["error"].endswith("HubException: Method does not exist.")


def test_marked_hooks_run() -> None:
    hub = Chat()
    peer = HubPeer(hub)
    peer.say({"type": 7})
    assert hub.seen == ["c1", None]


def test_what_is_overridden_stays_what_it_was() -> None:
    hub = Loud()
    assert result(hub, "Greet") == "HELLO, ALL!"
    assert result(hub, "Welcome", "you") == "HELLO, YOU!"
    peer = HubPeer(hub)
    peer.say({"type": 7})
    assert hub.seen[-2:] == ["c1", "left"]


def test_a_new_mark_is_instead_of_the_old_one() -> None:
    assert Loud().describe()["methods"].keys() == {"Greet", "Welcome", "HowMany", "Point", "Add", "Kind"}


def test_classes_can_be_combined() -> None:
    assert result(LoudRoom(), "Enter") == "entered"
    assert result(LoudRoom(), "Greet") == "HELLO, ALL!"


def test_a_mark_says_who_may_call_and_how_items_are_sent() -> None:
    assert Room().lookup("Watch").coalesces
    assert not Room().lookup("Enter").coalesces
    (answer,) = HubPeer(Room()).ask(invoke("Lock"))
    assert answer["error"] == "Failed to invoke 'Lock' because user is unauthorized"


def test_an_instance_takes_further_methods() -> None:
    hub = Chat()
    hub.method("Twice")(lambda x: x * 2)
    assert result(hub, "Twice", 4) == 8
    with pytest.raises(TypeError, match=r"Duplicate definitions of 'greet'.*It is tests.*\.Chat\.greet already"):
        hub.method("greet")(lambda: None)


class Described(Hub):
    @hub_method("Describe")
    def describe(self) -> str:  # type: ignore[override]
        raise NotImplementedError


class Configured(Hub):
    @hub_method("Config")
    def config(self) -> str:  # type: ignore[override]
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Described, Configured])
def test_methods_do_not_hide_what_a_hub_has(kind: type[Hub]) -> None:
    with pytest.raises(TypeError, match=f"^{kind.__name__}.* hides what every Hub has: give it another name"):
        kind()


class Broken(Hub):
    @hub_method("Broken")
    def broken(self, items: AsyncIterator[int] | None) -> None: ...


def test_mistakes_are_told_when_an_instance_is_made() -> None:
    with pytest.raises(TypeError, match="^'Broken': in 'items"):
        Broken()


def test_marks_are_put_right() -> None:
    with pytest.raises(TypeError, match=r"write @hub_method\(\) above <function"):
        hub_method(result)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put @staticmethod above the decorator"):
        hub_method("Name")(staticmethod(result))
    with pytest.raises(TypeError, match="put @classmethod above the decorator"):
        on_connected(vars(Chat)["kind"])
