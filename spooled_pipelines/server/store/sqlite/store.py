"""`JobStore` over one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Concatenate, NamedTuple, TypeVar

from typing_extensions import ParamSpec

from spooled_pipelines.server.core.batches.records import (
    BatchOpening,
    BatchRecord,
    CancelOutcome,
    Chunk,
    ChunkStored,
    RetryOutcome,
)
from spooled_pipelines.server.core.errors import (
    MovedStoreError,
    RefusedError,
    StoreUnavailableError,
)
from spooled_pipelines.server.core.jobs.records import (
    CounterMismatch,
    Enqueued,
    JobPage,
    NewJob,
    StoreLoad,
)
from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES
from spooled_pipelines.server.core.limits.quotas import UNLIMITED, Quotas
from spooled_pipelines.server.core.page_tokens import PageTokens
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor, Service
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.core.upkeep.key_upkeep import KeyUpkeep
from spooled_pipelines.server.core.upkeep.retention import (
    KEEP_ALL,
    Pruned,
    Pruner,
    Retention,
    earliest,
)
from spooled_pipelines.server.store import Selector
from spooled_pipelines.server.store.migrations import MigrationMode, no_store
from spooled_pipelines.server.store.requests import BatchSelector, JobListing, JobQuery, JobSearch
from spooled_pipelines.server.store.sqlite.batches import arrow_schemas, bulk_operations, chunks
from spooled_pipelines.server.store.sqlite.batches import batches as batch_operations
from spooled_pipelines.server.store.sqlite.callers import audit, workers
from spooled_pipelines.server.store.sqlite.callers import keys as key_operations
from spooled_pipelines.server.store.sqlite.connections import database
from spooled_pipelines.server.store.sqlite.connections.disk_errors import FaultLog
from spooled_pipelines.server.store.sqlite.connections.file_identity import FileIdentity
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from spooled_pipelines.server.store.sqlite.connections.id_cache import IdCache
from spooled_pipelines.server.store.sqlite.connections.readers import Readers
from spooled_pipelines.server.store.sqlite.jobs import (
    claiming,
    enqueueing,
    leased_chunks,
    settling,
    sweeping,
)
from spooled_pipelines.server.store.sqlite.limits import queue_limits as queue_control
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS
from spooled_pipelines.server.store.sqlite.reads import listing, reading
from spooled_pipelines.server.store.sqlite.transactions import (
    JobNumbers,
    Snapshot,
    Transaction,
    steps,
)
from spooled_pipelines.server.store.sqlite.transactions.writer import Batchable, Writer
from spooled_pipelines.server.store.sqlite.upkeep import pruning
from spooled_pipelines.server.store.sqlite.upkeep.key_upkeep import KeySteps
from spooled_pipelines.server.store.steps import Progress, Step
from spooled_pipelines.server.store.tables import refuse_half_copy

T = TypeVar("T")
P = ParamSpec("P")
_READERS = 2


class _Committed(NamedTuple):
    """See `Snapshot`."""

    connection: sqlite3.Connection
    prefix: str
    now: int


def _writes(
    operation: Callable[Concatenate[Transaction, P], T],
) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, T]]:
    """Return the method of the store that does this in a commit, with what else has gathered."""

    async def method(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.write(operation, *args, **kwargs)

    return method


def _may_refuse(
    operation: Callable[Concatenate[Transaction, P], T | RefusedError],
) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, T]]:
    """Return the same where a refusal is returned, and what was done before it stays done."""

    async def method(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        outcome = await store.write(operation, *args, **kwargs)
        if isinstance(outcome, RefusedError):
            raise outcome
        return outcome

    return method


def _reads(
    query: Callable[Concatenate[Snapshot, P], T],
) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, T]]:
    """Return the method of the store that reads this of what is committed."""

    async def method(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.read(query, *args, **kwargs)

    return method


def _open_batch(
    tx: Transaction, organization: str, opening: BatchOpening
) -> tuple[BatchRecord | None, bool]:
    """Open a batch; return as well whether some are being cancelled."""
    record = batch_operations.open_batch(tx, organization, opening)
    return record, bulk_operations.cancel_noted(tx)


class SqliteStore(Service):
    """See `JobStore` for what each operation does."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        retention: Retention = KEEP_ALL,
        quotas: Quotas = UNLIMITED,
        max_deliveries: int = MAX_DELIVERIES,
        lock: FileLock | None = None,
        migrate: MigrationMode = MigrationMode.AUTO,
    ) -> None:
        super().__init__()
        self._migrate = migrate
        self._quotas = quotas
        self._max_deliveries = max_deliveries
        self._pruner = Pruner(retention, clock)
        self._key_upkeep = KeyUpkeep(clock)
        # Whether the log may hold what was pruned.
        self._has_pruned = False
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
        """Open the store; StoreUnavailableError says what is wrong with the file."""
        self._on_commit = on_commit
        await self.start()

    async def close(self) -> None:
        await self.stop()

    async def _start(self, cleanup: AsyncExitStack) -> None:
        may_make = self._migrate in (MigrationMode.AUTO, MigrationMode.CREATE)
        if not may_make and not self._path.exists():
            raise no_store(str(self._path))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            raise StoreUnavailableError(
                f"{self._path} cannot be opened as a store: {error}"
            ) from error
        cleanup.callback(self._lock.release)
        connection = database.open_writer(self._path, self._migrate)
        self._connections.append(connection)
        cleanup.callback(self._close_connections)
        refuse_half_copy(str(self._path), database.objects(connection))
        self._prefix = str(database.read_meta(connection, "id_prefix"))
        self.page_tokens = PageTokens(database.read_page_key(connection))
        numbers = JobNumbers(
            connection, database.first_place(connection, self._lock.last_token, self._lock.token)
        )
        transaction = Transaction(
            connection,
            IdCache(connection),
            numbers,
            self._prefix,
            self._quotas,
            self._max_deliveries,
        )
        loop = asyncio.get_running_loop()
        self._readers = Readers(_READERS, loop)
        cleanup.callback(self._readers.close)
        self._file = FileIdentity(self._path)
        self._writer = Writer(
            transaction, self._clock, loop, self._on_commit, self._faults, self._file
        )
        cleanup.push_async_callback(self._writer.close)

    def _close_connections(self) -> None:
        while self._connections:
            self._connections.pop().close()

    def schema(self) -> str:
        return MIGRATIONS[-1].name

    def load(self) -> StoreLoad:
        return self._writer.load()

    def job_ids_prefix(self) -> str:
        return self._prefix

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        alike = None
        if enqueueing.can_be_batched(job):
            what = (organization, job.queue_name, job.priority, job.max_retries)
            together = partial(enqueueing.enqueue_many, organization)
            alike = Batchable(together, (*what, job.timeout_seconds), job)
        return await self._writer.submit(
            lambda tx: enqueueing.enqueue(tx, organization, job), alike
        )

    claim = _writes(claiming.claim)
    settle = _writes(settling.settle)
    settle_chunk = _writes(leased_chunks.settle)
    renew = _writes(settling.renew)
    renew_chunk = _writes(leased_chunks.renew)
    revise = _writes(bulk_operations.revise)
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

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        # None while one of this name is being forgotten, a step at a time.
        record, more = None, False
        while record is None:
            record, more = await self.write(_open_batch, organization, opening)
        if not more:
            return record
        while await self.write(bulk_operations.cancel_noted):
            pass
        (record,) = await self.batches(organization, [opening.batch_id])
        return record

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        return await self._writer.submit(
            lambda tx: chunks.add_chunk(tx, organization, chunk), is_patient=True
        )

    stored_chunks = _reads(reading.stored_chunks)
    finish_part = _may_refuse(batch_operations.finish_part)
    hear_upload = _writes(batch_operations.hear_upload)
    batch_parts = _reads(reading.batch_parts)
    payload_schema = _reads(arrow_schemas.payload_schema)
    result_schema = _reads(arrow_schemas.result_schema)
    keep_result_schema = _writes(arrow_schemas.keep_result_schema)
    seal_batch = _may_refuse(batch_operations.seal_batch)
    batches = _reads(reading.batches)
    list_batches = _reads(listing.batches)

    async def cancel(self, organization: str, selector: Selector) -> CancelOutcome:
        asked = selector.request_id
        if isinstance(selector, BatchSelector):
            numbers = await self.write(bulk_operations.generations, organization, selector)
            cancelled = 0
            for number in numbers:
                step = partial(bulk_operations.cancel_batch, batch=number)
                request_id = asked and f"{asked}:{number}"
                cancelled += (await self._in_steps(organization, request_id, step)).changed
            return CancelOutcome(cancelled, await self.write(bulk_operations.counts, numbers))
        queue_name = selector.queue_name
        queue = await self.write(bulk_operations.queue_number, organization, queue_name)
        step = partial(bulk_operations.purge_queue, organization=organization, queue=queue)
        done = await self._in_steps(organization, asked, step)
        return CancelOutcome(done.changed, (await self.queue(organization, queue_name)).counts)

    async def retry(
        self,
        organization: str,
        selector: Selector,
        error_contains: str = "",
        cancelled: bool = False,
    ) -> RetryOutcome:
        step: Callable[[Transaction, Progress], Step]
        if isinstance(selector, BatchSelector):
            number = await self.write(bulk_operations.newest, organization, selector.batch_id)
            step = partial(
                bulk_operations.retry_batch,
                batch=number,
                error_contains=error_contains,
                cancelled=cancelled,
            )
        else:
            name = selector.queue_name
            queue = await self.write(bulk_operations.queue_number, organization, name)
            step = partial(bulk_operations.retry_queue, queue=queue, error_contains=error_contains)
        done = await self._in_steps(organization, selector.request_id, step)
        return done.retried(self._prefix)

    queue = _reads(reading.queue)
    list_queues = _reads(listing.queues)
    control = _reads(reading.control)
    set_control = _writes(queue_control.set_control)
    rename_queue = _writes(queue_control.rename)
    earlier_names = _reads(queue_control.earlier_names)
    depths = _reads(reading.depths)
    sizes = _reads(reading.sizes)

    take_back = _writes(settling.take_back)
    end_worker = _writes(settling.end_worker)
    register_worker = _writes(workers.register)
    heartbeat = _writes(workers.heartbeat)
    deregister_worker = _writes(workers.deregister)
    queue_of_worker = _reads(workers.queue_of)
    list_workers = _reads(listing.workers)

    add_key = _writes(key_operations.add)
    revoke_key = _writes(key_operations.revoke)
    keys = _reads(key_operations.every)
    list_keys = _reads(key_operations.of_organization)
    count_keys = _reads(key_operations.count)

    note_audit = _writes(audit.note)
    list_audit = _reads(audit.page)

    async def sweep(self) -> int | None:
        for step in (
            sweeping.release_due,
            sweeping.requeue_expired,
            sweeping.cancel_too_late,
        ):
            while await self.write(step):
                pass
        while await self.write(batch_operations.seal_abandoned):
            pass
        steps = _Steps(self._writer)
        again = await self._pruner.take_step(steps)
        self._has_pruned |= steps.jobs > 0
        if self._has_pruned and not steps.more:
            self._has_pruned = False
            self._writer.truncate_log()
        upkeep = await self._key_upkeep.take_step(KeySteps(self._writer))
        moment, more = await self.write(sweeping.next_moment)
        while more:
            more = await self.write(bulk_operations.cancel_noted)
        return earliest(moment, again, upkeep)

    async def recount(self) -> list[CounterMismatch]:
        return await self.read(lambda snapshot: reading.recount(snapshot.connection))

    async def write(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do it in a commit, with what else has gathered."""
        return await self._writer.submit(lambda tx: operation(tx, *args, **kwargs))

    async def _in_steps(
        self, organization: str, request_id: str, step: Callable[[Transaction, Progress], Step]
    ) -> Progress:
        """Return what all steps did."""
        progress = Progress()
        while progress.after is not None:
            progress = await self.write(steps.take_step, organization, request_id, progress, step)
        return progress

    async def read(
        self, query: Callable[Concatenate[Snapshot, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read it, on one of the threads that read."""

        def run() -> T:
            try:
                self._file.check()
                return query(self._committed(), *args, **kwargs)
            except (sqlite3.Error, MovedStoreError) as error:
                raise self._faults.refusal(error) from error

        return await self._readers.run(run)

    def _committed(self) -> Snapshot:
        """Return what is committed, over the connection of this thread."""
        connection = getattr(self._thread, "connection", None)
        if connection is None:
            connection = self._thread.connection = database.open_reader(self._path)
            self._connections.append(connection)
        return _Committed(connection, self._prefix, self._clock.now())


class _Steps:
    """See `retention.Steps`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        # How many jobs these pruned, and whether there may be more.
        self.jobs, self.more = 0, False

    async def _take(self, step: Callable[[Transaction], Pruned]) -> Pruned:
        pruned = await self._writer.submit(step)
        self.jobs += pruned.jobs
        self.more |= pruned.more
        return pruned

    async def strip(self, before: int) -> Pruned:
        return await self._take(partial(pruning.strip, before=before))

    async def forget(self, before: int) -> Pruned:
        return await self._take(partial(pruning.forget, before=before))

    async def forget_dead(self, before: int) -> Pruned:
        return await self._take(partial(pruning.forget_dead, before=before))

    async def forget_batches(self, before: int, before_dead: int | None) -> Pruned:
        step = partial(pruning.forget_batches, before=before, before_dead=before_dead)
        return await self._take(step)
