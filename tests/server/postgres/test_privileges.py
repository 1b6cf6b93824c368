"""The GRANTs that docs/postgresql.md lists are enough, and nothing less is."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from spooled_pipelines import connect
from tests.support.cli import command
from tests.support.postgres import Cluster
from tests.support.server_process import API_KEY, ServerProcess

PAGE = Path(__file__).resolve().parents[3] / "docs" / "postgresql.md"


@pytest.fixture
def granted(cluster: Cluster) -> tuple[str, str]:
    """URLs of a database, as the owner of the schema and as the role of the servers."""
    (block,) = re.findall(r"```sql\n(CREATE ROLE.*?)```", PAGE.read_text(), re.DOTALL)
    url = cluster.empty_database()
    (name,) = re.findall(r"@/(\w+)\?", url)
    # Roles are the cluster's, and other tests' databases keep what was granted there.
    owner, server = f"owner_of_{name}", f"server_of_{name}"
    block = block.replace("spooled_owner", owner).replace("spooled_server", server)
    block = block.replace("DATABASE spooled", f"DATABASE {name}")
    cluster.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in block.split(";\n"):
            connection.execute(statement.encode())
        # As where nothing is granted to everybody.
        connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {owner}, {server}".encode())
    return url.replace("postgres:@", f"{owner}:of-the-owner@"), url.replace(
        "postgres:@", f"{server}:of-the-servers@"
    )


def test_servers_run_with_a_role_that_changes_rows_and_nothing_else(
    granted: tuple[str, str], tmp_path: Path
) -> None:
    owner, server_url = granted
    server = ServerProcess(tmp_path / "log", "--store", server_url, "--migrate", "refuse")
    with pytest.raises(AssertionError, match="there is no store"):
        server.start()
    assert command("migrate", "--store", owner).code == 0
    with psycopg.connect(server_url, autocommit=True) as connection:
        for forbidden in ("CREATE TABLE spooled.mine (x int)", "DROP TABLE spooled.jobs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())
    with server, connect(server.address, api_key=API_KEY) as client:
        rows = [{"id": number} for number in range(50)]
        batch = client.enqueue_batch(rows, "q", key="id")
        # Rows with keys that are there go through a temporary table.
        again = client.enqueue_batch([*rows, {"id": 50}], "q", key="id", name="again")
        assert (again.created, again.duplicates) in ((1, 50), (51, 0))
        for job in client.dequeue("q", "w", batch_size=100):
            client.complete(job, result={"a": 1})
        client.pause_queue("q")
        client.resume_queue("q")
        assert batch.wait(timeout=60).completed == 50
        made = command("keys", "create", "--role", "read", "--name", "x", "--store", server_url)
        assert made.code == 0, made.stderr
        listed = command("audit", "--store", server_url)
        assert "PauseQueue q" in listed.stdout
        assert server.stop() == 0
    assert " ERROR " not in server.log.read_text()
    assert command("check", "--store", server_url).code == 0


def test_a_role_without_a_grant_is_told_where_they_are(cluster: Cluster) -> None:
    url = cluster.empty_database()
    (name,) = re.findall(r"@/(\w+)\?", url)
    cluster.execute(f"CREATE ROLE nobody_of_{name} LOGIN")
    done = command("migrate", "--store", url.replace("postgres:@", f"nobody_of_{name}@"))
    assert done.code == 2
    assert "permission denied" in done.stderr
    assert "the page about PostgreSQL has the GRANTs" in done.stderr
