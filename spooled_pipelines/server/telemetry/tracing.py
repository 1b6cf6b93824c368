"""A span for each call, without its content, where the process uses OpenTelemetry."""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING

import grpc

from spooled_pipelines.server.telemetry.rpc_call import Observer, RpcCall
from spooled_pipelines.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

# The codes that OpenTelemetry counts as the server's failures and not the client's.
_SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


def observer() -> Observer | None:
    """Return what makes the spans; None where nothing in this process imported OpenTelemetry."""
    # Looked up, not imported: a process that does not use it must not pay for it.
    return _trace if "opentelemetry.trace" in sys.modules else None


def _trace(call: RpcCall) -> None:
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": call.traceparent or "", "tracestate": call.tracestate or ""}
    ended = time.time_ns()
    about: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": call.method.service,
        "rpc.method": call.method.name,
        "rpc.grpc.status_code": grpc.StatusCode[call.code].value[0],
        "spooled.request_id": call.request_id,
    }
    if call.organization is not None:
        about["spooled.organization"] = call.organization
    # The span is made when the call is over, with the call's times, so that nothing waits for it.
    span = _tracer().start_span(
        call.method.path.removeprefix("/"),
        context=TraceContextTextMapPropagator().extract(carrier),
        kind=SpanKind.SERVER,
        attributes=about,
        start_time=ended - int(call.seconds * 1e9),
    )
    if call.code in _SERVER_FAULTS:
        span.set_status(StatusCode.ERROR)
    span.end(ended)


@functools.cache
def _tracer() -> Tracer:
    from opentelemetry.trace import get_tracer

    return get_tracer("spooled_pipelines.server", __version__)
