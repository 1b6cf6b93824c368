"""`JobStore` over SQLite in memory: nothing on the disk, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from spooled_pipelines.server.store.sqlite.transactions import Snapshot

T = TypeVar("T")
P = ParamSpec("P")


class _NoFile(FileLock):
    def take(self) -> None:
        """Take nothing: there is no file that another could have."""


class MemoryStore(SqliteStore):
    """See `JobStore`. A database in memory has one connection, so that reads go with the writes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("sqlite:///:memory:", clock, lock=_NoFile(Path(":memory:")))

    async def read(
        self, query: Callable[Concatenate[Snapshot, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.write(query, *args, **kwargs)
