"""Letting go of what settled long ago: so many jobs in one transaction."""

from __future__ import annotations

from functools import partial

import psycopg

from spooled_pipelines.server.postgres.transaction import Ground, Transaction, run
from spooled_pipelines.server.retention import STEP_JOBS


async def strip(ground: Ground, before: int) -> bool:
    """Take payload, result and tags from jobs; True where there may be more of them."""
    async with ground.turns:
        return await run(ground, partial(_strip, before=before))


async def forget(ground: Ground, before: int) -> bool:
    """Remove jobs that are in no batch, and their keys; True where there may be more of them."""
    async with ground.turns:
        return await run(ground, partial(_forget, before=before))


def forgotten_meanwhile() -> psycopg.Error:
    """What to raise where a key's job was there a moment ago: the same transaction again makes one.

    As if the database had found that the two do not go together.
    """
    return psycopg.errors.SerializationFailure("a job was forgotten while its key was looked up")


async def _strip(tx: Transaction, before: int) -> bool:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("strip_jobs", before=before, limit=STEP_JOBS)
        await tx.commit()
    return len(rows) == STEP_JOBS


async def _forget(tx: Transaction, before: int) -> bool:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("forget_jobs", before=before, limit=STEP_JOBS)
        await tx.send("forget_attempts", seqs=[row[0] for row in rows])
        for _, queue, status in rows:
            tx.tally.add(queue, (), status, waiting=False, count=-1)
        await tx.commit()
    return len(rows) == STEP_JOBS
