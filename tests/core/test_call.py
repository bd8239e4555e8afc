"""The context of a hub method."""

from hubproto_core import Call, ConnectionInfo, Hub, HubSession, JsonCodec, RunningCall, Transport
from tests.kit.shell import Shell


def test_a_call_knows_where_it_comes_from() -> None:
    info = ConnectionInfo(headers={"x-a": "1"}, query={"id": "2"}, query_string="id=2", transport=Transport.WEB_SOCKETS)
    session = HubSession(
        Hub(), [JsonCodec()], connection_id="c1", effects=Shell().effects, info=info, user="ann", now=0.0
    )
    running = RunningCall(session, print, (), invocation_id="1", label="Print")
    call = Call(session, running)
    assert (call.connection_id, call.user, call.connection) == ("c1", "ann", info)
    call.items["seen"] = 1
    assert Call(session, running).items == {"seen": 1}
    assert call.groups is session.groups
    call.abort()
    session.data_to_send(now=0.0)
    assert session.closed is not None


def test_what_is_not_known_about_a_connection_is_empty() -> None:
    info = ConnectionInfo()
    assert (info.headers, info.query, info.query_string, info.transport) == ({}, {}, "", "")
