"""Chunks of leased jobs: claims by column, renewals, and outcomes of many jobs under one lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core import ids, validation
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import ChunkSettlement, Incomplete, LeasedJobs
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.server.services.leases.claiming import claim, take_back
from spooled_pipelines.server.services.leases.outcomes import incomplete, refused, settled
from spooled_pipelines.server.services.validation.structs import check_results
from spooled_pipelines.server.store.limits import ANSWER_BYTES
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire import batch_v1, limits

T = TypeVar("T")


async def claim_chunks(
    context: ServiceContext, caller: Caller, request: batch_v1.ClaimChunksRequest
) -> batch_v1.ClaimChunksResponse:
    """Lease many jobs at once."""
    most = validation.integer("max_jobs", request.max_jobs, 0, limits.CHUNK_ROWS_MAX)
    size = validation.integer("max_bytes", request.max_bytes, 0, ANSWER_BYTES)
    asked = ClaimRequest(
        validation.queue_name(request.queue_name),
        validation.worker_id(request.worker_id),
        validation.lease_ms("lease_duration_secs", request.lease_duration_secs),
        most or 1,
        size or ANSWER_BYTES,
        validation.lease_id(request.lease_id) or ids.new_lease_id(),
    )
    await take_back(context, caller, request)
    jobs = await claim(context, caller, asked)
    return batch_v1.ClaimChunksResponse(chunks=[_chunk(caller.organization, jobs)] if jobs else [])


async def renew_chunk(
    context: ServiceContext, caller: Caller, request: batch_v1.RenewChunkRequest
) -> batch_v1.RenewChunkResponse:
    """Let the lease of many jobs last longer."""
    lease = validation.lease_ms("extension_secs", request.extension_secs)
    jobs = _leased_jobs(request)
    # From before the call: the store's is no earlier.
    expires_at = context.clock.now() + lease
    lost = await context.store.renew_chunk(caller.organization, jobs, lease)
    return batch_v1.RenewChunkResponse(new_expires_at=timestamp(expires_at), lost=lost)


async def settle_chunk(
    context: ServiceContext, caller: Caller, outcomes: batch_v1.ChunkOutcomes
) -> batch_v1.ChunkSettled:
    """Settle jobs of one chunk, each by itself."""
    try:
        await authorize_queues(context.store, caller, outcomes)
        asked = await context.checked(caller, outcomes, partial(_settlement, outcomes))
        done = await context.store.settle_chunk(caller.organization, asked)
    except RefusedError as refusal:
        told = refused(refusal)
        every = range(len(outcomes.job_ids))
        return batch_v1.ChunkSettled(
            exceptions=[batch_v1.SettledException(index=at, settled=told) for at in every]
        )
    return batch_v1.ChunkSettled(
        exceptions=[
            batch_v1.SettledException(index=place, settled=settled(asked.act(place), outcome))
            for place, outcome in sorted(done.items())
        ]
    )


def _settlement(outcomes: batch_v1.ChunkOutcomes) -> ChunkSettlement:
    jobs = _leased_jobs(outcomes)
    rows = len(jobs.job_ids)
    results: list[bytes | None] = list(outcomes.results)
    if len(results) not in (0, rows):
        raise invalid(
            f"results has {len(results)} values for {rows} jobs; give none or one for each"
        )
    exceptions: dict[int, Incomplete | RefusedError] = {
        place: invalid(message) for place, message in check_results(outcomes.results)
    }
    for place in outcomes.without_result:
        validation.integer("without_result", place, 0, rows - 1)
        if results:
            results[place] = None
    for exception in outcomes.exceptions:
        place = validation.integer("index", exception.index, 0, rows - 1)
        try:
            exceptions[place] = incomplete(exception)
        except RefusedError as refusal:
            exceptions[place] = refusal
    return ChunkSettlement(jobs, results, exceptions)


def _leased_jobs(request: batch_v1.ChunkOutcomes | batch_v1.RenewChunkRequest) -> LeasedJobs:
    queue_name = validation.queue_name(request.queue_name)
    worker_id = validation.worker_id(request.worker_id, required=False)
    job_ids = list(request.job_ids)
    if not 1 <= len(job_ids) <= limits.CHUNK_ROWS_MAX:
        most = limits.CHUNK_ROWS_MAX
        raise invalid(f"job_ids has {len(job_ids)} ids, and must have 1 to {most}")
    if len(set(job_ids)) < len(job_ids):
        raise invalid("job_ids names a job twice; name each once")
    if not request.lease_id or "\0" in request.lease_id:
        raise invalid("lease_id is required; take it from the chunk that was claimed")
    return LeasedJobs(queue_name, worker_id, request.lease_id, job_ids)


def _chunk(organization: str, jobs: Sequence[JobRecord]) -> batch_v1.LeasedChunk:
    """Return claimed jobs of one lease, by column."""
    first = jobs[0]
    column = dict(zip(JobRecord._fields, zip(*jobs, strict=True), strict=True))
    traces = [_trace(tags) for tags in column["tags"]] if any(column["tags"]) else []
    return batch_v1.LeasedChunk(
        queue_name=first.queue_name,
        organization_id=organization,
        lease_id=first.lease_id or "",
        started_at=timestamp(first.started_at or 0),
        lease_expires_at=timestamp(first.lease_expires_at or 0),
        job_ids=column["job_id"],
        payloads=column["payload"],
        retry_counts=_short(column["retry_count"], 0),
        max_retries=_short(column["max_retries"], 0),
        priorities=_short(column["priority"], 0),
        timeout_seconds=_short(column["timeout_seconds"], 0),
        created_at=_short(column["created_at"], 0),
        scheduled_at=_short(column["scheduled_at"], 0),
        idempotency_keys=_short(column["idempotency_key"], ""),
        last_errors=_short(column["last_error"], ""),
        traceparents=_short([trace.get("traceparent") for trace in traces], ""),
        tracestates=_short([trace.get("tracestate") for trace in traces], ""),
        deliveries=_short(column["deliveries"], 0),
        run_alone=bool(first.run_alone),
        schema_ids=_short(column["schema_id"], 0),
    )


# Jobs of one upload have the same tags.
@lru_cache(maxsize=16)
def _trace(tags: bytes | None) -> Mapping[str, str]:
    return batch_v1.Tags.FromString(tags).tags if tags and b"traceparent" in tags else {}


def _short(values: Sequence[T | None], empty: T) -> list[T]:
    """Return a column as it is sent: nothing, one value for all, or one for each."""
    different = set(values)
    if len(different) > 1:
        return [empty if value is None else value for value in values]
    return [value for value in different if value]
