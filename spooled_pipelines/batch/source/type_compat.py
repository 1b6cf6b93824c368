"""Which types make no difference to a payload, so that a column may change between them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types


def same_kind(one: Any, other: Any) -> bool:
    """Whether a value reads the same from columns of both types; nulls fit to all."""
    one, other = _stored(one), _stored(other)
    if one.equals(other) or types.is_null(one) or types.is_null(other):
        return True
    if types.is_struct(one) and types.is_struct(other):
        fields = {field.name: field.type for field in one}
        others = {field.name: field.type for field in other}
        return fields.keys() == others.keys() and all(
            same_kind(kind, others[name]) for name, kind in fields.items()
        )
    if types.is_map(one) and types.is_map(other):
        return same_kind(one.item_type, other.item_type)
    if _is_list(one) and _is_list(other):
        return same_kind(one.value_type, other.value_type)
    return _family(one) is not None and _family(one) == _family(other)


def _stored(kind: Any) -> Any:
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _stored(kind.value_type)
    return kind


def _is_list(kind: Any) -> bool:
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def is_json(kind: Any) -> bool:
    """Whether a column holds JSON text that is meant as its value."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"


def _family(kind: Any) -> str | None:
    for name, belongs in _FAMILIES.items():
        if belongs(kind):
            if name == "time" and types.is_timestamp(kind) and kind.tz is not None:
                return "time with a zone"
            return name
    return None


_FAMILIES = {
    "number": lambda kind: types.is_integer(kind) or types.is_floating(kind),
    "decimal": types.is_decimal,
    "text": lambda kind: (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    ),
    "bytes": lambda kind: (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    ),
    "date": types.is_date,
    "time": types.is_timestamp,
    "time of day": types.is_time,
    "duration": types.is_duration,
}
