"""The columns of tables as Dagster's asset pages show them."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pyarrow as pa


def column_schema(data: Any) -> dg.TableSchema | None:
    """Return the names and Arrow types of a table's columns; None if they are not known unread."""
    schema = getattr(data, "schema", None)
    if not isinstance(schema, pa.Schema):
        schema = _schema_of_frame(data)
    if schema is None:
        return None
    columns = [dg.TableColumn(field.name, str(field.type)) for field in schema]
    return dg.TableSchema(columns=columns)


def _schema_of_frame(data: Any) -> pa.Schema | None:
    if not hasattr(data, "head") or not hasattr(data, "columns"):
        return None
    try:
        return pa.table(data.head(100)).schema
    except (pa.ArrowException, TypeError, ValueError):
        # A column of different objects, or a lazy frame: the enqueue itself says what is wrong.
        return None
