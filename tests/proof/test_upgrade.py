"""Servers of an older version beside newer ones, on the schema that the newer have migrated."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from spooled_pipelines import connect
from tests.support.postgres import Cluster
from tests.support.proof.replicas import Callers, Executions, enqueue, working
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
# The last whose schema ends with 0009_listing.
OLDER, OLDER_SCHEMA = "eb6a01b", 9
JOBS = 3_000


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the package as it was then."""
    archive = tmp_path / "older.tar"
    command = ["git", "archive", f"--output={archive}", OLDER, "spooled_pipelines"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this clone does not go back to {OLDER}: {made.stderr.strip()}")
    folder = tmp_path / "older"
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder


def schema_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        query = "SELECT max(number) FROM spooled.migrations"
        (number,) = connection.execute(query).fetchone() or (0,)
    return int(number)


def test_a_rolling_upgrade_is_seen_by_nobody(cluster: Cluster, older: Path, tmp_path: Path) -> None:
    url = cluster.empty_database()
    servers = [ServerProcess(tmp_path / f"server-{number}", "--store", url) for number in range(3)]
    try:
        for server in servers:
            server.version = older
            server.start()
        assert schema_of(url) == OLDER_SCHEMA
        address = ",".join(server.address for server in servers)
        with connect(address, api_key=API_KEY) as client, working(address, tmp_path, 2, 2) as logs:
            with Callers(address) as callers:
                batches = [enqueue(client, JOBS, "before")]
                for server in servers:
                    assert server.stop() == 0
                    server.version = None
                    server.start()
                    assert schema_of(url) > OLDER_SCHEMA
                    seen = len(callers.seconds)
                    eventually(lambda seen=seen: len(callers.seconds) > seen + 200, 60)
                    batches.append(enqueue(client, JOBS, f"beside {server.address}"))
                for batch in batches:
                    stats = batch.wait(timeout=200)
                    assert (stats.completed, stats.total) == (JOBS, JOBS)
            assert client.queue_stats("singles").pending == len(callers.enqueued)
        assert callers.errors == []
        runs = Executions(logs)
        assert len(runs.runs) == JOBS * 4
        assert (runs.overlapping(), runs.again) == ([], 0)
        print(
            f"\n3 servers of {OLDER} became newer ones one by one: {JOBS * 4} jobs once each, "
            f"{len(callers.seconds) * 2} calls with 0 errors"
        )
    finally:
        for server in servers:
            if server.running:
                server.kill()


def test_an_older_server_refuses_a_newer_schema_by_name(
    cluster: Cluster, older: Path, tmp_path: Path, serve: Callable[[str], ServerProcess]
) -> None:
    url = cluster.empty_database()
    serve(url)
    server = ServerProcess(tmp_path / "server", "--store", url)
    server.version = older
    with pytest.raises(AssertionError, match=r"newer"):
        server.start()
