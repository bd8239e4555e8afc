"""Principals, requirements and policies; what a hub session makes of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubproto_core import Authorization, Call, Hub, HubConfig, HubSession, Principal, TransportError, authenticated
from hubproto_core._auth import policy_of, user_id_of
from tests.kit.shell import WAITS, HubPeer

ANN = Principal("ann", frozenset({"reader"}))
ADMIN = Principal("root", frozenset({"admin", "reader"}))


class OwnPrincipal:
    """An application's own idea of a principal."""

    name = "own"
    roles = ("admin",)


def invocation(target: str, *arguments: Any, id: str | None = "1", **more: Any) -> dict[str, Any]:  # noqa: A002 - as the protocol calls it
    call = {"type": 1, "invocationId": id, "target": target, "arguments": list(arguments), **more}
    return {name: value for name, value in call.items() if value is not None}


def completion(result: Any, id: str = "1") -> dict[str, Any]:  # noqa: A002 - as the protocol calls it
    return {"type": 3, "invocationId": id, "result": result}


def refused(method: str, id: str = "1") -> dict[str, Any]:  # noqa: A002 - as the protocol calls it
    return {"type": 3, "invocationId": id, "error": f"Failed to invoke '{method}' because user is unauthorized"}


def own_upload_only(authorization: Authorization) -> bool:
    return bool(authorization.arguments and authorization.arguments[0] == "mine")


async def slow_policy(authorization: Authorization) -> bool:
    raise NotImplementedError("the tests decide")


def waiting_policy(authorization: Authorization) -> Any:
    return WAITS


def broken_policy(authorization: Authorization) -> bool:
    raise LookupError("secret detail")


def make_hub(config: HubConfig | None = None) -> Hub:
    hub = Hub(config)

    @hub.method("AdminOnly", requires=["admin", "owner"])
    def admin_only() -> str:
        return "secret"

    @hub.method("Known", requires=authenticated)
    def known(call: Call) -> str | None:
        return call.user

    @hub.method("Mine", requires=own_upload_only)
    def mine(what: str) -> str:
        return what

    @hub.method("Slowly", requires=slow_policy)
    def slowly(number: int) -> int:
        return number

    @hub.method("SlowUpload", requires=slow_policy)
    async def slow_upload(items: AsyncIterator[int]) -> int:
        raise NotImplementedError

    @hub.method("Waits", requires=waiting_policy)
    def waits() -> int:
        return 5

    @hub.method("Broken", requires=broken_policy)
    def broken() -> None:
        raise NotImplementedError

    @hub.method("Count", requires="admin")
    async def count(n: int) -> AsyncIterator[int]:
        yield n

    @hub.method("Open")
    def open_() -> str:
        return "open"

    return hub


HUB = make_hub()


def peer(principal: Any = None, config: HubConfig | None = None) -> HubPeer:
    return HubPeer(HUB, config, principal=principal)


# --- requirements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [(None, False), (ANN, False), (ADMIN, True), (OwnPrincipal(), True), (object(), False)],
    ids=["nobody", "without the role", "with it", "an object of one's own", "an object without roles"],
)
def test_a_list_of_roles_lets_in_who_has_one_of_them(principal: Any, allowed: bool) -> None:
    policy = policy_of(["admin", "owner"])
    assert policy is not None
    assert policy(Authorization(principal)) is allowed


def test_a_requirement_may_be_one_role_a_policy_or_nothing() -> None:
    policy = policy_of("admin")
    assert policy is not None
    assert policy(Authorization(ADMIN)) is True
    assert policy(Authorization(Principal("a", frozenset("admin")))) is False
    assert policy_of(own_upload_only) is own_upload_only
    assert policy_of(None) is None


def test_an_empty_list_of_roles_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="requires=authenticated"):
        Hub(requires=[])
    with pytest.raises(TypeError, match="lets nobody in"):
        Hub().method("X", requires=())


def test_a_user_id_is_an_attribute_unless_the_hub_says_otherwise() -> None:
    assert (user_id_of(ANN), user_id_of(object())) == ("ann", None)
    assert Hub().user_id(ANN) == "ann"
    assert Hub(user_id=lambda principal: principal.name).user_id(OwnPrincipal()) == "own"


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("principal", [None, ANN])
def test_a_method_that_is_not_for_everybody(principal: Any) -> None:
    assert peer(principal).ask(invocation("adminONLY"), invocation("Open", id="2")) == [
        refused("AdminOnly"),
        completion("open", "2"),
    ]


def test_a_method_for_those_who_have_the_role() -> None:
    assert peer(ADMIN).ask(invocation("AdminOnly")) == [completion("secret")]


def test_who_is_known_is_seen_by_the_method() -> None:
    assert HubPeer(HUB, user="ann", principal=ANN).ask(invocation("Known")) == [completion("ann")]
    assert peer().ask(invocation("Known")) == [refused("Known")]


def test_a_policy_sees_the_call() -> None:
    seen: list[Authorization] = []
    hub = Hub()

    def policy(authorization: Authorization) -> bool:
        seen.append(authorization)
        return True

    hub.method("Seen", requires=policy)(lambda a, b=3: None)
    HubPeer(hub, principal=ANN, name="c7").ask(invocation("seen", 1, [2]), invocation("seen", 1))
    assert seen == [Authorization(ANN, "Seen", arguments, "c7") for arguments in ((1, [2]), (1, 3))]
    assert peer(ANN).ask(invocation("Mine", "mine"), invocation("Mine", "yours", id="2")) == [
        completion("mine"),
        refused("Mine", "2"),
    ]


def test_authorization_comes_before_all_other_checks_but_binding() -> None:
    nobody = peer()
    assert nobody.ask(invocation("Count", 3)) == [refused("Count")]
    assert nobody.ask(invocation("AdminOnly", streamIds=["u"])) == [refused("AdminOnly")]
    assert "Failed to invoke 'AdminOnly' due to" in nobody.ask(invocation("AdminOnly", 1))[0]["error"]
    (wrong_way,) = peer(ADMIN).ask(invocation("Count", 3))
    assert "non-streaming invocation" in wrong_way["error"]


def test_a_call_without_an_id_is_refused_in_silence() -> None:
    assert peer().ask(invocation("AdminOnly", id=None), invocation("Open")) == [completion("open")]


def test_a_stream_can_be_refused() -> None:
    stream = {"type": 4, "invocationId": "1", "target": "Count", "arguments": [3]}
    assert peer(ANN).ask(stream) == [refused("Count")]
    allowed = peer(ADMIN)
    allowed.say(stream)
    assert allowed.shell.labels() == ["Count"]


# --- policies that wait ----------------------------------------------------------------------------------------------


def test_what_comes_behind_a_call_waits_for_its_policy() -> None:
    client = peer()
    assert client.ask(invocation("Slowly", 1), invocation("Open", id="2")) == []
    assert not client.session.want_read
    check = client.shell.find("Slowly")
    client.shell.finish(check, True)
    assert client.hear() == [completion(1), completion("open", "2")]


def test_a_policy_that_waits_may_refuse() -> None:
    client = peer()
    client.say(invocation("Slowly", 1), invocation("Open", id="2"))
    client.shell.finish(client.shell.find("Slowly"), False)
    assert client.hear() == [refused("Slowly"), completion("open", "2")]


def test_a_plain_function_may_return_something_to_be_awaited() -> None:
    client = peer()
    assert client.ask(invocation("Waits")) == []
    client.shell.finish(client.shell.find("Waits"), True)
    assert client.hear() == [completion(5)]


def test_items_that_arrive_during_the_decision_are_not_lost() -> None:
    client = peer()
    client.say(invocation("SlowUpload", streamIds=["u"]))
    client.say({"type": 2, "invocationId": "u", "item": 1}, {"type": 2, "invocationId": "u", "item": 2})
    client.shell.finish(client.shell.find("SlowUpload"), True)
    client.hear()
    (stream,) = client.shell.find("SlowUpload").incoming
    assert [stream.receive_nowait(), stream.receive_nowait()] == [1, 2]


def test_items_of_a_refused_upload_are_dropped() -> None:
    client = peer()
    client.say(invocation("SlowUpload", streamIds=["u"]), {"type": 2, "invocationId": "u", "item": 1})
    client.shell.finish(client.shell.find("SlowUpload"), False)
    assert client.hear() == [refused("SlowUpload")]
    assert client.ask({"type": 3, "invocationId": "u"}, invocation("Open")) == [completion("open")]


@pytest.mark.parametrize("detailed", [False, True])
def test_a_policy_that_fails_lets_nobody_in(detailed: bool, caplog: pytest.LogCaptureFixture) -> None:
    client = peer(ADMIN, HubConfig(detailed_errors=detailed))
    text = "An unexpected error occurred invoking 'Broken' on the server."
    if detailed:
        text += " LookupError: secret detail"
    assert client.ask(invocation("Broken")) == [{"type": 3, "invocationId": "1", "error": text}]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert client.ask(invocation("Open")) == [completion("open")]


@pytest.mark.parametrize("outcome", ["allowed", "refused", "failed", "cancelled"])
def test_a_client_that_leaves_meanwhile_ends_the_decision(outcome: str) -> None:
    client = peer()
    client.say(invocation("Slowly", 1))
    check = client.shell.find("Slowly")
    client.session.receive_eof(TransportError("cut"), now=0.0)
    client.shell.run()
    assert client.shell.asked_to_cancel == [check]
    match outcome:
        case "allowed" | "refused":
            client.shell.finish(check, outcome == "allowed")
        case "failed":
            client.shell.fail(check, LookupError("late"))
        case _:
            client.shell.cancel(check)
    assert client.shell.labels() == []
    assert client.session.finished


@pytest.mark.parametrize("outcome", ["allowed", "refused", "failed", "cancelled"])
def test_a_connection_that_is_ended_here_before_the_decision(outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    client = peer()
    client.say(invocation("Slowly", 1))
    check = client.shell.find("Slowly")
    client.session.abort()  # and before anything is told of it, the policy ends
    match outcome:
        case "allowed" | "refused":
            check.session.call_returned(check, outcome == "allowed")
        case "failed":
            check.session.call_failed(check, LookupError("late"))
        case _:
            check.session.call_cancelled(check)
    assert client.shell.labels() == ["Slowly"]  # the policy itself, which the shell has begun: nothing else
    assert client.hear() == [{"type": 7}]
    assert client.session.finished
    assert len(caplog.records) == (1 if outcome == "failed" else 0)


def test_a_policy_that_cancels_itself_lets_nobody_in() -> None:
    client = peer()
    client.say(invocation("Slowly", 1), invocation("Open", id="2"))
    client.shell.cancel(client.shell.find("Slowly"))
    assert client.hear() == [refused("Slowly"), completion("open", "2")]


def test_a_policy_that_the_shutdown_cancels_refuses_nobody() -> None:
    client = peer(config=HubConfig(shutdown_timeout=5.0))
    client.say(invocation("Slowly", 1))
    client.session.shut_down(now=0.0)
    client.session.handle_timeout(now=5.0)
    client.shell.cancel_asked()
    assert client.hear(now=5.0) == [{"type": 7, "allowReconnect": True}]
    assert client.session.finished


def test_a_shutdown_waits_for_a_decision_but_begins_nothing() -> None:
    client = peer()
    client.say(invocation("Slowly", 1))
    client.session.shut_down(now=0.0)
    assert client.hear() == []
    client.shell.finish(client.shell.find("Slowly"), True)
    assert client.hear() == [{"type": 7, "allowReconnect": True}]


# --- expiry ----------------------------------------------------------------------------------------------------------


def test_a_client_may_show_anew_who_it_is(caplog: pytest.LogCaptureFixture) -> None:
    client = HubPeer(make_hub(), principal=ANN, user="ann", expires=7.0)
    session: HubSession = client.session
    later = Principal("ann", roles=frozenset({"later"}))
    session.renew("ann", later, 9.0)
    assert session.principal is later
    assert session.next_timeout() == 9.0
    session.renew("ann", later, None)
    session.handle_timeout(now=9.0)
    assert session.closed is None
    assert caplog.records == []
    session.renew("b\nob", None, 11.0)
    assert [session.user, session.principal] == ["ann", None]
    (record,) = caplog.records
    assert record.getMessage() == "connection c1: a request of another user is accepted: b\\nob"
    assert (record.levelno, vars(record)["user_id"]) == (logging.WARNING, "ann")
    session.handle_timeout(now=11.0)
    assert client.hear(now=11.0) == [{"type": 7, "allowReconnect": True}]
    session.renew("ann", later, 12.0)
    assert session.next_timeout() is None


def test_a_connection_ends_when_its_principal_expires(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = HubPeer(make_hub(), principal=ANN, expires=7.0)
    session: HubSession = client.session
    client.say({"type": 4, "invocationId": "1", "target": "Known", "arguments": []})
    client.hear()
    assert session.next_timeout() == 7.0
    session.handle_timeout(now=6.9)
    assert session.closed is None
    session.handle_timeout(now=7.0)
    assert client.hear(now=7.0) == [{"type": 7, "allowReconnect": True}]
    assert session.finished
    assert [r.getMessage() for r in caplog.records if "expired" in r.getMessage()] == [
        "connection c1 is closed: what its client has shown to get in has expired"
    ]
