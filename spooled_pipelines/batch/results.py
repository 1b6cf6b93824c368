"""Jobs and their results as a table."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.ledger import REJECTED
from spooled_pipelines.rpc.convert import job_status_from
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import spooled_v1

_OURS = ("row", "job_id", "status", "error")


class ResultRows:
    """Collects jobs in the order they come; `table()` makes columns of their results."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._statuses: list[str] = []
        self._errors: list[str | None] = []
        self._results: list[dict[str, Any] | None] = []

    def add(self, job: spooled_v1.Job) -> None:
        self._ids.append(job.id)
        self._statuses.append(str(job_status_from(job.status)))
        self._errors.append(job.last_error or None)
        self._results.append(from_struct(job.result) if job.HasField("result") else None)

    def table(self, ledger: Any = None) -> Any:
        """One line per row of the ledger (a table), in its order; without one, a line per job.

        Columns: row (int64), job_id, status, error, then one per field of the results. A row
        that was rejected has the status "rejected" and its reason as the error.
        """
        rows: Any = pa.nulls(len(self._ids), pa.int64())
        ids: Any = pa.array(self._ids, pa.string())
        statuses: Any = pa.array(self._statuses, pa.string())
        errors: Any = pa.array(self._errors, pa.string())
        fields = self._fields()
        if ledger is not None:
            rows, ids = ledger.column("row"), ledger.column("job_id")
            place_of = {job_id: place for place, job_id in enumerate(self._ids)}
            places = pa.array([place_of.get(job_id) for job_id in ids.to_pylist()], pa.int64())
            statuses, errors = _of_rows(ledger, statuses.take(places), errors.take(places))
            fields = {name: column.take(places) for name, column in fields.items()}
        columns = [rows, ids, statuses, errors, *fields.values()]
        return pa.Table.from_arrays(columns, names=[*_OURS, *fields])

    def _fields(self) -> dict[str, Any]:
        """The results' fields by name; one that has a name of ours is called otherwise."""
        names: set[str] = set()
        for result in self._results:
            names.update(result or ())
        columns = {}
        # On the wire an object's fields have no order.
        for name in sorted(names):
            values = [None if result is None else result.get(name) for result in self._results]
            columns[_free(name, names)] = _column(values)
        return columns


def _of_rows(ledger: Any, statuses: Any, errors: Any) -> tuple[Any, Any]:
    """Rows without a job get their outcome from the ledger."""
    outcomes, reasons = ledger.column("outcome").to_pylist(), ledger.column("reason").to_pylist()
    if REJECTED not in outcomes:
        return statuses, errors
    told = [
        (REJECTED, reason) if outcome == REJECTED else (status, error)
        for outcome, reason, status, error in zip(
            outcomes, reasons, statuses.to_pylist(), errors.to_pylist(), strict=True
        )
    ]
    return (
        pa.array([status for status, _ in told], pa.string()),
        pa.array([error for _, error in told], pa.string()),
    )


def _free(name: str, names: set[str]) -> str:
    while name in _OURS or (name.startswith("result.") and name.removeprefix("result.") in _OURS):
        name = f"result.{name}"
        if name not in names:
            break
    return name


def _column(values: list[Any]) -> Any:
    """The values by inference; as JSON text where they have no common type."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())
