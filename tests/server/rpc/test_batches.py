"""The batch extension over the wire, as batch.proto says it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.batch_v1 import (
    BatchStats,
    EnqueueBatchRequest,
    JobChunk,
    OpenBatch,
    Stall,
)
from spooled_pipelines.wire.well_known import Timestamp
from tests.support.waiting import aeventually
from tests.support.wire import Wire, answered, struct

TURNS = 200


def opening(**changes: Any) -> EnqueueBatchRequest:
    fields = {"batch_id": "b", "queue_name": "q", "upload_id": "u", **changes}
    return EnqueueBatchRequest(open=OpenBatch(**fields))


def rows(*keys: str, number: int = 0, **columns: Sequence[Any]) -> EnqueueBatchRequest:
    fields: dict[str, Any] = {
        "payloads": [struct(key=key).SerializeToString() for key in keys],
        "idempotency_keys": keys,
        **columns,
    }
    return EnqueueBatchRequest(chunk=JobChunk(number=number, **fields))


async def upload(
    wire: Wire, *messages: EnqueueBatchRequest, **opens: Any
) -> list[batch.ChunkOutcome]:
    """The outcomes of one whole upload."""
    async with wire.conversation("EnqueueBatch") as stream:
        for message in (opening(**opens), *messages):
            await stream.write(message)
        await stream.done_writing()
        assert (await stream.read()).opened.batch_id == opens.get("batch_id", "b")
        outcomes = [(await stream.read()).outcome for _ in messages]
        assert await stream.read() is None
        return outcomes


async def seal(wire: Wire, batch_id: str = "b") -> BatchStats:
    return (await wire.call(batch.SealBatchRequest(batch_id=batch_id))).stats


async def stats(wire: Wire, batch_id: str = "b") -> BatchStats:
    response = await wire.call(batch.GetBatchStatsRequest(batch_ids=[batch_id]))
    return response.batches[0]


async def listed(wire: Wire, **fields: Any) -> list[batch.ListBatchJobsResponse]:
    request = batch.ListBatchJobsRequest(batch_id="b", **fields)
    pages = []
    async with wire.stream(request, "ListBatchJobs") as stream:
        while (page := await stream.read()) is not None:
            pages.append(page)
    return pages


async def finish(wire: Wire, count: int = 1) -> None:
    for _ in range(count):
        job = await wire.claim()
        await wire.call(spooled.CompleteRequest(job_id=job.id, lease_id=job.lease_id))


async def test_rows_become_jobs_with_the_uploads_defaults(wire: Wire) -> None:
    defaults = {"priority": 7, "max_retries": 9, "timeout_seconds": 11, "tags": {"a": "b"}}
    (outcome,) = await upload(wire, rows("x", "y"), name="flights", **defaults)
    assert (outcome.number, outcome.created, outcome.duplicates) == (0, 2, 0)
    assert not outcome.duplicate_rows
    job = (await wire.call(spooled.GetJobRequest(job_id=outcome.job_ids[1]))).job
    assert (job.priority, job.max_retries, job.timeout_seconds) == (7, 9, 11)
    assert (job.queue_name, job.idempotency_key, job.payload) == ("q", "y", struct(key="y"))
    found = await stats(wire)
    assert (found.name, found.queue_name, found.total, found.pending) == ("flights", "q", 2, 2)


async def test_a_rows_own_values_go_before_the_defaults(wire: Wire) -> None:
    due = Timestamp(seconds=wire.clock.now() // 1000 + 60)
    message = rows(
        "x",
        "y",
        "z",
        priorities=[0, -5, 0],
        max_retries=[2, 0, -1],
        timeout_seconds=[0, 4, 0],
        scheduled_at=[Timestamp(), due, Timestamp()],
        tags=[batch.Tags(tags={"a": "b"}), batch.Tags(), batch.Tags()],
    )
    (outcome,) = await upload(wire, message, priority=7, max_retries=9)
    jobs = [
        (await wire.call(spooled.GetJobRequest(job_id=job_id))).job for job_id in outcome.job_ids
    ]
    assert [(j.priority, j.max_retries, j.timeout_seconds) for j in jobs] == [
        (0, 2, 300),
        (-5, 9, 4),
        (0, 0, 300),
    ]
    pending, scheduled = spooled.JOB_STATUS_PENDING, spooled.JOB_STATUS_SCHEDULED
    assert [j.status for j in jobs] == [pending, scheduled, pending]
    assert jobs[1].scheduled_at == due


async def test_concatenated_enqueue_requests_are_a_chunk(wire: Wire) -> None:
    requests = [
        spooled.EnqueueRequest(
            payload=struct(n=n),
            priority=n,
            max_retries=n,
            timeout_seconds=n,
            scheduled_at=Timestamp(),
            idempotency_key=f"k{n}",
        )
        for n in (1, 2)
    ]
    joined = b"".join(request.SerializeToString() for request in requests)
    chunk = JobChunk.FromString(joined + JobChunk(number=3).SerializeToString())
    (outcome,) = await upload(wire, EnqueueBatchRequest(chunk=chunk))
    assert (outcome.number, outcome.created) == (3, 2)
    job = await wire.claim()
    assert (job.payload, job.priority, job.max_retries) == (struct(n=2), 2, 2)


async def test_many_chunks_are_answered_in_their_order(wire: Wire) -> None:
    chunks = [rows(*(f"{n}-{i}" for i in range(50)), number=n) for n in range(20)]
    outcomes = await upload(wire, *chunks)
    assert [outcome.number for outcome in outcomes] == list(range(20))
    ids = [job_id for outcome in outcomes for job_id in outcome.job_ids]
    assert len(set(ids)) == 1000
    assert sorted(ids) == ids
    assert (await stats(wire)).total == 1000


async def test_duplicates_name_the_job_that_was_there(wire: Wire) -> None:
    single = await wire.enqueue("elsewhere", idempotency_key="single")
    first, second = await upload(wire, rows("x", "single", "x"), rows("y", "x", number=1))
    assert (first.created, first.duplicates, list(first.duplicate_rows)) == (1, 2, [1, 2])
    assert first.job_ids[1] == single
    assert first.job_ids[0] == first.job_ids[2] == second.job_ids[1]
    assert (second.created, list(second.duplicate_rows)) == (1, [1])
    assert (await stats(wire)).total == 3


async def test_a_chunk_sent_again_is_answered_as_the_first_time(wire: Wire) -> None:
    message = rows("x", "y", "x", "", number=4)
    (first,) = await upload(wire, message)
    (again,) = await upload(wire, message)
    assert first == again
    (other,) = await upload(wire, message, upload_id="another")
    assert (other.created, list(other.duplicate_rows)) == (0, [0, 1, 2])
    assert other.job_ids == first.job_ids


async def test_bad_rows_are_refused_by_place_and_the_others_are_stored(wire: Wire) -> None:
    good = struct(a=1).SerializeToString()
    large = struct(a="x" * (1 << 20)).SerializeToString()
    keys = ["good", "", "k" * 256, "p", "r", "t", "s", "broken", "large", "tags", "good", "last"]
    count = len(keys)
    priorities, retries, timeouts = [0] * count, [0] * count, [0] * count
    priorities[3], retries[4], timeouts[5] = 101, -2, 86_401
    times = [Timestamp()] * count
    times[6] = Timestamp(seconds=253_402_300_800)
    payloads = [good] * count
    payloads[7], payloads[8] = b"\xff\xff", large
    tags = [batch.Tags()] * count
    tags[9] = batch.Tags(tags={"a": "x" * 66_000})
    message = rows(
        *keys,
        payloads=payloads,
        priorities=priorities,
        max_retries=retries,
        timeout_seconds=timeouts,
        scheduled_at=times,
        tags=tags,
    )
    (outcome,) = await upload(wire, message)
    reasons = {row.row: row.message for row in outcome.rejected}
    assert {row.code for row in outcome.rejected} == {"INVALID_ARGUMENT"}
    for place, text in {
        1: "idempotency_key has 0 characters",
        2: "idempotency_key has 256 characters",
        3: "priority must be -100 to 100, got 101",
        4: "max_retries must be 0 to 100, got -2",
        5: "timeout_seconds must be 0 to 86400, got 86401",
        6: "scheduled_at",
        7: "payload is not a google.protobuf.Struct",
        8: "payload is 1048584 bytes as JSON",
        9: "tags are",
    }.items():
        assert text in reasons.pop(place)
    assert not reasons
    assert (outcome.created, list(outcome.duplicate_rows)) == (2, [10])
    filled = [place for place, job_id in enumerate(outcome.job_ids) if job_id]
    assert filled == [0, 10, 11]
    assert outcome.job_ids[0] == outcome.job_ids[10] != outcome.job_ids[11]
    assert (await stats(wire)).total == 2


async def test_a_chunk_of_bad_rows_alone_stores_nothing(wire: Wire) -> None:
    (outcome, empty) = await upload(wire, rows("", ""), rows(number=1))
    assert [row.row for row in outcome.rejected] == [0, 1]
    assert list(outcome.job_ids) == ["", ""]
    assert (empty.created, len(empty.job_ids)) == (0, 0)
    assert (await stats(wire)).total == 0


async def test_rows_with_other_payloads_are_said_by_their_places_and_replaced_on_demand(
    wire: Wire,
) -> None:
    await upload(wire, rows("x", "y"))
    payloads = [struct(key="x"), struct(new=1), struct(new=2)]
    message = rows("x", "", "y", payloads=[one.SerializeToString() for one in payloads])
    (kept,) = await upload(wire, message, upload_id="v")
    # The second row is refused, and the places are those of the whole chunk.
    assert (list(kept.duplicate_rows), list(kept.changed_rows)) == ([0, 2], [2])
    assert not kept.replaced_rows
    replace = {"upload_id": "w", "on_changed": batch.ON_CHANGED_REPLACE}
    (replaced,) = await upload(wire, message, **replace)
    assert list(replaced.changed_rows) == list(replaced.replaced_rows) == [2]
    found = await stats(wire)
    assert (found.changed, found.replaced, found.total) == (2, 1, 2)
    job = (await wire.call(spooled.GetJobRequest(job_id=kept.job_ids[2]))).job
    assert job.payload == struct(new=2)


BAD_UPLOADS: dict[str, tuple[list[Any], str, str]] = {
    "chunk first": ([rows("x")], "FAILED_PRECONDITION", "must be `open`"),
    "nothing": ([], "FAILED_PRECONDITION", "must be `open`"),
    "open twice": ([opening(), opening()], "FAILED_PRECONDITION", "must be `chunk`"),
    "empty message": ([opening(), EnqueueBatchRequest()], "FAILED_PRECONDITION", "`chunk`"),
    "not a message": ([opening(), b"\xff\xff"], "INVALID_ARGUMENT", "EnqueueBatchRequest"),
    "batch id": ([opening(batch_id="a b")], "INVALID_ARGUMENT", "batch_id"),
    "queue": ([opening(queue_name=".q")], "INVALID_ARGUMENT", "queue_name"),
    "name": ([opening(name="n" * 256)], "INVALID_ARGUMENT", "name has 256 characters"),
    "upload id": ([opening(upload_id="")], "INVALID_ARGUMENT", "upload_id"),
    "on changed": ([opening(on_changed=3)], "INVALID_ARGUMENT", "on_changed must be 0 to 2, got 3"),
    "priority": ([opening(priority=101)], "INVALID_ARGUMENT", "priority"),
    "keys": (
        [opening(), rows("x", idempotency_keys=["a", "b"])],
        "INVALID_ARGUMENT",
        "idempotency_keys has 2 values for 1 payloads",
    ),
    "column": (
        [opening(), rows("x", priorities=[1, 2])],
        "INVALID_ARGUMENT",
        "priorities has 2 values for 1 payloads",
    ),
    "number": (
        [opening(), rows("x", number=-1)],
        "INVALID_ARGUMENT",
        "number must be 0 or more, got -1",
    ),
    "rows": (
        [opening(), rows(*map(str, range(10_001)))],
        "INVALID_ARGUMENT",
        "10001 rows, and at most 10000",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD_UPLOADS))
async def test_an_upload_out_of_order_or_bounds_is_refused(wire: Wire, name: str) -> None:
    messages, code, text = BAD_UPLOADS[name]
    async with wire.conversation("EnqueueBatch") as stream:
        for message in messages:
            await stream.write(message)
        await stream.done_writing()
        while await stream.read() is not None:
            pass
        got, details = await stream.status()
        assert (got, text in details) == (code, True), details


async def test_what_came_before_a_refused_chunk_is_stored_and_answered(wire: Wire) -> None:
    async with wire.conversation("EnqueueBatch") as stream:
        for message in (opening(), rows("x"), rows("y", number=1), rows("z", number=-1)):
            await stream.write(message)
        await stream.read()
        assert [(await stream.read()).outcome.created for _ in range(2)] == [1, 1]
        assert await stream.read() is None
    assert (await stats(wire)).total == 2


async def test_a_batch_of_another_queue_is_refused(wire: Wire) -> None:
    await upload(wire)
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(opening(queue_name="other"))
        assert await stream.read() is None
        code, details = await stream.status()
        assert code == "FAILED_PRECONDITION"
        assert "is on queue 'q'" in details


async def test_sealing_settles_once_nothing_is_open(wire: Wire) -> None:
    await upload(wire, rows("x"))
    assert not (await stats(wire)).sealed
    sealed = await seal(wire)
    assert (sealed.sealed, sealed.settled) == (True, False)
    await finish(wire)
    assert (await stats(wire)).settled
    await upload(wire, rows("x", "y"), upload_id="more")
    reopened = await stats(wire)
    assert (reopened.sealed, reopened.settled, reopened.total) == (False, False, 2)


async def test_statistics_of_none_are_none_and_of_too_many_refused(wire: Wire) -> None:
    response = await wire.call(batch.GetBatchStatsRequest())
    assert not response.batches
    many = batch.GetBatchStatsRequest(batch_ids=["b"] * 1001)
    with answered("INVALID_ARGUMENT", "1001 ids"):
        await wire.call(many)
    with answered("NOT_FOUND", "no batch 'b'"):
        await wire.call(batch.GetBatchStatsRequest(batch_ids=["b"]))


def causes(found: BatchStats) -> list[int]:
    return [stall.cause for stall in found.stalls]


async def test_a_stall_names_what_holds_the_batch_back(wire: Wire) -> None:
    await upload(wire, rows("x"))
    assert causes(await stats(wire)) == [Stall.CAUSE_NOT_SEALED, Stall.CAUSE_NO_WORKER]
    assert causes(await seal(wire)) == [Stall.CAUSE_NO_WORKER]
    # A stream, a recent claim, or a heartbeat: someone works here.
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire.stream(request, "StreamJobs") as stream:
        await stream.read()
        assert causes(await stats(wire)) == []
    wire.clock.advance(31)

    async def taken_back() -> bool:
        return (await stats(wire)).pending == 1

    await aeventually(taken_back)
    assert causes(await stats(wire)) == [Stall.CAUSE_LEASES_EXPIRING]
    wire.clock.advance(60)
    assert Stall.CAUSE_NO_WORKER in causes(await stats(wire))
    await wire.call(spooled.RegisterWorkerRequest(queue_name="q", worker_id="w"), "Register")
    assert causes(await stats(wire)) == [Stall.CAUSE_LEASES_EXPIRING]
    # A minute later a worker has a job, and no other lease ran out.
    job = await wire.claim()
    assert causes(await stats(wire)) == []
    await wire.call(spooled.FailRequest(job_id=job.id, error="x"))
    assert causes(await stats(wire)) == [Stall.CAUSE_ALL_DUE_LATER]
    wire.clock.advance(300)
    job = await wire.claim()
    await wire.call(spooled.FailRequest(job_id=job.id, error="x"))
    assert causes(await stats(wire)) == [Stall.CAUSE_ALL_DUE_LATER]


async def test_dead_letters_are_told_with_their_errors(wire: Wire) -> None:
    await upload(wire, rows("x", "y", "z"))
    for error in ("no route", "no fuel", "no fuel"):
        job = await wire.claim()
        await wire.call(spooled.FailRequest(job_id=job.id, error=error, retry=False))
    found = await stats(wire)
    assert found.deadletter == 3
    assert [(e.error, e.count) for e in found.top_errors] == [("no fuel", 2), ("no route", 1)]


async def test_a_watch_tells_each_change_and_ends_when_all_is_settled(wire: Wire) -> None:
    await upload(wire, rows("x", "y"))
    await upload(wire, batch_id="empty")
    await seal(wire, "empty")
    request = batch.WatchBatchRequest(batch_ids=["b", "empty", "b"])
    async with wire.stream(request, "WatchBatch") as stream:
        first = {found.batch_id: found for found in [await stream.read() for _ in range(2)]}
        assert first["empty"].settled
        assert (first["b"].total, first["b"].sealed) == (2, False)
        await seal(wire)
        assert (await stream.read()).sealed
        await finish(wire, 2)
        last = await stream.read()
        while not last.settled:
            last = await stream.read()
        assert (last.batch_id, last.completed) == ("b", 2)
        assert await stream.read() is None
        assert (await stream.status())[0] == "OK"


async def test_a_watch_of_what_is_settled_ends_at_once(wire: Wire) -> None:
    await upload(wire)
    await seal(wire)
    async with wire.stream(batch.WatchBatchRequest(batch_ids=["b"]), "WatchBatch") as stream:
        assert (await stream.read()).settled
        assert await stream.read() is None


async def test_a_watch_sends_changes_that_come_close_together_as_one(wire: Wire) -> None:
    await upload(wire, rows(*map(str, range(60))))
    async with wire.stream(batch.WatchBatchRequest(batch_ids=["b"]), "WatchBatch") as stream:
        await stream.read()
        await finish(wire, 60)
        await seal(wire)
        messages = 0
        while await stream.read() is not None:
            messages += 1
        assert messages < 60


async def test_an_idle_watch_asks_the_store_for_nothing(wire: Wire) -> None:
    await upload(wire, rows("x"))
    await upload(wire, batch_id="other")
    async with wire.stream(batch.WatchBatchRequest(batch_ids=["b"]), "WatchBatch") as stream:
        await stream.read()
        reads = wire.store.reads
        wire.clock.advance(3_600)
        await seal(wire, "other")
        await wire.enqueue("elsewhere")
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert wire.store.reads == reads


@pytest.mark.parametrize(
    ("ids", "code"), [(["a b"], "INVALID_ARGUMENT"), ([], "INVALID_ARGUMENT"), (["x"], "NOT_FOUND")]
)
async def test_a_watch_of_nothing_is_refused(wire: Wire, ids: list[str], code: str) -> None:
    async with wire.stream(batch.WatchBatchRequest(batch_ids=ids), "WatchBatch") as stream:
        assert (await stream.status())[0] == code


async def test_jobs_are_listed_in_pages_that_can_be_resumed(wire: Wire) -> None:
    chunks = [rows(*(f"{n}-{i}" for i in range(500)), number=n) for n in range(5)]
    outcomes = await upload(wire, *chunks)
    ids = [job_id for outcome in outcomes for job_id in outcome.job_ids]
    pages = await listed(wire)
    assert [job.id for page in pages for job in page.jobs] == ids
    assert len(pages) > 1
    assert [bool(page.next_page_token) for page in pages] == [True] * (len(pages) - 1) + [False]
    rest = await listed(wire, page_token=pages[0].next_page_token)
    assert [job.id for page in rest for job in page.jobs] == ids[len(pages[0].jobs) :]


async def test_jobs_are_listed_by_status_with_their_results(wire: Wire) -> None:
    await upload(wire, rows("x", "y", "z"))
    job = await wire.claim()
    await wire.call(spooled.CompleteRequest(job_id=job.id, result=struct(minutes=3.5)))
    (page,) = await listed(wire, statuses=[spooled.JOB_STATUS_COMPLETED])
    assert [j.id for j in page.jobs] == [job.id]
    assert page.jobs[0].result == struct(minutes=3.5)
    assert page.jobs[0].payload == struct(key="x")
    (by_column,) = await listed(wire, by_column=True)
    (page,) = await listed(wire, omit_payload=True)
    assert [j.HasField("payload") for j in page.jobs] == [False] * 3
    (without,) = await listed(wire, by_column=True, omit_payload=True)
    columns = by_column.columns
    assert list(columns.job_ids) == [j.id for j in page.jobs]
    assert list(columns.statuses) == [j.status for j in page.jobs]
    assert [bool(at) for at in columns.completed_at] == [True, False, False]
    assert list(columns.results) == [struct(minutes=3.5).SerializeToString(), b"", b""]
    assert list(columns.payloads) == [struct(key=key).SerializeToString() for key in "xyz"]
    assert (list(columns.last_errors), list(without.columns.payloads)) == ([], [])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"page_token": "x"}, "page_token 'x'"),
        ({"page_token": "9" * 19}, "page_token"),
        ({"statuses": [8]}, "statuses must be 1 to 7, got 8"),
        ({"statuses": [0]}, "statuses must be 1 to 7, got 0"),
        ({"batch_id": "a b"}, "batch_id"),
    ],
)
async def test_a_listing_is_refused_by_name(wire: Wire, fields: dict[str, Any], text: str) -> None:
    await upload(wire)
    request = batch.ListBatchJobsRequest(**{"batch_id": "b", **fields})
    async with wire.stream(request, "ListBatchJobs") as stream:
        code, details = await stream.status()
        assert (code, text in details) == ("INVALID_ARGUMENT", True), details


async def test_an_upload_that_is_cut_keeps_what_was_answered(wire: Wire) -> None:
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(opening())
        await stream.read()
        await stream.write(rows("x", "y"))
        assert (await stream.read()).outcome.created == 2
    found = await stats(wire)
    assert (found.total, found.sealed) == (2, False)
