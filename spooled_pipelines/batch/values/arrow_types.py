"""Functions on Arrow's types and arrays that reading and encoding share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.values import iso8601
from spooled_pipelines.errors import InvalidArgumentError


def repeated_names(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def is_json(arrow_type: pa.DataType) -> bool:
    """Return whether a column holds JSON text that is meant as its value."""
    is_extension = isinstance(arrow_type, pa.BaseExtensionType)
    return is_extension and arrow_type.extension_name == "arrow.json"


def is_text(arrow_type: pa.DataType) -> bool:
    """Return whether a column's values are texts; nulls are."""
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return is_string(arrow_type) or types.is_null(arrow_type)


def is_string(arrow_type: pa.DataType) -> bool:
    """Return whether this is one of Arrow's three types of strings."""
    return bool(
        types.is_string(arrow_type)
        or types.is_large_string(arrow_type)
        or types.is_string_view(arrow_type)
    )


def is_list(arrow_type: pa.DataType) -> bool:
    """Return whether this is one of Arrow's types of lists."""
    return bool(
        types.is_list(arrow_type)
        or types.is_large_list(arrow_type)
        or types.is_fixed_size_list(arrow_type)
        or types.is_list_view(arrow_type)
        or types.is_large_list_view(arrow_type)
    )


def storage_array(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the same values without what only says how they are stored."""
    while True:
        arrow_type = array.type
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        elif isinstance(arrow_type, pa.BaseExtensionType):
            read = _EXTENSIONS.get(arrow_type.extension_name)
            if is_json(arrow_type) and types.is_string_view(arrow_type.storage_type):
                texts = array.storage.cast(pa.string())
                array = pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)
            if read is None:
                return array
            array = read(array)
        elif types.is_dictionary(arrow_type):
            if types.is_string_view(arrow_type.value_type):
                # Arrow takes no views by their indices; polars' categoricals are such.
                values = array.dictionary.cast(pa.string())
                array = pa.DictionaryArray.from_arrays(array.indices, values)
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(arrow_type):
            array = pc.run_end_decode(array)
        elif types.is_string_view(arrow_type):
            array = array.cast(pa.string())
        elif types.is_binary_view(arrow_type):
            array = array.cast(pa.binary())
        else:
            return array


def _uuid_text(array: pa.ExtensionArray) -> pa.StringArray:
    texts = [None if value is None else str(value) for value in array.to_pylist()]
    return pa.array(texts, pa.string())


# Extension types whose meaning is known; what the storage of another one means cannot be told.
_EXTENSIONS: dict[str, Callable[[pa.ExtensionArray], pa.Array]] = {
    "arrow.uuid": _uuid_text,
    "arrow.bool8": lambda array: array.storage.cast(pa.bool_()),
}


def any_type(arrow_type: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a type, or one of those nested in it, passes a test."""
    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return any_type(arrow_type.value_type, test)
    fields = map(arrow_type.field, range(arrow_type.num_fields))
    return test(arrow_type) or any(any_type(field.type, test) for field in fields)


def to_text(array: pa.Array, path: str, *, trims: bool = False) -> pa.StringArray:
    """Return text, decimals and times as text; `path` names the column in the error.

    `trims` leaves out the zeros at the end of decimals, so that equal ones have equal texts.

    Raises:
        InvalidArgumentError: no payload can hold this type.
    """
    arrow_type = array.type
    if types.is_string(arrow_type) or types.is_large_string(arrow_type):
        return array
    if types.is_timestamp(arrow_type):
        return iso8601.timestamp_text(array)
    if types.is_date(arrow_type):
        return iso8601.date_text(array)
    if types.is_time(arrow_type):
        return iso8601.time_text(array)
    if types.is_duration(arrow_type):
        return iso8601.duration_text(array)
    if types.is_decimal(arrow_type):
        texts = _decimal_text(array.cast(pa.string()))
        return without_zeros(texts) if trims else texts
    raise unsupported_type(path, arrow_type)


def unsupported_type(path: str, arrow_type: pa.DataType) -> InvalidArgumentError:
    """Return the error for a column that no payload can hold."""
    return InvalidArgumentError(
        f"column {path!r} is of type {arrow_type}, which a payload cannot hold. "
        "Leave it out with payload=[...], or convert it before."
    )


def _decimal_text(texts: pa.StringArray) -> pa.StringArray:
    """Return decimals without an exponent."""
    has_exponent = pc.fill_null(pc.match_substring(texts, "E"), False)
    if not pc.any(has_exponent).as_py():
        return texts
    digits = [None if text is None else f"{Decimal(text):f}" for text in texts.to_pylist()]
    return pa.array(digits, pa.string())


def without_zeros(texts: pa.StringArray) -> pa.StringArray:
    """Return decimals without zeros at the end of their fractions."""
    has_fraction = pc.match_substring(texts, ".")
    if not pc.any(has_fraction).as_py():
        return texts
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    trimmed = pc.if_else(pc.equal(trimmed, "-0"), "0", trimmed)
    return pc.if_else(has_fraction, trimmed, texts)
