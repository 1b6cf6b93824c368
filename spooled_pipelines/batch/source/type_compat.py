"""Types between which a column may change, since that makes no difference to a payload."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.values.arrow_types import is_list, is_string


def compatible_types(one: pa.DataType, other: pa.DataType) -> bool:
    """Return whether a value reads the same from columns of both types; nulls fit to all."""
    one, other = _storage_type(one), _storage_type(other)
    if one.equals(other) or types.is_null(one) or types.is_null(other):
        return True
    if types.is_struct(one) and types.is_struct(other):
        fields = {field.name: field.type for field in one}
        others = {field.name: field.type for field in other}
        return fields.keys() == others.keys() and all(
            compatible_types(arrow_type, others[name]) for name, arrow_type in fields.items()
        )
    if types.is_map(one) and types.is_map(other):
        return compatible_types(one.item_type, other.item_type)
    if is_list(one) and is_list(other):
        return compatible_types(one.value_type, other.value_type)
    return _family(one) is not None and _family(one) == _family(other)


def _storage_type(arrow_type: pa.DataType) -> pa.DataType:
    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return _storage_type(arrow_type.value_type)
    return arrow_type


def _is_bytes(arrow_type: pa.DataType) -> bool:
    return bool(
        types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
        or types.is_binary_view(arrow_type)
    )


def _is_number(arrow_type: pa.DataType) -> bool:
    return bool(types.is_integer(arrow_type) or types.is_floating(arrow_type))


def _family(arrow_type: pa.DataType) -> str | None:
    for family, belongs in _FAMILIES.items():
        if belongs(arrow_type):
            if types.is_timestamp(arrow_type) and arrow_type.tz is not None:
                return "time with a zone"
            return family
    return None


_FAMILIES: dict[str, Callable[[pa.DataType], bool]] = {
    "number": _is_number,
    "decimal": types.is_decimal,
    "text": is_string,
    "bytes": _is_bytes,
    "date": types.is_date,
    "time": types.is_timestamp,
    "time of day": types.is_time,
    "duration": types.is_duration,
}
