"""Negotiation as text."""

import json
from typing import Any

import pytest

from hubproto_core import TransportError
from hubproto_core.http._negotiate import (
    AvailableTransport,
    encode_error,
    encode_response,
    parse_response,
    requested_version,
)

URL = "http://h/chat"
TRANSPORTS = (AvailableTransport("WebSockets", ("Text", "Binary")), AvailableTransport("LongPolling", ("Text",)))


@pytest.mark.parametrize(
    ("query", "version"),
    [({}, 0), ({"negotiateversion": "0"}, 0), ({"negotiateversion": "1"}, 1), ({"negotiateversion": "99"}, 1)],
)
def test_versions_are_lowered_to_the_highest_known(query: dict[str, str], version: int) -> None:
    assert requested_version(query) == version


@pytest.mark.parametrize("raw", ["x", "", "1.0", "9" * 5000])
def test_versions_are_integers(raw: str) -> None:
    with pytest.raises(ValueError, match=r"^The client requested a non-integer protocol version\.$"):
        requested_version({"negotiateversion": raw})


def test_versions_are_not_negative() -> None:
    with pytest.raises(
        ValueError, match=r"^The client requested version '-1', but the server does not support this version\.$"
    ):
        requested_version({"negotiateversion": "-1"})


def test_a_response_has_its_members_in_the_reference_s_order() -> None:
    transports = '"availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]'
    assert encode_response(1, "id", "token", TRANSPORTS[:1]).decode() == (
        f'{{"negotiateVersion":1,"connectionId":"id","connectionToken":"token",{transports}}}'
    )
    assert encode_response(0, "id", "id", TRANSPORTS[:1]).decode() == (
        f'{{"negotiateVersion":0,"connectionId":"id",{transports}}}'
    )
    assert encode_response(1, "id", "token", (), use_stateful_reconnect=True).decode() == (
        '{"useStatefulReconnect":true,"negotiateVersion":1,"connectionId":"id","connectionToken":"token",'
        '"availableTransports":[]}'
    )
    assert encode_error('no "way"').decode() == '{"error":"no \\"way\\""}'


@pytest.mark.parametrize(("version", "token"), [(1, "token"), (0, "id")])
def test_what_is_written_is_read_back(version: int, token: str) -> None:
    response = parse_response(encode_response(version, "id", "token", TRANSPORTS), URL)
    assert (response.connection_id, response.token, response.available_transports) == ("id", token, TRANSPORTS)


def test_a_response_without_version_is_of_version_0() -> None:
    response = parse_response(b'{"connectionId":"id","availableTransports":[],"unknown":{}}', URL)
    assert response.token == "id"


def test_what_a_response_has_besides_is_not_looked_at() -> None:
    response = parse_response(
        b'{"negotiateVersion":null,"connectionId":"1","connectionId":"id","x":[{}],"useStatefulReconnect":true,'
        b'"availableTransports":[null,1,{"x":{"transport":1},"transport":"LongPolling","transferFormats":[]}]} junk',
        URL,
    )
    assert (response.negotiate_version, response.token) == (0, "id")
    assert response.use_stateful_reconnect
    assert response.available_transports == (AvailableTransport("LongPolling", ()),)


def test_a_redirect_needs_no_more_than_an_address() -> None:
    response = parse_response(b'{"url":"http://other","accessToken":"secret"}', URL)
    assert (response.url, response.access_token) == ("http://other", "secret")


FULL: dict[str, Any] = {
    "negotiateVersion": 1,
    "connectionId": "id",
    "connectionToken": "token",
    "availableTransports": [],
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in FULL.items() if key != name}


def offering(transports: Any) -> dict[str, Any]:
    return {**FULL, "availableTransports": transports}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<html>", "something that is no JSON; is it the address of a SignalR hub?"),
        ("", "something that is no JSON"),
        ("\udcff", "something that is no JSON"),
        ('{"a":' * 100_000, "something that is no JSON"),
        ("[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("null", "Unexpected JSON Token Type 'Null'. Expected a JSON Object."),
        ({"error": "no way"}, "http://h/chat refused the negotiation: no way"),
        ({"ProtocolVersion": "1.5"}, "This client only supports connecting to an ASP.NET Core SignalR Server."),
        (without("connectionId"), "Missing required property 'connectionId'."),
        (without("connectionToken"), "Missing required property 'connectionToken'."),
        (without("availableTransports"), "Missing required property 'availableTransports'."),
        ({**FULL, "connectionId": None}, "Expected 'connectionId' to be of type String."),
        ({**FULL, "url": 5}, "Expected 'url' to be of type String."),
        ({**FULL, "negotiateVersion": "1"}, "Expected 'negotiateVersion' to be of type Number."),
        ({**FULL, "useStatefulReconnect": None}, "Expected 'useStatefulReconnect' to be true or false."),
        (offering(None), "Unexpected JSON Token Type 'Null'. Expected a JSON Array."),
        (offering([[]]), "Unexpected token 'EndArray' when reading negotiation response JSON."),
        (offering([{"transport": "WebSockets"}]), "Missing required property 'transferFormats'."),
        (offering([{"transferFormats": []}]), "Missing required property 'transport'."),
        (offering([{"transport": None}]), "Expected 'transport' to be of type String."),
        (offering([{"transferFormats": "Text"}]), "Unexpected JSON Token Type 'String'. Expected a JSON Array."),
        (offering([{"transferFormats": [1]}]), "Unexpected token 'Number' when reading transfer formats JSON."),
    ],
)
def test_what_is_no_response_is_refused(body: str | dict[str, Any], text: str) -> None:
    data = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(TransportError) as refused:
        parse_response(data, URL)
    assert text in str(refused.value)
    assert URL in str(refused.value)
