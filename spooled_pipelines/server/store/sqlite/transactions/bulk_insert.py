"""Many jobs in one statement: what enqueueing a batch spends its time on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, repeat
from typing import TypeAlias, cast

from spooled_pipelines.server.core.jobs.turns import ROUND, Rounds

# A value for each row, or one value that every row has.
Column: TypeAlias = Iterable[object] | int | bytes | str | None
_KEY_BYTES = 16
# Of a number that says where a payload begins and how long it is: no message has 16 MiB.
_LENGTH_BITS = 24
# What the rows of a table have that says nothing but their payloads, each cut out of a long value.
_CUTS = {
    "seq": ":first + key",
    "idempotency_key": f"substr(:keys, 1 + {_KEY_BYTES} * key, {_KEY_BYTES})",
    "round": f"(:turn + :length * key) / {ROUND}",
    "payload": f"substr(:payloads, value >> {_LENGTH_BITS}, value & {(1 << _LENGTH_BITS) - 1})",
}


def insert_rows(connection: sqlite3.Connection, columns: Mapping[str, Column]) -> int:
    """Insert rows into `jobs`, passing over those whose key is there; returns how many went in."""
    per_row = {
        name
        for name, column in columns.items()
        if column is not None and not isinstance(column, int | bytes | str)
    }
    if (
        per_row == _CUTS.keys()
        and isinstance(columns["seq"], range)
        and isinstance(columns["round"], Rounds)
    ):
        keys = cast("Sequence[object]", columns["idempotency_key"])
        if all(type(key) is bytes for key in keys):
            return _insert_cut(connection, columns)
    return _insert_each(connection, columns)


def _insert_each(connection: sqlite3.Connection, columns: Mapping[str, Column]) -> int:
    """Insert row by row.

    Single values become part of the statement: binding them again for each row took a fifth of the
    time.
    """
    values: list[str] = []
    bound: list[Iterable[object]] = []
    for column in columns.values():
        if column is None or isinstance(column, int):
            values.append("NULL" if column is None else f"{column:d}")
        else:
            values.append("?")
            bound.append(repeat(column) if isinstance(column, bytes | str) else column)
    statement = _statement(columns, f"VALUES ({', '.join(values)})")
    # The shortest column ends it: a value repeated for ever has no end.
    return connection.executemany(statement, zip(*bound, strict=False)).rowcount


def _insert_cut(connection: sqlite3.Connection, columns: Mapping[str, Column]) -> int:
    """Insert all rows at once, from a few long values.

    The interpreter's lock is let go of and taken back once and not for each row, and nothing is
    bound per row: a third less work, and other threads are not in the way of it.
    """
    seqs, payloads = cast("range", columns["seq"]), cast("Sequence[bytes]", columns["payload"])
    rounds = cast("Rounds", columns["round"])
    starts = accumulate(map(len, payloads), initial=2)
    places = [
        start << _LENGTH_BITS | len(data) for start, data in zip(starts, payloads, strict=False)
    ]
    bound: dict[str, object] = {
        "first": seqs.start,
        "turn": rounds.first,
        "length": rounds.length,
        "keys": b"".join(cast("Sequence[bytes]", columns["idempotency_key"])),
        # Of a value without any bytes SQLite would cut NULL.
        "payloads": b"".join((b" ", *payloads)),
        "places": json.dumps(places),
    }
    values: list[str] = []
    for name, column in columns.items():
        cut = _CUTS.get(name)
        if cut is None and column is not None:
            # Bound once for all rows, so that the same statement serves the next ones.
            bound[name] = column
        values.append(cut or ("NULL" if column is None else f":{name}"))
    # WHERE, so that ON is not taken for a join's.
    statement = f"SELECT {', '.join(values)} FROM json_each(:places) WHERE true"  # noqa: S608
    return connection.execute(_statement(columns, statement), bound).rowcount


def _statement(columns: Iterable[str], rows: str) -> str:
    # Only names from our own code and whole numbers are in the text.
    return (
        f"INSERT INTO jobs ({', '.join(columns)}) {rows} "
        "ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
    )
