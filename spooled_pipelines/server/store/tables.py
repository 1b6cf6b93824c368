"""The tables of a store as they are copied: in the form that SQLite has, whichever store it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from spooled_pipelines.server.core.errors import StoreUnavailableError

Row: TypeAlias = Sequence[Any]
# In the target of a copy until it is complete: the source's version and its URL, and how many
# rows of each table are there.
PROGRESS = "copy_progress"
PROGRESS_COLUMNS = "version, source, name, rows"


class Table:
    """A table with its columns by SQLite's types ("" where a column has none), and its key."""

    def __init__(self, name: str, types: dict[str, str], key: Sequence[str]) -> None:
        self.name = name
        self.types = types
        self.key = key

    @property
    def columns(self) -> list[str]:
        return list(self.types)

    @cached_property
    def large(self) -> list[int]:
        """The places of the columns whose values may be large."""
        return [place for place, kind in enumerate(self.types.values()) if kind == "BLOB"]


class Identity(NamedTuple):
    """What a store knows of itself: what ids begin with, the first place, and the last batch."""

    id_prefix: str
    first_place: int
    last_batch: int


def refuse_half_copy(where: str, objects: Collection[str]) -> None:
    """StoreUnavailableError where the store is a copy that is not complete."""
    if PROGRESS in objects:
        raise StoreUnavailableError(
            f"{where} is a copy that is not complete; go on with `spooled-pipelines copy FROM TO`"
        )


def progress_of(
    where: str,
    noted: Sequence[tuple[str, str, str, int]],
    rows: dict[str, int],
    version: str,
) -> dict[str, int] | None:
    """Return how far a copy is; None where one may begin.

    `rows` are those that are there. StoreUnavailableError where the store is something else.
    """
    if not noted:
        for name, count in rows.items():
            if count:
                raise StoreUnavailableError(
                    f"{where} is not empty (rows in {name}: {count}); TO must be a new store"
                )
        return None
    if any(each[0] != version for each in noted):
        raise StoreUnavailableError(
            f"{where} holds a part of {noted[0][1]} as it was: that is another store than FROM, or "
            "FROM has changed since; delete TO and copy again"
        )
    return {name: count for *_, name, count in noted}
