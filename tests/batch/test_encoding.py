"""The bytes are what protobuf reads: as a chunk of the extension, and as single requests."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.chunks import open_message, shared_fields
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.batch.staging.staged_batch import StagedBatch
from spooled_pipelines.errors import RowsRejectedError
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.limits import CHUNK_ROWS_MAX, PAYLOAD_MAX_BYTES
from spooled_pipelines.wire.well_known import Struct
from tests.support.arrow_strategies import tables

UTC = dt.timezone.utc


def prepared(data: Any, **options: Any) -> StagedBatch:
    return prepare(data, "q", RowOptions(**options))


def chunks_of(data: Any, **options: Any) -> list[batch_v1.JobChunk]:
    made = prepared(data, **options)
    try:
        messages = [chunk.message() for chunk in made.chunks()]
    finally:
        made.close()
    return [batch_v1.EnqueueBatchRequest.FromString(message).chunk for message in messages]


def requests_of(data: Any, **options: Any) -> list[spooled_v1.EnqueueRequest]:
    made = prepared(data, **options)
    try:
        shared = shared_fields("q", made.constants)
        found = [row for chunk in made.chunks() for row in chunk.requests(shared)]
    finally:
        made.close()
    return [spooled_v1.EnqueueRequest.FromString(row) for row in found]


@settings(max_examples=40)
@given(tables(), st.data())
def test_a_chunk_and_single_requests_say_the_same(table: pa.Table, data: st.DataObject) -> None:
    rows = table.num_rows
    priorities = data.draw(
        st.lists(st.none() | st.integers(-100, 100), min_size=rows, max_size=rows)
    )
    due = data.draw(
        st.lists(
            st.none() | st.datetimes(dt.datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
            min_size=rows,
            max_size=rows,
        )
    )
    table = table.append_column("prio rity", pa.array(priorities, pa.int16()))
    table = table.append_column("due at", pa.array(due, pa.timestamp("us", "UTC")))
    options = {"priority": "prio rity", "scheduled_at": "due at", "max_retries": 7}
    (chunk,) = chunks_of(table, **options)
    requests = requests_of(table, **options)

    assert [Struct.FromString(p) for p in chunk.payloads] == [r.payload for r in requests]
    assert list(chunk.priorities) == [r.priority for r in requests] == [p or 0 for p in priorities]
    assert list(chunk.scheduled_at) == [r.scheduled_at for r in requests]
    assert [_moment(stamp) for stamp in chunk.scheduled_at] == [
        dt.datetime(1970, 1, 1, tzinfo=UTC) if moment is None else moment for moment in due
    ]
    assert list(chunk.idempotency_keys) == [r.idempotency_key for r in requests]
    # What all rows share is said once, when the upload is opened.
    assert not chunk.max_retries
    assert {r.max_retries for r in requests} == {7}
    assert {r.queue_name for r in requests} == {"q"}


def _moment(stamp: Any) -> dt.datetime:
    since = dt.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    return dt.datetime(1970, 1, 1, tzinfo=UTC) + since


def test_what_all_jobs_share_opens_the_upload() -> None:
    made = prepared(
        [{"a": 1}], priority=-5, max_retries=2, timeout_seconds=60, tags={"team": "ops"}
    )
    message = open_message("b_1", "q", "nightly", "u", made.constants)
    opening = batch_v1.EnqueueBatchRequest.FromString(message).open
    made.close()
    assert (opening.priority, opening.max_retries, opening.timeout_seconds) == (-5, 2, 60)
    assert dict(opening.tags) == {"team": "ops"}
    assert (opening.batch_id, opening.queue_name, opening.name) == ("b_1", "q", "nightly")


def test_one_due_time_for_all_rows_is_in_every_row() -> None:
    due = dt.datetime(2030, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    rows = [{"a": 1}, {"a": 2}]
    (chunk,) = chunks_of(rows, scheduled_at=due)
    assert [_moment(stamp) for stamp in chunk.scheduled_at] == [due, due]
    # It is no part of what a row is: the same call an hour later means the same jobs.
    (later,) = chunks_of(rows, scheduled_at=due + dt.timedelta(hours=1))
    assert later.idempotency_keys == chunk.idempotency_keys


def test_chunks_are_bounded_by_rows_and_by_bytes() -> None:
    many = chunks_of(pa.table({"a": range(25_000)}))
    assert [chunk.number for chunk in many] == list(range(len(many)))
    assert sum(len(chunk.payloads) for chunk in many) == 25_000
    assert max(len(chunk.payloads) for chunk in many) <= CHUNK_ROWS_MAX
    wide = chunks_of([{"text": "x" * 300_000, "row": i} for i in range(20)])
    assert sum(len(chunk.payloads) for chunk in wide) == 20
    assert max(chunk.ByteSize() for chunk in wide) < 1.2 * (1 << 20)


def test_a_payload_may_have_one_mebibyte_and_not_a_byte_more() -> None:
    # {"a":"..."} is eight bytes around the text.
    fits, over = "x" * (PAYLOAD_MAX_BYTES - 8), "x" * (PAYLOAD_MAX_BYTES - 7)
    assert len(requests_of([{"a": fits}])) == 1
    with pytest.raises(RowsRejectedError, match="more than 1048576 bytes as JSON") as caught:
        requests_of([{"a": "small"}, {"a": over}, {"a": fits}])
    assert [example.row for example in caught.value.examples] == [1]


def test_rows_that_cannot_be_jobs_are_told_with_row_and_reason() -> None:
    table = pa.table(
        {
            "id": pa.array([1, None, 3, 4, 5, None]),
            "rank": pa.array([0.0, 200.0, 1.5, float("nan"), 100.0, -101.0]),
        }
    )
    null = "key column 'id' is null"
    rank = "priority (column 'rank') is not a whole number from -100 to 100"
    with pytest.raises(RowsRejectedError, match="3 of 6 rows cannot be jobs") as caught:
        prepared(table, key="id", priority="rank")
    assert caught.value.rejected == 3
    assert caught.value.reasons == {null: 2, rank: 1}
    assert [(e.row, e.reason) for e in caught.value.examples] == [(1, null), (2, rank), (5, null)]

    (chunk,) = chunks_of(table, key="id", priority="rank", on_rejected="skip")
    assert list(chunk.priorities) == [0, 0, 100]


def test_a_number_beyond_64_bits_with_a_sign_is_out_of_range() -> None:
    table = pa.table({"rank": pa.array([100, 2**64 - 1, None], pa.uint64())})
    with pytest.raises(RowsRejectedError) as caught:
        prepared(table, priority="rank")
    assert [example.row for example in caught.value.examples] == [1]


def test_where_no_row_can_be_a_job_skipping_does_not_help() -> None:
    table = pa.table({"id": pa.array([None, None], pa.int64()), "x": [1, 2]})
    with pytest.raises(RowsRejectedError, match="all 2 rows are rejected") as caught:
        prepared(table, key="id", on_rejected="skip")
    assert caught.value.rejected == 2


def test_the_error_shows_ten_rows_and_counts_them_all() -> None:
    with pytest.raises(RowsRejectedError) as caught:
        prepared(pa.table({"rank": range(101, 25_101)}), priority="rank", payload=["rank"])
    assert caught.value.rejected == 25_000
    assert [example.row for example in caught.value.examples] == list(range(10))
