"""The texts of why there is no connection."""

from __future__ import annotations

import pickle

import pytest

from hubproto_core import (
    ConnectionFailed,
    HandshakeRefused,
    HubError,
    NotAHub,
    ProtocolNotSupported,
    TransportError,
    Unauthorized,
    _client_errors,
)
from hubproto_core._client_errors import handshake_refused


@pytest.mark.parametrize("kind", [getattr(_client_errors, name) for name in _client_errors.__all__])
def test_every_reason_is_caught_as_what_it_was(kind: type[Exception] | object) -> None:
    if isinstance(kind, type):
        assert issubclass(kind, ConnectionFailed if issubclass(kind, TransportError) else HandshakeRefused)
        assert kind.__doc__


def test_a_text_says_what_and_what_to_try() -> None:
    error = NotAHub("http://h/x", "http://h/x answered 404")
    assert str(error) == "http://h/x answered 404; is it the address of a SignalR hub?"
    assert (error.url, error.what) == ("http://h/x", "http://h/x answered 404")
    assert str(ConnectionFailed("http://h/x", "it failed")) == "it failed"


def test_errors_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(Unauthorized("http://h/x", "401")))
    assert (type(copy), copy.url, str(copy)) == (Unauthorized, "http://h/x", "401; it wants a (valid) access token")


@pytest.mark.parametrize(("protocol", "other"), [("json", "messagepack"), ("messagepack", "json")])
def test_a_protocol_that_is_not_supported(protocol: str, other: str) -> None:
    refused = handshake_refused("http://h", HubError(f"The protocol '{protocol}' is not supported."), protocol)
    assert isinstance(refused, ProtocolNotSupported)
    assert str(refused).startswith(f"The protocol '{protocol}' is not supported. (http://h); does it speak '{other}'")


@pytest.mark.parametrize("text", ["no", "the weather is not supported", "a protocol of another kind"])
def test_another_refusal(text: str) -> None:
    refused = handshake_refused("http://h", HubError(text), "json")
    assert type(refused) is HandshakeRefused
    assert str(refused) == f"{text} (http://h)"
