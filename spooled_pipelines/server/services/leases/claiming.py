"""Claims of jobs, given back at once where their caller is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import GiveBack, LeaseHolder, Settlement
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.store.requests import ClaimRequest, LostClaims
from spooled_pipelines.wire import batch_v1, spooled_v1


@dataclass(frozen=True)
class Consumer:
    """The worker that takes jobs, and their queue."""

    queue_name: str
    worker_id: str


async def claim(context: ServiceContext, caller: Caller, request: ClaimRequest) -> list[JobRecord]:
    """Lease jobs; they go back at once where the caller is gone by then."""
    organization = caller.organization
    context.last_polled.note(organization, request.queue_name, context.clock.now())
    claiming = asyncio.ensure_future(context.store.claim(organization, request))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        context.background.spawn(_give_back_claimed(context, caller, claiming), "give-back")
        raise


async def take_back(
    context: ServiceContext,
    caller: Caller,
    request: batch_v1.ClaimChunksRequest | spooled_v1.DequeueRequest,
) -> None:
    """Give back what earlier claims leased whose answers the caller did not get."""
    leases = validation.unanswered(request.unanswered)
    if leases:
        lost = LostClaims(request.queue_name, request.worker_id, leases)
        await context.store.take_back(caller.organization, lost)


def give_back(context: ServiceContext, caller: Caller, jobs: Sequence[JobRecord]) -> None:
    """Undo the claim of jobs that were not handed out."""
    if jobs:
        context.background.spawn(_give_back(context, caller, jobs), "give-back")


async def _give_back_claimed(
    context: ServiceContext, caller: Caller, claiming: asyncio.Future[list[JobRecord]]
) -> None:
    await _give_back(context, caller, await claiming)


async def _give_back(context: ServiceContext, caller: Caller, jobs: Sequence[JobRecord]) -> None:
    holders = [LeaseHolder(job.job_id, job.worker_id or "", job.lease_id or "") for job in jobs]
    # A claim that is no longer the holder's is refused, and there is nothing to undo.
    given = [Settlement(holder, GiveBack()) for holder in holders]
    await context.store.settle(caller.organization, given)
