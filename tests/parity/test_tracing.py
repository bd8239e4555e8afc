"""One trace from a client's span through the message into the hub, in both encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hubproto_core import Hub
from hubproto_core.opentelemetry import OpenTelemetryObserver, trace_headers
from tests.kit.runtimes import Runtime

PROTOCOLS = pytest.mark.parametrize("protocol", ["json", "messagepack"])


@PROTOCOLS
@pytest.mark.parametrize("how", ["invoke", "plain", "send", "stream", "upload"])
async def test_a_span_of_the_client_is_the_parent_of_the_hubs(
    rt: Runtime, protocol: Literal["json", "messagepack"], how: str
) -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = tracers.get_tracer("test")
    hub = Hub(name="Chat", observers=[OpenTelemetryObserver(tracer_provider=tracers)])

    def work() -> None:
        with tracer.start_as_current_span("inner"):
            pass

    @hub.method("plain")
    def plain() -> None:
        work()

    @hub.method("invoke")
    async def invoke() -> None:
        await rt.sleep(0)
        work()

    hub.method("send")(invoke)

    @hub.method("stream")
    async def stream() -> AsyncIterator[int]:
        yield 1
        await rt.sleep(0)
        work()

    @hub.method("upload")
    async def upload(items: AsyncIterator[int]) -> None:
        async for _ in items:
            work()

    def spans() -> dict[str, ReadableSpan]:
        return {span.name: span for span in exporter.get_finished_spans()}

    async with rt.serve(hub) as server:
        async with rt.connect(server.url, protocol=protocol, call_headers=trace_headers) as client:
            with tracer.start_as_current_span("outer"):
                match how:
                    case "send":
                        await client.send("send")
                    case "stream":
                        async with client.stream("stream") as items:
                            assert [item async for item in items] == [1]
                    case "upload":
                        await client.invoke("upload", client.upload([1]))
                    case _:
                        await client.invoke(how)
            await rt.eventually(lambda: len(spans()) == 3)
            assert not trace.get_current_span().get_span_context().is_valid
    outer, call, inner = (spans()[name] for name in ("outer", f"Chat/{how}", "inner"))
    assert outer.context.trace_id == call.context.trace_id == inner.context.trace_id
    assert call.parent is not None
    assert call.parent.is_remote
    assert call.parent.span_id == outer.context.span_id
    assert inner.parent is not None
    assert inner.parent.span_id == call.context.span_id


@PROTOCOLS
async def test_a_client_without_a_span_begins_no_trace(rt: Runtime, protocol: Literal["json", "messagepack"]) -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    hub = Hub(observers=[OpenTelemetryObserver(tracer_provider=tracers)])
    hub.method("Add")(lambda a, b: a + b)
    async with rt.serve(hub) as server:
        async with rt.connect(server.url, protocol=protocol, call_headers=trace_headers) as client:
            assert await client.invoke("Add", 2, 3) == 5
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
