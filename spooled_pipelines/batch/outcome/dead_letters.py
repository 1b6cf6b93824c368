"""Dead letters of a batch: grouped by error, patched, and revised in groups. No network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spooled_pipelines.error_shapes import error_shape
from spooled_pipelines.errors import ConflictError, InvalidArgumentError, ServerError
from spooled_pipelines.rpc.decode import job_from
from spooled_pipelines.rpc.struct import from_struct, to_struct
from spooled_pipelines.types import Job
from spooled_pipelines.wire import batch_v1, limits, spooled_v1

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

DEAD = (spooled_v1.JobStatus.JOB_STATUS_DEADLETTER,)
_EXAMPLES = 10
_MEMORY_BYTES = 8 << 20


class FailureSummary:
    """Jobs that failed, by the shape of their errors; `table()` has a line for each shape."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Any]] = {}

    def add(self, message: spooled_v1.Job) -> None:
        """Count a dead letter."""
        self.add_job(job_from(message))

    def add_job(self, job: Job) -> None:
        """Count a job with an error."""
        error = (job.last_error or "").strip().partition("\n")[0]
        new = {"error": error, "count": 0, "last": None, "retries": 0, "job_ids": []}
        line = self._lines.setdefault(error_shape(error), {**new, "example": error, "next": None})
        if line["example"] != error:
            line["error"] = error_shape(error)
        line["count"] += 1
        line["retries"] = max(line["retries"], job.retry_count)
        for name, time, first in (("last", job.completed_at, max), ("next", job.due_at, min)):
            if time is not None:
                line[name] = first(line[name] or time, time)
        if len(line["job_ids"]) < _EXAMPLES:
            line["job_ids"].append(job.id)

    def lines(self) -> list[dict[str, Any]]:
        """Return the errors as dicts, the most frequent first; `next` is the first next try."""
        return sorted(self._lines.values(), key=lambda line: -line["count"])

    def table(self) -> pa.Table:
        """Return the errors, the most frequent first."""
        # Slow to import, and not needed to retry.
        import pyarrow as pa

        schema = pa.schema(
            [
                ("error", pa.string()),
                ("count", pa.int64()),
                ("last", pa.timestamp("us", "UTC")),
                ("retries", pa.int64()),
                ("job_ids", pa.list_(pa.string())),
                ("example", pa.string()),
            ]
        )
        return pa.Table.from_pylist(self.lines(), schema=schema)


class PayloadPatch:
    """Revises the payloads of dead letters whose error contains a text, in flat memory.

    A context manager, which deletes what was put aside.
    """

    def __init__(
        self, error_contains: str, patch: Callable[[dict[str, Any]], Mapping[str, Any] | None]
    ) -> None:
        self._error_contains = error_contains
        self._patch = patch
        # Payloads belong to their owner alone, and the file has no name.
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115

    def add(self, message: spooled_v1.Job) -> None:
        """Patch a dead letter.

        Raises:
            LossyValueError, InvalidArgumentError: the patched payload cannot be sent.
        """
        if self._error_contains not in message.last_error:
            return
        payload = self._patch(from_struct(message.payload))
        if payload is not None:
            revision = requeue(message.id, payload).SerializeToString()
            self._file.write(len(revision).to_bytes(4, "little") + revision)

    def revisions(self) -> Iterator[batch_v1.DeadLetterRevision]:
        """Yield the revisions, in the order of their dead letters."""
        self._file.seek(0)
        while length := int.from_bytes(self._file.read(4), "little"):
            yield batch_v1.DeadLetterRevision.FromString(self._file.read(length))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def requeue(job_id: str, payload: Mapping[str, Any] | None = None) -> batch_v1.DeadLetterRevision:
    """Return the revision that retries a dead letter, with this payload if there is one."""
    data = None if payload is None else to_struct(payload).SerializeToString()
    return batch_v1.DeadLetterRevision(job_id=job_id, requeue=batch_v1.Requeue(payload=data))


def discard(job: Job | str) -> batch_v1.DeadLetterRevision:
    """Return the revision that cancels a dead letter."""
    job_id = job.id if isinstance(job, Job) else job
    return batch_v1.DeadLetterRevision(job_id=job_id, discard=batch_v1.Discard())


def batched(
    revisions: Iterable[batch_v1.DeadLetterRevision],
) -> Iterator[list[batch_v1.DeadLetterRevision]]:
    """Yield the revisions in groups that fit into one call."""
    group: list[batch_v1.DeadLetterRevision] = []
    size = 0
    for revision in revisions:
        group.append(revision)
        size += revision.ByteSize()
        if len(group) == limits.SETTLED_PER_MESSAGE_MAX or size >= limits.CHUNK_TARGET_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def stripped_error(batch_id: str, answer: batch_v1.RetryBatchResponse) -> ConflictError:
    """Return the error where cancelled jobs cannot go back, since their payloads are gone."""
    named = ", ".join(answer.stripped_job_ids)
    more = answer.stripped - len(answer.stripped_job_ids)
    return ConflictError(
        f"{answer.stripped} cancelled jobs of batch {batch_id} stay cancelled: the server has "
        "removed their payloads (--keep-settled), so there is nothing left to run: "
        f"{named}{f' and {more} more' if more else ''}. {answer.retried} other jobs were retried. "
        'Enqueue these rows again with on_rerun="fresh".',
        details={"retried": answer.retried, "stripped": answer.stripped},
    )


def check_refused(refused: Sequence[batch_v1.RejectedRow]) -> None:
    """Ignore jobs that someone else has already handled; raise for any other refusal."""
    for row in refused:
        if row.code == "INVALID_ARGUMENT":
            raise InvalidArgumentError(row.message)
        if row.code not in ("FAILED_PRECONDITION", "NOT_FOUND"):
            raise ServerError(f"a dead letter was not revised ({row.code}): {row.message}")
