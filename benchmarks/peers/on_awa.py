"""awa: insert_many_copy of lists, and its worker until every job is done; its engine is Rust's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

from awa import AsyncClient, Job

from benchmarks.peers.run import Clock, Task, lots, task


@dataclass
class Nothing:
    """A row."""

    flight: int
    carrier: str
    origin: str
    delay: float
    distance: int
    cancelled: bool


def _of_rust(url: str) -> str:
    """Return the URL with the folder of the socket where Rust's driver wants it."""
    parts = urlsplit(url)
    (folder,) = parse_qs(parts.query)["host"]
    return f"postgresql://postgres@{quote(folder, safe='')}{parts.path}"


async def _main(asked: Task) -> None:
    async with AsyncClient(_of_rust(asked.url)) as client:
        if asked.what == "prepare":
            await client.migrate()
        elif asked.what == "enqueue":
            (size,) = asked.settings
            clock = Clock()
            for lot in lots(asked.rows, size):
                await client.insert_many_copy([Nothing(**row) for row in lot], queue="nothing")
            clock.say()
        else:
            (concurrency,) = asked.settings
            await _work(client, concurrency, len(asked.rows))


async def _work(client: AsyncClient, concurrency: int, jobs: int) -> None:
    finished = asyncio.Event()
    clock = Clock(jobs)

    async def nothing(job: Job[Nothing]) -> None:
        job.args.flight  # noqa: B018 - read, as by the others
        if clock.count() == jobs:
            finished.set()

    client.task(Nothing, queue="nothing")(nothing)
    await client.start([("nothing", concurrency)])
    await finished.wait()
    # So that what is done is also acknowledged.
    await client.shutdown()
    clock.say()


if __name__ == "__main__":
    asyncio.run(_main(task()))
