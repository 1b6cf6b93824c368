# Generated from spooled_pipelines/client/aio/job_lists.py by `make generate`: do not edit.
"""The client's methods that look for jobs, and change some by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from spooled_pipelines.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    SpooledError,
)
from spooled_pipelines.rpc import decode, validation
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.rpc.sync.paging import paged
from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.wire import batch_v1, queue_admin_v1
from spooled_pipelines.wire.limits import SETTLED_PER_MESSAGE_MAX
from spooled_pipelines.wire.methods import BATCH, QUEUE_ADMIN


class JobLists:
    """The methods of a client for jobs of any queue; `ServerError` without the batch extension."""

    _connection: Connection

    def jobs(
        self,
        queue_name: str | None = None,
        *,
        statuses: Sequence[JobStatus | str] = (),
        waiting: bool = False,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Return the newest jobs that this key may see, without payloads and results.

        Args:
            queue_name: only those of this queue.
            statuses: only these, such as ``"deadletter"``.
            waiting: only those that wait for a retry; their `due_at` is the next try.
            text: in the error; or the job's id, its idempotency key or the id of its worker.
            since, until: enqueued from this (aware) time, until before that one.
            limit: the largest number of jobs.

        Raises:
            InvalidArgumentError: an argument is outside its limits.
        """
        if queue_name is not None:
            validation.queue_name(queue_name)
        validation.limit(limit)
        request = queue_admin_v1.ListJobsRequest(
            queue_name=queue_name or "",
            statuses=[validation.job_status(status) for status in statuses],
            waiting=waiting,
            text=text or "",
            created_since=validation.optional_timestamp(since, "since"),
            created_before=validation.optional_timestamp(until, "until"),
        )
        found = paged(self._connection, QUEUE_ADMIN["ListJobs"], request, "jobs", limit)
        return [decode.listed_job_from(job) for job in found]

    def cancel_jobs(self, *job_ids: str) -> None:
        """Cancel jobs that have not started.

        Raises:
            ConflictError: some have; the others are cancelled.
            NotFoundError: there are no such jobs; the others are cancelled.
        """
        self._revise(job_ids, cancel=batch_v1.CancelJob())

    def retry_jobs(self, *job_ids: str) -> None:
        """Put dead letters back into their queues, with all their retries.

        Raises:
            ConflictError, NotFoundError: as of `cancel_jobs`, for jobs that are not dead letters.
        """
        self._revise(job_ids, requeue=batch_v1.Requeue())

    def discard_jobs(self, *job_ids: str) -> None:
        """Cancel dead letters, so that they no longer count as dead.

        Raises:
            ConflictError, NotFoundError: as of `cancel_jobs`, for jobs that are not dead letters.
        """
        self._revise(job_ids, discard=batch_v1.Discard())

    def _revise(self, job_ids: Sequence[str], **change: Any) -> None:
        refused: list[tuple[str, batch_v1.RejectedRow]] = []
        for start in range(0, len(job_ids), SETTLED_PER_MESSAGE_MAX):
            some = job_ids[start : start + SETTLED_PER_MESSAGE_MAX]
            revisions = [batch_v1.DeadLetterRevision(job_id=job_id, **change) for job_id in some]
            answer = self._connection.unary(
                BATCH["ReviseDeadLetters"],
                batch_v1.ReviseDeadLettersRequest(revisions=revisions),
                repeatable=False,
            )
            refused += [(some[row.row], row) for row in answer.refused]
        if refused:
            raise _refusal(refused, len(job_ids))


def _refusal(refused: Sequence[tuple[str, batch_v1.RejectedRow]], asked: int) -> SpooledError:
    job_id, first = refused[0]
    kinds = {"NOT_FOUND": NotFoundError, "FAILED_PRECONDITION": ConflictError}
    kind = kinds.get(first.code, InvalidArgumentError)
    others = f" (and {len(refused) - 1} others)" if len(refused) > 1 else ""
    done = f" {asked - len(refused)} of {asked} jobs were changed." if asked > 1 else ""
    return kind(
        f"job {job_id} stays as it is: {first.message}{others}.{done}",
        details={"job_ids": [refused_id for refused_id, _ in refused]},
    )
