"""How the members of objects are named on the wire: the policies of .NET, for names as Python has them (SPEC 2.2.6)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Literal

__all__ = ["Rename", "renamer"]

Rename = Literal["camel", "pascal"] | Callable[[str], str] | None
"""`camel`: `delay_ms`, `DelayMs` -> `delayMs`. `pascal`: `delay_ms`, `delayMs` -> `DelayMs`. None: as declared.

A function is given the declared name. A name that a class declares for the wire by itself (`msgspec.field(name=...)`,
`rename=...`) is never changed, if it differs from the declared one.
"""


def renamer(rename: Rename) -> Callable[[str], str]:
    """Return the function from declared names to names on the wire. Raises ValueError for a policy nobody knows."""
    if rename is None:
        return str
    if callable(rename):
        return rename
    try:
        return _POLICIES[rename]
    except KeyError:
        raise ValueError(f"rename must be 'camel', 'pascal', a function or None, not {rename!r}") from None


def _camel(name: str) -> str:
    """`URLPath` -> `urlPath`, as JsonNamingPolicy.CamelCase does; `url_path_` -> `urlPath`."""
    first, *words = [word for word in name.split("_") if word] or [name]
    capitals = len(list(takewhile(str.isupper, first)))
    if 1 < capitals < len(first):
        capitals -= 1  # the last one begins a word
    return first[:capitals].lower() + first[capitals:] + "".join(map(_capitalized, words))


def _pascal(name: str) -> str:
    """`url_path` -> `UrlPath`."""
    return "".join(map(_capitalized, [word for word in name.split("_") if word] or [name]))


def _capitalized(word: str) -> str:
    return word[0].upper() + word[1:]


_POLICIES = {"camel": _camel, "pascal": _pascal}
