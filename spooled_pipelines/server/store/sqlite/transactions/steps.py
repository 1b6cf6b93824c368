"""Calls about many jobs, which take one step in each transaction: what is kept of each."""

from __future__ import annotations

from collections.abc import Callable

from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions.transaction import Transaction
from spooled_pipelines.server.store.steps import DONE, KEPT_MS, Progress, Step


def take_step(
    tx: Transaction,
    organization: str,
    request_id: str,
    so_far: Progress,
    step: Callable[[Transaction, Progress], Step],
) -> Progress:
    """Take a call's next step; what is kept of its request id counts, and not `so_far`."""
    if not request_id:
        return so_far.plus(step(tx, so_far))
    owner = tx.names.organization(organization)
    row = tx.connection.execute(SQL["read_request"], (owner, request_id)).fetchone()
    progress = Progress() if row is None else Progress.of(row[0])
    if progress.after is None:
        return progress
    progress = progress.plus(step(tx, progress))
    _keep(tx, owner, request_id, progress)
    return progress


def is_first(tx: Transaction, owner: int, request_id: str) -> bool:
    """Return whether a call that takes one step comes for the first time, and note that it did."""
    if tx.connection.execute(SQL["read_request"], (owner, request_id)).fetchone():
        return False
    _keep(tx, owner, request_id, DONE)
    return True


def _keep(tx: Transaction, owner: int, request_id: str, progress: Progress) -> None:
    values = (owner, request_id, tx.now, progress.kept())
    tx.connection.execute(SQL["forget_requests"], (tx.now - KEPT_MS,))
    tx.connection.execute(SQL["write_request"], values)
