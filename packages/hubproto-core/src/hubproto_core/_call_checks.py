"""What stands between a call that has been decoded and its start: who may call, and how (SPEC 3.4, 3.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._auth import Authorization, Policy, is_plain
from ._hub import Method
from ._messages import Invocation, StreamInvocation
from ._running import CallOwner, RunningCall
from ._signature import Signature

__all__ = ["Check", "misuse"]


class Check:
    """A call that waits for a policy to decide about it."""

    __slots__ = ("event", "method")

    signature = Signature.of(lambda authorization: authorization, "policy")

    def __init__(self, method: Method, event: Invocation | StreamInvocation) -> None:
        self.method: Method = method
        self.event: Invocation | StreamInvocation = event

    def asks(self, policy: Policy, session: CallOwner, principal: Any, connection_id: str) -> RunningCall:
        """Return the question to the policy, to be run like a call; its result says whether this one may begin."""
        arguments = self.method.signature.completed(self.event.arguments)
        return RunningCall(
            session,
            policy,
            (Authorization(principal, self.method.name, arguments, connection_id),),
            invocation_id=None,
            label=self.method.name,
            origin=self,
            inline=is_plain(policy),
        )

    @property
    def denial(self) -> str:
        """What the client is told if the policy does not let it."""
        return f"Failed to invoke '{self.method.name}' because user is unauthorized"


def misuse(method: Method, event: Invocation | StreamInvocation, running: Iterable[RunningCall]) -> str | None:
    """Return what is wrong with the way in which a client calls a method that it may call, in the reference's words.

    `running` is what runs for the same client: the id of one of its streams cannot stand for another.
    """
    signature = method.signature
    if isinstance(event, Invocation):
        if signature.is_stream:
            return (
                f"The client attempted to invoke the streaming '{method.name}' method with a non-streaming invocation."
            )
    elif not signature.is_stream:
        return f"The client attempted to invoke the non-streaming '{method.name}' method with a streaming invocation."
    sent, expected = len(event.stream_ids or ()), len(signature.streams)
    if sent != expected:
        return (
            f"An unexpected error occurred invoking '{method.name}' on the server. HubException: "
            f"Client sent {sent} stream(s), Hub method expects {expected}."
        )
    if isinstance(event, StreamInvocation):
        for call in running:
            if call.streams and call.invocation_id == event.invocation_id:
                return f"Invocation ID '{event.invocation_id}' is already in use."
    return None
