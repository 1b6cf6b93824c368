"""`JobStore` over one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.lifecycle import LoopMonitor, Service
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.core.quotas import UNLIMITED, Quotas
from spooled_pipelines.server.core.records import (
    ALL_BEGUN,
    AttemptRecord,
    BatchOpening,
    BatchRecord,
    Chunk,
    ChunkRange,
    ChunkStored,
    CounterMismatch,
    Counts,
    Enqueued,
    ExpectedParts,
    FailOutcome,
    Holder,
    JobPage,
    JobRecord,
    KeyRecord,
    NewJob,
    OpenBatches,
    PartRecord,
    QueueRecord,
    Revision,
    Settlement,
    WorkerRecord,
)
from spooled_pipelines.server.core.retention import KEEP_ALL, Pruner, Retention, earliest
from spooled_pipelines.server.store.listing import BatchPage, ListedWorker, QueuePage
from spooled_pipelines.server.store.sqlite import (
    batches,
    bulk_operations,
    database,
    jobs,
    keys,
    listing,
    pruning,
    reading,
    workers,
)
from spooled_pipelines.server.store.sqlite.disk_errors import FaultLog
from spooled_pipelines.server.store.sqlite.filelock import FileLock
from spooled_pipelines.server.store.sqlite.readers import Readers
from spooled_pipelines.server.store.sqlite.transaction import Names, Transaction
from spooled_pipelines.server.store.sqlite.transaction import Sequence as JobNumbers
from spooled_pipelines.server.store.sqlite.writer import Alike, Writer

T = TypeVar("T")
_READERS = 2


class SqliteStore(Service):
    """See `JobStore` for what each operation does."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        retention: Retention = KEEP_ALL,
        quotas: Quotas = UNLIMITED,
        lock: FileLock | None = None,
    ) -> None:
        super().__init__()
        self._quotas = quotas
        self._pruner = Pruner(retention, clock)
        self._path = database.path_of(url)
        self._clock = clock
        self._lock = lock or FileLock(self._path)
        self._faults = FaultLog(self._path)
        self._prefix = ""
        self._connections: list[sqlite3.Connection] = []
        self._thread = threading.local()

    async def open(
        self,
        on_commit: Callable[[CommitEvent], None],
        monitor: LoopMonitor | None = None,  # noqa: ARG002  # SQLite has no loops
    ) -> None:
        """StoreUnavailableError where the file is another's, newer, locked or unreadable."""
        self._on_commit = on_commit
        await self.start()

    async def close(self) -> None:
        await self.stop()

    async def _start(self, cleanup: AsyncExitStack) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            raise StoreUnavailableError(
                f"{self._path} cannot be opened as a store: {error}"
            ) from error
        cleanup.callback(self._lock.release)
        connection = database.open_writer(self._path)
        self._connections.append(connection)
        cleanup.callback(self._close_connections)
        self._prefix = str(database.read_meta(connection, "id_prefix"))
        numbers = JobNumbers(int(database.read_meta(connection, "next_seq")))
        transaction = Transaction(
            connection, Names(connection), numbers, self._prefix, self._quotas
        )
        loop = asyncio.get_running_loop()
        self._readers = Readers(_READERS, loop)
        cleanup.callback(self._readers.close)
        self._writer = Writer(transaction, self._clock, loop, self._on_commit, self._faults)
        cleanup.push_async_callback(self._writer.close)

    def _close_connections(self) -> None:
        while self._connections:
            self._connections.pop().close()

    def job_id(self, seq: int) -> str:
        return ids.job_id(self._prefix, seq)

    def job_ids_prefix(self) -> str:
        return self._prefix

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        alike = None
        if jobs.can_be_gathered(job):
            what = (organization, job.queue_name, job.priority, job.max_retries)
            alike = Alike(
                partial(jobs.enqueue_many, organization), (*what, job.timeout_seconds), job
            )
        return await self._writer.submit(lambda tx: jobs.enqueue(tx, organization, job), alike)

    async def claim(
        self, organization: str, queue_name: str, worker_id: str, lease_ms: int, limit: int
    ) -> list[JobRecord]:
        return await self._write(jobs.claim, organization, queue_name, worker_id, lease_ms, limit)

    async def give_back(self, organization: str, holders: Sequence[Holder]) -> None:
        await self._write(jobs.give_back, organization, holders)

    async def complete(self, organization: str, holder: Holder, result: bytes | None) -> None:
        await self._write(jobs.complete, organization, holder, result)

    async def fail(self, organization: str, holder: Holder, error: str, retry: bool) -> FailOutcome:
        return await self._write(jobs.fail, organization, holder, error, retry)

    async def settle(
        self, organization: str, settlements: Sequence[Settlement]
    ) -> list[FailOutcome | RefusedError | None]:
        return await self._write(jobs.settle, organization, settlements)

    async def renew(self, organization: str, holder: Holder, lease_ms: int) -> int:
        return await self._write(jobs.renew, organization, holder, lease_ms)

    async def job(self, organization: str, job_id: str) -> JobRecord:
        return await self._read(reading.job, self._prefix, organization, job_id)

    async def queue(self, organization: str, queue_name: str) -> QueueRecord:
        return await self._read(reading.queue, organization, queue_name)

    async def queue_names(self, limit: int) -> list[tuple[str, str]]:
        return await self._read(reading.queue_names, limit)

    async def register_worker(self, organization: str, worker: WorkerRecord) -> None:
        await self._write(workers.register, organization, worker)

    async def heartbeat(
        self, organization: str, worker_id: str, current_jobs: int, status: str, metadata: str
    ) -> None:
        operation = workers.heartbeat
        await self._write(operation, organization, worker_id, current_jobs, status, metadata)

    async def deregister_worker(self, organization: str, worker_id: str) -> bool:
        return await self._write(workers.deregister, organization, worker_id)

    async def queue_of_worker(self, organization: str, worker_id: str) -> str | None:
        return await self._read(workers.queue_of, organization, worker_id)

    async def add_key(self, key: KeyRecord) -> None:
        await self._write(keys.add, key)

    async def revoke_key(self, organization: str, key_id: str) -> KeyRecord:
        return await self._write(keys.revoke, organization, key_id)

    async def keys(self) -> list[KeyRecord]:
        return await self._read(keys.every)

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        while True:
            record = await self._write(batches.open_batch, organization, opening)
            if record is not None:
                return record

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        return await self._write(batches.add_chunk, organization, chunk)

    async def seal_batch(
        self,
        organization: str,
        batch_id: str,
        generation: int = 0,
        expected: ExpectedParts = ALL_BEGUN,
    ) -> BatchRecord:
        what = (organization, batch_id, generation, expected)
        return await self._write(batches.seal_batch, *what)

    async def stored_chunks(
        self, organization: str, batch_id: str, upload_id: str
    ) -> list[ChunkRange]:
        return await self._read(reading.stored_chunks, organization, batch_id, upload_id)

    async def finish_part(
        self, organization: str, batch_id: str, generation: int, part: PartRecord
    ) -> PartRecord:
        return await self._write(batches.finish_part, organization, batch_id, generation, part)

    async def batch_parts(
        self, organization: str, batch_id: str, after: str, limit: int
    ) -> list[PartRecord]:
        return await self._read(reading.batch_parts, organization, batch_id, after, limit)

    async def cancel_batch(
        self, organization: str, batch_id: str, generation: int | None
    ) -> Counts:
        numbers = await self._write(bulk_operations.generations, organization, batch_id, generation)
        for number in numbers:
            await self._in_steps(bulk_operations.cancel, number)
        return await self._write(bulk_operations.counts, numbers)

    async def retry_batch(
        self, organization: str, batch_id: str, error_contains: str, cancelled: bool = False
    ) -> int:
        number = await self._write(bulk_operations.newest, organization, batch_id)
        return await self._in_steps(bulk_operations.retry, number, error_contains, cancelled)

    async def attempts(self, organization: str, job_id: str) -> list[AttemptRecord]:
        return await self._read(reading.attempts, self._prefix, organization, job_id)

    async def find_keys(self, organization: str, queue_name: str, keys: Sequence[str]) -> list[int]:
        return await self._read(reading.find_keys, organization, queue_name, keys)

    async def batches(self, organization: str, batch_ids: Sequence[str]) -> list[BatchRecord]:
        return await self._read(reading.batches, organization, batch_ids, self._clock.now())

    async def open_batches(self, limit: int) -> list[OpenBatches]:
        return await self._read(reading.open_batches, limit)

    async def batch_jobs(
        self,
        organization: str,
        batch_id: str,
        statuses: Sequence[int],
        after: int,
        limit: int,
        omit_payload: bool,
    ) -> JobPage:
        where = (self._prefix, organization, batch_id)
        what = (statuses, after, limit, omit_payload)
        return await self._read(reading.batch_jobs, *where, *what)

    async def list_queues(
        self, organization: str, queues: Sequence[str] | None, after: str, limit: int
    ) -> QueuePage:
        return await self._read(listing.queues, organization, queues, after, limit)

    async def list_batches(
        self, organization: str, queues: Sequence[str] | None, before: int, limit: int
    ) -> BatchPage:
        now = self._clock.now()
        return await self._read(listing.batches, organization, queues, before, limit, now)

    async def list_workers(
        self, organization: str, queues: Sequence[str] | None, limit: int
    ) -> list[ListedWorker]:
        return await self._read(listing.workers, organization, queues, limit)

    async def find_jobs(
        self,
        organization: str,
        batch_id: str,
        statuses: Sequence[int],
        text: str,
        after: int,
        limit: int,
    ) -> JobPage:
        where = (self._prefix, organization, batch_id)
        return await self._read(listing.find_jobs, *where, statuses, text, after, limit)

    async def set_paused(self, organization: str, queue_name: str, paused: bool) -> None:
        await self._write(bulk_operations.set_paused, organization, queue_name, paused)

    async def set_limits(
        self, organization: str, queue_name: str, limits: QueueLimits
    ) -> QueueLimits:
        return await self._write(bulk_operations.set_limits, organization, queue_name, limits)

    async def queue_control(self, organization: str, queue_name: str) -> QueueControl:
        return await self._read(reading.control, organization, queue_name)

    async def purge_queue(self, organization: str, queue_name: str) -> int:
        queue = await self._write(bulk_operations.queue_number, organization, queue_name)
        highest = await self._write(bulk_operations.last_job)
        return await self._in_steps(bulk_operations.purge, queue, highest)

    async def dead_letters(
        self, organization: str, queue_name: str, after: int, limit: int
    ) -> JobPage:
        where = (self._prefix, organization, queue_name)
        return await self._read(reading.dead_letters, *where, after, limit)

    async def redrive(self, organization: str, queue_name: str, error_contains: str) -> int:
        queue = await self._write(bulk_operations.queue_number, organization, queue_name)
        return await self._in_steps(bulk_operations.redrive, queue, error_contains)

    async def revise(
        self, organization: str, revisions: Sequence[Revision]
    ) -> list[RefusedError | None]:
        return await self._write(bulk_operations.revise, organization, revisions)

    async def sweep(self) -> int | None:
        while await self._write(jobs.release_due) or await self._write(jobs.take_back_expired):
            pass
        again = await self._pruner.take_step(_Steps(self._writer))
        return earliest(await self._write(jobs.next_moment), again)

    async def recount(self) -> list[CounterMismatch]:
        return await self._read(reading.recount)

    async def _write(self, operation: Callable[..., T], *arguments: object) -> T:
        return await self._writer.submit(lambda transaction: operation(transaction, *arguments))

    async def _in_steps(self, step: Callable[..., bulk_operations.Step], *arguments: object) -> int:
        """How many jobs all steps changed."""
        changed, after = 0, 0
        while True:
            done = await self._write(step, *arguments, after)
            changed += done.changed
            if done.after is None:
                return changed
            after = done.after

    async def _read(self, query: Callable[..., T], *arguments: object) -> T:
        return await self._readers.run(partial(self._query, query, *arguments))

    def _query(self, query: Callable[..., T], *arguments: object) -> T:
        try:
            connection = getattr(self._thread, "connection", None)
            if connection is None:
                connection = self._thread.connection = database.open_reader(self._path)
                self._connections.append(connection)
            return query(connection, *arguments)
        except sqlite3.Error as error:
            raise self._faults.refusal(error) from error


class _Steps:
    """See `retention.Steps`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def strip(self, before: int) -> bool:
        return await self._writer.submit(partial(pruning.strip, before=before))

    async def forget(self, before: int) -> bool:
        return await self._writer.submit(partial(pruning.forget, before=before))

    async def forget_dead(self, before: int) -> bool:
        return await self._writer.submit(partial(pruning.forget_dead, before=before))

    async def forget_batches(self, before: int, before_dead: int | None) -> bool:
        step = partial(pruning.forget_batches, before=before, before_dead=before_dead)
        return await self._writer.submit(step)
