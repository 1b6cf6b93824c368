"""Transactions: what one operation does, and the thread that commits many."""

from __future__ import annotations

from spooled_pipelines.server.store.sqlite.transactions.transaction import (
    JobNumbers,
    Snapshot,
    Transaction,
)

__all__ = ["JobNumbers", "Snapshot", "Transaction"]
