"""What of a row is the payload, which tags it has and when it is due; on either server."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
import pytest

from spooled_pipelines import connect
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.chunks import shared_fields
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError, RowsRejectedError
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.well_known import Struct
from tests.support.server_process import ServerProcess

UTC = dt.timezone.utc
LATER = dt.datetime(2030, 1, 1, tzinfo=UTC)


def jobs_of(door: Any, data: Any, queue: str, **options: Any) -> list[Any]:
    """The jobs of the table's rows, in its order."""
    batch = door.enqueue_batch(data, queue, **options)
    return [door.get_job(job_id) for job_id in batch.ledger["job_id"].to_pylist() if job_id]


def payloads_of(door: Any, data: Any, queue: str, **options: Any) -> list[Any]:
    return [job.payload for job in jobs_of(door, data, queue, **options)]


BODIES = [{"a": 1, "b": None}, {"a": 2.5, "b": [{"c": "x"}]}]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([json.dumps(body) for body in BODIES]),
        pa.array([json.dumps(body) for body in BODIES], pa.large_string()),
        pa.array([json.dumps(body) for body in BODIES]).dictionary_encode(),
        pa.ExtensionArray.from_storage(
            pa.json_(pa.string()), pa.array([json.dumps(body) for body in BODIES])
        ),
        pa.array(BODIES),
    ],
    ids=["text", "large text", "dictionary", "arrow.json", "struct"],
)
def test_a_column_may_be_the_whole_payload(door: Any, queue: str, column: pa.Array) -> None:
    table = pa.table({"body": column, "rank": [1, 2]})
    jobs = jobs_of(door, table, queue, payload="body", priority="rank")
    assert [job.payload for job in jobs] == BODIES
    assert [job.priority for job in jobs] == [1, 2]


def test_a_column_of_maps_may_be_the_whole_payload(door: Any, queue: str) -> None:
    column = pa.array([[("a", 1)], [], [("b", 2)]], pa.map_(pa.string(), pa.int64()))
    assert payloads_of(door, pa.table({"m": column}), queue, payload="m") == [
        {"a": 1},
        {},
        {"b": 2},
    ]


def test_text_and_struct_of_the_same_payload_are_the_same_job(door: Any, queue: str) -> None:
    struct = pa.table({"body": pa.array([{"b": "t", "a": 1, "c": {"y": None, "x": 1.5}}])})
    text = pa.table({"body": ['{"a": 1, "c": {"x": 1.5, "y": null}, "b": "t"}']})
    assert door.enqueue_batch(text, queue, payload="body").created == 1
    again = door.enqueue_batch(struct, queue, payload="body")
    assert (again.created, again.duplicates) == (0, 1)


@pytest.mark.parametrize("text", ["[1]", "5", "null", '"x"', "{", '{"a": 1, "a": 2}', None])
def test_what_is_no_object_is_a_rejected_row(door: Any, queue: str, text: str | None) -> None:
    rows = pa.table({"body": pa.array(['{"a": 1}', text, '{"a": 2}'], pa.string())})
    with pytest.raises(
        RowsRejectedError, match="payload column 'body' does not hold a JSON object: 1"
    ):
        door.enqueue_batch(rows, queue, payload="body")
    jobs = jobs_of(door, rows, queue, payload="body", on_rejected="skip")
    assert [job.payload for job in jobs] == [{"a": 1}, {"a": 2}]


def test_what_a_text_says_inexactly_is_refused_with_its_row(door: Any, queue: str) -> None:
    rows = pa.table({"body": ["{}", '{"a": [9007199254740993]}']})
    with pytest.raises(LossyValueError) as caught:
        door.enqueue_batch(rows, queue, payload="body")
    assert (caught.value.column, caught.value.row) == ("body", 1)
    read = payloads_of(door, rows, queue, payload="body", on_lossy={"body": "string"})
    assert read == [{}, {"a": ["9007199254740993"]}]


@pytest.mark.parametrize(
    "function",
    [
        lambda batch: pa.record_batch(
            {"double": pc.multiply(batch.column("n"), 2), "text": batch.column("text")}
        ),
        lambda batch: pa.table(
            {"double": pc.multiply(batch.column("n"), 2), "text": batch.column("text")}
        ),
        lambda batch: pd.DataFrame({"double": [2 * n for n in batch["n"].to_pylist()]}).assign(
            text=batch["text"].to_pylist()
        ),
        lambda batch: pl.from_arrow(batch).select((pl.col("n") * 2).alias("double"), "text"),
        lambda batch: pa.array(
            [{"double": 2 * row["n"], "text": row["text"]} for row in batch.to_pylist()]
        ),
    ],
    ids=["record batch", "table", "pandas", "polars", "structs"],
)
def test_a_function_may_make_the_payload(door: Any, queue: str, function: Any) -> None:
    table = pa.table({"n": range(4), "text": list("abcd"), "rank": [1, 200, 3, 4]})
    options: dict[str, Any] = {"priority": "rank", "key": "n", "on_rejected": "skip"}
    jobs = jobs_of(door, table, queue, payload=function, **options)
    # The rows that stay keep what is theirs.
    assert [(job.payload["double"], job.payload["text"], job.priority) for job in jobs] == [
        (0, "a", 1),
        (4, "c", 3),
        (6, "d", 4),
    ]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda batch: batch.slice(1), "got 1 rows"),
        (lambda batch: batch.to_pylist(), "got list"),
        (lambda batch: None, "got NoneType"),
        (lambda batch: pa.record_batch([batch["n"], batch["n"]], ["a", "a"]), "each name once"),
    ],
)
def test_a_function_that_makes_something_else_is_told(
    door: Any, queue: str, function: Any, said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        door.enqueue_batch(pa.table({"n": [1, 2]}), queue, payload=function)


def test_what_a_function_makes_is_exact_or_refused(door: Any, queue: str) -> None:
    def made(batch: Any) -> Any:
        return pa.record_batch({"big": pc.multiply(batch["n"], 2**40)})

    table = pa.table({"n": [1, 2**20]})
    with pytest.raises(LossyValueError) as caught:
        door.enqueue_batch(table, queue, payload=made)
    assert (caught.value.column, caught.value.row) == ("big", 1)
    read = payloads_of(door, table, queue, payload=made, on_lossy={"big": "null"})
    assert read == [{"big": 2**40}, {"big": None}]


class Order(pydantic.BaseModel):
    id: int
    amount: float = pydantic.Field(gt=0)
    at: dt.datetime | None = None


SCHEMA = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {
        "id": {"type": "integer"},
        "amount": {"type": "number", "exclusiveMinimum": 0},
        "at": {"type": ["string", "null"]},
    },
}


@pytest.mark.parametrize("schema", [Order, SCHEMA], ids=["pydantic", "JSON Schema"])
def test_a_payload_that_does_not_fit_its_schema_is_a_rejected_row(
    door: Any, queue: str, schema: Any
) -> None:
    moment = dt.datetime(2013, 1, 1, tzinfo=UTC)
    rows = [
        {"id": 1, "amount": 2.5, "at": moment},
        {"id": 2, "amount": -77.5, "at": moment},
        {"id": None, "amount": 1.0, "at": None},
        {"id": 4, "amount": 4.0, "at": None},
    ]
    with pytest.raises(RowsRejectedError, match="2 of 4 rows cannot be jobs") as caught:
        door.enqueue_batch(rows, queue, payload_schema=schema)
    reasons = caught.value.reasons
    assert len(reasons) == 2
    assert all("does not fit payload_schema" in reason for reason in reasons)
    assert any(reason.startswith("'amount'") for reason in reasons)
    # No value in an error.
    assert "77" not in str(caught.value)
    read = payloads_of(door, rows, queue, payload_schema=schema, on_rejected="skip")
    assert read == [
        {"id": 1, "amount": 2.5, "at": "2013-01-01T00:00:00Z"},
        {"id": 4, "amount": 4, "at": None},
    ]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (5, "class\\), got int"),
        ({"type": "nothing"}, "must be a JSON Schema: "),
        (Order(id=1, amount=1), "class\\), got Order"),
    ],
)
def test_a_schema_that_is_none_is_refused(door: Any, queue: str, schema: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        door.enqueue_batch([{"id": 1}], queue, payload_schema=schema)


def test_a_missing_field_is_named_by_either() -> None:
    for schema in (Order, SCHEMA):
        with pytest.raises(RowsRejectedError, match="'amount' does not fit payload_schema"):
            prepare([{"id": 1}], "q", RowOptions(payload_schema=schema))


@pytest.mark.parametrize(
    ("tags", "of_column"),
    [
        (["team", "tier"], None),
        ("tags", pa.array([{"team": "a", "tier": "1"}, {"team": "b", "tier": None}])),
        (
            "tags",
            pa.array(
                [[("team", "a"), ("tier", "1")], [("team", "b")]], pa.map_(pa.string(), pa.string())
            ),
        ),
    ],
    ids=["columns", "structs", "maps"],
)
def test_each_row_may_bring_its_tags(door: Any, queue: str, tags: Any, of_column: Any) -> None:
    table = pa.table({"n": [1, 2], "team": ["a", "b"], "tier": ["1", None]})
    if of_column is not None:
        table = pa.table({"n": [1, 2], "tags": of_column})
    options: dict[str, Any] = {"tags": tags, "scheduled_at": LATER}
    (payload, _) = payloads_of(door, table, queue, **options)
    assert ("tags" in payload, "team" in payload) == (False, of_column is None)

    made = prepare(table, "q", RowOptions(**options))
    (chunk,) = made.chunks()
    message = batch_v1.EnqueueBatchRequest.FromString(chunk.message()).chunk
    shared = shared_fields("q", made.constants)
    requests = [spooled_v1.EnqueueRequest.FromString(row) for row in chunk.requests(shared)]
    made.close()
    expected = [{"team": "a", "tier": "1"}, {"team": "b"}]
    assert [dict(row.tags) for row in message.tags] == expected
    assert [dict(request.tags) for request in requests] == expected
    # And nothing else is another one for that.
    payloads = [Struct.FromString(payload) for payload in message.payloads]
    assert [request.payload for request in requests] == payloads
    assert [request.idempotency_key for request in requests] == list(message.idempotency_keys)
    assert [request.scheduled_at for request in requests] == list(message.scheduled_at)


def test_rows_that_differ_in_their_tags_alone_are_two_jobs(door: Any, queue: str) -> None:
    table = pa.table({"n": [1, 1], "team": ["a", "b"]})
    options: dict[str, Any] = {"payload": ["n"], "tags": ["team"]}
    assert door.enqueue_batch(table.slice(0, 1), queue, **options).created == 1
    assert door.enqueue_batch(table.slice(1), queue, **options).created == 1
    assert door.enqueue_batch(table.take([1, 0]), queue, **options).duplicates == 2


def test_tags_that_are_too_large_are_a_rejected_row(door: Any, queue: str) -> None:
    table = pa.table({"n": [1, 2], "team": ["a", "b" * 70_000]})
    with pytest.raises(RowsRejectedError, match="its tags are more than 65536 bytes: 1"):
        door.enqueue_batch(table, queue, tags=["team"], payload=["n"])


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("n", "must be a column of structs or maps"),
        (["n"], "must be of texts"),
        (["nothing"], "tags: there is no column 'nothing'"),
        ([], "must be a dict of texts"),
        (5, "must be a dict of texts"),
    ],
)
def test_tags_that_are_none_are_refused(door: Any, queue: str, tags: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        door.enqueue_batch(pa.table({"n": [1]}), queue, tags=tags)


def due_of(door: Any, data: Any, queue: str, **options: Any) -> list[float]:
    """Seconds behind LATER at which the rows are due."""
    jobs = jobs_of(door, data, queue, scheduled_at=LATER, **options)
    return [(job.scheduled_at - LATER).total_seconds() for job in jobs]


def test_a_rate_gives_rows_their_times_one_behind_the_other(door: Any, queue: str) -> None:
    table = pa.table({"n": range(50)})
    assert due_of(door, table, queue, rate=4) == [n / 4 for n in range(50)]


def test_a_spread_gives_each_row_a_time_of_its_own_in_any_order(door: Any, queue: str) -> None:
    table = pa.table({"n": range(60)})
    hour = dt.timedelta(hours=1)
    due = due_of(door, table, queue, spread=hour, name="one")
    assert all(0 <= seconds < 3600 for seconds in due)
    assert sorted(due) != due
    # A re-run, in any order, finds the same jobs with the times that they had.
    turned = table.take(list(range(59, -1, -1)))
    assert due_of(door, turned, queue, spread=hour, name="one") == due[::-1]
    assert door.enqueue_batch(turned, queue, spread=hour, name="one").created == 0


def test_what_is_spread_is_spread_again_in_the_same_way() -> None:
    def times(table: pa.Table, **options: Any) -> dict[Any, Any]:
        made = prepare(table, "q", RowOptions(scheduled_at=LATER, **options))
        messages = [chunk.message() for chunk in made.chunks()]
        made.close()
        chunks = [batch_v1.EnqueueBatchRequest.FromString(m).chunk for m in messages]
        return {
            key: due.ToNanoseconds()
            for chunk in chunks
            for key, due in zip(chunk.idempotency_keys, chunk.scheduled_at, strict=True)
        }

    table = pa.table({"n": range(20_000)})
    spread: dict[str, Any] = {"spread": dt.timedelta(hours=1)}
    first = times(table, **spread)
    assert times(table.take(list(range(19_999, -1, -1))), **spread) == first
    # Each of four quarters has its share; the keys, and so this, are the same in every run.
    quarters = [(due // 10**9 - int(LATER.timestamp())) // 900 for due in first.values()]
    assert all(4_800 < quarters.count(quarter) < 5_200 for quarter in range(4))
    in_order = list(times(table, rate=1000).values())
    assert in_order == [int(LATER.timestamp()) * 10**9 + i * 10**6 for i in range(20_000)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spread": dt.timedelta(1), "rate": 1}, "not both"),
        ({"spread": dt.timedelta(0)}, "positive timedelta"),
        ({"spread": 60}, "positive timedelta"),
        ({"rate": 0}, "number of jobs a second above 0"),
        ({"rate": True}, "number of jobs a second above 0"),
        ({"rate": float("inf")}, "number of jobs a second above 0"),
        ({"rate": 5, "scheduled_at": "due"}, "nothing to spread"),
        ({"rate": 5, "scheduled_at": dt.datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_spread_that_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        prepare([{"a": 1}], "q", RowOptions(**options))


def test_without_a_start_a_spread_starts_now(server: ServerProcess, queue: str) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        before = dt.datetime.now(UTC)
        jobs = jobs_of(client, [{"n": n} for n in range(3)], queue, rate=0.01)
        after = dt.datetime.now(UTC)
    moment = dt.timedelta(seconds=100)
    for number, job in enumerate(jobs[1:], start=1):
        assert before - dt.timedelta(milliseconds=1) <= job.scheduled_at - number * moment <= after
