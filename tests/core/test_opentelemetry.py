"""What OpenTelemetry gets to see, by the exporters of its SDK that keep everything in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hubproto_core import Call, ConnectionInfo, Hub, HubError, HubSession, Transport
from hubproto_core.opentelemetry import OpenTelemetryObserver, trace_headers
from tests.kit.shell import HubPeer, ServerPeer, Shell
from tests.kit.wire import HANDSHAKE

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Telemetry:
    """An SDK, and what has come to it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self) -> list[ReadableSpan]:
        """All spans that have ended."""
        return list(self.exporter.get_finished_spans())

    def metrics(self) -> dict[str, tuple[str, list[Any]]]:
        """Unit and points of each metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        found = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                assert scope.scope.name == "hubproto_core"
                for metric in scope.metrics:
                    found[metric.name] = (metric.unit or "", list(metric.data.data_points))
        return found


class KeyMissingError(Exception): ...


def make_hub(telemetry: Telemetry) -> Hub:
    hub = Hub(name="Chat", observers=[telemetry.observer])

    @hub.method("Current")
    def current() -> str:
        return format(trace.get_current_span().get_span_context().span_id, "016x")

    @hub.method("CurrentLater")
    async def current_later() -> str:
        return format(trace.get_current_span().get_span_context().span_id, "016x")

    @hub.method("Baggage")
    def carried() -> object:
        return baggage.get_baggage("who")

    @hub.method("Fail")
    def fail(how: str) -> None:
        raise {"value": ValueError, "hub": HubError, "own": KeyMissingError}[how]("x")

    @hub.method("Count")
    async def count() -> Any:
        yield 1

    return hub


def call(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


@pytest.mark.parametrize("target", ["Current", "CurrentLater"])
def test_a_call_is_a_span_that_is_current_while_it_runs(target: str) -> None:
    telemetry = Telemetry()
    peer = HubPeer(make_hub(telemetry))
    peer.say(call(target))
    for running in list(peer.shell.running):
        peer.shell.step(running)
    (answer,) = peer.hear()
    (span,) = telemetry.spans()
    assert (span.name, span.kind, span.parent) == (f"Chat/{target}", SpanKind.SERVER, None)
    assert dict(span.attributes or {}) == {"rpc.system": "signalr", "rpc.service": "Chat", "rpc.method": target}
    assert span.status.status_code is StatusCode.UNSET
    assert answer["result"] == format(span.context.span_id, "016x")
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "hubproto_core"
    assert not trace.get_current_span().get_span_context().is_valid


def test_its_parent_is_the_one_that_the_message_names() -> None:
    telemetry = Telemetry()
    HubPeer(make_hub(telemetry)).say(call("Current", headers={"traceparent": TRACEPARENT, "tracestate": "a=b"}))
    (span,) = telemetry.spans()
    assert span.parent is not None
    assert (format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x")) == (TRACE, PARENT)
    assert span.parent.is_remote
    assert span.parent.trace_state.get("a") == "b"


def test_baggage_comes_along() -> None:
    peer = HubPeer(make_hub(Telemetry()))
    assert peer.ask(call("Baggage", headers={"baggage": "who=ann"}))[0]["result"] == "ann"


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"tracestate": "a=b"}])
def test_without_a_parent_it_is_a_root_whatever_is_current_elsewhere(headers: dict[str, str]) -> None:
    telemetry = Telemetry()
    peer = HubPeer(make_hub(telemetry))
    with telemetry.tracers.get_tracer("test").start_as_current_span("elsewhere"):
        peer.say(call("Current", headers=headers))
    span, _ = telemetry.spans()
    assert (span.name, span.parent) == ("Chat/Current", None)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("value", "ValueError"),
        ("hub", "hubproto_core.HubError"),
        ("own", f"{KeyMissingError.__module__}.KeyMissingError"),
    ],
)
def test_an_error_is_named_and_its_text_is_not_told(how: str, kind: str) -> None:
    telemetry = Telemetry()
    HubPeer(make_hub(telemetry)).say(call("Fail", how))
    (span,) = telemetry.spans()
    assert (span.attributes or {})["error.type"] == kind
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())


def test_a_stream_is_one_span_to_its_end_and_a_cancelled_one_is_no_error() -> None:
    telemetry = Telemetry()
    peer = HubPeer(make_hub(telemetry))
    peer.say({**call("Count"), "type": 4}, {"type": 5, "invocationId": "1"})
    assert telemetry.spans() == []
    peer.shell.cancel_asked()
    (span,) = telemetry.spans()
    assert (span.name, span.status.status_code) == ("Chat/Count", StatusCode.UNSET)


def test_hooks_are_internal() -> None:
    telemetry = Telemetry()
    hub = make_hub(telemetry)

    @hub.on_connected
    def connected(call: Call) -> None: ...

    HubPeer(hub)
    (span,) = telemetry.spans()
    assert (span.name, span.kind) == ("Chat/on_connected", SpanKind.INTERNAL)


def test_connections_are_counted_and_measured() -> None:
    telemetry = Telemetry()
    hub = make_hub(telemetry)
    transport = {"signalr.transport": "web_sockets"}
    sessions = [
        HubSession(
            hub,
            hub.codecs,
            connection_id=f"c{number}",
            effects=Shell().effects,
            info=ConnectionInfo(transport=Transport.WEB_SOCKETS),
            now=100.0,
        )
        for number in range(2)
    ]
    unit, (active,) = telemetry.metrics()["signalr.server.active_connections"]
    assert isinstance(active, NumberDataPoint)
    assert (unit, active.value, dict(active.attributes or {})) == ("{connection}", 2, transport)
    sessions[0].receive_data(HANDSHAKE + b'{"type":7}\x1e', now=100.25)
    sessions[1].handle_timeout(now=115.0)
    metrics = telemetry.metrics()
    _, (active,) = metrics["signalr.server.active_connections"]
    assert active.value == 0
    unit, points = metrics["signalr.server.connection.duration"]
    assert unit == "s"
    durations = {}
    for point in points:
        assert isinstance(point, HistogramDataPoint)
        assert tuple(point.explicit_bounds) == (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
        attributes = dict(point.attributes or {})
        durations[attributes.pop("signalr.connection.status")] = (point.sum, point.count)
        assert attributes == transport
    assert durations == {"normal_closure": (0.25, 1), "timeout": (15.0, 1)}


def test_a_client_tells_which_span_is_current() -> None:
    telemetry = Telemetry()
    server = ServerPeer(call_headers=trace_headers)
    with telemetry.tracers.get_tracer("test").start_as_current_span("outer") as span:
        server.session.send("a")
    server.session.send("b")
    inside, outside = server.hear()
    context = span.get_span_context()
    assert inside["headers"] == {
        "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    }
    assert "headers" not in outside


def test_without_an_sdk_nothing_happens() -> None:
    hub = Hub(observers=[OpenTelemetryObserver()])
    hub.method("Add")(lambda a, b: a + b)
    token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
    try:
        assert HubPeer(hub).ask(call("Add", 1, 2)) == [{"type": 3, "invocationId": "1", "result": 3}]
        assert trace_headers() == {}
    finally:
        detach(token)


def test_nothing_but_its_own_module_needs_opentelemetry() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import hubproto_core, hubproto_core.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_span_that_cannot_be_started_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no span today")

    telemetry = Telemetry()
    peer = HubPeer(make_hub(telemetry))
    monkeypatch.setattr(propagate, "extract", broken)
    assert peer.ask(call("Baggage")) == [{"type": 3, "invocationId": "1", "result": None}]
    assert [message.partition(" ")[0] for message in caplog.messages] == ["call_started"]
    assert telemetry.spans() == []
