"""Why a batch does not move, as far as the server can see."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from spooled_pipelines.server.core.batches.records import BatchRecord, JobsAhead
from spooled_pipelines.server.core.batches.rules import UPLOAD_GONE_MS
from spooled_pipelines.server.core.limits.queue_limits import LimitedBy
from spooled_pipelines.server.core.runtime.presence import OFFLINE_MS
from spooled_pipelines.wire.batch_v1 import Stall

# How many of the batches ahead are named.
_NAMED = 3
_EXPIRING_MS = 5 * 60 * 1000
# A worker that is heard of this long after a lease ran out, while none did since.
_BACK_MS = 60 * 1000


def stalls(record: BatchRecord, now: int, has_consumer: bool) -> list[Stall]:
    """Return the causes; `has_consumer` says that a worker takes jobs of its queue right now."""
    if record.settled:
        return []
    causes = _causes(record, now, has_consumer)
    return [Stall(cause=cause, message=message) for cause, message in causes]


def _causes(record: BatchRecord, now: int, has_consumer: bool) -> Iterator[tuple[Stall.Cause, str]]:
    counts, queue = record.counts, record.queue_name
    ready = counts.pending - counts.waiting
    if not record.sealed:
        why = "its last row is not in yet, or its sender stopped before the end"
        if record.seal_asked:
            why = (
                "an upload with other rows is not finished. The server seals the batch when that "
                f"has ended, or {UPLOAD_GONE_MS // 1000} s after it was last heard of"
            )
        message = f"The batch is not sealed: {why}. Repeat the same call to resume."
        yield Stall.CAUSE_NOT_SEALED, message
    if record.queue_paused and record.open_jobs:
        message = f"Queue {queue!r} is paused, so that nobody gets a job of it; resume it."
        yield Stall.CAUSE_QUEUE_PAUSED, message
    elif ready and not counts.processing and not has_consumer and not _recent(record, now):
        idle, them = ("1 job is", "it") if ready == 1 else (f"{ready} jobs are", "them")
        message = (
            f"{idle} pending on queue {queue!r} and no worker takes {them}; start one, such as "
            f"`spooled-pipelines work {queue} module:handler`."
        )
        yield Stall.CAUSE_NO_WORKER, message
    elif ready:
        if record.limited_by is not None and (limits := _limits(record.limited_by)):
            message = (
                f"Queue {queue!r} is limited to {' and '.join(limits)}: {ready} jobs are pending "
                "and wait for their turn."
            )
            yield Stall.CAUSE_LIMITED, message
        if record.behind is not None:
            yield Stall.CAUSE_BEHIND, _behind(record.behind, queue, ready)
    if record.limit_by and counts.waiting and not record.queue_paused:
        message = (
            f"At most {record.limit_per_key} jobs of each {record.limit_by!r} run at once: "
            f"{counts.waiting} jobs wait for one of these to end, or for their retry."
        )
        yield Stall.CAUSE_LIMITED, message
    if record.open_jobs and not ready and not counts.processing:
        yield Stall.CAUSE_ALL_DUE_LATER, _due_later(counts.scheduled, counts.waiting)
    expired, seen = record.lease_expired_at, record.worker_seen_at
    if record.open_jobs and expired is not None and now - expired < _EXPIRING_MS:
        if seen is not None and seen - expired >= _BACK_MS and (counts.processing or not ready):
            # Workers outlived it, as after a restart of this server, and their leases are back.
            return
        message = (
            f"Leases of queue {queue!r} ran out within the last five minutes: workers die, or take "
            "longer than their lease without renewing it."
        )
        yield Stall.CAUSE_LEASES_EXPIRING, message


def _limits(limited_by: LimitedBy) -> list[str]:
    """Return what the queue is limited to."""
    limits = limited_by.limits
    causes = []
    if limited_by.in_flight:
        causes.append(f"{limits.max_in_flight} jobs in flight, which it has")
    if limited_by.rate and limits.jobs_per_second is not None:
        causes.append(f"{limits.jobs_per_second:g} jobs a second")
    throttle = limited_by.throttle
    if limited_by.rate and throttle is not None:
        causes = [f"{throttle.jobs_per_second:.3g} jobs a second, since handlers raise Throttled"]
    if throttle is not None and throttle.held_until is not None:
        moment = datetime.fromtimestamp(throttle.held_until / 1000, timezone.utc)
        causes = [f"0 jobs a second until {moment:%H:%M:%S} UTC, as a handler's Throttled asked"]
    return causes


def _behind(ahead: JobsAhead, queue: str, ready: int) -> str:
    named = [
        f"{jobs} of batch {name or batch_id!r}" + (f" ({batch_id})" if name else "")
        if batch_id
        else f"{jobs} in no batch"
        for batch_id, name, jobs in ahead.batches
    ]
    if len(named) > _NAMED:
        others = sum(jobs for _, _, jobs in ahead.batches[_NAMED:])
        named[_NAMED:] = [f"{others} of {len(named) - _NAMED} other batches"]
    many = f"{ahead.jobs}{'' if ahead.is_all else ' or more'}"
    return (
        f"{many} jobs of queue {queue!r} go before the next of these {ready}: {', '.join(named)}. "
        "Higher priorities go first, and batches of one priority take turns."
    )


def _recent(record: BatchRecord, now: int) -> bool:
    return record.worker_seen_at is not None and now - record.worker_seen_at < OFFLINE_MS


def _due_later(scheduled: int, waiting: int) -> str:
    parts = [(scheduled, "are scheduled for later"), (waiting, "wait for their retry")]
    said = [f"{count:,} {what}" for count, what in parts if count]
    return f"No open job is due yet: {', '.join(said)}."
