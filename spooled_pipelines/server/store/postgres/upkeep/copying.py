"""A database as what a store is copied from, and as what it is copied to."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg import sql

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.postgres.connections.database import SCHEMA, shown
from spooled_pipelines.server.store.postgres.reads.records import HASH_MARK, TEXT_MARK
from spooled_pipelines.server.store.tables import (
    PROGRESS,
    PROGRESS_COLUMNS,
    Identity,
    Row,
    Table,
    progress_of,
    refuse_half_copy,
)

_Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Change: TypeAlias = Callable[[Any], Any]

# Counters that SQLite keeps in the row itself: their table, and the column with the row's number.
_COUNTERS = {"queues": ("queue_counters", "queue"), "batches": ("batch_counters", "batch")}
_MOMENTS = ("lease_expired_at", "changed_at")
# What follows from the rest, and what servers note again by themselves.
_DERIVED = {"has_dead", "settled_at", "shard"}
# "SPLD" and 1: who copies into the database holds this lock of it.
_LOCK = 0x53504C44 << 8 | 1
_LOCK_SECONDS = 10
# The database shows a connection for a moment after its other end has closed it.
_GONE_SECONDS = 3.0
# What a killed copy had begun ends with its connection, which the database notices soon.
_SETTINGS = f"""
SET search_path = {SCHEMA};
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
SET lock_timeout = '10s';
SET client_connection_check_interval = '1s'
""".encode()
_SERVERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'spooled'
"""
# What SQLite has indexes for.
_FOLLOWING = (
    b"""INSERT INTO leases (ends_at, worker_id, jobs)
    SELECT lease_expires_at, coalesce(worker_id, ''), array_agg(seq) FROM jobs
    WHERE status = 3 GROUP BY lease_expires_at, worker_id, seq / 200""",
    b"""INSERT INTO settlements (settled_at, jobs) SELECT completed_at, array_agg(seq) FROM jobs
    WHERE status IN (4, 7) AND NOT pruned GROUP BY completed_at, seq / 200""",
)
# Whatever happens to jobs, keys and limits changes rows of these.
_VERSION = """
SELECT xmin::text FROM queue_counters UNION ALL SELECT xmin::text FROM batch_counters
UNION ALL SELECT xmin::text FROM keys UNION ALL SELECT xmin::text FROM queues
UNION ALL SELECT xmin::text FROM queue_limits UNION ALL SELECT xmin::text FROM batches
UNION ALL SELECT xmin::text FROM workers UNION ALL SELECT max(seq)::text FROM audit
ORDER BY 1
"""


class _Column(NamedTuple):
    name: str
    type: str
    to_sqlite: _Change | None
    from_sqlite: _Change | None


class _Database:
    def __init__(self, connection: _Connection, where: str) -> None:
        self._connection = connection
        self._where = where
        query = (
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'r' AND a.attnum > 0 "
            "AND NOT a.attisdropped AND a.attgenerated = '' "
            "AND c.relnamespace = to_regnamespace(%s)"
        )
        self._types: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(query, (SCHEMA,)):
            self._types.setdefault(table, {})[column] = kind

    def count(self, table: Table) -> int:
        rows = sql.Identifier(table.name)
        if "shard" in self._types[table.name]:
            keys = sql.SQL(", ").join(map(sql.Identifier, table.key))
            query = sql.SQL("SELECT count(DISTINCT ({})) FROM {}").format(keys, rows)
        else:
            query = sql.SQL("SELECT count(*) FROM {}").format(rows)
        return int(self._one(query))

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        found = self._connection.execute(statement.replace("?", "%s").encode(), values)
        return found.fetchall() if found.description else []

    def _one(self, query: sql.Composed | bytes, *values: Any) -> Any:
        row = self._connection.execute(query, values or None).fetchone()
        return row[0] if row else None

    def _columns(self, table: Table) -> list[_Column]:
        """Return the columns in SQLite's order; those of the counters are among them."""
        own = self._types[table.name]
        counters = self._types[_COUNTERS[table.name][0]] if table.name in _COUNTERS else {}
        if lost := set(own) - set(table.types) - _DERIVED:
            raise TypeError(f"{table.name} would lose {', '.join(sorted(lost))}")
        return [
            _column(table.name, name, kind, own.get(name) or counters[name])
            for name, kind in table.types.items()
        ]


class PostgresSource(_Database):
    """See `Source`."""

    def __init__(self, connection: _Connection, where: str) -> None:
        super().__init__(connection, where)
        *identity, taken = connection.execute(
            "SELECT id_prefix, first_place, (SELECT last_value FROM batches_id_seq), "
            "(SELECT sum(following) FROM job_places) FROM store"
        ).fetchone() or ("", 1, 0, 0)
        self.identity = Identity(*identity)
        found = " ".join(str(row[0]) for row in connection.execute(_VERSION.encode()))
        digest = hashlib.sha256(found.encode()).hexdigest()[:32]
        self.version = f"{self.identity.id_prefix} {digest} {taken}"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: str, is_stopped: bool = True) -> Iterator[PostgresSource]:
        """Read the store as it is now; where it is to be stopped, nobody may change it."""
        with _connected(url, is_stopped) as connection:
            there = _tables(connection)
            refuse_half_copy(shown(url), there)
            # It waits: a vacuum that the database began gives way a second after somebody asks.
            lock = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(
                sql.SQL(", ").join(map(sql.Identifier, there))
            )
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                # Before anything is read: what is read is what is there when it has the lock.
                if is_stopped:
                    connection.execute(lock)
                yield cls(connection, shown(url))

    def rows(self, table: Table, skip: int, which: str = "true") -> Iterator[Row]:
        columns = self._columns(table)
        changes = [(place, each.to_sqlite) for place, each in enumerate(columns) if each.to_sqlite]
        query = sql.SQL("COPY ({} ORDER BY {} OFFSET {}) TO STDOUT (FORMAT BINARY)").format(
            self._select(table, which),
            sql.SQL(", ").join(sql.Identifier("t", name) for name in table.key),
            sql.Literal(skip),
        )
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types([each.type for each in columns])
            for found in copy.rows():
                row = list(found)
                for place, change in changes:
                    if row[place] is not None:
                        row[place] = change(row[place])
                yield row

    def _select(self, table: Table, which: str) -> sql.Composable:
        where = sql.SQL(which)
        name = sql.Identifier(table.name)
        if "shard" in self._types[table.name]:
            keys = sql.SQL(", ").join(sql.Identifier("t", key) for key in table.key)
            shown_columns = [
                sql.Identifier("t", column)
                if column in table.key
                else sql.SQL("max({})").format(sql.Identifier("t", column))
                for column in table.types
            ]
            query = sql.SQL("SELECT {} FROM {} t WHERE {} GROUP BY {}")
            return query.format(sql.SQL(", ").join(shown_columns), name, where, keys)
        if table.name not in _COUNTERS:
            own = sql.SQL(", ").join(sql.Identifier("t", column) for column in table.types)
            return sql.SQL("SELECT {} FROM {} t WHERE {}").format(own, name, where)
        counters, number = _COUNTERS[table.name]
        own_types, sums = self._types[table.name], []
        shown_columns = []
        for column in table.types:
            own_column, sum_column = sql.Identifier("t", column), sql.Identifier("c", column)
            if column not in self._types[counters]:
                shown_columns.append(own_column)
                continue
            # Of jobs that expired and were retried as many are subtracted, in whichever shard.
            how = (
                "max({0}) AS {0}"
                if column in _MOMENTS
                else ("greatest(coalesce(sum({0}), 0), 0)::int8 AS {0}")
            )
            sums.append(sql.SQL(how).format(sql.Identifier(column)))
            latest = sql.SQL("greatest({}, {})").format(own_column, sum_column)
            shown_columns.append(latest if column in own_types else sum_column)
        query = sql.SQL(
            "SELECT {} FROM {} t, LATERAL (SELECT {} FROM {} s WHERE s.{} = t.id) c WHERE {}"
        )
        return query.format(
            sql.SQL(", ").join(shown_columns),
            name,
            sql.SQL(", ").join(sums),
            sql.Identifier(counters),
            sql.Identifier(number),
            where,
        )


class PostgresTarget(_Database):
    """See `Target`."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: str) -> Iterator[PostgresTarget]:
        """Keep other copies off the database."""
        with _connected(url) as connection:
            until = time.monotonic() + _LOCK_SECONDS
            query = "SELECT pg_try_advisory_lock(%s)"
            while connection.execute(query, (_LOCK,)).fetchone() != (True,):
                if time.monotonic() > until:
                    raise StoreUnavailableError(f"another copy into {shown(url)} is running")
                time.sleep(0.1)
            yield cls(connection, shown(url))

    def begin(self, version: str, source: str, names: Sequence[str]) -> dict[str, int]:
        noted = []
        if PROGRESS in self._types:
            query = f"SELECT {PROGRESS_COLUMNS} FROM {PROGRESS}"  # noqa: S608
            noted = self._connection.execute(query.encode()).fetchall()
        rows = (
            {}
            if noted
            else {
                name: self._one(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name)))
                for name in names
            }
        )
        found = progress_of(self._where, noted, rows, version)
        if found is not None:
            return found
        with self._connection.transaction():
            columns = "version text, source text, name text, rows bigint"
            self._connection.execute(f"CREATE TABLE {PROGRESS} ({columns})".encode())
            self._connection.cursor().executemany(
                f"INSERT INTO {PROGRESS} VALUES (%s, %s, %s, 0)".encode(),  # noqa: S608
                [(version, source, name) for name in names],
            )
        return dict.fromkeys(names, 0)

    def add(self, table: Table, rows: Sequence[Row], there: int) -> None:
        columns = self._columns(table)
        places = {each.name: place for place, each in enumerate(columns)}
        own = self._types[table.name]
        with self._connection.transaction():
            fixed = {"shard": 0} if "shard" in own else {}
            chosen = [(each, places[each.name]) for each in columns if each.name in own]
            self._fill(table.name, chosen, rows, fixed)
            if table.name in _COUNTERS:
                counters, number = _COUNTERS[table.name]
                of_counters = [
                    (each, places[each.name])
                    for each in columns
                    if each.name in self._types[counters]
                ]
                number_column = _Column(number, self._types[counters][number], None, None)
                chosen = [(number_column, places["id"]), *of_counters]
                self._fill(counters, chosen, rows, {"shard": 0})
            query = f"UPDATE {PROGRESS} SET rows = %s WHERE name = %s"  # noqa: S608
            self._connection.execute(query.encode(), (there, table.name))

    def _fill(
        self,
        name: str,
        columns: Sequence[tuple[_Column, int]],
        rows: Sequence[Row],
        fixed: dict[str, int],
    ) -> None:
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(name),
            sql.SQL(", ").join(map(sql.Identifier, [*(each.name for each, _ in columns), *fixed])),
        )
        types = [each.type for each, _ in columns] + [self._types[name][each] for each in fixed]
        chosen = [(place, each.from_sqlite) for each, place in columns]
        rest = list(fixed.values())
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(types)
            for row in rows:
                values = [
                    value if change is None or value is None else change(value)
                    for place, change in chosen
                    for value in (row[place],)
                ]
                copy.write_row(values + rest)

    def finish(self, identity: Identity) -> None:
        with self._connection.transaction():
            for name in ("queues", "batches", "audit"):
                key = "seq" if name == "audit" else "id"
                last = identity.last_batch if name == "batches" else 0
                query = sql.SQL(
                    "SELECT setval(pg_get_serial_sequence({}, {}), "
                    "greatest(coalesce(max({}), 0), {}, 1)) FROM {}"
                ).format(name, key, sql.Identifier(key), last, sql.Identifier(name))
                self._connection.execute(query)
            # Without an origin, the first server takes it for a restored copy, and numbers its
            # jobs far ahead.
            self._connection.execute(
                "UPDATE store SET id_prefix = %s, first_place = %s, origin = NULL",
                (identity.id_prefix, identity.first_place),
            )
            for statement in _FOLLOWING:
                self._connection.execute(statement)
            self._connection.execute(f"DROP TABLE {PROGRESS}".encode())
        self._connection.execute("ANALYZE")

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection.transaction()

    def columns(self) -> dict[str, list[str]]:
        return {name: list(types) for name, types in self._types.items()}

    def keep_batch_numbers(self) -> None:
        """Do nothing: the sequence does not give a number twice."""

    def rewrite(self) -> None:
        """Write the files of the tables without what was deleted."""
        for name in self._types:
            self._connection.execute(
                sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(name))
            )


def _column(table: str, name: str, sqlite: str, postgres: str) -> _Column:
    to_sqlite: _Change | None = None
    from_sqlite: _Change | None = None
    if (table, name) == ("jobs", "idempotency_key"):
        to_sqlite, from_sqlite = _key_to_sqlite, _key_from_sqlite
    elif postgres == "boolean":
        to_sqlite, from_sqlite = int, bool
    elif postgres == "integer[]":
        to_sqlite, from_sqlite = _places_to_sqlite, _places_from_sqlite
    elif postgres == "bytea":
        to_sqlite = bytes.decode if sqlite == "TEXT" else None
        from_sqlite = _bytes
    return _Column(name, postgres, to_sqlite, from_sqlite)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _key_to_sqlite(stored: bytes) -> str | bytes:
    return stored[1:] if stored[:1] == HASH_MARK else stored[1:].decode()


def _key_from_sqlite(key: str | bytes) -> bytes:
    return TEXT_MARK + key.encode() if isinstance(key, str) else HASH_MARK + key


def _places_to_sqlite(places: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(places)}I", *places)


def _places_from_sqlite(places: bytes) -> list[int]:
    return [*struct.unpack(f"<{len(places) // 4}I", places)]


def _tables(connection: _Connection) -> list[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
    return [name for (name,) in connection.execute(query, (SCHEMA,))]


@contextlib.contextmanager
def _connected(url: str, is_stopped: bool = True) -> Iterator[_Connection]:
    """Connect to a database, which no server may use where it is to be stopped."""
    try:
        with psycopg.connect(url, autocommit=True, application_name="spooled-copy") as connection:
            connection.execute(_SETTINGS)
            until = time.monotonic() + _GONE_SECONDS
            while is_stopped and connection.execute(_SERVERS.encode()).fetchone() != (0,):
                if time.monotonic() > until:
                    raise StoreUnavailableError(
                        f"a server or a command uses {shown(url)}; stop it first"
                    )
                time.sleep(0.1)
            yield connection
    except psycopg.errors.LockNotAvailable as error:
        raise StoreUnavailableError(
            f"{shown(url)} is being changed; stop the servers on it first"
        ) from error
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise StoreUnavailableError(f"{shown(url)} cannot be used: {reason}") from error
