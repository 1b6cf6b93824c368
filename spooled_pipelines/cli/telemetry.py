"""Export of spans to a collector, if the environment names one."""

from __future__ import annotations

import os

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def export_traces(service: str) -> None:
    """Send spans as OTEL_EXPORTER_OTLP_ENDPOINT and its like say; without it, do nothing.

    `service` is the name where OTEL_SERVICE_NAME says none.
    """
    endpoint = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import set_tracer_provider
    except ImportError:
        # Platforms set it for whatever runs on them: no reason not to run.
        import logging

        logging.getLogger(__name__).warning(
            "%s is set, and OpenTelemetry is not installed, so no spans are sent; "
            "pip install 'spooled-pipelines[otel]'",
            endpoint,
        )
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    set_tracer_provider(provider)
