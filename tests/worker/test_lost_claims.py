"""Claims whose answer is lost on its way: their jobs come with the next one, on both stores."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spooled_pipelines import Job, SpooledClient
from spooled_pipelines.worker import Worker
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

LEASE_SECONDS = 600


@contextmanager
def working(client: SpooledClient, proxy: Proxy, queue: str, handler: Any) -> Iterator[None]:
    worker = Worker(
        proxy.address,
        queue,
        handler,
        api_key=client.settings.api_key,
        concurrency=1,
        lease_seconds=LEASE_SECONDS,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def test_a_chunk_that_never_arrived_is_worked_on_long_before_its_lease_ends(
    typed_client: SpooledClient, queue: str
) -> None:
    runs: Counter[int] = Counter()
    with Proxy(typed_client.settings.address) as proxy:

        def handler(job: Job) -> None:
            number = int(job.payload["n"])
            runs[number] += 1
            if number == 0:
                proxy.lose_answers()

        batch = typed_client.enqueue_batch([{"n": n} for n in range(12)], queue, key="n")
        with working(typed_client, proxy, queue, handler):
            # The first is settled, and others are leased of which nobody hears.
            eventually(lambda: (batch.stats().completed, batch.stats().processing > 0) == (1, True))
            proxy.cut()
            assert batch.wait(timeout=60).completed == 12
    assert runs == dict.fromkeys(range(12), 1)
    job_ids = batch.ledger["job_id"].to_pylist()
    assert {typed_client.get_job(job_id).deliveries for job_id in job_ids} == {1}


def test_a_job_that_never_arrived_at_an_idle_worker_comes_again(
    typed_client: SpooledClient, queue: str
) -> None:
    with Proxy(typed_client.settings.address) as proxy:
        first = typed_client.enqueue_batch([{"n": 1}], queue, name=queue)
        with working(typed_client, proxy, queue, lambda _: None):
            first.wait(timeout=60)
            is_lost = proxy.lose_answers(holding=b"a mark")
            second = typed_client.enqueue_batch([{"n": "a mark"}], queue, name=f"{queue}-2")
            # However the worker came to ask for it.
            assert is_lost.wait(60)
            assert second.stats().processing == 1
            proxy.cut()
            assert second.wait(timeout=60).completed == 1
