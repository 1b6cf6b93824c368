"""Turn a table into a batch of jobs, or plan to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from spooled_pipelines.batch.aio.backend import Ability, Upload
from spooled_pipelines.batch.aio.service import AsyncBatchService
from spooled_pipelines.batch.aio.upload import refuse_changed, upload, with_trace_context
from spooled_pipelines.batch.display.progress import Progress, ProgressOption, check_progress
from spooled_pipelines.batch.flow_control import check_max_outstanding
from spooled_pipelines.batch.options.row_options import OnRerun, RowOptions, check_on_rerun
from spooled_pipelines.batch.outcome.ledger import Ledger
from spooled_pipelines.batch.plan import BatchPlan, PlanBuilder
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.batch.staging.staged_batch import StagedBatch
from spooled_pipelines.errors import ConflictError
from spooled_pipelines.rpc import tracing, validation
from spooled_pipelines.rpc.aio.runtime import in_thread

_NEEDED: dict[str, Ability] = {
    "retry_failed": "supports_retry",
    "fresh": "supports_generations",
}


async def enqueue_batch(
    service: AsyncBatchService,
    data: Any,
    queue_name: str,
    options: RowOptions,
    *,
    progress: ProgressOption = None,
    on_rerun: OnRerun = "resume",
    on_plan: Callable[[BatchPlan], object] | None = None,
    max_outstanding: int | None = None,
    on_read: Callable[[int], object] | None = None,
) -> BatchRecord:
    """Make each row a job; the same call again enqueues no row twice.

    `data` is read once, from front to back, and nothing is sent before the last row is checked.

    Args:
        service: the batches of the server.
        data: whatever `open_source` takes.
        queue_name: where the jobs go.
        options: what is read of the data, and how a row becomes a job.
        progress: True for a bar; or called with (acknowledged rows, rows to send).
        on_rerun: what is there stays as it is ("resume"); the batch's dead letters are retried as
            well ("retry_failed"); or every row is a new job and what the batch held before and
            had not started is cancelled ("fresh"; a call that was cut short is finished by the
            next one). The last two need the batch extension.
        max_outstanding: no more of the batch's jobs than these are unsettled at once: the call
            waits until workers have done some.
        on_read: called with the rows read and checked so far, on the thread that reads.
        on_plan: called with what will be done, before anything is; what it raises ends the call.

    Raises:
        InvalidArgumentError: an argument or the data is wrong. Nothing was sent.
        LossyValueError: a payload cannot hold a value exactly. Nothing was sent.
        RowsRejectedError: rows cannot be jobs, or have changed and `on_changed` is "raise".
            Nothing was sent, unless the message says so.
        SpooledError: the server cannot be reached or refuses. The message says how many rows
            were acknowledged; the same call again resumes.
    """
    check_progress(progress)
    check_max_outstanding(max_outstanding)
    await check_rerun(service, on_rerun)
    planning = on_plan is not None
    began = time.perf_counter()
    staged = await _staged(service, data, queue_name, options, planning=planning, on_read=on_read)
    try:
        if on_plan is not None:
            prepared_in = time.perf_counter() - began
            # In a thread, since it may ask a person.
            await in_thread(on_plan, await _plan(service, staged, on_rerun, prepared_in))
            staged.refuse_rejected()
        with tracing.sending(queue_name, rows=staged.sendable, batch_id=staged.batch_id):
            traced = with_trace_context(staged)
            return await _send(service, traced, progress, on_rerun, max_outstanding)
    except ConflictError:
        service.forget_key_names()
        raise
    finally:
        staged.close()


async def plan_batch(
    service: AsyncBatchService,
    data: Any,
    queue_name: str,
    options: RowOptions,
    on_rerun: OnRerun = "resume",
    on_read: Callable[[int], object] | None = None,
) -> BatchPlan:
    """Return what `enqueue_batch` would do with the same arguments; nothing is written.

    Rows that cannot be jobs are counted, not raised. `data` is read to its end: an iterator or a
    cursor has to be made again for the call itself.

    Raises:
        InvalidArgumentError: an argument or the data is wrong.
        LossyValueError: a payload cannot hold a value exactly.
    """
    await check_rerun(service, on_rerun)
    began = time.perf_counter()
    staged = await _staged(service, data, queue_name, options, planning=True, on_read=on_read)
    try:
        return await _plan(service, staged, on_rerun, time.perf_counter() - began)
    finally:
        staged.close()


async def _staged(
    service: AsyncBatchService, data: Any, queue_name: str, options: RowOptions, **rest: Any
) -> StagedBatch:
    key_name = await service.key_name(validation.queue_name(queue_name))
    return await in_thread(prepare, data, queue_name, options, key_name=key_name, **rest)


async def check_rerun(service: AsyncBatchService, on_rerun: OnRerun) -> None:
    """Raise InvalidArgumentError if the server cannot do what `on_rerun` says."""
    check_on_rerun(on_rerun)
    if on_rerun != "resume":
        backend = await service.backend()
        backend.require(_NEEDED[on_rerun], f'on_rerun="{on_rerun}"')


async def _send(
    service: AsyncBatchService,
    staged: StagedBatch,
    progress: ProgressOption,
    on_rerun: OnRerun,
    max_outstanding: int | None,
) -> BatchRecord:
    backend = await service.backend()
    backend.require_for(staged)
    queue_name = staged.scope.queue_name
    start = await backend.start(staged.batch_id, queue_name, on_rerun)
    if staged.on_changed == "raise":
        await refuse_changed(backend, staged, start.generation or 0)
    ledger = Ledger()
    bar = Progress(progress, staged.sendable, queue_name)
    sending = Upload(staged, ledger, bar, start.generation or 0, on_rerun, max_outstanding)
    service.rows_per_second = await upload(backend, sending)
    retried = 0
    if on_rerun == "retry_failed" and (start.existed or ledger.duplicates):
        retried = await backend.retry(staged.batch_id)
    return BatchRecord(
        staged.batch_id,
        queue_name=queue_name,
        name=staged.scope.name,
        rows=staged.rows,
        created=ledger.created,
        duplicates=ledger.duplicates,
        rejected=ledger.rejected,
        # A plain server does not say with which payload a job was there.
        changed=ledger.changed if backend.keeps_batches else None,
        replaced=ledger.replaced if backend.keeps_batches else None,
        generation=start.generation,
        retried=retried,
        extension=backend.keeps_batches,
        queue_before=start.queue_before,
        ledger=ledger,
        ledger_path=staged.ledger,
        table_version=staged.table_version,
        notes=staged.notes,
    )


async def _plan(
    service: AsyncBatchService, staged: StagedBatch, on_rerun: OnRerun, prepared_in: float
) -> BatchPlan:
    """Return the plan for a table whose reading and encoding took `prepared_in` seconds."""
    backend = await service.backend()
    backend.require_for(staged)
    queue_name = staged.scope.queue_name
    start = await backend.start(staged.batch_id, queue_name, on_rerun)
    planning = PlanBuilder(staged)
    try:
        for chunk in planning.chunks(start.generation or 0):
            existing = await backend.existing(queue_name, chunk)
            if existing is None:
                planning.add(chunk, None, None)
            else:
                planning.add(chunk, *existing)
        seconds = None
        if service.rows_per_second is not None:
            seconds = prepared_in + staged.sendable / service.rows_per_second
        return planning.plan(seconds)
    finally:
        planning.close()
