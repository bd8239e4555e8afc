"""Hubs at their paths, and the end of all their sockets."""

from __future__ import annotations

import gc
import json

import pytest
from wsproto.events import CloseConnection, TextMessage

from hubproto_core import Hub, HubConfig, Transport, TransportError
from hubproto_core.http import EndpointConfig, HttpServerConnection, HubServer, Mount
from tests.http._site import Answer, Entropy, Site, WebSocket, answers, http, split, upgrade
from tests.http._small_site import (
    ADD,
    call,
    chunks,
    make_hub,
    negotiated,
    over,
    polling,
    posted,
    result,
    site,
    streaming,
)
from tests.kit.shell import WAITS, Shell
from tests.kit.wire import HANDSHAKE, pack, unpack

# --- routes ----------------------------------------------------------------------------------------------------------


def test_a_path_starts_with_a_slash() -> None:
    with pytest.raises(ValueError, match="a hub's path starts with a slash: 'chat'"):
        HubServer({"chat": Hub()}, entropy=Entropy())


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/chat/negotiate", 200),
        ("/chat/negotiate/", 200),
        ("/Chat/NEGOTIATE", 200),
        ("/ch%61t/negotiate", 200),
        ("http://h/chat/negotiate", 200),
        ("/negotiate", 404),
        ("/chats/negotiate", 404),
        ("/chat/x/negotiate", 404),
        ("/", 404),
        ("/chat", 400),
        ("/chat/", 400),
        ("/chat?id=unknown", 404),
    ],
)
def test_hubs_are_found_by_their_paths(target: str, status: int) -> None:
    assert site().socket().ask(http("POST", target)).status == status


def test_a_hub_may_be_the_root() -> None:
    server = HubServer({"/": make_hub(), "/other": make_hub()}, entropy=Entropy())
    for path in ("/negotiate", "/other/negotiate"):
        endpoint, part = server.find(path)
        assert endpoint is not None
        assert part == "negotiate"
    assert server.find("/")[0] is not server.find("/other")[0]
    assert server.find("/nothing")[0] is None


def test_a_hub_is_described_when_asked_for() -> None:
    hub = Hub(described=True)

    @hub.method("Add")
    def add(x: int) -> int:
        """Add."""
        return x

    peer = Site(hub).socket()
    answer = peer.ask(http("GET", "/Chat/Description/?a=b"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == hub.describe()
    assert hub.describe()["methods"]["Add"]["description"] == "Add."
    for method in ("POST", "DELETE", "HEAD"):
        answer = peer.ask(http(method, "/chat/description"))
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert peer.ask(http("GET", "/description")).status == 404
    assert peer.ask(http("GET", "/chat/negotiate/description")).status == 404
    assert peer.ask(upgrade("/chat/description")).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hub_is_not_described_unless_it_says_so(method: str) -> None:
    assert site().socket().ask(http(method, "/chat/description")).status == 404


def test_a_hub_may_have_the_path_of_another_one_s_description() -> None:
    served = Site(Hub(described=True))
    server = HubServer({"/chat": served.hub, "/chat/description": Hub()}, entropy=Entropy())
    assert server.find("/chat/description") == (server.find("/chat/Description/")[0], "")
    assert server.find("/chat/description/negotiate")[1] == "negotiate"


def test_the_clients_of_a_hub_can_be_reached_from_outside() -> None:
    served = site()
    peer = served.websocket()
    served.server.context(served.hub).clients.all.send("news", 1)
    assert peer.hear() == [{"type": 1, "target": "news", "arguments": [1]}]
    with pytest.raises(KeyError):
        served.server.context(Hub())


def test_clients_can_be_asked_once_something_can_wait() -> None:
    served, shell = site(), Shell()
    served.server.let_wait(shell)
    waiting = served.server.context(served.hub).clients.client("nobody").invoke("AskMe")
    with pytest.raises(TransportError, match="does not exist"):
        waiting.send(None)


def test_a_hub_at_two_paths_has_one_set_of_clients() -> None:
    hub = Hub()
    server = HubServer({"/a": hub, "/b": hub}, entropy=Entropy())
    first, second = server.find("/a")[0], server.find("/b")[0]
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.registry is second.registry


# --- shutting down ---------------------------------------------------------------------------------------------------

GOODBYE = {"type": 7, "allowReconnect": True}


def test_a_server_has_so_many_sockets_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    served = site(max_connections=10)
    peers = [served.websocket() for _ in range(9)]
    idle = served.socket()
    for _ in range(3):
        assert over(served.socket())
    text = "10 connections are open: what is above is closed at once"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", text)]
    idle.conn.receive_eof(now=1.0)
    assert peers[0].ask(call("Add", 1, 2)) == [result(3)]
    assert not over(served.socket())
    assert over(served.socket())
    assert len(caplog.records) == 2
    served.server.shut_down(now=1.0)
    for peer in peers:
        peer.exchange(CloseConnection(1000))
    assert served.server.closed


def test_a_server_that_stays_full_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    served = site(max_connections=20)
    sockets = [served.socket() for _ in range(20)]
    for socket in sockets:
        assert over(served.socket())
        socket.conn.receive_eof(now=1.0)
        assert not over(served.socket())
    assert len(caplog.records) == 1


def test_a_server_without_sockets_is_closed_at_once() -> None:
    served = site()
    assert not served.server.closed
    served.server.shut_down(now=0.0)
    assert served.shell.was_woken(served.server)
    assert served.server.closed


def test_shutting_down_ends_every_socket_in_order() -> None:
    served = site()
    idle, peer = served.socket(), served.websocket()
    server = served.server
    peer.ask(call("Slow"))
    served.shell.woken.clear()
    server.shut_down(now=0.0)
    server.shut_down(now=0.0)
    assert over(idle)
    assert not over(peer.socket)
    assert peer.hear() == []
    served.shell.finish(served.shell.find("Slow"), "done")
    assert split(peer.exchange_bytes(b"")) == ([result("done"), GOODBYE], [(1000, None)])
    assert [server.closed, over(peer.socket)] == [False, False]
    assert peer.exchange(CloseConnection(1000)) == []
    assert [server.closed, over(peer.socket)] == [True, True]
    assert served.shell.was_woken(server)


def test_a_socket_accepted_while_shutting_down_is_closed() -> None:
    served = site()
    served.server.shut_down(now=0.0)
    socket = served.socket()
    assert over(socket)
    assert served.server.closed


def test_a_server_is_not_closed_before_its_last_hook_has_run() -> None:
    hub = make_hub()
    hub.on_disconnected(lambda: WAITS)
    served = Site(hub)
    peer = served.websocket()
    served.server.shut_down(now=0.0)
    assert split(peer.exchange_bytes(b"")) == ([GOODBYE], [(1000, None)])
    peer.exchange(CloseConnection(1000))
    assert over(peer.socket)
    server = served.server
    assert [server.closed] == [False]
    served.shell.woken.clear()
    served.shell.finish(served.shell.find("on_disconnected"))
    assert [server.closed] == [True]
    assert served.shell.was_woken(server)


def test_a_client_in_its_handshake_does_not_keep_a_server_open() -> None:
    served = site(HubConfig(shutdown_timeout=5.0, close_timeout=2.0, handshake_timeout=100.0))
    peer = WebSocket(served.socket())
    conn = peer.socket.conn
    served.server.shut_down(now=0.0)
    peer.exchange(TextMessage(HANDSHAKE.decode()))
    for now in (5.0, 7.0):
        conn.handle_timeout(now=now)
        peer.socket.take(now)
    assert over(peer.socket)
    assert served.server.closed


def test_a_server_has_a_hub() -> None:
    with pytest.raises(ValueError, match="a HubServer needs at least one hub"):
        HubServer({}, entropy=Entropy())


def test_a_shutdown_cancels_what_clients_that_have_left_had_sent() -> None:
    served = site(HubConfig(shutdown_timeout=5.0))
    peer, server = served.websocket(), served.server
    peer.ask({"type": 1, "target": "Slow", "arguments": []})
    peer.exchange(CloseConnection(1000))
    told = served.shell.find("Slow")
    server.shut_down(now=1.0)
    assert server.next_timeout() == 6.0
    server.handle_timeout(now=5.9)
    served.shell.run()
    assert served.shell.asked_to_cancel == []
    server.handle_timeout(now=6.0)
    served.shell.run()
    assert served.shell.asked_to_cancel == [told]
    assert [server.closed] == [False]
    served.shell.cancel(told)
    assert [server.closed] == [True]


def test_a_last_hook_that_does_not_end_is_cancelled_in_the_end() -> None:
    hub = make_hub()
    hub.on_disconnected(lambda: WAITS)
    served = Site(hub, HubConfig(shutdown_timeout=5.0, close_timeout=2.0))
    peer, server = served.websocket(), served.server
    peer.ask(call("Slow"))
    server.shut_down(now=0.0)
    peer.socket.conn.handle_timeout(now=5.0)
    server.handle_timeout(now=5.0)
    served.shell.cancel_asked()
    peer.exchange(CloseConnection(1000), now=5.0)
    hook = served.shell.find("on_disconnected")
    assert server.next_timeout() == 12.0
    server.handle_timeout(now=11.9)
    assert hook not in served.shell.asked_to_cancel
    server.handle_timeout(now=12.0)
    served.shell.run()
    assert hook in served.shell.asked_to_cancel
    assert server.next_timeout() is None
    served.shell.cancel(hook)
    assert server.closed


def test_closing_a_second_time_waits_for_nobody() -> None:
    served = site(HubConfig(shutdown_timeout=5.0, close_timeout=2.0))
    server = served.server
    busy, silent, bare = served.websocket(), served.websocket(), WebSocket(served.socket())
    idle = served.socket()
    busy.ask(call("Slow"))
    assert [server.closing] == [False]
    server.close(now=0.0)
    assert [server.closing] == [True]
    assert split(silent.exchange_bytes(b"")) == ([GOODBYE], [(1000, None)])
    assert silent.socket.conn.next_timeout() == 2.0
    server.close(now=0.5)
    assert split(busy.exchange_bytes(b"", now=0.5)) == ([GOODBYE], [(1000, None)])
    for peer in (busy, silent, bare):
        peer.socket.take(0.5)
        assert peer.socket.conn.next_timeout() == 0.5
        peer.socket.conn.handle_timeout(now=0.5)
        peer.socket.take(0.5)
        assert over(peer.socket)
    assert over(idle)
    assert [server.closed] == [False]
    served.shell.cancel_asked()
    assert [server.closed] == [True]


def test_closing_a_second_time_waits_for_no_socket_that_takes_nothing() -> None:
    served = site(HubConfig(shutdown_timeout=5.0, close_timeout=2.0))
    peer, server = served.websocket(), served.server
    peer.ask(call("Slow"))
    server.close(now=1.0)
    server.close(now=1.0)
    conn = peer.socket.conn
    deadline = conn.next_timeout()
    assert deadline is not None
    assert deadline <= 1.0
    conn.handle_timeout(now=1.0)
    assert conn.finished


def test_a_shutdown_ends_streams_and_polls() -> None:
    served = site()
    stream, _ = streaming(served)
    target = negotiated(served)
    poller = served.socket()
    poller.ask(http("GET", target))
    poller.send(http("GET", target))
    served.server.shut_down(now=0.0)
    served.server.handle_timeout(now=0.0)
    assert chunks(stream.take()) == [b'data: {"type":7,"allowReconnect":true}\x1e\r\n\r\n', b""]
    assert over(stream)
    (answer,) = answers(poller.take())
    assert (answer.status, answer.headers["connection"]) == (204, "close")
    assert over(poller)


def test_a_client_between_two_polls_hears_the_farewell_on_its_socket() -> None:
    served = site(HubConfig(close_timeout=2.0))
    poller, poster, stranger = served.socket(), served.socket(), served.socket()
    target = negotiated(served)
    poller.ask(http("GET", target))
    poster.ask(posted(target, HANDSHAKE))
    assert poller.ask(http("GET", target)).body == b"{}\x1e"
    stranger.ask(http("POST", "/chat/negotiate?negotiateVersion=1"))
    served.server.shut_down(now=1.0)
    served.server.handle_timeout(now=1.0)
    assert [over(socket) for socket in (poller, poster, stranger)] == [False, False, True]
    assert [poller.conn.next_timeout(), poster.conn.next_timeout()] == [3.0, 3.0]
    served.shell.run()
    served.shell.woken.clear()
    farewell = poller.ask(http("GET", target), now=2.0)
    assert served.shell.was_woken(poster.conn)
    assert (farewell.body, farewell.headers["connection"]) == (b'{"type":7,"allowReconnect":true}\x1e', "close")
    assert poster.take() == b""
    assert [over(poller), over(poster), served.server.closed] == [True, True, True]


def test_a_client_that_polls_on_during_a_shutdown_is_served_on_its_sockets() -> None:
    served = site(HubConfig(shutdown_timeout=60.0, close_timeout=2.0))
    poller, poster = served.socket(), served.socket()
    target = negotiated(served)
    poller.ask(http("GET", target))
    poster.ask(posted(target, HANDSHAKE + pack(call("Slow"))))
    assert poller.ask(http("GET", target)).body == b"{}\x1e"
    poller.send(http("GET", target))
    served.server.shut_down(now=0.0)
    answer = poster.ask(posted(target, pack({"type": 6})), now=30.0)
    assert (answer.status, "connection" in answer.headers) == (200, False)
    assert poster.conn.next_timeout() == 32.0
    served.shell.finish(served.shell.find("Slow"), "done")
    (answer,) = answers(poller.take(now=31.0))
    assert unpack(answer.body) == [result("done"), GOODBYE]
    assert answer.headers["connection"] == "close"
    assert poster.take(now=31.0) == b""
    assert served.server.closed


@pytest.mark.parametrize(
    "request_", [http("POST", "/chat/negotiate?negotiateVersion=1"), upgrade()], ids=["negotiation", "WebSocket"]
)
def test_a_socket_that_is_kept_for_a_farewell_begins_nothing_new(request_: bytes) -> None:
    served = site()
    poller = served.socket()
    poller.ask(http("GET", negotiated(served)))
    served.server.shut_down(now=0.0)
    answer = poller.ask(request_)
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert over(poller)


def test_a_client_that_does_not_come_for_its_farewell_is_not_waited_for_long() -> None:
    served = site(HubConfig(close_timeout=2.0))
    poller = served.socket()
    poller.ask(http("GET", negotiated(served)))
    served.server.shut_down(now=1.0)
    poller.conn.handle_timeout(now=2.9)
    assert not over(poller)
    poller.conn.handle_timeout(now=3.0)
    assert over(poller)


def test_a_poll_that_is_being_decided_about_is_not_lost_in_a_shutdown() -> None:
    served = Site(make_hub(), authenticator=lambda request: WAITS)
    poller = served.socket()

    def let_in() -> Answer:
        served.shell.finish(served.shell.find("authenticator"), None)
        (answer,) = answers(poller.take())
        return answer

    poller.send(http("POST", "/chat/negotiate?negotiateVersion=1"))
    target = f"/chat?id={json.loads(let_in().body)['connectionToken']}"
    poller.send(http("GET", target))
    assert let_in().status == 200
    poller.send(http("GET", target))
    served.server.shut_down(now=0.0)
    assert let_in().status == 204


def test_a_stream_on_a_socket_that_was_kept_outlives_the_time_of_idle_sockets() -> None:
    served = site(HubConfig(keep_alive_interval=100.0), idle_timeout=50.0)
    stream = served.socket()
    token = json.loads(stream.ask(http("POST", "/chat/negotiate?negotiateVersion=1")).body)["connectionToken"]
    target = f"/chat?id={token}"
    assert stream.conn.next_timeout() == 50.0
    stream.send(http("GET", target, "Accept: text/event-stream"))
    served.socket().ask(posted(target, HANDSHAKE))
    stream.take()
    assert stream.conn.next_timeout() == 100.0
    stream.conn.handle_timeout(now=99.0)
    assert not over(stream)


def test_a_shutdown_that_does_not_wait_ends_streams_and_polls_at_once() -> None:
    served = site()
    stream, target = streaming(served)
    served.socket().ask(posted(target, pack(call("Slow"))))
    poller, poster = served.socket(), served.socket()
    target = polling(served)
    poller.send(http("GET", target))
    poster.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n\r\n".encode() + ADD[:9])
    served.server.close(now=0.0)
    assert not over(stream)
    served.shell.woken.clear()
    served.server.close(now=0.0)
    assert chunks(stream.conn.data_to_send(now=0.0)) == [b'data: {"type":7,"allowReconnect":true}\x1e\r\n\r\n', b""]
    (answer,) = answers(poller.conn.data_to_send(now=0.0))
    assert (answer.status, answer.body) == (200, b'{"type":7,"allowReconnect":true}\x1e')
    served.shell.run()
    assert {stream.conn, poller.conn, poster.conn} <= set(served.shell.woken)
    assert [over(socket) for socket in (stream, poller, poster)] == [True, True, True]
    served.shell.cancel_asked()
    served.server.handle_timeout(now=0.0)
    assert served.server.closed


def test_a_socket_that_nothing_is_asked_on_is_cut_short_as_well() -> None:
    socket = site().socket()
    socket.conn.cut_short(now=0.0)
    assert over(socket)


def test_hubs_may_be_mounted_with_fewer_transports() -> None:
    hub = make_hub()
    mount = Mount(hub, EndpointConfig(transports=(Transport.LONG_POLLING,)))
    server = HubServer({"/chat": hub, "/polls": mount}, entropy=Entropy())
    conn = server.connection(now=0.0)
    conn.receive_data(http("POST", "/polls/negotiate?negotiateVersion=1"), now=0.0)
    (answer,) = answers(conn.data_to_send(now=0.0))
    assert [offer["transport"] for offer in json.loads(answer.body)["availableTransports"]] == ["LongPolling"]


def test_a_socket_that_has_ended_is_not_left_to_the_garbage_collector() -> None:
    """It goes with the last reference, and all that was received with it: many may come, and end, at once."""

    def poll_and_break_the_rules(served: Site) -> None:
        socket = served.socket()
        token = json.loads(socket.ask(http("POST", "/chat/negotiate?negotiateVersion=1")).body)["connectionToken"]
        target = f"/chat?id={token}"
        for request in (http("GET", target), posted(target, HANDSHAKE), http("GET", target)):
            assert socket.ask(request).status == 200
        assert socket.ask(posted(target, b"x" * 40_000)).status == 200
        assert unpack(socket.ask(http("GET", target)).body)[0]["type"] == 7
        assert socket.ask(http("GET", target)).status == 204
        socket.conn.receive_eof(now=0.0)
        assert socket.take() == b""
        assert over(socket)

    def alive() -> list[object]:
        return [o for o in gc.get_objects() if isinstance(o, HttpServerConnection)]

    served = site()
    gc.collect()
    gc.disable()
    try:
        before = len(alive())
        poll_and_break_the_rules(served)
        served.shell.woken.clear()
        assert len(alive()) == before
    finally:
        gc.enable()
