"""The tasks of flows: enqueue a table as a batch, and wait for a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import AssetContext
from prefect.tasks import MaterializingTask

from spooled_pipelines.batch.options.row_options import BatchOptions, OnRerun, shows_options
from spooled_pipelines.batch.outcome.verdict import OnBreach
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.orchestration.progress_log import ProgressLogger
from spooled_pipelines.orchestration.run_batches import enqueue_for_run, run_batch_id
from spooled_pipelines.prefect import artifacts
from spooled_pipelines.prefect.credentials import SpooledCredentials
from spooled_pipelines.prefect.run_names import batch_name, made_by, was_suspended_for
from spooled_pipelines.prefect.spooled_batch import SpooledBatch
from spooled_pipelines.types import BatchStats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import PartOptions


def _enqueue(
    data: Any,
    queue_name: str,
    credentials: SpooledCredentials | None,
    on_rerun: OnRerun,
    options: BatchOptions,
) -> SpooledBatch:
    name = batch_name(queue_name, options.get("name"))
    with _client(credentials) as client:
        batch_id = run_batch_id(client, queue_name, name)
        if was_suspended_for(batch_id):
            # The flow goes on: to retry what failed, or to start over, would only suspend it again.
            on_rerun = "resume"
        block = None if credentials is None else credentials._block_document_name  # noqa: SLF001
        # Before the first row is sent, so that a flow that is cancelled meanwhile finds the batch.
        named = {artifacts.UNSAVED: "yes"} if credentials is not None and block is None else {}
        progress = artifacts.ProgressArtifact("Enqueueing", batch_id, block, **named)
        record = enqueue_for_run(
            client,
            data,
            queue_name,
            name,
            on_rerun=on_rerun,
            log=get_run_logger(),
            progress=progress.move,
            **cast("PartOptions", {n: v for n, v in options.items() if n != "name"}),
        )
    batch = SpooledBatch.of(record, credentials)
    artifacts.card(batch, None)
    _tell_assets({n: record[n] for n in ("batch_id", "queue_name", "rows", "created")})
    return batch


@contextmanager
def _client(credentials: SpooledCredentials | None) -> Generator[SpooledClient]:
    """Connect as the maker of a batch."""
    if credentials is not None:
        with credentials.get_client(made_by=made_by()) as client:
            yield client
        return
    # Of an `embedded:` file the first one keeps the server.
    with (
        SpooledClient() as of_environment,
        SpooledClient(replace(of_environment.settings, made_by=made_by())) as client,
    ):
        yield client


@task(name="enqueue_batch", cache_policy=NO_CACHE)
@shows_options(BatchOptions)
def enqueue_batch(
    data: Any,
    queue_name: str,
    *,
    credentials: SpooledCredentials | None = None,
    on_rerun: OnRerun = "retry_failed",
    **options: Unpack[BatchOptions],
) -> SpooledBatch:
    """Make each row of a table a job; a re-run of the flow finds its batch, and doubles no row.

    Args:
        data: whatever `SpooledClient.enqueue_batch` takes: a DataFrame, a path, rows.
        queue_name: where the jobs go.
        credentials: the server's block; None: SPOOLED_GRPC_ADDRESS and SPOOLED_API_KEY say.
        on_rerun: ``"retry_failed"`` sends what is missing and retries dead letters; ``"resume"``
            sends what is missing; ``"fresh"`` starts over, and cancels what had not started.
        **options: those of `SpooledClient.enqueue_batch`. `name` is the flow run's and the
            task's if it is left out.

    Raises:
        InvalidArgumentError: an option is wrong, or another task run has the batch's name.
        RowsRejectedError: rows cannot be jobs; nothing was sent.
    """
    return _enqueue(data, queue_name, credentials, on_rerun, options)


@task(name="aenqueue_batch", cache_policy=NO_CACHE)
@shows_options(BatchOptions)
async def aenqueue_batch(
    data: Any,
    queue_name: str,
    *,
    credentials: SpooledCredentials | None = None,
    on_rerun: OnRerun = "retry_failed",
    **options: Unpack[BatchOptions],
) -> SpooledBatch:
    """Do what `enqueue_batch` does, on a thread, while other tasks of an async flow run."""
    # Reading and encoding a table keep a core busy, which the event loop must not be.
    return await asyncio.to_thread(_enqueue, data, queue_name, credentials, on_rerun, options)


class _Waiting:
    """Shows how a wait goes on: in the run's log, and as a progress artifact."""

    def __init__(self, batch: SpooledBatch) -> None:
        self._logger = ProgressLogger(get_run_logger())
        self._progress = artifacts.ProgressArtifact("Waiting for", batch.id, batch.block)

    def seen(self, stats: BatchStats) -> None:
        self._logger.batch(stats)
        self._progress.move(stats.total - stats.open, stats.total)


@task(name="wait_for_batch", cache_policy=NO_CACHE)
def wait_for_batch(
    batch: SpooledBatch | str,
    timeout: float | None = None,
    max_failed: float = 0,
    on_breach: OnBreach = "raise",
    credentials: SpooledCredentials | None = None,
    allow_expired: bool = False,
) -> SpooledBatch:
    """Wait until every job of the batch is settled and not too many failed; return the batch.

    Args:
        batch: what `enqueue_batch` returned, or the id of a batch that is another program's.
        timeout: seconds; None: as long as it takes.
        max_failed: how many jobs may fail or be cancelled: a number, or a share (a float).
        on_breach: ``"stop"`` also cancels what has not started, once more failed than that.
        credentials: the server's block; None: that of the batch.
        allow_expired: whether jobs that did not start in time do not count as failed.

    Raises:
        BatchFailedError: more failed than that.
        BatchTimeoutError: not settled in time; the message names what holds it back.
    """
    batch = SpooledBatch.of(batch, credentials)
    waiting = _Waiting(batch)
    with batch.client() as client:
        waited = client.batch(batch.record)
        try:
            waited.wait(timeout, max_failed, waiting.seen, on_breach, allow_expired)
        finally:
            # A server that is away has no more to say than the error which ends the wait.
            with suppress(SpooledError):
                artifacts.card(batch, waited.stats())
    return batch


@task(name="await_batch", cache_policy=NO_CACHE)
async def await_batch(
    batch: SpooledBatch | str,
    timeout: float | None = None,
    max_failed: float = 0,
    on_breach: OnBreach = "raise",
    credentials: SpooledCredentials | None = None,
    allow_expired: bool = False,
) -> SpooledBatch:
    """Do what `wait_for_batch` does in asyncio: no thread is held, however many batches run."""
    batch = SpooledBatch.of(batch, credentials)
    waiting = await asyncio.to_thread(_Waiting, batch)
    shown: asyncio.Task[None] | None = None

    def seen(stats: BatchStats) -> None:
        nonlocal shown
        if shown is None or shown.done():
            shown = asyncio.ensure_future(asyncio.to_thread(waiting.seen, stats))

    async with batch.async_client() as client:
        waited = client.batch(batch.record)
        try:
            await waited.wait(timeout, max_failed, seen, on_breach, allow_expired)
        finally:
            if shown is not None:
                await shown
            with suppress(SpooledError):
                stats = await waited.stats()
                await asyncio.to_thread(waiting.seen, stats)
                await asyncio.to_thread(artifacts.card, batch, stats)
    return batch


def materialize_batch(*assets: Any, **task_options: Any) -> MaterializingTask[..., SpooledBatch]:
    """Return `enqueue_batch` as a task that materializes assets, with the batch's counts.

        enqueue_flights = materialize_batch("spooled://jobs.example.com/flights")

    Args:
        *assets: keys, or `prefect.assets.Asset`s.
        **task_options: as of `prefect.task`.
    """
    given: Mapping[str, Any] = {"name": "enqueue_batch", "cache_policy": NO_CACHE, **task_options}
    made: Callable[..., Any] = MaterializingTask
    task_made: MaterializingTask[..., SpooledBatch] = made(
        enqueue_batch.fn, assets=assets, materialized_by="spooled", **given
    )
    return task_made


def _tell_assets(metadata: dict[str, Any]) -> None:
    context = AssetContext.get()
    if context is not None:
        for asset in context.downstream_assets:
            context.add_asset_metadata(asset.key, metadata)
