"""Around backup and restore: a store of each kind with a job in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from tests.support.store_kit import new_job

_STORE = "/var/lib/spooled"


@contextmanager
def page(page: Any) -> Iterator[None]:
    Path("lib").mkdir()
    Path("backup").mkdir()
    page.replace[_STORE] = str(Path("lib").resolve())
    page.replace["/backup/"] = "backup/"
    enqueue(f"sqlite:///{Path('lib/spooled.db').resolve()}")
    yield


@contextmanager
def lost(page: Any) -> Iterator[None]:
    Path("lib/spooled.db").write_bytes(b"not a database")
    yield
    assert "acme" in page.printed


@contextmanager
def in_postgresql(page: Any) -> Iterator[None]:
    from tests.support.postgres import shared_cluster

    cluster = shared_cluster()
    url = cluster.empty_database()
    enqueue(url)
    # Programs of the machine may be older than this database, which comes with its own.
    (data,) = parse_qs(urlsplit(url).query)["host"]
    postmaster = int((Path(data) / "postmaster.pid").read_text().splitlines()[0])
    programs = Path(psutil.Process(postmaster).exe()).parent
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    restored = f"{Path(url.partition('?')[0]).name}_restored"
    # The longer name first, of which the other is a part.
    page.replace["postgresql://spooled@db/spooled_restored"] = f"'{cluster.url(restored)}'"
    page.replace["postgresql://spooled@db/spooled"] = f"'{url}'"
    page.replace["postgresql://spooled@db/postgres"] = f"'{cluster.url('postgres')}'"
    page.replace["spooled_restored"] = restored
    yield


@contextmanager
def restored(page: Any) -> Iterator[None]:
    yield
    assert "acme" in page.printed


def enqueue(url: str) -> None:
    """Make a store with one job."""

    async def run() -> None:
        store = open_store(url, SystemClock())
        await store.open(lambda _: None)
        await store.enqueue("acme", new_job())
        await store.close()

    asyncio.run(run())
