"""Claims that nobody waits for any more are given back, not left to run out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from spooled_pipelines.server.core.records import Holder, JobRecord
from spooled_pipelines.server.services.context import Caller, Services

# Kept so that a give-back that is under way is not collected.
_pending: set[asyncio.Future[None]] = set()


@dataclass(frozen=True)
class Taker:
    """Who takes jobs of which queue."""

    queue_name: str
    worker_id: str


async def claim(
    services: Services, caller: Caller, taker: Taker, lease_ms: int, limit: int
) -> list[JobRecord]:
    """Lease at most `limit` jobs; if the caller goes away meanwhile, they go back at once."""
    organization, queue_name = caller.organization, taker.queue_name
    services.claims.note(organization, queue_name, services.clock.now())
    claiming = asyncio.ensure_future(
        services.store.claim(organization, queue_name, taker.worker_id, lease_ms, limit)
    )
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        _in_background(_give_back_claimed(services, caller, claiming))
        raise


def give_back(services: Services, caller: Caller, jobs: Sequence[JobRecord]) -> None:
    """Undo the claim of jobs that were not handed out."""
    if jobs:
        _in_background(_give_back(services, caller, jobs))


async def settle_give_backs() -> None:
    """Until everything that is going back is back; before the store is closed."""
    while _pending:
        await asyncio.gather(*_pending, return_exceptions=True)


async def _give_back_claimed(
    services: Services, caller: Caller, claiming: asyncio.Future[list[JobRecord]]
) -> None:
    await _give_back(services, caller, await claiming)


async def _give_back(services: Services, caller: Caller, jobs: Sequence[JobRecord]) -> None:
    holders = [Holder(job.job_id, job.worker_id or "", job.lease_id or "") for job in jobs]
    await services.store.give_back(caller.organization, holders)


def _in_background(coroutine: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(coroutine)
    _pending.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Future[None]) -> None:
    _pending.discard(task)
    # A failure leaves the jobs to their leases, which run out; there is nobody to tell.
    if not task.cancelled():
        task.exception()
