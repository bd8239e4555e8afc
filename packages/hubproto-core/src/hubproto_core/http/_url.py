"""URLs: their parts ready for the wire, and how they look in messages."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

__all__ = ["host_header", "show_url", "split_url", "with_query"]

_HOST = re.compile(r"[!-~]+")
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL, ready for the wire. Raises ValueError, saying why, for one that is none."""
    target = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(target.scheme, target.scheme)
    if scheme not in ("http", "https") or not target.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if not _HOST.fullmatch(target.hostname):
        raise ValueError(f"{url!r} has a host name that cannot be; write an international one in its xn-- form")
    if target.port == 0:
        raise ValueError(f"{url!r} has no port that can be connected to")
    path, query = quote(target.path, safe=_PATH_SAFE), quote(target.query, safe=_PATH_SAFE + "?")
    return target._replace(scheme=scheme, path=path, query=query, fragment="")


def host_header(target: SplitResult) -> str:
    """Return the host and the port as the URL gives them, without a user."""
    return target.netloc.rpartition("@")[2]


def show_url(target: SplitResult) -> str:
    """Return the URL for messages: without the query and the password, which may be secrets."""
    return urlunsplit(target._replace(netloc=host_header(target), query=""))


def with_query(query: str, more: str) -> str:
    """Append to a query, which may be empty."""
    return f"{query}&{more}" if query else more
