"""Asking for an access token."""

from __future__ import annotations

from typing import Any

import pytest

from hubproto_core import TokenFailed, WouldBlock
from hubproto_core.http._access_token import TokenRequest
from tests.kit.shell import Shell

HOST = "host"


def asked(provider: Any) -> tuple[TokenRequest, Shell]:
    shell = Shell()
    request = TokenRequest(provider, "http://h", HOST, shell.effects)
    shell.run()
    return request, shell


async def slowly() -> str:
    raise AssertionError("the test ends it")


def test_a_plain_provider_answers_at_once() -> None:
    request, shell = asked(lambda: "abc")
    assert request.token() == "abc"
    assert shell.was_woken(HOST)


def test_there_may_be_no_token() -> None:
    assert asked(lambda: None)[0].token() is None


def test_an_async_provider_is_waited_for() -> None:
    request, shell = asked(slowly)
    with pytest.raises(WouldBlock):
        request.token()
    assert not shell.was_woken(HOST)
    call = shell.find("access-token provider")
    shell.finish(call, "abc")
    assert request.token() == "abc"
    assert shell.was_woken(HOST)
    request.call_cancelled(call)  # as trio says of every call at its end
    assert request.token() == "abc"


def test_a_provider_that_fails_is_the_cause_and_its_text_is_not_told() -> None:
    error = KeyError("s3cret")

    def broken() -> str:
        raise error

    request, _ = asked(broken)
    with pytest.raises(TokenFailed) as failed:
        request.token()
    assert str(failed.value) == "the access-token provider for http://h failed: KeyError"
    assert failed.value.__cause__ is error


@pytest.mark.parametrize(
    ("token", "text"),
    [("a\r\nb: c", "a text that no header can carry"), (b"abc", "a bytes object"), ([], "a list object")],
)
def test_what_is_no_token(token: Any, text: str) -> None:
    request, _ = asked(lambda: token)
    with pytest.raises(TokenFailed, match=f"gave {text}$"):
        request.token()


def test_a_provider_that_is_cancelled_has_failed() -> None:
    request, shell = asked(slowly)
    shell.cancel(shell.find("access-token provider"))
    with pytest.raises(TokenFailed, match="failed: TimeoutError"):
        request.token()


def test_nobody_waits_any_longer() -> None:
    request, shell = asked(slowly)
    request.abandon()
    request.abandon()
    shell.run()
    assert len(shell.asked_to_cancel) == 1
    shell.cancel_asked()
    assert not shell.was_woken(HOST)
