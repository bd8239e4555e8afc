"""URLs: taken apart, and shown."""

from __future__ import annotations

import pytest

from hubproto_core.http import HubClient
from hubproto_core.http._url import host_header, show_url, split_url, with_query
from tests.http._site import Entropy


@pytest.mark.parametrize(
    "url", ["", "chat", "ftp://h/chat", "http://", "http:///chat", "http://[::1/chat", "mailto:a@b", "http://h:0/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_url(url)
    with pytest.raises(ValueError, match=r"."):
        HubClient(url, entropy=Entropy())


def test_a_host_name_must_be_writable() -> None:
    with pytest.raises(ValueError, match="its xn-- form"):
        split_url("http://h\u00e9/")


@pytest.mark.parametrize(
    ("url", "scheme", "path", "query"),
    [
        ("ws://h", "http", "", ""),
        ("wss://h/a b?c d#e", "https", "/a%20b", "c%20d"),
        ("http://h/%41?x=%20&y=?", "http", "/%41", "x=%20&y=?"),
    ],
)
def test_parts_are_ready_for_the_wire(url: str, scheme: str, path: str, query: str) -> None:
    target = split_url(url)
    assert (target.scheme, target.path, target.query, target.fragment) == (scheme, path, query, "")


def test_what_is_shown_holds_no_secret() -> None:
    target = split_url("http://ann:s3cret@h:81/chat?access_token=s3cret")
    assert show_url(target) == "http://h:81/chat"
    assert host_header(target) == "h:81"


def test_a_query_is_appended_to() -> None:
    assert with_query("", "a=1") == "a=1"
    assert with_query("a=1", "b=2") == "a=1&b=2"
