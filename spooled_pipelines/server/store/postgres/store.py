"""`JobStore` over a PostgreSQL database that many servers may share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import psycopg

from spooled_pipelines.server.core.batches.records import Chunk, ChunkStored
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.jobs.records import (
    Depths,
    Enqueued,
    JobPage,
    JobRecord,
    NewJob,
    StoreLoad,
)
from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES, Renewal
from spooled_pipelines.server.core.jobs.settlements import FailOutcome, LeaseHolder, Settlement
from spooled_pipelines.server.core.limits.quotas import UNLIMITED, Quotas
from spooled_pipelines.server.core.page_tokens import PageTokens
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import BackgroundTasks, LoopMonitor, Service
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.core.runtime.queue_names import EarlierName
from spooled_pipelines.server.core.upkeep.key_upkeep import KeyUpkeep
from spooled_pipelines.server.core.upkeep.retention import KEEP_ALL, Pruner, Retention, earliest
from spooled_pipelines.server.store import Settled
from spooled_pipelines.server.store.migrations import MigrationMode
from spooled_pipelines.server.store.postgres.batches import arrow_schemas, bulk_operations
from spooled_pipelines.server.store.postgres.batches import batches as batch_operations
from spooled_pipelines.server.store.postgres.batches.chunks import Chunks
from spooled_pipelines.server.store.postgres.callers import audit, workers
from spooled_pipelines.server.store.postgres.callers import keys as key_operations
from spooled_pipelines.server.store.postgres.connections import schema
from spooled_pipelines.server.store.postgres.connections.database import (
    Committed,
    Snapshot,
    borrowed,
    connect,
    make_pool,
    shown,
)
from spooled_pipelines.server.store.postgres.jobs import (
    claiming,
    enqueueing,
    leased_chunks,
    settling,
    sweeping,
)
from spooled_pipelines.server.store.postgres.limits import queue_limits
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS
from spooled_pipelines.server.store.postgres.reads import listing, reading
from spooled_pipelines.server.store.postgres.transactions import StoreContext
from spooled_pipelines.server.store.postgres.transactions.listener import Listener
from spooled_pipelines.server.store.postgres.transactions.micro_batcher import MicroBatcher
from spooled_pipelines.server.store.postgres.upkeep import batch_marks, key_upkeep, pruning
from spooled_pipelines.server.store.requests import ClaimRequest, JobListing, JobQuery, JobSearch

T = TypeVar("T")
P = ParamSpec("P")
_OPEN_SECONDS = 30.0


def _shielded(
    operation: Callable[Concatenate[StoreContext, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[PostgresStore, P], Coroutine[Any, Any, T]]:
    """Return the method of the store that does this, also where the caller goes away meanwhile."""

    async def method(store: PostgresStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.shield(operation(store.context, *args, **kwargs))

    return method


def _reads(
    query: Callable[Concatenate[Snapshot, P], Awaitable[T]],
) -> Callable[Concatenate[PostgresStore, P], Coroutine[Any, Any, T]]:
    """Return the method of the store that reads this of what is committed."""

    async def method(store: PostgresStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.read(query, *args, **kwargs)

    return method


class PostgresStore(Service):
    """See `JobStore` for what each operation does.

    Times are the database's clock, which the server's follows: leases that one server gives are
    judged by another.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        retention: Retention = KEEP_ALL,
        quotas: Quotas = UNLIMITED,
        migrate: MigrationMode = MigrationMode.AUTO,
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        super().__init__()
        self._migrate = migrate
        self._quotas = quotas
        self._max_deliveries = max_deliveries
        self._pruner = Pruner(retention, clock)
        self._key_upkeep = KeyUpkeep(clock)
        self._url = url
        self._clock = clock
        self._prefix = ""
        # Operations that go on though their caller went away.
        self._background = BackgroundTasks()

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        """Open the store; StoreUnavailableError where the database is away, too old, or too new."""
        self._on_commit = on_commit
        self._monitor = monitor or LoopMonitor()
        await self.start()

    async def close(self) -> None:
        await self.stop()

    async def _start(self, cleanup: AsyncExitStack) -> None:
        async with await connect(self._url) as connection:
            self._prefix, key = await schema.prepare(connection, self._url, self._migrate)
        self.page_tokens = PageTokens(key)
        self._pool = make_pool(self._url)
        self.context = StoreContext(
            self._pool,
            self._clock,
            self._prefix,
            self._quotas,
            self._max_deliveries,
            self._on_commit,
        )
        listener = Listener(self._url, self.context, self._monitor)
        cleanup.push_async_callback(self._pool.close)
        try:
            await self._pool.open(wait=True, timeout=_OPEN_SECONDS)
            async with borrowed(self._pool) as connection:
                await self.context.follow_clock(connection)
            await listener.start()
        except (psycopg.Error, StoreUnavailableError) as error:
            raise StoreUnavailableError(f"cannot connect to {shown(self._url)}: {error}") from error
        cleanup.push_async_callback(listener.stop)
        self._chunks = Chunks(self.context)
        self._enqueues = MicroBatcher(partial(enqueueing.enqueue, self.context))
        self._claims = MicroBatcher(partial(claiming.claim, self.context))
        self._settles = MicroBatcher(partial(settling.settle, self.context))
        for batcher in (self._settles, self._claims, self._enqueues):
            cleanup.push_async_callback(batcher.drained)
        cleanup.push_async_callback(self._background.drain)

    def schema(self) -> str:
        return MIGRATIONS[-1].name

    def load(self) -> StoreLoad:
        stats = self._pool.get_stats()
        used = stats["pool_size"] - stats["pool_available"]
        return StoreLoad(used, stats["pool_max"], stats["requests_waiting"])

    def job_ids_prefix(self) -> str:
        return self._prefix

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        owner, queue = await self.context.place(organization, job.queue_name)
        quota = self._quotas.of(organization)
        return await self._enqueues.submit(enqueueing.Addition(owner, queue, job, quota))

    async def claim(self, organization: str, request: ClaimRequest) -> list[JobRecord]:
        # Asking makes no queue: its name may be a mistake, and anybody may ask for many.
        place = await self.context.find_place(organization, request.queue_name)
        if place is None:
            return []
        topic = (organization, request.queue_name)
        return await self._claims.submit(claiming.QueueClaim(topic, place[1], request))

    async def settle(self, organization: str, settlements: Sequence[Settlement]) -> list[Settled]:
        owner = await self.context.owner(organization)
        if len(settlements) == 1:
            # One alone shares a transaction with others that come meanwhile.
            ((holder, act),) = settlements
            return [await self._settle_one(settling.SettleRequest(owner, holder, act))]
        asked = [settling.SettleRequest(owner, holder, act) for holder, act in settlements]
        settled = await self.shield(settling.settle(self.context, asked))
        return cast("list[Settled]", settled)

    async def renew(self, organization: str, holder: LeaseHolder, lease_ms: int) -> int:
        owner = await self.context.owner(organization)
        request = settling.SettleRequest(owner, holder, Renewal(lease_ms))
        return cast("int", await self._settles.submit(request))

    settle_chunk = _shielded(leased_chunks.settle)
    renew_chunk = _shielded(leased_chunks.renew)
    revise = _shielded(bulk_operations.revise)
    job = _reads(reading.job)

    async def jobs(self, organization: str, query: JobQuery) -> JobPage:
        if isinstance(query, JobSearch):
            return await self.read(listing.search, organization, query)
        if isinstance(query, JobListing):
            return await self.read(listing.jobs, organization, query)
        return await self.read(reading.jobs, organization, query)

    job_columns = _reads(reading.job_columns)
    attempts = _reads(reading.attempts)
    find_keys = _reads(reading.find_keys)
    keys_elsewhere = _reads(reading.keys_elsewhere)

    open_batch = _shielded(batch_operations.open_batch)

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        return await self.shield(self._chunks.add(organization, chunk))

    stored_chunks = _reads(reading.stored_chunks)
    finish_part = _shielded(batch_operations.finish_part)
    hear_upload = _shielded(batch_operations.hear_upload)
    batch_parts = _reads(reading.batch_parts)
    payload_schema = _reads(arrow_schemas.payload_schema)
    result_schema = _reads(arrow_schemas.result_schema)
    keep_result_schema = _shielded(arrow_schemas.keep_result_schema)
    seal_batch = _shielded(batch_operations.seal_batch)
    batches = _reads(reading.batches)
    list_batches = _reads(listing.batches)

    cancel = _shielded(bulk_operations.cancel)
    retry = _shielded(bulk_operations.retry)

    queue = _reads(reading.queue)
    list_queues = _reads(listing.queues)
    control = _reads(queue_limits.control)
    set_control = _shielded(queue_limits.set_control)
    rename_queue = _shielded(queue_limits.rename)

    async def earlier_names(self) -> list[EarlierName]:
        # It is read when one was renamed here or elsewhere.
        self.context.names.forget_queue_topics()
        return await self.read(queue_limits.earlier_names)

    async def depths(self, limit: int) -> Depths:
        await batch_marks.note(self.context)
        return await self.read(reading.depths, limit)

    sizes = _reads(reading.sizes)

    take_back = _shielded(settling.take_back)
    end_worker = _shielded(settling.end_worker)
    register_worker = _shielded(workers.register)
    heartbeat = _shielded(workers.heartbeat)
    deregister_worker = _shielded(workers.deregister)
    queue_of_worker = _reads(workers.queue_of)
    list_workers = _reads(listing.workers)

    add_key = _shielded(key_operations.add)
    revoke_key = _shielded(key_operations.revoke)
    keys = _reads(key_operations.every)
    list_keys = _reads(key_operations.of_organization)
    count_keys = _reads(key_operations.count)

    note_audit = _shielded(audit.note)
    list_audit = _reads(audit.page)

    async def sweep(self) -> int | None:
        moment = await sweeping.sweep(self.context)
        again = await self._pruner.take_step(pruning.PruningSteps(self.context))
        upkeep = await self._key_upkeep.take_step(key_upkeep.KeySteps(self.context))
        return earliest(moment, again, upkeep)

    recount = _reads(reading.recount)

    async def read(
        self,
        query: Callable[Concatenate[Snapshot, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read it over a connection of the pool."""
        async with borrowed(self._pool) as connection:
            snapshot = Committed(connection, self._prefix, self._clock.now())
            return await query(snapshot, *args, **kwargs)

    async def shield(self, operation: Coroutine[Any, Any, T]) -> T:
        """Let an operation end as it will, also where the caller goes away meanwhile."""
        return await self._background.shield(operation, "operation of the store")

    async def _settle_one(self, request: settling.SettleRequest) -> Settled:
        try:
            return cast("FailOutcome | None", await self._settles.submit(request))
        except RefusedError as refusal:
            if not settling.is_not_held(refusal):
                raise
            return refusal
