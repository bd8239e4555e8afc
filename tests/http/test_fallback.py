"""An application beside the hubs: when it is called, what it is told, and when it is waited for."""

from __future__ import annotations

import pytest

from hubproto_core import Hub, HubConfig
from hubproto_core.http import HttpConfig, SocketInfo
from tests.http._application import Application, beside
from tests.http._site import Site, answers, http, upgrade
from tests.http._small_site import NEGOTIATE, over
from tests.kit.shell import WAITS


def test_other_paths_are_the_application_s() -> None:
    app = Application()
    served = beside(app)
    socket = served.socket()
    assert socket.ask(NEGOTIATE).status == 200
    assert not app.scopes
    socket.send(http("GET", "/some%20where/?a=b&c", "X-One: 1", "x-one: 2", "Cookie: a"))
    served.shell.step(served.shell.find("fallback application"))
    (scope,) = app.scopes
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/some where/",
        "raw_path": b"/some%20where/",
        "query_string": b"a=b&c",
        "root_path": "",
        "headers": [(b"host", b"h"), (b"x-one", b"1"), (b"x-one", b"2"), (b"cookie", b"a")],
        "client": None,
        "server": None,
        "state": {},
    }


def test_an_application_is_told_of_its_socket() -> None:
    app = Application()
    served = beside(app)
    info = SocketInfo(scheme="https", client=("192.0.2.1", 1234), server=("/run/hub.sock", None))
    served.server.connection(info, now=0.0).receive_data(http("GET", "http://h/page"), now=0.0)
    served.shell.step(served.shell.find("fallback application"))
    (scope,) = app.scopes
    assert (scope["scheme"], scope["client"], scope["server"]) == (info.scheme, info.client, info.server)
    assert (scope["path"], scope["raw_path"]) == ("/page", b"/page")


def test_what_is_within_a_hub_s_reach_is_not_the_application_s() -> None:
    app = Application()
    socket = beside(app).socket()
    for target in ("/chat", "/Chat/", "/chat/negotiate"):
        assert socket.ask(http("PUT", target)).status == 405
    assert not app.scopes


def test_websockets_beside_the_hubs_are_refused() -> None:
    app = Application()
    socket = beside(app).socket()
    answer = socket.ask(upgrade("/elsewhere"))
    assert (answer.status, answer.body) == (404, b"There is no hub here, and other WebSockets are not served.")
    assert not app.scopes
    assert socket.ask(NEGOTIATE).status == 200


def test_nobody_is_connected_through_us() -> None:
    app = Application()
    socket = beside(app).socket()
    assert socket.ask(http("CONNECT", "example.com:80")).status == 404
    assert not app.scopes


def test_an_application_needs_something_that_can_wait() -> None:
    served = Site(fallback=Application())
    fallback = served.server.fallback
    assert fallback is not None
    with pytest.raises(AssertionError, match="let_wait"):
        _ = fallback.waiter


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_server_waits_for_what_an_application_still_does() -> None:
    async def goes_on(scope: object, receive: object, send: object) -> None:
        await app.answer(send, b"hello")
        await app.pause()

    app = Application(goes_on)
    served = beside(app)
    socket = served.socket()
    socket.send(http("GET", "/page", "Connection: close"))
    call = served.shell.find("fallback application")
    served.shell.step(call)
    assert socket.take().endswith(b"0\r\n\r\n")
    assert over(socket)
    served.server.shut_down(now=1.0)
    served.server.handle_timeout(now=1.0)
    assert not served.server.closed
    app.go_on = True
    served.shell.step(call)
    assert served.shell.was_woken(served.server)
    assert served.server.closed


def test_an_application_that_does_not_end_is_cancelled_with_the_calls_of_hubs() -> None:
    async def hangs(scope: object, receive: object, send: object) -> None:
        await app.pause()

    app = Application(hangs)
    served = beside(app, HubConfig(shutdown_timeout=5.0))
    socket = served.socket()
    socket.send(http("GET", "/page"))
    served.server.shut_down(now=1.0)
    served.server.handle_timeout(now=5.0)
    served.shell.run()
    assert not served.shell.asked_to_cancel
    served.server.handle_timeout(now=6.0)
    served.shell.cancel_asked()
    (answer,) = answers(socket.take(6.0))
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert served.server.closed


def test_closing_twice_waits_for_no_application() -> None:
    app = Application()
    served = beside(app, begin=True)
    socket = served.socket()
    socket.conn.receive_data(http("GET", "/page"), now=0.0)
    served.server.close(now=1.0)
    served.server.close(now=1.0)
    assert [call.label for call in served.shell.asked_to_cancel] == []
    served.shell.run()
    assert len(served.shell.asked_to_cancel) == 2
    served.shell.cancel_asked()
    assert served.server.closed


def test_an_authenticator_is_for_hubs() -> None:
    app = Application()
    served = Site(Hub(), authenticator=lambda request: WAITS, fallback=app)
    served.server.let_wait(served.shell)
    served.socket().send(http("GET", "/page"))
    assert served.shell.labels() == ["fallback application"]


# --- the lifespan ----------------------------------------------------------------------------------------------------


def test_a_server_says_when_it_begins_and_ends() -> None:
    app = Application()
    served = beside(app)
    moment = served.server.begin()
    assert [moment.done] == [False]
    call = served.shell.find("fallback application")
    served.shell.step(call)
    assert app.lifespan == ["lifespan.startup"]
    assert moment.done
    assert moment.outcome() is None
    assert served.shell.was_woken(moment)
    moment.abandon()
    app.scopes[0]["state"]["answer"] = 42
    socket = served.socket()
    socket.conn.receive_data(http("GET", "/page", "Connection: close"), now=0.0)
    served.server.shut_down(now=1.0)
    served.server.handle_timeout(now=1.0)
    served.shell.run()
    page = served.shell.running[-1]
    served.shell.step(page)
    assert app.scopes[1]["state"] == {"answer": 42}
    assert b"hello" in socket.take(1.0)
    assert over(socket)
    assert not served.server.closed
    assert app.lifespan == ["lifespan.startup"]
    served.server.handle_timeout(now=2.0)
    served.server.handle_timeout(now=2.0)
    served.shell.step(call)
    assert app.lifespan == ["lifespan.startup", "lifespan.shutdown"]
    assert served.server.closed


def test_a_server_without_an_application_begins_at_once() -> None:
    served = Site()
    assert served.server.begin().done
    assert served.server.begin().outcome() is None


def test_an_application_has_so_long_to_shut_down() -> None:
    app = Application()
    served = beside(app, HubConfig(shutdown_timeout=5.0), begin=True)
    served.server.shut_down(now=1.0)
    served.server.handle_timeout(now=2.0)
    assert served.server.next_timeout() == 7.0
    served.server.handle_timeout(now=7.0)
    served.shell.cancel_asked()
    assert served.server.closed
    assert app.lifespan == ["lifespan.startup"]  # it has not come to read more


def test_limits_of_bodies_hold_beside_hubs() -> None:
    served = beside(Application(), http=HttpConfig(max_post_size=10))
    assert served.socket().ask(http("PUT", "/page", "Content-Length: 11")).status == 413
    socket = served.socket()
    socket.send(http("PUT", "/page", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
    assert answers(socket.send(b"6\r\nworld!\r\n"))[0].status == 413
