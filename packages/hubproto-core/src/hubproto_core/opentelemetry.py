"""Metrics and traces of hubs for OpenTelemetry (SPEC 3.17). Needs the extra `hubproto-core[opentelemetry]`.

Only `opentelemetry-api` is used: what becomes of the data is decided by the SDK that the application configures, and
without one nothing happens.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping

from opentelemetry import context as telemetry_context
from opentelemetry import metrics, propagate, trace

from ._observer import ConnectionStatus, ObservedCall, ObservedConnection, Observer

__all__ = ["OpenTelemetryObserver", "trace_headers"]

_SCOPE = "hubproto_core"

_DURATION_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
"""Seconds; the semantic conventions ask for them."""


class OpenTelemetryObserver(Observer):
    """Feeds OpenTelemetry: `Hub(observers=[OpenTelemetryObserver()])`. One may observe several hubs.

    Metrics: the histogram `signalr.server.connection.duration` in seconds, with the attributes `signalr.transport` and
    `signalr.connection.status`, and the up-down counter `signalr.server.active_connections`, with `signalr.transport`.

    Spans: one for each call, named `{hub}/{method}`, from the call of the function to its end, which for a stream is
    the stream's. It is current while the function runs. Its kind is SERVER (INTERNAL for `on_connected` and
    `on_disconnected`), its parent the one that the client's message names, by the propagator that is configured
    (`traceparent` and `tracestate` by default), else none. Attributes: `rpc.system`, `rpc.service` (the hub's name),
    `rpc.method`, and `error.type` with the status ERROR if the function raised.

    The providers default to the global ones.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "signalr.server.connection.duration",
            unit="s",
            description="The duration of connections on the server.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._active = meter.create_up_down_counter(
            "signalr.server.active_connections",
            unit="{connection}",
            description="Number of connections that are currently active on the server.",
        )
        self._spans: dict[ObservedCall, trace.Span] = {}

    def connection_opened(self, connection: ObservedConnection) -> None:
        """See `Observer`."""
        self._active.add(1, {"signalr.transport": connection.transport})

    def connection_closed(
        self, connection: ObservedConnection, *, duration: float, status: ConnectionStatus, error: Exception | None
    ) -> None:
        """See `Observer`."""
        transport = {"signalr.transport": connection.transport}
        self._active.add(-1, transport)
        self._duration.record(duration, {**transport, "signalr.connection.status": status})

    def call_started(self, call: ObservedCall) -> contextvars.Context:
        """See `Observer`."""
        hub = call.connection.hub
        parent = propagate.extract(call.headers, telemetry_context.Context())  # of nothing that happens to be current
        span = self._spans[call] = self._tracer.start_span(
            f"{hub}/{call.method}",
            context=parent,
            kind=trace.SpanKind.INTERNAL if call.is_hook else trace.SpanKind.SERVER,
            attributes={"rpc.system": "signalr", "rpc.service": hub, "rpc.method": call.method},
        )
        context = contextvars.copy_context()
        context.run(telemetry_context.attach, trace.set_span_in_context(span, parent))
        return context

    def call_ended(self, call: ObservedCall, *, error: Exception | None, cancelled: bool) -> None:
        """See `Observer`."""
        span = self._spans.pop(call, None)
        if span is None:  # it could not be started
            return
        if error is not None:
            span.set_attribute("error.type", _full_name(type(error)))
            span.set_status(trace.StatusCode.ERROR)
        span.end()


def _full_name(kind: type[Exception]) -> str:
    """Return the name of a class with that of its module, as far as that is public."""
    module = kind.__module__.partition("._")[0]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def trace_headers() -> Mapping[str, str]:
    """Return the headers by which the receiver of a call learns which span is current here.

    For clients: `connect(url, call_headers=trace_headers)`.
    """
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
