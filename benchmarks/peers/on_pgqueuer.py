"""pgqueuer: enqueue of lists, and its worker until the queue is empty; asyncpg, uvloop."""

from __future__ import annotations

import json
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.peers.run import Clock, Task, lots, task


async def _main(asked: Task) -> None:
    connection = await asyncpg.connect(asked.url)
    if asked.what == "prepare":
        # All its tables logged ("durable") is its default, and vacuums as its guide has them.
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
    elif asked.what == "enqueue":
        (size,) = asked.settings
        queries = Queries(AsyncpgDriver(connection))
        clock = Clock()
        for lot in lots(asked.rows, size):
            payloads = [json.dumps(row).encode() for row in lot]
            await queries.enqueue(["nothing"] * len(lot), payloads, [0] * len(lot))
        clock.say()
    else:
        (size,) = asked.settings
        worker = PgQueuer.from_asyncpg_connection(connection)
        clock = Clock(len(asked.rows))

        async def nothing(job: Job) -> None:
            json.loads(job.payload or b"{}")["flight"]
            clock.count()

        worker.entrypoint("nothing")(nothing)
        await worker.qm.run(
            mode=QueueExecutionMode.drain,
            batch_size=size,
            dequeue_timeout=timedelta(seconds=1),
        )
        clock.say()
        return
    await connection.close()


if __name__ == "__main__":
    uvloop.run(_main(task()))
