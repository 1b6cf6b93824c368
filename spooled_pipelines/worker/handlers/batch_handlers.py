"""Handlers of many jobs at once: an Arrow record batch of payloads, an outcome for each row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, get_args, overload

from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.rpc import tracing
from spooled_pipelines.types import RowSchema
from spooled_pipelines.worker.handlers.adapter import signature_of
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.outcome import (
    Outcome,
    PayloadMismatchError,
    RetryRules,
    columns_of,
    outcome_of_exception,
    outcome_of_return,
    outcome_of_row,
    outcomes_of_columns,
    rejected_result,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Or why there are none.
_Rows: TypeAlias = "pa.RecordBatch | Exception"
F = TypeVar("F", bound=Callable[..., Any])
ROWS_MAX = 10_000
# Of payloads in one call: an array of texts holds no more than twice as many.
_CALL_BYTES = 1 << 30
_MARK = "__spooled_batch__"


@dataclass(frozen=True)
class BatchOptions:
    """How jobs gather for one call: up to `max_rows`, or `max_wait` seconds after the first."""

    max_rows: int = 500
    max_wait: float = 0.05
    schema: pa.Schema | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_rows <= ROWS_MAX:
            raise InvalidArgumentError(f"max_rows must be 1 to {ROWS_MAX}, got {self.max_rows}")
        if not 0 <= self.max_wait <= 60:
            raise InvalidArgumentError(f"max_wait must be 0 to 60 seconds, got {self.max_wait}")


@overload
def batch_handler(function: F) -> F: ...
@overload
def batch_handler(
    *, max_rows: int = 500, max_wait: float = 0.05, schema: pa.Schema | None = None
) -> Callable[[F], F]: ...
def batch_handler(
    function: F | None = None,
    *,
    max_rows: int = 500,
    max_wait: float = 0.05,
    schema: pa.Schema | None = None,
) -> F | Callable[[F], F]:
    """Mark a function as a handler of many jobs: it gets their payloads as a record batch.

        @batch_handler(max_rows=1_000, max_wait=0.2)
        def score(rows: pa.RecordBatch):
            return pa.record_batch({"score": model.predict(rows)})

    It returns a record batch or table with a result for each row, or a list with an outcome for
    each row (a mapping, None, or an exception such as ``Retry(after=60)`` or ``Discard("why")``),
    or None: every row is done. What it raises fails every row of the call. A second parameter
    gets the list of the jobs, or of their contexts where it is a ``list[JobContext]``.

    Args:
        function: the handler, where the decorator is used without options.
        max_rows: jobs in one call, 1 to 10,000.
        max_wait: seconds that the first job of a call waits for others, 0 to 60.
        schema: of the record batch: these fields of the payloads, of these types. A payload with a
            value that would not arrive as it is goes to the dead letters. By default the types are
            those of the payloads; payloads that do not go together come in several calls.

    Raises:
        InvalidArgumentError: an option is outside its limits.
    """
    options = BatchOptions(max_rows, max_wait, schema)

    def mark(function: F) -> F:
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


def batch_options(function: Callable[..., object]) -> BatchOptions | None:
    """Return the options of a batch handler; None for one that takes a job at a time."""
    options: BatchOptions | None = getattr(function, _MARK, None)
    return options


class BatchHandlerCall:
    """Calls a batch handler with a group of jobs; returns their outcomes, in their order."""

    def __init__(
        self, function: Callable[..., object], options: BatchOptions, rules: RetryRules
    ) -> None:
        self._function = function
        self._schema = options.schema
        self._rules = rules
        signature = signature_of(function)
        second = list(signature.parameters.values())[1:2] if signature is not None else []
        self._wants_jobs = bool(second)
        self._wants_contexts = any(JobContext in get_args(each.annotation) for each in second)

    def run(self, contexts: Sequence[JobContext]) -> list[Outcome]:
        """Call it in this thread."""
        groups = [(group, self._run(group, rows)) for group, rows in self._with_rows(contexts)]
        return _in_order(contexts, groups)

    async def run_async(self, contexts: Sequence[JobContext]) -> list[Outcome]:
        """Await it in this event loop."""
        groups = [
            (group, await self._run_async(group, rows)) for group, rows in self._with_rows(contexts)
        ]
        return _in_order(contexts, groups)

    def _run(self, group: Sequence[JobContext], rows: _Rows) -> list[Outcome]:
        try:
            with tracing.handling_rows(context.job for context in group):
                value = self._call(rows, group)
        except BaseException as error:  # noqa: BLE001 - the boundary: a handler may raise anything
            return [outcome_of_exception(error, self._rules)] * len(group)
        return self._outcomes(value, group)

    async def _run_async(self, group: Sequence[JobContext], rows: _Rows) -> list[Outcome]:
        try:
            with tracing.handling_rows(context.job for context in group):
                value = await cast("Awaitable[object]", self._call(rows, group))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary: a handler may raise anything
            return [outcome_of_exception(error, self._rules)] * len(group)
        return self._outcomes(value, group)

    def _call(self, rows: _Rows, group: Sequence[JobContext]) -> object:
        if isinstance(rows, Exception):
            raise rows
        if self._wants_contexts:
            return self._function(rows, list(group))
        if self._wants_jobs:
            return self._function(rows, [context.job for context in group])
        return self._function(rows)

    def _with_rows(
        self, contexts: Sequence[JobContext]
    ) -> Iterator[tuple[Sequence[JobContext], _Rows]]:
        """Yield the jobs with their rows, those of each table by themselves."""
        groups: dict[RowSchema | None, list[JobContext]] = {}
        for context in contexts:
            groups.setdefault(context.schema, []).append(context)
        for schema, group in groups.items():
            yield from self._decoded(group, schema)

    def _decoded(
        self, group: Sequence[JobContext], schema: RowSchema | None
    ) -> list[tuple[Sequence[JobContext], _Rows]]:
        """Return the jobs with their rows; where those do not go together, half by half."""
        import pyarrow as pa
        from google.protobuf.message import DecodeError

        from spooled_pipelines.batch.decoding.payload_rows import decode_rows
        from spooled_pipelines.batch.values.exact_arrays import MisfitError

        errors = (
            pa.ArrowException,
            DecodeError,
            SpooledError,
            TypeError,
            ValueError,
            OverflowError,
        )
        try:
            table = None if schema is None else schema.arrow
        except SpooledError as error:
            return [(group, error)]
        try:
            payloads = [context.payload_bytes for context in group]
            if len(group) == 1 or sum(map(len, payloads)) <= _CALL_BYTES:
                return [(group, decode_rows(pa.array(payloads, pa.binary()), self._schema, table))]
        except errors as error:
            if len(group) == 1:
                # Arrow's own words may hold the value.
                reason = error if isinstance(error, MisfitError) else type(error).__name__
                return [(group, PayloadMismatchError(f"the payload does not fit a row: {reason}"))]
        half = len(group) // 2
        return self._decoded(group[:half], schema) + self._decoded(group[half:], schema)

    def _outcomes(self, value: object, group: Sequence[JobContext]) -> list[Outcome]:
        rows = len(group)
        if value is None:
            return [outcome_of_return(None)] * rows
        try:
            return self._outcome_of_each(value, rows, group[0].keeps_types)
        except BaseException as error:  # noqa: BLE001 - a value's methods are somebody's code
            return [outcome_of_exception(error, self._rules)] * rows

    def _outcome_of_each(self, value: object, rows: int, keeps_types: bool) -> list[Outcome]:
        if isinstance(value, CoroutineType):
            # Or Python would warn that nothing awaited it.
            value.close()
        columns = columns_of(value)
        if columns is not None and columns.num_rows == rows:
            return outcomes_of_columns(columns, keeps_types=keeps_types)
        if hasattr(value, "to_pylist"):
            value = value.to_pylist()
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            kind = type(value).__name__
            wrong = f"TypeError: the handler returned a {kind} for {rows} rows"
            error = f"{wrong}; it must return a record batch, a list or None"
            return [rejected_result(error)] * rows
        # By what comes out of it: a sequence's own `__len__` may say something else.
        outcomes = [
            outcome_of_row(each, self._rules, keeps_types=keeps_types)
            for each in islice(value, rows + 1)
        ]
        if len(outcomes) != rows or len(value) != rows:
            wrong = f"ValueError: the handler returned {len(value)} outcomes for {rows} rows"
            return [rejected_result(wrong)] * rows
        return outcomes


def _in_order(
    contexts: Sequence[JobContext], groups: list[tuple[Sequence[JobContext], list[Outcome]]]
) -> list[Outcome]:
    """Return the outcomes in the order of the jobs."""
    if len(groups) == 1:
        return groups[0][1]
    outcomes = {
        id(context): outcome
        for group, found in groups
        for context, outcome in zip(group, found, strict=True)
    }
    return [outcomes[id(context)] for context in contexts]
