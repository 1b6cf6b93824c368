"""BatchResultsOperator: the results of a batch's jobs, as a file or a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset, BaseOperator, XComArg

from spooled_pipelines.airflow.arguments.on_empty import OnEmpty, check_on_empty, report_empty
from spooled_pipelines.airflow.arguments.opaque import describe
from spooled_pipelines.airflow.arguments.templates import (
    TextTemplates,
    parse_number,
    refuse_templates,
)
from spooled_pipelines.airflow.handover.batch_refs import parse_batch_refs
from spooled_pipelines.airflow.handover.events import NON_RETRYABLE
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION, WithHook
from spooled_pipelines.airflow.links import BatchLink
from spooled_pipelines.airflow.operators.batch_table import open_table
from spooled_pipelines.airflow.operators.output_file import (
    check_output_format,
    check_output_path,
    write_file,
)
from spooled_pipelines.airflow.platform import config
from spooled_pipelines.airflow.platform.versions import AirflowFailException

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context


class BatchResultsOperator(WithHook, TextTemplates, BaseOperator):
    """Fetches the results of a batch, or of several one after the other.

    One row for each job: a column for each field of its payload, those of the key first; ``row``
    (the row's number, where the batch has a ledger), ``job_id``, ``status``, ``error``, and a
    column for each field of the results. Names that are there already become ``job.status``,
    ``result.amount``.

    Every argument but `escape_formulas` is templated.

    Args:
        batch: what `EnqueueBatchOperator` returns (``enqueue.output``), a batch's id,
            or a list of either.
        path: where to write them: a path or URI whose suffix says the format: .parquet, .arrow,
            .csv or .jsonl. The task then returns the path and the number of rows. Without it, it
            returns the rows as a list of dicts.
        max_rows: without a path: more rows than this fail the task. None: as the configuration's
            ``[spooled] xcom_rows_max`` says.
        escape_formulas: put an apostrophe in front of texts in CSV that a spreadsheet would
            compute, such as ``=1+1``.
        on_empty: what it means that there is no batch, because the tasks that enqueue were skipped
            or mapped over nothing: ``"success"`` (no rows), ``"skip"`` or ``"fail"``.
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    The asset events of its ``outlets`` carry the path and the number of rows.

    Raises:
        AirflowFailException: there is no such batch, or there are too many rows for XCom.
    """

    template_fields: Sequence[str] = ("batch", "path", "max_rows", "on_empty", "spooled_conn_id")
    text_fields: ClassVar[tuple[str, ...]] = ("path", "spooled_conn_id")
    untemplated_fields: ClassVar[tuple[str, ...]] = ("escape_formulas",)
    operator_extra_links = (BatchLink(),)
    ui_color = "#fef9c3"

    def __init__(
        self,
        *,
        batch: Mapping[str, Any] | str | Sequence[Any] | XComArg,
        path: Any = None,
        max_rows: int | str | None = None,
        escape_formulas: bool = True,
        on_empty: OnEmpty | str = "success",
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_templates(type(self), {"escape_formulas": escape_formulas})
        if path is not None:
            check_output_path(path, "path")
        self.batch = batch
        self.path = path
        self.escape_formulas = escape_formulas
        self.max_rows = max_rows
        check_on_empty(on_empty)
        self.on_empty = on_empty
        self.spooled_conn_id = spooled_conn_id

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """Write the results and return their path; without a path, return them."""
        try:
            if self.path is not None:
                check_output_format(self.path)
            reader = self._reader()
        except NON_RETRYABLE as error:
            raise AirflowFailException(error.message) from None
        if self.path is None:
            table = reader.read_all()
            self._check_rows(table.num_rows)
            rows: list[dict[str, Any]] = table.to_pylist()
            return rows
        written = write_file(reader, self.path, escape_formulas=self.escape_formulas)
        for outlet in self.outlets:
            if isinstance(outlet, Asset) and "outlet_events" in context:
                context["outlet_events"][outlet].extra.update(written._asdict())
        self.log.info("%d rows written to %s", written.rows, written.path)
        return written._asdict()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the queue, and the file that was written."""
        from spooled_pipelines.airflow.hooks.lineage import of_wait

        return of_wait(self, [self.path])

    def _reader(self) -> pa.RecordBatchReader:
        readers = []
        refs = parse_batch_refs(self.batch, describe(self.batch))
        if not refs:
            report_empty(self.on_empty, "There is no batch: the tasks before gave none.", self.log)
            return _no_results()
        self.shown_batch = [ref.to_dict() for ref in refs]
        with self.hook.get_conn() as client:
            for ref in refs:
                # Before anything is fetched.
                self._check_rows(client.batch(ref.to_dict()).stats().total)
                readers.append(open_table(client, ref, self.log))
        return readers[0] if len(readers) == 1 else _concatenated(readers)

    def _check_rows(self, rows: int) -> None:
        limit = config.xcom_rows_max() if self.max_rows is None else parse_number(self.max_rows)
        if not isinstance(limit, int):
            raise AirflowFailException(f"max_rows must be a number of rows, got {limit!r}")
        if self.path is None and rows > limit:
            raise AirflowFailException(
                f"{rows} rows are too many for XCom, whose limit here is {limit}: write them to a "
                "file with path=, or raise max_rows"
            )


def _no_results() -> pa.RecordBatchReader:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("job_id", "status", "error")]
    return pa.RecordBatchReader.from_batches(pa.schema([("row", pa.int64()), *texts]), [])


def _concatenated(readers: Sequence[pa.RecordBatchReader]) -> pa.RecordBatchReader:
    """Return all of them as one reader, with the columns of each."""
    import pyarrow as pa

    schema = pa.unify_schemas([reader.schema for reader in readers], promote_options="permissive")
    empty = schema.empty_table()
    batches = (
        promoted
        for reader in readers
        for record_batch in reader
        for promoted in pa.concat_tables(
            [empty, pa.Table.from_batches([record_batch])], promote_options="permissive"
        ).to_batches()
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
