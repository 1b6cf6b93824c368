"""Operations on API keys, within a transaction; and the one that reads them."""

from __future__ import annotations

import sqlite3
from typing import Any

from spooled_pipelines.server.core.errors import no_key
from spooled_pipelines.server.core.records import KeyRecord
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transaction import Transaction


def add(tx: Transaction, key: KeyRecord) -> None:
    """Keep a new key."""
    owner = tx.names.organization(key.organization)
    about = (key.name, key.role, ",".join(key.queues), key.digest, key.created_at, key.expires_at)
    tx.connection.execute(SQL["add_key"], (key.key_id, owner, *about))
    tx.changes.keys = True


def revoke(tx: Transaction, organization: str, key_id: str) -> KeyRecord:
    """End a key now."""
    tx.connection.execute(SQL["revoke_key"], (tx.now, key_id, organization))
    row = tx.connection.execute(SQL["find_key"], (key_id, organization)).fetchone()
    if row is None:
        raise no_key(key_id)
    tx.changes.keys = True
    return _record(row)


def every(connection: sqlite3.Connection) -> list[KeyRecord]:
    """All keys, oldest first."""
    return [_record(row) for row in connection.execute(SQL["all_keys"])]


def _record(row: tuple[Any, ...]) -> KeyRecord:
    organization, key_id, name, role, queues, digest, created_at, expires_at, revoked_at = row
    names = tuple(queues.split(",")) if queues else ()
    about = (organization, key_id, name, role, names, digest)
    return KeyRecord(*about, created_at, expires_at, revoked_at)
