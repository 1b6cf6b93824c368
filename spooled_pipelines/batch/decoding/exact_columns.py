"""Fields of payloads as arrays of types that somebody wants, each value as it is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.decoding.payload_columns import MIXED, PayloadColumns
from spooled_pipelines.batch.values.exact_arrays import exact_array


def exact_column(columns: PayloadColumns, name: str, arrow_type: pa.DataType) -> pa.Array:
    """Return a field's values as `exact_array` makes them of JSON's values.

    Raises:
        MisfitError: a value is of another type, or does not fit.
    """
    if name not in columns.arrays:
        return pa.nulls(len(columns.payloads), arrow_type)
    array = columns.arrays[name]
    if array is not MIXED and _casts_exactly(array, arrow_type):
        try:
            return array.cast(arrow_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # The values one by one say which of them it is.
            pass
    return exact_array(columns.values(name), arrow_type)


def _casts_exactly(array: pa.Array, arrow_type: pa.DataType) -> bool:
    """Return whether Arrow's cast keeps each value as it is, or refuses it."""
    found = array.type
    if types.is_null(found):
        return True
    if types.is_integer(found):
        # JSON's integers are exact as doubles.
        return bool(types.is_integer(arrow_type) or types.is_float64(arrow_type))
    if types.is_float64(found):
        return bool(types.is_float64(arrow_type) and pc.all(pc.is_finite(array)).as_py())
    if types.is_string(found):
        kept = types.is_temporal(arrow_type) or types.is_large_string(arrow_type)
        return bool(kept or types.is_string(arrow_type))
    return bool(types.is_boolean(found) and types.is_boolean(arrow_type))
