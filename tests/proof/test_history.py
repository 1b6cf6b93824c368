"""No two workers ever hold one lease, and none settles with an old one, whichever dies or sleeps.

The histories are the claimers' own: see claimer.py for what they note, history.py for the check.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.postgres import Cluster
from tests.support.proof.claiming import Plan, run
from tests.support.proof.history import Findings
from tests.support.server_process import ServerProcess

Serve = Callable[[str], ServerProcess]


def is_sound(found: Findings, jobs: int) -> None:
    assert found.jobs == jobs
    assert found.double_leases == []
    assert found.stale_settles == []
    assert found.wrong == []


def test_leases_are_single_and_settles_fresh_while_claimers_die_and_sleep(
    serve: Serve, cluster: Cluster, tmp_path: Path
) -> None:
    """Both stores at the same time: most of it is waiting for leases to run out."""
    jobs = 400
    plan = Plan(
        jobs, claimers=3, kills=2, stops=2, work_ms=15, pause_seconds=0.6, deadline_seconds=60
    )
    urls = {"sqlite": f"sqlite:///{tmp_path / 'jobs.db'}", "postgresql": cluster.database()}
    servers = {kind: serve(url) for kind, url in urls.items()}
    with ThreadPoolExecutor() as threads:
        running = [
            threads.submit(run, servers[kind], url, tmp_path / kind, plan)
            for kind, url in urls.items()
        ]
    for found in running:
        is_sound(found.result(), jobs)
        # It was worth checking: leases were lost, and their holders came back to settle.
        assert found.result().jobs_leased_again
        assert found.result().refused


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
def test_leases_are_single_and_settles_fresh_however_long(
    serve: Serve, new_store: Callable[[], str], tmp_path: Path, size: Callable[[str, int], int]
) -> None:
    jobs, claimers = size("jobs", 200_000), size("claimers", 16)
    plan = Plan(
        jobs,
        claimers,
        kills=size("kills", 60),
        stops=size("stops", 60),
        work_ms=0,
        pause_seconds=1.0,
        deadline_seconds=3 * 3600,
        seed=size("seed", 1),
    )
    url = new_store()
    found = run(serve(url), url, tmp_path / "history", plan)
    print(f"\n{url.partition(':')[0]}, {claimers} claimers: {found}")
    is_sound(found, jobs)
