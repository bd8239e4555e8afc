"""Which encodings there are."""

from __future__ import annotations

import pytest

from hubproto_core import JsonCodec, MessagePackCodec
from hubproto_core._codecs import default_codecs, find_codec


def test_json_comes_first() -> None:
    assert [codec.name for codec in default_codecs()] == ["json", "messagepack"]


@pytest.mark.parametrize(("name", "kind"), [("json", JsonCodec), ("messagepack", MessagePackCodec)])
def test_an_encoding_is_found_by_its_name(name: str, kind: type) -> None:
    assert isinstance(find_codec(name), kind)


def test_an_encoding_is_itself() -> None:
    codec = MessagePackCodec(rename="pascal")
    assert find_codec(codec) is codec


@pytest.mark.parametrize("name", ["xml", "JSON", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"protocol must be 'json', 'messagepack' or a Codec, not {name!r}"):
        find_codec(name)
