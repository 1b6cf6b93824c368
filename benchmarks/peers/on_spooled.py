"""Ours: a worker until the queue is empty; the server runs already."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.run import Clock, Task, task
from benchmarks.servers import API_KEY
from spooled_pipelines import Job
from spooled_pipelines.worker import Worker


def _main(asked: Task) -> None:
    clock = Clock(len(asked.rows))

    def copy(job: Job) -> dict[str, Any]:
        """Read the payload and, unlike the others, return a result, which is kept."""
        clock.count()
        return {"flight": job.payload["flight"]}

    Worker(asked.url, "work", copy, api_key=API_KEY, stop_when_empty=True).run()
    clock.say()


if __name__ == "__main__":
    _main(task())
