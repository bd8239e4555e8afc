"""Objects with the methods of a Protocol, which call those of a client.

The lines with `type: ignore` are tests too: mypy complains where there is nothing to be ignored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pytest

from hubproto_core import (
    Call,
    CallerClients,
    Hub,
    HubConfig,
    HubContext,
    LocalProtocolError,
    Registry,
    one_way,
    wire_name,
)
from hubproto_core._proxies import contract_of
from tests.kit.shell import HubPeer, Shell

P = TypeVar("P")


@dataclass
class Answer:
    text: str


class Greeter(Protocol):
    def hello(self) -> None: ...


class ChatClient(Greeter, Protocol):
    def said(self, who: str, text: str = "nothing", mood: str = ...) -> None:
        """Somebody has said something."""

    def listed(self, *names: str) -> None: ...

    async def ask_me(self, question: str) -> Answer: ...

    def ask_later(self, question: str) -> Awaitable[int]: ...

    def ask_soon(self) -> Coroutine[Any, Any, int]: ...

    async def ask_anything(self): ...  # type: ignore[no-untyped-def]

    @wire_name("Custom!")
    def renamed_by_hand(self) -> None: ...

    def _private(self) -> int: ...


class Recorder:
    """A client, as a selection of one."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def send(self, target: str, /, *arguments: Any) -> None:
        self.calls.append((target, *arguments))

    def invoke(self, target: str, /, *arguments: Any, returns: Any) -> Any:
        self.calls.append((target, *arguments, returns))
        return "to be awaited"


class Crowd:
    """Several clients."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def send(self, target: str, /, *arguments: Any) -> None:
        self.calls.append((target, *arguments))

    def __repr__(self) -> str:
        return "the crowd"


@pytest.mark.parametrize(
    ("call", "recorded"),
    [
        (lambda chat: chat.hello(), ("hello",)),
        (lambda chat: chat.said("ann", "hi", "gay"), ("said", "ann", "hi", "gay")),
        (lambda chat: chat.said("ann", "hi"), ("said", "ann", "hi")),
        (lambda chat: chat.said("ann"), ("said", "ann", "nothing")),
        (lambda chat: chat.said(text="hi", who="ann"), ("said", "ann", "hi")),
        (lambda chat: chat.said("ann", mood="gay"), ("said", "ann", "nothing", "gay")),
        (lambda chat: chat.listed(), ("listed",)),
        (lambda chat: chat.listed("a", "b"), ("listed", "a", "b")),
        (lambda chat: chat.renamed_by_hand(), ("Custom!",)),
        (lambda chat: chat.ask_me("why?"), ("ask_me", "why?", Answer)),
        (lambda chat: chat.ask_me(question="why?"), ("ask_me", "why?", Answer)),
        (lambda chat: chat.ask_later("why?"), ("ask_later", "why?", int)),
        (lambda chat: chat.ask_soon(), ("ask_soon", int)),
        (lambda chat: chat.ask_anything(), ("ask_anything", Any)),
    ],
)
def test_methods_call_those_of_the_client(call: Callable[[ChatClient], Any], recorded: tuple[Any, ...]) -> None:
    target = Recorder()
    result = call(contract_of(ChatClient).proxy(target))
    assert target.calls == [recorded]
    assert result == ("to be awaited" if recorded[0].startswith("ask") else None)


@pytest.mark.parametrize(
    ("rename", "names"),
    [
        (None, ["hello", "ask_me", "Custom!"]),
        ("pascal", ["Hello", "AskMe", "Custom!"]),
        ("camel", ["hello", "askMe", "Custom!"]),
        (str.upper, ["HELLO", "ASK_ME", "Custom!"]),
    ],
)
def test_names_follow_a_policy_but_for_those_given_by_hand(rename: Any, names: list[str]) -> None:
    target = Recorder()
    chat = contract_of(ChatClient, rename).proxy(target)
    chat.hello()
    chat.ask_me("why?")  # type: ignore[unused-coroutine]
    chat.renamed_by_hand()
    assert [name for name, *_ in target.calls] == names


def test_only_one_client_can_be_asked() -> None:
    target = Crowd()
    chat = contract_of(ChatClient).proxy(target)
    chat.hello()
    with pytest.raises(LocalProtocolError, match="^'ask_me' asks for a result: only one client can be asked, not"):
        chat.ask_me("why?")  # type: ignore[unused-coroutine]
    assert target.calls == [("hello",)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda chat: chat.said(), "missing a required argument: 'who'"),
        (lambda chat: chat.said("ann", "hi", "gay", 1), "too many positional arguments"),
        (lambda chat: chat.said("ann", whom="bob"), "unexpected keyword argument 'whom'"),
        (lambda chat: chat.ask_me(), "missing a required argument: 'question'"),
    ],
)
def test_arguments_must_be_as_declared(call: Callable[[ChatClient], Any], error: str) -> None:
    target = Recorder()
    with pytest.raises(TypeError, match=error):
        call(contract_of(ChatClient).proxy(target))
    assert target.calls == []


class TwoDefaults(Protocol):
    def tell(self, a: int = ..., b: int = ...) -> None: ...


def test_what_is_left_out_without_a_value_must_be_last() -> None:
    target = Recorder()
    contract_of(TwoDefaults).proxy(target).tell()
    contract_of(TwoDefaults).proxy(target).tell(1)
    with pytest.raises(TypeError, match="an argument that is left out must be the last one"):
        contract_of(TwoDefaults).proxy(target).tell(b=1)
    assert target.calls == [("tell",), ("tell", 1)]


class Attribute(Protocol):
    name: str


class Property(Protocol):
    @property
    def name(self) -> str: ...


class Static(Protocol):
    @staticmethod
    def tell() -> None: ...


class NoSelf(Protocol):
    def tell() -> None: ...  # type: ignore[misc]


class ByName(Protocol):
    def tell(self, *, text: str) -> None: ...


class Rest(Protocol):
    def tell(self, **texts: str) -> None: ...


class Result(Protocol):
    def ask(self) -> int: ...


class Impossible(Protocol):
    async def ask(self) -> list[int] | set[int]: ...


class OneWay(Protocol):
    @one_way
    async def tell(self) -> None: ...


class Unresolved(Protocol):
    def tell(self, who: Nobody) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        (OneWay, "OneWay.tell is one_way: what clients are told is declared with a plain `def`"),
        (Unresolved, "Unresolved.tell: an annotation cannot be resolved: name 'Nobody' is not defined"),
        (dict, "<class 'dict'> is no typing.Protocol"),
        (Attribute, "Attribute.name: only methods can be called over the wire"),
        (Property, "Property.name: only methods can be called over the wire"),
        (Static, "Static.tell: only methods can be called over the wire"),
        (NoSelf, "NoSelf.tell lacks `self`"),
        (ByName, "ByName.tell: arguments travel by position, as text: str cannot"),
        (Rest, r"Rest.tell: arguments travel by position, as \*\*texts: str cannot"),
        (Result, "Result.ask returns a result, and so must be declared with `async def`"),
        (Impossible, "Type unions may not contain more than one array-like"),
    ],
)
def test_what_cannot_be_called_is_refused_at_once(protocol: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        contract_of(protocol)


def test_what_is_not_declared_is_not_there() -> None:
    chat = contract_of(ChatClient).proxy(Crowd())
    with pytest.raises(AttributeError, match="'ChatClient' object has no attribute 'sad'"):
        chat.sad  # type: ignore[attr-defined]  # noqa: B018 - it is there to fail
    with pytest.raises(AttributeError):
        chat._private()
    assert repr(chat) == "<ChatClient for the crowd>"
    assert chat.said.__doc__ == "Somebody has said something."
    assert contract_of(ChatClient) is contract_of(ChatClient)


# --- selectors -------------------------------------------------------------------------------------------------------


class Room:
    def __init__(self, config: HubConfig | None = None) -> None:
        self.registry, self.shell = Registry(), Shell()
        hub = Hub(config)
        self.peers = [HubPeer(hub, name=name, registry=self.registry, shell=self.shell) for name in ("a", "b")]
        self.clients = CallerClients(self.registry, "a")

    def heard(self) -> list[list[Any]]:
        return [[[message["target"], *message["arguments"]] for message in peer.hear()] for peer in self.peers]


def test_selectors_give_typed_objects() -> None:
    room = Room()
    chat = room.clients.typed(ChatClient)
    chat.all.said("ann", "hi")
    chat.others.hello()
    chat.caller.said("ann")
    chat.others_in_group("nobody").hello()
    assert room.heard() == [[["said", "ann", "hi"], ["said", "ann", "nothing"]], [["said", "ann", "hi"], ["hello"]]]
    with pytest.raises(LocalProtocolError, match="only one client can be asked"):
        chat.all.ask_me("why?")  # type: ignore[unused-coroutine]


def test_a_client_is_asked_by_a_method() -> None:
    hub = Hub()
    got: list[Answer] = []

    @hub.method("Ask")
    async def ask(call: Call) -> None:
        got.append(await call.clients.typed(ChatClient, rename="pascal").caller.ask_me("why?"))

    peer = HubPeer(hub)
    peer.say({"type": 1, "target": "Ask", "arguments": []})
    call = peer.shell.find("Ask")
    peer.shell.step(call)
    (asked,) = peer.hear()
    assert (asked["target"], asked["arguments"]) == ("AskMe", ["why?"])
    peer.say({"type": 3, "invocationId": asked["invocationId"], "result": {"text": "because"}})
    peer.shell.step(call)
    assert got == [Answer("because")]


def test_typed_calls_can_be_coalesced() -> None:
    room = Room(HubConfig(send_buffer=10))
    chat = room.clients.typed(ChatClient)
    chat.coalesce("key").all.said("ann", "1")
    for text in ("2", "3"):
        chat.coalesce("key").all.said("ann", text)
        chat.coalesce("other").caller.said("bob", text)
    said, last = ["said", "ann", "1"], ["said", "ann", "3"]
    assert room.heard() == [[said, last, ["said", "bob", "3"]], [said, last]]
    outside = HubContext(room.registry).clients.typed(ChatClient, rename="pascal")
    outside.coalesce("key").client("b").said("ann", "1")
    for text in ("2", "3"):
        outside.coalesce("key").client("b").said("ann", text)
    outside.client("a").hello()
    assert room.heard() == [[["Hello"]], [["Said", "ann", "1"], ["Said", "ann", "3"]]]


async def wrong_calls(clients: CallerClients) -> None:
    """Never run: each line is a mistake that the type checker reports."""
    chat = clients.typed(ChatClient)
    chat.all.sad("ann", "hi")  # type: ignore[attr-defined]
    chat.all.said(1, "hi")  # type: ignore[arg-type]
    chat.all.said("ann", "hi", "gay", "much")  # type: ignore[call-arg]
    chat.caller.said(whom="ann")  # type: ignore[call-arg]
    chat.client("id").ask_me(1)  # type: ignore[arg-type, unused-coroutine]
    text: str = await chat.client("id").ask_me("why?")  # type: ignore[assignment]
    number: int = await chat.caller.ask_later("why?")
    chat.nobody.hello()  # type: ignore[attr-defined]
    chat.coalesce("key").others.said(2)  # type: ignore[arg-type]
    print(text, number)
