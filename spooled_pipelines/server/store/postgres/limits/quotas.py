"""Counting the jobs that an organization makes in a day, within the transaction that makes them."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.limits.quotas import day_of, quota_reached
from spooled_pipelines.server.store.postgres.transactions import Transaction


async def count_made(tx: Transaction, organization: int, quota: int | None, jobs: int) -> None:
    """Count jobs that were made just now; RESOURCE_EXHAUSTED where the day has no room for all.

    The transaction must then come to nothing.
    """
    if quota is None or not jobs:
        return
    made = await _count(tx, organization, jobs)
    if made > quota:
        raise quota_reached(made - jobs, quota, jobs, tx.now)


async def count_singly(
    tx: Transaction, organization: int, quota: int, jobs: int
) -> tuple[int, RefusedError | None]:
    """Return how many of the new jobs the day's quota allows, and the refusal of the others.

    The others are not counted, and must be removed.
    """
    made = await _count(tx, organization, jobs)
    excess = min(max(made - quota, 0), jobs)
    if not excess:
        return jobs, None
    await tx.send("uncount_daily_jobs", organization=organization, jobs=excess)
    return jobs - excess, quota_reached(made - excess, quota, 1, tx.now)


async def _count(tx: Transaction, organization: int, jobs: int) -> int:
    # The next caller waits here until this transaction ends, and then counts on.
    today = day_of(tx.now)
    rows = await tx.rows("count_daily_jobs", organization=organization, day=today, jobs=jobs)
    return int(rows[0][0])
