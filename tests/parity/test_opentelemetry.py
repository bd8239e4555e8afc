"""A trace from a client's span to what a hub does, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest

pytest.importorskip("opentelemetry.sdk", reason="only where the extra and the SDK are installed")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hubproto_core import Hub
from hubproto_core.opentelemetry import OpenTelemetryObserver, trace_headers
from tests.kit.runtimes import Runtime


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_a_trace_goes_on_in_the_hub(rt: Runtime, protocol: Literal["json", "messagepack"]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = trace.get_tracer("test", tracer_provider=provider)
    hub = Hub(name="Chat", observers=[OpenTelemetryObserver(tracer_provider=provider)])

    @hub.method("Add")
    async def add(a: int, b: int) -> int:
        await rt.sleep(0)
        with tracer.start_as_current_span("add"):
            return a + b

    @hub.method("Count")
    async def count() -> AsyncIterator[int]:
        for number in range(2):
            await rt.sleep(0)
            with tracer.start_as_current_span("item"):
                yield number

    async with rt.serve(hub) as server:
        async with rt.connect(server.url, protocol=protocol, call_headers=trace_headers) as client:
            with tracer.start_as_current_span("client"):
                assert await client.invoke("Add", 2, 3) == 5
                async with client.stream("Count") as items:
                    assert [item async for item in items] == [0, 1]
    provider.shutdown()
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    tree = sorted((span.name, names[span.parent.span_id] if span.parent else "") for span in spans)
    assert tree == [
        ("Chat/Add", "client"),
        ("Chat/Count", "client"),
        ("add", "Chat/Add"),
        ("client", ""),
        *[("item", "Chat/Count")] * 2,
    ]
    assert len({span.context.trace_id for span in spans}) == 1
