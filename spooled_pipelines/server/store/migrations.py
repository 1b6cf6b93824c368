"""Which migrations a store has, which it lacks, and what a program that opens it may do about it.

A store notes each migration by its name and checksum. So one that was merged late is run although
one with a higher number is there, and one that was changed after it was run is found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from spooled_pipelines.server.core.errors import NoStoreError, StoreUnavailableError
from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.store.sql import Migration

_OBJECT = re.compile(
    r"\b(CREATE|DROP)\s+(?:UNIQUE\s+)?(TABLE|INDEX)\s+(?:CONCURRENTLY\s+)?"
    r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(\w+)"
)


class MigrationMode(str, Enum):
    """What a program that opens a store may do to its schema."""

    # Make it, and bring it up to date.
    AUTO = "auto"
    # Make it where there is none.
    CREATE = "create"
    # Bring up to date what is there.
    UPDATE = "update"
    # Neither.
    REFUSE = "refuse"


class Applied(NamedTuple):
    """A migration as a store notes it."""

    name: str
    checksum: str
    compatible_from: int


def missing(
    where: str, known: Sequence[Migration], applied: Collection[Applied]
) -> list[Migration]:
    """Return the migrations that the store lacks, in order.

    StoreUnavailableError where this program cannot use what the store has.
    """
    ours = {migration.name: migration for migration in known}
    for one in applied:
        migration = ours.get(one.name)
        if migration is not None and migration.checksum != one.checksum:
            raise StoreUnavailableError(
                f"{where} was made with another {one.name} than this program's (checksum "
                f"{one.checksum}, not {migration.checksum}): use the version that made it"
            )
        if migration is None and one.compatible_from > known[-1].number:
            raise StoreUnavailableError(
                f"{where} has the migration {one.name}, and this program knows up to "
                f"{known[-1].name}; use a newer version"
            )
    names = {one.name for one in applied}
    return [migration for migration in known if migration.name not in names]


def may_run(
    where: str, steps: Sequence[Migration], *, is_new: bool, mode: MigrationMode
) -> Sequence[Migration]:
    """Return these steps; StoreUnavailableError where the program may not take them."""
    fit = MigrationMode.CREATE if is_new else MigrationMode.UPDATE
    if not steps or mode in (MigrationMode.AUTO, fit):
        return steps
    if is_new:
        raise no_store(where)
    names = ", ".join(step.name for step in steps)
    raise StoreUnavailableError(
        f"{where} has an older schema, which lacks {names}; run `spooled-pipelines migrate`"
    )


def no_store(where: str) -> NoStoreError:
    """Return the error that there is no store in this place."""
    return NoStoreError(f"there is no store at {where}; `spooled-pipelines migrate` makes one")


def note_applied(where: str, step: Migration, seconds: float) -> None:
    """Log that a step was taken."""
    operator_log.info("applied migration %s to %s in %.1f s", step.name, where, seconds)


def missing_objects(
    known: Sequence[Migration], applied: Collection[Applied], there: Collection[str]
) -> list[str]:
    """Return "the table NAME" or "the index NAME" for each that the store should have and has not.

    Of a store that a newer version has changed nothing is known.
    """
    if {one.name for one in applied} - {migration.name for migration in known}:
        return []
    return [f"the {kind} {name}" for name, kind in _objects(known) if name not in there]


def _objects(known: Sequence[Migration]) -> Iterator[tuple[str, str]]:
    """Yield the name and the kind of each table and index that there is after these migrations."""
    found: dict[str, str] = {}
    for migration in known:
        for verb, kind, name in _OBJECT.findall(migration.statements):
            if verb == "CREATE":
                found[name] = kind.lower()
            else:
                found.pop(name, None)
    yield from found.items()


def lacks(where: str, objects: Sequence[str]) -> StoreUnavailableError:
    """Return the error that these objects are missing."""
    return StoreUnavailableError(f"{where} lacks {', '.join(objects)}; restore it from a backup")
