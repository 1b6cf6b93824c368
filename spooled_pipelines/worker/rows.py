"""Handlers of many jobs at once: an Arrow record batch of payloads, an outcome for each row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import tracing
from spooled_pipelines.types import Job
from spooled_pipelines.worker.outcome import (
    Outcome,
    PayloadMisfitError,
    RetryRules,
    outcome_of_exception,
    outcome_of_return,
    refused,
)

if TYPE_CHECKING:
    import pyarrow as pa

F = TypeVar("F", bound=Callable[..., Any])
ROWS_MAX = 10_000
_MARK = "__spooled_rows__"


@dataclass(frozen=True)
class RowsOptions:
    """How jobs gather for one call: up to `max_rows`, or `max_wait` seconds after the first."""

    max_rows: int = 500
    max_wait: float = 0.05
    schema: Any = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_rows <= ROWS_MAX:
            raise InvalidArgumentError(f"max_rows {self.max_rows} is not within 1 to {ROWS_MAX}")
        if not 0 <= self.max_wait <= 60:
            raise InvalidArgumentError(f"max_wait {self.max_wait} is not within 0 to 60 seconds")


@overload
def batch_handler(function: F) -> F: ...
@overload
def batch_handler(
    *, max_rows: int = 500, max_wait: float = 0.05, schema: pa.Schema | None = None
) -> Callable[[F], F]: ...
def batch_handler(function: Any = None, **options: Any) -> Any:
    """Mark a function as a handler of many jobs: it gets their payloads as a record batch.

        @batch_handler(max_rows=1_000, max_wait=0.2)
        def score(rows: pa.RecordBatch):
            return pa.record_batch({"score": model.predict(rows)})

    It returns a record batch or table with a result for each row, or a list with an outcome for
    each row (a mapping, None, or an exception such as ``Retry(after=60)`` or ``Discard("why")``),
    or None: every row is done. What it raises fails every row of the call. A second parameter
    gets the list of the jobs.

    Args:
        max_rows: jobs in one call, 1 to 10,000.
        max_wait: seconds that the first job of a call waits for others, 0 to 60.
        schema: of the record batch; a payload that does not fit it goes to the dead letters. By
            default the types are what the payloads hold; where those do not go together, they
            come in several calls.

    Raises:
        InvalidArgumentError: an option is outside its limits.
    """
    made = RowsOptions(**options)

    def mark(function: F) -> F:
        setattr(function, _MARK, made)
        return function

    return mark if function is None else mark(function)


def options_of(handler: Callable[..., Any]) -> RowsOptions | None:
    """How a handler wants its rows; None where it takes one job at a time."""
    return getattr(handler, _MARK, None)


class RowsCall:
    """Calls a handler of rows with a lot of jobs, and tells the outcome of each, in their order."""

    def __init__(self, handler: Callable[..., Any], options: RowsOptions, rules: RetryRules):
        self._handler = handler
        self._schema = options.schema
        self._rules = rules
        self._wants_jobs = len(inspect.signature(handler).parameters) > 1

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """In this thread."""
        outcomes: list[Outcome] = []
        for lot, rows in self._lots(jobs):
            if isinstance(rows, PayloadMisfitError):
                outcomes += [outcome_of_exception(rows, self._rules)] * len(lot)
                continue
            try:
                with tracing.handling_rows(lot):
                    value = self._call(rows, lot)
            except BaseException as error:  # noqa: BLE001 - the boundary: a handler may raise anything
                outcomes += [outcome_of_exception(error, self._rules)] * len(lot)
            else:
                outcomes += self._outcomes(value, len(lot))
        return outcomes

    async def awaited(self, jobs: Sequence[Job]) -> list[Outcome]:
        """In this event loop."""
        outcomes: list[Outcome] = []
        for lot, rows in self._lots(jobs):
            if isinstance(rows, PayloadMisfitError):
                outcomes += [outcome_of_exception(rows, self._rules)] * len(lot)
                continue
            try:
                with tracing.handling_rows(lot):
                    value = await self._call(rows, lot)
            except Exception as error:  # noqa: BLE001 - the boundary: a handler may raise anything
                outcomes += [outcome_of_exception(error, self._rules)] * len(lot)
            else:
                outcomes += self._outcomes(value, len(lot))
        return outcomes

    def _call(self, rows: pa.RecordBatch, jobs: Sequence[Job]) -> Any:
        return self._handler(rows, list(jobs)) if self._wants_jobs else self._handler(rows)

    def _lots(
        self, jobs: Sequence[Job]
    ) -> list[tuple[Sequence[Job], pa.RecordBatch | PayloadMisfitError]]:
        """The jobs with their rows; where those do not go together, half by half."""
        import pyarrow as pa

        try:
            return [(jobs, _record_batch([job.payload for job in jobs], self._schema))]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            if len(jobs) == 1:
                kind = type(error).__name__
                return [(jobs, PayloadMisfitError(f"the payload does not fit a row: {kind}"))]
        half = len(jobs) // 2
        return self._lots(jobs[:half]) + self._lots(jobs[half:])

    def _outcomes(self, value: Any, rows: int) -> list[Outcome]:
        if value is None:
            return [outcome_of_return(None)] * rows
        if hasattr(value, "to_pylist"):
            value = value.to_pylist()
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            kind = type(value).__name__
            wrong = f"TypeError: the handler returned a {kind} for {rows} rows"
            return [refused(f"{wrong}; it should return a record batch, a list or None")] * rows
        if len(value) != rows:
            wrong = f"ValueError: the handler returned {len(value)} outcomes for {rows} rows"
            return [refused(wrong)] * rows
        return [
            outcome_of_exception(each, self._rules)
            if isinstance(each, BaseException)
            else outcome_of_return(each)
            for each in value
        ]


def _record_batch(payloads: list[dict[str, Any]], schema: pa.Schema | None) -> pa.RecordBatch:
    import pyarrow as pa

    kind = None if schema is None else pa.struct(list(schema))
    rows = pa.array(payloads, type=kind)
    if pa.types.is_null(rows.type) or rows.type.num_fields == 0:
        # Payloads without any field: rows all the same.
        return pa.RecordBatch.from_struct_array(pa.array(payloads, pa.struct([("", pa.null())])))
    return pa.RecordBatch.from_struct_array(rows)
