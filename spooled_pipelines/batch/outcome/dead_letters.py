"""Dead letters of a batch: grouped by error, patched, told apart in lots. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spooled_pipelines.errors import InvalidArgumentError, ServerError
from spooled_pipelines.rpc.decode import job_from
from spooled_pipelines.rpc.struct import from_struct, to_struct
from spooled_pipelines.types import Job
from spooled_pipelines.wire import batch_v1, limits, spooled_v1

DEAD = (spooled_v1.JobStatus.JOB_STATUS_DEADLETTER,)
_EXAMPLES = 10


class FailureSummary:
    """Collects dead letters; `table()` has a line for each error."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Any]] = {}

    def add(self, message: spooled_v1.Job) -> None:
        job = job_from(message)
        error = (job.last_error or "").strip().partition("\n")[0]
        new = {"error": error, "count": 0, "last": None, "retries": 0, "job_ids": []}
        line = self._lines.setdefault(error, new)
        line["count"] += 1
        line["retries"] = max(line["retries"], job.retry_count)
        if job.completed_at is not None:
            line["last"] = max(line["last"] or job.completed_at, job.completed_at)
        if len(line["job_ids"]) < _EXAMPLES:
            line["job_ids"].append(job.id)

    def table(self) -> Any:
        """The most frequent error first."""
        # Slow to import, and not needed to retry.
        import pyarrow as pa

        schema = pa.schema(
            [
                ("error", pa.string()),
                ("count", pa.int64()),
                ("last", pa.timestamp("us", "UTC")),
                ("retries", pa.int64()),
                ("job_ids", pa.list_(pa.string())),
            ]
        )
        lines = sorted(self._lines.values(), key=lambda line: -line["count"])
        return pa.Table.from_pylist(lines, schema=schema)


class PayloadPatch:
    """Collects the revisions of dead letters whose error has a text in it."""

    def __init__(
        self, error_contains: str, patch: Callable[[dict[str, Any]], Mapping[str, Any] | None]
    ) -> None:
        self._error_contains = error_contains
        self._patch = patch
        self.revisions: list[batch_v1.DeadLetterRevision] = []

    def add(self, message: spooled_v1.Job) -> None:
        """LossyValueError or InvalidArgumentError where what the patch gives cannot be sent."""
        if self._error_contains not in message.last_error:
            return
        payload = self._patch(from_struct(message.payload))
        if payload is not None:
            self.revisions.append(requeue(message.id, payload))


def requeue(job_id: str, payload: Mapping[str, Any] | None = None) -> batch_v1.DeadLetterRevision:
    """Back into the queue, with this payload where there is one."""
    data = None if payload is None else to_struct(payload).SerializeToString()
    return batch_v1.DeadLetterRevision(job_id=job_id, requeue=batch_v1.Requeue(payload=data))


def discard(job: Job | str) -> batch_v1.DeadLetterRevision:
    """Cancelled."""
    job_id = job.id if isinstance(job, Job) else job
    return batch_v1.DeadLetterRevision(job_id=job_id, discard=batch_v1.Discard())


def batched(
    revisions: Iterable[batch_v1.DeadLetterRevision],
) -> Iterator[list[batch_v1.DeadLetterRevision]]:
    """As many as go into one call."""
    lot: list[batch_v1.DeadLetterRevision] = []
    size = 0
    for revision in revisions:
        lot.append(revision)
        size += revision.ByteSize()
        if len(lot) == limits.SETTLED_PER_MESSAGE_MAX or size >= limits.CHUNK_TARGET_BYTES:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


def check_refused(refused: Sequence[batch_v1.RejectedRow]) -> None:
    """Whoever is dead no more was taken care of by another; anything else is an error."""
    for row in refused:
        if row.code == "INVALID_ARGUMENT":
            raise InvalidArgumentError(row.message)
        if row.code not in ("FAILED_PRECONDITION", "NOT_FOUND"):
            raise ServerError(f"a dead letter was not revised ({row.code}): {row.message}")
