"""A batch of jobs: its statistics, the wait for it, its results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.aio.backend import AsyncBatchBackend
from spooled_pipelines.batch.aio.batch_results import AsyncBatchResults
from spooled_pipelines.batch.aio.service import AsyncBatchService
from spooled_pipelines.batch.display.progress import WaitProgress, WaitProgressOption
from spooled_pipelines.batch.outcome import verdict
from spooled_pipelines.batch.outcome.dead_letters import FailureSummary, PayloadPatch
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.durations import Duration, seconds_of
from spooled_pipelines.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.aio.runtime import in_thread, monotonic
from spooled_pipelines.types import BatchStats, CancelResult, Job

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from spooled_pipelines.batch.display.html_card import Card

# How long to ask, when a wait has run out of time, what it is that holds the batch back.
_LAST_LOOK_SECONDS = 5.0


class AsyncBatch(AsyncBatchResults):
    """All jobs of one table, made by `enqueue_batch` or found again by the batch's id."""

    def __init__(self, service: AsyncBatchService, record: BatchRecord, client: Any = None) -> None:
        self._service = service
        self._record = record
        self._client = client

    @property
    def id(self) -> str:
        """The batch's id; the same call gives the same id."""
        return self._record.id

    @property
    def queue_name(self) -> str | None:
        """The queue; None if only the id is known."""
        return self._record.queue_name

    @property
    def name(self) -> str | None:
        """The batch's name; None if it has none."""
        return self._record.name

    @property
    def rows(self) -> int | None:
        """Rows of the table; None if only the id is known, like the three below."""
        return self._record.rows

    @property
    def created(self) -> int | None:
        """Rows that this enqueue made jobs of."""
        return self._record.created

    @property
    def duplicates(self) -> int | None:
        """Rows that were jobs already."""
        return self._record.duplicates

    @property
    def changed(self) -> int | None:
        """Those of the duplicates that have another payload than their job had.

        None also on a server without the batch extension, which does not say so.
        """
        return self._record.changed

    @property
    def replaced(self) -> int | None:
        """Those of `changed` whose payload their job has now (`on_changed="replace"`)."""
        return self._record.replaced

    @property
    def rejected(self) -> int | None:
        """Rows that cannot be jobs."""
        return self._record.rejected

    @property
    def notes(self) -> tuple[str, ...]:
        """How the data was read, such as "read as text: zip"; empty in another process."""
        return self._record.notes

    @property
    def table_version(self) -> int | None:
        """Of a Delta or Iceberg table: the version or snapshot that was read."""
        return self._record.table_version

    @property
    def generation(self) -> int | None:
        """Which of the batch's generations was enqueued; None if it is not known."""
        return self._record.generation

    @property
    def retried(self) -> int:
        """Dead letters that this enqueue retried (`on_rerun`)."""
        return self._record.retried

    @property
    def client(self) -> Any:
        """The client that the batch was enqueued or found with."""
        # Its class is in the layer above this one.
        return self._client

    def __repr__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        counts = ""
        if self.rows is not None:
            counts = (
                f": {self.rows} rows, {self.created} created, {self.duplicates} duplicates, "
                f"{f'{self.changed} changed, ' if self.changed else ''}{self.rejected} rejected"
            )
        queue = f" on {self.queue_name!r}" if self.queue_name else ""
        return f"<{type(self).__name__} {self.id}{named}{queue}{counts}>"

    def _repr_html_(self) -> str:
        return self._card().html()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # What IPython shows in a terminal, and keeps as text in a saved notebook.
        printer.text(repr(self) if cycle else self._card().text())

    def _card(self) -> Card:
        from spooled_pipelines.batch.display.batch_card import batch_card

        return batch_card(
            self._record, None if self._client is None else self._client.settings.name
        )

    @property
    def ledger(self) -> pa.Table | None:
        """A pyarrow Table, one line per row of the input, in its order.

        Columns: row (int64), key, job_id, outcome ("created", "duplicate", "rejected"), reason
        (why it was rejected; of a duplicate with another payload than its job had "changed", or
        "replaced" where the job has the row's now).
        None if the batch was not enqueued by this object, and its ledger was not kept anywhere
        (`ledger=`). Read again at each access; `ledger_reader` is for tables beyond memory.
        """
        ledger = self._record.open_ledger()
        return None if ledger is None else ledger.table()

    def ledger_reader(self) -> pa.RecordBatchReader | None:
        """Return the same as a pyarrow RecordBatchReader, in flat memory."""
        ledger = self._record.open_ledger()
        return None if ledger is None else ledger.reader()

    def to_dict(self) -> dict[str, Any]:
        """Return a small dict from which `client.batch` makes the batch in another process."""
        return self._record.to_dict()

    async def stats(self) -> BatchStats:
        """Return the statistics of the batch."""
        return await self._stats(None)

    def watch(self) -> AsyncGenerator[BatchStats, None]:
        """Yield the statistics now and whenever they change, until the batch is settled.

        Reconnects if the connection breaks; raises UnavailableError after five minutes without a
        server.
        """
        return self._watch(None)

    async def wait(
        self,
        timeout: Duration | None = None,
        max_failed: float = 0,
        on_progress: WaitProgressOption = None,
        on_breach: verdict.OnBreach = "raise",
        allow_expired: bool = False,
    ) -> BatchStats:
        """Return once every job is settled and not too many failed.

        Args:
            timeout: seconds, a timedelta, or a text such as "1m"; None: as long as it takes.
            max_failed: how many jobs may fail or be cancelled: a number of jobs (int), or a
                share of all (float from 0 to 1).
            on_progress: called with each change; True: a bar.
            on_breach: what to do once more failed than that, besides raising: "stop" cancels what
                has not started, for which the server needs the batch extension.
            allow_expired: whether jobs that expired do not count as failed.

        Raises:
            BatchFailedError: more failed than that; at once if it is certain.
            BatchTimeoutError: not settled in time; the message names what holds it back.
        """
        rule = verdict.Rule(max_failed, on_breach, allow_expired)
        rule.check()
        bar = WaitProgress(on_progress)
        if on_breach == "stop":
            await self._able("supports_cancel", 'on_breach="stop"')
        seconds = None if timeout is None else seconds_of("timeout", timeout)
        deadline = None if seconds is None else monotonic() + seconds
        last: BatchStats | None = None
        away: SpooledError | None = None
        try:
            async with aclosing(self._watch(deadline)) as changes:
                async for last in changes:
                    if await self._is_over(last, rule, bar.update):
                        return last
            if timeout is not None:
                # What was seen last may be long past, and stalls come with time alone.
                last = await self._stats(_LAST_LOOK_SECONDS)
                if await self._is_over(last, rule, bar.update):
                    return last
        except (UnavailableError, DeadlineExceededError) as error:
            if deadline is None:
                raise
            away = error
        finally:
            bar.close()
        raise verdict.timeout_error(last, seconds or 0.0, away, self.id)

    async def _is_over(
        self, stats: BatchStats, rule: verdict.Rule, show: Callable[[BatchStats], object]
    ) -> bool:
        """Return whether the batch is settled; raise BatchFailedError where too many failed."""
        show(stats)
        if verdict.breached(stats, rule.max_failed, rule.allow_expired):
            stopped = await self.cancel() if rule.on_breach == "stop" else None
            raise verdict.failed_error(stats, rule.max_failed, stopped)
        return stats.settled

    async def timeline(self) -> pa.Table:
        """Return when every job came, began and ended: all of `timeline_reader` in memory."""
        return await in_thread((await self.timeline_reader()).read_all)

    async def timeline_reader(self) -> pa.RecordBatchReader:
        """Return when every job came, began and ended, in flat memory.

        Columns: job_id, status, created_at, started_at (of the last attempt) and completed_at
        (UTC), seconds (of the last attempt; float). Null for what did not happen.
        """
        from spooled_pipelines.batch.outcome.timeline import Timeline

        timeline = Timeline()
        await (await self._backend()).each_job(self._record, timeline)
        return timeline.reader()

    async def plot(self) -> Figure:
        """Return a matplotlib Figure: jobs by status over time, and how long they took.

        A notebook shows it; `.savefig("batch.png")` keeps it.

        Raises:
            ImportError: matplotlib is not installed (`spooled-pipelines[plot]`).
            InvalidArgumentError: the batch has no jobs.
        """
        from spooled_pipelines.batch.display.timeline_figure import draw

        title = f"batch {self.name} ({self.id})" if self.name else f"batch {self.id}"
        return await in_thread(draw, await self.timeline(), title)

    async def cancel(self) -> CancelResult:
        """Cancel what has not started: pending, scheduled, or waiting for a retry.

        What runs goes on, and may fail and be retried. A job that is in another batch as well is
        cancelled there too. If the batch has a new generation since (`on_rerun="fresh"`), its
        jobs are left alone; a batch known by its id alone is cancelled whole.

        Raises:
            InvalidArgumentError: the server keeps no batches.
            NotFoundError: there is no such batch.
        """
        backend = await self._able("supports_cancel", "cancelling a batch")
        return await backend.cancel(self.id, self.generation)

    async def find_jobs(
        self, text: str = "", *, statuses: Iterable[str] = (), limit: int = 100
    ) -> list[Job]:
        """Return the first `limit` jobs of the batch with this text in error, id, key or worker.

        It needs the batch extension, and goes on until there are enough or all were looked at.

        Args:
            text: what to look for; empty: any.
            statuses: only these, such as ``["deadletter"]``; none: any.
            limit: the largest number of jobs.

        Raises:
            InvalidArgumentError: a status that there is not, or `limit` is below 1.
        """
        backend = await self._able("supports_retry", "finding jobs of a batch")
        return await backend.find_jobs(self.id, text, statuses, limit)

    async def failed(self) -> pa.Table:
        """Return the dead letters as an Arrow table, a line for each error, most frequent first.

        Columns: error (its first line; without numbers, ids and quoted texts where those differ),
        count, last (when the last of them died), retries (the most that one of them used up),
        job_ids (the first ten, see `client.attempts`), example (one whole first line).

        Raises:
            InvalidArgumentError, NotFoundError: the server keeps no batches, or not this one.
        """
        backend = await self._able("supports_retry", "looking at what failed")
        errors = FailureSummary()
        await backend.dead_letters(self.id, errors)
        return errors.table()

    async def retry_failed(
        self,
        error_contains: str | None = None,
        *,
        cancelled: bool = False,
        patch: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Retry dead letters, with all their retries; return how many, and log why if none.

        The batch is then no longer settled, and can be waited for again; attempts are kept.

        Args:
            error_contains: only jobs whose error contains this text.
            cancelled: also what was cancelled; a job that was not due yet is due when it was.
            patch: gets each one's payload, and returns the one to use from now on; None leaves
                that job dead. The job keeps its key. Not together with `cancelled`.

        Raises:
            InvalidArgumentError: the server keeps no batches, or a patched payload is none.
            ConflictError: cancelled jobs stay cancelled, since the server has removed their
                payloads; it names them, and the others are retried.
            LossyValueError: a patched payload holds what would not survive.
            NotFoundError: there is no such batch.
        """
        backend = await self._able("supports_retry", "retrying a batch")
        if patch is not None:
            if cancelled:
                raise InvalidArgumentError("patch is for dead letters: leave cancelled out")
            # All are patched before the first is sent, since a patch may fail.
            with PayloadPatch(error_contains or "", patch) as patched:
                await backend.dead_letters(self.id, patched, omit_payload=False)
                return await backend.revise(patched.revisions())
        retried = await backend.retry(self.id, error_contains or "", cancelled)
        if not retried:
            verdict.log_nothing_retried(await self.stats(), error_contains)
        return retried

    async def _stats(self, timeout: float | None) -> BatchStats:
        return await (await self._backend()).stats(self._record, timeout)

    async def _watch(self, deadline: float | None) -> AsyncGenerator[BatchStats, None]:
        """Yield changes until the batch is settled or the deadline has passed."""
        backend = await self._backend()
        async with aclosing(backend.watch(self._record, deadline)) as changes:
            async for stats in changes:
                yield stats
                if stats.settled:
                    return

    async def _backend(self) -> AsyncBatchBackend:
        return await self._service.backend(self._record.extension)
