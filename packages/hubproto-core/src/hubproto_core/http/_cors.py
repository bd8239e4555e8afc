"""Pages of other origins in browsers: what they may do (the Fetch standard's CORS, and RFC 6455, 10.2).

Requests come as data and answers leave as data, so that any host can ask. CORS keeps foreign pages from reading
answers, and from sending all but the plainest requests; it is the browser that obeys. A WebSocket is not covered by it:
a browser opens one to anybody, with the cookies of its user, and only says from where. So the server has to look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from .._logs import NOBODY, facts, http_log, one_line
from ._messages import Request, Response

__all__ = ["AllowedOrigins", "Cors"]

AllowedOrigins = Collection[str] | Callable[[str], bool]
"""The origins whose pages may use a hub, as browsers write them (`https://app.example.com`, without a slash at the
end), or a function that is asked about each."""

_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[!-~]*")  # as browsers write them: `file://` is one, too
_NOT_AS_WRITTEN = re.compile(r".*(://.*[/?#*A-Z]|^http:.*:80$|^https:.*:443$)")
_NAMES = re.compile(r"[\w!#$%&'*+.^`|~, -]*", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_METHODS = "GET, POST, DELETE"
_LASTS = "600"  # seconds that a browser may remember what it was allowed
_TOLD = 100  # origins that are logged; whoever invents more of them fills no log
_NOT_ALLOWED = Response(403, b"Origin not allowed")


class Cors:
    """What pages of other origins may do at one endpoint.

    `credentials`: they may send the cookies of their user, as Microsoft's JavaScript client does unless it is told
    otherwise. Raises ValueError for what no browser would send as an origin.
    """

    __slots__ = ("_allowed", "_credentials", "_told")

    def __init__(self, allowed: AllowedOrigins = (), *, credentials: bool = True) -> None:
        if not callable(allowed):
            for origin in allowed:
                if not _ORIGIN.fullmatch(origin) or _NOT_AS_WRITTEN.match(origin):
                    raise ValueError(
                        f"{origin!r} is no origin: list them like 'https://app.example.com', "
                        "or give a function that is asked about each"
                    )
            allowed = frozenset(allowed)
        self._allowed = allowed
        self._credentials = credentials
        self._told: set[str] = set()

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request that is settled by its origin alone; None for all others.

        That is to be asked before anybody is authenticated: a preflight carries no token. It is answered 204 or 403,
        and a WebSocket that a page of a foreign origin opens, 403.
        """
        origin = request.headers.get("origin")
        if origin is None:
            return None
        preflight = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        if not preflight and not request.wants_websocket:
            return None
        if not self._allows(origin, request) and not _is_own(origin, request):
            self._tell(origin, request)
            return _NOT_ALLOWED
        return self._permission(request) if preflight else None

    def headers(self, request: Request) -> dict[str, str]:
        """Return the headers that the answer to a request must have, whatever it is."""
        if not self._allowed:
            return {}
        origin = request.headers.get("origin")
        if origin is None or not self._allows(origin, request):
            return {"vary": "Origin"}
        headers = {"vary": "Origin", "access-control-allow-origin": origin}
        if self._credentials:
            headers["access-control-allow-credentials"] = "true"
        return headers

    def _allows(self, origin: str, request: Request) -> bool:
        if not _ORIGIN.fullmatch(origin):
            return False
        if not callable(self._allowed):
            return origin in self._allowed
        try:
            return bool(self._allowed(origin))
        except Exception as error:
            path = one_line(request.path)
            extra = facts(NOBODY, error=error)
            http_log.error("allowed_origins of the hub at %s failed: %s", path, error, exc_info=error, extra=extra)
            return False

    def _permission(self, request: Request) -> Response:
        headers = {"access-control-allow-methods": _METHODS, "access-control-max-age": _LASTS}
        asked = request.headers.get("access-control-request-headers")
        if asked is not None and _NAMES.fullmatch(asked):  # a page that may use the hub may send it any header
            headers["access-control-allow-headers"] = asked
        return Response(204, content_type=None, headers=headers)

    def _tell(self, origin: str, request: Request) -> None:
        if origin not in self._told and len(self._told) < _TOLD:
            self._told.add(origin)
            http_log.warning(
                "pages of %s may not use the hub at %s: see EndpointConfig.allowed_origins",
                one_line(origin),
                one_line(request.path),
                extra=facts(NOBODY),
            )


def _is_own(origin: str, request: Request) -> bool:
    """Whether a page comes from where it sends its request to.

    The scheme does not count: behind a proxy that speaks TLS we do not know it.
    """
    scheme, _, authority = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    host = request.headers.get("host", "").lower()
    return bool(authority) and authority.removesuffix(port) == host.removesuffix(port)
