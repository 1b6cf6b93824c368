"""Batches on a server that knows `spooled.v1` alone: there every job is on its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from spooled_pipelines.batch.aio.backend import (
    AsyncBatchBackend,
    AsyncUploader,
    BatchStart,
    ExistingRows,
    JobVisitor,
    Upload,
)
from spooled_pipelines.batch.aio.v1_jobs import get_jobs, queue_stats
from spooled_pipelines.batch.aio.watch import poll
from spooled_pipelines.batch.options.row_options import OnRerun
from spooled_pipelines.batch.outcome.v1_stats import JobTracker, stats_from_queue
from spooled_pipelines.batch.parts import (
    AddedPart,
    BatchPart,
    find_missing_parts,
    parts_missing_error,
)
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.batch.spill.database import distinct_on_disk
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import BatchStats

if TYPE_CHECKING:
    from spooled_pipelines.batch.staging.chunks import Chunk
    from spooled_pipelines.batch.staging.idempotency import KeyScope


class AsyncV1Backend(AsyncBatchBackend):
    """The client follows a batch by the statistics of its queue, and by its jobs where known."""

    keeps_batches = False
    supports_cancel = False
    supports_retry = False
    supports_generations = False

    async def start(self, batch_id: str, queue_name: str, on_rerun: OnRerun) -> BatchStart:  # noqa: ARG002
        return BatchStart(queue_before=await queue_stats(self.connection, queue_name))

    def uploader(self, upload: Upload) -> AsyncUploader:
        # Loads pyarrow, which waiting does without.
        from spooled_pipelines.batch.aio.upload import AsyncUnaryUploader

        return AsyncUnaryUploader(self.connection, upload)

    async def existing(self, queue_name: str, chunk: Chunk) -> ExistingRows | None:  # noqa: ARG002
        return None

    async def stats(self, record: BatchRecord, timeout: float | None = None) -> BatchStats:
        if record.queue_name is None:
            raise InvalidArgumentError(
                f"the server at {self.connection.settings.name} keeps no batches, so an id is "
                "not enough to find one: pass what Batch.to_dict() gave"
            )
        name = record.name or ""
        tracker = self._tracker(record, record.queue_name)
        queue = await queue_stats(self.connection, record.queue_name, timeout)
        if tracker is None:
            return stats_from_queue(record.id, name, record.queue_before, queue)
        async with aclosing(get_jobs(self.connection, tracker.to_ask(queue))) as jobs:
            async for job in jobs:
                tracker.learn(job)
        return tracker.stats(queue)

    async def stats_of(
        self, records: Sequence[BatchRecord], timeout: float | None = None
    ) -> list[BatchStats]:
        return [await self.stats(record, timeout) for record in records]

    def watch(
        self, record: BatchRecord, deadline: float | None
    ) -> AsyncGenerator[BatchStats, None]:
        return poll(self, record, deadline)

    async def each_job(
        self,
        record: BatchRecord,
        visitor: JobVisitor,
        *,
        omit_payload: bool = True,  # noqa: ARG002
    ) -> None:
        ledger = record.open_ledger()
        if ledger is None:
            raise InvalidArgumentError(
                f"the server at {self.connection.settings.name} keeps no batches, so only the "
                "object that enqueue_batch() returned knows this batch's jobs: ask that one, or "
                "enqueue with ledger=PATH"
            )
        # A job that several rows share is one.
        async with aclosing(get_jobs(self.connection, distinct_on_disk(ledger.job_ids()))) as jobs:
            async for job in jobs:
                if job is not None:
                    visitor.add(job)

    async def open(self, scope: KeyScope, on_rerun: OnRerun) -> BatchStart:
        return await self.start("", scope.queue_name, on_rerun)

    async def parts(self, batch_id: str, added: Mapping[str, AddedPart]) -> list[BatchPart]:  # noqa: ARG002
        known = sorted(added.values(), key=lambda part: part.part_id)
        return [BatchPart(part.part_id, True, part.rows) for part in known]

    async def seal(
        self,
        batch_id: str,
        generation: int,  # noqa: ARG002
        *,
        added: Mapping[str, AddedPart] | None = None,
        count: int | None = None,
        part_ids: Sequence[str] = (),
        rows_id: str = "",  # noqa: ARG002
    ) -> None:
        missing = find_missing_parts(await self.parts(batch_id, added or {}), count, part_ids)
        if missing is not None:
            known = (
                " This server keeps no batches, so that only parts that were added here, or are "
                "passed as added=, are known."
            )
            raise parts_missing_error(batch_id, missing, known)

    def _tracker(self, record: BatchRecord, queue_name: str) -> JobTracker | None:
        if record.tracker is None:
            ledger = record.open_ledger()
            if ledger is not None:
                name = record.name or ""
                record.tracker = JobTracker(record.id, queue_name, name, ledger.job_ids())
        return record.tracker
