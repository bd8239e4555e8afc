"""The handshake's two records."""

import pytest

from hubproto_core import HubError, RemoteProtocolError
from hubproto_core._handshake import parse_request, parse_response, request, response


def test_a_request_names_protocol_and_version() -> None:
    assert request("json", 1) == b'{"protocol":"json","version":1}\x1e'


def test_a_response_is_empty_or_an_error() -> None:
    assert response() == b"{}\x1e"
    assert response("no \u2603") == '{"error":"no \u2603"}\x1e'.encode()
    assert response("\ufeff\U0001f600\x1f") == b'{"error":"\\uFEFF\\uD83D\\uDE00\\u001F"}\x1e'


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"protocol":"json","version":1}', ("json", 1)),
        (' {"version":-3, "protocol":"messagepack"} ', ("messagepack", -3)),
        ('{"protocol":"json","version":1,"extra":{"version":[2]}}', ("json", 1)),
        ('{"protocol":"a","version":1,"protocol":"b"}', ("b", 1)),
        ('{"pr\\u006ftocol":"js\\u006fn","version":1}', ("json", 1)),
        ('{"protocol":"","version":0}', ("", 0)),
        ('{"protocol":"json","version":1}{"junk":1}', ("json", 1)),
        ('{"protocol":"json","version":1} junk', ("json", 1)),
        ('{"pr\\u006ftocol":"json","version":1} junk', ("json", 1)),
        ('{"protocol":"}\\"]","version":1,"x":[{"y":"}"}]}}', ('}"]', 1)),
        ('{"protocol":"json","version":2147483647}', ("json", 2**31 - 1)),
        ('{"protocol":"json","version":1,"x":"\\ud800"}', ("json", 1)),
    ],
)
def test_requests_are_read(text: str, parsed: tuple[str, int]) -> None:
    assert parse_request(text.encode()) == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("1", "Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        ('{"protocol":null,"version":1}', "Expected 'protocol' to be of type String."),
        ('{"protocol":7,"version":1}', "Expected 'protocol' to be of type String."),
        ('{"protocol":"json","version":"1"}', "Expected 'version' to be of type Number."),
        ('{"protocol":"json","version":[]}', "Expected 'version' to be of type Number."),
        ('{"protocol":7,x', "Expected 'protocol' to be of type String."),
        ('{"version":1}', "Missing required property 'protocol'. Message content: {\"version\":1}"),
        ("{}", "Missing required property 'protocol'. Message content: {}"),
        ('{"protocol":"json"}', 'Missing required property \'version\'. Message content: {"protocol":"json"}'),
        (
            '{"protocol":"json","version":null}',
            'Missing required property \'version\'. Message content: {"protocol":"json","version":null}',
        ),
        (
            '{"type":1,"target":"Add","arguments":[]}',
            'Missing required property \'protocol\'. Message content: {"type":1,"target":"Add","arguments":[]}',
        ),
    ],
)
def test_what_is_no_request_is_refused_in_the_reference_s_words(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_request(text.encode())
    assert (str(refused.value), refused.value.kind) == (reason, "InvalidDataException")


@pytest.mark.parametrize("version", ["1.5", "1.0", "1e1", "2147483648", "-2147483649", "9" * 5000])
def test_versions_are_integers_of_32_bits(version: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_request(f'{{"protocol":"json","version":{version}}}'.encode())
    assert refused.value.kind == "FormatException"


@pytest.mark.parametrize("text", ["", "hello", "{", '{"protocol":"json","version":1', '{"protocol":"json",}', "[" * 65])
def test_a_request_is_json(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^(Error reading JSON\.|Unexpected JSON Token Type 'Array'\..*)$"):
        parse_request(text.encode())


def test_malformed_requests_have_the_reference_s_name() -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_request(b"hello")
    assert (str(refused.value), refused.value.kind) == ("Error reading JSON.", "JsonReaderException")


def test_what_is_read_of_a_request_is_text() -> None:
    assert parse_request(b'{"protocol":"json","version":1,"x":"\xff"}') == ("json", 1)
    with pytest.raises(RemoteProtocolError) as refused:
        parse_request(b'{"protocol":"\xff","version":1}')
    assert refused.value.kind == "InvalidOperationException"
    with pytest.raises(RemoteProtocolError, match="Message content: {.*\ufffd.*}$"):
        parse_request(b'{"protocol":"json","x":"\xff"}')


@pytest.mark.parametrize("text", ["{}", ' {"minorVersion":0} ', "{} junk", '{"unknown":{"error":"x","type":1}}'])
def test_a_response_without_error_is_agreement(text: str) -> None:
    parse_response(text.encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"error":"no"}', "Unable to complete handshake with the server due to an error: no"),
        ('{"error":"no","error":"never"}', "Unable to complete handshake with the server due to an error: never"),
        ('{"error":""}', "Unable to complete handshake with the server due to an error: "),
    ],
)
def test_the_server_s_error_is_told(text: str, reason: str) -> None:
    with pytest.raises(HubError) as told:
        parse_response(text.encode())
    assert str(told.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"type":6}', "Expected a handshake response from the server."),
        ('{"error":null}', "Expected 'error' to be of type String."),
        ("[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("junk", "Error reading JSON."),
    ],
)
def test_what_is_no_response_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_response(text.encode())
    assert str(refused.value) == reason
