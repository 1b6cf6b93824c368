"""The asyncio client against the blocking one, at the same work on the same servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import AsyncSpooledClient, SpooledClient, connect

_ROWS, _PLAIN_ROWS = 100_000, 5_000
_RUNS = 5


class _Work(NamedTuple):
    """The same for both clients: of a table, a name that is new, and a batch that is there."""

    what: str
    rows: int
    blocking: Callable[[SpooledClient, Any, str, str], object]
    waiting: Callable[[AsyncSpooledClient, Any, str, str], Awaitable[object]]


def asynchronous() -> bool:
    """Enqueueing with the batch extension and without, and reading results."""

    async def read(client: AsyncSpooledClient, _frame: Any, _name: str, batch_id: str) -> None:
        await client.batch(batch_id).results()

    def enqueue(client: Any, frame: Any, name: str, _: str) -> Any:
        return client.enqueue_batch(frame, "q", name=name)

    enqueueing = _Work("enqueueing a batch", _ROWS, enqueue, enqueue)
    singly = _Work("enqueueing on a plain server", _PLAIN_ROWS, enqueue, enqueue)
    reading = _Work(
        "reading results", _ROWS, lambda client, _, __, batch: client.batch(batch).results(), read
    )
    with server() as address, server("--no-batch-extension") as plain:
        kept = [
            _compare(enqueueing, address),
            _compare(singly, plain),
            _compare(reading, address),
        ]
    return all(kept)


def _compare(work: _Work, address: str) -> bool:
    frame = flights(work.rows)
    loop = asyncio.new_event_loop()
    with connect(address, api_key=API_KEY) as client:
        other = AsyncSpooledClient(address, api_key=API_KEY)

        def blocking(run: int | str) -> None:
            work.blocking(client, frame, f"sync {run}", batch.id)

        def waiting(run: int | str) -> None:
            loop.run_until_complete(_awaited(work.waiting(other, frame, f"async {run}", batch.id)))

        batch = client.enqueue_batch(frame, "there")
        blocking("warm")
        waiting("warm")
        ours, theirs = in_turns(
            Side("AsyncSpooledClient", work.rows, waiting),
            Side("SpooledClient", work.rows, blocking),
            runs=_RUNS,
        )
        loop.run_until_complete(other.close())
        loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return show_ratio(f"asyncio, {work.what}", 0.9, ours, theirs)


async def _awaited(work: Awaitable[object]) -> None:
    await work
