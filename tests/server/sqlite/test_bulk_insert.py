"""However the rows of a chunk get into the file, they are the same rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.server.store.sqlite.connections.database import open_writer
from spooled_pipelines.server.store.sqlite.transactions import bulk_insert

KEYS = st.integers(0, 9).map(lambda n: bytes([n] * 16))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("inserting") / "jobs.db"
    with closing(open_writer(path)) as opened:
        yield opened


def columns_of(rows: list[tuple[bytes, bytes]], tags: bytes | None) -> dict[str, Any]:
    return {
        "seq": range(7, 7 + len(rows)),
        "organization": 1,
        "queue": 2,
        "status": 1,
        "priority": -3,
        "due_at": None,
        "batch": 4,
        "max_retries": 5,
        "timeout_seconds": 6,
        "created_at": 10**12,
        "scheduled_at": None,
        "idempotency_key": [key for key, _ in rows],
        "tags": tags,
        "payload": [payload for _, payload in rows],
    }


def stored(connection: sqlite3.Connection, columns: dict[str, Any], each: bool) -> Any:
    """How many went in, and what is there then."""
    connection.execute("BEGIN")
    try:
        insert = bulk_insert._insert_each if each else bulk_insert.insert_rows
        count = insert(connection, columns)
        query = "SELECT idempotency_key, payload, * FROM jobs ORDER BY seq"
        return count, connection.execute(query).fetchall()
    finally:
        connection.execute("ROLLBACK")


@given(
    st.lists(st.tuples(KEYS, st.binary(max_size=20)), max_size=12),
    st.none() | st.binary(min_size=1, max_size=9),
)
def test_rows_cut_from_long_values_are_those_that_are_bound_one_by_one(
    connection: sqlite3.Connection, rows: list[tuple[bytes, bytes]], tags: bytes | None
) -> None:
    columns = columns_of(rows, tags)
    made = stored(connection, columns, each=False)
    assert made == stored(connection, columns, each=True)
    # The first of each key.
    first = dict(reversed(rows))
    assert {row[0]: row[1] for row in made[1]} == first
