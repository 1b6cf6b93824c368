"""What can be done to the file beside a server that runs on it: copy it, and look for damage."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.migrations import MigrationMode, may_run, no_store
from spooled_pipelines.server.store.sqlite.connections import database
from spooled_pipelines.server.store.sqlite.reads import reading
from spooled_pipelines.server.store.tables import refuse_half_copy


def back_up(source: Path, destination: Path) -> int:
    """Copy the store as it is at one moment; returns the copy's size in bytes.

    A server on it goes on meanwhile. The copy gets its name only when it is whole and on the disk.
    StoreUnavailableError, FileExistsError or another OSError say why there is none.
    """
    for path in (destination, destination.with_name(destination.name + "-wal")):
        if path.exists():
            # SQLite would take the log of an older file for part of the new one.
            raise FileExistsError(17, "there is a file already; choose another name", str(path))
    if not destination.parent.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(destination.parent))
    with existing(source) as connection:
        refuse_half_copy(str(source), database.objects(connection))
        descriptor, name = tempfile.mkstemp(".part", f".{destination.name}.", destination.parent)
        os.close(descriptor)
        part = Path(name)
        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as copy:
                # In one step: it is a snapshot, and writers of the source do not wait for it.
                connection.backup(copy)
                # A server of the copy numbers its jobs unlike those that came after it.
                copy.execute("DELETE FROM meta WHERE name = 'opened_by'")
            size = part.stat().st_size
            _sync(part)
            part.replace(destination)
            _sync(destination.parent)
        except sqlite3.Error as error:
            raise StoreUnavailableError(
                f"{source} could not be copied to {destination}: {error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
    return size


def find_faults(path: Path) -> list[str]:
    """Return what is wrong with the file and its counters, a sentence each.

    Reads the whole file. StoreUnavailableError where it is not a store of this version.
    """
    faults = []
    with existing(path) as connection:
        steps = database.lacking(connection, path)
        may_run(str(path), steps, is_new=False, mode=MigrationMode.REFUSE)
        refuse_half_copy(str(path), database.objects(connection))
        if gone := database.lost(connection, path):
            return [f"{what} is missing" for what in gone]
        try:
            checks = connection.execute("PRAGMA integrity_check").fetchall()
            faults += [f"file: {line}" for row in checks for line in row[0].splitlines()]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
            faults += [
                f"file: a row of {row[0]} names a row of {row[2]} that is gone" for row in orphans
            ]
            for mismatch in reading.recount(connection):
                faults += mismatch.sentences()
        except sqlite3.DatabaseError as error:
            faults.append(f"file: {error}")
    return [fault for fault in faults if fault != "file: ok"]


@contextlib.contextmanager
def existing(path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to a store that is there, for reading."""
    if not path.exists():
        raise no_store(str(path))
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("PRAGMA query_only = ON")
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            if owner != database.APPLICATION_ID:
                raise StoreUnavailableError(f"{path} is the database of another program")
            yield connection
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path} cannot be read as a store: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
