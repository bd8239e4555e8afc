"""Who is to blame, and what the peer is told."""

import pytest

from hubproto_core import (
    EndOfStream,
    HubError,
    HubProtoError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    WouldBlock,
)
from hubproto_core._errors import error_text


class QuotaError(HubError):
    kind = "QuotaException"


@pytest.mark.parametrize(
    "kind", [EndOfStream, HubError, LocalProtocolError, RemoteProtocolError, TransportError, WouldBlock]
)
def test_one_base_class_catches_all(kind: type[HubProtoError]) -> None:
    assert isinstance(kind("text"), HubProtoError)


@pytest.mark.parametrize(
    ("error", "detailed", "text"),
    [
        (None, True, "It failed."),
        (None, False, "It failed."),
        (KeyError("secret"), False, "It failed."),
        (RemoteProtocolError("secret"), False, "It failed."),
        (ValueError("detail"), True, "It failed. ValueError: detail"),
        (RemoteProtocolError("detail"), True, "It failed. InvalidDataException: detail"),
        (RemoteProtocolError("detail", kind="JsonException"), True, "It failed. JsonException: detail"),
        (TransportError("detail"), True, "It failed. TransportError: detail"),
        (TransportError("detail", kind="IOException"), True, "It failed. IOException: detail"),
        (HubError("told"), False, "It failed. HubException: told"),
        (QuotaError("told"), False, "It failed. QuotaException: told"),
    ],
)
def test_only_hub_errors_tell_details_unless_asked_for(error: Exception | None, detailed: bool, text: str) -> None:
    assert error_text("It failed.", error, detailed=detailed) == text
