"""Operations on API keys. What changes them tells the other servers, in the same transaction."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import no_key
from spooled_pipelines.server.core.key_records import KeyRecord
from spooled_pipelines.server.store.postgres.connections.database import Snapshot
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.rows import key_record


async def add(context: StoreContext, key: KeyRecord) -> None:
    """Keep a new key."""
    owner = await context.owner(key.organization)

    async def body(tx: Transaction) -> None:
        await tx.begin()
        await tx.send(
            "add_key",
            key_id=key.key_id,
            organization=owner,
            name=key.name.encode(),
            role=key.role,
            queues=",".join(key.queues),
            digest=key.digest,
            created_at=key.created_at,
            expires_at=key.expires_at,
            created_by=key.created_by,
        )
        tx.deltas.keys = True
        await tx.commit()

    await run(context, body)


async def revoke(context: StoreContext, organization: str, key_id: str) -> KeyRecord:
    """End a key now."""

    async def body(tx: Transaction) -> KeyRecord:
        await tx.begin()
        which = {"key_id": key_id, "organization": organization}
        await tx.send("revoke_key", now=tx.now, **which)
        rows = await tx.rows("find_key", **which)
        if not rows:
            raise no_key(key_id)
        tx.deltas.keys = True
        await tx.commit()
        return key_record(rows[0])

    return await run(context, body)


async def every(snapshot: Snapshot) -> list[KeyRecord]:
    """Return all keys, oldest first."""
    return [key_record(row) for row in await snapshot.rows("list_keys")]


async def of_organization(
    snapshot: Snapshot, organization: str, after: tuple[int, str], limit: int
) -> list[KeyRecord]:
    """Return keys of an organization behind that of this time and id, oldest first."""
    values = {"organization": organization, "made_at": after[0], "key_id": after[1], "limit": limit}
    rows = await snapshot.rows("list_keys_of_organization", **values)
    return [key_record(row) for row in rows]


async def count(snapshot: Snapshot, organization: str) -> tuple[int, int]:
    """Return how many keys there are, and how long the names of their queues are together."""
    ((keys, names),) = await snapshot.rows("count_keys", organization=organization)
    return keys, names
