"""The audit, within a transaction; and what reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spooled_pipelines.server.core.key_records import AuditEntry, AuditPage
from spooled_pipelines.server.store.limits import AUDIT_KEPT
from spooled_pipelines.server.store.rows import audit_page
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Snapshot, Transaction


def note(tx: Transaction, entries: Sequence[AuditEntry], uses: Mapping[str, int]) -> None:
    """Keep entries, and when keys were last used; remove those beyond the newest so many."""
    for entry in entries:
        tx.send("add_audit", **entry._asdict())
    for key_id, at in uses.items():
        tx.send("touch_key", key_id=key_id, at=at)
    for kind, kept in AUDIT_KEPT.items():
        tx.connection.execute(SQL["prune_audit"], (kind, kept))


def page(snapshot: Snapshot, organization: str | None, before: int, limit: int) -> AuditPage:
    """Return entries with a number below `before`, newest first."""
    if organization is None:
        rows = snapshot.connection.execute(SQL["list_audit"], (before, limit + 1))
    else:
        rows = snapshot.connection.execute(SQL["list_audit_of"], (organization, before, limit + 1))
    return audit_page(rows.fetchall(), limit)
