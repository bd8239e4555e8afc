"""Which proxy leads to which server: as the user says, or as the environment does."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["Proxies", "Proxy"]

_ENVIRONMENT = "env"
_VARIABLES = {"http": ("http_proxy", "all_proxy"), "https": ("https_proxy", "all_proxy")}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. As text it is its host and port: what may be secret is nowhere shown."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization."""

    @classmethod
    def parse(cls, url: str, whose: str) -> Proxy:
        """Read http://user:password@host:port. Raises ValueError, which names `whose` URL it is, but nothing of it."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", 80 if parts.port is None else parts.port
            if parts.scheme != "http" or not host or not port or not f"{host}{url}".isascii() or parts.path.strip("/"):
                raise ValueError
        except ValueError:  # whose text may hold a password
            what = f"{whose} is no http://user:password@host:port, without a user or with one"
            raise ValueError(what) from None
        if parts.username is None:
            return cls(host, port)
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(host, port, f"Basic {b64encode(user.encode()).decode()}")

    def __str__(self) -> str:
        return join_host(self.host, self.port)


class Proxies:
    """The proxies of a client. `proxy` is the URL of one; "env" stands for what is in `environment`; None for none.

    Raises ValueError for a URL that is none, without showing it.
    """

    __slots__ = ("_by_scheme", "_exempt")

    def __init__(self, proxy: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._exempt: list[str] = []
        self._by_scheme: dict[str, Proxy] = {}
        if proxy == _ENVIRONMENT:
            variables = {name: value.strip() for name, value in (environment or {}).items() if value.strip()}
            for scheme, names in _VARIABLES.items():
                found = [n for name in names for n in (name, name.upper()) if n in variables]
                if found:
                    self._by_scheme[scheme] = Proxy.parse(variables[found[0]], f"the environment's {found[0]}")
            exempt = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
            self._exempt = [entry.strip().lower() for entry in exempt.split(",") if entry.strip()]
        elif proxy is not None:
            self._by_scheme = dict.fromkeys(_VARIABLES, Proxy.parse(proxy, "the proxy's URL"))

    def to(self, target: SplitResult) -> Proxy | None:
        """Return the proxy that leads to this server, None if there is a straight way."""
        host = target.hostname or ""
        port = target.port or (443 if target.scheme == "https" else 80)
        if any(_matches(entry, host, port) for entry in self._exempt):
            return None
        return self._by_scheme.get(target.scheme)


def join_host(host: str, port: int) -> str:
    """Return host:port, as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _matches(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY means this server: all, a domain, an address or a network; maybe one port."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:  # one of them is a name, or has a port
        name, colon, number = entry.rpartition(":")
        if colon and number.isdigit():
            return int(number) == port and _matches(name.strip("[]"), host, port)
        return f".{host}".endswith(f".{entry.lstrip('*').lstrip('.')}")
