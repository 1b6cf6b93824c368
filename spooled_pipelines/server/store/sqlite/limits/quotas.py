"""Counting the jobs that an organization makes in a day, within the transaction that makes them."""

from __future__ import annotations

from spooled_pipelines.server.core.limits.quotas import day_of, quota_reached
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction


def count_made(tx: Transaction, organization: str, jobs: int) -> None:
    """Count jobs that were made just now; RESOURCE_EXHAUSTED where the day has no room for them."""
    quota = tx.quotas.of(organization)
    if quota is None or not jobs:
        return
    owner, today = tx.names.organization(organization), day_of(tx.now)
    row = tx.connection.execute(SQL["read_daily_jobs"], (owner, today)).fetchone()
    made = row[0] if row else 0
    if made + jobs > quota:
        # What was made is rolled back with the operation.
        raise quota_reached(made, quota, jobs, tx.now)
    tx.connection.execute(SQL["write_daily_jobs"], (owner, today, made + jobs))
