"""The statements that run on every call find their rows by index in tables that have grown."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.core.runtime.notifier import (
    CommitEvent,
    Notifier,
    batch_topic,
    job_topic,
    queue_topic,
)
from spooled_pipelines.server.store.postgres.connections.database import configure
from spooled_pipelines.server.store.postgres.queries import SQL
from tests.support.postgres import Cluster

JOBS = 20_000
VALUES: dict[str, Any] = {
    "queue": 1,
    "limit": 100,
    "worker": "w",
    "now": 10**12,
    "expiry": 10**12,
    "budget": 10**6,
    "counted": False,
    "queues": [1],
    "seqs": [1, 2, 3],
    "leases": ["a", "b", "c"],
    "jobs": [1, 2, 3],
    "organizations": [1, 1],
    "keys": [b"h1", b"h2"],
    "payloads": [],
    "digests": [b"", b"", b""],
    "sizes": [1, 2, 3],
    "seq": 1,
    "organization": "acme",
    "batch": 1,
    "statuses": None,
    "after": 0,
    "omit_payload": False,
    "before": 10**12,
    "dead": False,
    "batches": [1, 2],
    "batch_id": "b1",
    "owner": 1,
    "searched": 10_000,
    "text": b"",
    "key": b"t",
    "number": None,
    "since": 0,
    "until": 10**15,
}
# Where a name means something else than in most statements.
NUMBERED = {"organization": 1}
OWN: dict[str, dict[str, Any]] = {
    "ensure_queue": NUMBERED,
    "count_queues_of_organization": NUMBERED,
    "forget_workers": NUMBERED,
    "find_keys_elsewhere": {"queues": ["q"]},
    "count_daily_jobs": {**NUMBERED, "jobs": 1},
    "uncount_daily_jobs": {**NUMBERED, "jobs": 1},
    "add_batch": NUMBERED,
    "name_batch": NUMBERED,
    "limit_batch": NUMBERED,
    "put_key_limits": {"keys": [-1]},
    "lock_key_limits": {"keys": [-1]},
    "let_out": {"keys": [-1]},
    "walk_limit_keys": {"key": -1},
    "forget_key_limits": {"keys": [-1]},
    "walk_turns": {"participant": -1, "priority": 0, "released": False},
    "forget_turns_of_keys": {"released": [False]},
    "take_numbers": {**NUMBERED, "count": 1},
    "take_numbers_of_many": {"counts": [1]},
    "supersede_batch": NUMBERED,
    "use_sealed_batch": NUMBERED,
    "begin_part": NUMBERED,
    "begin_upload": NUMBERED,
    "hear_upload": NUMBERED,
    "cancel_older": NUMBERED,
    "begin_request": NUMBERED,
    "lock_request": NUMBERED,
    "write_request": NUMBERED,
    "put_worker": NUMBERED,
    "lock_held": NUMBERED,
    "keep_schema": NUMBERED,
    "keep_result_schema": NUMBERED,
    "read_result_schema_of_job": NUMBERED,
    "weigh_batch": NUMBERED,
    "add_key": NUMBERED,
    "list_queues_of_organization": {"after": "", "queues": None},
    "list_batches_of_queues": {"queues": ["q"]},
    "list_jobs": {"queues": ["q"], "waiting": False},
}
# What has no plan, what is of a temporary table, and checks, which read all there is.
WITHOUT_PLAN = {"begin", "commit", "keep_so_far", "back_to_so_far", "no_sync", "create_staging"}
WHOLE = {"add_staged", "find_staged", "allow_scans", "recount_queues", "recount_batches"}
# Tables with one row, or with one for each queue that has limits.
SMALL = {"store", "queue_limits"}
FILL = f"""
INSERT INTO spooled.organizations (id, name) VALUES (1, 'acme');
INSERT INTO spooled.job_places (organization, following) VALUES (1, 1);
INSERT INTO spooled.queues (organization, name) VALUES (1, 'q');
INSERT INTO spooled.jobs (seq, organization, queue, status, priority, due_at, lease_expires_at,
    batch, max_retries, timeout_seconds, created_at, idempotency_key, payload)
SELECT n, 1, 1, CASE WHEN n % 100 = 0 THEN 3 ELSE 1 END, n % 3,
    CASE WHEN n % 50 = 1 THEN 1000000000000 + n END,
    CASE WHEN n % 100 = 0 THEN 1000000000000 + n END, 1 + n % 5, 3, 300, n, ('h' || n)::bytea,
    '\\x00'
FROM generate_series(1, {JOBS}) AS n;
INSERT INTO spooled.batch_links (batch, job) SELECT 1, n FROM generate_series(2, {JOBS}, 5) AS n;
"""


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in nodes(inner))]


async def test_no_statement_reads_a_whole_table(cluster: Cluster) -> None:
    # Never used: its rows name each other by numbers that begin at one.
    url = cluster.database()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(FILL.encode())
        await configure(connection)
        # With what the planner knows of a table before anyone has looked at it, and after.
        for prepare in ("SELECT 1", "ANALYZE"):
            await connection.execute(prepare.encode())
            for name in sorted(set(SQL) - WITHOUT_PLAN - WHOLE):
                asked = re.findall(rb"%\((\w+)\)s", SQL[name])
                values = {one: VALUES.get(one) for one in map(bytes.decode, asked)}
                values |= OWN.get(name, {})
                cursor = await connection.execute(b"EXPLAIN (FORMAT JSON) " + SQL[name], values)
                ((found,),) = await cursor.fetchall()
                plan = found if isinstance(found, list) else json.loads(found)
                for node in nodes(plan[0]["Plan"]):
                    whole = node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan")
                    few = node.get("Relation Name") in SMALL
                    if whole and not few and "Recheck Cond" not in node:
                        pytest.fail(f"{name} reads all of {node['Relation Name']}")
                    sorts = "Sort" in node["Node Type"]
                    if sorts and name.startswith(("claim_jobs", "release_due", "lock_expired")):
                        # What orders the few rows that were found may sort; what finds them not.
                        below = [inner.get("Relation Name") for inner in nodes(node)]
                        assert "jobs" not in below, f"{name} sorts jobs to find the first"


async def test_thousands_of_jobs_of_a_lease_are_looked_up_by_their_numbers(
    cluster: Cluster,
) -> None:
    """Also where the planner knows the table as it was before any of them had a lease."""
    seqs = ", ".join(map(str, range(1, 2_001)))
    literals = {
        "queue": "1",
        "seqs": f"ARRAY[{seqs}]",
        "results": "array_fill(NULL::bytea, ARRAY[2000])",
        "worker": "'w'",
        "lease": "'a'",
        "now": str(10**12),
        "expiry": str(10**12),
    }
    url = cluster.database()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(FILL.encode())
        await configure(connection)
        await connection.execute("ANALYZE")
        for name in ("complete_chunk", "renew_chunk"):
            asked = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", SQL[name].decode())))
            statement = SQL[name].decode() % {one: f"${n}" for n, one in enumerate(asked, 1)}
            # As it is with a statement that a connection runs, and not with one that is explained.
            await connection.execute(f"PREPARE {name} AS {statement}".encode())
            given = ", ".join(literals[one] for one in asked)
            explain = f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({given})"
            ((plan,),) = await (await connection.execute(explain.encode())).fetchall()
            reads = [
                node
                for node in nodes(plan[0]["Plan"])
                if node.get("Relation Name") == "jobs" and node["Node Type"] != "ModifyTable"
            ]
            assert reads, name
            assert all("n.seq" in node.get("Index Cond", "") for node in reads), name


async def test_one_who_waits_looks_again_when_it_is_not_known_what_changed() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        subscription.watch(job_topic("a-job"))
        for key in (queue_topic("acme", "q"), batch_topic("acme", "b")):
            subscription.watch(key)
            notifier.publish(CommitEvent(everything=True))
            await subscription.wait()
            subscription.unwatch(key)
        assert subscription.watches(job_topic("a-job"))
        assert notifier.sweeper_woken.is_set()
