"""What becomes of an application that begins, or does not, and ends, or does not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.http._application import a_step, beside

STARTED = {"type": "lifespan.startup.complete"}


async def knows_no_lifespan(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(scope["type"])


async def is_not_interested(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("app", [knows_no_lifespan, is_not_interested])
def test_whoever_knows_no_lifespan_is_served_all_the_same(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    served = beside(app)
    moment = served.server.begin()
    served.shell.step(served.shell.find("fallback application"))
    assert moment.done
    assert moment.outcome() is None
    served.server.shut_down(now=0.0)
    served.server.handle_timeout(now=0.0)
    assert served.server.closed
    assert not caplog.records


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"message": "no database"}, "the fallback application failed to start: no database"),
        ({}, "the fallback application failed to start: no reason given"),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
def test_an_application_may_say_that_it_cannot_start(
    message: dict[str, str], text: str, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", **message})
        if raises:
            raise KeyError

    served = beside(app)
    moment = served.server.begin()
    served.shell.step(served.shell.find("fallback application"))
    assert moment.done
    with pytest.raises(RuntimeError, match=f"^{text}$"):
        moment.outcome()
    assert not caplog.records


def test_an_application_may_fail_to_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("database")

    served = beside(app)
    moment = served.server.begin()
    served.shell.step(served.shell.find("fallback application"))
    with pytest.raises(RuntimeError, match="^the fallback application failed to start: 'database'$") as caught:
        moment.outcome()
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_application_may_fail_to_shut_down(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        assert await receive() == {"type": "lifespan.shutdown"}
        await send({"type": "lifespan.shutdown.failed", "message": "the disk is full"})

    served = beside(app, begin=True)
    call = served.shell.find("fallback application")
    served.server.shut_down(now=0.0)
    served.server.handle_timeout(now=0.0)
    served.shell.step(call)
    assert served.server.closed
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "the fallback application failed to shut down: the disk is full")
    ]


def test_an_application_may_fail_while_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await a_step()
        raise KeyError("x")

    served = beside(app, begin=True)
    served.shell.step(served.shell.find("fallback application"))
    (record,) = caplog.records
    assert record.message == "the fallback application failed in its lifespan: KeyError"
    assert record.exc_info is not None
    served.server.close(now=0.0)
    served.server.close(now=0.0)
    assert not served.shell.asked_to_cancel
    assert served.server.closed


@pytest.mark.parametrize(
    "messages",
    [
        [STARTED, STARTED],
        [{"type": "lifespan.shutdown.complete"}],
        [{"type": "http.response.start"}],
    ],
)
def test_what_an_application_may_not_say(messages: list[Any]) -> None:
    refused = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except RuntimeError as error:
            refused.append(str(error))

    served = beside(app)
    served.server.begin()
    served.shell.step(served.shell.find("fallback application"))
    assert refused == [f"the application sends '{messages[-1]['type']}' when it may not"]


def test_an_application_that_waits_for_more_is_told_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        await receive()

    served = beside(app, begin=True)
    call = served.shell.find("fallback application")
    served.server.shut_down(now=0.0)
    served.server.handle_timeout(now=0.0)
    for _ in range(3):
        served.shell.step(call)
    assert not served.server.closed
    served.server.close(now=0.0)
    served.shell.cancel_asked()
    assert served.server.closed
