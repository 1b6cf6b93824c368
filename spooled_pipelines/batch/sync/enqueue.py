# Made from spooled_pipelines/batch/aio/enqueue.py by `make proto`: change that, not this.
"""A table in, a batch of jobs out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from spooled_pipelines.batch.ledger import Ledger
from spooled_pipelines.batch.options import OnRerun, check_on_rerun, generation_for
from spooled_pipelines.batch.outstanding import check_max_outstanding
from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.batch.progress import Progress, ProgressOption, check_progress
from spooled_pipelines.batch.staging.prepare import Options, Prepared, prepare
from spooled_pipelines.batch.sync.batch import Batch
from spooled_pipelines.batch.sync.plan import planned
from spooled_pipelines.batch.sync.rpcs import check_extension, newest_generation, retry_batch
from spooled_pipelines.batch.sync.sending import run_upload, traced
from spooled_pipelines.batch.sync.upload import ChunkUpload, SingleUpload
from spooled_pipelines.batch.sync.v1_fallback import queue_stats
from spooled_pipelines.rpc import tracing
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import in_thread
from spooled_pipelines.types import BatchStats, QueueStats


def enqueue_batch(
    calls: Calls,
    data: Any,
    queue_name: str,
    options: Options,
    *,
    progress: ProgressOption = None,
    on_rerun: OnRerun = "resume",
    on_plan: Callable[[BatchPlan], object] | None = None,
    max_outstanding: int | None = None,
) -> Batch:
    """Make one job of each row; the same call again makes none of them twice.

    `data` is read once, from front to back, and nothing is sent before the last row is checked.

    Args:
        calls: the server.
        data: whatever `open_source` takes.
        queue_name: where the jobs go.
        options: what is read of the data, and how a row becomes a job.
        progress: True for a bar; or called with (acknowledged rows, rows to send).
        on_rerun: what is there stays as it is ("resume"); the batch's dead letters go back to the
            queue as well ("retry_failed"); or every row is a new job and what the batch held
            before and had not started is cancelled ("fresh"; a call that was cut short is
            finished by the next one). The last two need the batch extension.
        max_outstanding: no more of the batch's jobs than these are unsettled at once: the call
            waits until workers have done some.
        on_plan: called with what will be done, before anything is; what it raises ends the call.

    Raises:
        InvalidArgumentError: an argument or the data is wrong. Nothing was sent.
        LossyValueError: a payload cannot hold a value exactly. Nothing was sent.
        RowsRejectedError: rows cannot be jobs. Nothing was sent, unless the message says so.
        SpooledError: the server cannot be reached or refuses. The message says how many rows
            were acknowledged; the same call again goes on.
    """
    check_progress(progress)
    check_on_rerun(on_rerun)
    check_max_outstanding(max_outstanding)
    if on_rerun != "resume":
        check_extension(calls, f'on_rerun="{on_rerun}"')
    planning = on_plan is not None
    began = time.perf_counter()
    prepared = in_thread(prepare, data, queue_name, options, planning=planning)
    try:
        if on_plan is not None:
            prepared_in = time.perf_counter() - began
            # In a thread, since it may ask a person.
            in_thread(on_plan, planned(calls, prepared, on_rerun, prepared_in))
            prepared.refuse_rejected()
        batch_id = prepared.batch_id
        with tracing.sending(queue_name, rows=prepared.sendable, batch_id=batch_id):
            return _send(calls, traced(prepared), progress, on_rerun, max_outstanding)
    finally:
        prepared.close()


def _send(
    calls: Calls,
    prepared: Prepared,
    progress: ProgressOption,
    on_rerun: OnRerun,
    max_outstanding: int | None,
) -> Batch:
    extension = calls.speaks_batches()
    ledger = Ledger()
    shown = Progress(progress, prepared.sendable, prepared.scope.queue_name)
    before: QueueStats | None = None
    found: BatchStats | None = None
    generation = 0
    upload: ChunkUpload | SingleUpload
    if extension:
        found = newest_generation(calls, prepared.batch_id)
        generation = generation_for(on_rerun, found)
        cancels = on_rerun == "fresh"
        upload = ChunkUpload(
            calls,
            prepared,
            ledger,
            shown,
            generation,
            cancels_older=cancels,
            max_outstanding=max_outstanding,
        )
    else:
        before = queue_stats(calls, prepared.scope.queue_name)
        upload = SingleUpload(calls, prepared, ledger, shown, max_outstanding)
    run_upload(calls, upload, prepared, ledger, shown)
    retried = 0
    if on_rerun == "retry_failed" and (found is not None or ledger.duplicates):
        retried = retry_batch(calls, prepared.batch_id, "")
    return Batch(
        calls,
        prepared.batch_id,
        queue_name=prepared.scope.queue_name,
        name=prepared.scope.name,
        rows=prepared.rows,
        created=ledger.created,
        duplicates=ledger.duplicates,
        rejected=ledger.rejected,
        generation=generation if extension else None,
        retried=retried,
        extension=extension,
        queue_before=before,
        ledger=ledger,
        ledger_path=prepared.ledger,
    )
