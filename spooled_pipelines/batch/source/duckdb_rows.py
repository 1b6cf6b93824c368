"""DuckDB's relations and cursors: a relation is read as Arrow, a cursor by Python's values.

Neither says all of DuckDB's types; a column of one that would be changed is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import duckdb

    from spooled_pipelines.batch.source.row_filter import Opened, Scan

# What becomes of the types that Arrow's reader does not give as they are.
_CHANGED_BY_ARROW = {
    "time with time zone": "a time of day with a zone, and Arrow would drop its offset",
    "uhugeint": "of UHUGEINT, whose large numbers DuckDB gives to Arrow as negative ones",
    "bit": "of BIT, which DuckDB gives to Arrow as bytes of its own form",
    "variant": "of VARIANT, which DuckDB gives to Arrow as bytes of its own form",
}
_CHANGED_BY_CURSORS = {
    "interval": "of INTERVAL, of which a cursor gives a month as 30 days",
    "timestamp_ns": "of TIMESTAMP_NS, whose nanoseconds a cursor leaves out",
    "time_ns": "of TIME_NS, whose nanoseconds a cursor leaves out",
}
_WITH_INNER = ("list", "array", "struct", "map", "union")
# What a cursor gives for infinity, too.
_ENDS = {datetime.max, datetime.min, date.max, date.min}  # noqa: DTZ901
_AS_QUERY = "Pass the query itself, sql= and connection=, or the relation con.sql(...)"


def from_relation(relation: duckdb.DuckDBPyRelation, scan: Scan, rows: int) -> Opened:
    """Open a DuckDB relation, computed piece by piece."""
    columns = scan.columns_to_read(relation.columns)
    if columns is not None:
        quoted = (name.replace('"', '""') for name in columns)
        relation = relation.project(", ".join(f'"{name}"' for name in quoted))
    for name, kind in zip(relation.columns, relation.types, strict=True):
        _refuse_changed(name, kind, _CHANGED_BY_ARROW)
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    reader = read(rows)
    return scan.apply(reader.schema, iter(reader))


def check_cursor(description: Any) -> None:
    """Refuse the columns of a cursor whose values Python's types would change."""
    for name, kind, *_ in description:
        _refuse_changed(name, kind, _CHANGED_BY_CURSORS)


def check_values(names: list[str], columns: list[list[Any]], row: int) -> None:
    """Refuse times of a cursor that may be infinity; `row` is the first one's number."""
    for name, values in zip(names, columns, strict=True):
        if not any(isinstance(value, date) for value in values):
            continue
        for index, value in enumerate(values):
            if isinstance(value, date) and value in _ENDS:
                raise InvalidArgumentError(
                    f"column {name!r}, row {row + index}: {value}, which DuckDB's cursor gives for "
                    f"infinity as well. {_AS_QUERY}. Nothing was sent."
                )


def _refuse_changed(name: str, kind: Any, changed: dict[str, str]) -> None:
    for inner in _kinds_in(kind):
        if inner in changed:
            as_text = f'Select it as text, CAST("{name}" AS VARCHAR)'
            remedy = _AS_QUERY if inner.endswith("_ns") else as_text
            raise InvalidArgumentError(
                f"column {name!r} is {changed[inner]}. {remedy}. Nothing was sent."
            )


def _kinds_in(kind: Any) -> Iterator[str]:
    # Older versions of DuckDB describe a cursor's columns by texts.
    yield getattr(kind, "id", "")
    if getattr(kind, "id", "") in _WITH_INNER:
        for _, inner in kind.children:
            # Of an array one of them is its size.
            if hasattr(inner, "id"):
                yield from _kinds_in(inner)
