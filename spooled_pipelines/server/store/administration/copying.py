"""`copy`: carry a whole store over into another one, which may be of the other kind.

The target notes how far each table is in the transaction that adds its rows, in a table that is
there for as long as the copy is not complete: no server starts on it until then, and a copy that
was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

from spooled_pipelines.server.config.settings import shown_store
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.administration.backup import is_sqlite
from spooled_pipelines.server.store.administration.migrate import migrate, missing_migrations
from spooled_pipelines.server.store.migrations import MigrationMode, may_run
from spooled_pipelines.server.store.sqlite.upkeep.copying import SqliteSource, SqliteTarget, tables
from spooled_pipelines.server.store.tables import Identity, Row, Table

PAGE_ROWS, _PAGE_BYTES = 5_000, 8 << 20
# Told the table, how many of its rows are in the target, and how many there are in all.
Progress: TypeAlias = Callable[[str, int, int], None]


class Copied(NamedTuple):
    """A table of both stores, and how many rows each has."""

    table: str
    source_rows: int
    target_rows: int


class Source(Protocol):
    """A store that is read, and that nobody changes meanwhile."""

    identity: Identity
    # Another one as soon as a server or a command has changed the store.
    version: str

    def count(self, table: Table) -> int: ...
    def rows(self, table: Table, skip: int, which: str = "true") -> Iterator[Row]:
        """Yield the rows of this condition in the order of their keys, but for the first ones."""

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement with question marks for the values."""


class Target(Protocol):
    """A store that is filled."""

    def begin(self, version: str, shown: str, names: Sequence[str]) -> dict[str, int]:
        """Return how many rows of each table are there already."""

    def add(self, table: Table, rows: Sequence[Row], there: int) -> None:
        """Add rows, after which so many of the table are there."""

    def count(self, table: Table) -> int: ...
    def finish(self, identity: Identity) -> None:
        """Let servers use the store."""

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement with question marks for the values."""

    def transaction(self) -> AbstractContextManager[object]:
        """Begin a transaction, which ends with the block."""

    def columns(self) -> dict[str, list[str]]:
        """Return the tables that there are, with their columns."""

    def keep_batch_numbers(self) -> None:
        """Note the last batch's number, which is not to come again when the batch is gone."""

    def rewrite(self) -> None:
        """Write the files without what was deleted."""


def copy(source: str, target: str, progress: Progress, page_rows: int = PAGE_ROWS) -> list[Copied]:
    """Carry a store over into an empty one, or go on with it; return the tables with their rows.

    StoreUnavailableError where one of them is in use, is not fit, or has changed meanwhile.
    """
    if source == target:
        raise StoreUnavailableError("FROM and TO are the same store; name another one")
    with opened_source(source) as reading:
        migrate(target)
        with opened_target(target) as writing:
            known = tables()
            there = writing.begin(
                reading.version, shown_store(source), [table.name for table in known]
            )
            for table in known:
                _copy_table(reading, writing, table, there[table.name], progress, page_rows)
            copied = [
                Copied(table.name, reading.count(table), writing.count(table)) for table in known
            ]
            if differing := [each for each in copied if each.source_rows != each.target_rows]:
                raise StoreUnavailableError(_differs(differing[0], shown_store(target)))
            writing.finish(reading.identity)
    return copied


def _copy_table(
    reading: Source,
    writing: Target,
    table: Table,
    there: int,
    progress: Progress,
    page_rows: int,
) -> None:
    total = reading.count(table)
    for page in _pages(reading.rows(table, there), table.large, page_rows):
        there += len(page)
        writing.add(table, page, there)
        progress(table.name, there, total)


def _pages(rows: Iterator[Row], large: Sequence[int], most: int) -> Iterator[list[Row]]:
    page: list[Row] = []
    size = 0
    for row in rows:
        page.append(row)
        size += sum(len(row[place] or b"") for place in large)
        if len(page) >= most or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _differs(each: Copied, target: str) -> str:
    return (
        f"{target} has {each.target_rows} rows in {each.table}, and there are {each.source_rows}: "
        "somebody has changed it; empty it and copy again"
    )


@contextlib.contextmanager
def opened_source(url: str, *, is_stopped: bool = True) -> Iterator[Source]:
    """Open a store to read it as it is at one moment; StoreUnavailableError where it is in use."""
    steps = missing_migrations(url)
    is_new = bool(steps) and steps[0].number == 1
    may_run(shown_store(url), steps, is_new=is_new, mode=MigrationMode.REFUSE)
    if is_sqlite(url):
        with SqliteSource.opened(url, is_stopped) as found:
            yield found
    else:
        from spooled_pipelines.server.store.postgres.upkeep.copying import PostgresSource

        with PostgresSource.opened(url, is_stopped) as other:
            yield other


@contextlib.contextmanager
def opened_target(url: str) -> Iterator[Target]:
    """Open a store to change it; StoreUnavailableError where it is in use."""
    if is_sqlite(url):
        with SqliteTarget.opened(url) as found:
            yield found
    else:
        from spooled_pipelines.server.store.postgres.upkeep.copying import PostgresTarget

        with PostgresTarget.opened(url) as other:
            yield other
