"""OpenTelemetry: a span for each request, below its caller's. Needs the extra `otel`; is not loaded without."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....errors import ConvertError
from ....version import __version__
from ..context import current

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

_TIMEOUT = 3  # seconds for sending spans, tries and all: a collector that is gone does not hold up the end
SERVICE = "senet-convert"  # unless OTEL_SERVICE_NAME says otherwise


class Traces:
    """Makes spans and sends them; where to, how many and under what name is set by OpenTelemetry's own variables."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the spans, by default to OTLP over HTTP in batches. Raises ConvertError: not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as lacking:
            raise ConvertError(
                f"traces need the package '{lacking.name}': pip install 'senet-convert[otel]', or leave out --otel"
            ) from lacking
        name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.version": __version__})
        )
        timeout = None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else _TIMEOUT
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
        self._tracer = self._provider.get_tracer(SERVICE, __version__)
        self._callers = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """Around one request; `headers` may carry its caller's `traceparent`. Its context is written into it."""
        from opentelemetry.trace import SpanKind

        context = self._callers.extract(headers)
        with self._tracer.start_as_current_span(name, context, SpanKind.SERVER) as span:
            try:
                yield span
            finally:
                span.set_attributes(_attributes())

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _attributes() -> dict[str, Any]:
    one = current.get()
    found: dict[str, Any] = {"request.id": one.id}
    if one.model:
        found |= {"model.name": one.model, "model.version": one.version, "model.rows": one.rows}
        found |= {"model.queue_ms": one.queued / 1e6, "model.compute_ms": one.computed / 1e6}
    return found
