"""Servers that die, hang, limit, or lose an answer: what is safe is repeated, the rest is told."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from spooled_pipelines import AsyncSpooledClient, errors
from spooled_pipelines.rpc.aio import runtime as aio_runtime
from spooled_pipelines.rpc.channel import channel_options
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.sync import runtime as sync_runtime
from spooled_pipelines.types import JobStatus
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.types import OpenClient, StartServer
from tests.support.waiting import aeventually

WORKER = "worker-1"
PATIENT = RetryPolicy(max_attempts=50, initial_seconds=0.05, max_seconds=0.3)
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.address) as running:
        yield running


async def test_a_call_survives_a_server_that_died_and_came_back(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server)
    first = await client.enqueue(queue, {"n": 1})
    server.kill()
    server.restart()
    assert (await client.get_job(first.job_id)).payload == {"n": 1}
    server.kill()
    server.restart()
    await client.enqueue(queue, {"n": 2})
    server.kill()
    server.restart()
    # Never safe to repeat, but this one never reached a server before.
    assert len(await client.dequeue(queue, WORKER, batch_size=10)) == 2


async def test_a_call_waits_for_a_server_that_comes_back_meanwhile(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server, retry=PATIENT)
    await client.wait_for_ready()
    server.kill()
    sending = asyncio.ensure_future(client.enqueue(queue, {"n": 1}))
    await asyncio.to_thread(server.restart)
    assert (await sending).created
    assert (await client.queue_stats(queue)).pending == 1


async def test_an_enqueue_whose_answer_was_lost_makes_one_job(
    open_client: OpenClient, server: ServerProcess, proxy: Proxy, queue: str
) -> None:
    direct, client = open_client(server), open_client(address=proxy.address, api_key=server.api_key)
    await client.wait_for_ready()
    proxy.lose_answers()
    sending = asyncio.ensure_future(client.enqueue(queue, {"n": 1}))
    await aeventually(lambda: _pending(direct, queue))
    proxy.cut()
    sent = await sending
    assert sent.created
    assert (await direct.get_job(sent.job_id)).payload == {"n": 1}
    assert (await direct.queue_stats(queue)).total == 1


async def _pending(client: AsyncSpooledClient, queue: str) -> bool:
    return (await client.queue_stats(queue)).pending == 1


async def test_a_complete_whose_answer_was_lost_is_a_success(
    open_client: OpenClient, server: ServerProcess, proxy: Proxy, queue: str
) -> None:
    direct, client = open_client(server), open_client(address=proxy.address, api_key=server.api_key)
    await direct.enqueue(queue, {"n": 1})
    (job,) = await direct.dequeue(queue, WORKER)
    await client.wait_for_ready()
    proxy.lose_answers()
    settling = asyncio.ensure_future(client.complete(job, result={"ok": 1}))

    async def is_done() -> bool:
        return (await direct.get_job(job.id)).status is JobStatus.COMPLETED

    await aeventually(is_done)
    proxy.cut()
    await settling


async def test_a_complete_that_somebody_else_made_meanwhile_is_a_conflict(
    open_client: OpenClient, server: ServerProcess, proxy: Proxy, queue: str
) -> None:
    """The answer was lost, too; but the job's result is not this call's."""
    direct, client = open_client(server), open_client(address=proxy.address, api_key=server.api_key)
    await direct.enqueue(queue, {"n": 1})
    (job,) = await direct.dequeue(queue, WORKER)
    await direct.complete(job, result={"by": "somebody else"})
    await client.wait_for_ready()
    proxy.lose_answers()
    settling = asyncio.ensure_future(client.complete(job, result={"by": "me"}))
    done, _ = await asyncio.wait([settling], timeout=0.3)
    assert not done
    proxy.cut()
    with pytest.raises(errors.ConflictError) as caught:
        await settling
    assert caught.value.details["attempts"] >= 2


async def test_a_dequeue_whose_answer_was_lost_is_not_repeated(
    open_client: OpenClient, server: ServerProcess, proxy: Proxy, queue: str
) -> None:
    direct, client = open_client(server), open_client(address=proxy.address, api_key=server.api_key)
    for number in range(2):
        await direct.enqueue(queue, {"n": number})
    await client.wait_for_ready()
    proxy.lose_answers()
    taking = asyncio.ensure_future(client.dequeue(queue, WORKER))
    await aeventually(lambda: _pending(direct, queue))
    proxy.cut()
    with pytest.raises(errors.UnavailableError) as caught:
        await taking
    assert caught.value.details["attempts"] == 1
    assert (await direct.queue_stats(queue)).processing == 1
    # The next one gives back what this one was not told of.
    jobs = await client.dequeue(queue, WORKER, batch_size=2)
    assert sorted(job.payload["n"] for job in jobs) == [0, 1]
    assert {job.deliveries for job in jobs} == {1}


async def test_a_settling_call_without_a_lease_is_not_repeated(
    open_client: OpenClient, server: ServerProcess, proxy: Proxy, queue: str
) -> None:
    direct, client = open_client(server), open_client(address=proxy.address, api_key=server.api_key)
    await direct.enqueue(queue, {})
    (job,) = await direct.dequeue(queue, WORKER)
    await client.wait_for_ready()
    proxy.lose_answers()
    settling = asyncio.ensure_future(client.fail(job.id, "broken", WORKER))

    async def has_failed() -> bool:
        return (await direct.get_job(job.id)).retry_count == 1

    await aeventually(has_failed)
    proxy.cut()
    with pytest.raises(errors.UnavailableError):
        await settling


async def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server, timeout_seconds=0.5)
    await client.wait_for_ready()
    server.pause()
    with pytest.raises(errors.DeadlineExceededError) as caught:
        await client.queue_stats(queue)
    assert "0.5 s" in caught.value.message
    assert server.address in caught.value.message
    server.resume()


async def test_the_deadline_counts_tries_and_waits_together(
    open_client: OpenClient, queue: str
) -> None:
    slow = RetryPolicy(max_attempts=1000, initial_seconds=0.2, max_seconds=0.2)
    client = open_client(address="127.0.0.1:1", api_key="k", timeout_seconds=3.0, retry=slow)
    # The last try is refused, or cut short.
    with pytest.raises((errors.UnavailableError, errors.DeadlineExceededError)) as caught:
        await client.queue_stats(queue)
    # It has tried again, and been ended by the clock rather than by the number of tries.
    assert 1 < caught.value.details["attempts"] < 1000


async def test_a_stream_notices_a_server_that_hangs(
    open_client: OpenClient, start_server: StartServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 30 s without a word a ping, and 10 s for its answer; here twenty times as fast."""

    def faster(settings: ConnectionSettings) -> list[tuple[str, int | str]]:
        return [
            (name, value // 20 if "keepalive_t" in name or "ping_timeout" in name else value)
            for name, value in channel_options(settings)
        ]

    for side in (aio_runtime, sync_runtime):
        monkeypatch.setattr(side, "channel_options", faster)
    server = start_server()
    client = open_client(server)
    await client.wait_for_ready()
    stream = aiter(client.stream_jobs(queue, WORKER))
    waiting = asyncio.ensure_future(anext(stream))
    server.pause()
    # Less than the 40 s that it would take without that.
    with pytest.raises(errors.UnavailableError):
        await asyncio.wait_for(waiting, 20)
    server.resume()


async def test_a_rate_limit_is_waited_out(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server("--rate-limit", "20")
    client = open_client(server, retry=PATIENT)
    await asyncio.gather(*(client.enqueue(queue, {"n": n}) for n in range(70)))
    assert (await client.queue_stats(queue)).pending == 70


async def test_a_rate_limit_that_is_not_waited_out_says_how_long(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server("--rate-limit", "1")
    client = open_client(server, retry=ONCE)
    with pytest.raises(errors.RateLimitError) as caught:
        await asyncio.gather(*(client.queue_stats(queue) for _ in range(10)))
    assert caught.value.retry_after > 0
    assert caught.value.code == "RESOURCE_EXHAUSTED"


async def test_each_retry_is_logged_without_key_or_payload(
    open_client: OpenClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sp_live_secret0123456789"
    policy = RetryPolicy(max_attempts=3, initial_seconds=0.01)
    client = open_client(address="127.0.0.1:1", api_key=key, retry=policy)
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.UnavailableError) as caught:
        await client.enqueue(queue, {"private": "payload-marker"})
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("spooled_pipelines")]
    assert len(ours) == 2
    assert "try 1 of 3" in ours[0]
    for text in (caplog.text, str(caught.value), repr(caught.value.details), repr(client)):
        assert key not in text
        assert "payload-marker" not in text
