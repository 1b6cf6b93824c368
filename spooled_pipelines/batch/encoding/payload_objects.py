"""Payloads that are one value already, or that a function makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import Cells, of_array
from spooled_pipelines.batch.encoding.json_values import object_bytes, parsed
from spooled_pipelines.batch.encoding.nested import object_bodies
from spooled_pipelines.batch.encoding.values import Place, plain, value_cells
from spooled_pipelines.errors import InvalidArgumentError


def no_object(column: Any) -> Any:
    """True for each row whose value is no object."""
    if types.is_nested(column.type) or types.is_null(column.type):
        return column.is_null()
    texts = _texts(column)
    return pa.array([text is None or not isinstance(parsed(text), dict) for text in texts])


def object_cells(column: Any, place: Place) -> Cells:
    """A payload's own bytes of each value, all of which are objects."""
    if types.is_nested(column.type):
        return of_array(object_bodies(column, place, value_cells))
    made = []
    for index, text in enumerate(_texts(column)):

        def unfit(shown: str, why: str, index: int = index) -> bytes:
            return place.unfit(index, shown, why)

        made.append(object_bytes(parsed(text), unfit, place.depth))
    return of_array(pa.array(made, pa.binary()))


def _texts(column: Any) -> list[Any]:
    storage = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    texts: list[Any] = storage.to_pylist()
    return texts


def made_payload(function: Callable[[Any], Any], batch: Any, first_row: int) -> Any:
    """What the function makes of a record batch: one with as many rows.

    Raises:
        InvalidArgumentError: it is something else.
    """
    made = function(batch)
    if isinstance(made, pa.StructArray):
        made = pa.RecordBatch.from_struct_array(made)
    elif hasattr(made, "__arrow_c_stream__") and not isinstance(made, pa.RecordBatch):
        # A Table, or a DataFrame of any library.
        table = pa.RecordBatchReader.from_stream(made).read_all()
        made = _one_batch(table)
    if not isinstance(made, pa.RecordBatch) or made.num_rows != batch.num_rows:
        what = f"{made.num_rows} rows" if isinstance(made, pa.RecordBatch) else type(made).__name__
        raise InvalidArgumentError(
            f"payload: the function was given a record batch of {batch.num_rows} rows (from row "
            f"{first_row} on) and gave back {what}. It has to give a record batch of as many rows. "
            "Nothing was sent."
        )
    names = made.schema.names
    if not names or len(set(names)) != len(names):
        raise InvalidArgumentError(
            f"payload: the function gave back the columns {names}; a payload has at least one "
            "field, and each name once. Nothing was sent."
        )
    return made


def _one_batch(table: Any) -> Any:
    # What pandas notes about its index would be a column here.
    columns = [plain(column) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def made_value(made: Any, name: str, place_of: Callable[[str], Place]) -> Cells:
    """The Values of one of its columns."""
    return value_cells(plain(made.column(name)), replace(place_of(name), path=name))
