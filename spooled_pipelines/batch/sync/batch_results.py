# Generated from spooled_pipelines/batch/aio/batch_results.py by `make generate`: do not edit.
"""What became of a batch's jobs, as tables: all at once, or while they are still worked on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.batch.sync.backend import Ability, BatchBackend
from spooled_pipelines.batch.sync.service import BatchService
from spooled_pipelines.batch.sync.settled_results import SettledResults
from spooled_pipelines.rpc.sync.runtime import in_thread

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.batch.outcome.results import ResultOrder, ResultSchema
    from spooled_pipelines.types import StrPath


class BatchResults:
    """The methods of a batch for the results of its jobs."""

    _record: BatchRecord
    _service: BatchService

    def _backend(self) -> BatchBackend:
        """Return the backend of the batch's server."""
        raise NotImplementedError

    def _able(self, ability: Ability, what: str) -> BatchBackend:
        """Return the backend; raise InvalidArgumentError if it lacks the ability."""
        backend = self._backend()
        backend.require(ability, what)
        return backend

    def results(
        self,
        *,
        order: ResultOrder = "input",
        join: object = None,
        schema: ResultSchema = None,
        payload: bool = False,
    ) -> pa.Table:
        """Return what became of every job: all of `results_reader` in memory."""
        reader = self.results_reader(order=order, join=join, schema=schema, payload=payload)
        return in_thread(reader.read_all)

    def results_reader(
        self,
        *,
        order: ResultOrder = "input",
        join: object = None,
        schema: ResultSchema = None,
        payload: bool = False,
    ) -> pa.RecordBatchReader:
        """Return what became of every job, in flat memory.

        Columns: row (int64), job_id, status, error, then one per field of the results, by name,
        of the types that results as Arrow had; else typed by what is in all of them, as JSON text
        if that has no common type. A field with the name of one of our columns is "result.x".

        One line per row of the input, where this object enqueued it or its ledger was kept; a
        row that is not a job has the status "rejected" and its reason as the error, one whose job
        has not settled its job's status, and one whose job the server has forgotten "unknown".
        Otherwise one line per job, in the order of their first enqueue, and row is null.

        Args:
            order: "input", or "settled": in the order in which the jobs settled, the others last.
            join: the table that was enqueued, given once more: its columns come before ours, and
                one of ours that has the name of one of its is "job.x".
            schema: a pyarrow Schema, or Arrow types by name: these fields, of these types.
            payload: the columns of the table that are in the payloads come before ours, those of
                the key first, with the types that they had (without the batch extension by what is
                in them), as the columns of `join` do.

        Raises:
            InvalidArgumentError: an argument is wrong; `join` has not the ledger's rows; or (while
                it is read) a result's field is not what `schema` says.
        """
        from spooled_pipelines.batch.outcome.job_results import ResultStore
        from spooled_pipelines.batch.outcome.known_types import NOTHING_KNOWN
        from spooled_pipelines.batch.outcome.results import parse_result_options, results_reader

        ledger = self._record.open_ledger()
        types = parse_result_options(order, join, schema, ledger, payload=payload)
        store = ResultStore(keeps_payloads=payload, infers=types is None)
        backend = self._backend()
        backend.results(self._record, store, omit_payload=not payload)
        known = NOTHING_KNOWN if types is not None else backend.result_types(self._record)
        table = backend.table_types(store.schemas) if payload else NOTHING_KNOWN
        reader = partial(results_reader, result_types=known, table=table)
        return in_thread(reader, store, ledger, order, join, types)

    def write_results(
        self,
        path: StrPath,
        *,
        order: ResultOrder = "input",
        join: object = None,
        schema: ResultSchema = None,
        payload: bool = False,
        escape_formulas: bool = True,
    ) -> int:
        """Write `results_reader` to a path or URI; return the number of rows.

        Args:
            path: its suffix says which format: .parquet, .arrow, .csv or .jsonl. A file appears
                whole or not at all.
            order, join, schema, payload: as of `results_reader`.
            escape_formulas: put an apostrophe in front of texts in CSV that a spreadsheet would
                compute, such as `=1+1`.
        """
        from spooled_pipelines.batch.outcome.writers import parse_output_path, write_stream

        parse_output_path(path)
        reader = self.results_reader(order=order, join=join, schema=schema, payload=payload)
        return in_thread(write_stream, reader, path, escape_formulas=escape_formulas)

    def as_settled(
        self, *, after: str | None = None, schema: ResultSchema = None, payload: bool = False
    ) -> SettledResults:
        """Return the results as record batches while the batch is worked on, in flat memory.

            for rows in batch.as_settled():
                write(rows)

        Each job comes once, as soon as it is settled, in no particular order; it ends once the
        batch is settled. The columns are those of `results_reader` where only the batch's id is
        known, and of results that are not typed each record batch has the types of its own values,
        unless there is a `schema`. A dead letter that is retried meanwhile does not come again.

        Args:
            after: the `cursor` of an earlier call, kept after its last record batch: what came up
                to there does not come again, also in another process.
            schema, payload: as of `results_reader`.

        Raises:
            InvalidArgumentError: an argument is wrong; or, as it is read, the server keeps no
                batches, or a result's field is not what `schema` says.
        """
        from spooled_pipelines.batch.outcome.results import parse_result_options

        types = parse_result_options("input", None, schema, None, payload=payload)
        return SettledResults(self._service, self._record, after, types, payload=payload)
