"""Operations on API keys, within a transaction; and the one that reads them."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import no_key
from spooled_pipelines.server.core.key_records import KeyRecord
from spooled_pipelines.server.store.rows import key_record
from spooled_pipelines.server.store.sqlite.queries import NAMED, SQL
from spooled_pipelines.server.store.sqlite.transactions import Snapshot, Transaction


def add(tx: Transaction, key: KeyRecord) -> None:
    """Keep a new key."""
    owner = tx.names.organization(key.organization)
    tx.send(
        "add_key",
        key_id=key.key_id,
        organization=owner,
        name=key.name,
        role=key.role,
        queues=",".join(key.queues),
        digest=key.digest,
        created_at=key.created_at,
        expires_at=key.expires_at,
        created_by=key.created_by,
    )
    tx.deltas.keys = True


def revoke(tx: Transaction, organization: str, key_id: str) -> KeyRecord:
    """End a key now."""
    tx.connection.execute(SQL["revoke_key"], (tx.now, key_id, organization))
    row = tx.connection.execute(SQL["find_key"], (key_id, organization)).fetchone()
    if row is None:
        raise no_key(key_id)
    tx.deltas.keys = True
    return key_record(row)


def every(snapshot: Snapshot) -> list[KeyRecord]:
    """Return all keys, oldest first."""
    return [key_record(row) for row in snapshot.connection.execute(SQL["list_keys"])]


def of_organization(
    snapshot: Snapshot, organization: str, after: tuple[int, str], limit: int
) -> list[KeyRecord]:
    """Return keys of an organization behind that of this time and id, oldest first."""
    values = {"organization": organization, "made_at": after[0], "key_id": after[1], "limit": limit}
    rows = snapshot.connection.execute(NAMED["list_keys_of_organization"], values)
    return [key_record(row) for row in rows]


def count(snapshot: Snapshot, organization: str) -> tuple[int, int]:
    """Return how many keys there are, and how long the names of their queues are together."""
    found: tuple[int, int] = snapshot.connection.execute(
        SQL["count_keys"], (organization,)
    ).fetchone()
    return found
