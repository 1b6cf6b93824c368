"""Transactions run again where they surely were not committed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.store.postgres.connections.database import ROLLED_BACK, borrowed
from spooled_pipelines.server.store.postgres.transactions.context import StoreContext
from spooled_pipelines.server.store.postgres.transactions.transaction import Transaction

T = TypeVar("T")
_ATTEMPTS = 3


async def run(context: StoreContext, body: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run a transaction, again where it surely was not committed; tell what it changed.

    RefusedError UNAVAILABLE where the database went away.
    """
    attempt = 0
    while True:
        attempt += 1
        transaction: Transaction | None = None
        try:
            async with borrowed(context.pool, tries_again=True) as connection:
                transaction = Transaction(connection, context)
                result = await body(transaction)
                seconds = time.perf_counter() - transaction.committing_since
            break
        except ROLLED_BACK as error:
            if attempt >= _ATTEMPTS:
                message = "the store is too busy with the same jobs; the call may be repeated"
                raise RefusedError("UNAVAILABLE", message) from error
        except RefusedError as refusal:
            if refusal.code != "UNAVAILABLE" or attempt >= _ATTEMPTS:
                raise
            if transaction is None or transaction.is_committing:
                raise
            await context.pool.replace_idle()
    changes = transaction.changes
    changes.jobs = transaction.deltas.status_changes
    # Reads commit nothing.
    changes.commit_seconds = seconds if transaction.is_committing else None
    for seq, lease_id in transaction.deltas.released:
        if context.leases.get(seq) == lease_id:
            del context.leases[seq]
    for queue in transaction.deltas.came_before:
        context.fronts[queue].forget()
    context.publish(transaction.changes)
    return result


def forgotten_meanwhile() -> psycopg.Error:
    """Return what to raise where a key's job is gone: the same transaction again makes one.

    As if the database had found that the two do not go together.
    """
    return psycopg.errors.SerializationFailure("a job was forgotten while its key was looked up")
