"""A request and its answer, as an application hears the one and says the other."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hubproto_core import RunningCall
from hubproto_core.http import HttpConfig
from tests.http._application import Application, a_step, beside
from tests.http._site import Site, Socket, answers, http
from tests.http._small_site import NEGOTIATE, chunks, over

START = {"type": "http.response.start", "status": 200}
END = {"type": "http.response.body", "body": b""}


def asked(app: Any, request: bytes = http("GET", "/page"), **limits: Any) -> tuple[Site, Socket, RunningCall]:
    """A socket on which an application was asked for something, and its call."""
    served = beside(app, http=HttpConfig(**limits))
    socket = served.socket()
    assert socket.send(request) == b""
    return served, socket, served.shell.find("fallback application")


def body_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """The head of an answer, and its chunks."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head, chunks(body)


def messages(record: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in record.records if one.levelno >= logging.INFO]


# --- the answer ------------------------------------------------------------------------------------------------------


def test_an_answer_is_sent_as_it_comes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Set-Cookie", b"a=1"), (b"set-cookie", b" b=2 "), (b"transfer-encoding", b"identity")]
        await send({**START, "status": 201, "headers": headers})
        await a_step()
        for piece in (b"one", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await a_step()
        await send({"type": "http.response.body"})

    served, socket, call = asked(Application(app))
    served.shell.step(call)
    assert socket.take() == b""  # an answer may still become another one
    served.shell.step(call)
    assert socket.take() == (
        b"HTTP/1.1 201 \r\nset-cookie: a=1\r\nset-cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
    )
    served.shell.step(call)
    assert socket.take() == b"3\r\ntwo\r\n"
    served.shell.step(call)
    assert socket.take() == b"0\r\n\r\n"
    assert socket.ask(NEGOTIATE).status == 200


def test_an_answer_may_have_a_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.answer(send, b"hello", (b"Content-Length", b"5"))

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    assert socket.take() == b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_some_answers_have_no_body(method: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.answer(send, b"hello", (b"content-length", b"9"), status=status)

    application = Application(app)
    served, socket, call = asked(application, http(method, "/page"))
    served.shell.step(call)
    assert socket.take() == b"HTTP/1.1 %d \r\ncontent-length: 9\r\n\r\n" % status
    assert socket.ask(NEGOTIATE).status == 200


def test_an_application_waits_for_a_client_that_takes_nothing() -> None:
    sent: list[None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while len(sent) < 100:
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            sent.append(None)

    served, socket, call = asked(Application(app))
    for _ in range(5):
        served.shell.step(call)
    assert len(sent) == 6
    socket.take()
    served.shell.step(call)
    assert len(sent) == 13


BAD = {
    "a status that is none": [{**START, "status": 99}],
    "a status that is no number": [{**START, "status": "200"}],
    "a header's name": [{**START, "headers": [(b"a b", b"c")]}],
    "a header's value": [{**START, "headers": [(b"a", b"b\r\nc: d")]}],
    "a length": [{**START, "headers": [(b"content-length", b"+5")]}],
    "two lengths": [{**START, "headers": [(b"content-length", b"5"), (b"content-length", b"5")]}],
    "a body first": [END],
    "two heads": [START, START],
    "two answers": [START, END, START],
    "two ends": [START, END, END],
    "too much": [{**START, "headers": [(b"content-length", b"5")]}, {**END, "body": b"123456"}],
    "too little": [{**START, "headers": [(b"content-length", b"5")]}, {**END, "body": b"1234"}],
    "something else": [{"type": "websocket.accept"}],
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD.keys())
def test_what_an_application_may_not_say(said: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in said:
            await send(message)

    served, socket, call = asked(Application(app))
    served.shell.step(call)
    (answer,) = [socket.take()]
    assert answer.startswith(b"HTTP/1.1 200 " if END in said[1:] else b"HTTP/1.1 500 ")
    assert socket.ask(NEGOTIATE).status == 200
    assert messages(caplog) == ["the fallback application failed at /page: RuntimeError"]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True])
def test_an_application_that_fails_is_answered_for(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send(START)
        raise KeyError("x")

    served, socket, call = asked(Application(app), http("GET", "/page?token=secret"))
    served.shell.step(call)
    (answer,) = answers(socket.take())
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert socket.ask(NEGOTIATE).status == 200
    (record,) = [one for one in caplog.records if one.levelno >= logging.INFO]
    assert record.message == "the fallback application failed at /page: KeyError"
    assert (record.levelno, record.name) == (logging.ERROR, "hubproto_core.http")
    assert record.exc_info is not None


@pytest.mark.parametrize("raises", [True, False])
def test_an_answer_that_has_begun_and_cannot_go_on_is_cut_off(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await a_step()
        if raises:
            raise KeyError("x")

    served, socket, call = asked(Application(app))
    served.shell.step(call)
    assert body_of(socket.take())[1] == [b"one"]
    assert socket.conn.next_timeout() is None
    socket.conn.handle_timeout(now=0.5)
    assert not over(socket)
    served.shell.step(call)
    assert socket.take() == b""
    assert not over(socket)
    assert socket.conn.next_timeout() == 0.0
    socket.conn.handle_timeout(now=1.0)
    assert over(socket)
    assert socket.take() == b""  # not even what would say that it is complete
    assert messages(caplog) == [
        "the fallback application failed at /page: KeyError"
        if raises
        else "the fallback application has left its answer at /page unfinished"
    ]


@pytest.mark.parametrize("said", [[], [START]])
def test_an_application_that_answers_nothing_has_failed(said: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in said:
            await send(message)

    served, socket, call = asked(Application(app))
    served.shell.step(call)
    assert answers(socket.take())[0].status == 500
    assert messages(caplog) == ["the fallback application has left its answer at /page unfinished"]


# --- the body --------------------------------------------------------------------------------------------------------


def test_a_body_is_received_as_it_comes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await application.receive(receive))["more_body"]:
            await a_step()
        await application.answer(send, b"thanks")

    application = Application(app)
    served, socket, call = asked(application, http("PUT", "/page", "Content-Length: 6"))
    for piece in (b"one", b"two"):
        served.shell.step(call)
        assert served.shell.running
        assert socket.send(piece) == b""
        served.shell.step(call)
    assert b"thanks" in socket.take()
    assert application.received == [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    ]
    assert socket.ask(NEGOTIATE).status == 200


def test_a_request_without_a_body_has_an_empty_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.receive(receive)
        await application.answer(send, b"hello")
        await application.receive(receive)

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    assert application.received == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]
    assert not served.shell.running
    assert b"hello" in socket.take()


def test_a_body_waits_for_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.pause()
        await application.receive(receive)
        await application.pause()

    application = Application(app)
    request = http("PUT", "/page", "Content-Length: 999999")
    served, socket, call = asked(application, request, request_timeout=4.0)
    for _ in range(7):
        assert socket.conn.want_read
        socket.send(b"x" * 10_000)
    assert not socket.conn.want_read
    assert socket.conn.next_timeout() is None
    application.go_on = True
    served.shell.step(call)
    assert served.shell.was_woken(socket.conn)
    socket.take(100.0)
    assert len(application.received[0]["body"]) == 70_000
    assert socket.conn.want_read


def test_an_application_that_reads_no_body_answers_all_the_same() -> None:
    application = Application()
    served, socket, call = asked(application, http("PUT", "/page", "Content-Length: 10") + b"12345")
    served.shell.step(call)
    head, body = body_of(socket.take())
    assert b"connection: close" in head
    assert body == [b"hello", b""]
    assert socket.send(b"67890" + NEGOTIATE) == b""  # what comes now may be anything
    assert socket.conn.want_read


def test_a_small_body_that_nobody_has_read_costs_no_socket() -> None:
    served, socket, call = asked(Application(), http("PUT", "/page", body="x" * 1000))
    served.shell.step(call)
    assert body_of(socket.take())[1] == [b"hello", b""]
    assert socket.ask(NEGOTIATE).status == 200


def test_what_comes_of_a_body_behind_the_answer_is_kept_by_nobody() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.answer(send, b"hello")
        await application.receive(receive)

    application = Application(app)
    served, socket, call = asked(application, http("PUT", "/page", "Content-Length: 10") + b"12345")
    served.shell.step(call)
    socket.conn.receive_data(b"67890", now=0.0)
    assert body_of(socket.take())[1] == [b"hello", b""]
    assert application.received == [{"type": "http.disconnect"}]
    assert socket.ask(NEGOTIATE).status == 200


# --- the client leaves -----------------------------------------------------------------------------------------------


def test_an_application_is_told_when_its_client_leaves() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.receive(receive)
        await application.receive(receive)

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    socket.conn.receive_eof(now=0.0)
    assert not served.server.closed
    served.shell.step(call)
    assert application.received[1] == {"type": "http.disconnect"}
    assert not served.shell.running


@pytest.mark.parametrize("wrapped", ["not", "cause", "context", "group"])
def test_whoever_sends_to_a_client_that_has_left_is_stopped(wrapped: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        except OSError as error:
            if wrapped == "cause":
                raise KeyError from error
            if wrapped == "context":
                raise KeyError  # noqa: B904
            if wrapped == "group":
                raise ExceptionGroup("", [error]) from None
            raise

    served, socket, call = asked(Application(app))
    served.shell.step(call)
    socket.conn.receive_eof(now=0.0)
    served.shell.step(call)
    assert not served.shell.running
    assert not messages(caplog)


def test_what_fails_for_another_reason_then_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.pause()
        error, other = KeyError("x"), KeyError("y")
        error.__context__, other.__context__ = other, error  # as some frameworks leave it
        raise error

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    socket.conn.receive_eof(now=0.0)
    application.go_on = True
    served.shell.step(call)
    assert messages(caplog) == ["the fallback application failed at /page: KeyError"]


def test_what_is_said_to_a_client_that_has_left_is_not_looked_at() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.pause()
        for message in (START, {"type": "nonsense"}):
            try:
                await send(message)
            except OSError as error:
                heard.append(str(error))

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    socket.conn.receive_eof(now=0.0)
    application.go_on = True
    served.shell.step(call)
    assert heard == ["the client has left"] * 2


def test_an_application_that_was_cancelled_after_its_answer_owes_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application.answer(send, b"hello")
        await application.pause()

    application = Application(app)
    served, socket, call = asked(application)
    served.shell.step(call)
    assert body_of(socket.take())[1] == [b"hello", b""]
    served.shell.cancel(call)
    assert socket.ask(NEGOTIATE).status == 200


def test_an_outcome_is_reported_once() -> None:
    served, socket, call = asked(Application())
    served.shell.step(call)
    call.session.call_cancelled(call)
    assert body_of(socket.take())[1] == [b"hello", b""]
