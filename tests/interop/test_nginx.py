"""nginx in front of our servers, set up as docs/hosting.md says: every transport goes through it."""

from __future__ import annotations

import http.client
import json
from contextlib import ExitStack, closing
from typing import Self

import pytest

from tests.interop import _nginx, _peers
from tests.interop._lab import Lab, poll
from tests.interop.conftest import Proxy, StartLab
from tests.kit.runtimes import Runtime, over_each_transport

RS = "\x1e"
HANDSHAKE = '{"protocol":"json","version":1}' + RS
LIMIT = 5.0
ADDRESSES = 64
PACE = {"LAB_KEEPALIVE": "1", "LAB_TIMEOUT": "2"}


@pytest.fixture
def twins(start: StartLab) -> tuple[Lab, Lab]:
    """Two servers that know nothing of each other."""
    return start(**PACE), start(**PACE, LAB_PARALLEL="11")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["json ws", "msgpack ws", "json sse", "json lp", "msgpack lp"])
def test_microsofts_javascript_client_passes_every_check(
    js: list[str], start: StartLab, proxy: Proxy, how: str
) -> None:
    with proxy(_nginx.ONE, start(**PACE).port) as nginx:
        checks = _peers.run_checks([*js, f"{nginx.url}/hub", *how.split()], PACE)
    assert not checks.failed, checks.failed
    assert checks.total == f"{len(checks.results)}/{len(checks.results)}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("transport", ["ws", "sse", "lp"])
def test_a_cookie_leads_each_client_to_the_process_that_knows_it(
    js: list[str], twins: tuple[Lab, Lab], proxy: Proxy, transport: str
) -> None:
    """Each connection of Microsoft's JavaScript client under node has cookies of its own."""
    documented = _nginx.several(_nginx.BY_COOKIE, _nginx.COOKIE)
    with proxy(documented, *(lab.port for lab in twins)) as nginx:
        checks = _peers.run_checks([*js, f"{nginx.url}/hub", "json", transport, "--only", "stop and start"], PACE)
        for _ in range(20):
            if len(set().union(*nginx.routes().values())) == 2:
                break
            more = _peers.run_checks([*js, f"{nginx.url}/hub", "json", transport, "--only", "client result"], PACE)
            checks.failed.update(more.failed)
        routes = nginx.routes()
    assert not checks.failed, checks.failed
    assert all(len(servers) == 1 for servers in routes.values()), routes
    assert set().union(*routes.values()) == {f"127.0.0.1:{lab.port}" for lab in twins}


def test_the_address_leads_each_client_to_the_process_that_knows_it(twins: tuple[Lab, Lab], proxy: Proxy) -> None:
    """Long polling by clients without cookies, at so many addresses that each server has some, whatever its port is."""
    with proxy(_nginx.several(_nginx.BY_ADDRESS), *(lab.port for lab in twins)) as nginx:
        for number in range(2, 2 + ADDRESSES):
            with Requests(nginx.port, f"127.0.0.{number}") as client:
                client.negotiate()
                assert client.ask("GET") == (200, "")
                assert client.ask("POST", HANDSHAKE) == (200, "")
                assert client.ask("GET") == (200, "{}" + RS)
                assert client.ask("DELETE")[0] == 202
        routes = nginx.routes()
    assert len(routes) == ADDRESSES
    assert all(len(servers) == 1 for servers in routes.values()), routes
    assert set().union(*routes.values()) == {f"127.0.0.1:{lab.port}" for lab in twins}


def test_events_come_through_one_by_one(lab: Lab, proxy: Proxy) -> None:
    """Each result is here before the server is asked for the next."""
    with proxy(_nginx.ONE, lab.port) as nginx, Requests(nginx.port) as client:
        stream = client.listen()
        for number in range(5):
            call = {"type": 1, "invocationId": str(number), "target": "Add", "arguments": [number, 1]}
            client.ask("POST", json.dumps(call) + RS)
            assert json.loads(next_event(stream))["result"] == number + 1


def test_a_client_that_does_not_read_is_noticed_by_the_server(lab: Lab, proxy: Proxy) -> None:
    """nginx holds little for it; else it would write to a file what the server sends, and say so in its error log."""
    size = 8_000_000
    with proxy(_nginx.ONE, lab.port) as nginx, Requests(nginx.port) as reader, Requests(nginx.port) as observer:
        stream = reader.listen()
        observer.listen()
        reader.ask("POST", json.dumps({"type": 1, "invocationId": "1", "target": "Big", "arguments": [size]}) + RS)
        for _ in range(100):  # nginx, which is a single process, has its turns meanwhile
            observer.call("Stats")
        assert len(json.loads(next_event(stream))["result"]) == size


def test_a_client_that_leaves_is_missed_by_the_server(lab: Lab, proxy: Proxy) -> None:
    """nginx passes it on that a listener has hung up: its stream on the server is cancelled."""
    with proxy(_nginx.ONE, lab.port) as nginx, Requests(nginx.port) as observer:
        observer.listen()
        before = observer.call("Stats")["cancelled"]
        with Requests(nginx.port) as leaver:
            stream = leaver.listen()
            call = {"type": 4, "invocationId": "1", "target": "Counter", "arguments": [1_000_000, 10]}
            leaver.ask("POST", json.dumps(call) + RS)
            assert json.loads(next_event(stream))["item"] == 0
        poll(lambda: observer.call("Stats")["cancelled"] == before + 1 or None, LIMIT, "the stream was to be cancelled")


class Requests:
    """A connection that is made of requests, one socket each, from an address of this machine."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._port = port
        self._address = address
        self._query = "?negotiateVersion=1"
        self._opened = ExitStack()
        self._stream: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def ask(self, method: str, body: str | None = None, part: str = "") -> tuple[int, str]:
        """Send a request; returns its answer's status and body."""
        with closing(self._connect()) as connection:
            connection.request(method, f"/hub{part}{self._query}", body)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def negotiate(self) -> None:
        """Get an id, which all further requests bring along."""
        _, answer = self.ask("POST", part="/negotiate")
        self._query = f"?id={json.loads(answer)['connectionToken']}"

    def listen(self) -> http.client.HTTPResponse:
        """Open a stream of events, and shake hands."""
        self.negotiate()
        connection = self._opened.enter_context(closing(self._connect()))
        connection.request("GET", f"/hub{self._query}", headers={"accept": "text/event-stream"})
        self._stream = self._opened.enter_context(closing(connection.getresponse()))
        assert self._stream.status == 200
        self.ask("POST", HANDSHAKE)
        assert next_event(self._stream) == "{}"
        return self._stream

    def call(self, target: str) -> dict[str, int]:
        """Call a method; returns its result."""
        assert self._stream is not None
        self.ask("POST", json.dumps({"type": 1, "invocationId": "1", "target": target, "arguments": []}) + RS)
        result: dict[str, int] = json.loads(next_event(self._stream))["result"]
        return result

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, LIMIT, (self._address, 0))


def next_event(stream: http.client.HTTPResponse) -> str:
    """The next record that comes as an event; pings and comments do not count."""
    while True:
        line = stream.readline().decode()
        assert line, "the stream has ended"
        if line.startswith("data: ") and (record := line[6:].rstrip("\r\n" + RS)) != '{"type":6}':
            return record


@over_each_transport
async def test_a_cookie_leads_our_clients_to_the_process_that_knows_them(
    rt: Runtime, twins: tuple[Lab, Lab], proxy: Proxy
) -> None:
    documented = _nginx.several(_nginx.BY_COOKIE, _nginx.COOKIE)
    routes: dict[str, set[str]] = {}
    with proxy(documented, *(lab.port for lab in twins)) as nginx:
        for _ in range(20):
            for _ in range(2):
                async with rt.connect(f"{nginx.url}/hub") as client:
                    for number in range(5):
                        assert await client.invoke("Add", number, 1) == number + 1
            routes = nginx.routes()
            if len(set().union(*routes.values())) == 2:
                break
    assert all(len(servers) == 1 for servers in routes.values()), routes
    assert set().union(*routes.values()) == {f"127.0.0.1:{lab.port}" for lab in twins}
