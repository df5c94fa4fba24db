"""Spans of OpenTelemetry, where they are switched on; nothing, and no import, where they are not.

Where spans go, and what the service is called there, is set by OpenTelemetry's own environment
variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, …
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from app.errors import SetupError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_provider: "TracerProvider | None" = None
_NOTHING = nullcontext()


@contextmanager
def exporting(is_wanted: bool) -> Iterator[None]:
    """Send spans while this is entered. Raises SetupError where the extra is not installed."""
    global _provider
    if not is_wanted:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SetupError("tracing needs OpenTelemetry: pip install '.[tracing]'") from None
    named = Resource({SERVICE_NAME: "quickstudy"}).merge(OTELResourceDetector().detect())
    _provider = TracerProvider(resource=named)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield
    finally:
        provider, _provider = _provider, None
        provider.shutdown()


def request(headers: Mapping[str, str]) -> AbstractContextManager["Span | None"]:
    """The span of a request, inside its caller's where the headers name one (W3C traceparent)."""
    return _NOTHING if _provider is None else _request(_provider, headers)


@contextmanager
def _request(provider: "TracerProvider", headers: Mapping[str, str]) -> Iterator["Span"]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(headers)
    tracer = provider.get_tracer("quickstudy")
    # What an exception says may hold what a caller sent.
    with tracer.start_as_current_span(
        "request", context, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def span(name: str) -> AbstractContextManager[None]:
    """A step inside the current span."""
    return _NOTHING if _provider is None else _span(_provider, name)


@contextmanager
def _span(provider: "TracerProvider", name: str) -> Iterator[None]:
    with provider.get_tracer("quickstudy").start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    ):
        yield
