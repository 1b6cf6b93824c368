"""Calls about many jobs, which take one step in each transaction: what is kept of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from spooled_pipelines.server.store.postgres.transactions.context import StoreContext
from spooled_pipelines.server.store.postgres.transactions.retry import run
from spooled_pipelines.server.store.postgres.transactions.transaction import Transaction
from spooled_pipelines.server.store.steps import DONE, KEPT_MS, Progress, Step

TakeStep = Callable[[Transaction, Progress], Awaitable[Step]]


async def in_steps(context: StoreContext, owner: int, request_id: str, step: TakeStep) -> Progress:
    """Take steps of a call, each in a transaction, until there is none left."""
    progress = Progress()
    while progress.after is not None:
        take = partial(_take_step, owner=owner, request_id=request_id, so_far=progress, step=step)
        progress = await run(context, take)
    return progress


async def _take_step(
    tx: Transaction, owner: int, request_id: str, so_far: Progress, step: TakeStep
) -> Progress:
    """Take a call's next step; what is kept of its request id counts, and not `so_far`."""
    async with tx.pipeline():
        await tx.begin()
        if request_id and not await is_first(tx, owner, request_id, so_far):
            values = {"organization": owner, "request_id": request_id}
            ((kept,),) = await tx.rows("lock_request", **values)
            so_far = Progress.of(kept)
        if so_far.after is not None:
            so_far = so_far.plus(await step(tx, so_far))
            if request_id:
                values = {"organization": owner, "request_id": request_id}
                await tx.send("write_request", **values, progress=so_far.kept())
        await tx.commit()
    return so_far


async def is_first(tx: Transaction, owner: int, request_id: str, progress: Progress = DONE) -> bool:
    """Return whether a call comes for the first time, and keep that it did."""
    values = {"organization": owner, "request_id": request_id, "progress": progress.kept()}
    if not await tx.rows("begin_request", **values, now=tx.now):
        return False
    await tx.send("forget_requests", before=tx.now - KEPT_MS)
    return True
