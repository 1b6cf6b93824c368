"""Opening the file: whose it is, and which version it has."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.jobs.payloads import payload_digest
from spooled_pipelines.server.core.page_tokens import new_page_key
from spooled_pipelines.server.store.migrations import (
    Applied,
    MigrationMode,
    lacks,
    may_run,
    missing,
    missing_objects,
    note_applied,
)
from spooled_pipelines.server.store.sql import Migration
from spooled_pipelines.server.store.sqlite.connections.disk_errors import explained
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS, SQL

# "SPLD": tells our files from others'.
APPLICATION_ID = 0x53504C44
_MIGRATIONS_TABLE = """
CREATE TABLE migrations (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    compatible_from INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
"""
# Enough for the keys of some million jobs, which are looked up in no order.
_WRITER_CACHE_KIB = 128 << 10
_READER_CACHE_KIB = 16 << 10
# Pages of log before they are carried over to the file: rarely enough that a page which many
# chunks touch is carried once.
_CHECKPOINT_PAGES = 8_192
# How long others that write to the file are waited for: a backup, another server that starts.
BUSY_SECONDS = 30


def path_of(url: str) -> Path:
    """Return the file that "sqlite:///PATH" means."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise StoreUnavailableError(f"store {url!r} is not of the form sqlite:///PATH")
    return Path(path)


def connect(path: Path | str) -> sqlite3.Connection:
    """Return a connection for one thread at a time, transactions said by hand."""
    return sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=BUSY_SECONDS,
        uri=isinstance(path, str),
    )


def open_writer(path: Path, mode: MigrationMode = MigrationMode.AUTO) -> sqlite3.Connection:
    """Open the file or make it; StoreUnavailableError says what is wrong with it."""
    with contextlib.ExitStack() as stack:
        try:
            # SQLite reads the file's head with the first statement, not when it opens it.
            connection = connect(path)
            stack.callback(connection.close)
            connection.create_function("digest_of_payload", 1, payload_digest, deterministic=True)
            _configure(connection, _WRITER_CACHE_KIB)
            _prepare(connection, path, mode)
        except sqlite3.Error as error:
            reason = explained(error, path)
            raise StoreUnavailableError(f"{path} cannot be opened as a store: {reason}") from error
        stack.pop_all()
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that sees what is committed and changes nothing."""
    # One that is not there is not made.
    connection = connect(f"{path.absolute().as_uri()}?mode=rw")
    _configure(connection, _READER_CACHE_KIB)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _configure(connection: sqlite3.Connection, cache_kib: int) -> None:
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA temp_store = MEMORY")


def _prepare(connection: sqlite3.Connection, path: Path, mode: MigrationMode) -> None:
    there = objects(connection)
    if there and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreUnavailableError(
            f"{path} is the database of another program; choose another path"
        )
    steps = lacking(connection, path)
    may_run(str(path), steps, is_new=not there, mode=mode)
    connection.execute("PRAGMA journal_mode = WAL")
    # Acknowledged means on the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    # A file that cannot be written is refused here rather than call by call.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
    if steps:
        _migrate(connection, path, steps, is_new=not there)
    elif gone := lost(connection, path):
        raise lacks(str(path), gone)


def lacking(connection: sqlite3.Connection, path: Path) -> list[Migration]:
    """Return the migrations that the file lacks, in order."""
    return missing(str(path), MIGRATIONS, _applied(connection, path))


def lost(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return what the file should have by its migrations, and has not."""
    return missing_objects(MIGRATIONS, _applied(connection, path), objects(connection))


def objects(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables and indexes that are there."""
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}


def _applied(connection: sqlite3.Connection, path: Path) -> list[Applied]:
    there = objects(connection)
    if there and "migrations" not in there:
        raise StoreUnavailableError(
            f"{path} does not note its migrations: it was made by a version before 0.1"
        )
    if not there:
        return []
    query = "SELECT name, checksum, compatible_from FROM migrations"
    return [Applied(*row) for row in connection.execute(query)]


def _migrate(
    connection: sqlite3.Connection, path: Path, steps: Sequence[Migration], *, is_new: bool
) -> None:
    """Run what is missing, each step in a transaction: a crash leaves the file as it was."""
    for step in steps:
        began = time.monotonic()
        # Only names and numbers of our own are in the text.
        noted = (
            "INSERT INTO migrations (name, checksum, compatible_from) VALUES "  # noqa: S608
            f"('{step.name}', '{step.checksum}', {step.compatible_from});"
        )
        script = ["BEGIN IMMEDIATE;", step.statements, noted, "COMMIT;"]
        if is_new and step is steps[0]:
            identity = (
                f"('id_prefix', '{ids.new_prefix()}'), ('page_key', x'{new_page_key().hex()}'), "
                "('first_place', 1), ('opened_by', '')"
            )
            script[2:2] = [f"INSERT INTO meta VALUES {identity};", _MIGRATIONS_TABLE]  # noqa: S608
            script[1:1] = [f"PRAGMA application_id = {APPLICATION_ID};"]
        try:
            connection.executescript("\n".join(script))
        except sqlite3.Error:
            if connection.in_transaction:
                connection.rollback()
            raise
        note_applied(str(path), step, time.monotonic() - began)


def first_place(connection: sqlite3.Connection, last_token: str, token: str) -> int:
    """Return the first place that a job may get; note whose turn it is with the file.

    The file and its lock name the same last owner, unless the file is a copy that was restored.
    """
    place = int(read_meta(connection, "first_place"))
    row = connection.execute(SQL["read_meta"], ("opened_by",)).fetchone()
    is_restored = row is None or row[0] != last_token
    if is_restored:
        ((highest,),) = connection.execute(SQL["read_highest_place"])
        place = ids.place_after_restore(highest)
    # On a full disk there is still much to read. What is not noted here is passed over again.
    with contextlib.suppress(sqlite3.Error), connection:
        connection.execute("BEGIN IMMEDIATE")
        if is_restored:
            connection.execute(SQL["write_meta"], ("first_place", place))
            connection.execute(SQL["go_on_from"], (place,))
        connection.execute(SQL["write_meta"], ("opened_by", token))
    return place


def read_meta(connection: sqlite3.Connection, name: str) -> str | int:
    """Return one entry of the table `meta`."""
    value: str | int = connection.execute(SQL["read_meta"], (name,)).fetchone()[0]
    return value


def read_page_key(connection: sqlite3.Connection) -> bytes:
    """Return what the page tokens of the store are made with."""
    key: bytes = connection.execute(SQL["read_meta"], ("page_key",)).fetchone()[0]
    return key
