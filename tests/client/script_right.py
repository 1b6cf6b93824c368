"""A user's script as it should be: mypy finds nothing wrong in it.

It is never run: mypy reads it with the tree, in `make lint`.
"""

from dataclasses import dataclass

import spooled_pipelines as sp
from spooled_pipelines.notebook import bulk_enqueue
from spooled_pipelines.worker import Discard, Job, JobContext, Retry, Worker, batch_handler


def charge(job: Job) -> dict[str, float]:
    if job.retry_count > 2:
        raise Discard("enough")
    if not job.payload:
        raise Retry("later", after=5)
    return {"charged": float(job.payload["amount"])}


@batch_handler(max_rows=100)
def rows(jobs: list[Job]) -> list[dict[str, int]]:
    return [{"n": 1} for _ in jobs]


@dataclass
class Receipt:
    total: float


async def later(job: Job, context: JobContext) -> Receipt:
    return Receipt(1.0)


with sp.connect() as client:
    batch = client.enqueue_batch([{"amount": 1}], "q", key="amount", on_rerun="retry_failed")
    stats: sp.BatchStats = batch.wait("1m", max_failed=0.1)
    jobs: list[Job] = client.jobs("q", statuses=["deadletter"])
    more: sp.Batch = bulk_enqueue([{"amount": 2}], "q", on_changed="replace", quiet=True)
    Worker(client, "q", rows)
    Worker(client, "q", later)
    with Worker(client, "q", charge, concurrency=4) as worker:
        print(worker.report.completed, stats.open, jobs[0].id, more.id)
