"""Recorded conversations over one connection whose WebSocket is replaced: playing one over real sockets.

The format is in README.md. The reference is given a pause after each step; here a step waits for what it expects, and a
moment longer for what it does not.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from tests.interop._link import LIMIT, Link, Refused

QUIET = 0.05
"""How long (s) a silence must last to show that nothing else comes."""
ACK_LIMIT = 2.5
"""How long (s) an Ack may take: it comes within one second, and the reference's may be as late again."""

Heard = dict[str, Any]


class Negotiation(msgspec.Struct, frozen=True, rename="camel"):
    """What the client asks for, and what the server says of it."""

    use_stateful_reconnect: bool
    answered: bool | None


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """What happens, on the newest socket or `on` another one, and what is received before the next step."""

    negotiate: Negotiation | None = None
    open: int | None = None
    cut: int | None = None
    close_frame: int | None = None
    send: str = ""
    on: int | None = None
    wait: int = 0
    receive: list[Heard] = []

    @property
    def counted(self) -> int:
        """How many messages the client sends that count."""
        return len(re.findall(r'"type":[1-5]\b', self.send))


class Conversation(msgspec.Struct, frozen=True):
    """One line of the file."""

    topic: str
    name: str
    steps: list[Step]
    better: str = ""

    @property
    def is_stateful(self) -> bool:
        """Whether that was agreed on."""
        return any(step.negotiate is not None and step.negotiate.answered for step in self.steps)

    @property
    def ends(self) -> bool:
        """Whether a socket is closed: then it need not come to an Ack."""
        return any("closed" in entry for step in self.steps for entry in step.receive)


def load(path: Path) -> list[Conversation]:
    """The conversations of a file, one a line."""
    return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[Conversation])


class _Player:
    """One connection, and all of its sockets."""

    def __init__(self, base: str, sockets: ExitStack) -> None:
        self._base = base
        self._sockets = sockets
        self._token = ""
        self._links: dict[int, Link] = {}
        self._refused: set[int] = set()
        self._told: set[int] = set()
        self._newest = 0
        self._early: list[Heard] = []

    def perform(self, step: Step) -> list[Heard]:
        """Do what the step does; return what can be said of it at once."""
        if step.negotiate is not None:
            answered = self._negotiate(step.negotiate.use_stateful_reconnect)
            assert answered == step.negotiate.answered, f"negotiated: {answered}"
        if step.open is not None:
            return self._open(step.open)
        if step.cut is not None:
            self._links[step.cut].reset()
            self._told.add(step.cut)
        if step.close_frame is not None:
            self._links[step.close_frame].close()
        if step.send:
            where = self._newest if step.on is None else step.on
            if where in self._refused:
                return [{"sendFailed": True}]
            self._links[where].send(step.send)
        return []

    def hear(self, wanted: list[Heard], at_once: list[Heard], wait: float, acknowledged: list[int]) -> list[Heard]:
        """Return what comes: wait for all that is wanted, then for a silence. Acks are put aside."""
        heard = at_once
        calm = time.monotonic() + wait
        deadline = calm + LIMIT
        while time.monotonic() < deadline:
            before = len(heard)
            for number, link in self._links.items():
                link.until(lambda: False, QUIET)
                for record in link.records:
                    entry = {"socket": number, "text": record.text}
                    ack = _ack(entry)
                    if ack is None:
                        heard.append(entry)
                    else:
                        acknowledged.append(ack)
                link.records.clear()
                if link.closed is not None and number not in self._told:
                    self._told.add(number)
                    heard.append({"socket": number, "closed": link.closed.code})
            if len(heard) >= len(wanted) and len(heard) == before and time.monotonic() >= calm:
                break
        return heard

    def _negotiate(self, stateful: bool) -> bool | None:
        query = "&useStatefulReconnect=true" if stateful else ""
        request = urllib.request.Request(f"{self._base}/hub/negotiate?negotiateVersion=1{query}", method="POST")
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            members = json.load(response)
        self._token = members["connectionToken"]
        answered: bool | None = members.get("useStatefulReconnect")
        return answered

    def _open(self, number: int) -> list[Heard]:
        self._newest = number
        try:
            link = Link(f"{self._base}/hub?id={self._token}")
        except Refused as refused:
            self._refused.add(number)
            return [{"socket": number, "refused": refused.status, "body": refused.body}]
        self._links[number] = self._sockets.enter_context(link)
        return []


def play(conversation: Conversation, base: str) -> list[str]:
    """Play a conversation against the server at `base`; the differences, one a line.

    An Ack comes when its time has come, so it belongs to no step: but the last one that was recorded, or one that says
    more, must have come in the end, and none may say more than there was.
    """
    differences: list[str] = []
    acknowledged = [0]
    with ExitStack() as sockets:
        player = _Player(base, sockets)
        for number, step in enumerate(conversation.steps):
            at_once = player.perform(step)
            wanted = [entry for entry in step.receive if _ack(entry) is None]
            got = player.hear(wanted, at_once, step.wait / 1000, acknowledged)
            if _by_socket(got) != _by_socket(wanted):
                differences.append(f"step {number}: expected {wanted}, got {got}")
        due = 0 if conversation.ends else max(_ack(entry) or 0 for step in conversation.steps for entry in step.receive)
        deadline = time.monotonic() + ACK_LIMIT
        while acknowledged[-1] < due and time.monotonic() < deadline:
            differences += [f"after the last step: {entry}" for entry in player.hear([], [], 0, acknowledged)]
    most = sum(step.counted for step in conversation.steps) if conversation.is_stateful else 0
    if not due <= acknowledged[-1] <= most or acknowledged != sorted(set(acknowledged)):
        differences.append(f"expected an Ack of {due}, and none above {most}, got {acknowledged[1:]}")
    return differences


def _ack(entry: Heard) -> int | None:
    """What is acknowledged, if it is an Ack."""
    found = re.fullmatch(r'{"type":8,"sequenceId":(\d+)}', entry.get("text", ""))
    return None if found is None else int(found[1])


def _by_socket(heard: list[Heard]) -> list[Heard]:
    """The same, in the order of each socket; between two of them there is none."""
    return sorted(heard, key=lambda entry: entry.get("socket", -1))
