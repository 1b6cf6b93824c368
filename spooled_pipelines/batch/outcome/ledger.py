"""The outcome of each row: its job, and whether this upload created it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.outcome.writers import write_stream
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.errors import (
    InvalidArgumentError,
    RejectedRow,
    RowsRejectedError,
    SpooledError,
)

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("key", pa.string()),
        ("job_id", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
    ]
)
CREATED, DUPLICATE, REJECTED = "created", "duplicate", "rejected"
# The reasons of duplicates that have another payload than their job had: the job kept it, or has
# the row's now.
CHANGED, REPLACED = "changed", "replaced"
_REJECTED_SCHEMA = pa.schema([("row", pa.int64()), ("reason", pa.string())])
_REJECTED_BYTES = 1 << 20
_EXAMPLES = 10


@dataclass(frozen=True)
class ChunkResult:
    """The server's answer to the rows of one chunk.

    Attributes:
        job_ids: one per row; empty where it was refused.
        duplicates: indices in the chunk of rows that were jobs already.
        changed: those of them that have another payload than their job had.
        replaced: those of `changed` whose payload their job has now.
        rejected: indices of rows that the server refused, and why.
    """

    job_ids: list[str]
    duplicates: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)


class RejectedRows:
    """Rows that cannot be jobs: how many, why, the first of them, and all of them on the disk."""

    def __init__(self, listed_at: str | None = None) -> None:
        """Begin without rows; an error lists all of them at the path `listed_at`."""
        self.listed_at = listed_at
        self.reasons: Counter[str] = Counter()
        self.examples: list[RejectedRow] = []
        self._buffer = SpillBuffer(_REJECTED_SCHEMA)
        self._belongs_to_error = False

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.reasons.total()

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        """Add rows by number and reason."""
        if not rows:
            return
        ordered = sorted(rows)
        self.reasons.update(reason for _, reason in ordered)
        missing = _EXAMPLES - len(self.examples)
        self.examples.extend(RejectedRow(row, reason) for row, reason in ordered[:missing])
        columns = [[row for row, _ in ordered], [reason for _, reason in ordered]]
        self._buffer.write(pa.record_batch(columns, schema=_REJECTED_SCHEMA))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all of them as lines of a ledger."""
        return map(rejected_rows_batch, self._buffer.batches())

    def error(self, what: str, outcome: str, hint: str) -> RowsRejectedError:
        """Return the error that names them; `outcome` says what was sent, `hint` what to do."""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common(5))
        rows = ", ".join(str(example.row) for example in self.examples)
        first = (
            f"It is row {rows}, counted from 0"
            if self.count == 1
            else f"The first are the rows {rows}, counted from 0"
        )
        listed, list_hint = self._write_list()
        # The list is the error's from now on, and goes with it.
        self._belongs_to_error = True
        return RowsRejectedError(
            f"{what} ({reasons}). {first}{listed}. {outcome}",
            hint=f"{list_hint} {hint}".strip(),
            rejected=self.count,
            examples=self.examples,
            reasons=self.reasons,
            table=self._buffer.table,
        )

    def _write_list(self) -> tuple[str, str]:
        """Write the list where it is wanted; say where it is, in the message and in its hint."""
        table = "The error's table() lists all."
        if self.listed_at is None:
            return "", table
        try:
            write_ledger(self.batches(), self.listed_at)
        except (SpooledError, OSError) as error:
            return f"; {self.listed_at!r} cannot be written: {error}", table
        return f"; all of them are listed in {self.listed_at!r}", ""

    def close(self) -> None:
        """Delete the list, unless an error has it."""
        if not self._belongs_to_error:
            self._buffer.close()


class AnyLedger(ABC):
    """A ledger, wherever it is kept."""

    @abstractmethod
    def reader(self) -> pa.RecordBatchReader:
        """Return all rows, in the table's order."""

    def table(self) -> pa.Table:
        """Return all rows in memory."""
        return self.reader().read_all()

    def job_ids(self) -> Iterator[str]:
        """Yield the id of every row's job; one that several rows share comes several times."""
        return _job_ids(self.reader())


class Ledger(AnyLedger):
    """A ledger that grows with each acknowledged chunk, in flat memory."""

    def __init__(self) -> None:
        self.created = 0
        self.duplicates = 0
        self.changed = 0
        self.replaced = 0
        self.rejected = 0
        self._sent = SpillBuffer(SCHEMA)
        self._not_sent = SpillBuffer(SCHEMA, _REJECTED_BYTES)

    @property
    def acknowledged(self) -> int:
        """Rows that the server has answered."""
        return self.created + self.duplicates + self.rejected

    def add(self, rows: pa.Int64Array, keys: pa.BinaryArray, result: ChunkResult) -> None:
        """Add the rows of a chunk, by number and key."""
        count = len(rows)
        outcomes: pa.StringArray = pa.repeat(pa.scalar(CREATED), count)
        reasons: pa.StringArray = pa.nulls(count, pa.string())
        if len(result.duplicates) == count and not result.changed:
            outcomes = pa.repeat(pa.scalar(DUPLICATE), count)
        elif result.duplicates or result.rejected:
            outcomes, reasons = _mixed_outcomes(count, result)
        job_ids = pa.array(result.job_ids, pa.string())
        if result.rejected:
            job_ids = pc.if_else(pc.equal(job_ids, ""), pa.scalar(None, pa.string()), job_ids)
        columns = [rows, pc.cast(keys, "string"), job_ids, outcomes, reasons]
        self._sent.write(pa.record_batch(columns, schema=SCHEMA))
        self.duplicates += len(result.duplicates)
        self.changed += len(result.changed)
        self.replaced += len(result.replaced)
        self.rejected += len(result.rejected)
        self.created += count - len(result.duplicates) - len(result.rejected)

    def add_rejected(self, rejected: RejectedRows) -> None:
        """Add the rows that were not sent."""
        for record_batch in rejected.batches():
            self._not_sent.write(record_batch)
        self.rejected += rejected.count

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows, in the table's order."""
        merged = merge_sorted(self._sent.batches(), self._not_sent.batches())
        return pa.RecordBatchReader.from_batches(SCHEMA, merged)

    def rejected_rows(self) -> Iterator[tuple[int, str]]:
        """Yield number and reason of each row that the server refused."""
        for record_batch in self._sent.batches():
            refused = record_batch.filter(pc.equal(record_batch.column("outcome"), REJECTED))
            for row, reason in zip(refused.column("row"), refused.column("reason"), strict=True):
                yield row.as_py(), reason.as_py()

    def changed_rows(self) -> Iterator[list[int]]:
        """Yield the numbers of rows that have another payload than their job, some at a time."""
        for record_batch in self._sent.batches():
            changed = record_batch.filter(pc.equal(record_batch.column("reason"), CHANGED))
            yield changed.column("row").to_pylist()

    def job_ids(self) -> Iterator[str]:
        """Yield the id of every row's job; one that several rows share comes several times."""
        return _job_ids(self._sent.batches())

    def close(self) -> None:
        """Delete the lines."""
        self._sent.close()
        self._not_sent.close()


class PartLedgers(AnyLedger):
    """The ledgers of a batch's parts as one, in the order of the parts' ids."""

    def __init__(self, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = ledgers

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows; a row's number counts within its part, named by column `part_id`."""
        schema = SCHEMA.append(pa.field("part_id", pa.string()))
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for part_id, ledger in sorted(self._ledgers.items()):
            for record_batch in ledger.reader():
                part_ids = pa.repeat(pa.scalar(part_id), record_batch.num_rows)
                yield pa.record_batch([*record_batch.columns, part_ids], schema=schema)

    def job_ids(self) -> Iterator[str]:
        """Yield the id of every row's job."""
        return chain.from_iterable(ledger.job_ids() for ledger in self._ledgers.values())


class LedgerFile(AnyLedger):
    """A ledger in a file that an enqueue wrote (`ledger=`), maybe in another process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows, in the table's order.

        Raises:
            SourceError: the file cannot be read.
            InvalidArgumentError: it is not a ledger.
        """
        source = open_source(self.path)
        if not source.schema.equals(SCHEMA):
            raise InvalidArgumentError(
                f"{self.path!r} is not a ledger: it has the columns "
                f"{', '.join(source.schema.names)}"
            )
        return pa.RecordBatchReader.from_batches(SCHEMA, source.batches)


def write_ledger(record_batches: Iterable[pa.RecordBatch], path: str) -> None:
    """Keep a ledger's record batches at a path or URI."""
    write_stream(pa.RecordBatchReader.from_batches(SCHEMA, record_batches), path)


def rejected_rows_batch(record_batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows by number and reason as lines of a ledger."""
    rows = record_batch.num_rows
    nulls = pa.nulls(rows, pa.string())
    outcomes = pa.repeat(pa.scalar(REJECTED), rows)
    columns = [record_batch.column("row"), nulls, nulls, outcomes, record_batch.column("reason")]
    return pa.record_batch(columns, schema=SCHEMA)


def merge_sorted(
    first: Iterator[pa.RecordBatch], second: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Merge two streams that are each ordered by row."""
    waiting: pa.Table = SCHEMA.empty_table()
    for record_batch in first:
        last = record_batch.column("row")[-1]
        while not waiting.num_rows or pc.less_equal(waiting.column("row")[-1], last).as_py():
            more = next(second, None)
            if more is None:
                break
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([more])])
        due = pc.sum(pc.less(waiting.column("row"), last)).as_py() or 0
        if not due:
            yield record_batch
            continue
        both = pa.concat_tables([pa.Table.from_batches([record_batch]), waiting.slice(0, due)])
        waiting = waiting.slice(due)
        yield from both.sort_by("row").combine_chunks().to_batches()
    yield from waiting.to_batches()
    yield from second


def _job_ids(record_batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    for record_batch in record_batches:
        yield from record_batch.column("job_id").drop_null().to_pylist()


def _mixed_outcomes(count: int, result: ChunkResult) -> tuple[pa.StringArray, pa.StringArray]:
    outcomes: list[Any] = [CREATED] * count
    reasons: list[str | None] = [None] * count
    for index in result.duplicates:
        outcomes[index] = DUPLICATE
    for index in result.changed:
        reasons[index] = CHANGED
    for index in result.replaced:
        reasons[index] = REPLACED
    for index, reason in result.rejected:
        outcomes[index], reasons[index] = REJECTED, reason
    return pa.array(outcomes, pa.string()), pa.array(reasons, pa.string())
