"""A client's calls about whole queues."""

import pytest

from spooled_pipelines import errors


async def test_a_paused_queue_hands_out_nothing(open_client, server, queue: str) -> None:
    client = open_client(server)
    await client.enqueue(queue, {"n": 1})
    await client.pause_queue(queue)
    assert await client.dequeue(queue, "w") == []
    await client.resume_queue(queue)
    assert len(await client.dequeue(queue, "w")) == 1


async def test_dead_letters_are_seen_put_back_and_purged(open_client, server, queue: str) -> None:
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
    assert await client.redrive(queue, where="error 1") == 1
    assert await client.redrive(queue) == 2
    assert await client.purge_queue(queue) == 3
    assert (await client.queue_stats(queue)).pending == 0


async def test_what_cannot_be_asked_is_refused(open_client, server, plain_server) -> None:
    client = open_client(server)
    with pytest.raises(errors.InvalidArgumentError, match="limit is 0"):
        await client.dead_letters("q", limit=0)
    with pytest.raises(errors.InvalidArgumentError, match="queue"):
        await client.pause_queue("-q")
    with pytest.raises(errors.ServerError):
        await open_client(plain_server).pause_queue("q")
