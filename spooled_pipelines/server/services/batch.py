"""spooled_pipelines.v1.BatchService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.batches.records import BatchRecord, ExpectedParts, PartRecord
from spooled_pipelines.server.core.errors import invalid
from spooled_pipelines.server.core.jobs.columns import JobColumns
from spooled_pipelines.server.core.jobs.records import JobPage
from spooled_pipelines.server.core.protobuf import takes_bytes
from spooled_pipelines.server.core.runtime.notifier import batch_topic, control_topic
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.encoding import (
    attempt,
    batch_stats,
    columns_message,
    job_bytes,
    page_message,
    timestamp,
)
from spooled_pipelines.server.services.enqueue_batch import enqueue_batch
from spooled_pipelines.server.services.leases import claim_chunks, renew_chunk, settle
from spooled_pipelines.server.services.revise_dead_letters import revise
from spooled_pipelines.server.services.validation.jobs import new_job
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.server.store.requests import (
    NEWEST,
    BatchJobs,
    BatchListing,
    BatchSelector,
    DeadWorker,
    JobSearch,
    KeyQuery,
)
from spooled_pipelines.wire import batch_v1, limits
from spooled_pipelines.wire.spooled_v1 import EnqueueResponse

# Changes that come closer together than this are sent as one.
_COALESCE_SECONDS = 0.1
_PAGE_JOBS = 1_000
# Of those by column.
_PAGE_ROWS = 5_000
_PAGE_PARTS = 1_000


class BatchService:
    """The service of batches: tables in, statistics and results out."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        # The validation of a chunk parses it with messages of its own.
        self.enqueue_batch = takes_bytes(partial(enqueue_batch, context))
        self.claim_chunks = partial(claim_chunks, context)
        self.renew_chunk = partial(renew_chunk, context)
        self.revise_dead_letters = partial(revise, context)
        self.settle = partial(settle, context)

    async def enqueue_job(
        self, caller: Caller, request: batch_v1.EnqueueJobRequest
    ) -> EnqueueResponse:
        await authorize_queues(self._context.store, caller, request.job)
        job = new_job(request.job, validation.max_retries_or_none)._replace(
            retry_backoff=validation.retry_backoff(request.retry_backoff),
            expires_at=validation.timestamp("expires_at", request.expires_at),
        )
        job_id, created = await self._context.store.enqueue(caller.organization, job)
        return EnqueueResponse(job_id=job_id, created=created)

    async def seal_batch(
        self, caller: Caller, request: batch_v1.SealBatchRequest
    ) -> batch_v1.SealBatchResponse:
        batch_id = validation.batch_id(request.batch_id)
        generation = validation.generation(request.generation)
        expected = _expected(request)
        rows_id = validation.text("rows_id", request.rows_id, limits.REQUEST_ID_MAX)
        record = await self._context.store.seal_batch(
            caller.organization, batch_id, generation, expected, rows_id
        )
        return batch_v1.SealBatchResponse(stats=self._stats(caller, record))

    async def finish_part(
        self, caller: Caller, request: batch_v1.FinishPartRequest
    ) -> batch_v1.FinishPartResponse:
        batch_id = validation.batch_id(request.batch_id)
        generation = validation.generation(request.generation)
        part_id = validation.text("part_id", request.part_id, limits.PART_ID_MAX, shortest=1)
        rows = validation.integer("rows", request.rows, 0, limits.PART_ROWS_MAX)
        rows_id = validation.text("rows_id", request.rows_id, limits.REQUEST_ID_MAX)
        part = PartRecord(part_id, True, rows)
        kept = await self._context.store.finish_part(
            caller.organization, batch_id, generation, part, rows_id
        )
        return batch_v1.FinishPartResponse(part=batch_v1.BatchPart(**kept._asdict()))

    async def list_parts(
        self, caller: Caller, request: batch_v1.ListPartsRequest
    ) -> AsyncIterator[batch_v1.ListPartsResponse]:
        batch_id = validation.batch_id(request.batch_id)
        after: str | None = ""
        while after is not None:
            parts = await self._context.store.batch_parts(
                caller.organization, batch_id, after, _PAGE_PARTS
            )
            after = parts[-1].part_id if len(parts) == _PAGE_PARTS else None
            if parts:
                yield batch_v1.ListPartsResponse(
                    parts=[batch_v1.BatchPart(**part._asdict()) for part in parts]
                )

    async def get_batch_stats(
        self, caller: Caller, request: batch_v1.GetBatchStatsRequest
    ) -> batch_v1.GetBatchStatsResponse:
        batch_ids = _batch_ids(request.batch_ids)
        if not batch_ids:
            return batch_v1.GetBatchStatsResponse(server_time=timestamp(self._context.clock.now()))
        records = await self._context.store.batches(caller.organization, batch_ids)
        return batch_v1.GetBatchStatsResponse(
            batches=[self._stats(caller, record) for record in records]
        )

    async def watch_batch(
        self, caller: Caller, request: batch_v1.WatchBatchRequest
    ) -> AsyncIterator[batch_v1.BatchStats]:
        batch_ids = list(dict.fromkeys(_batch_ids(request.batch_ids)))
        if not batch_ids:
            raise invalid("batch_ids is empty; name the batches to watch")
        organization = caller.organization
        said = milestone if request.milestones else tuple
        sent: dict[str, tuple[object, ...]] = {}
        with self._context.notifier.subscribe() as subscription:
            subscription.watch(control_topic(organization))
            for batch_id in batch_ids:
                subscription.watch(batch_topic(organization, batch_id))
            stale = batch_ids
            newest: dict[str, BatchRecord] = {}
            while True:
                for record in await self._context.store.batches(organization, stale):
                    newest[record.batch_id] = record
                    now = said(record)
                    if sent.get(record.batch_id) != now:
                        sent[record.batch_id] = now
                        yield self._stats(caller, record)
                if all(record.settled for record in newest.values()):
                    return
                changed = await subscription.wait()
                await asyncio.sleep(_COALESCE_SECONDS)
                changed |= subscription.drain()
                # A few of a thousand watched batches have changed.
                stale = batch_ids
                if control_topic(organization) not in changed:
                    stale = [one for one in batch_ids if batch_topic(organization, one) in changed]

    async def list_batch_jobs(
        self, caller: Caller, request: batch_v1.ListBatchJobsRequest
    ) -> AsyncIterator[bytes]:
        batch_id = validation.batch_id(request.batch_id)
        statuses = validation.statuses(request.statuses)
        after: int | None = validation.page_token(request.page_token)
        limit = _PAGE_ROWS if request.by_column else _PAGE_JOBS
        while after is not None:
            query = BatchJobs(batch_id, statuses, after, limit, request.omit_payload)
            page: JobPage | JobColumns
            if request.by_column:
                page = await self._context.store.job_columns(
                    caller.organization, query, caller.queues
                )
                message = columns_message(self._context.store.job_ids_prefix(), page)
            else:
                page = await self._context.store.jobs(caller.organization, query)
                message = _page_message(caller, page)
            after = page.after
            # Nothing else is kept while the stream waits for a slow reader.
            del page
            yield message

    async def cancel_batch(
        self, caller: Caller, request: batch_v1.CancelBatchRequest
    ) -> batch_v1.CancelBatchResponse:
        batch_id = validation.batch_id(request.batch_id)
        generation: int | None = None
        if request.HasField("generation"):
            generation = validation.generation(request.generation)
        # The caller may be about to be killed, and have no time to see it through.
        selector = BatchSelector(batch_id, generation, validation.request_id(request.request_id))
        cancelling = self._context.store.cancel(caller.organization, selector)
        _, counts = await self._context.background.shield(cancelling, "cancel of a batch")
        return batch_v1.CancelBatchResponse(
            cancelled=counts.cancelled,
            running=counts.processing,
            done=counts.completed + counts.deadletter,
        )

    async def retry_batch(
        self, caller: Caller, request: batch_v1.RetryBatchRequest
    ) -> batch_v1.RetryBatchResponse:
        batch_id = validation.batch_id(request.batch_id)
        contains = validation.text("error_contains", request.error_contains, limits.ERROR_MAX)
        selector = BatchSelector(batch_id, None, validation.request_id(request.request_id))
        outcome = await self._context.store.retry(
            caller.organization, selector, contains, request.cancelled
        )
        return batch_v1.RetryBatchResponse(**outcome._asdict())

    async def list_attempts(
        self, caller: Caller, request: batch_v1.ListAttemptsRequest
    ) -> batch_v1.ListAttemptsResponse:
        found = await self._context.store.attempts(caller.organization, request.job_id)
        return batch_v1.ListAttemptsResponse(attempts=[attempt(record) for record in found])

    async def report_worker_death(
        self, caller: Caller, request: batch_v1.ReportWorkerDeathRequest
    ) -> batch_v1.ReportWorkerDeathResponse:
        worker_id = validation.worker_id(request.worker_id)
        code = validation.integer("exit_code", request.exit_code, -(2**31), 2**31 - 1)
        running = set(request.running.job_ids) if request.HasField("running") else None
        if running is not None and len(running) > limits.CHUNK_ROWS_MAX:
            raise invalid(
                f"running has {len(running)} jobs, and at most {limits.CHUNK_ROWS_MAX} are allowed"
            )
        error = validation.error(request.error)
        worker = DeadWorker(worker_id, error, code, caller.queues, running)
        jobs = await self._context.store.end_worker(caller.organization, worker)
        return batch_v1.ReportWorkerDeathResponse(jobs=jobs)

    async def find_keys(
        self, caller: Caller, request: batch_v1.FindKeysRequest
    ) -> batch_v1.FindKeysResponse:
        queue_name = validation.queue_name(request.queue_name)
        keys = request.idempotency_keys
        if len(keys) > limits.CHUNK_ROWS_MAX:
            raise invalid(
                f"idempotency_keys has {len(keys)} keys, and at most {limits.CHUNK_ROWS_MAX} are "
                "allowed in one call"
            )
        payloads = list(request.payloads)
        if len(payloads) not in (0, len(keys)):
            raise invalid(
                f"payloads has {len(payloads)} values for {len(keys)} keys; give none or one for "
                "each"
            )
        for payload in payloads:
            check_object("payload", payload)
        query = KeyQuery(queue_name, keys, payloads)
        found, changed = await self._context.store.find_keys(caller.organization, query)
        key_name = self._context.names.key_name(caller.organization, queue_name)
        return batch_v1.FindKeysResponse(found=found, changed=changed, key_name=key_name)

    async def list_batches(
        self, caller: Caller, request: batch_v1.ListBatchesRequest
    ) -> batch_v1.ListBatchesResponse:
        since, until = validation.period(request)
        tokens, pages = self._context.store.page_tokens, ("batches", caller.organization)
        listing = BatchListing(
            caller.among(validation.optional_queue_name(request.queue_name)),
            validation.text("text", request.text, limits.BATCH_NAME_MAX),
            since,
            until,
            tokens.number(*pages, request.page_token) or NEWEST,
            validation.page_size(request.page_size),
        )
        page = await self._context.store.list_batches(caller.organization, listing)
        return batch_v1.ListBatchesResponse(
            batches=[self._stats(caller, record) for record in page.batches],
            next_page_token=None if page.before is None else tokens.token(*pages, page.before),
        )

    async def find_batch_jobs(
        self, caller: Caller, request: batch_v1.FindBatchJobsRequest
    ) -> bytes:
        search = JobSearch(
            validation.batch_id(request.batch_id),
            validation.statuses(request.statuses),
            validation.text("text", request.text, limits.ERROR_MAX),
            validation.page_token(request.page_token),
            validation.page_size(request.page_size),
        )
        page = await self._context.store.jobs(caller.organization, search)
        # A FindBatchJobsResponse, serialized.
        return _page_message(caller, page)

    async def get_payload_schema(
        self, caller: Caller, request: batch_v1.GetPayloadSchemaRequest
    ) -> batch_v1.GetPayloadSchemaResponse:
        kept = await self._context.store.payload_schema(caller.organization, request.job_id)
        return batch_v1.GetPayloadSchemaResponse(**kept._asdict())

    async def get_result_schema(
        self, caller: Caller, request: batch_v1.GetResultSchemaRequest
    ) -> batch_v1.GetResultSchemaResponse:
        batch_id = validation.batch_id(request.batch_id)
        # NOT_FOUND where there is no such batch.
        await self._context.store.batches(caller.organization, [batch_id])
        kept = await self._context.store.result_schema(caller.organization, batch_id)
        return batch_v1.GetResultSchemaResponse(schema=kept)

    async def keep_result_schema(
        self, caller: Caller, request: batch_v1.KeepResultSchemaRequest
    ) -> batch_v1.KeepResultSchemaResponse:
        schema = validation.schema("schema", request.schema)
        kept = await self._context.store.keep_result_schema(
            caller.organization, request.job_id, schema
        )
        return batch_v1.KeepResultSchemaResponse(schema=kept)

    def _stats(self, caller: Caller, record: BatchRecord) -> batch_v1.BatchStats:
        context = self._context
        has_consumer = context.has_consumer(caller.organization, record.queue_name)
        return batch_stats(record, context.clock.now(), has_consumer)


def milestone(record: BatchRecord) -> tuple[object, ...]:
    """Return what of a batch a wait acts or reports on; progress in tenths."""
    counts = record.counts
    tenth = (counts.total - record.open_jobs) * 10 // max(counts.total, 1)
    failed = counts.deadletter + counts.cancelled
    return record.generation, record.sealed, record.settled, record.queue_paused, failed, tenth


def _page_message(caller: Caller, page: JobPage) -> bytes:
    # The batch may have jobs of other queues too, whose keys its rows had.
    visible = (job for job in page.jobs if caller.queues is None or job.queue_name in caller.queues)
    return page_message((job_bytes(job, caller.organization) for job in visible), page.after)


def _expected(request: batch_v1.SealBatchRequest) -> ExpectedParts:
    if len(request.part_ids) > limits.PARTS_MAX:
        raise invalid(
            f"part_ids has {len(request.part_ids)} ids, and at most {limits.PARTS_MAX} are "
            "allowed; say expected_parts instead"
        )
    if not request.HasField("expected_parts"):
        return ExpectedParts(None, list(request.part_ids))
    if request.part_ids:
        raise invalid("expected_parts and part_ids are two ways to say the same: give one of them")
    return ExpectedParts(validation.integer("expected_parts", request.expected_parts, 0, 2**31 - 1))


def _batch_ids(given: Sequence[str]) -> list[str]:
    if len(given) > limits.BATCH_IDS_PER_CALL_MAX:
        raise invalid(
            f"batch_ids has {len(given)} ids, and at most {limits.BATCH_IDS_PER_CALL_MAX} are "
            "allowed in one call"
        )
    return [validation.batch_id(batch_id) for batch_id in given]
