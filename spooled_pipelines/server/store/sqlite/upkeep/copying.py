"""The file as what a store is copied from, and as what it is copied to."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.migrations import no_store
from spooled_pipelines.server.store.sqlite.connections import database
from spooled_pipelines.server.store.sqlite.connections.disk_errors import explained
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS, SQL
from spooled_pipelines.server.store.tables import (
    PROGRESS,
    PROGRESS_COLUMNS,
    Identity,
    Row,
    Table,
    progress_of,
    refuse_half_copy,
)

# What is not copied row by row.
_OWN = ("meta", "migrations", PROGRESS)


@cache
def tables() -> tuple[Table, ...]:
    """Return the tables of this version, those first to which others refer."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in MIGRATIONS:
            connection.executescript(migration.statements)
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"
        ).fetchall()
        return tuple(_table(connection, name) for (name,) in names if name not in _OWN)


def _table(connection: sqlite3.Connection, name: str) -> Table:
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    key = [column for _, column in sorted((pk, column) for column, _, pk in rows if pk)]
    return Table(name, {column: kind for column, kind, _ in rows}, key)


class _File:
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def count(self, table: Table) -> int:
        query = f"SELECT count(*) FROM {table.name}"  # noqa: S608
        return int(self._connection.execute(query).fetchone()[0])

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()


class SqliteSource(_File):
    """See `Source`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(connection, path)
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        self.identity = Identity(
            str(meta["id_prefix"]),
            int(meta["first_place"]),
            int(meta.get("last_batch", 0)),
        )
        ((taken,),) = self.run("SELECT coalesce(sum(following), 0) FROM job_places")
        # Each that opens the store to change it notes itself.
        self.version = f"{meta['id_prefix']} {meta.get('opened_by', '')} {taken}"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: str, is_stopped: bool = True) -> Iterator[SqliteSource]:
        """Open the file, and keep servers off it where it is to be stopped."""
        path = database.path_of(url)
        if not path.exists():
            raise no_store(str(path))
        lock = _locked(path) if is_stopped else contextlib.nullcontext()
        with lock, _errors(path), closing(database.open_reader(path)) as connection:
            refuse_half_copy(str(path), database.objects(connection))
            connection.execute("BEGIN")
            yield cls(connection, path)

    def rows(self, table: Table, skip: int, which: str = "true") -> Iterator[Row]:
        columns, key = ", ".join(table.columns), ", ".join(table.key)
        query = (
            f"SELECT {columns} FROM {table.name} WHERE {which} ORDER BY {key} "  # noqa: S608
            "LIMIT -1 OFFSET ?"
        )
        yield from self._connection.execute(query, (skip,))


class SqliteTarget(_File):
    """See `Target`."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: str) -> Iterator[SqliteTarget]:
        """Keep servers off the file, and open it."""
        path = database.path_of(url)
        with _locked(path), _errors(path), closing(database.open_writer(path)) as connection:
            yield cls(connection, path)

    def begin(self, version: str, shown: str, names: Sequence[str]) -> dict[str, int]:
        with self.transaction():
            noted = []
            if PROGRESS in database.objects(self._connection):
                query = f"SELECT {PROGRESS_COLUMNS} FROM {PROGRESS}"  # noqa: S608
                noted = self._connection.execute(query).fetchall()
            rows = {} if noted else {table.name: self.count(table) for table in tables()}
            found = progress_of(str(self._path), noted, rows, version)
            if found is not None:
                return found
            self._connection.execute(f"CREATE TABLE {PROGRESS} ({PROGRESS_COLUMNS})")
            self._connection.executemany(
                f"INSERT INTO {PROGRESS} VALUES (?, ?, ?, 0)",  # noqa: S608
                [(version, shown, name) for name in names],
            )
        return dict.fromkeys(names, 0)

    def add(self, table: Table, rows: Sequence[Row], there: int) -> None:
        columns, marks = ", ".join(table.columns), ", ".join("?" for _ in table.columns)
        with self.transaction():
            self._connection.executemany(
                f"INSERT INTO {table.name} ({columns}) VALUES ({marks})",  # noqa: S608
                rows,
            )
            query = f"UPDATE {PROGRESS} SET rows = ? WHERE name = ?"  # noqa: S608
            self._connection.execute(query, (there, table.name))

    def finish(self, identity: Identity) -> None:
        with self.transaction():
            for name, value in identity._asdict().items():
                self._connection.execute(SQL["write_meta"], (name, value))
            # The first server takes it for a restored copy, and numbers its jobs far ahead.
            self._connection.execute("DELETE FROM meta WHERE name = 'opened_by'")
            self._connection.execute(f"DROP TABLE {PROGRESS}")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def columns(self) -> dict[str, list[str]]:
        return {table.name: table.columns for table in tables()}

    def keep_batch_numbers(self) -> None:
        """Note the last batch's number, which is not to come again when the batch is gone."""
        ((last,),) = self.run("SELECT coalesce(max(id), 0) FROM batches")
        self.run(SQL["note_last_batch"], last)

    def rewrite(self) -> None:
        """Write the file without what was deleted, and empty its log."""
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    lock.take()
    # The file is not one that was restored: its next server may go on counting.
    lock.token = lock.last_token
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path} cannot be copied: {explained(error, path)}") from error
