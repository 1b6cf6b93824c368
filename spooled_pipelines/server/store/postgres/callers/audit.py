"""The audit: what keeps it, and what reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spooled_pipelines.server.core.key_records import AuditEntry, AuditPage
from spooled_pipelines.server.store.limits import AUDIT_KEPT
from spooled_pipelines.server.store.postgres.connections.database import Snapshot
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.rows import audit_page


async def note(
    context: StoreContext, entries: Sequence[AuditEntry], uses: Mapping[str, int]
) -> None:
    """Keep entries, and when keys were last used; remove those beyond the newest so many."""

    async def body(tx: Transaction) -> None:
        async with tx.pipeline():
            await tx.begin()
            for entry in entries:
                await tx.send("add_audit", **entry._asdict())
            for key_id, at in sorted(uses.items()):
                await tx.send("touch_key", key_id=key_id, at=at)
            for kind, kept in AUDIT_KEPT.items():
                await tx.send("prune_audit", kind=kind, kept=kept)
            await tx.commit()

    await run(context, body)


async def page(snapshot: Snapshot, organization: str | None, before: int, limit: int) -> AuditPage:
    """Return entries with a number below `before`, newest first."""
    values = {"before": before, "limit": limit + 1}
    if organization is None:
        rows = await snapshot.rows("list_audit", **values)
    else:
        rows = await snapshot.rows("list_audit_of", organization=organization, **values)
    return audit_page(rows, limit)
