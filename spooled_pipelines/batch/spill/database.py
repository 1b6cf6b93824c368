"""Tables on the disk for what may not fit into memory, gone with the process that made them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

_GROUP = 5_000


def spill_database(table: str) -> sqlite3.Connection:
    """Open a database on the disk with one table, `CREATE TABLE ...`, gone when it is closed."""
    # A database without a name is a temporary file.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(table)
    # Nothing is to survive a crash of this file.
    database.execute("PRAGMA journal_mode = OFF")
    return database


def distinct_on_disk(texts: Iterable[str]) -> Iterator[str]:
    """Yield each text once, in the order in which they first come."""
    seen = spill_database("CREATE TABLE seen (text TEXT PRIMARY KEY) WITHOUT ROWID")
    with closing(seen):
        iterator = iter(texts)
        while group := dict.fromkeys(islice(iterator, _GROUP)):
            seen.execute("BEGIN")
            new = [text for text in group if _is_new(seen, text)]
            seen.execute("COMMIT")
            yield from new


def _is_new(seen: sqlite3.Connection, text: str) -> bool:
    return seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (text,)).rowcount == 1


def insert(database: sqlite3.Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    """Insert rows in one transaction."""
    database.execute("BEGIN")
    database.executemany(statement, rows)
    database.execute("COMMIT")
