"""Opening the file: whose it is, and which version it has."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.payloads import payload_digest
from spooled_pipelines.server.store.sqlite.disk_errors import explained
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS, SQL

SCHEMA_VERSION = MIGRATIONS[-1].number
# "SPLD": tells our files from others'.
APPLICATION_ID = 0x53504C44
# Enough for the keys of some million jobs, which are looked up in no order.
_WRITER_CACHE_KIB = 128 << 10
_READER_CACHE_KIB = 16 << 10
# Pages of log before they are carried over to the file: rarely enough that a page which many
# chunks touch is carried once.
_CHECKPOINT_PAGES = 8_192


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
        timeout=30,
        uri=isinstance(path, str),
    )


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file or make it; StoreUnavailableError says what is wrong with it."""
    with contextlib.ExitStack() as stack:
        try:
            # SQLite reads the file's head with the first statement, not when it opens it.
            connection = connect(path)
            stack.callback(connection.close)
            connection.create_function("digest_of_payload", 1, payload_digest, deterministic=True)
            _configure(connection, _WRITER_CACHE_KIB)
            _prepare(connection, path)
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


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if not empty and owner != APPLICATION_ID:
        raise StoreUnavailableError(f"{path} is a database of something else; choose another path")
    if version > SCHEMA_VERSION and _compatible_from(connection) > SCHEMA_VERSION:
        raise StoreUnavailableError(
            f"{path} has schema version {version}, and this server knows up to {SCHEMA_VERSION}; "
            "use a newer server"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # Acknowledged means on the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    # A file that cannot be written is refused here rather than call by call.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
    if version < SCHEMA_VERSION:
        _migrate(connection, version)


def _compatible_from(connection: sqlite3.Connection) -> int:
    """Return the oldest version whose servers can use the file."""
    row = connection.execute(SQL["read_meta"], ("compatible_from",)).fetchone()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version if row is None else int(row[0])


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Run what is missing, in one transaction: a crash leaves the file as it was."""
    missing = [migration for migration in MIGRATIONS if migration.number > version]
    script = [migration.statements for migration in missing]
    if not version:
        script.append(
            f"PRAGMA application_id = {APPLICATION_ID};\n"
            f"INSERT INTO meta VALUES ('id_prefix', '{ids.new_prefix()}'), ('next_seq', 1), "
            "('opened_by', '');"
        )
    # Only whole numbers of our own are in the text.
    compatible_from = max(migration.compatible_from for migration in missing)
    script.append(
        f"INSERT OR REPLACE INTO meta VALUES ('compatible_from', {compatible_from});\n"  # noqa: S608
        f"PRAGMA user_version = {missing[-1].number};"
    )
    try:
        connection.executescript("\n".join(("BEGIN IMMEDIATE;", *script, "COMMIT;")))
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def following_number(connection: sqlite3.Connection, last_token: str, token: str) -> int:
    """Return the number of the next job; note whose turn it is with the file.

    The file and its lock name the same last owner, unless the file is a copy that was restored.
    """
    following = int(read_meta(connection, "next_seq"))
    row = connection.execute(SQL["read_meta"], ("opened_by",)).fetchone()
    if row is None or row[0] != last_token:
        following = ids.number_after_restore(following)
    # On a full disk there is still much to read. What is not noted here is passed over again.
    with contextlib.suppress(sqlite3.Error), connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(SQL["write_meta"], ("next_seq", following))
        connection.execute(SQL["write_meta"], ("opened_by", token))
    return following


def read_meta(connection: sqlite3.Connection, name: str) -> str | int:
    """Return one entry of the table `meta`."""
    value: str | int = connection.execute(SQL["read_meta"], (name,)).fetchone()[0]
    return value
