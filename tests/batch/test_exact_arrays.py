"""Arrow arrays of JSON values: each value as it is, or a refusal that names it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.batch.values.exact_arrays import MisfitError, bool_as_number, exact_array

UTC = dt.timezone.utc
OF_B = pa.struct([("b", pa.int64())])


@pytest.mark.parametrize(
    ("value", "arrow_type", "path"),
    [
        (1.5, pa.int64(), ""),
        (300, pa.int8(), ""),
        (-1, pa.uint8(), ""),
        (1e300, pa.int64(), ""),
        (True, pa.int64(), ""),
        ("1.5", pa.int64(), ""),
        ("00501", pa.int64(), ""),
        ("x", pa.int64(), ""),
        (1e300, pa.float32(), ""),
        ("1e300", pa.float32(), ""),
        (1e-300, pa.float32(), ""),
        (2**24 + 1, pa.float32(), ""),
        (1e300, pa.float16(), ""),
        (True, pa.float64(), ""),
        ("nan", pa.float64(), ""),
        (1.25, pa.decimal128(5, 1), ""),
        ("1.005", pa.decimal128(5, 2), ""),
        (123456, pa.decimal128(5, 0), ""),
        (True, pa.decimal128(5, 1), ""),
        (1, pa.bool_(), ""),
        (0.0, pa.bool_(), ""),
        (1.5, pa.timestamp("s"), ""),
        (True, pa.date32(), ""),
        ("2020-01-01T00:00:00.123456", pa.timestamp("ms"), ""),
        ({"a": 1}, pa.string(), ""),
        ([1], pa.string(), ""),
        (1, pa.binary(), ""),
        ({"b": 1.5}, OF_B, ".b"),
        ({"b": 1, "c": 2}, OF_B, ".c"),
        ([1], OF_B, ""),
        ([1, 1.5], pa.list_(pa.int64()), "[1]"),
        ([{"b": 1}, {"b": True}], pa.list_(OF_B), "[1].b"),
        ([1, 2, 3], pa.list_(pa.int64(), 2), ""),
        ({"a": 1.5}, pa.map_(pa.string(), pa.int64()), ".a"),
        ("x", pa.dictionary(pa.int32(), pa.int64()), ""),
    ],
)
def test_a_value_that_would_change_is_refused_with_its_place(
    value: Any, arrow_type: pa.DataType, path: str
) -> None:
    with pytest.raises(MisfitError) as caught:
        exact_array([None, value], arrow_type)
    assert (caught.value.path, caught.value.index) == (path, 1)
    assert str(value) not in caught.value.reason or str(value) in str(arrow_type)


@pytest.mark.parametrize(
    ("value", "arrow_type", "held"),
    [
        (2.0, pa.int64(), 2),
        ("15", pa.int64(), 15),
        (0.1, pa.float64(), 0.1),
        (0.25, pa.float32(), 0.25),
        (2**53, pa.float32(), 2.0**53),
        (0.1, pa.decimal128(38, 20), Decimal("0.1")),
        ("1.50", pa.decimal128(5, 2), Decimal("1.50")),
        (True, pa.bool_(), True),
        (True, pa.string(), "true"),
        (1.5, pa.string(), "1.5"),
        ("x", pa.dictionary(pa.int32(), pa.string()), "x"),
        (123, pa.timestamp("s"), dt.datetime(1970, 1, 1, 0, 2, 3)),  # noqa: DTZ001
        ("2020-01-01", pa.date32(), dt.date(2020, 1, 1)),
        ("2020-01-01T05:00Z", pa.timestamp("s", "UTC"), dt.datetime(2020, 1, 1, 5, tzinfo=UTC)),
        ({"b": 1}, OF_B, {"b": 1}),
        ({}, OF_B, {"b": None}),
        ([1, None], pa.list_(pa.int64()), [1, None]),
        ({"a": 1}, pa.map_(pa.string(), pa.int64()), [("a", 1)]),
    ],
)
def test_a_value_that_fits_is_held(value: Any, arrow_type: pa.DataType, held: Any) -> None:
    array = exact_array([value, None], arrow_type)
    assert array.type == arrow_type
    assert array.to_pylist() == [held, None]


def test_texts_and_numbers_of_times_may_stand_together() -> None:
    array = exact_array(["2020-01-01", 1, None], pa.date32())
    assert array.to_pylist() == [dt.date(2020, 1, 1), dt.date(1970, 1, 2), None]


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([0.5, True], ""),
        ([{"x": 0.5}, {"x": True}], ".x"),
        ([[0.5], [True]], "[]"),
        ([{"x": [{"y": 0.5}, {"y": True}]}], ".x[].y"),
        ([{"x": 0.5}, {"x": None}, {}], None),
        ([True, None], None),
    ],
)
def test_a_bool_that_arrow_takes_for_a_number_is_found(values: list[Any], path: str | None) -> None:
    assert bool_as_number(values, pa.array(values).type) == path
