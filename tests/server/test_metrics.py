"""Prometheus is told what docs/metrics.md lists, with bounded labels, and no key or payload."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spooled_pipelines.server.core.runtime.presence import OFFLINE_MS
from spooled_pipelines.server.telemetry import collectors
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.waiting import aeventually
from tests.support.wire import KEY, Wire, answered, struct

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def instrumented(tmp_path: Path, store_url: str) -> AsyncIterator[Wire]:
    async with Wire(tmp_path, store=store_url, metrics="127.0.0.1:0") as wire:
        yield wire


async def exposed(wire: Wire) -> str:
    url = f"http://{wire.server.metrics_address}/metrics"
    with await asyncio.to_thread(urllib.request.urlopen, url, timeout=20) as answer:
        return str(answer.read().decode())


async def samples(wire: Wire) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(await exposed(wire))
        for sample in family.samples
    }


def sample(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_queues_calls_claims_settles_and_commits_are_counted(instrumented: Wire) -> None:
    jobs = [await instrumented.enqueue(payload=struct(n=n)) for n in range(3)]
    first = await instrumented.claim()
    second = await instrumented.claim()
    done = spooled.CompleteRequest(job_id=first.id, worker_id="w", lease_id=first.lease_id)
    await instrumented.call(done)
    failed = spooled.FailRequest(job_id=second.id, worker_id="w", error="broken", retry=False)
    await instrumented.call(failed)
    with answered("NOT_FOUND"):
        await instrumented.call(spooled.GetJobRequest(job_id="nothing"))
    with answered("UNAUTHENTICATED"):
        await instrumented.call(spooled.GetJobRequest(job_id=jobs[0]), key="sp_test_wrong")
    instrumented.clock.advance(90)
    found = await samples(instrumented)
    queue = {"organization": "default", "queue": "q"}
    counts = {
        status: sample(found, "spooled_queue_jobs", status=status, **queue)
        for status in ("pending", "processing", "completed", "deadletter")
    }
    assert counts == {"pending": 1, "processing": 0, "completed": 1, "deadletter": 1}
    assert sample(found, "spooled_queue_oldest_pending_seconds", **queue) == 90
    assert sample(found, "spooled_claimed_jobs_total", **queue) == 2
    outcomes = {
        outcome: sample(found, "spooled_settled_jobs_total", outcome=outcome, **queue)
        for outcome in ("completed", "deadletter")
    }
    assert outcomes == {"completed": 1, "deadletter": 1}
    path = "/spooled.v1.QueueService/"
    calls = "spooled_rpc_seconds_count"
    assert sample(found, calls, method=path + "Enqueue", code="OK") == 3
    assert sample(found, calls, method=path + "GetJob", code="NOT_FOUND") == 1
    assert sample(found, calls, method=path + "GetJob", code="UNAUTHENTICATED") == 1
    commits = found["spooled_commit_seconds_count", frozenset()]
    assert commits >= 7
    # Three enqueued, two claimed, two settled.
    assert found["spooled_commit_jobs_sum", frozenset()] == 7


async def test_open_batches_and_what_comes_in_are_counted(instrumented: Wire) -> None:
    opening = batch.OpenBatch(batch_id="b_1", queue_name="q", upload_id="u")
    keys = ("a", "b", "a")
    rows = batch.JobChunk(payloads=[struct(n=1).SerializeToString()] * 3, idempotency_keys=keys)
    async with instrumented.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
        await upload.write(batch.EnqueueBatchRequest(chunk=rows))
        await upload.read()
    instrumented.clock.advance(30)
    found = await samples(instrumented)
    queue = {"organization": "default", "queue": "q"}
    assert sample(found, "spooled_open_batches", state="filling", **queue) == 1
    assert sample(found, "spooled_open_batches", state="working", **queue) == 0
    assert sample(found, "spooled_oldest_open_batch_seconds", **queue) == 30
    came_in = "spooled_enqueued_jobs_total"
    assert sample(found, came_in, **queue, outcome="created") == 2
    assert sample(found, came_in, **queue, outcome="duplicate") == 1
    await instrumented.call(batch.SealBatchRequest(batch_id="b_1"))
    found = await samples(instrumented)
    assert sample(found, "spooled_open_batches", state="filling", **queue) == 0
    assert sample(found, "spooled_open_batches", state="working", **queue) == 1
    for _ in range(2):
        job = await instrumented.claim()
        done = spooled.CompleteRequest(job_id=job.id, worker_id="w", lease_id=job.lease_id)
        await instrumented.call(done)
    assert not [name for name, _ in await samples(instrumented) if "open_batch" in name]


async def test_a_stream_that_the_client_leaves_counts_as_cancelled(instrumented: Wire) -> None:
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with instrumented.stream(request, "StreamJobs") as stream:
        await instrumented.enqueue()
        assert (await stream.read()).id
    labels = {"method": "/spooled.v1.QueueService/StreamJobs", "code": "CANCELLED"}
    key = ("spooled_rpc_seconds_count", frozenset(labels.items()))

    async def is_counted() -> bool:
        return key in await samples(instrumented)

    await aeventually(is_counted)


async def test_neither_keys_nor_payloads_nor_ids_are_told(instrumented: Wire) -> None:
    job_id = await instrumented.enqueue(payload=struct(secret="x-marks-the-spot"))
    opening = batch.OpenBatch(batch_id="b_secret", queue_name="q", upload_id="u")
    async with instrumented.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
    await instrumented.claim(worker_id="worker-of-mine")
    text = await exposed(instrumented)
    for word in (KEY, job_id, "x-marks-the-spot", "b_secret", "worker-of-mine"):
        assert word not in text


async def test_a_client_cannot_make_series_by_asking_for_queues(instrumented: Wire) -> None:
    await instrumented.enqueue()
    before = await samples(instrumented)
    for number in range(20):
        stats = spooled.GetQueueStatsRequest(queue_name=f"invented-{number}")
        await instrumented.call(stats)
    after = await samples(instrumented)
    assert not [labels for _, labels in after if "invented" in str(labels)]
    # Beside what the server's own loops did meanwhile, nothing but the method itself is new: its
    # buckets, its sum, its count, when it began.
    new = [dict(labels) for _, labels in after.keys() - before.keys()]
    assert [labels for labels in new if not labels.keys() & {"method", "operation"}] == []
    asked = [labels for labels in new if "method" in labels]
    assert {labels["method"] for labels in asked} == {"/spooled.v1.QueueService/GetQueueStats"}
    assert len(asked) < 25


QUEUE = {"organization": "default", "queue": "q"}


async def test_lost_leases_are_counted_and_so_are_the_dead_letters_that_they_make(
    instrumented: Wire,
) -> None:
    # One with a retry left, and one without.
    await instrumented.enqueue(max_retries=1)
    await instrumented.claim()
    for outcome in ("retry", "deadletter"):
        instrumented.clock.advance(31)

        async def is_counted(outcome: str = outcome) -> bool:
            labels = frozenset({**QUEUE, "outcome": outcome}.items())
            return ("spooled_expired_leases_total", labels) in await samples(instrumented)

        await aeventually(is_counted)
        if outcome == "retry":
            instrumented.clock.advance(3600)
            await aeventually(instrumented.claim)
    found = await samples(instrumented)
    for outcome in ("retry", "deadletter"):
        assert sample(found, "spooled_expired_leases_total", outcome=outcome, **QUEUE) == 1
        assert sample(found, "spooled_settled_jobs_total", outcome=outcome, **QUEUE) == 1


async def test_paused_and_retrying_queues_are_told_from_those_that_are_behind(
    instrumented: Wire,
) -> None:
    await instrumented.enqueue()
    job = await instrumented.claim()
    failed = spooled.FailRequest(job_id=job.id, worker_id="w", error="broken", retry=True)
    await instrumented.call(failed)
    await instrumented.call(queue_admin.PauseQueueRequest(queue_name="q"))
    register = spooled.RegisterWorkerRequest(queue_name="q", worker_id="w")
    await instrumented.call(register, "Register")
    instrumented.clock.advance(5)
    found = await samples(instrumented)
    assert sample(found, "spooled_queue_oldest_pending_seconds", **QUEUE) == 0
    assert sample(found, "spooled_queue_oldest_retrying_seconds", **QUEUE) == 5
    assert sample(found, "spooled_queue_paused", **QUEUE) == 1
    assert sample(found, "spooled_queue_workers", **QUEUE) == 1
    instrumented.clock.advance(OFFLINE_MS / 1000)
    assert sample(await samples(instrumented), "spooled_queue_workers", **QUEUE) == 0


async def test_how_long_jobs_wait_for_their_first_start_is_told(instrumented: Wire) -> None:
    await instrumented.enqueue()
    instrumented.clock.advance(40)
    await instrumented.enqueue()
    for _ in range(2):
        await instrumented.claim()
    found = await samples(instrumented)
    name = "spooled_job_wait_seconds"
    assert sample(found, f"{name}_sum", **QUEUE) == 40
    reached = {
        le: sample(found, f"{name}_bucket", le=le, **QUEUE) for le in ("0.01", "15.0", "60.0")
    }
    assert reached == {"0.01": 1, "15.0": 1, "60.0": 2}
    assert sample(found, f"{name}_bucket", le="+Inf", **QUEUE) == 2


async def test_queues_beyond_the_bound_are_counted_as_one(
    instrumented: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectors, "_OF_ONE_ORGANIZATION", 2)
    for number in range(5):
        await instrumented.enqueue(f"q{number}")
    found = await samples(instrumented)
    name, of = "spooled_enqueued_jobs_total", {"organization": "default", "outcome": "created"}
    assert sample(found, name, queue="q0", **of) == 1
    assert sample(found, name, queue="(others)", **of) == 3


async def test_the_writers_of_the_store_and_the_process_are_told(instrumented: Wire) -> None:
    found = await samples(instrumented)
    writers = {
        state: sample(found, "spooled_store_writers", state=state) for state in ("used", "free")
    }
    assert sum(writers.values()) in (1, 12)
    assert found["process_resident_memory_bytes", frozenset()] > 10_000_000

    async def nobody_waits() -> bool:
        return sample(await samples(instrumented), "spooled_store_waiting") == 0

    # The server's own sweep may wait for the one writer of a file while it is read.
    await aeventually(nobody_waits)


async def test_the_room_of_the_store_is_told_and_read_once_a_minute(
    instrumented: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await instrumented.enqueue()
    first = await samples(instrumented)
    sizes = {
        dict(labels)["part"]: at
        for (name, labels), at in first.items()
        if "bytes" in name and "part" in dict(labels) and dict(labels)["kind"] == "table"
    }
    assert sizes.get("jobs", 0) > 0 or sizes["file"] > sizes["free"] >= 0
    assert first["spooled_store_dead_rows", frozenset({("part", max(sizes))})] >= 0
    name = "spooled_store_operation_seconds_count"
    await samples(instrumented)
    assert sample(await samples(instrumented), name, operation="sizes") == 1
    monkeypatch.setattr(collectors, "_SIZES_SECONDS", 0.0)
    await samples(instrumented)
    assert sample(await samples(instrumented), name, operation="sizes") > 1


async def test_the_page_lists_exactly_what_is_told(instrumented: Wire) -> None:
    await instrumented.enqueue()
    opening = batch.OpenBatch(batch_id="b_1", queue_name="q", upload_id="u")
    async with instrumented.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
    job = await instrumented.claim()
    failed = spooled.FailRequest(job_id=job.id, worker_id="w", error="broken", retry=True)
    await instrumented.call(failed)
    await instrumented.enqueue()
    job = await instrumented.claim()
    outcome = batch.JobOutcome(job_id=job.id, worker_id="w", lease_id=job.lease_id)
    outcome.returned.throttles = True
    async with instrumented.conversation("Settle") as settling:
        await settling.write(batch.SettleRequest(outcomes=[outcome]))
        await settling.read()
    instrumented.clock.advance(1)
    await instrumented.claim()
    instrumented.clock.advance(31)

    async def is_counted() -> bool:
        return "spooled_expired_leases_total{" in await exposed(instrumented)

    await aeventually(is_counted)
    told = {}
    for family in text_string_to_metric_families(await exposed(instrumented)):
        if not family.name.endswith("_created"):
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            told[name] = (family.type, labels)
    rows = re.findall(
        r"^\| `((?:spooled|process)_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE
    )
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert listed == told


async def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    for address in ("9090", "localhost:", ":1"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            await Wire(tmp_path, metrics=address).server.start()
    async with Wire(tmp_path / "a", metrics="127.0.0.1:0") as first:
        other = Wire(tmp_path / "b", metrics=first.server.metrics_address)
        with pytest.raises(OSError, match="for metrics"):
            await other.server.start()
    async with Wire(tmp_path / "b") as free:
        await free.enqueue()
