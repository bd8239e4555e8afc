"""Stateful reconnect between our clients and Microsoft's server, and what a client does where there is none."""

from __future__ import annotations

import os

import pytest

from hubproto_core import Codec, JsonCodec, MessagePackCodec
from tests.interop._lab import Labs
from tests.kit.cuts import Cuts, weather_the
from tests.kit.runtimes import Runtime

pytestmark = pytest.mark.timeout(600)  # the first test may have to build a server; the others end far sooner

CUTS = int(os.environ.get("HUBPROTO_CUTS", "200"))
SEED = int(os.environ.get("HUBPROTO_SEED", "1"))


@pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)
async def test_a_client_goes_on_over_cut_sockets_as_if_nothing_had_been(rt: Runtime, labs: Labs, codec: Codec) -> None:
    server = labs.start("reference")
    cuts = Cuts(rt, int(server.url.rpartition(":")[2]), SEED, gentle=True)
    async with rt.listen(cuts) as port:
        async with rt.connect(f"http://127.0.0.1:{port}/hub", stateful=True, protocol=codec) as client:
            print(rt, codec.name, await weather_the(cuts, rt, client, CUTS))
