"""`JobStore` over a PostgreSQL database that many servers may share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar, cast

import psycopg

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.lifecycle import BackgroundTasks, LoopMonitor, Service
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
    Completion,
    CounterMismatch,
    Counts,
    Enqueued,
    ExpectedParts,
    FailOutcome,
    Failure,
    GiveBack,
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
from spooled_pipelines.server.store.postgres import (
    batch_marks,
    batches,
    bulk_operations,
    claiming,
    enqueueing,
    keys,
    listing,
    pruning,
    queue_limits,
    reading,
    schema,
    settling,
    sweeping,
    workers,
)
from spooled_pipelines.server.store.postgres.chunks import Chunks
from spooled_pipelines.server.store.postgres.database import connect, lent, make_pool, shown
from spooled_pipelines.server.store.postgres.listener import Listener
from spooled_pipelines.server.store.postgres.micro_batcher import Gatherer
from spooled_pipelines.server.store.postgres.transaction import Ground

T = TypeVar("T")
_OPEN_SECONDS = 30.0


class PostgresStore(Service):
    """See `JobStore` for what each operation does.

    Times are the server's clock, not the database's: leases that one server gives are judged by
    another, so the clocks of all servers on one database must agree to well below a lease.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        retention: Retention = KEEP_ALL,
        quotas: Quotas = UNLIMITED,
    ) -> None:
        super().__init__()
        self._quotas = quotas
        self._pruner = Pruner(retention, clock)
        self._url = url
        self._clock = clock
        self._prefix = ""
        # Operations that go on though whoever asked went away.
        self._background = BackgroundTasks()

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        """StoreUnavailableError where the database is away, too old, or newer than this server."""
        self._on_commit = on_commit
        self._monitor = monitor or LoopMonitor()
        await self.start()

    async def close(self) -> None:
        await self.stop()

    async def _start(self, cleanup: AsyncExitStack) -> None:
        async with await connect(self._url) as connection:
            self._prefix = await schema.prepare(connection, self._url)
        self._pool = make_pool(self._url)
        self._ground = Ground(self._pool, self._clock, self._prefix, self._on_commit)
        listener = Listener(self._url, self._ground, self._monitor)
        cleanup.push_async_callback(self._pool.close)
        try:
            await self._pool.open(wait=True, timeout=_OPEN_SECONDS)
            await listener.start()
        except (psycopg.Error, StoreUnavailableError) as error:
            raise StoreUnavailableError(f"cannot connect to {shown(self._url)}: {error}") from error
        cleanup.push_async_callback(listener.stop)
        self._chunks = Chunks(self._ground, self._quotas)
        self._enqueues = Gatherer(partial(enqueueing.enqueue, self._ground))
        self._claims = Gatherer(partial(claiming.claim, self._ground))
        self._settles = Gatherer(partial(settling.settle, self._ground))
        for gatherer in (self._settles, self._claims, self._enqueues):
            cleanup.push_async_callback(gatherer.drained)
        cleanup.push_async_callback(self._background.drain)

    def job_id(self, seq: int) -> str:
        return ids.job_id(self._prefix, seq)

    def job_ids_prefix(self) -> str:
        return self._prefix

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        owner, queue = await self._ground.place(organization, job.queue_name)
        quota = self._quotas.of(organization)
        return await self._enqueues.submit(enqueueing.Addition(owner, queue, job, quota))

    async def claim(
        self, organization: str, queue_name: str, worker_id: str, lease_ms: int, limit: int
    ) -> list[JobRecord]:
        _, queue = await self._ground.place(organization, queue_name)
        topic = (organization, queue_name)
        return await self._claims.submit(claiming.Claim(topic, queue, worker_id, lease_ms, limit))

    async def give_back(self, organization: str, holders: Sequence[Holder]) -> None:
        # What is not the holder's any more is refused, and there is nothing to undo.
        given = [self._settle(organization, holder, GiveBack()) for holder in holders]
        for outcome in await asyncio.gather(*given, return_exceptions=True):
            if isinstance(outcome, BaseException) and not settling.is_not_held(outcome):
                raise outcome

    async def complete(self, organization: str, holder: Holder, result: bytes | None) -> None:
        await self._settle(organization, holder, Completion(result))

    async def fail(self, organization: str, holder: Holder, error: str, retry: bool) -> FailOutcome:
        outcome = await self._settle(organization, holder, Failure(error, retry))
        return cast("FailOutcome", outcome)

    async def settle(
        self, organization: str, settlements: Sequence[Settlement]
    ) -> list[FailOutcome | RefusedError | None]:
        owner = await self._ground.owner(organization)
        given = [settling.Settling(owner, holder, act) for holder, act in settlements]
        outcomes = await self._whole(settling.settle(self._ground, given))
        return cast("list[FailOutcome | RefusedError | None]", outcomes)

    async def renew(self, organization: str, holder: Holder, lease_ms: int) -> int:
        return cast("int", await self._settle(organization, holder, settling.Renewal(lease_ms)))

    async def job(self, organization: str, job_id: str) -> JobRecord:
        async with lent(self._pool) as connection:
            return await reading.job(connection, self._prefix, organization, job_id)

    async def queue(self, organization: str, queue_name: str) -> QueueRecord:
        async with lent(self._pool) as connection:
            return await reading.queue(connection, organization, queue_name)

    async def queue_names(self, limit: int) -> list[tuple[str, str]]:
        async with lent(self._pool) as connection:
            return await reading.queue_names(connection, limit)

    async def register_worker(self, organization: str, worker: WorkerRecord) -> None:
        await workers.register(self._ground, organization, worker)

    async def heartbeat(
        self, organization: str, worker_id: str, current_jobs: int, status: str, metadata: str
    ) -> None:
        about = (worker_id, current_jobs, status, metadata)
        await workers.heartbeat(self._ground, organization, *about)

    async def deregister_worker(self, organization: str, worker_id: str) -> bool:
        return await workers.deregister(self._ground, organization, worker_id)

    async def queue_of_worker(self, organization: str, worker_id: str) -> str | None:
        return await workers.queue_of(self._ground, organization, worker_id)

    async def add_key(self, key: KeyRecord) -> None:
        await keys.add(self._ground, key)

    async def revoke_key(self, organization: str, key_id: str) -> KeyRecord:
        return await keys.revoke(self._ground, organization, key_id)

    async def keys(self) -> list[KeyRecord]:
        return await keys.every(self._ground)

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        return await self._whole(batches.open_batch(self._ground, organization, opening))

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        return await self._whole(self._chunks.add(organization, chunk))

    async def seal_batch(
        self,
        organization: str,
        batch_id: str,
        generation: int = 0,
        expected: ExpectedParts = ALL_BEGUN,
    ) -> BatchRecord:
        what = (organization, batch_id, generation, expected)
        return await self._whole(batches.seal_batch(self._ground, *what))

    async def stored_chunks(
        self, organization: str, batch_id: str, upload_id: str
    ) -> list[ChunkRange]:
        async with lent(self._pool) as connection:
            return await reading.stored_chunks(connection, organization, batch_id, upload_id)

    async def finish_part(
        self, organization: str, batch_id: str, generation: int, part: PartRecord
    ) -> PartRecord:
        what = (organization, batch_id, generation, part)
        return await self._whole(batches.finish_part(self._ground, *what))

    async def batch_parts(
        self, organization: str, batch_id: str, after: str, limit: int
    ) -> list[PartRecord]:
        async with lent(self._pool) as connection:
            return await reading.batch_parts(connection, organization, batch_id, after, limit)

    async def cancel_batch(
        self, organization: str, batch_id: str, generation: int | None
    ) -> Counts:
        cancelling = bulk_operations.cancel_batch(self._ground, organization, batch_id, generation)
        return await self._whole(cancelling)

    async def retry_batch(
        self, organization: str, batch_id: str, error_contains: str, cancelled: bool = False
    ) -> int:
        retrying = bulk_operations.retry_batch(
            self._ground, organization, batch_id, error_contains, cancelled
        )
        return await self._whole(retrying)

    async def attempts(self, organization: str, job_id: str) -> list[AttemptRecord]:
        async with lent(self._pool) as connection:
            return await reading.attempts(connection, self._prefix, organization, job_id)

    async def find_keys(self, organization: str, queue_name: str, keys: Sequence[str]) -> list[int]:
        async with lent(self._pool) as connection:
            return await reading.find_keys(connection, organization, queue_name, keys)

    async def batches(self, organization: str, batch_ids: Sequence[str]) -> list[BatchRecord]:
        async with lent(self._pool) as connection:
            now = self._clock.now()
            return await reading.batches(connection, organization, batch_ids, now)

    async def open_batches(self, limit: int) -> list[OpenBatches]:
        await batch_marks.note(self._ground)
        async with lent(self._pool) as connection:
            return await reading.open_batches(connection, limit)

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
        async with lent(self._pool) as connection:
            return await reading.batch_jobs(
                connection, *where, statuses, after, limit, omit_payload
            )

    async def list_queues(
        self, organization: str, queues: Sequence[str] | None, after: str, limit: int
    ) -> QueuePage:
        async with lent(self._pool) as connection:
            return await listing.queues(connection, organization, queues, after, limit)

    async def list_batches(
        self, organization: str, queues: Sequence[str] | None, before: int, limit: int
    ) -> BatchPage:
        where = (organization, queues, before, limit)
        async with lent(self._pool) as connection:
            return await listing.batches(connection, *where, self._clock.now())

    async def list_workers(
        self, organization: str, queues: Sequence[str] | None, limit: int
    ) -> list[ListedWorker]:
        async with lent(self._pool) as connection:
            return await listing.workers(connection, organization, queues, limit)

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
        async with lent(self._pool) as connection:
            return await listing.find_jobs(connection, *where, statuses, text, after, limit)

    async def set_paused(self, organization: str, queue_name: str, paused: bool) -> None:
        await self._whole(
            bulk_operations.set_paused(self._ground, organization, queue_name, paused)
        )

    async def set_limits(
        self, organization: str, queue_name: str, limits: QueueLimits
    ) -> QueueLimits:
        setting = queue_limits.set_limits(self._ground, organization, queue_name, limits)
        return await self._whole(setting)

    async def queue_control(self, organization: str, queue_name: str) -> QueueControl:
        async with lent(self._pool) as connection:
            return await queue_limits.control(connection, organization, queue_name)

    async def purge_queue(self, organization: str, queue_name: str) -> int:
        return await self._whole(
            bulk_operations.purge_queue(self._ground, organization, queue_name)
        )

    async def dead_letters(
        self, organization: str, queue_name: str, after: int, limit: int
    ) -> JobPage:
        where = (self._prefix, organization, queue_name)
        async with lent(self._pool) as connection:
            return await reading.dead_letters(connection, *where, after, limit)

    async def redrive(self, organization: str, queue_name: str, error_contains: str) -> int:
        redriving = bulk_operations.redrive(self._ground, organization, queue_name, error_contains)
        return await self._whole(redriving)

    async def revise(
        self, organization: str, revisions: Sequence[Revision]
    ) -> list[RefusedError | None]:
        owner = await self._ground.owner(organization)
        return await self._whole(bulk_operations.revise(self._ground, owner, revisions))

    async def sweep(self) -> int | None:
        moment = await sweeping.sweep(self._ground)
        again = await self._pruner.take_step(pruning.PruningSteps(self._ground))
        return earliest(moment, again)

    async def recount(self) -> list[CounterMismatch]:
        async with lent(self._pool) as connection:
            return await reading.recount(connection)

    async def _settle(self, organization: str, holder: Holder, act: settling.Act) -> object:
        owner = await self._ground.owner(organization)
        return await self._settles.submit(settling.Settling(owner, holder, act))

    async def _whole(self, operation: Coroutine[Any, Any, T]) -> T:
        """Let an operation end as it will, also where the caller goes away meanwhile."""
        return await self._background.shield(operation, "operation of the store")
