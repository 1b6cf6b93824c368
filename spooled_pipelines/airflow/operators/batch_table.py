"""The table of a batch's jobs: its rows, as far as they are known, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spooled_pipelines.airflow.operators.data_source import open_path
from spooled_pipelines.errors import InvalidArgumentError, SourceError

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.airflow.handover.batch_refs import BatchRef
    from spooled_pipelines.client.sync.client import SpooledClient


def open_table(client: SpooledClient, ref: BatchRef, log: Any) -> pa.RecordBatchReader:
    """Return a line for each job: the fields of its payload, those of the key first, and ours.

    A line for each row of the input, with its number, where the batch has a ledger.
    """
    values = ref.to_dict()
    ledger = values.pop("ledger", None)
    if ledger is not None and _can_be_read(ledger, log):
        values["ledger"] = open_path(ledger)
    return _key_first(client.batch(values).results_reader(payload=True), ref.key)


def _can_be_read(ledger: str, log: Any) -> bool:
    from spooled_pipelines.batch.outcome.ledger import LedgerFile

    try:
        LedgerFile(open_path(ledger)).reader()
    except (InvalidArgumentError, SourceError) as error:
        # A file of another machine, maybe. The results are there all the same.
        log.warning("There are no rows' numbers in the results: %s", error.message)
        return False
    return True


def _key_first(reader: pa.RecordBatchReader, key: tuple[str, ...]) -> pa.RecordBatchReader:
    import pyarrow as pa

    first = [name for name in key if name in reader.schema.names]
    names = [*first, *(name for name in reader.schema.names if name not in first)]
    schema = pa.schema([reader.schema.field(name) for name in names])

    def batches() -> Iterator[pa.RecordBatch]:
        for record_batch in reader:
            yield record_batch.select(names)

    return pa.RecordBatchReader.from_batches(schema, batches())
