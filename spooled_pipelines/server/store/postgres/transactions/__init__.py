"""Transactions: what they share, how they commit, and who hears of it."""

from __future__ import annotations

from spooled_pipelines.server.store.postgres.transactions.context import StoreContext
from spooled_pipelines.server.store.postgres.transactions.retry import forgotten_meanwhile, run
from spooled_pipelines.server.store.postgres.transactions.transaction import (
    Cursor,
    QueueTurn,
    Rows,
    Transaction,
)

__all__ = [
    "Cursor",
    "QueueTurn",
    "Rows",
    "StoreContext",
    "Transaction",
    "forgotten_meanwhile",
    "run",
]
