"""Spans for OpenTelemetry, in programs that use it; elsewhere nothing is imported or done.

The context of a job's enqueue travels in its tags (the W3C's `traceparent` and `tracestate`),
and the worker's span is a child of it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from spooled_pipelines.types import Job
from spooled_pipelines.version import __version__
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

_PARENT, _STATE = "traceparent", "tracestate"
# What protobuf adds to an entry of a map, at most.
_ENTRY_BYTES = 16
_NOTHING: AbstractContextManager[None] = nullcontext()


def in_use() -> bool:
    """Return whether this program has imported OpenTelemetry's API."""
    # Looked up, not imported: who does not use it must not pay for it.
    return "opentelemetry.trace" in sys.modules


def sending(
    queue_name: str, *, rows: int | None = None, batch_id: str | None = None
) -> AbstractContextManager[object]:
    """Return the span of an enqueue: of one job, or of the rows of a batch."""
    if not in_use():
        return _NOTHING
    about: dict[str, str | int] = {"messaging.operation.type": "send"}
    if rows is not None:
        about["messaging.batch.message_count"] = rows
    if batch_id is not None:
        about["spooled.batch_id"] = batch_id
    return _span(f"send {queue_name}", "PRODUCER", queue_name, about)


def with_context(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with the context of the current span, if there is one.

    A context that the caller set stays as it is, and tags that would become too large stay without.
    """
    given = dict(tags)
    if not in_use() or _PARENT in given:
        return given
    found = _current()
    if not found:
        return given
    whole = {**given, **found}
    sizes = (len(key.encode()) + len(text.encode()) for key, text in whole.items())
    size = sum(sizes) + _ENTRY_BYTES * len(whole)
    return whole if size <= limits.TAGS_MAX_BYTES else given


def headers() -> tuple[tuple[str, str], ...]:
    """Return the current span's context as metadata of a call; empty if there is none."""
    return tuple(_current().items()) if in_use() else ()


def handling(job: Job) -> AbstractContextManager[object]:
    """Return the span of one run of a handler: a child of the span that enqueued the job."""
    if not in_use():
        return _NOTHING
    about: dict[str, str | int] = {
        "messaging.operation.type": "process",
        "messaging.message.id": job.id,
        "spooled.retry_count": job.retry_count,
    }
    parent = _made_in(job)
    return _span(f"process {job.queue_name}", "CONSUMER", job.queue_name, about, parent)


def handling_rows(jobs: Iterable[Job]) -> AbstractContextManager[object]:
    """Return the span of a call with many jobs: a new trace, linked to where each was enqueued.

    Where nobody traces, the jobs are not even looked at.
    """
    if not in_use():
        return _NOTHING
    jobs = list(jobs)
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span

    queue_names = ", ".join(sorted({job.queue_name for job in jobs}))
    # Jobs of one batch come from one place, and SDKs keep no more than 128 links by default.
    made = {(job.traceparent, job.tracestate): job for job in jobs if job.traceparent}
    found = (get_current_span(_made_in(job)).get_span_context() for job in made.values())
    about: dict[str, str | int] = {
        "messaging.operation.type": "process",
        "messaging.batch.message_count": len(jobs),
    }
    links = [Link(context) for context in found if context.is_valid]
    return _span(f"process {queue_names}", "CONSUMER", queue_names, about, Context(), links)


def _made_in(job: Job) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {_PARENT: job.traceparent or "", _STATE: job.tracestate or ""}
    # Whatever the thread's context is: the job's own is meant, or none.
    return TraceContextTextMapPropagator().extract(carrier, Context())


@contextmanager
def _span(
    name: str,
    kind: str,
    queue_name: str,
    about: Mapping[str, str | int],
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind, StatusCode, use_span

    span = _tracer().start_span(
        name,
        context=parent,
        kind=SpanKind[kind],
        links=links,
        attributes={"messaging.system": "spooled", "messaging.destination.name": queue_name}
        | dict(about),
    )
    # An error's text may hold data: its type is all that is told.
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise


@functools.cache
def _tracer() -> Tracer:
    # Kept, for making it takes half of a span's time; a provider that comes later is found by it.
    from opentelemetry.trace import get_tracer

    return get_tracer("spooled_pipelines", __version__)


def _current() -> dict[str, str]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Not the program's own propagator: that may send more, such as baggage.
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
