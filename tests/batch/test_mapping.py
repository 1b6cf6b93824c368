"""Which column becomes which part of a job, and what is said where that cannot be."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.batch.encoding.column_mapping import map_columns
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.validation import timestamp

UTC = dt.timezone.utc
SCHEMA = pa.schema(
    [
        ("flight", pa.int64()),
        ("rank", pa.int8()),
        ("gaps", pa.float64()),
        ("due", pa.timestamp("us", "UTC")),
        ("naive", pa.timestamp("us")),
        ("carrier", pa.string()),
    ]
)


def refused(**arguments: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        map_columns(SCHEMA, RowOptions(**arguments))
    return str(caught.value)


def test_the_payload_is_all_that_nothing_else_uses_up() -> None:
    mapping = map_columns(SCHEMA, RowOptions(priority="rank", scheduled_at="due", key="flight"))
    assert [field for field, _ in mapping.fields] == ["carrier", "flight", "gaps", "naive"]
    assert mapping.key == ("flight",)
    assert map_columns(SCHEMA, RowOptions(priority="rank", payload=["rank"])).fields == (
        ("rank", "rank"),
    )


def test_fields_may_be_renamed_and_a_column_used_twice() -> None:
    mapping = map_columns(SCHEMA, RowOptions(payload={"number": "flight", "again": "flight"}))
    assert mapping.fields == (("again", "flight"), ("number", "flight"))
    assert mapping.columns == ("flight",)


def test_one_value_for_all_jobs_is_checked_like_a_single_job() -> None:
    due = dt.datetime(2030, 1, 1, tzinfo=UTC)
    constants = map_columns(
        SCHEMA,
        RowOptions(priority=-100, max_retries=0, timeout_seconds=86_400, scheduled_at=due),
    ).constants
    # -1 is how the batch extension says that there are none.
    assert (constants.priority, constants.max_retries) == (-100, -1)
    assert constants.timeout_seconds == 86_400
    assert constants.scheduled_at == timestamp(due, "scheduled_at")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"key": "flihgt"}, "no column 'flihgt'. Did you mean 'flight'?"),
        ({"payload": ["nothing"]}, "There are: 'flight', 'rank'"),
        ({"payload": {"x": "nope"}}, "payload: there is no column 'nope'"),
        ({"priority": "nope"}, "priority: there is no column 'nope'"),
        ({"scheduled_at": "nope"}, "scheduled_at: there is no column 'nope'"),
        ({"payload": "flight"}, "['flight']"),
        ({"payload": []}, "name at least one"),
        ({"payload": ["flight", "flight"]}, "more than one column named 'flight'"),
        ({"payload": {1: "flight"}}, "got 1"),
        ({"key": []}, "names no column"),
        ({"priority": 101}, "101"),
        ({"priority": 1.5}, "1.5"),
        ({"max_retries": -1}, "-1"),
        ({"timeout_seconds": 86_401}, "86401"),
        ({"priority": "carrier"}, "must be a column of whole numbers"),
        ({"scheduled_at": "naive"}, "tz_localize"),
        ({"scheduled_at": "carrier"}, "got a column of type string"),
        ({"scheduled_at": dt.datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"scheduled_at": 5}, "must be a datetime"),
        ({"tags": {"a": 1}}, "tags"),
        ({"tags": {"a": "x" * 70_000}}, "64 KiB"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(arguments: Any, said: str) -> None:
    assert said in refused(**arguments)


def test_a_table_with_one_name_twice_is_refused() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("a", pa.string())])
    with pytest.raises(InvalidArgumentError, match="more than one column named 'a'"):
        map_columns(schema, RowOptions())
