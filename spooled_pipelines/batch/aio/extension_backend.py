"""Batches on a server with the batch extension: the calls of its BatchService."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.aio.backend import (
    AsyncBatchBackend,
    AsyncUploader,
    BatchStart,
    ExistingRows,
    JobVisitor,
    Upload,
)
from spooled_pipelines.batch.aio.watch import watch_stream
from spooled_pipelines.batch.flow_control import RetryBudget
from spooled_pipelines.batch.options.row_options import OnRerun, generation_for
from spooled_pipelines.batch.outcome.dead_letters import (
    DEAD,
    batched,
    check_refused,
    stripped_error,
)
from spooled_pipelines.batch.parts import (
    AddedPart,
    BatchPart,
    find_missing_parts,
    parts_missing_error,
)
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.errors import (
    ConflictError,
    NotFoundError,
    ServerError,
    SpooledError,
)
from spooled_pipelines.rpc import decode, validation
from spooled_pipelines.rpc.aio.paging import EMPTY_PAGES_MAX, endless, paged
from spooled_pipelines.rpc.aio.runtime import sleep, with_retries
from spooled_pipelines.text import shown
from spooled_pipelines.types import BatchStats, CancelResult, Job
from spooled_pipelines.wire import batch_v1, methods, spooled_v1
from spooled_pipelines.wire.limits import BATCH_IDS_PER_CALL_MAX

if TYPE_CHECKING:
    from spooled_pipelines.batch.outcome.job_results import ResultStore
    from spooled_pipelines.batch.outcome.known_types import KnownTypes
    from spooled_pipelines.batch.staging.chunks import Chunk
    from spooled_pipelines.batch.staging.idempotency import KeyScope

log = logging.getLogger("spooled_pipelines.batch")

# A batch of millions takes its time; the server does it in steps.
_CONTROL_SECONDS = 300.0


class AsyncExtensionBackend(AsyncBatchBackend):
    """The server keeps batches: it counts, watches, cancels and retries them."""

    keeps_batches = True
    supports_cancel = True
    supports_retry = True
    supports_generations = True

    async def start(self, batch_id: str, queue_name: str, on_rerun: OnRerun) -> BatchStart:  # noqa: ARG002
        existing = await self._find(batch_id)
        return BatchStart(generation_for(on_rerun, existing), existing is not None)

    def uploader(self, upload: Upload) -> AsyncUploader:
        # Loads pyarrow, which waiting does without.
        from spooled_pipelines.batch.aio.upload import AsyncStreamUploader

        return AsyncStreamUploader(self, upload)

    async def existing(self, queue_name: str, chunk: Chunk) -> ExistingRows | None:
        keys = [key.decode() for key in chunk.keys.to_pylist()]
        request = batch_v1.FindKeysRequest(queue_name=queue_name, idempotency_keys=keys)
        found = list((await self._unary("FindKeys", request)).found)
        _check_places("FindKeys", found, len(keys))
        if not found:
            return ExistingRows([], [])
        # Only payloads of rows that are jobs go to the server, to be compared.
        payloads = chunk.payloads()
        request = batch_v1.FindKeysRequest(
            queue_name=queue_name,
            idempotency_keys=[keys[row] for row in found],
            payloads=[payloads[row] for row in found],
        )
        compared = await self._unary("FindKeys", request)
        _check_places("FindKeys", compared.changed, len(found))
        return ExistingRows(found, [found[place] for place in compared.changed])

    async def stats(self, record: BatchRecord, timeout: float | None = None) -> BatchStats:
        (stats,) = await self.stats_of([record], timeout)
        return stats

    async def stats_of(
        self, records: Sequence[BatchRecord], timeout: float | None = None
    ) -> list[BatchStats]:
        batch_ids = [record.id for record in records]
        stats: list[BatchStats] = []
        for start in range(0, len(batch_ids), BATCH_IDS_PER_CALL_MAX):
            request = batch_v1.GetBatchStatsRequest(
                batch_ids=batch_ids[start : start + BATCH_IDS_PER_CALL_MAX]
            )
            response = await self._unary("GetBatchStats", request, timeout=timeout)
            asked, said = list(request.batch_ids), [one.batch_id for one in response.batches]
            if asked != said:
                raise ServerError(
                    f"GetBatchStats: the server answered about {len(said)} batches, "
                    f"{shown(said)}, and was asked about {shown(asked)}"
                )
            stats += [decode.batch_stats_from(message) for message in response.batches]
        return stats

    def watch(
        self, record: BatchRecord, deadline: float | None
    ) -> AsyncGenerator[BatchStats, None]:
        return watch_stream(self.connection, record.id, deadline)

    async def each_job(
        self, record: BatchRecord, visitor: JobVisitor, *, omit_payload: bool = True
    ) -> None:
        await self._list_jobs(record.id, visitor, omit_payload=omit_payload)

    async def results(
        self, record: BatchRecord, store: ResultStore, *, omit_payload: bool = True
    ) -> None:
        request = batch_v1.ListBatchJobsRequest(
            batch_id=record.id, omit_payload=omit_payload, by_column=True
        )
        await self._list_pages(request, lambda page: store.add_columns(page.columns))

    async def job_columns(
        self, record: BatchRecord, after: int, *, omit_payload: bool
    ) -> AsyncGenerator[batch_v1.JobColumns, None]:
        method = methods.BATCH["ListBatchJobs"]
        token = str(after) if after else ""
        request = batch_v1.ListBatchJobsRequest(
            batch_id=record.id, page_token=token, omit_payload=omit_payload, by_column=True
        )
        budget = RetryBudget(self.connection.settings.retry)
        while True:
            stream = self.connection.stream(method, request)
            try:
                async for page in stream:
                    budget.reset()
                    if page.columns.job_ids:
                        yield page.columns
                    if not page.next_page_token:
                        return
                    # It goes on behind the last: it is never the same again.
                    if page.next_page_token == request.page_token:
                        raise endless(method, page.next_page_token)
                    request.page_token = page.next_page_token
                return
            except SpooledError as error:
                pause = budget.pause(error)
            finally:
                stream.cancel()
            await sleep(pause)

    async def result_types(self, record: BatchRecord) -> KnownTypes:
        from spooled_pipelines.batch.outcome.known_types import KnownTypes
        from spooled_pipelines.batch.values.result_types import parsed

        request = batch_v1.GetResultSchemaRequest(batch_id=record.id)
        kept = (await self._unary("GetResultSchema", request)).schema
        return KnownTypes.of([parsed(kept)] if kept else [])

    async def table_types(self, schemas: Mapping[int, str]) -> KnownTypes:
        from spooled_pipelines.batch.outcome.known_types import KnownTypes
        from spooled_pipelines.batch.values.result_types import parsed

        found = []
        # A payload that came without a schema is JSON's, and so are all with it.
        for job_id in schemas.values() if 0 not in schemas else ():
            request = batch_v1.GetPayloadSchemaRequest(job_id=job_id)
            found.append(parsed((await self._unary("GetPayloadSchema", request)).schema))
        return KnownTypes.of(found)

    async def open(self, scope: KeyScope, on_rerun: OnRerun) -> BatchStart:
        from spooled_pipelines.batch.aio.upload import open_upload
        from spooled_pipelines.batch.staging.idempotency import batch_id

        number = batch_id(scope, 0, 0)
        start = await self.start(number, scope.queue_name, on_rerun)
        generation = start.generation or 0
        fresh = on_rerun == "fresh"
        await open_upload(self.connection, number, scope, generation, cancels_older=fresh)
        retried = 0
        if on_rerun == "retry_failed" and start.existed:
            retried = await self.retry(number)
        return BatchStart(generation, start.existed, retried)

    async def parts(
        self,
        batch_id: str,
        added: Mapping[str, AddedPart],  # noqa: ARG002
    ) -> list[BatchPart]:
        request = batch_v1.ListPartsRequest(batch_id=batch_id)

        async def read() -> list[BatchPart]:
            stream = self.connection.stream(methods.BATCH["ListParts"], request)
            async with aclosing(stream):
                return [
                    BatchPart(part.part_id, part.finished, part.rows)
                    async for page in stream
                    for part in page.parts
                ]

        return await with_retries(read, RetryBudget(self.connection.settings.retry).pause)

    async def seal(
        self,
        batch_id: str,
        generation: int,
        *,
        added: Mapping[str, AddedPart] | None = None,
        count: int | None = None,
        part_ids: Sequence[str] = (),
        rows_id: str = "",
    ) -> None:
        request = batch_v1.SealBatchRequest(
            batch_id=batch_id,
            generation=generation,
            expected_parts=count,
            part_ids=part_ids,
            rows_id=rows_id,
        )
        try:
            answer = await self._unary("SealBatch", request)
        except ConflictError as error:
            # The names of all missing parts may be too long for an error on the wire.
            missing = find_missing_parts(await self.parts(batch_id, added or {}), count, part_ids)
            if missing is None:
                raise
            raise parts_missing_error(batch_id, missing) from error
        if not answer.stats.sealed:
            why = " ".join(stall.message for stall in answer.stats.stalls[:1])
            log.warning("All rows of batch %s are in. %s", batch_id, why)

    async def cancel(self, batch_id: str, generation: int | None = None) -> CancelResult:
        request = batch_v1.CancelBatchRequest(
            batch_id=batch_id, generation=generation, request_id=uuid.uuid4().hex
        )
        response = await self._unary("CancelBatch", request, timeout=_CONTROL_SECONDS)
        return decode.cancel_result_from(response)

    async def retry(self, batch_id: str, error_contains: str = "", cancelled: bool = False) -> int:
        request = batch_v1.RetryBatchRequest(
            batch_id=batch_id,
            error_contains=error_contains,
            cancelled=cancelled,
            request_id=uuid.uuid4().hex,
        )
        response = await self._unary("RetryBatch", request, timeout=_CONTROL_SECONDS)
        if response.stripped:
            raise stripped_error(batch_id, response)
        retried: int = response.retried
        return retried

    async def dead_letters(
        self, batch_id: str, visitor: JobVisitor, *, omit_payload: bool = True
    ) -> None:
        await self._list_jobs(batch_id, visitor, DEAD, omit_payload=omit_payload)

    async def revise(self, revisions: Iterable[batch_v1.DeadLetterRevision]) -> int:
        applied = 0
        for lot in batched(revisions):
            request = batch_v1.ReviseDeadLettersRequest(revisions=lot)
            response = await self.connection.unary(
                methods.BATCH["ReviseDeadLetters"],
                request,
                timeout=_CONTROL_SECONDS,
                repeatable=False,
            )
            check_refused(response.refused)
            applied += len(lot) - len(response.refused)
        return applied

    async def find_jobs(
        self, batch_id: str, text: str, statuses: Iterable[str], limit: int
    ) -> list[Job]:
        validation.limit(limit)
        names = [validation.job_status(status) for status in statuses]
        request = batch_v1.FindBatchJobsRequest(batch_id=batch_id, statuses=names, text=text)
        method = methods.BATCH["FindBatchJobs"]
        jobs = paged(self.connection, method, request, "jobs", limit)
        return [decode.job_from(job) async for job in jobs]

    async def finish_part(
        self, batch_id: str, generation: int, part_id: str, rows: int, rows_id: str
    ) -> None:
        request = batch_v1.FinishPartRequest(
            batch_id=batch_id,
            generation=generation,
            part_id=part_id,
            rows=rows,
            rows_id=rows_id,
        )
        await self._unary("FinishPart", request)

    async def _find(self, batch_id: str) -> BatchStats | None:
        try:
            return await self.stats(BatchRecord(batch_id))
        except NotFoundError:
            return None

    async def _list_jobs(
        self,
        batch_id: str,
        visitor: JobVisitor,
        statuses: Sequence[spooled_v1.JobStatus] = (),
        *,
        omit_payload: bool = True,
    ) -> None:
        request = batch_v1.ListBatchJobsRequest(
            batch_id=batch_id, statuses=statuses, omit_payload=omit_payload
        )

        def visit(page: batch_v1.ListBatchJobsResponse) -> None:
            for job in page.jobs:
                visitor.add(job)

        await self._list_pages(request, visit)

    async def _list_pages(
        self,
        request: batch_v1.ListBatchJobsRequest,
        visit: Callable[[batch_v1.ListBatchJobsResponse], None],
    ) -> None:
        """Visit every page of jobs, resuming behind the last if the connection breaks."""
        budget = RetryBudget(self.connection.settings.retry)

        method = methods.BATCH["ListBatchJobs"]
        seen = set[str]()

        async def read() -> None:
            empty_pages = 0
            stream = self.connection.stream(method, request)
            async with aclosing(stream):
                async for page in stream:
                    is_empty = not page.jobs and not page.columns.job_ids
                    empty_pages = empty_pages + 1 if is_empty else 0
                    # A page of a batch goes on behind the last: it is never the same again.
                    if page.next_page_token in seen or empty_pages > EMPTY_PAGES_MAX:
                        raise endless(method, page.next_page_token)
                    visit(page)
                    if page.next_page_token:
                        seen.add(page.next_page_token)
                    request.page_token = page.next_page_token
                    budget.reset()

        await with_retries(read, budget.pause)

    async def _unary(self, name: str, request: Any, *, timeout: float | None = None) -> Any:
        method = methods.BATCH[name]
        return await self.connection.unary(method, request, timeout=timeout, repeatable=True)


def _check_places(call: str, places: Sequence[int], rows: int) -> None:
    if len(places) > rows or any(place >= rows for place in places):
        raise ServerError(
            f"{call}: the server answered with {len(places)} places up to {max(places)}, and was "
            f"asked about {rows} rows"
        )
