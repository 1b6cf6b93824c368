"""celery: a group over one connection, and its worker until the broker's list is empty."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import cast

import celery
import redis

from benchmarks.peers.run import Clock, Task, task

_LIST = "celery"
_LOOK_SECONDS = 0.005
_POOLS = ("prefork", "solo", "threads")


def _nothing(**row: object) -> None:
    row["flight"]


def application(url: str) -> celery.Celery:
    """Return an application that keeps no results, and acknowledges messages after the run.

    Its guide advises against results that nobody reads; a message that is acknowledged before the
    run is lost with its worker.
    """
    made = celery.Celery("benchmark", broker=url)
    made.conf.task_ignore_result = True
    made.conf.task_acks_late = True
    made.conf.worker_prefetch_multiplier = int(os.environ.get("BENCHMARK_PREFETCH", "4"))
    made.conf.broker_connection_retry_on_startup = True
    return made


# Where a worker imports this, the address comes with it.
app = application(os.environ.get("BENCHMARK_BROKER", "redis://"))
nothing = app.task(_nothing, name="nothing")


def _enqueue(asked: Task) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        clock = Clock()
        for row in asked.rows:
            nothing.apply_async(kwargs=row, producer=producer)
        clock.say()


def _waiting(broker: redis.Redis) -> int:
    # The same method serves asyncio.
    return cast("int", broker.llen(_LIST))


def _work(asked: Task) -> None:
    """From when the first message left the list until no message is unacknowledged."""
    pool, concurrency, prefetch = asked.settings
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.on_celery", "worker"]
    command += ["--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
    command += ["--pool", _POOLS[pool], "--concurrency", str(concurrency)]
    environment = {**os.environ, "BENCHMARK_PREFETCH": str(prefetch), "C_FORCE_ROOT": "1"}
    broker = redis.Redis.from_url(asked.url)
    rows = _waiting(broker)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as worker:
        try:
            while _waiting(broker) == rows:
                time.sleep(_LOOK_SECONDS)
            clock = Clock()
            while _waiting(broker) or broker.hlen("unacked"):
                if worker.poll() is not None:
                    raise RuntimeError(f"celery's worker ended with {worker.returncode}")
                time.sleep(_LOOK_SECONDS)
            clock.say()
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    asked = task()
    (_enqueue if asked.what == "enqueue" else _work)(asked)
