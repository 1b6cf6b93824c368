"""Handlers run in the test's own thread, one job after another."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.client import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing.memory import innermost
from spooled_pipelines.types import Job
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.limits import DEQUEUE_MAX
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.handlers.executors import blocking_call
from spooled_pipelines.worker.handlers.handler import Handler, bind_handler
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.outcome import (
    Completed,
    Failed,
    Outcome,
    Returned,
    rejected_result,
)
from spooled_pipelines.worker.settling.batch_settler import fill_return

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

    It takes the handlers that `Worker` takes, and settles their jobs as a worker does. A job that
    is tried again waits for its time: see `MemoryClient.skip`. Jobs that a handler enqueues to the
    same queue are run too.

    Args:
        handler: called with one job after another; an async one runs in an event loop of its own.
        queue_name: the queue to take from.
        client: a client of any server; by default that of the `server()` that was opened last.
        limit: the most jobs that are run, so that a handler that feeds itself comes to an end.

    Raises:
        InvalidArgumentError: there is no server, or `limit` is below 1.
    """
    if limit < 1:
        raise InvalidArgumentError(f"limit must be 1 or more, got {limit}")
    client = client or innermost()
    bound = bind_handler(handler)
    run = blocking_call(bound)
    jobs_per_call = 1 if bound.batch is None else min(bound.batch.max_rows, DEQUEUE_MAX)
    runs: list[JobRun] = []
    while len(runs) < limit:
        count = min(jobs_per_call, limit - len(runs))
        jobs = client.dequeue(
            queue_name, _WORKER_ID, batch_size=count, lease_seconds=_LEASE_SECONDS
        )
        if not jobs:
            break
        for job, outcome in zip(jobs, run([JobContext(job) for job in jobs]), strict=True):
            _settle(client, job, outcome)
            exception = outcome.exception if isinstance(outcome, Failed) else None
            runs.append(JobRun(client.get_job(job.id), exception))
    return runs


def _settle(client: SpooledClient, job: Job, outcome: Outcome) -> None:
    if isinstance(outcome, Completed):
        try:
            client.complete(job, result=outcome.result)
            return
        except InvalidArgumentError as error:
            outcome = rejected_result(f"the result cannot be kept: {error}")
    if isinstance(outcome, Returned):
        request = batch_v1.SettleRequest()
        told = request.outcomes.add(
            job_id=job.id, worker_id=_WORKER_ID, lease_id=job.lease_id or ""
        )
        fill_return(told.returned, outcome)
        stream = client.connection.bidi_stream(BATCH["Settle"])
        stream.write(request)
        stream.read()
        stream.cancel()
    if isinstance(outcome, Failed):
        client.fail(job, outcome.error, retry=outcome.retry)
