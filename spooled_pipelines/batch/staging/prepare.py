"""The first pass: read the whole source, check it, encode it, and stage it.

Nothing is sent before the last row is checked, and exactly the checked rows are sent: the source is
read once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.encoding.column_mapping import Constants, map_columns
from spooled_pipelines.batch.encoding.payload_types import PayloadTypes
from spooled_pipelines.batch.encoding.rows import encode_rows
from spooled_pipelines.batch.encoding.schema_check import make_payload_check
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.outcome.ledger import RejectedRows
from spooled_pipelines.batch.outcome.writers import parse_output_path
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import parse_scan
from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.batch.staging.duplicates import DuplicateIndex
from spooled_pipelines.batch.staging.idempotency import (
    KeyScope,
    batch_id,
    hash_sum,
    row_hashes,
    rows_id,
)
from spooled_pipelines.batch.staging.schedule import parse_spread
from spooled_pipelines.batch.staging.staged_batch import (
    ENCODED_SCHEMA,
    HASHES_SCHEMA,
    StagedBatch,
    refuse_rejected,
)
from spooled_pipelines.errors import EmptyTableError
from spooled_pipelines.rpc import validation
from spooled_pipelines.wire.limits import NO_RETRIES

log = logging.getLogger("spooled_pipelines.batch")


def prepare(
    data: Any,
    queue_name: str,
    options: RowOptions,
    *,
    planning: bool = False,
    on_read: Callable[[int], object] | None = None,
    key_name: str | None = None,
) -> StagedBatch:
    """Read, check and encode all of `data`.

    With `planning=True`, rejected rows are reported instead of raised. `on_read` is called with
    the number of rows so far. `key_name` is that of the queue's keys, if it was renamed.

    Raises:
        InvalidArgumentError: an argument is wrong, the data cannot be read, or has no rows and is
            not a part.
        LossyValueError: a payload cannot hold a value exactly.
        RowsRejectedError: rows cannot be jobs and `on_rejected` is "raise", or none can.
    """
    queue_name = validation.queue_name(queue_name)
    scope = KeyScope(queue_name, options.name, options.part_id, key_name)
    is_part = options.part_id is not None
    skips_rejected = options.on_rejected == "skip"
    ledger = None
    if options.ledger is not None:
        ledger = parse_output_path(options.ledger, ("parquet", "arrow"))
    check_payload = make_payload_check(options.payload_schema)
    spread = parse_spread(options)
    scan = parse_scan(options)
    try:
        source = open_source(
            data,
            scan,
            sql=options.sql,
            connection=options.connection,
            parameters=options.parameters,
        )
    except EmptyTableError:
        if not is_part:
            raise
        return _empty_part(scope, options, ledger)
    for note in scan.notes:
        log.info("%s: %s", source.what, note)
    with ExitStack() as undo:
        encoded, hashes = SpillBuffer(ENCODED_SCHEMA), SpillBuffer(HASHES_SCHEMA)
        rejected = RejectedRows(ledger)
        for opened in (encoded, hashes, rejected):
            undo.callback(opened.close)
        schema = source.schema
        mapping = map_columns(schema, options)
        constants = mapping.constants
        rows = 0
        total = 0
        rounded: Counter[str] = Counter()
        payload_types = PayloadTypes()
        no_retries = constants.max_retries == NO_RETRIES
        for record_batch in source.batches:
            if record_batch.schema is not schema and not record_batch.schema.equals(schema):
                # Columns of an iterable may get their types later; they must suit even so.
                schema = record_batch.schema
                mapping = map_columns(schema, options)
            result = encode_rows(
                record_batch, mapping, rows, options.on_lossy, check_payload, rounded
            )
            rejected.add(result.rejected)
            rows += record_batch.num_rows
            if on_read is not None:
                on_read(rows)
            no_retries = no_retries or result.no_retries
            if len(result.rows):
                payload_types.add(result.schema)
                seed = scope.seed if mapping.key else scope.content_seed
                new_hashes = row_hashes(result.identity, seed)
                total += hash_sum(new_hashes)
                columns = [result.rows, result.encoded]
                encoded.write(pa.record_batch(columns, schema=ENCODED_SCHEMA))
                hashes.write(pa.record_batch([new_hashes], schema=HASHES_SCHEMA))
        if not rows:
            nothing = f"{source.what} has no rows, so there is nothing to enqueue."
            if filtered := scan.counts["filtered"]:
                nothing = f"where= keeps none of {filtered} rows of {source.what}."
            if not is_part:
                raise EmptyTableError(nothing)
            log.info("%s", nothing)
        if not planning and rejected.count:
            sendable = encoded.rows or (is_part and skips_rejected)
            refuse_rejected(rows, sendable, rejected, skips_rejected)
        duplicates = None
        if not mapping.key:
            duplicates = DuplicateIndex(hashes.column("hash"), hashes.rows)
        for column, count in sorted(rounded.items()):
            note = f"rounded to the nearest double: {count} values of {column}"
            scan.notes.append(note)
            log.warning("%s: %s", source.what, note)
        payload_schema, why_not = payload_types.serialized(mapping.key_fields)
        if why_not is not None:
            scan.notes.append(why_not)
            log.info("%s: %s", source.what, why_not)
        undo.pop_all()
        return StagedBatch(
            scope=scope,
            batch_id=batch_id(scope, total, encoded.rows),
            rows_id=rows_id(total, encoded.rows),
            constants=constants,
            rows=rows,
            sendable=encoded.rows,
            rejected=rejected,
            skips_rejected=skips_rejected,
            encoded=encoded,
            hashes=hashes,
            duplicates=duplicates,
            spread=spread,
            has_row_tags=mapping.tags is not None,
            ledger=ledger,
            notes=tuple(scan.notes),
            no_retries=no_retries,
            has_row_backoffs=mapping.retry_backoff is not None,
            has_row_expiry=mapping.expires_at is not None,
            table_version=next(iter(scan.versions_read), None),
            on_changed=options.on_changed,
            payload_schema=payload_schema,
        )


def _empty_part(scope: KeyScope, options: RowOptions, ledger: str | None) -> StagedBatch:
    """Return a part without rows, whose columns are not known."""
    return StagedBatch(
        scope=scope,
        batch_id=batch_id(scope, 0, 0),
        rows_id=rows_id(0, 0),
        constants=Constants(),
        rows=0,
        sendable=0,
        rejected=RejectedRows(),
        skips_rejected=options.on_rejected == "skip",
        encoded=SpillBuffer(ENCODED_SCHEMA),
        hashes=SpillBuffer(HASHES_SCHEMA),
        ledger=ledger,
        on_changed=options.on_changed,
    )
