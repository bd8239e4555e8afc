"""Who somebody is, and what somebody may call: principals, requirements, policies (SPEC 3.4, 3.6)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Authorization", "Policy", "Principal", "Requirement", "authenticated", "policy_of", "user_id_of"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has proved who they are: what an authenticator returns, unless it returns an object of its own.

    Of an object of its own the same attributes count, as far as it has them.
    """

    user_id: str | None = None
    """Whose connections `Clients.user` reaches."""

    roles: frozenset[str] = field(default_factory=frozenset)
    """What role lists are about. Names are compared exactly."""

    claims: Any = None
    """Whatever else is known, for example the claims of a token."""

    expires_at: float | None = None
    """When the connection is closed, in seconds of Unix time (the `exp` of a token); None: never."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a policy decides about: may this principal come in, or call this method with these arguments?"""

    principal: Any
    """What the authenticator returned; None for somebody unknown."""

    method: str | None = None
    """The method's name; None when it is about the hub as a whole."""

    arguments: Sequence[Any] = ()
    """The arguments of the call, as they are bound to the method's annotations."""

    connection_id: str | None = None
    """The connection that calls; None when it is about the hub as a whole."""


Policy = Callable[[Authorization], "bool | Awaitable[bool]"]
"""Decides; a plain function or an `async def` one."""

Requirement = Policy | Iterable[str]
"""A policy, or the names of roles of which any one suffices."""


def authenticated(authorization: Authorization) -> bool:
    """Let everybody in who is known at all: `Hub(requires=authenticated)`."""
    return authorization.principal is not None


class _AnyRole:
    """The policy of a list of roles."""

    __slots__ = ("_roles",)

    def __init__(self, roles: Iterable[str]) -> None:
        self._roles = frozenset(roles)

    def __call__(self, authorization: Authorization) -> bool:
        return not self._roles.isdisjoint(getattr(authorization.principal, "roles", ()))


def policy_of(requirement: Requirement | None) -> Policy | None:
    """Return the policy that a requirement means. Raises TypeError for what is none."""
    if requirement is None or callable(requirement):
        return requirement
    roles = [requirement] if isinstance(requirement, str) else list(requirement)
    if not roles:
        raise TypeError("an empty list of roles lets nobody in; `requires=authenticated` lets in whoever is known")
    return _AnyRole(roles)


def is_plain(policy: Callable[..., Any]) -> bool:
    """Whether a policy or an authenticator is a function that cannot wait."""
    return not inspect.iscoroutinefunction(policy)


def user_id_of(principal: Any) -> str | None:
    """Return the user id that a principal has by itself."""
    user_id: str | None = getattr(principal, "user_id", None)
    return user_id
