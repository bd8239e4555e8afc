"""The blocking client calls Microsoft's server."""

from __future__ import annotations

import threading
from typing import Literal

import pytest

from hubproto_asyncio import HubError, MessagePackCodec, blocking
from tests.interop._lab import Labs

pytestmark = pytest.mark.timeout(600)  # the server may have to be built first


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
def test_calls_streams_and_uploads(labs: Labs, protocol: Literal["json", "messagepack"]) -> None:
    codec = MessagePackCodec(rename="pascal") if protocol == "messagepack" else protocol
    with blocking.connect(f"{labs.start('reference').url}/hub", protocol=codec) as hub:
        assert hub.invoke("Add", 2, 3, returns=int, timeout=10) == 5
        with pytest.raises(HubError):
            hub.invoke("Add", 1)
        with hub.stream("Counter", 100, 0, returns=int) as items:
            assert list(items) == list(range(100))
        assert hub.invoke("Upload", hub.upload(word for word in "abc")) == "3:abc"
        before = hub.invoke("Stats")["cancelled"]
        with hub.stream("Counter", 1000, 1) as items:
            assert next(items) == 0
        done = threading.Event()
        while hub.invoke("Stats")["cancelled"] == before:
            assert not done.wait(0.005)
