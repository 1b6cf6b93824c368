"""Shorthands for tests of stores: jobs, chunks, and a store with a clock that the test moves."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import BatchOpening, Chunk
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord, NewJob
from spooled_pipelines.server.core.jobs.settlements import (
    Act,
    Completion,
    FailOutcome,
    GiveBack,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire.well_known import Struct
from tests.support.manual_clock import ManualClock

ORGANIZATION = "acme"


def struct(**fields: Any) -> bytes:
    """A payload as it is stored."""
    message = Struct()
    message.update(fields)
    return message.SerializeToString()


def new_job(queue_name: str = "q", **changes: Any) -> NewJob:
    """A job with everything at its default."""
    job = NewJob(queue_name, struct(n=1), 0, 3, 300, None, None, None)
    return job._replace(**changes)


def chunk(
    batch_id: str, names: Sequence[str], number: int = 0, upload_id: str = "u", **changes: Any
) -> Chunk:
    """A chunk with one row for each name; the same name is the same key."""
    values = {
        "keys": [hashlib.md5(name.encode()).hexdigest() for name in names],
        "payloads": [struct(name=name) for name in names],
        "priorities": 0,
        "max_retries": 3,
        "timeout_seconds": 300,
        "scheduled_at": None,
        "tags": None,
    }
    return Chunk(batch_id, upload_id, number, **{**values, **changes})


def holder(job: JobRecord) -> LeaseHolder:
    """Return the holder of a job's lease."""
    return LeaseHolder(job.job_id, job.worker_id or "", job.lease_id or "")


async def settle_one(
    store: JobStore, organization: str, holder: LeaseHolder, act: Act
) -> FailOutcome | None:
    """Settle one job; what is refused is raised."""
    (outcome,) = await store.settle(organization, [Settlement(holder, act)])
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


async def give_back(
    store: JobStore,
    organization: str,
    holders: Sequence[LeaseHolder],
    after_ms: int | None = None,
) -> None:
    """Undo claims; what is no longer the holder's stays as it is."""
    act = GiveBack(after_ms=after_ms)
    await store.settle(organization, [Settlement(holder, act) for holder in holders])


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on the store, in which its tables stand without a schema."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            return file.execute(statement).fetchall()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = spooled")
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def refused(code: str, text: str = "") -> Iterator[None]:
    """The store refuses with this code, and this text in the message."""
    with pytest.raises(RefusedError) as caught:
        yield
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value.message


@dataclass
class StoreKit:
    """A store under test with its clock, and shorthands for one organization and queue."""

    make: Callable[[ManualClock], JobStore]
    clock: ManualClock = field(default_factory=ManualClock)
    changes: CommitEvent = field(default_factory=CommitEvent)
    store: JobStore = field(init=False)

    async def open(self) -> None:
        self.store = self.make(self.clock)
        await self.store.open(self._note)

    def _note(self, changes: CommitEvent) -> None:
        self.changes.merge(changes)

    async def reopen(self) -> None:
        await self.store.close()
        await self.open()

    def changed(self) -> CommitEvent:
        """What was published since this was last asked."""
        changes, self.changes = self.changes, CommitEvent()
        return changes

    def job_id(self, seq: int) -> str:
        return ids.job_id(self.store.job_ids_prefix(), seq)

    async def enqueue(self, queue_name: str = "q", **changes: Any) -> str:
        return (await self.store.enqueue(ORGANIZATION, new_job(queue_name, **changes))).job_id

    async def claim(
        self, limit: int = 1, *, worker: str = "w", seconds: int = 30, queue_name: str = "q"
    ) -> list[JobRecord]:
        return await self.store.claim(
            ORGANIZATION, ClaimRequest(queue_name, worker, seconds * 1000, limit)
        )

    async def claim_one(self, **options: Any) -> JobRecord:
        (job,) = await self.claim(1, **options)
        return job

    async def job(self, job_id: str) -> JobRecord:
        return await self.store.job(ORGANIZATION, job_id)

    async def complete(self, job: JobRecord) -> None:
        await settle_one(self.store, ORGANIZATION, holder(job), Completion(None))

    async def open_batch(self, batch_id: str = "b", queue_name: str = "q") -> None:
        await self.store.open_batch(ORGANIZATION, BatchOpening(batch_id, queue_name, ""))

    async def add(self, batch_id: str, *names: str, **options: Any) -> tuple[int, list[int]]:
        """How many rows made a job, and the places of those that did not."""
        stored = await self.store.add_chunk(ORGANIZATION, chunk(batch_id, names, **options))
        return stored.rows - len(stored.duplicates), list(stored.duplicates)

    async def counts(self, batch_id: str = "b") -> dict[str, int]:
        """The batch's counters that are not zero."""
        (record,) = await self.store.batches(ORGANIZATION, [batch_id])
        return {name: count for name, count in record.counts._asdict().items() if count}

    async def queue_counts(self, queue_name: str = "q") -> dict[str, int]:
        record = await self.store.queue(ORGANIZATION, queue_name)
        return {name: count for name, count in record.counts._asdict().items() if count}
