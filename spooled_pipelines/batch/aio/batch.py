"""A batch of jobs: where it stands, the wait for it, its results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.aio.listing import find_jobs, list_jobs
from spooled_pipelines.batch.aio.rpcs import (
    cancel_batch,
    check_extension,
    retry_batch,
    revise,
    stats_of,
)
from spooled_pipelines.batch.aio.v1_fallback import AsyncQueueFollower, get_jobs
from spooled_pipelines.batch.aio.watch import watch_queue, watch_stream
from spooled_pipelines.batch.distinct import distinct
from spooled_pipelines.batch.outcome import verdict
from spooled_pipelines.batch.outcome.dead_letters import DEAD, FailedJobs, PatchedJobs
from spooled_pipelines.batch.progress import WaitProgress, wait_progress
from spooled_pipelines.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.aio.connection import AsyncCalls
from spooled_pipelines.rpc.aio.runtime import in_thread, monotonic
from spooled_pipelines.types import BatchStats, CancelResult, Job, QueueStats

if TYPE_CHECKING:
    from spooled_pipelines.batch.ledger import AnyLedger
    from spooled_pipelines.batch.outcome.results import ResultOrder, ResultSchema
    from spooled_pipelines.batch.writers import Where

# How long to ask, when a wait has run out of time, what it is that holds the batch back.
_LAST_LOOK_SECONDS = 5.0


class AsyncBatch:
    """All jobs of one table, made by `enqueue_batch` or found again by their batch's id.

    Attributes:
        id: the batch's id, the same for the same call.
        queue_name: None where only the id is known.
        name: as given; None for a batch without one.
        rows: rows of the table; None where only the id is known, like the three below.
        created: rows that this upload made jobs of.
        duplicates: rows that were jobs already.
        rejected: rows that are no jobs.
        generation: which of the batch's generations was enqueued; None where it is not known.
        retried: dead letters that this call put back into the queue (`on_rerun`).
    """

    def __init__(
        self,
        calls: AsyncCalls,
        batch_id: str,
        *,
        queue_name: str | None = None,
        name: str | None = None,
        rows: int | None = None,
        created: int | None = None,
        duplicates: int | None = None,
        rejected: int | None = None,
        generation: int | None = None,
        retried: int = 0,
        extension: bool | None = None,
        queue_before: QueueStats | None = None,
        ledger: AnyLedger | None = None,
        ledger_path: str | None = None,
    ) -> None:
        self.id = batch_id
        self.queue_name = queue_name
        self.name = name
        self.rows = rows
        self.created = created
        self.duplicates = duplicates
        self.rejected = rejected
        self.generation = generation
        self.retried = retried
        self._calls = calls
        self._extension = extension
        self._queue_before = queue_before
        self._ledger = ledger
        self._ledger_path = ledger_path
        self._follower: AsyncQueueFollower | None = None

    def __repr__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        counts = ""
        if self.rows is not None:
            counts = (
                f": {self.rows} rows, {self.created} created, {self.duplicates} duplicates, "
                f"{self.rejected} rejected"
            )
        queue = f" on {self.queue_name!r}" if self.queue_name else ""
        return f"<{type(self).__name__} {self.id}{named}{queue}{counts}>"

    @property
    def ledger(self) -> Any:
        """A pyarrow Table, one line per row of the input, in its order.

        Columns: row (int64), key, job_id, outcome ("created", "duplicate", "rejected"), reason.
        None where the batch was not enqueued by this object, and its ledger was not kept anywhere
        (`ledger=`). Read anew at each access; `ledger_reader` is for tables beyond memory.
        """
        found = self._known_rows()
        return None if found is None else found.table()

    def ledger_reader(self) -> Any:
        """The same as a pyarrow RecordBatchReader, in flat memory."""
        found = self._known_rows()
        return None if found is None else found.reader()

    def _known_rows(self) -> AnyLedger | None:
        if self._ledger is None and self._ledger_path is not None:
            from spooled_pipelines.batch.ledger import KeptLedger

            self._ledger = KeptLedger(self._ledger_path)
        return self._ledger

    def to_dict(self) -> dict[str, Any]:
        """A small plain dict that `from_dict` makes the batch of again, in another process."""
        made: dict[str, Any] = {
            "batch_id": self.id,
            "queue_name": self.queue_name,
            "name": self.name,
            "rows": self.rows,
            "created": self.created,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "generation": self.generation,
            "retried": self.retried,
            "extension": self._extension,
        }
        if self._ledger_path is not None:
            made["ledger"] = self._ledger_path
        if self._queue_before is not None:
            made["queue_before"] = asdict(self._queue_before)
        return made

    @classmethod
    def from_dict(cls, calls: AsyncCalls, values: Mapping[str, Any]) -> AsyncBatch:
        """The batch that `to_dict` described; without its ledger, unless that was kept.

        Raises:
            InvalidArgumentError: it is no such dict.
        """
        batch_id = values.get("batch_id")
        if not isinstance(batch_id, str) or not batch_id:
            raise InvalidArgumentError(
                f"a batch's dict has a 'batch_id', and this one has {sorted(map(str, values))}: "
                "pass what Batch.to_dict() gave"
            )
        before = values.get("queue_before")
        return cls(
            calls,
            batch_id,
            queue_name=values.get("queue_name"),
            name=values.get("name"),
            rows=values.get("rows"),
            created=values.get("created"),
            duplicates=values.get("duplicates"),
            rejected=values.get("rejected"),
            generation=values.get("generation"),
            retried=values.get("retried", 0),
            extension=values.get("extension"),
            queue_before=None if before is None else QueueStats(**before),
            ledger_path=values.get("ledger"),
        )

    async def stats(self) -> BatchStats:
        """Where the batch stands now."""
        return await self._stats(None)

    def watch(self) -> AsyncGenerator[BatchStats, None]:
        """Where it stands now, and again whenever that changes, until it is settled.

        Connects again where the connection breaks; after five minutes without a server it is
        UnavailableError.
        """
        return self._watch(None)

    async def wait(
        self,
        timeout: float | None = None,
        max_failed: float = 0,
        on_progress: WaitProgress = None,
        on_breach: verdict.OnBreach = "raise",
    ) -> BatchStats:
        """Returns once every job is settled and not too many failed.

        Args:
            timeout: seconds; None: as long as it takes.
            max_failed: how many jobs may fail or be cancelled: a number of jobs (int), or a
                share of all (float from 0 to 1).
            on_progress: called with each change; True: a bar.
            on_breach: what to do once more failed than that, besides raising: "stop" cancels what
                has not started, for which the server needs the batch extension.

        Raises:
            BatchFailedError: more failed than that; at once where it is certain.
            BatchTimeoutError: not settled in time; the message names what holds it back.
        """
        verdict.check_max_failed(max_failed)
        verdict.check_on_breach(on_breach)
        shown = wait_progress(on_progress)
        if on_breach == "stop":
            await check_extension(self._calls, 'on_breach="stop"')
        deadline = None if timeout is None else monotonic() + timeout
        last: BatchStats | None = None
        away: SpooledError | None = None
        try:
            async with aclosing(self._watch(deadline)) as changes:
                async for last in changes:
                    shown.at(last)
                    if verdict.breached(last, max_failed):
                        stopped = await self.cancel() if on_breach == "stop" else None
                        raise verdict.failed_error(last, max_failed, stopped)
                    if last.settled:
                        return last
            if timeout is not None:
                # What was seen last may be long past, and stalls come with time alone.
                last = await self._stats(_LAST_LOOK_SECONDS)
        except (UnavailableError, DeadlineExceededError) as error:
            if deadline is None:
                raise
            away = error
        finally:
            shown.close()
        raise verdict.timeout_error(last, timeout or 0.0, away, self.id)

    async def results(
        self, *, order: ResultOrder = "input", join: Any = None, schema: ResultSchema = None
    ) -> Any:
        """What became of every job, as a pyarrow Table: all of `results_reader` in memory."""
        reader = await self.results_reader(order=order, join=join, schema=schema)
        return await in_thread(reader.read_all)

    async def results_reader(
        self, *, order: ResultOrder = "input", join: Any = None, schema: ResultSchema = None
    ) -> Any:
        """What became of every job, as a pyarrow RecordBatchReader, in flat memory.

        Columns: row (int64), job_id, status, error, then one per field of the results, by name,
        typed by what is in all of them, as JSON text where that has no common type. A field that
        has the name of one of ours is "result.x".

        One line per row of the input, where this object enqueued it or its ledger was kept; a
        row that is no job has the status "rejected" and its reason as the error, one whose job
        has not settled its job's status, and one whose job the server has forgotten "unknown".
        Otherwise one line per job, in the order of their first enqueue, and row is null.

        Args:
            order: "input", or "settled": in the order in which the jobs settled, the others last.
            join: the table that was enqueued, given once more: its columns come before ours, and
                one of ours that has the name of one of its is "job.x".
            schema: a pyarrow Schema, or Arrow types by name: these fields, of these types.

        Raises:
            InvalidArgumentError: an argument is wrong; `join` has not the ledger's rows; or (while
                it is read) a result's field is not what `schema` says.
        """
        from spooled_pipelines.batch.outcome.job_results import Outcomes
        from spooled_pipelines.batch.outcome.results import check_results, results_reader

        ledger = self._known_rows()
        types = check_results(order, join, schema, ledger)
        found = Outcomes()
        await self._each_job(found)
        return await in_thread(results_reader, found, ledger, order, join, types)

    async def write_results(
        self,
        where: Where,
        *,
        order: ResultOrder = "input",
        join: Any = None,
        schema: ResultSchema = None,
    ) -> int:
        """Write `results_reader` to a path or URI; returns how many rows.

        Args:
            where: its name says what it is: .parquet, .arrow, .csv or .jsonl. A file appears whole
                or not at all.
            order, join, schema: as of `results_reader`.
        """
        from spooled_pipelines.batch.writers import check_sink, write_stream

        check_sink(where)
        reader = await self.results_reader(order=order, join=join, schema=schema)
        return await in_thread(write_stream, reader, where)

    async def timeline(self) -> Any:
        """When every job came, began and ended, as a pyarrow Table.

        Columns: job_id, status, created_at, started_at (of the last try) and completed_at (UTC),
        seconds (from the start of the last try to its end; float). Null where it did not happen.
        """
        from spooled_pipelines.batch.outcome.timeline import Timeline

        found = Timeline()
        await self._each_job(found)
        return found.table()

    async def plot(self) -> Any:
        """Jobs by status over time, and how long they took: a matplotlib Figure.

        A notebook shows it; `.savefig("batch.png")` keeps it. `timeline()` has the figures.

        Raises:
            ImportError: matplotlib is not installed (`spooled-pipelines[plot]`).
            InvalidArgumentError: the batch has no jobs.
        """
        from spooled_pipelines.batch.outcome.timeline import draw

        title = f"batch {self.name} ({self.id})" if self.name else f"batch {self.id}"
        return await in_thread(draw, await self.timeline(), title)

    async def cancel(self) -> CancelResult:
        """Cancel what has not started: pending, scheduled, or waiting for a retry.

        What runs goes on, and may fail and be retried. A job that is in another batch as well is
        cancelled there too. Where the batch has begun anew since (`on_rerun="fresh"`), the new
        jobs are left alone; a batch known by its id alone is cancelled whole.

        Raises:
            InvalidArgumentError: the server keeps no batches.
            NotFoundError: there is no such batch.
        """
        await check_extension(self._calls, "cancelling a batch")
        return await cancel_batch(self._calls, self.id, self.generation)

    async def find_jobs(
        self, text: str = "", *, statuses: Iterable[str] = (), limit: int = 100
    ) -> list[Job]:
        """The first `limit` jobs of the batch with this text in error, id, key or worker.

        The server looks at a bounded number of jobs in a call; this goes on until there are enough
        or all were looked at. It needs the batch extension.

        Args:
            text: what to look for; empty: any.
            statuses: only these, such as ``["deadletter"]``; none: any.
            limit: so many at most.

        Raises:
            InvalidArgumentError: a status that there is not, or `limit` is below 1.
        """
        await check_extension(self._calls, "finding jobs of a batch")
        return await find_jobs(self._calls, self.id, text, statuses, limit)

    async def failed(self) -> Any:
        """The dead letters as an Arrow table, a line for each error, the most frequent first.

        Columns: error (its first line), count, last (when the last of them died), retries (the
        most that one of them used up), job_ids (the first ten). `client.attempts` tells what one
        of them went through.

        Raises:
            InvalidArgumentError: the server keeps no batches.
            NotFoundError: there is no such batch.
        """
        await check_extension(self._calls, "looking at what failed")
        errors = FailedJobs()
        await list_jobs(self._calls, self.id, errors, DEAD)
        return errors.table()

    async def retry_failed(
        self,
        where: str | None = None,
        *,
        cancelled: bool = False,
        patch: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Put dead letters back into the queue with all their retries; returns how many.

        The batch is then not settled any more, and can be waited for again. What was tried so far
        is kept (`client.attempts`).

        Args:
            where: only jobs whose error has this text in it.
            cancelled: also what was cancelled; a job that was not due yet is due when it was.
            patch: gets each one's payload, and returns the one to use from now on; None leaves
                that job dead. The job keeps its key. Not together with `cancelled`.

        Raises:
            InvalidArgumentError: the server keeps no batches, or a patched payload is none.
            LossyValueError: a patched payload holds what would not survive.
            NotFoundError: there is no such batch.
        """
        await check_extension(self._calls, "retrying a batch")
        if patch is not None:
            if cancelled:
                raise InvalidArgumentError("patch is for dead letters: leave cancelled out")
            # All are patched before the first is sent: a patch may fail.
            patched = PatchedJobs(where or "", patch)
            await list_jobs(self._calls, self.id, patched, DEAD, omit_payload=False)
            return await revise(self._calls, patched.revisions)
        return await retry_batch(self._calls, self.id, where or "", cancelled)

    async def _stats(self, timeout: float | None) -> BatchStats:
        if not await self._has_extension():
            return await self._queue().stats(timeout)
        (found,) = await stats_of(self._calls, [self.id], timeout)
        return found

    async def _each_job(self, found: Any) -> None:
        """Tells `found` of every job, without payloads where the server can leave them out."""
        ledger = self._known_rows()
        if await self._has_extension():
            await list_jobs(self._calls, self.id, found)
        elif ledger is None:
            raise InvalidArgumentError(
                f"the server at {self._calls.settings.name} keeps no batches, so only the object "
                "that enqueue_batch() returned knows this batch's jobs: ask that one, or enqueue "
                "with ledger=PATH"
            )
        else:
            # A job that several rows share is one.
            async with aclosing(get_jobs(self._calls, distinct(ledger.job_ids()))) as jobs:
                async for job in jobs:
                    if job is not None:
                        found.add(job)

    async def _watch(self, deadline: float | None) -> AsyncGenerator[BatchStats, None]:
        """Changes until the batch is settled or the deadline is there."""
        if await self._has_extension():
            source = watch_stream(self._calls, self.id, deadline)
        else:
            source = watch_queue(self._calls, self._queue(), deadline)
        async with aclosing(source) as changes:
            async for stats in changes:
                yield stats
                if stats.settled:
                    return

    async def _has_extension(self) -> bool:
        if self._extension is None:
            self._extension = await self._calls.speaks_batches()
        return self._extension

    def _queue(self) -> AsyncQueueFollower:
        if self._follower is None:
            if self.queue_name is None:
                raise InvalidArgumentError(
                    f"the server at {self._calls.settings.name} keeps no batches, so an id is "
                    "not enough to find one: pass what Batch.to_dict() gave"
                )
            ledger = self._known_rows()
            ids = None if ledger is None else ledger.job_ids()
            self._follower = AsyncQueueFollower(
                self._calls, self.id, self.queue_name, self.name or "", self._queue_before, ids
            )
        return self._follower
