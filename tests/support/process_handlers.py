"""Handlers for processes of their own, which import them by name."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from spooled_pipelines import Job
from spooled_pipelines.worker import Retry, Snooze, Throttled, batch_handler
from spooled_pipelines.worker.jobs.outcome import Completed


def crash_on_demand(job: Job) -> dict[str, Any]:
    how = job.payload.get("how")
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit":
        os._exit(7)
    if how == "raise":
        raise ValueError("an ordinary error")
    if how == "retry":
        raise Retry("later", after=30)
    if how == "hang":
        Path(job.payload["mark"]).touch()
        time.sleep(600)
    return {"pid": os.getpid(), "grpc": "grpc" in sys.modules}


async def awaited(job: Job) -> dict[str, Any]:
    return {"pid": os.getpid()}


@batch_handler(max_wait=0.2)
def rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"pid": [os.getpid()] * batch.num_rows})


def forge(job: Job) -> dict[str, Any]:
    """Answers, beside its own job, for another: what a fork that goes on could do."""
    ours = [each for each in gc.get_objects() if isinstance(each, Connection)]
    for pipe in ours:
        with contextlib.suppress(OSError):
            pipe.send(([("another", "lease")], [Completed(None)]))
    return {"n": job.payload["n"]}


def postponed(job: Job) -> None:
    if job.payload["n"] == 0:
        raise Throttled(after=3_600)
    raise Snooze("tomorrow", after=8 * 3_600)


@batch_handler(max_wait=0.2)
def killing_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    numbers = batch["n"].to_pylist()
    if 3 in numbers:
        os._exit(5)
    return pa.record_batch({"n": numbers})
