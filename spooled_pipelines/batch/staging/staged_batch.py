"""A table that is read, checked and encoded, and not yet sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.column_mapping import Constants
from spooled_pipelines.batch.encoding.columns import join_columns
from spooled_pipelines.batch.options.row_options import OnChanged
from spooled_pipelines.batch.outcome.ledger import RejectedRows
from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.batch.staging.chunks import Chunk, cut_into_chunks
from spooled_pipelines.batch.staging.duplicates import DuplicateIndex
from spooled_pipelines.batch.staging.idempotency import (
    HASH_TYPE,
    KEY_CHARACTERS,
    KeyScope,
    generation_seed,
    key_texts,
    row_hashes,
)
from spooled_pipelines.batch.staging.schedule import ScheduleSpread

ENCODED_SCHEMA = pa.schema([("row", pa.int64()), ("encoded", pa.binary())])
HASHES_SCHEMA = pa.schema([("hash", HASH_TYPE)])


@dataclass(frozen=True)
class StagedBatch:
    """A checked and encoded table, ready to be sent. Close it.

    Attributes:
        scope: queue and name.
        batch_id: follows from the scope, and where it has no name from the rows.
        rows_id: follows from the rows alone.
        constants: what all jobs share.
        rows: rows of the table.
        sendable: those that can be jobs.
        rejected: the others.
        skips_rejected: whether to go on without rows that cannot be jobs.
        encoded: number and wire bytes of the rows that can be jobs.
        hashes: of the same rows.
        duplicates: where the same hash came before, unless the rows have a key.
        spread: when each row is due, where it does not say so itself.
        has_row_tags: whether rows bring their tags.
        ledger: where the ledger is to be kept, if anywhere.
        notes: what people should know of how the table was read.
        no_retries: whether some of the jobs are to have no retries.
        has_row_expiry: whether rows bring a time by which they have to start.
        has_row_backoffs: whether rows bring how long they wait before their retries.
        table_version: of a lake table: the version that was read.
        on_changed: what to do with rows that have the key of a job and another payload.
        payload_schema: the payloads' Arrow schema as an IPC message, if it can be kept.
    """

    scope: KeyScope
    batch_id: str
    rows_id: str
    constants: Constants
    rows: int
    sendable: int
    rejected: RejectedRows
    skips_rejected: bool
    encoded: SpillBuffer
    hashes: SpillBuffer
    duplicates: DuplicateIndex | None = None
    spread: ScheduleSpread | None = None
    has_row_tags: bool = False
    ledger: str | None = None
    notes: tuple[str, ...] = ()
    no_retries: bool = False
    has_row_backoffs: bool = False
    has_row_expiry: bool = False
    table_version: int | None = None
    on_changed: OnChanged = "keep"
    payload_schema: bytes = b""

    def chunks(self, generation: int = 0) -> Iterator[Chunk]:
        """Yield what is to be sent, in the table's order, with the keys of this generation."""
        seed = generation_seed(self.batch_id, generation) if generation else None
        key_prefix = protobuf_wire.IDEMPOTENCY_KEY + protobuf_wire.varint(KEY_CHARACTERS)
        if self.constants.scheduled_at is not None:
            # A JobChunk has no default for this one, so every row says it.
            due = self.constants.scheduled_at.SerializeToString()
            key_prefix = protobuf_wire.bytes_field(protobuf_wire.SCHEDULED_AT, due) + key_prefix
        number = first = 0
        for record_batch, base in zip(self.encoded.batches(), self.row_hashes(), strict=True):
            hashes = base
            if self.duplicates is not None:
                hashes = self.duplicates.make_distinct(hashes, first)
            if seed is not None:
                hashes = row_hashes(hashes, seed)
            keys = key_texts(hashes)
            columns = [record_batch.column("encoded"), key_prefix, keys]
            if self.spread is not None:
                columns.append(self.spread.due(hashes, first))
            encoded_rows = join_columns(columns, record_batch.num_rows)
            rows = record_batch.column("row")
            for chunk in cut_into_chunks(
                rows, keys, encoded_rows, number, has_row_tags=self.has_row_tags
            ):
                yield chunk
                number += 1
            first += record_batch.num_rows

    def row_hashes(self) -> Iterator[pa.FixedSizeBinaryArray]:
        """Yield what each row's key is made of, in order."""
        return self.hashes.column("hash")

    def refuse_rejected(self) -> None:
        """Raise RowsRejectedError where rows cannot be jobs and are not to be skipped."""
        refuse_rejected(self.rows, self.sendable, self.rejected, self.skips_rejected)

    def close(self) -> None:
        """Delete the staged rows."""
        self.encoded.close()
        self.hashes.close()
        self.rejected.close()
        if self.duplicates is not None:
            self.duplicates.close()


def refuse_rejected(rows: int, sendable: int, rejected: RejectedRows, skips_rejected: bool) -> None:
    """Raise RowsRejectedError where no row can be a job, or some cannot and are not skipped."""
    if not sendable:
        outcome = "None of them can be a job, so nothing was sent."
        raise rejected.error(f"all {rows} rows are rejected", outcome, "Correct the data.")
    if rejected.count and not skips_rejected:
        hint = (
            'Correct them, or pass on_rejected="skip" to enqueue the others and find these in the '
            "batch's ledger."
        )
        what = f"{rejected.count} of {rows} rows cannot be jobs"
        raise rejected.error(what, "Nothing was sent.", hint)
