"""Handlers run in the test's own thread, one job after another."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.client import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.testing.memory import innermost
from spooled_pipelines.types import Job
from spooled_pipelines.wire.limits import DEQUEUE_MAX
from spooled_pipelines.worker.handling import Handler, handling_of
from spooled_pipelines.worker.outcome import Completed, Failed, Outcome, refused
from spooled_pipelines.worker.runners import run_blocking

_WORKER_ID = "spooled-testing"
_LEASE_SECONDS = 3_600


@dataclass(frozen=True)
class JobRun:
    """One run of a job: `job` as it is afterwards, with status, result and error.

    `exception` is what the handler raised, with its traceback; None where it returned.
    """

    job: Job
    exception: BaseException | None = None


def run_jobs(
    handler: Handler,
    queue_name: str,
    *,
    client: SpooledClient | None = None,
    limit: int = 1_000,
) -> list[JobRun]:
    """Run `handler` on every job of the queue that is due now, in this thread, and settle each.

    It takes the handlers that `Worker` takes, and does with their outcomes what a worker does.
    A job that is to be tried again waits for its time: see `MemoryClient.skip`. Jobs that a
    handler enqueues to the same queue are run too.

    Args:
        handler: called with one job after another; an async one runs in an event loop of its own.
        queue_name: the queue to take from.
        client: of any server; by default of the `server()` that was opened last.
        limit: so many jobs at most, so that a handler that feeds itself comes to an end.

    Raises:
        InvalidArgumentError: there is no server, or `limit` is below 1.
    """
    if limit < 1:
        raise InvalidArgumentError(f"limit is {limit}, and must be 1 or more")
    client = client or innermost()
    handling = handling_of(handler)
    run = run_blocking(handling)
    at_once = 1 if handling.rows is None else min(handling.rows.max_rows, DEQUEUE_MAX)
    runs: list[JobRun] = []
    while len(runs) < limit:
        count = min(at_once, limit - len(runs))
        jobs = client.dequeue(
            queue_name, _WORKER_ID, batch_size=count, lease_seconds=_LEASE_SECONDS
        )
        if not jobs:
            break
        for job, outcome in zip(jobs, run(jobs), strict=True):
            _settle(client, job, outcome)
            exception = outcome.exception if isinstance(outcome, Failed) else None
            runs.append(JobRun(client.get_job(job.id), exception))
    return runs


def _settle(client: SpooledClient, job: Job, outcome: Outcome) -> None:
    if isinstance(outcome, Completed):
        try:
            client.complete(job, result=outcome.result)
            return
        except (InvalidArgumentError, LossyValueError) as error:
            outcome = refused(f"the result cannot be kept: {error}")
    if isinstance(outcome, Failed):
        client.fail(job, outcome.error, retry=outcome.retry)
