"""What a row says does not depend on the rows beside it, however it came."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.well_known import Struct

UTC = dt.timezone.utc


def jobs_of(data: Any) -> list[tuple[str, dict[str, Any]]]:
    """Key and payload of every row."""
    made = prepare(data, "q", RowOptions())
    try:
        messages = [chunk.message() for chunk in made.chunks()]
    finally:
        made.close()
    chunks = [batch_v1.EnqueueBatchRequest.FromString(message).chunk for message in messages]
    return [
        (key, from_struct(Struct.FromString(payload)))
        for chunk in chunks
        for key, payload in zip(chunk.idempotency_keys, chunk.payloads, strict=True)
    ]


def payloads_of(data: Any) -> list[dict[str, Any]]:
    return [payload for _, payload in jobs_of(data)]


_NAMES = st.sampled_from("abc")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("xyz", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
_OBJECTS = st.dictionaries(_NAMES, _JSON, max_size=3)


@given(st.lists(_OBJECTS, min_size=1, max_size=8))
def test_an_object_is_sent_as_it_is_with_the_key_that_it_has_alone(values: list[Any]) -> None:
    together = jobs_of([{"object": value, "row": i} for i, value in enumerate(values)])
    assert [payload["object"] for _, payload in together] == values
    alone = [jobs_of([{"object": value, "row": i}])[0] for i, value in enumerate(values)]
    assert together == alone
    # And a list of them.
    listed = [{"list": [value, {"z": 1}], "row": i} for i, value in enumerate(values)]
    assert jobs_of(listed) == [jobs_of([row])[0] for row in listed]


@pytest.mark.parametrize("make", [list, pd.DataFrame], ids=["dicts", "pandas"])
def test_neighbours_change_neither_payload_nor_key(make: Any) -> None:
    rows = [
        {"n": Decimal("1.5"), "o": {"x": 1, "when": dt.datetime(2013, 1, 1, 5, tzinfo=UTC)}},
        {"n": Decimal("2.25"), "o": {"y": None, "d": [dt.date(2013, 1, 1), Decimal("0.10")]}},
        {"n": Decimal("300.000"), "o": {"x": "text", "u": uuid.UUID(int=1), "np": np.int8(1)}},
    ]
    together = jobs_of(make(rows))
    assert together == [jobs_of(make([row]))[0] for row in rows]
    assert [payload for _, payload in together] == [
        {"n": "1.5", "o": {"x": 1, "when": "2013-01-01T05:00:00Z"}},
        {"n": "2.25", "o": {"y": None, "d": ["2013-01-01", "0.10"]}},
        {"n": "300.000", "o": {"x": "text", "u": str(uuid.UUID(int=1)), "np": 1}},
    ]


@pytest.mark.parametrize(
    "values",
    [
        [dt.datetime(2013, 1, 1), dt.datetime(2013, 1, 1, tzinfo=UTC)],  # noqa: DTZ001
        [dt.time(5, tzinfo=UTC)],
        ["text", b"bytes"],
        [{"a"}],
        [{1: 2}],
        [{"a": object()}, {"b": 1}],
    ],
)
def test_values_that_only_seem_to_go_together_are_refused(values: list[Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"column 'x', rows? [01]"):
        payloads_of([{"x": value} for value in values])


def test_nat_among_times_with_a_zone_is_null() -> None:
    times = [pd.Timestamp("2013-01-01", tz="UTC"), pd.NaT, None]
    read = payloads_of([{"t": time} for time in times])
    assert read == [{"t": "2013-01-01T00:00:00Z"}, {"t": None}, {"t": None}]


_NANOSECOND = np.datetime64("2020-01-01T00:00:00.000000001", "ns")
_NANOSECOND_TEXT = "2020-01-01T00:00:00.000000001"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([_NANOSECOND, "x"], [_NANOSECOND_TEXT, "x"]),
        (
            [dt.datetime(2020, 1, 1), _NANOSECOND],  # noqa: DTZ001
            ["2020-01-01T00:00:00", _NANOSECOND_TEXT],
        ),
        ([np.datetime64("2020-01-01"), _NANOSECOND], ["2020-01-01", _NANOSECOND_TEXT]),
        ([np.datetime64("2020-01-01")], ["2020-01-01"]),
        ([np.datetime64("12000-01-01", "s"), "x"], ["12000-01-01T00:00:00", "x"]),
        ([np.datetime64("NaT"), "x"], [None, "x"]),
        ([np.timedelta64(1, "ns"), "x"], ["P0DT0H0M0.000000001S", "x"]),
        ([dt.timedelta(1), np.timedelta64(1, "ns")], ["P1DT0H0M0S", "P0DT0H0M0.000000001S"]),
        ([np.timedelta64(1, "s"), np.timedelta64(1, "ns")], ["P0DT0H0M1S", "P0DT0H0M0.000000001S"]),
        ([np.array([_NANOSECOND]), [1]], [[_NANOSECOND_TEXT], [1]]),
        ([{"t": _NANOSECOND}, {"t": np.datetime64("2020-01-01")}], None),
        ([np.longdouble(1.5), "x"], [1.5, "x"]),
        ([Decimal("NaN"), Decimal("1.50")], [None, "1.50"]),
        ([{"x": Decimal("NaN")}, {"x": Decimal("1.5")}], [{"x": None}, {"x": "1.5"}]),
        ([Fraction(1, 2)], [0.5]),
    ],
)
def test_numbers_and_times_of_other_libraries_are_what_they_say(
    values: list[Any], expected: list[Any] | None
) -> None:
    expected = expected or [{"t": _NANOSECOND_TEXT}, {"t": "2020-01-01"}]
    assert payloads_of([{"x": value} for value in values]) == [{"x": each} for each in expected]


_LOOP: list[Any] = []
_LOOP.append(_LOOP)


@pytest.mark.parametrize(
    "values",
    [
        [Fraction(1, 3)],
        [[Fraction(1, 3)], "x"],
        [np.longdouble(1) / 3, "x"],
        [np.datetime64(1, "ps"), "x"],
        [np.timedelta64(1, "M"), "x"],
        [Decimal("Infinity"), Decimal(1)],
        [_LOOP],
    ],
    ids=str,
)
def test_what_would_be_rounded_or_has_no_end_is_refused_by_its_column(values: list[Any]) -> None:
    with pytest.raises((InvalidArgumentError, LossyValueError), match=r"column 'x', rows? 0"):
        payloads_of([{"x": value} for value in values])


def test_categories_of_several_types_are_each_what_they_are() -> None:
    frame = pd.DataFrame({"x": pd.Categorical([1, "x", None])})
    assert payloads_of(frame) == [{"x": 1}, {"x": "x"}, {"x": None}]


class _Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class _Point:
    x: int
    y: float | None = None


@dataclasses.dataclass
class _Flight:
    id: int
    at: _Point
    colour: _Colour = _Colour.RED


class _Model(pydantic.BaseModel):
    id: int
    at: dict[str, int]
    when: dt.datetime


class _Tuple(NamedTuple):
    id: int
    name: str


def test_dataclasses_models_and_named_tuples_are_rows() -> None:
    flights = [_Flight(1, _Point(1)), _Flight(2, _Point(3, 0.5))]
    assert payloads_of(iter(flights)) == [
        {"id": 1, "at": {"x": 1, "y": None}, "colour": "red"},
        {"id": 2, "at": {"x": 3, "y": 0.5}, "colour": "red"},
    ]
    model = _Model(id=1, at={"x": 1}, when=dt.datetime(2013, 1, 1, tzinfo=UTC))
    assert payloads_of([model]) == [{"id": 1, "at": {"x": 1}, "when": "2013-01-01T00:00:00Z"}]
    assert payloads_of([_Tuple(1, "a")]) == [{"id": 1, "name": "a"}]
    with pytest.raises(InvalidArgumentError, match="row 1 is of type int"):
        payloads_of([flights[0], 5])


def test_a_frames_object_column_may_hold_what_arrow_has_no_type_for() -> None:
    frame = pd.DataFrame({"o": [{"a": 1}, float("nan"), {"b": [1, "x"]}, None], "n": range(4)})
    assert [row["o"] for row in payloads_of(frame)] == [{"a": 1}, None, {"b": [1, "x"]}, None]


def test_rows_whose_objects_change_their_shape_late_are_read() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(10_000):
            yield {"o": {"a": i}}
        yield {"o": {"b": "x"}}
        yield {"o": {"a": 1}}

    kinds = [batch.schema.field("o").type for batch in open_source(rows()).batches]
    assert pa.types.is_struct(kinds[0])
    assert payloads_of(rows())[-2:] == [{"o": {"b": "x"}}, {"o": {"a": 1}}]
