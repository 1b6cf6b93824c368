"""What is committed together: rows of uploads for longer than what somebody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store.sqlite.batches import chunks
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from tests.support.manual_clock import ManualClock
from tests.support.store_kit import ORGANIZATION, chunk, new_job

# As a chunk takes on a slow machine, in the time of the test's clock.
_CHUNK_SECONDS = 0.06


@pytest.mark.parametrize(
    ("what", "jobs_of_commits"),
    [
        # Beyond 0.2 s no further chunk is gathered; what waits does not begin with less than that.
        ("ccccc", [4, 1]),
        # What somebody waits for is not put off by more than a twentieth of a second.
        ("cjcc", [2, 2]),
        ("jcccc", [2, 3]),
    ],
)
async def test_chunks_share_a_commit_until_somebody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, jobs_of_commits: Sequence[int]
) -> None:
    clock = ManualClock()
    commits: list[int] = []

    def committed(event: CommitEvent) -> None:
        commits.append(event.jobs)

    def slow(*arguments: Any) -> object:
        clock.advance(_CHUNK_SECONDS)
        return add_chunk(*arguments)

    add_chunk = chunks.add_chunk
    monkeypatch.setattr(chunks, "add_chunk", slow)
    store = SqliteStore(f"sqlite:///{tmp_path}/jobs.db", clock)
    await store.open(committed)
    try:
        await store.open_batch(ORGANIZATION, BatchOpening("b", "q", ""))
        commits.clear()
        busy, goes_on = threading.Event(), threading.Event()

        def hold(_: object) -> bool:
            busy.set()
            return goes_on.wait()

        first = asyncio.ensure_future(store.write(hold))
        await asyncio.to_thread(busy.wait)
        waiting: list[Awaitable[object]] = [
            asyncio.ensure_future(
                store.add_chunk(ORGANIZATION, chunk("b", [str(number)], number))
                if kind == "c"
                else store.enqueue(ORGANIZATION, new_job())
            )
            for number, kind in enumerate(what)
        ]
        await asyncio.sleep(0)
        # It was asked first and is committed alone, since by now its time is over.
        clock.advance(1)
        goes_on.set()
        await asyncio.gather(first, *waiting)
    finally:
        await store.close()
    assert [jobs for jobs in commits if jobs] == list(jobs_of_commits)
