"""The command lines of both adapters call Microsoft's servers, over each transport and in both encodings."""

from __future__ import annotations

import json

import pytest

from tests.interop._lab import Labs
from tests.interop.test_reference_server import WAYS, Way
from tests.kit.command_line import next_line, run, running

pytestmark = pytest.mark.timeout(600)  # the first test may have to build a server

OPTIONS = {"WebSockets": "websockets", "ServerSentEvents": "sse", "LongPolling": "longpolling"}
NO_METHOD = "Failed to invoke 'Missing' due to an error on the server. HubException: Method does not exist.\n"
FAILED = "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: told to the client\n"
BROKEN = "An error occurred on the server while streaming results. HubException: stream broke\n"

EVERYWHERE = {
    # what is asked for, what comes in by stdin: the exit status, stdout, stderr
    ("invoke /hub Add 2 3", ""): (0, "5\n", ""),
    ("invoke /hub UploadSum -", "1\n2\n3"): (0, "6\n", ""),
    ("invoke /hub Missing", ""): (1, "", NO_METHOD),
    ("stream /hub FailingStream 2", ""): (1, "0\n1\n", BROKEN),
}
ONE_WAY = {
    ('invoke /hub Echo [1.50,"\u0436",null]', ""): (0, '[1.5,"\u0436",null]\n', ""),
    ("invoke /hub Nothing", ""): (0, "null\n", ""),
    ("invoke /hub Bytes 3", ""): (0, '"AAEC"\n', ""),
    ("invoke /hub Upload -", '"a"\n"b"\n'): (0, '"2:ab"\n', ""),
    ("invoke /hub ThrowHubException", ""): (1, "", FAILED),
    ("invoke /securehub Add 2 3 --token token-bob", ""): (0, "5\n", ""),
    ("stream /hub Counter 3 0", ""): (0, "0\n1\n2\n", ""),
    ("listen /hub --count 1 --header X-Lab:welcome", ""): (0, '{"target":"welcome","arguments":[1]}\n', ""),
}


def words(way: Way, url: str, asked: str) -> list[str]:
    """The arguments that ask for something, on this way."""
    name, path, *others = asked.split()
    options = ["--transport", OPTIONS[way.transport.name], "--protocol", way.codec.name]
    return [name, *options, f"{url}{path}", *others]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_asked_for_is_done(adapter: str, way: Way, labs: Labs) -> None:
    url = labs.start(way.server.name).url
    table = EVERYWHERE | ONE_WAY if way is WAYS[0] else EVERYWHERE
    done = {(asked, stdin): run(f"hubproto_{adapter}", *words(way, url, asked), stdin=stdin) for asked, stdin in table}
    assert done == table


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_only_sent_arrives(adapter: str, way: Way, labs: Labs) -> None:
    url = labs.start(way.server.name).url
    with running(f"hubproto_{adapter}", *words(way, url, "listen /hub --header X-Lab:welcome")) as listener:
        for number in (1, 2):
            assert json.loads(next_line(listener.stdout)) == {"target": "welcome", "arguments": [number]}
        for number in range(2):
            assert run(f"hubproto_{adapter}", *words(way, url, f'send /hub Broadcast "{number}"')) == (0, "", "")
            assert json.loads(next_line(listener.stdout)) == {"target": "message", "arguments": [str(number)]}


@pytest.mark.parametrize("way", [way for way in WAYS if way.codec.name == "json"], ids=str)
def test_a_stream_that_nobody_reads_any_more_is_cancelled(adapter: str, way: Way, labs: Labs) -> None:
    url = labs.start(way.server.name).url

    def cancelled() -> int:
        count: int = json.loads(run(f"hubproto_{adapter}", "invoke", f"{url}/hub", "Stats")[1])["cancelled"]
        return count

    before = cancelled()
    with running(f"hubproto_{adapter}", *words(way, url, "stream /hub Counter 100000 1")) as client:
        assert client.stdout is not None
        assert next_line(client.stdout) == "0"
        client.stdout.close()
        assert client.wait(10) == 0
        assert client.stderr is not None
        assert client.stderr.read() == ""
    assert cancelled() > before


def test_the_best_that_the_server_offers_is_the_default(adapter: str, labs: Labs) -> None:
    url = labs.start("reference").url
    for path in ("/wshub", "/ssehub", "/lphub"):
        assert run(f"hubproto_{adapter}", "invoke", f"{url}{path}", "Add", "2", "3") == (0, "5\n", "")
    status, output, error = run(f"hubproto_{adapter}", "invoke", f"{url}/securehub", "Add", "2", "3")
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert "--token or --header" in error
