"""What OpenTelemetry is fed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="only where the extra and the SDK are installed")

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hubproto_core import (
    ClientSession,
    Codec,
    ConnectionInfo,
    Handlers,
    Hub,
    HubConfig,
    HubError,
    HubSession,
    JsonCodec,
    MessagePackCodec,
    TransportError,
)
from hubproto_core.opentelemetry import OpenTelemetryObserver, trace_headers
from tests.kit.shell import HubPeer, Shell
from tests.kit.wire import HANDSHAKE

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kit:
    """An observer whose data stay here."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.observer = OpenTelemetryObserver(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended."""
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and data of a metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        points = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        return [(dict(point.attributes or {}), point) for point in points]


@pytest.fixture
def kit() -> Iterator[Kit]:
    """An observer whose data stay here."""
    kit = Kit()
    yield kit
    kit.tracers.shutdown()
    kit.meters.shutdown()


def span_id() -> int:
    """The span that is current."""
    return trace.get_current_span().get_span_context().span_id


def make_hub(kit: Kit) -> Hub:
    hub = Hub(name="Chat", observers=[kit.observer])

    @hub.method("Current")
    def current() -> list[Any]:
        return [span_id(), baggage.get_baggage("who")]

    @hub.method("Later")
    async def later() -> int:
        return span_id()

    @hub.method("Fail")
    def fail(how: str) -> None:
        raise {"text": HubError("not today"), "mistake": ValueError("secret"), "gone": TransportError("gone")}[how]

    @hub.method("Count")
    async def count() -> AsyncIterator[int]:
        yield 1

    return hub


def call(target: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": 1, "invocationId": "1", "target": target, "arguments": list(arguments), **more}


def test_a_call_is_a_span(kit: Kit) -> None:
    peer = HubPeer(make_hub(kit))
    ((answer,)) = peer.ask(call("current"))
    (span,) = kit.spans
    assert (span.name, span.kind, span.parent) == ("Chat/Current", SpanKind.SERVER, None)
    assert dict(span.attributes or {}) == {"rpc.system": "signalr", "rpc.service": "Chat", "rpc.method": "Current"}
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "hubproto_core"
    assert answer["result"] == [span.context.span_id, None]
    assert span_id() == 0


def test_its_parent_is_the_one_that_the_message_names(kit: Kit) -> None:
    peer = HubPeer(make_hub(kit))
    headers = {"traceparent": PARENT, "tracestate": "vendor=1", "baggage": "who=ann"}
    with trace.get_tracer("test", tracer_provider=kit.tracers).start_as_current_span("not the parent"):
        ((answer,)) = peer.ask(call("Current", headers=headers))
    span, _ = kit.spans
    assert span.parent is not None
    assert span.parent.is_remote
    assert f"00-{span.parent.trace_id:032x}-{span.parent.span_id:016x}-01" == PARENT
    assert span.context.trace_state.get("vendor") == "1"
    assert answer["result"] == [span.context.span_id, "ann"]


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"Traceparent": PARENT}])
def test_without_a_valid_one_it_has_none(kit: Kit, headers: dict[str, str]) -> None:
    with trace.get_tracer("test", tracer_provider=kit.tracers).start_as_current_span("not the parent"):
        HubPeer(make_hub(kit)).say(call("Current", headers=headers))
    assert kit.spans[0].parent is None


@pytest.fixture
def only_baggage() -> Iterator[None]:
    """Nothing else propagates."""
    usual = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    yield
    propagate.set_global_textmap(usual)


@pytest.mark.usefixtures("only_baggage")
def test_what_is_current_in_the_server_is_no_parent_whatever_propagates(kit: Kit) -> None:
    with trace.get_tracer("test", tracer_provider=kit.tracers).start_as_current_span("not the parent"):
        ((answer,)) = HubPeer(make_hub(kit)).ask(call("Current", headers={"traceparent": PARENT, "baggage": "who=ann"}))
    assert kit.spans[0].parent is None
    assert answer["result"] == [kit.spans[0].context.span_id, "ann"]


@pytest.mark.parametrize(
    ("how", "name"),
    [("text", "hubproto_core.HubError"), ("mistake", "ValueError"), ("gone", "hubproto_core.TransportError")],
)
def test_an_error_has_a_type(kit: Kit, how: str, name: str) -> None:
    HubPeer(make_hub(kit)).say(call("Fail", how))
    (span,) = kit.spans
    assert span.attributes is not None
    assert span.attributes["error.type"] == name
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)


def test_a_cancelled_call_is_no_error(kit: Kit) -> None:
    peer = HubPeer(make_hub(kit))
    peer.say(call("Later"), {"type": 5, "invocationId": "1"})
    peer.shell.cancel_asked()
    (span,) = kit.spans
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in (span.attributes or {})


def test_a_stream_is_one_span_to_its_end(kit: Kit) -> None:
    peer = HubPeer(make_hub(kit))
    peer.say({**call("Count"), "type": 4})
    running = peer.shell.find("Count")
    assert kit.spans == []
    peer.shell.finish(running)
    assert [span.name for span in kit.spans] == ["Chat/Count"]


def test_hooks_are_internal(kit: Kit) -> None:
    hub = make_hub(kit)
    hub.on_connected(lambda: None)
    hub.on_disconnected(lambda: None)
    HubPeer(hub).say({"type": 7})
    assert [(span.name, span.kind) for span in kit.spans] == [
        ("Chat/on_connected", SpanKind.INTERNAL),
        ("Chat/on_disconnected", SpanKind.INTERNAL),
    ]


def test_a_span_that_cannot_be_started_hurts_nobody(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no span today")

    peer = HubPeer(make_hub(kit))
    monkeypatch.setattr(propagate, "extract", broken)
    assert peer.ask(call("Current")) == [{"type": 3, "invocationId": "1", "result": [0, None]}]
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["call_started"]
    assert kit.spans == []


def connection(hub: Hub, transport: str) -> HubSession:
    info = ConnectionInfo(transport=transport)
    session = HubSession(hub, hub.codecs, connection_id="c1", effects=Shell().effects, info=info, now=10.0)
    session.receive_data(HANDSHAKE, now=10.0)
    return session


def leave(session: HubSession) -> None:
    session.receive_data(b'{"type":7}\x1e', now=12.5)


def fall_silent(session: HubSession) -> None:
    session.receive_data(b'{"type":6}\x1e', now=10.0)
    session.handle_timeout(now=40.0)


def shut_down(session: HubSession) -> None:
    session.shut_down(now=11.0)
    session.data_to_send(now=11.0)


@pytest.mark.parametrize(
    ("transport", "name"),
    [
        ("WebSockets", "web_sockets"),
        ("ServerSentEvents", "server_sent_events"),
        ("LongPolling", "long_polling"),
    ],
)
@pytest.mark.parametrize(
    ("end", "status", "seconds"),
    [(leave, "normal_closure", 2.5), (fall_silent, "timeout", 30.0), (shut_down, "app_shutdown", 1.0)],
)
def test_connections_are_counted_and_timed(
    kit: Kit, transport: str, name: str, end: Callable[[HubSession], None], status: str, seconds: float
) -> None:
    hub = make_hub(kit)
    session = connection(hub, transport)
    connection(hub, transport)
    ((attributes, point),) = kit.points("signalr.server.active_connections")
    assert (attributes, point.value) == ({"signalr.transport": name}, 2)
    assert isinstance(point, NumberDataPoint)
    assert kit.points("signalr.server.connection.duration") == []
    end(session)
    ((attributes, point),) = kit.points("signalr.server.active_connections")
    assert (attributes, point.value) == ({"signalr.transport": name}, 1)
    ((attributes, point),) = kit.points("signalr.server.connection.duration")
    assert attributes == {"signalr.transport": name, "signalr.connection.status": status}
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, point.sum) == (1, seconds)
    assert (point.explicit_bounds[0], point.explicit_bounds[-1]) == (0.01, 300)


def test_metrics_have_units(kit: Kit) -> None:
    leave(connection(make_hub(kit), "WebSockets"))
    data = kit.reader.get_metrics_data()
    assert data is not None
    units = {metric.name: metric.unit for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert units == {"signalr.server.active_connections": "{connection}", "signalr.server.connection.duration": "s"}


@pytest.mark.parametrize("codec", [JsonCodec(), MessagePackCodec()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("how", ["send", "invoke", "stream"])
def test_a_client_s_span_is_the_parent_of_the_hub_s(kit: Kit, codec: Codec, how: str) -> None:
    hub = make_hub(kit)
    shell = Shell()
    server = HubSession(hub, hub.codecs, connection_id="c1", effects=shell.effects, now=0.0)
    client = ClientSession(
        codec, Handlers(), config=HubConfig(), effects=shell.effects, call_headers=trace_headers, now=0.0
    )
    server.receive_data(client.data_to_send(now=0.0), now=0.0)
    client.receive_data(server.data_to_send(now=0.0), now=0.0)
    with trace.get_tracer("test", tracer_provider=kit.tracers).start_as_current_span("ours") as ours:
        token = context.attach(baggage.set_baggage("who", "ann"))
        getattr(client, how)("Count" if how == "stream" else "Current")
        context.detach(token)
    server.receive_data(client.data_to_send(now=0.0), now=0.0)
    shell.run()
    for running in list(shell.running):
        shell.finish(running)
    (span,) = [span for span in kit.spans if span.kind is SpanKind.SERVER]
    assert span.parent is not None
    assert span.parent.span_id == ours.get_span_context().span_id
    assert span.context.trace_id == ours.get_span_context().trace_id


def test_where_no_span_is_current_there_are_no_headers() -> None:
    assert trace_headers() == {}
