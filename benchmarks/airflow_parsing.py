"""What a DAG file pays for importing the provider, beside what it pays for Airflow itself."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

_RUNS = 7
_WANTED_SECONDS = 0.150
# Processor time, so that what else the machine does is not counted.
_PROGRAM = """
import json, sys, time

started = time.process_time()
from airflow.sdk import DAG, task

airflow = time.process_time()
from spooled_pipelines.airflow import EnqueueBatchOperator, SpooledHook, StreamJobsSensor

provider = time.process_time()
print(json.dumps([airflow - started, provider - airflow]))
"""


def parsing() -> bool:
    """Each time in a new process; the first, which fills the disk's cache, does not count."""
    seconds = [_once() for _ in range(_RUNS + 1)][1:]
    airflow, provider = (statistics.median(times) for times in zip(*seconds, strict=True))
    kept = bool(provider <= _WANTED_SECONDS)
    print(
        f"{provider / airflow:8.2f} ×  what importing airflow.sdk costs, the provider on top of it "
        f"(wanted: at most {_WANTED_SECONDS * 1000:.0f} ms{'' if kept else ', MISSED'})"
    )
    spread = [provider for _, provider in seconds]
    print(f"            from airflow.sdk import DAG, task: {airflow * 1000:,.0f} ms")
    print(
        f"            the provider's operator, hook and sensor: {provider * 1000:,.0f} ms "
        f"({_RUNS} runs: {min(spread) * 1000:,.0f} to {max(spread) * 1000:,.0f})",
        flush=True,
    )
    return kept


def _once() -> tuple[float, float]:
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    airflow, provider = json.loads(done.stdout.splitlines()[-1])
    return float(airflow), float(provider)
