"""Results of many jobs as wire bytes, by column."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import concat
from spooled_pipelines.batch.encoding.payload_types import plain_type
from spooled_pipelines.batch.encoding.rows import SURELY_SMALL
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.encoding.values import encode_values, struct_field
from spooled_pipelines.batch.options.row_options import Lossy
from spooled_pipelines.batch.values.arrow_types import any_type, storage_array
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError, SpooledError
from spooled_pipelines.rpc.struct import refuse_large
from spooled_pipelines.text import shorten
from spooled_pipelines.wire.limits import SCHEMA_MAX_BYTES
from spooled_pipelines.wire.well_known import Struct


@dataclass(frozen=True)
class _ResultContext(ValueContext):
    """The source of a result's values, for the error that names one of them."""

    def raise_lossy(self, index: int, value: str, why: str, *, rounds: bool = False) -> NoReturn:  # noqa: ARG002
        short = shorten(value, 60)
        raise LossyValueError(
            f"result.{self.path}: {short} {why}, so it would not be read back unchanged. Return "
            "it as text.",
            column=self.path,
            row=self.row_of(index),
            value=short,
        )


def result_types(schema: pa.Schema) -> bytes | None:
    """Return the schema as an IPC message; None where it is too large to be kept."""
    # A list of nulls, as Arrow takes an empty one for, says nothing of what others hold.
    kinds = pa.schema(
        (field.name, pa.null() if any_type(field.type, types.is_null) else plain_type(field.type))
        for field in schema
    )
    serialized: bytes = kinds.serialize().to_pybytes()
    return serialized if len(serialized) <= SCHEMA_MAX_BYTES else None


def encode_results(
    results: pa.RecordBatch, *, is_typed: bool = False
) -> list[bytes | SpooledError]:
    """Return the serialized Struct of each row, or why it cannot be a result.

    `is_typed`: the types are kept, so that bytes and numbers beyond 2**53 can be texts.
    """
    try:
        return list(_encoded(results, "string" if is_typed else "raise"))
    except (InvalidArgumentError, LossyValueError) as error:
        if results.num_rows == 1:
            return [error]
    # Of the rows of a lot only those are refused whose values do not fit.
    half = results.num_rows // 2
    halves = (results.slice(0, half), results.slice(half))
    return [each for part in halves for each in encode_results(part, is_typed=is_typed)]


def _encoded(results: pa.RecordBatch, on_lossy: Lossy) -> list[bytes]:
    rows = results.num_rows
    fields = []
    names = sorted(results.schema.names)
    for name, following in pairwise(names):
        if name == following:
            raise InvalidArgumentError(f"it has two columns named {name!r}. Rename one of them.")
    for name in names:
        array = storage_array(results.column(name))
        context = _ResultContext(name, lambda index: index, on_lossy)
        if any_type(array.type, types.is_floating):
            _refuse_nan(array, context)
        fields.append(struct_field(name, encode_values(array, context)))
    structs: list[bytes] = concat(fields, rows).to_array(rows).to_pylist()
    for struct in structs:
        if len(struct) > SURELY_SMALL:
            refuse_large(Struct.FromString(struct), "result")
    return structs


def _refuse_nan(array: pa.Array, context: ValueContext) -> None:
    """Raise LossyValueError where a number is NaN: in a table it is null, in a result it is not."""
    if types.is_struct(array.type):
        for inner in array.flatten():
            _refuse_nan(inner, context)
    elif types.is_nested(array.type):
        _refuse_nan(array.items if types.is_map(array.type) else pc.list_flatten(array), context)
    elif types.is_floating(array.type):
        missing = pc.is_nan(array)
        if pc.any(missing).as_py():
            context.raise_lossy(pc.index(missing, True).as_py(), "nan", "is not a number of JSON")
