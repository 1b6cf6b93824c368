"""Responses of the ProcessJobs stream, each matched to its request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from spooled_pipelines.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    SpooledError,
)
from spooled_pipelines.rpc.decode import NO_SCHEMAS, job_from, time_from
from spooled_pipelines.types import Job, RowSchema
from spooled_pipelines.wire import spooled_v1

Kind: TypeAlias = Literal["dequeue", "complete", "fail", "renew_lease"]


@dataclass(frozen=True)
class JobCompleted:
    """The job is completed."""

    job_id: str


@dataclass(frozen=True)
class JobFailed:
    """The job failed: it runs again after `next_retry_delay` seconds, or is a dead letter."""

    job_id: str
    will_retry: bool
    next_retry_delay: int


@dataclass(frozen=True)
class LeaseRenewed:
    """The lease holds until `lease_expires_at`."""

    job_id: str
    lease_expires_at: datetime


@dataclass(frozen=True)
class RequestRejected:
    """A request was refused; the stream goes on.

    Attributes:
        request: the kind of request; None if it cannot be told.
        job_id: the job of the request; None for a dequeue.
        error: why.
    """

    request: Kind | None
    job_id: str | None
    error: SpooledError


Answer: TypeAlias = JobCompleted | JobFailed | LeaseRenewed | RequestRejected


@dataclass(frozen=True)
class _Asked:
    kind: Kind
    job_id: str | None


class PendingRequests:
    """The requests that have no response yet, in their order.

    Responses on the wire do not name their job. Settling requests are answered one by one, in
    their order; a dequeue is answered by any number of jobs, including none.
    """

    def __init__(self) -> None:
        self._asked: deque[_Asked] = deque()

    def __len__(self) -> int:
        return sum(asked.kind != "dequeue" for asked in self._asked)

    def ask(self, kind: Kind, job_id: str | None) -> None:
        """Record a request before writing it; the response may arrive before write() returns."""
        # Only one dequeue in a row is worth remembering, or a quiet worker's list would grow.
        if kind == "dequeue" and self._asked and self._asked[-1].kind == "dequeue":
            return
        self._asked.append(_Asked(kind, job_id))

    def take(
        self,
        message: spooled_v1.ProcessResponse,
        explain: Callable[[str, str], SpooledError],
        schemas: Mapping[int, RowSchema] = NO_SCHEMAS,
    ) -> Job | Answer | None:
        """Return the value of a response; None if this version does not know its kind."""
        kind = message.WhichOneof("response")
        if kind == "job":
            return job_from(message.job, schemas)
        if kind == "complete":
            job_id = self._answered("complete")
            if not message.complete.success:
                return self._unsuccessful("complete", job_id)
            return JobCompleted(job_id)
        if kind == "fail":
            job_id = self._answered("fail")
            if not message.fail.success:
                return self._unsuccessful("fail", job_id)
            return JobFailed(job_id, message.fail.will_retry, message.fail.next_retry_delay_secs)
        if kind == "renew_lease":
            job_id = self._answered("renew_lease")
            if not message.renew_lease.success:
                return self._unsuccessful("renew_lease", job_id)
            return LeaseRenewed(job_id, time_from(message.renew_lease.new_expires_at))
        if kind == "error":
            error = explain(message.error.code, message.error.message)
            refused = self._refused(error)
            if refused is None:
                return RequestRejected(None, None, error)
            return RequestRejected(refused.kind, refused.job_id, error)
        return None

    def _answered(self, kind: Kind) -> str:
        # Responses come in order, so a dequeue before an answered request has had its jobs.
        while self._asked and self._asked[0].kind == "dequeue":
            self._asked.popleft()
        for index, asked in enumerate(self._asked):
            if asked.kind == kind:
                del self._asked[index]
                return asked.job_id or ""
        return ""

    def _refused(self, error: SpooledError) -> _Asked | None:
        if not self._asked:
            return None
        first = self._asked[0]
        # A dequeue that was checked here before it was sent is refused for other reasons only.
        about_a_job = isinstance(error, ConflictError | NotFoundError | InvalidArgumentError)
        if first.kind == "dequeue" and about_a_job and len(self._asked) > 1:
            self._asked.popleft()
        return self._asked.popleft()

    @staticmethod
    def _unsuccessful(kind: Kind, job_id: str) -> RequestRejected:
        return RequestRejected(kind, job_id, unsuccessful(kind, job_id))


def unsuccessful(kind: str, what: str) -> SpooledError:
    """Return the error for a response that says `success = false`."""
    return ConflictError(f"the server says that it did not {kind.replace('_', ' ')} {what}")
