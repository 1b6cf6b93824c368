"""A client's calls about whole queues."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from spooled_pipelines import errors
from spooled_pipelines.types import QueueLimits
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.types import OpenClient, StartServer
from tests.support.waiting import aeventually


async def test_a_paused_queue_hands_out_nothing(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server)
    await client.enqueue(queue, {"n": 1})
    await client.pause_queue(queue)
    assert await client.dequeue(queue, "w") == []
    await client.resume_queue(queue)
    assert len(await client.dequeue(queue, "w")) == 1


async def test_a_limited_queue_hands_out_so_many_and_no_more(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server)
    assert await client.queue_limits(queue) == QueueLimits()
    for n in range(5):
        await client.enqueue(queue, {"n": n})
    kept = await client.set_queue_limits(queue, jobs_per_second=0.001, burst=2, max_in_flight=3)
    assert kept == QueueLimits(0.001, 2, 3)
    assert await client.queue_limits(queue) == kept
    assert len(await client.dequeue(queue, "w", batch_size=5)) == 2
    assert await client.set_queue_limits(queue, max_in_flight=3) == QueueLimits(None, None, 3)
    assert len(await client.dequeue(queue, "w", batch_size=5)) == 1
    assert await client.set_queue_limits(queue) == QueueLimits()
    assert len(await client.dequeue(queue, "w", batch_size=5)) == 2


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"jobs_per_second": 0}, "jobs_per_second must be .* got 0;"),
        ({"jobs_per_second": float("nan")}, "jobs_per_second must be .* got nan;"),
        ({"jobs_per_second": "fast"}, "jobs_per_second must be .* got 'fast';"),
        ({"burst": 1}, "burst must come with jobs_per_second"),
        ({"max_in_flight": 0.5}, "max_in_flight must be .* got 0.5"),
        ({"max_in_flight": 2**40}, "max_in_flight must be .* got 1099511627776"),
    ],
)
async def test_limits_that_make_no_sense_are_refused_before_they_are_sent(
    open_client: OpenClient, server: ServerProcess, limits: dict[str, Any], text: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=text):
        await open_client(server).set_queue_limits("q", **limits)


async def test_dead_letters_are_seen_put_back_and_purged(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server)
    for n in range(3):
        await client.enqueue(queue, {"n": n})
    for job in await client.dequeue(queue, "w", batch_size=3):
        await client.fail(job, f"error {job.payload['n']}", retry=False)
    found = await client.dead_letters(queue)
    assert [(job.payload["n"], job.last_error) for job in found] == [
        (n, f"error {n}") for n in range(3)
    ]
    assert await client.dead_letters(queue, limit=2) == found[:2]
    assert await client.retry_dead_letters(queue, error_contains="error 1") == 1
    assert await client.retry_dead_letters(queue) == 2
    assert await client.purge_queue(queue) == 3
    assert (await client.queue_stats(queue)).pending == 0


async def test_what_cannot_be_asked_is_refused(
    open_client: OpenClient, server: ServerProcess, plain_server: ServerProcess
) -> None:
    client = open_client(server)
    with pytest.raises(errors.InvalidArgumentError, match=r"limit must be .* got 0"):
        await client.dead_letters("q", limit=0)
    with pytest.raises(errors.InvalidArgumentError, match="queue"):
        await client.pause_queue("-q")
    with pytest.raises(errors.ServerError):
        await open_client(plain_server).pause_queue("q")


async def test_queues_are_listed_with_their_counters_and_limits(
    start_server: StartServer, open_client: OpenClient
) -> None:
    client = open_client(start_server())
    assert await client.queues() == []
    for name in ("b", "a", "c"):
        await client.enqueue(name, {"n": 1})
    await client.pause_queue("b")
    await client.set_queue_limits("c", max_in_flight=3)
    found = await client.queues()
    assert [queue.name for queue in found] == ["a", "b", "c"]
    assert [queue.stats.pending for queue in found] == [1, 1, 1]
    assert [queue.paused for queue in found] == [False, True, False]
    assert found[2].limits == QueueLimits(max_in_flight=3)
    counted = [found[0].stats, await client.queue_stats("a")]
    # They get older from one look to the next.
    assert len({replace(stats, max_age_ms=0) for stats in counted}) == 1
    assert [queue.name for queue in await client.queues(limit=2)] == ["a", "b"]


async def test_workers_are_listed_the_last_one_that_was_heard_first(
    start_server: StartServer, open_client: OpenClient
) -> None:
    client = open_client(start_server())
    assert await client.workers() == []
    for name in ("orders", "mail"):
        registered = await client.register_worker(
            name, hostname=f"host-of-{name}", max_concurrency=4
        )
        await client.heartbeat(registered.worker_id, current_jobs=2)
    (mail,) = await client.workers("mail")
    assert (mail.worker_id, mail.queue_name) == (registered.worker_id, "mail")
    assert (mail.hostname, mail.max_concurrency, mail.current_jobs) == ("host-of-mail", 4, 2)
    assert mail.registered_at is not None
    assert mail.seen_at is not None
    assert not mail.offline
    assert len(await client.workers()) == 2
    assert len(await client.workers(limit=1)) == 1


@pytest.mark.parametrize("call", ["queues", "workers", "batches"])
@pytest.mark.parametrize("limit", [0, True, "many"])
async def test_a_list_of_nothing_is_refused_before_it_is_asked_for(
    open_client: OpenClient, server: ServerProcess, call: str, limit: object
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=rf"limit must be .* got {limit!r}"):
        await getattr(open_client(server), call)(limit=limit)


async def test_a_purge_whose_answer_was_lost_spares_what_came_since(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    near = open_client(server)
    for n in range(3):
        await near.enqueue(queue, {"n": n})
    with Proxy(server.address) as proxy:
        far = open_client(address=proxy.address, api_key=server.api_key)
        await far.queue_stats(queue)
        proxy.lose_answers()
        purging = asyncio.create_task(far.purge_queue(queue))
        await aeventually(lambda: is_empty(near, queue))
        await near.enqueue(queue, {"n": 3})
        proxy.cut()
        assert await purging == 3
    assert (await near.queue_stats(queue)).pending == 1


async def is_empty(client: Any, queue: str) -> bool:
    return not (await client.queue_stats(queue)).pending
