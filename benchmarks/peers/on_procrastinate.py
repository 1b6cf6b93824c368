"""procrastinate: batch_defer_async, and its worker on an async task."""

from __future__ import annotations

import asyncio
import logging

import procrastinate

from benchmarks.peers.run import Clock, Task, lots, task


async def _main(asked: Task) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=asked.url))
    clock = Clock(len(asked.rows))

    async def count(**row: object) -> None:
        row["flight"]
        clock.count()

    nothing = app.task(count, name="nothing", queue="benchmark")
    async with app.open_async():
        if asked.what == "prepare":
            await app.schema_manager.apply_schema_async()
            return
        clock = Clock(len(asked.rows))
        if asked.what == "enqueue":
            (size,) = asked.settings
            for lot in lots(asked.rows, size):
                await nothing.batch_defer_async(*lot)
        else:
            (concurrency,) = asked.settings
            await app.run_worker_async(
                queues=["benchmark"],
                wait=False,
                concurrency=concurrency,
                install_signal_handlers=False,
            )
        clock.say()


if __name__ == "__main__":
    # A line for each job would be most of the work.
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    asyncio.run(_main(task()))
