# Generated from spooled_pipelines/client/aio/batches.py by `make generate`: do not edit.
"""The client's methods for batches, the first of which loads the batch package."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.options.row_options import (
    BatchOptions,
    JobOptions,
    OnRerun,
    parse_options,
    shows_options,
)
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import decode, validation
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.rpc.sync.paging import paged
from spooled_pipelines.types import BatchStats
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.methods import BATCH

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spooled_pipelines.batch.display.progress import ProgressOption
    from spooled_pipelines.batch.plan import BatchPlan
    from spooled_pipelines.batch.record import BatchRecord
    from spooled_pipelines.batch.sync.backend import BatchBackend
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.batch.sync.open_batch import OpenBatch
    from spooled_pipelines.batch.sync.service import BatchService


class BatchCalls:
    """The methods of a client for whole tables."""

    _connection: Connection
    _batches: BatchService | None = None

    @shows_options(BatchOptions)
    def enqueue_batch(
        self,
        data: Any,
        queue_name: str,
        *,
        progress: ProgressOption = None,
        on_rerun: OnRerun = "resume",
        max_outstanding: int | None = None,
        on_plan: Callable[[BatchPlan], object] | None = None,
        on_read: Callable[[int], object] | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Make each row of a table a job; the same call again enqueues no row twice.

        Args:
            data: a pandas or polars DataFrame, a LazyFrame, anything else with
                ``__arrow_c_stream__``, a pyarrow Table, RecordBatchReader, Dataset or Scanner, an
                iterable of dicts, dataclasses or pydantic models, a cursor, or the path, glob or
                URI of Parquet, CSV, JSON or Arrow files or of a Delta or Iceberg table. It is read
                as a stream. None with `sql`.
            queue_name: where the jobs go.
            columns: read these alone.
            where: read only rows for which it is true: ``[("amount", ">", 5)]``, or a pyarrow
                expression.
            index: read a DataFrame's index as columns.
            sql, connection: a query, and the ADBC, DB-API or DuckDB connection, or SQLAlchemy's
                engine or connection, to run it on.
            parameters: values for the placeholders of `sql`, bound by the driver; a mapping for
                ``:name`` with SQLAlchemy.
            text_options: how CSV and TSV files are read, a `TextOptions` or a dict of its fields.
            table_version: of a Delta or Iceberg table: its version or snapshot; an aware time: the
                newest one then; or one of Iceberg's tags or branches. None: the current one.
            key: the column or columns that say which job a row is; None: the whole row.
            payload: the columns to send; or a mapping from field to column; or the one column that
                holds JSON texts, structs or maps; or a function that makes a record batch of the
                payload's columns from a record batch; None: all columns with no other use.
            payload_schema: a JSON Schema, or a pydantic model, that every payload has to fit.
            priority, max_retries, timeout_seconds: a value for all rows, or a column's name.
            retry_backoff: how long jobs wait before their retries: seconds, a list of seconds for
                each retry in turn, a text such as ``"5s"`` or ``"exponential 5s cap 10m jitter
                20%"``, or a column of these; None: 1, 2, 4 minutes and so on.
            weight: how many jobs of this batch go for one of a batch of the same queue and priority
                with weight 1, when they take turns: 1 to 100.
            fair_by: the column whose values take turns, in place of the batches, such as a
                customer's.
            expires_at, ttl: what has not started by this (aware) time, or a column's, is cancelled
                and counts as expired; `ttl` is the same from now on: seconds, a timedelta or a text
                such as ``"2h"``.
            limit_by: a column and how many jobs of each of its values may run at once, over all
                workers, such as ``("customer", 2)``.
            scheduled_at: an aware time for all rows, or a column's name.
            tags: for all rows; or a list of columns that each are a tag; or the column that holds
                structs or maps of them.
            spread, rate: rows fall due within this time, or this many a second, starting at
                `scheduled_at` or now.
            name: of the batch; the same name finds the same batch again.
            on_rejected: ``"raise"``, or ``"skip"`` to go on without rows that cannot be jobs.
            on_lossy: ``"raise"``, or ``"string"`` to send as text what a payload cannot hold, or
                ``"null"`` to leave it out, or ``"round"`` to send the nearest double of a number;
                or a dict of these by column.
            on_changed: rows with the key of a job and another payload: ``"keep"`` leaves the job as
                it is and counts them, ``"raise"`` sends nothing, ``"replace"`` gives the job the
                new payload if it has not started. The last two need the batch extension.
            ledger: a path or URI of a .parquet or .arrow file that keeps what became of each row,
                for other processes too; for rows that cannot be jobs also if the call fails.
            progress: True for a bar of tqdm; or called with the acknowledged and all rows.
            on_rerun: if the batch exists already: ``"resume"`` sends what is missing;
                ``"retry_failed"`` also retries its dead letters; ``"fresh"`` makes every row a
                new job and cancels the old jobs that had not started. The
                last two need a server with the batch extension.
            max_outstanding: no more of the batch's jobs than these are unsettled at once: the call
                waits until workers have done some.
            on_plan: called with what `plan_batch` would say, before anything is sent; what it
                raises ends the call. The data is read once for both.
            on_read: called with the rows that were read and checked so far, on another thread.

        Raises:
            LossyValueError: a value would not survive; nothing was sent.
            RowsRejectedError: rows cannot be jobs, or have changed; nothing was sent, unless the
                message says so.
            InvalidArgumentError: the data cannot be read, or an argument names no column.
        """
        from spooled_pipelines.batch.sync.batch import Batch
        from spooled_pipelines.batch.sync.enqueue import enqueue_batch

        record = enqueue_batch(
            self._batch_service(),
            data,
            queue_name,
            parse_options(options),
            progress=progress,
            on_rerun=on_rerun,
            on_plan=on_plan,
            max_outstanding=max_outstanding,
            on_read=on_read,
        )
        return Batch(self._batch_service(), record, self)

    @shows_options(BatchOptions)
    def plan_batch(
        self,
        data: Any,
        queue_name: str,
        *,
        progress: ProgressOption = None,  # noqa: ARG002  (so that any call can be planned)
        max_outstanding: int | None = None,  # noqa: ARG002
        on_plan: object = None,  # noqa: ARG002
        on_read: Callable[[int], object] | None = None,
        on_rerun: OnRerun = "resume",
        **options: Unpack[BatchOptions],
    ) -> BatchPlan:
        """Return what `enqueue_batch` would do with the same arguments; nothing is written.

        Rows that cannot be jobs are counted, with the reasons, and not raised. `data` is read to
        its end: an iterator or a cursor has to be made again for the call itself.

        Raises:
            LossyValueError: a value would not survive.
            InvalidArgumentError: the data cannot be read, or an argument names no column.
        """
        from spooled_pipelines.batch.sync.enqueue import plan_batch

        service = self._batch_service()
        return plan_batch(service, data, queue_name, parse_options(options), on_rerun, on_read)

    @shows_options(JobOptions)
    def open_batch(
        self,
        name: str | Mapping[str, Any],
        queue_name: str | None = None,
        *,
        on_rerun: OnRerun = "resume",
        **options: Unpack[JobOptions],
    ) -> OpenBatch:
        """Open a batch that comes in parts, from any process: `add` each part, then `seal` it.

        Args:
            name: of the batch; the same name finds the same batch again. Or what `to_dict()` of an
                open batch gave, alone: then no server is asked.
            queue_name: where the jobs go.
            on_rerun: as of `enqueue_batch`, for what is there when it is opened.
            **options: those of `enqueue_batch` that say how a row becomes a job, for each part
                that does not say otherwise.

        Raises:
            InvalidArgumentError: an argument is wrong.
        """
        from spooled_pipelines.batch.sync.open_batch import open_batch, open_batch_from_dict

        if isinstance(name, Mapping):
            if queue_name is not None or options or on_rerun != "resume":
                raise InvalidArgumentError(
                    "what to_dict() gave holds queue and options already: pass it alone"
                )
            return open_batch_from_dict(self._batch_service(), name, self)
        if queue_name is None:
            raise InvalidArgumentError(f"open_batch({name!r}, ...) needs the queue's name as well")
        service = self._batch_service()
        return open_batch(service, name, queue_name, options, on_rerun, self)

    def batches(
        self,
        queue_name: str | None = None,
        *,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[BatchStats]:
        """Return the statistics of the newest batches that this key may see, the newest first.

        `batch(stats.batch_id)` is the batch itself.

        Args:
            queue_name: only those of this queue.
            text: in the batch's name; or its id.
            since, until: begun from this (aware) time, until before that one.
            limit: the largest number of batches.

        Raises:
            InvalidArgumentError: `limit` is below 1.
        """
        if queue_name is not None:
            validation.queue_name(queue_name)
        validation.limit(limit)
        request = batch_v1.ListBatchesRequest(
            queue_name=queue_name or "",
            text=text or "",
            created_since=validation.optional_timestamp(since, "since"),
            created_before=validation.optional_timestamp(until, "until"),
        )
        batches = paged(self._connection, BATCH["ListBatches"], request, "batches", limit)
        return [decode.batch_stats_from(stats) for stats in batches]

    def batch_backend(self) -> BatchBackend:
        """Return what this server can do with batches, such as `supports_retry`."""
        return self._batch_service().backend()

    def batch_stats(
        self, batches: Sequence[str | Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[BatchStats]:
        """Return the statistics of several batches, in their order and in as few calls as possible.

        Args:
            batches: their ids, or what `Batch.to_dict()` returned, which a server that keeps no
                batches needs.
            timeout: how many seconds to wait for an answer; None: as the client's settings say.

        Raises:
            NotFoundError: there is no such batch; the message names it.
        """
        records = [_record(batch) for batch in batches]
        known = {record.extension for record in records}
        backend = self._batch_service().backend(known.pop() if len(known) == 1 else None)
        return backend.stats_of(records, timeout)

    def watch_batches(self, batch_ids: Sequence[str]) -> Generator[BatchStats, None]:
        """Yield the statistics of several batches over one stream, each as it changes.

        At least each tenth that is done is a change. It ends with the stream: unlike
        `Batch.watch`, it does not connect again.
        """
        from spooled_pipelines.batch.sync.watch import watch_many

        return watch_many(self._connection, batch_ids)

    def batch(self, batch: str | Mapping[str, Any]) -> Batch:
        """Return a batch that was enqueued before, by its id or by what its `to_dict()` gave."""
        from spooled_pipelines.batch.sync.batch import Batch

        return Batch(self._batch_service(), _record(batch), self)

    def key_name(self, queue_name: str) -> str:
        """Return the name that the keys of a queue's rows and its batches' ids are made of.

        It is the queue's first name: another than its own only where it was renamed.
        """
        return self._batch_service().key_name(queue_name)

    def _batch_service(self) -> BatchService:
        if self._batches is None:
            from spooled_pipelines.batch.sync.service import BatchService

            self._batches = BatchService(self._connection)
        return self._batches


def _record(batch: str | Mapping[str, Any]) -> BatchRecord:
    from spooled_pipelines.batch.record import BatchRecord

    if isinstance(batch, str):
        return BatchRecord(batch)
    if isinstance(batch, Mapping):
        return BatchRecord.from_dict(batch)
    raise InvalidArgumentError(
        f"batch must be a batch's id or the dict from Batch.to_dict(), got {type(batch).__name__}"
    )
