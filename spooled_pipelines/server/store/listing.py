"""What an operator looks at: reads of a store whose cost does not grow with its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from spooled_pipelines.server.core.queue_limits import QueueControl
from spooled_pipelines.server.core.records import BatchRecord, JobPage, QueueRecord, WorkerRecord

# How many jobs one search looks at; whoever wants more goes on from there.
SEARCHED_MAX = 10_000
# Above the number of every batch and job.
NEWEST = 2**62


class ListedQueue(NamedTuple):
    """A queue with its counters and what holds it back."""

    queue_name: str
    record: QueueRecord
    control: QueueControl


class ListedWorker(NamedTuple):
    """A worker as it registered, and what it last said."""

    worker: WorkerRecord
    status: str
    current_jobs: int
    registered_at: int
    seen_at: int


class QueuePage(NamedTuple):
    """Some queues; `after` is the name to go on behind, None at the end."""

    queues: list[ListedQueue]
    after: str | None


class BatchPage(NamedTuple):
    """Some batches; `before` is the number to go on below, None at the end."""

    batches: list[BatchRecord]
    before: int | None


class Listing(Protocol):
    """A part of `JobStore`. `queues` None means those of all queues of the organization."""

    async def list_queues(
        self, organization: str, queues: Sequence[str] | None, after: str, limit: int
    ) -> QueuePage:
        """Queues whose name is above `after`, by name."""

    async def list_batches(
        self, organization: str, queues: Sequence[str] | None, before: int, limit: int
    ) -> BatchPage:
        """Newest generations of batches with a number below `before`, newest first."""

    async def list_workers(
        self, organization: str, queues: Sequence[str] | None, limit: int
    ) -> list[ListedWorker]:
        """Workers, those that were heard of last first."""

    async def find_jobs(
        self,
        organization: str,
        batch_id: str,
        statuses: Sequence[int],
        text: str,
        after: int,
        limit: int,
    ) -> JobPage:
        """Jobs of a batch with a number above `after`, oldest first, without payload and result.

        `text` is in their error, or is their id, key or worker; empty means any. No more than
        `SEARCHED_MAX` jobs are looked at: a page may be empty and yet have an `after`.
        """
