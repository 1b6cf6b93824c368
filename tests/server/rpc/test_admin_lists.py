"""Queues, batches and workers are listed as far as the key may see them."""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import Any, cast

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import KEY, OTHER_KEY, Wire, answered, method_named


async def open_batch(wire: Wire, batch_id: str, queue_name: str, *, rows: int = 0) -> None:
    opening = batch.OpenBatch(batch_id=batch_id, queue_name=queue_name, upload_id="u")
    async with wire.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
        if rows:
            names = [f"{batch_id}-{row}" for row in range(rows)]
            chunk = batch.JobChunk(payloads=[b""] * rows, idempotency_keys=names)
            await upload.write(batch.EnqueueBatchRequest(chunk=chunk))
            await upload.read()


async def fill(wire: Wire) -> None:
    for queue in ("orders", "mails"):
        await open_batch(wire, f"b-{queue}", queue, rows=3)
        worker = spooled.RegisterWorkerRequest(queue_name=queue, worker_id=f"w-{queue}")
        await wire.call(worker, "Register")


async def seen(wire: Wire, key: str, queue_name: str = "") -> list[list[str]]:
    queues = await wire.call(queue_admin.ListQueuesRequest(queue_name=queue_name), key=key)
    batches = await wire.call(batch.ListBatchesRequest(queue_name=queue_name), key=key)
    workers = await wire.call(queue_admin.ListWorkersRequest(queue_name=queue_name), key=key)
    jobs = await wire.call(queue_admin.ListJobsRequest(queue_name=queue_name), key=key)
    of_queues = {listed.job.queue_name for listed in jobs.jobs}
    assert of_queues == {queue.stats.queue_name for queue in queues.queues}
    return [
        [queue.stats.queue_name for queue in queues.queues],
        [found.batch_id for found in batches.batches],
        sorted(worker.worker_id for worker in workers.workers),
    ]


async def test_a_listing_holds_what_the_key_may_see(wire: Wire) -> None:
    await fill(wire)
    everything = await wire.call(keys.CreateKeyRequest(name="n", role="read"))
    every = [["mails", "orders"], ["b-mails", "b-orders"], ["w-mails", "w-orders"]]
    mails = [["mails"], ["b-mails"], ["w-mails"]]
    assert await seen(wire, everything.secret) == every
    assert await seen(wire, everything.secret, "mails") == mails
    limited = await wire.call(keys.CreateKeyRequest(name="n", role="admin", queues=["mails", "x"]))
    assert await seen(wire, limited.secret) == mails
    with answered("PERMISSION_DENIED", "other queues"):
        await seen(wire, limited.secret, "orders")
    assert await seen(wire, OTHER_KEY) == [[], [], []]


async def test_a_search_shows_no_job_of_a_queue_that_the_key_may_not_see(wire: Wire) -> None:
    await open_batch(wire, "b-mails", "mails", rows=2)
    # A row of this batch is a job of the other queue already.
    await wire.enqueue("orders", idempotency_key="b-orders-0")
    opening = batch.OpenBatch(batch_id="b-mails", queue_name="mails", upload_id="v")
    async with wire.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
        chunk = batch.JobChunk(payloads=[b""], idempotency_keys=["b-orders-0"])
        await upload.write(batch.EnqueueBatchRequest(chunk=chunk))
        await upload.read()
    find = batch.FindBatchJobsRequest(batch_id="b-mails")
    assert len((await wire.call(find)).jobs) == 3
    limited = await wire.call(keys.CreateKeyRequest(name="n", role="read", queues=["mails"]))
    found = await wire.call(find, key=limited.secret)
    assert [job.queue_name for job in found.jobs] == ["mails", "mails"]
    with answered("NOT_FOUND"):
        await wire.call(find, key=OTHER_KEY)


async def test_pages_go_on_where_the_one_before_ended(wire: Wire) -> None:
    await fill(wire)
    await open_batch(wire, "b-last", "mails")
    names: list[str] = []
    for request, of, name in (
        (queue_admin.ListQueuesRequest(page_size=1), "queues", "stats.queue_name"),
        (batch.ListBatchesRequest(page_size=1), "batches", "batch_id"),
        (batch.FindBatchJobsRequest(batch_id="b-mails", page_size=1), "jobs", "idempotency_key"),
    ):
        while True:
            answer = await wire.call(request)
            names += [attrgetter(name)(entry) for entry in getattr(answer, of)]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    assert names[:5] == ["mails", "orders", "b-last", "b-mails", "b-orders"]
    assert names[5:] == ["b-mails-0", "b-mails-1", "b-mails-2"]
    wrong: list[Any] = [
        queue_admin.ListQueuesRequest(page_token="no name"),
        batch.ListBatchesRequest(page_token="x"),
        batch.ListBatchesRequest(page_size=1_001),
        queue_admin.ListJobsRequest(page_token="x"),
        queue_admin.ListJobsRequest(statuses=cast("Any", [0])),
        batch.FindBatchJobsRequest(batch_id="b-mails", statuses=cast("Any", [9])),
    ]
    for request in wrong:
        with answered("INVALID_ARGUMENT"):
            await wire.call(request)


async def test_tokens_do_not_count_what_others_have(wire: Wire) -> None:
    requests = (batch.ListBatchesRequest(page_size=1), keys.ListAuditRequest(page_size=1))
    tokens = set()
    for name in ("b-1", "b-2", "b-3"):
        await open_batch(wire, name, "mails")
        await wire.call(queue_admin.PauseQueueRequest(queue_name="mails"))
        tokens |= {(await wire.call(request)).next_page_token for request in requests}
    # The first page of one batch, or one entry, has no other behind it.
    tokens.remove("")
    assert {len(token) for token in tokens} == {32}
    places = sorted(int(token, 16) >> 64 for token in tokens)
    assert min(b - a for a, b in itertools.pairwise(places)) > 1_000
    for request, other in (requests, requests[::-1]):
        request.page_token = (await wire.call(other)).next_page_token
        with answered("INVALID_ARGUMENT", "is not one that this server gave out"):
            await wire.call(request)
        request.page_token = ""


async def test_a_worker_that_missed_its_heartbeats_is_offline(wire: Wire) -> None:
    await fill(wire)
    wire.clock.advance(20)
    await wire.call(spooled.HeartbeatRequest(worker_id="w-mails", current_jobs=2, status="busy"))
    # Sooner than a lease of 30 s runs out.
    wire.clock.advance(9)
    listed = (await wire.call(queue_admin.ListWorkersRequest())).workers
    assert [(w.worker_id, w.offline, w.current_jobs, w.status) for w in listed] == [
        ("w-mails", False, 2, "busy"),
        ("w-orders", True, 0, "healthy"),
    ]


async def in_organization(wire: Wire, wanted: str, request: Any, *, key: str = KEY) -> Any:
    name = type(request).__name__.removesuffix("Request")
    headers = (("x-api-key", key), ("x-spooled-organization", wanted))
    return await wire.open(method_named(name), request, metadata=headers)


async def test_an_operator_looks_at_other_organizations_and_changes_nothing_there(
    wire: Wire,
) -> None:
    await fill(wire)
    job_id = await wire.enqueue("theirs", key=OTHER_KEY)
    listed = await in_organization(wire, "other", queue_admin.ListQueuesRequest())
    assert [queue.stats.queue_name for queue in listed.queues] == ["theirs"]
    shown = await in_organization(wire, "other", spooled.GetJobRequest(job_id=job_id))
    assert shown.job.id == job_id
    for changes in (
        spooled.EnqueueRequest(queue_name="theirs"),
        spooled.DequeueRequest(queue_name="theirs", worker_id="w"),
        queue_admin.PauseQueueRequest(queue_name="theirs"),
        keys.CreateKeyRequest(name="n", role="read"),
    ):
        with answered("PERMISSION_DENIED", "only looks at"):
            await in_organization(wire, "other", changes)
    # Neither an admin key of the store nor a key of another organization looks elsewhere.
    made = await wire.call(keys.CreateKeyRequest(name="n", role="admin"))
    for key, wanted in ((made.secret, "other"), (OTHER_KEY, "default")):
        with answered("PERMISSION_DENIED", "is for the organization"):
            await in_organization(wire, wanted, queue_admin.ListQueuesRequest(), key=key)
