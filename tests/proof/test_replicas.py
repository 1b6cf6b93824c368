"""Several servers on one PostgreSQL, of which one after another goes: nobody outside sees it.

In `make test` a thousand jobs or two; in `make check-long` a hundred thousand, sixteen workers, and
the database restarted as well.
"""

from __future__ import annotations

import random
import statistics
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooled_pipelines import connect
from spooled_pipelines.errors import DeadlineExceededError, UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support.fault_run import jobs_of
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.proof.replicas import (
    QUEUE,
    Callers,
    Executions,
    enqueue,
    kill_now_and_then,
    working,
)
from tests.support.proxy import Proxy
from tests.support.sampling import sampled
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.waiting import eventually

Serve = Callable[[str], ServerProcess]


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """A PostgreSQL of this module's own, which its tests stop."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def replicas(cluster: OwnCluster, serve: Serve) -> list[ServerProcess]:
    """Three servers on one database."""
    url = cluster.database()
    return [serve(url) for _ in range(3)]


LISTED, BALANCED = WAYS = ("a list of addresses", "a balancer of connections")


@pytest.fixture(params=WAYS)
def address(request: pytest.FixtureRequest, replicas: list[ServerProcess]) -> Iterator[str]:
    """Where all of them are, balanced by the client itself or by something before them."""
    listed = ",".join(one.address for one in replicas)
    if request.param == "a list of addresses":
        yield listed
        return
    with Proxy(*listed.split(",")) as balancer:
        yield balancer.address


async def recounted(url: str) -> list[object]:
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    try:
        return list(await store.recount())
    finally:
        await store.close()


@pytest.mark.parametrize("address", sampled(WAYS, [LISTED]), indirect=True)
def test_servers_that_are_killed_are_not_seen_by_those_who_use_them(
    replicas: list[ServerProcess], address: str, tmp_path: Path
) -> None:
    kill_servers(replicas, address, tmp_path, jobs=2_000, processes=2, each=2, pause=0.7)


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_servers_and_the_database_die_under_a_hundred_thousand_jobs(
    cluster: OwnCluster,
    replicas: list[ServerProcess],
    address: str,
    tmp_path: Path,
    size: Callable[[str, int], int],
) -> None:
    jobs = size("jobs", 100_000)
    kill_servers(
        replicas, address, tmp_path, jobs=jobs, processes=4, each=4, pause=5.0, cluster=cluster
    )


def kill_servers(
    replicas: list[ServerProcess],
    address: str,
    folder: Path,
    *,
    jobs: int,
    processes: int,
    each: int,
    pause: float,
    cluster: OwnCluster | None = None,
) -> None:
    over = threading.Event()
    kills: list[int] = []
    chance = random.Random(jobs)
    killer = threading.Thread(
        target=lambda: kills.append(kill_now_and_then(replicas, over, pause, chance))
    )
    with (
        connect(address, api_key=API_KEY) as client,
        working(address, folder, processes, each) as logs,
    ):
        killer.start()
        try:
            # A database that crashed is back when it is: by default a caller waits three seconds.
            retry = None if cluster is None else RetryPolicy(max_attempts=10)
            with Callers(address, retry) as callers:
                first = enqueue(client, jobs // 2, "first")
                if cluster is not None:
                    cluster.stop_at_once()
                    cluster.start()
                second = enqueue(client, jobs - jobs // 2, "second")
                for batch in (first, second):
                    stats = batch.wait(timeout=1_500)
                    assert (stats.completed, stats.total) == (batch.rows, batch.rows)
        finally:
            over.set()
            killer.join(60)
        assert callers.errors == []
        settled = client.queue_stats(QUEUE)
        assert (settled.completed, settled.total) == (jobs, jobs)
        assert client.queue_stats("singles").pending == len(callers.enqueued)
        made = jobs_of(client, first.id) + jobs_of(client, second.id)
    assert kills[0] >= 1
    runs = Executions(logs)
    assert len(runs.runs) == len(made) == jobs
    assert (runs.overlapping(), runs.without_reason(made)) == ([], [])
    print(
        f"\n{jobs} jobs, {processes * each} workers, {kills[0]} kills of a server"
        f"{', 1 crash of the database' if cluster else ''}: 0 lost, 0 doubled, 0 double leases, "
        f"{runs.again} runs again, {len(callers.seconds) * 2} calls with 0 errors"
    )


@pytest.mark.parametrize("address", sampled(WAYS, [BALANCED]), indirect=True)
def test_a_rolling_restart_is_seen_by_nobody(
    replicas: list[ServerProcess], address: str, tmp_path: Path
) -> None:
    restart_in_turn(replicas, address, tmp_path, jobs=1_000, rounds=1)


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_ten_rolling_restarts_are_seen_by_nobody(
    replicas: list[ServerProcess],
    address: str,
    tmp_path: Path,
    size: Callable[[str, int], int],
) -> None:
    restart_in_turn(replicas, address, tmp_path, jobs=size("jobs", 30_000), rounds=10)


def restart_in_turn(
    replicas: list[ServerProcess], address: str, folder: Path, *, jobs: int, rounds: int
) -> None:
    with (
        connect(address, api_key=API_KEY) as client,
        working(address, folder, 2, 2) as logs,
    ):
        with Callers(address) as callers:
            batches = [enqueue(client, jobs, "first")]
            for number in range(rounds):
                for replica in replicas:
                    seen = len(callers.seconds)
                    assert replica.stop() == 0
                    replica.restart()
                    # Under load: others answered meanwhile, and now this one may as well.
                    eventually(lambda seen=seen: len(callers.seconds) > seen + 5)
                batches.append(enqueue(client, 100, f"round {number}"))
            for batch in batches:
                assert batch.wait(timeout=600).completed == batch.rows
        assert client.queue_stats("singles").pending == len(callers.enqueued)
    assert callers.errors == []
    runs = Executions(logs)
    assert runs.overlapping() == []
    # A server that is told to go lets what it has handed out be settled elsewhere.
    assert runs.again == 0
    cuts = statistics.quantiles(callers.seconds, n=100)
    print(
        f"\n{rounds} rolling restarts of {len(replicas)} servers: "
        f"{len(callers.seconds) * 2} calls, 0 errors, p50 {cuts[49] * 1e3:.1f} ms, "
        f"p99 {cuts[98] * 1e3:.1f} ms, longest {max(callers.seconds) * 1e3:.0f} ms"
    )


def test_a_watch_on_one_server_sees_what_is_settled_on_another(
    replicas: list[ServerProcess],
) -> None:
    here, there, third = replicas
    with (
        connect(here.address, api_key=API_KEY) as enqueuer,
        connect(there.address, api_key=API_KEY) as worker,
        connect(third.address, api_key=API_KEY) as watcher,
    ):
        batch = enqueue(enqueuer, 3, "b")
        changes = watcher.batch(batch.id).watch()
        assert next(changes).pending == 3
        for job in worker.dequeue(QUEUE, "w", batch_size=3):
            worker.complete(job)
        assert [stats.settled for stats in changes][-1] is True


def test_a_batch_may_be_enqueued_through_several_servers_at_once(
    replicas: list[ServerProcess],
) -> None:
    clients = [connect(one.address, api_key=API_KEY) for one in replicas]
    opened = clients[0].open_batch("b", QUEUE, key="n")
    told = opened.to_dict()

    def add(number: int) -> None:
        part = [{"n": n} for n in range(number * 100, number * 100 + 150)]
        clients[number % 3].open_batch(told).add(number, part)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    batch = opened.seal(expected_parts=6)
    # The last fifty of each part are the first of the next.
    assert clients[1].batch(batch.id).stats().total == 650
    for client in clients:
        client.close()


def test_a_server_that_is_cut_off_from_the_database_hands_out_nothing(
    cluster: OwnCluster, serve: Serve
) -> None:
    url = cluster.database()
    server = serve(url)
    with (
        connect(server.address, api_key=API_KEY) as client,
        connect(server.address, api_key=API_KEY, timeout_seconds=3) as impatient,
    ):
        enqueue(client, 10, "b")
        taken = client.dequeue(QUEUE, "w", batch_size=2)
        assert len(taken) == 2
        cluster.stop_at_once()
        try:
            with pytest.raises((UnavailableError, DeadlineExceededError)):
                impatient.dequeue(QUEUE, "w", batch_size=2)
        finally:
            cluster.start()
        eventually(lambda: client.queue_stats(QUEUE).processing == 2)
