"""Streams: jobs as they come, settled in the same conversation, closed promptly."""

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest

from spooled_pipelines import AsyncSpooledClient, Job, SpooledClient, errors
from spooled_pipelines.client.process_responses import (
    JobCompleted,
    JobFailed,
    LeaseRenewed,
    RequestRejected,
)
from tests.support.server_process import ServerProcess
from tests.support.types import OpenClient, StartServer
from tests.support.waiting import DEADLINE_SECONDS, aeventually, eventually

WORKER = "worker-1"


async def take(stream: Any, count: int) -> list[Any]:
    return [await asyncio.wait_for(stream.__anext__(), 60) for _ in range(count)]


async def test_jobs_come_as_they_are_enqueued(any_client: AsyncSpooledClient, queue: str) -> None:
    await any_client.enqueue(queue, {"n": 0})
    async with any_client.stream_jobs(queue, WORKER) as jobs:
        stream = aiter(jobs)
        (first,) = await take(stream, 1)
        await any_client.enqueue(queue, {"n": 1})
        (second,) = await take(stream, 1)
    assert [first.payload["n"], second.payload["n"]] == [0, 1]
    await any_client.complete(first)
    await any_client.complete(second)


async def test_a_closed_stream_takes_nothing_more(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    async with any_client.stream_jobs(queue, WORKER):
        pass
    await any_client.enqueue(queue, {"n": 0})
    jobs = await any_client.dequeue(queue, "worker-2")
    assert [job.payload["n"] for job in jobs] == [0]


@pytest.mark.parametrize("kind", ["stream_jobs", "process_jobs"])
async def test_closing_ends_an_iteration_that_waits(
    any_client: AsyncSpooledClient, queue: str, kind: str
) -> None:
    """From outside, promptly, and as an end, not as an error."""
    stream: Any = any_client.process_jobs()
    if kind == "stream_jobs":
        stream = any_client.stream_jobs(queue, WORKER)
    iterator = aiter(stream)
    waiting = asyncio.ensure_future(anext(iterator, None))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await stream.aclose()
    assert await waiting is None
    await stream.aclose()
    assert await anext(iterator, None) is None


async def test_closing_the_client_ends_its_streams(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server)
    iterator = aiter(client.stream_jobs(queue, WORKER))
    waiting = asyncio.ensure_future(anext(iterator, None))
    await aeventually(lambda: not waiting.done())
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await client.close()
    with pytest.raises(errors.UnavailableError) as caught:
        await waiting
    assert caught.value.reason == "cancelled"


async def test_streams_have_no_deadline(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    """A call of this client may take half a second; its stream waits for longer than that."""
    client = open_client(server, timeout_seconds=0.5)
    async with client.stream_jobs(queue, WORKER) as jobs:
        waiting = asyncio.ensure_future(anext(aiter(jobs)))
        done, _ = await asyncio.wait([waiting], timeout=1.5)
        assert not done
        await client.enqueue(queue, {"n": 1})
        assert (await asyncio.wait_for(waiting, 60)).payload == {"n": 1}


async def test_a_stream_says_when_the_server_is_gone(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server)
    await client.wait_for_ready()
    iterator = aiter(client.stream_jobs(queue, WORKER))
    waiting = asyncio.ensure_future(anext(iterator, None))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    server.kill()
    with pytest.raises(errors.UnavailableError):
        await asyncio.wait_for(waiting, 60)


async def test_a_wrong_request_is_refused_before_a_stream_is_opened(
    any_client: AsyncSpooledClient,
) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        any_client.stream_jobs("not a queue", WORKER)


async def test_a_conversation_takes_renews_and_settles(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    for number in range(3):
        await any_client.enqueue(queue, {"n": number})
    async with any_client.process_jobs() as stream:
        answers = aiter(stream)
        await stream.dequeue(queue, WORKER, batch_size=3)
        jobs = await take(answers, 3)
        assert [job.payload["n"] for job in jobs] == [0, 1, 2]
        await stream.renew_lease(jobs[0], lease_seconds=300)
        await stream.complete(jobs[0], result={"ok": True})
        await stream.fail(jobs[1], "broken")
        await stream.fail(jobs[2], "hopeless", retry=False)
        assert stream.unanswered <= 4
        renewed, completed, failed, dead = await take(answers, 4)
    assert isinstance(renewed, LeaseRenewed)
    assert renewed.lease_expires_at > jobs[0].lease_expires_at
    assert completed == JobCompleted(jobs[0].id)
    assert failed == JobFailed(jobs[1].id, will_retry=True, next_retry_delay=60)
    assert dead == JobFailed(jobs[2].id, will_retry=False, next_retry_delay=0)
    assert stream.unanswered == 0
    assert (await any_client.get_job(jobs[0].id)).result == {"ok": True}


async def test_a_refusal_names_its_job_and_the_conversation_goes_on(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    for number in range(2):
        await any_client.enqueue(queue, {"n": number})
    async with any_client.process_jobs() as stream:
        answers = aiter(stream)
        await stream.dequeue(queue, WORKER, batch_size=2)
        one, two = await take(answers, 2)
        await stream.complete(one)
        await stream.complete(one)
        await stream.complete("no-such-job", WORKER, lease_id="x")
        await stream.renew_lease(two, lease_id="somebody-elses")
        await stream.complete(two)
        done, twice, unknown, stale, last = await take(answers, 5)
    assert done == JobCompleted(one.id)
    assert isinstance(twice, RequestRejected)
    assert (twice.request, twice.job_id) == ("complete", one.id)
    assert type(twice.error) is errors.ConflictError
    assert isinstance(unknown, RequestRejected)
    assert unknown.job_id == "no-such-job"
    assert isinstance(unknown.error, errors.NotFoundError)
    assert isinstance(stale, RequestRejected)
    assert (stale.request, stale.job_id) == ("renew_lease", two.id)
    assert isinstance(stale.error, errors.LeaseLostError)
    assert last == JobCompleted(two.id)


async def test_after_done_writing_the_answers_still_come(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    await any_client.enqueue(queue, {})
    async with any_client.process_jobs() as stream:
        answers = aiter(stream)
        await stream.dequeue(queue, WORKER)
        (job,) = await take(answers, 1)
        await stream.complete(job)
        await stream.done_writing()
        await stream.done_writing()
        rest = await asyncio.wait_for(_all(answers), 60)
        assert rest == [JobCompleted(job.id)]
        with pytest.raises(errors.ConflictError):
            await stream.complete(job)


async def _all(stream: Any) -> list[Any]:
    return [answer async for answer in stream]


async def test_writing_to_a_conversation_that_ended_says_why(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server)
    stream = client.process_jobs()
    await stream.dequeue(queue, WORKER)
    server.kill()
    with pytest.raises(errors.UnavailableError):
        await asyncio.wait_for(_all(aiter(stream)), 10)
    with pytest.raises(errors.UnavailableError):
        await stream.dequeue(queue, WORKER)


async def test_writing_to_a_closed_conversation_says_so(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    stream = any_client.process_jobs()
    await stream.dequeue(queue, WORKER)
    await stream.aclose()
    with pytest.raises(errors.ConflictError):
        await stream.dequeue(queue, WORKER)


async def test_a_wrong_key_ends_a_conversation_with_its_error(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(address=server.address, api_key="sp_test_not_a_key")
    for stream in (client.process_jobs(), client.stream_jobs(queue, WORKER)):
        with pytest.raises(errors.AuthenticationError):
            await asyncio.wait_for(_all(aiter(stream)), 10)


def test_any_thread_may_write_while_another_reads(client: SpooledClient, queue: str) -> None:
    count, threads = 200, 4
    for number in range(count):
        client.enqueue(queue, {"n": number})
    done: list[str] = []
    todo: SimpleQueue[Job | None] = SimpleQueue()
    with client.process_jobs() as stream:

        def settle() -> None:
            while job := todo.get():
                stream.complete(job, result={"n": job.payload["n"]})

        writers = [threading.Thread(target=settle, daemon=True) for _ in range(threads)]
        for writer in writers:
            writer.start()
        came = 0
        stream.dequeue(queue, WORKER, batch_size=50)
        for answer in stream:
            if isinstance(answer, Job):
                todo.put(answer)
                came += 1
                if came % 50 == 0:
                    stream.dequeue(queue, WORKER, batch_size=50)
            else:
                assert isinstance(answer, JobCompleted), answer
                done.append(answer.job_id)
            if len(done) == count:
                break
        for _ in writers:
            todo.put(None)
        for writer in writers:
            writer.join()
    assert len(set(done)) == count
    assert client.queue_stats(queue).completed == count


def test_a_writer_that_waits_for_room_is_let_go_when_the_conversation_ends(
    start_server: StartServer, queue: str
) -> None:
    """The server stops reading; sooner or later write() waits; a kill must free it."""
    server: ServerProcess = start_server()
    raised: list[errors.SpooledError] = []
    written = [0]
    with SpooledClient(server.address, api_key=server.api_key) as client:
        client.wait_for_ready()
        stream = client.process_jobs()
        stream.complete("some-job", WORKER, lease_id="x")
        assert isinstance(next(iter(stream)), RequestRejected)
        server.pause()

        def flood() -> None:
            try:
                while True:
                    stream.complete("some-job", WORKER, {"fill": "x" * 100_000}, lease_id="x")
                    written[0] += 1
            except errors.SpooledError as error:
                raised.append(error)

        writer = threading.Thread(target=flood, daemon=True)
        writer.start()
        seen = [-1, time.monotonic()]

        def stands_still() -> bool:
            if written[0] != seen[0]:
                seen[:] = [written[0], time.monotonic()]
            return time.monotonic() - seen[1] > 0.5

        eventually(stands_still)
        assert writer.is_alive()
        stream.close()
        writer.join(DEADLINE_SECONDS)
        assert not writer.is_alive()
        assert len(raised) == 1
        server.resume()
