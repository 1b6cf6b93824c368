"""What became of each row: its job, and whether this upload made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.spill import Spool
from spooled_pipelines.batch.staging.chunks import Chunk, key_column
from spooled_pipelines.batch.writers import write_stream
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spooled_pipelines.batch.staging.prepare import Rejections

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
_LEFT_OUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Answers:
    """What the server said to the rows of one chunk.

    Attributes:
        job_ids: one per row; empty where it was refused.
        duplicates: places in the chunk of rows that were jobs already.
        rejected: places of rows that the server refused, and why.
    """

    job_ids: list[str]
    duplicates: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)


class Ledger:
    """Grows with each acknowledged chunk; small in memory, however long the table is."""

    def __init__(self) -> None:
        self.created = 0
        self.duplicates = 0
        self.rejected = 0
        self._spool = Spool(SCHEMA)
        self._left_out = Spool(SCHEMA, _LEFT_OUT_BYTES)

    @property
    def acknowledged(self) -> int:
        """Rows that the server has answered."""
        return self.created + self.duplicates + self.rejected

    def add(self, chunk: Chunk, answers: Answers) -> None:
        """The rows of a chunk."""
        count = len(chunk.rows)
        outcomes: Any = pa.repeat(pa.scalar(CREATED), count)
        reasons: Any = pa.nulls(count, pa.string())
        if len(answers.duplicates) == count:
            outcomes = pa.repeat(pa.scalar(DUPLICATE), count)
        elif answers.duplicates or answers.rejected:
            outcomes, reasons = _told_apart(count, answers)
        ids = pa.array(answers.job_ids, pa.string())
        if answers.rejected:
            ids = pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)
        columns = [chunk.rows, key_column(chunk.keys), ids, outcomes, reasons]
        self._spool.write(pa.record_batch(columns, schema=SCHEMA))
        self.duplicates += len(answers.duplicates)
        self.rejected += len(answers.rejected)
        self.created += count - len(answers.duplicates) - len(answers.rejected)

    def add_rejected(self, rejections: Rejections) -> None:
        """The rows that were not sent."""
        for batch in rejections.batches():
            self._left_out.write(as_rejected(batch))
        self.rejected += rejections.count

    def reader(self) -> Any:
        """All rows, in the table's order, as a RecordBatchReader."""
        batches = in_order(self._spool.batches(), self._left_out.batches())
        return pa.RecordBatchReader.from_batches(SCHEMA, batches)

    def table(self) -> Any:
        """The same in memory."""
        return self.reader().read_all()

    def rejected_rows(self) -> Iterator[tuple[int, str]]:
        """Number and reason of each row that is no job."""
        for batch in self._spool.batches():
            refused = batch.filter(pc.equal(batch.column("outcome"), REJECTED))
            for row, reason in zip(refused.column("row"), refused.column("reason"), strict=True):
                yield row.as_py(), reason.as_py()

    def close(self) -> None:
        """Let go of what was put aside."""
        self._spool.close()
        self._left_out.close()

    def job_ids(self) -> Iterator[str]:
        """The id of every row's job; one that several rows share comes several times."""
        for batch in self._spool.batches():
            yield from batch.column("job_id").drop_null().to_pylist()


class PartLedgers:
    """The ledgers of a batch's parts as one, in the order of the parts' ids."""

    def __init__(self, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = ledgers

    def reader(self) -> Any:
        """All rows; a row's number is that within its part, which the column `part_id` names."""
        schema = SCHEMA.append(pa.field("part_id", pa.string()))
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def table(self) -> Any:
        """The same in memory."""
        return self.reader().read_all()

    def _batches(self, schema: Any) -> Iterator[Any]:
        for part_id, ledger in sorted(self._ledgers.items()):
            for batch in ledger.reader():
                part_ids = pa.repeat(pa.scalar(part_id), batch.num_rows)
                yield pa.record_batch([*batch.columns, part_ids], schema=schema)

    def job_ids(self) -> Iterator[str]:
        """The id of every row's job."""
        return chain.from_iterable(ledger.job_ids() for ledger in self._ledgers.values())


class KeptLedger:
    """A ledger in a file that an enqueue wrote (`ledger=`), maybe elsewhere."""

    def __init__(self, path: str) -> None:
        self.path = path

    def reader(self) -> Any:
        """All rows, in the table's order.

        Raises:
            SourceError: the file cannot be read.
            InvalidArgumentError: it is no ledger.
        """
        source = open_source(self.path)
        if not source.schema.equals(SCHEMA):
            raise InvalidArgumentError(
                f"{self.path!r} is no ledger: it has the columns {', '.join(source.schema.names)}"
            )
        return pa.RecordBatchReader.from_batches(SCHEMA, source.batches)

    def table(self) -> Any:
        """The same in memory."""
        return self.reader().read_all()

    def job_ids(self) -> Iterator[str]:
        """The id of every row's job."""
        for batch in self.reader():
            yield from batch.column("job_id").drop_null().to_pylist()


AnyLedger: TypeAlias = Ledger | PartLedgers | KeptLedger


def write_ledger(batches: Iterator[Any], path: str) -> None:
    """Keep a ledger's batches at a path or URI."""
    write_stream(pa.RecordBatchReader.from_batches(SCHEMA, batches), path)


def as_rejected(batch: Any) -> Any:
    """Rows by number and reason as lines of a ledger."""
    none = pa.nulls(batch.num_rows, pa.string())
    outcome = pa.repeat(pa.scalar(REJECTED), batch.num_rows)
    columns = [batch.column("row"), none, none, outcome, batch.column("reason")]
    return pa.record_batch(columns, schema=SCHEMA)


def in_order(first: Iterator[Any], second: Iterator[Any]) -> Iterator[Any]:
    """Two streams that are each ordered by row as one that is."""
    held: Any = SCHEMA.empty_table()
    for batch in first:
        last = batch.column("row")[-1]
        while not held.num_rows or pc.less_equal(held.column("row")[-1], last).as_py():
            more = next(second, None)
            if more is None:
                break
            held = pa.concat_tables([held, pa.Table.from_batches([more])])
        due = pc.sum(pc.less(held.column("row"), last)).as_py() or 0
        if not due:
            yield batch
            continue
        both = pa.concat_tables([pa.Table.from_batches([batch]), held.slice(0, due)])
        held = held.slice(due)
        yield from both.sort_by("row").combine_chunks().to_batches()
    yield from held.to_batches()
    yield from second


def _told_apart(count: int, answers: Answers) -> tuple[Any, Any]:
    outcomes = [CREATED] * count
    reasons: list[str | None] = [None] * count
    _put(outcomes, ((place, DUPLICATE) for place in answers.duplicates))
    _put(outcomes, ((place, REJECTED) for place, _ in answers.rejected))
    _put(reasons, answers.rejected)
    return pa.array(outcomes, pa.string()), pa.array(reasons, pa.string())


def _put(column: list[Any], values: Iterable[tuple[int, Any]]) -> None:
    for place, value in values:
        column[place] = value
