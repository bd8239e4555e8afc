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
    assert encode_error('no "way"').decode() == '{"error":"no \\"way\\""}'


@pytest.mark.parametrize(("version", "token"), [(1, "token"), (0, "id")])
def test_what_is_written_is_read_back(version: int, token: str) -> None:
    response = parse_response(encode_response(version, "id", "token", TRANSPORTS), URL)
    assert (response.connection_id, response.token, response.available_transports) == ("id", token, TRANSPORTS)


def test_a_response_without_version_is_of_version_0() -> None:
    response = parse_response(b'{"connectionId":"id","availableTransports":[],"unknown":{}}', URL)
    assert response.token == "id"


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


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<html>", "something that is no JSON; is it the address of a SignalR hub?"),
        ("", "something that is no JSON"),
        ("\udcff", "something that is no JSON"),
        ("[" * 100_000, "something that is no JSON"),
        ("[]", "JSON that is no object"),
        ("null", "JSON that is no object"),
        ({"error": "no way"}, "http://h/chat refused the negotiation: no way"),
        ({"ProtocolVersion": "1.5"}, "This client only supports connecting to an ASP.NET Core SignalR Server."),
        (without("connectionId"), "Missing required property 'connectionId'."),
        (without("connectionToken"), "Missing required property 'connectionToken'."),
        (without("availableTransports"), "Missing required property 'availableTransports'."),
        ({**FULL, "connectionId": None}, "Missing required property 'connectionId'."),
        ({**FULL, "connectionId": 5}, "Invalid negotiation response received. "),
        ({**FULL, "availableTransports": [{"transport": "WebSockets"}]}, "Invalid negotiation response received. "),
        ({**FULL, "negotiateVersion": "1"}, "Invalid negotiation response received. "),
    ],
)
def test_what_is_no_response_is_refused(body: str | dict[str, Any], text: str) -> None:
    data = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(TransportError) as refused:
        parse_response(data, URL)
    assert text in str(refused.value)
    assert URL in str(refused.value)
