"""Servers of an older version beside newer ones, on the schema that the newer have migrated."""

from __future__ import annotations

import shutil
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
MIGRATIONS = "spooled_pipelines/server/store/postgres/migrations"
# What a next version may bring that older servers put up with, and what they do not.
ADDED = {
    "0002_note.sql": "-- compatible-from: 1\nALTER TABLE jobs ADD COLUMN note bytea;\n",
    "0003_noted.sql": "-- compatible-from: 1\n-- concurrently\n"
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_noted ON jobs (seq) WHERE note IS NOT NULL;\n",
}
TAKEN_AWAY = {"0004_tags.sql": "ALTER TABLE jobs DROP COLUMN tags;\n"}
JOBS = 3_000


def version(folder: Path, migrations: dict[str, str]) -> Path:
    """A folder with the package as it is, and these migrations more."""
    shutil.copytree(
        ROOT / "spooled_pipelines",
        folder / "spooled_pipelines",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name, statements in migrations.items():
        (folder / MIGRATIONS / name).write_text(statements)
    return folder


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder with the package as it may be next."""
    return version(tmp_path / "newer", ADDED)


def schema_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM spooled.migrations"
        (number,) = connection.execute(query).fetchone() or (0,)
    return int(number)


def test_a_rolling_upgrade_is_seen_by_nobody(cluster: Cluster, newer: Path, tmp_path: Path) -> None:
    url = cluster.empty_database()
    servers = [ServerProcess(tmp_path / f"server-{number}", "--store", url) for number in range(3)]
    try:
        for server in servers:
            server.start()
        older_schema = schema_of(url)
        address = ",".join(server.address for server in servers)
        with connect(address, api_key=API_KEY) as client, working(address, tmp_path, 2, 2) as logs:
            with Callers(address) as callers:
                batches = [enqueue(client, JOBS, "before")]
                for server in servers:
                    assert server.stop() == 0
                    server.version = newer
                    server.start()
                    assert schema_of(url) > older_schema
                    # A pod that restarts in the middle of it, before its turn comes.
                    waiting = servers[-1]
                    if waiting.version is None:
                        assert waiting.stop() == 0
                        waiting.start()
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
            f"\n3 servers became newer ones one by one: {JOBS * 4} jobs once each, "
            f"{len(callers.seconds) * 2} calls with 0 errors"
        )
    finally:
        for server in servers:
            if server.running:
                server.kill()


def test_an_older_server_refuses_a_schema_that_lacks_what_it_needs(
    cluster: Cluster, tmp_path: Path
) -> None:
    url = cluster.empty_database()
    server = ServerProcess(tmp_path / "server", "--store", url)
    server.version = version(tmp_path / "newest", {**ADDED, **TAKEN_AWAY})
    server.start()
    assert server.stop() == 0
    server.version = None
    with pytest.raises(AssertionError, match=r"newer"):
        server.start()
