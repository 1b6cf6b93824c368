"""Results by column are what each row would be by itself, and only rows that misfit are refused."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.encoding.results import encode_results
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.struct import from_struct, to_struct
from spooled_pipelines.wire.well_known import Struct

_COLUMNS = st.sampled_from(
    [
        (pa.int64(), st.one_of(st.integers(-5, 5), st.integers(2**53 - 1, 2**53 + 1))),
        (pa.float64(), st.floats(width=64)),
        (pa.string(), st.text(max_size=5)),
        (pa.bool_(), st.booleans()),
        (pa.list_(pa.float64()), st.lists(st.floats(), max_size=2)),
        (pa.struct([("x", pa.float64())]), st.fixed_dictionaries({"x": st.floats()})),
        (pa.list_(pa.struct([("x", pa.int64())])), st.lists(st.just({"x": None}), max_size=2)),
    ]
)


@st.composite
def _tables(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(1, 5))
    columns = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "é"]), min_size=1, unique=True)):
        arrow_type, values = draw(_COLUMNS)
        column = draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows))
        columns[name] = pa.array(column, arrow_type)
    return pa.record_batch(columns)


@given(_tables())
def test_each_row_is_what_it_would_be_by_itself(table: pa.RecordBatch) -> None:
    for row, encoded in zip(table.to_pylist(), encode_results(table), strict=True):
        if isinstance(encoded, bytes):
            assert Struct.FromString(encoded) == to_struct(row)
        else:
            with pytest.raises(InvalidArgumentError):
                to_struct(row)


def test_times_and_decimals_are_kept_as_the_texts_that_an_enqueue_makes_of_them() -> None:
    at = datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc)
    [encoded] = encode_results(pa.record_batch({"at": [at], "sum": [Decimal("1.50")]}))
    assert isinstance(encoded, bytes)
    assert from_struct(Struct.FromString(encoded)) == {"at": "2024-05-01T12:30:00Z", "sum": "1.50"}


@pytest.mark.parametrize("value", ["x" * (1 << 20), "\x01" * 200_000])
def test_a_row_above_1_mib_is_refused_and_the_others_are_kept(value: Any) -> None:
    small, large, other = encode_results(pa.record_batch({"text": ["a", value, "b"]}))
    assert isinstance(small, bytes)
    assert isinstance(other, bytes)
    assert "at most 1048576 bytes" in str(large)
