"""A million rows there and back: table, jobs, a handler of rows, results as a table.

Against one loop of the official SDK for each step, on a sample, over the same kind of file.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Rate, show_ratio
from benchmarks.sdk import sdk_client, sdk_loop
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.worker import Worker, batch_handler

_ROWS = 1_000_000
_SAMPLE = 2_000
_LOT = 100


def roundtrip() -> bool:
    """Over SQLite, a server and a worker with its defaults; every result is checked."""
    frame = flights(_ROWS)
    with server() as address:
        steps = _ours(address, frame)
    ours = Rate("enqueue_batch, a handler of rows, results()", _ROWS, (sum(steps.values()),))
    with server() as address:
        seconds = _theirs(address, frame.head(_SAMPLE))
    theirs = Rate("the official SDK: a loop each of enqueue, dequeue and get", _SAMPLE, (seconds,))
    kept = show_ratio("the way there and back, rows a second", 40, ours, theirs)
    said = ", ".join(f"{step} {took:.1f} s ({_ROWS / took:,.0f}/s)" for step, took in steps.items())
    print(f"            {said}; together {sum(steps.values()):.1f} s")
    print(f"            load average {os.getloadavg()[0]:.1f}", flush=True)
    return kept


@batch_handler(max_rows=5_000)
def _doubled(rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"flight": rows["flight"], "doubled": pc.multiply(rows["distance"], 2)})


def _ours(address: str, frame: Any) -> dict[str, float]:
    steps = {}
    with connect(address, api_key=API_KEY) as client:
        began = time.perf_counter()
        batch = client.enqueue_batch(frame, "flights", key="flight")
        steps["enqueue"] = time.perf_counter() - began
        worker = Worker(address, "flights", _doubled, api_key=API_KEY, stop_when_empty=True)
        began = time.perf_counter()
        worker.run()
        steps["work"] = time.perf_counter() - began
        began = time.perf_counter()
        table = batch.results()
        steps["results"] = time.perf_counter() - began
    if table["flight"].to_pylist() != frame["flight"].tolist() or (
        table["doubled"].to_pylist() != (2 * frame["distance"]).tolist()
    ):
        raise RuntimeError("the results are not those of the rows")
    return steps


def _theirs(address: str, frame: Any) -> float:
    with sdk_client(address) as sdk:
        began = time.perf_counter()
        sdk_loop(sdk, frame, "flights")
        found = []
        while jobs := sdk.queue.dequeue("flights", "w", batch_size=_LOT).jobs:
            for job in jobs:
                result = {"doubled": job.payload["distance"] * 2}
                sdk.queue.complete(job.id, "w", result=result, lease_id=job.lease_id)
                found.append(job.id)
        rows = [sdk.queue.get_job(job_id) for job_id in found]
        seconds = time.perf_counter() - began
    if len(rows) != len(frame):
        raise RuntimeError(f"{len(rows)} of {len(frame)} rows came back")
    return seconds
