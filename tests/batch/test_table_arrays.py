"""Any table is what it was once its payloads are read back with the schema that came with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings

from spooled_pipelines.batch.decoding.payload_columns import decode_columns
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.batch.values.exact_arrays import MisfitError
from spooled_pipelines.batch.values.row_schema import row_schema
from spooled_pipelines.batch.values.table_arrays import table_array
from tests.support.arrow_strategies import LOSSY_COLUMNS, check_same, tables


def read_back(table: pa.Table) -> tuple[dict[str, pa.Array], dict[str, list[Any]]]:
    """The columns, typed and as JSON has them."""
    staged = prepare(table, "q", RowOptions(on_lossy="string"))
    payloads = pa.array([each for chunk in staged.chunks() for each in chunk.payloads()])
    columns = decode_columns(payloads)
    schema = row_schema(staged.payload_schema).arrow if staged.payload_schema else pa.schema([])
    staged.close()
    typed = {
        field.name: table_array(
            columns.arrays.get(field.name), partial(columns.values, field.name), field.type
        )
        for field in schema
    }
    return typed, {name: columns.values(name) for name in table.column_names}


@settings(max_examples=60)
@given(tables(LOSSY_COLUMNS))
def test_any_table_comes_back_with_its_own_types(table: pa.Table) -> None:
    found, seen = read_back(table)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in found:
            json = isinstance(found[name].type, pa.JsonType)
            check_same(found[name], column, seen[name] if json else None)
        else:
            assert column.null_count == len(column)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2013-02-30", pa.date32()),
        ("05:00:00.1", pa.time32("s")),
        ("1.123", pa.decimal128(5, 2)),
        ("x", pa.int64()),
        (1.5, pa.int64()),
        (True, pa.float64()),
        (300, pa.int8()),
        ("?", pa.binary()),
        ("P1D", pa.duration("s")),
        (1, pa.string()),
    ],
)
def test_a_value_of_another_type_is_named_and_not_changed(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(MisfitError, match="is not of type") as caught:
        table_array(pa.array([value]), lambda: [value], kind)
    assert caught.value.index == 0
    assert table_array(pc.cast(pa.nulls(1), pa.null()), lambda: [None], kind).null_count == 1
