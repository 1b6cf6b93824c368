"""The first pass: read the whole source, check it, encode it, and put it aside.

Nothing is sent before the last row is checked, and what was checked is what will be sent: the
source is read once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypedDict

import pyarrow as pa

from spooled_pipelines.batch.encoding.column_mapping import (
    Constants,
    PayloadOption,
    TagsOption,
    make_mapping,
)
from spooled_pipelines.batch.encoding.rows import encode
from spooled_pipelines.batch.encoding.schema_check import payload_check
from spooled_pipelines.batch.encoding.values import LOSSY, OnLossy
from spooled_pipelines.batch.ledger import as_rejected, write_ledger
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import make_selection
from spooled_pipelines.batch.spill import Spool
from spooled_pipelines.batch.staging.chunks import Chunk, chunks
from spooled_pipelines.batch.staging.duplicates import Occurrences
from spooled_pipelines.batch.staging.idempotency import HASH_TYPE, hash_sum, row_hashes
from spooled_pipelines.batch.staging.key_scope import Scope, batch_id, generation_seed
from spooled_pipelines.batch.staging.schedule import Spreading, make_spreading
from spooled_pipelines.batch.writers import check_sink
from spooled_pipelines.errors import (
    EmptyTableError,
    InvalidArgumentError,
    RejectedRow,
    RowsRejectedError,
    SpooledError,
)
from spooled_pipelines.rpc import validation

OnRejected: TypeAlias = Literal["raise", "skip"]

_PIECES = pa.schema([("row", pa.int64()), ("piece", pa.binary())])
_HASHES = pa.schema([("hash", HASH_TYPE)])
_REJECTED = pa.schema([("row", pa.int64()), ("reason", pa.string())])
_EXAMPLES = 10


@dataclass(frozen=True)
class Options:
    """The arguments of `enqueue_batch` that say what is read (see `make_selection`), and how a row
    becomes a job (see `make_mapping`)."""

    columns: Sequence[str] | None = None
    where: Any = None
    index: bool = False
    sql: str | None = None
    connection: Any = None
    key: str | Sequence[str] | None = None
    payload: PayloadOption = None
    payload_schema: Any = None
    priority: int | str | None = None
    scheduled_at: datetime | str | None = None
    max_retries: int | str | None = None
    timeout_seconds: int | str | None = None
    tags: TagsOption = None
    spread: timedelta | None = None
    rate: float | None = None
    name: str | None = None
    on_rejected: OnRejected = "raise"
    on_lossy: OnLossy = "raise"
    # Where the data is a part of the batch: may have no rows, too.
    part_id: str | None = None
    # Where the ledger is to be kept.
    ledger: str | os.PathLike[str] | None = None


class JobOptions(TypedDict, total=False):
    """For those who pass them on: how a row becomes a job."""

    key: str | Sequence[str] | None
    payload: PayloadOption
    payload_schema: Any
    priority: int | str | None
    scheduled_at: datetime | str | None
    max_retries: int | str | None
    timeout_seconds: int | str | None
    tags: TagsOption
    spread: timedelta | None
    on_rejected: OnRejected
    on_lossy: OnLossy


class PartOptions(JobOptions, total=False):
    """What is read of a table, too."""

    columns: Sequence[str] | None
    where: Any
    index: bool
    sql: str | None
    connection: Any
    rate: float | None
    ledger: str | os.PathLike[str] | None


class RowOptions(PartOptions, total=False):
    """All of `Options` that a whole table has."""

    name: str | None


class Rejections:
    """Rows that cannot be jobs: how many, why, the first of them, and all of them put aside."""

    def __init__(self, listed_at: str | None = None) -> None:
        """`listed_at`: where an error lists all of them."""
        self.listed_at = listed_at
        self.reasons: Counter[str] = Counter()
        self.examples: list[RejectedRow] = []
        self._spool = Spool(_REJECTED)
        self._handed_on = False

    @property
    def count(self) -> int:
        return self.reasons.total()

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        if not rows:
            return
        ordered = sorted(rows)
        self.reasons.update(reason for _, reason in ordered)
        room = _EXAMPLES - len(self.examples)
        self.examples.extend(RejectedRow(row, reason) for row, reason in ordered[:room])
        columns = [[row for row, _ in ordered], [reason for _, reason in ordered]]
        self._spool.write(pa.record_batch(columns, schema=_REJECTED))

    def batches(self) -> Iterator[Any]:
        """All of them: row number and reason."""
        return self._spool.batches()

    def error(self, what: str, outcome: str, hint: str) -> RowsRejectedError:
        """Return the error that names them; `outcome` says what was sent, `hint` what to do."""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common(5))
        rows = ", ".join(str(example.row) for example in self.examples)
        first = (
            f"It is row {rows}, counted from 0"
            if self.count == 1
            else f"The first are the rows {rows}, counted from 0"
        )
        listed, list_hint = self._listed()
        # The list is the error's from now on, and goes with it.
        self._handed_on = True
        return RowsRejectedError(
            f"{what} ({reasons}). {first}{listed}. {outcome}",
            hint=f"{list_hint} {hint}".strip(),
            rejected=self.count,
            examples=self.examples,
            reasons=self.reasons,
            table=self._spool.table,
        )

    def _listed(self) -> tuple[str, str]:
        """Return where all of them are listed, for the message and for its hint."""
        table = "The error's table() lists all."
        if self.listed_at is None:
            return "", table
        try:
            write_ledger(map(as_rejected, self.batches()), self.listed_at)
        except (SpooledError, OSError) as error:
            return f"; {self.listed_at!r} cannot be written: {error}", table
        return f"; all of them are listed in {self.listed_at!r}", ""

    def close(self) -> None:
        if not self._handed_on:
            self._spool.close()


@dataclass(frozen=True)
class Prepared:
    """A checked and encoded table, ready to be sent. Close it.

    Attributes:
        scope: queue and name.
        batch_id: follows from the scope, and where it has no name from the rows.
        constants: what all jobs share.
        rows: rows of the table.
        sendable: those that can be jobs.
        rejections: the others.
        skips_rejected: whether to go on without rows that cannot be jobs.
        spreading: when each row is due, where it does not say so itself.
        tagged: whether rows bring their tags.
        ledger: where the ledger is to be kept, if anywhere.
    """

    scope: Scope
    batch_id: str
    constants: Constants
    rows: int
    sendable: int
    rejections: Rejections
    skips_rejected: bool
    pieces: Spool
    hashes: Spool
    occurrences: Occurrences | None
    spreading: Spreading | None
    tagged: bool
    ledger: str | None = None

    def chunks(self, generation: int = 0) -> Iterator[Chunk]:
        """What is to be sent, in the table's order, with the keys of this generation."""
        seed = generation_seed(self.batch_id, generation) if generation else None
        return chunks(
            self.pieces,
            self.hashes,
            self.occurrences,
            self.constants,
            seed,
            self.spreading,
            self.tagged,
        )

    def row_hashes(self) -> Iterator[Any]:
        """What each row's key is made of, in order."""
        return _column(self.hashes, "hash")

    def refuse_rejected(self) -> None:
        """RowsRejectedError where rows cannot be jobs and nobody said to go on without them."""
        _refuse_rejected(self.rows, self.sendable, self.rejections, self.skips_rejected)

    def close(self) -> None:
        self.pieces.close()
        self.hashes.close()
        self.rejections.close()
        if self.occurrences is not None:
            self.occurrences.close()


def prepare(data: Any, queue_name: str, options: Options, *, planning: bool = False) -> Prepared:
    """Read, check and encode all of `data`. Who is only `planning` hears of rejected rows too.

    Raises:
        InvalidArgumentError: an argument is wrong, the data cannot be read, or has no rows and is
            no part.
        LossyValueError: a payload cannot hold a value exactly.
        RowsRejectedError: rows cannot be jobs and `on_rejected` is "raise", or none can.
    """
    scope = Scope(validation.queue_name(queue_name), options.name, options.part_id)
    is_part = options.part_id is not None
    _one_of("on_rejected", options.on_rejected, ("raise", "skip"))
    _check_on_lossy(options.on_lossy)
    ledger = None
    if options.ledger is not None:
        ledger = check_sink(options.ledger, ("parquet", "arrow"))
    check_payload = payload_check(options.payload_schema)
    spreading = make_spreading(options.spread, options.rate, options.scheduled_at)
    selection = make_selection(options.columns, options.where, options.index)
    try:
        source = open_source(data, selection, sql=options.sql, connection=options.connection)
    except EmptyTableError:
        if not is_part:
            raise
        return _empty(scope, options, ledger)
    with ExitStack() as undo:
        pieces, hashes, rejections = Spool(_PIECES), Spool(_HASHES), Rejections(ledger)
        for opened in (pieces, hashes, rejections):
            undo.callback(opened.close)
        schema = source.schema
        mapping = _mapping(schema, options)
        constants = mapping.constants
        rows = 0
        total = 0
        for batch in source.batches:
            if batch.schema is not schema and not batch.schema.equals(schema):
                # Columns of an iterable may get their types later; they have to suit even so.
                schema = batch.schema
                mapping = _mapping(schema, options)
            made = encode(batch, mapping, rows, options.on_lossy, check_payload)
            rejections.add(made.rejected)
            rows += batch.num_rows
            if len(made.rows):
                seed = scope.seed if mapping.key else scope.content_seed
                hashed = row_hashes(made.identity, seed)
                total += hash_sum(hashed)
                pieces.write(pa.record_batch([made.rows, made.pieces], schema=_PIECES))
                hashes.write(pa.record_batch([hashed], schema=_HASHES))
        if not is_part:
            _refuse_nothing(source.what, rows)
        if not planning and rejections.count:
            sendable = pieces.rows or (is_part and options.on_rejected == "skip")
            _refuse_rejected(rows, sendable, rejections, options.on_rejected == "skip")
        occurrences = None
        if not mapping.key:
            occurrences = Occurrences(_column(hashes, "hash"), hashes.rows)
        undo.pop_all()
        return Prepared(
            scope=scope,
            batch_id=batch_id(scope, total, pieces.rows),
            constants=constants,
            rows=rows,
            sendable=pieces.rows,
            rejections=rejections,
            skips_rejected=options.on_rejected == "skip",
            pieces=pieces,
            hashes=hashes,
            occurrences=occurrences,
            spreading=spreading,
            tagged=mapping.tags is not None,
            ledger=ledger,
        )


def _empty(scope: Scope, options: Options, ledger: str | None) -> Prepared:
    """A part without rows, whose columns are not known."""
    return Prepared(
        scope=scope,
        batch_id=batch_id(scope, 0, 0),
        constants=Constants(),
        rows=0,
        sendable=0,
        rejections=Rejections(),
        skips_rejected=options.on_rejected == "skip",
        pieces=Spool(_PIECES),
        hashes=Spool(_HASHES),
        occurrences=None,
        spreading=None,
        tagged=False,
        ledger=ledger,
    )


def _mapping(schema: Any, options: Options) -> Any:
    for column in options.on_lossy if isinstance(options.on_lossy, Mapping) else ():
        # What a function makes has names of its own.
        if column not in schema.names and not callable(options.payload):
            raise InvalidArgumentError(f"on_lossy: there is no column {column!r}.")
    return make_mapping(
        schema,
        key=options.key,
        payload=options.payload,
        priority=options.priority,
        # Where rows are spread, it is where the first of them begins.
        scheduled_at=None if options.spread or options.rate else options.scheduled_at,
        max_retries=options.max_retries,
        timeout_seconds=options.timeout_seconds,
        tags=options.tags,
    )


def _refuse_nothing(what: str, rows: int) -> None:
    if not rows:
        raise EmptyTableError(f"{what} has no rows, so there is nothing to enqueue.")


def _refuse_rejected(
    rows: int, sendable: int, rejections: Rejections, skips_rejected: bool
) -> None:
    if not sendable:
        outcome = "None of them can be a job, so nothing was sent."
        raise rejections.error(f"all {rows} rows are rejected", outcome, "Correct the data.")
    if rejections.count and not skips_rejected:
        hint = (
            'Correct them, or pass on_rejected="skip" to enqueue the others and find these in the '
            "batch's ledger."
        )
        what = f"{rejections.count} of {rows} rows cannot be jobs"
        raise rejections.error(what, "Nothing was sent.", hint)


def _column(spool: Spool, name: str) -> Iterator[Any]:
    return (batch.column(name) for batch in spool.batches())


def _check_on_lossy(on_lossy: OnLossy) -> None:
    if not isinstance(on_lossy, Mapping):
        _one_of("on_lossy", on_lossy, LOSSY)
        return
    for column, lossy in on_lossy.items():
        _one_of(f"on_lossy[{column!r}]", lossy, LOSSY)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise InvalidArgumentError(f"{name} is {choices}, not {value!r}.")
