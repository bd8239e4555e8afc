"""`CookieJar`: the cookies that servers have set, and which of them goes with which request (RFC 6265).

What keeps a client behind a load balancer at its server is often a cookie. The jar is as short-lived as its client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from math import inf
from urllib.parse import SplitResult

from msgspec import Struct

__all__ = ["CookieJar"]

_MAX_COOKIES = 100
_MAX_SIZE = 4096  # characters of a name and its value
_MAX_AGE = 10**9  # seconds: for ever
_NUMBER = re.compile(r"-?[0-9]{1,20}")


class _Cookie(Struct, frozen=True):
    name: str
    value: str
    domain: str  # the host it came from, or a domain above it that it is meant for
    everywhere: bool  # below that domain, too
    path: str
    secure: bool
    expires: float

    def is_for(self, target: SplitResult, now: float) -> bool:
        """Whether it goes with a request to this URL."""
        host, path = target.hostname or "", target.path or "/"
        within = host == self.domain or (self.everywhere and host.endswith(f".{self.domain}"))
        below = path == self.path or path.startswith(self.path if self.path.endswith("/") else f"{self.path}/")
        return within and below and now < self.expires and (target.scheme == "https" or not self.secure)


class CookieJar:
    """Keeps cookies. Dates that servers give count from the date of their answer, for here is no calendar."""

    __slots__ = ("_cookies",)

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, target: SplitResult, headers: Iterable[tuple[bytes, bytes]], *, now: float) -> None:
        """Take what an answer sets; `headers` have lower-case names. What makes no sense is left out."""
        date, given = 0.0, []
        for name, value in headers:
            if name == b"set-cookie":
                given.append(value.decode("latin-1"))
            elif name == b"date":
                date = _seconds(value.decode("latin-1")) or 0.0
        for text in given:
            cookie = _parse(text, target, date, now)
            if cookie is not None:
                key = (cookie.domain, cookie.path, cookie.name)
                if cookie.expires <= now:
                    self._cookies.pop(key, None)
                else:
                    self._cookies[key] = cookie
                    if len(self._cookies) > _MAX_COOKIES:
                        del self._cookies[next(iter(self._cookies))]

    def header(self, target: SplitResult, own: str | None, *, now: float) -> bytes | None:
        """Return the Cookie header of a request, None for none. The user's `own` comes first, and has the last word."""
        if not self._cookies:
            return None if own is None else own.encode("ascii")
        pairs = [pair.strip() for pair in (own or "").split(";") if pair.strip()]
        names = {pair.partition("=")[0] for pair in pairs}
        found = [c for c in self._cookies.values() if c.name not in names and c.is_for(target, now)]
        found.sort(key=lambda cookie: -len(cookie.path))  # and in the order in which they came
        return "; ".join([*pairs, *(f"{c.name}={c.value}" for c in found)]).encode("latin-1") or None


def _parse(text: str, target: SplitResult, date: float, now: float) -> _Cookie | None:
    """Read a Set-Cookie header (RFC 6265, 5.2 and 5.3)."""
    pair, *attributes = text.split(";")
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or not name or len(name) + len(value) > _MAX_SIZE:
        return None
    given = {key.strip().lower(): what.strip() for key, _, what in (part.partition("=") for part in attributes)}
    host = target.hostname or ""
    domain = given.get("domain", "").lstrip(".").lower()
    if domain and domain != host and (not host.endswith(f".{domain}") or "." not in domain or _is_address(host)):
        return None
    path = given.get("path", "")
    if not path.startswith("/"):
        path = target.path.rpartition("/")[0] or "/"
    expires, end = inf, _seconds(given.get("expires", ""))
    if _NUMBER.fullmatch(given.get("max-age", "")):
        expires = now + min(int(given["max-age"]), _MAX_AGE)
    elif end is not None:
        expires = now + end - date
    return _Cookie(name, value, domain or host, bool(domain), path, "secure" in given, expires)


def _seconds(date: str) -> float | None:
    """Return the seconds since 1970 of a date, None if it is none."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
