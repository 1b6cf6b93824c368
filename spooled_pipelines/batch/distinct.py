"""Each of many texts once, in flat memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

_LOT = 5_000


def distinct(texts: Iterable[str]) -> Iterator[str]:
    """In the order in which they first come; those that were seen are kept on the disk."""
    # A database without a name is a temporary file, gone with the connection.
    seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    with closing(seen):
        seen.execute("CREATE TABLE seen (text TEXT PRIMARY KEY) WITHOUT ROWID")
        # Nothing is to survive a crash of this file.
        seen.execute("PRAGMA journal_mode = OFF")
        coming = iter(texts)
        while lot := dict.fromkeys(islice(coming, _LOT)):
            seen.execute("BEGIN")
            new = [text for text in lot if _is_new(seen, text)]
            seen.execute("COMMIT")
            yield from new


def _is_new(seen: sqlite3.Connection, text: str) -> bool:
    return seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (text,)).rowcount == 1
