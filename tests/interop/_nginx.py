"""nginx in front of servers under test, set up as docs/hosting.md says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import _peers
from tests.interop._lab import STOP_LIMIT, free_port, listens, poll

DOCUMENTED = re.findall(
    r"^```nginx\n(.*?)^```$", (_peers.ROOT / "docs/hosting.md").read_text(), re.MULTILINE | re.DOTALL
)
ONE, BY_ADDRESS, BY_COOKIE, COOKIE = DOCUMENTED
"""One process; several, told by the address; several, told by a cookie, and what sets the cookie."""

_UPSTREAM = re.compile(r"^upstream hub \{.*?^\}\n", re.MULTILINE | re.DOTALL)
_PASS = "proxy_pass http://hub;\n"

# What a distribution's own file holds, as far as the documented part needs it.
_AROUND = """\
daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
log_format routes '$request_method $request_uri $status $upstream_addr';
access_log access.log routes;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi;
scgi_temp_path scgi;
{documented}}}
"""


def several(upstream: str, location: str = "") -> str:
    """The documented configuration with another upstream, and more in its location."""
    changed, count = _UPSTREAM.subn(lambda _: upstream, ONE)
    assert count == 1
    return changed.replace(_PASS, _PASS + location)


class Nginx:
    """A running nginx: its base URL, and its folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def errors(self) -> str:
        """What it wrote to its error log."""
        return (self._folder / "error.log").read_text()

    def routes(self) -> dict[str, set[str]]:
        """Return for each connection's id the addresses that its requests were passed on to."""
        routes: dict[str, set[str]] = {}
        for line in (self._folder / "access.log").read_text().splitlines():
            _method, uri, _status, address = line.split(" ", 3)
            found = re.search(r"[?&]id=([^&]+)", uri)
            if found:
                routes.setdefault(found[1], set()).add(address)
        return routes


@contextmanager
def proxy(program: str, folder: Path, documented: str, *ports: int) -> Iterator[Nginx]:
    """Run nginx in a folder of its own; `ports` are those of the servers behind it."""
    port = free_port()
    served, count = re.subn(r"\blisten 80;", f"listen 127.0.0.1:{port};", documented)
    assert count == 1
    for documented_port, actual in zip((8000, 8001), ports, strict=False):
        assert f"127.0.0.1:{documented_port};" in served
        served = served.replace(f"127.0.0.1:{documented_port};", f"127.0.0.1:{actual};")
    (folder / "nginx.conf").write_text(_AROUND.format(documented=served))
    command = [program, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "error.log"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:

            def ready() -> bool | None:
                assert process.poll() is None, (folder / "error.log").read_text()
                return listens(port) or None

            poll(ready, STOP_LIMIT, "nginx was to listen")
            yield Nginx(f"http://127.0.0.1:{port}", folder)
        finally:
            process.terminate()
            process.wait(STOP_LIMIT)
