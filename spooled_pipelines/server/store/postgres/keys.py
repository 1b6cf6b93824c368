"""Operations on API keys. What changes them tells the other servers, in the same transaction."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.server.core.errors import no_key
from spooled_pipelines.server.core.records import KeyRecord
from spooled_pipelines.server.store.postgres.database import fetch, lent
from spooled_pipelines.server.store.postgres.transaction import Ground, Transaction, run


async def add(ground: Ground, key: KeyRecord) -> None:
    """Keep a new key."""
    owner = await ground.owner(key.organization)

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
        )
        tx.tally.keys = True
        await tx.commit()

    await run(ground, body)


async def revoke(ground: Ground, organization: str, key_id: str) -> KeyRecord:
    """End a key now."""

    async def body(tx: Transaction) -> KeyRecord:
        await tx.begin()
        which = {"key_id": key_id, "organization": organization}
        await tx.send("revoke_key", now=tx.now, **which)
        rows = await tx.rows("find_key", **which)
        if not rows:
            raise no_key(key_id)
        tx.tally.keys = True
        await tx.commit()
        return _record(rows[0])

    return await run(ground, body)


async def every(ground: Ground) -> list[KeyRecord]:
    """All keys, oldest first."""
    async with lent(ground.pool) as connection:
        return [_record(row) for row in await fetch(connection, "all_keys")]


def _record(row: tuple[Any, ...]) -> KeyRecord:
    organization, key_id, name, role, queues, digest, created_at, expires_at, revoked_at = row
    names = tuple(queues.split(",")) if queues else ()
    about = (organization, key_id, name.decode(), role, names, bytes(digest))
    return KeyRecord(*about, created_at, expires_at, revoked_at)
