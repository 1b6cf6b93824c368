"""Everything, or only what is named: `python -m benchmarks [fanout encoding ...]`.

Ends with status 1 if a promise is not kept.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from benchmarks.against import against
from benchmarks.airflow_memory import memory_in_airflow
from benchmarks.airflow_parsing import parsing
from benchmarks.airflow_waits import waits
from benchmarks.airflow_ways import ways
from benchmarks.asynchronous import asynchronous
from benchmarks.churn import churn
from benchmarks.costs import costs
from benchmarks.database import database
from benchmarks.encoding import encoding
from benchmarks.engines import engines
from benchmarks.fairness import fairness
from benchmarks.fanout import fanout
from benchmarks.latency import latency
from benchmarks.long_transaction import long_transaction
from benchmarks.memory import memory
from benchmarks.plain import plain
from benchmarks.postgres import postgres
from benchmarks.results import results
from benchmarks.roundtrip import roundtrip
from benchmarks.scale import scale
from benchmarks.settling import settling
from benchmarks.sharding import sharding
from benchmarks.sizing import sizing
from benchmarks.soak import soak
from benchmarks.start_up import start_up
from benchmarks.takeover import takeover
from benchmarks.text_files import text_files
from benchmarks.throttled import throttled
from benchmarks.tracing import tracing
from benchmarks.working import working

ALL: dict[str, Callable[[], bool]] = {
    "fanout": fanout,
    "encoding": encoding,
    "text_files": text_files,
    "database": database,
    "postgres": postgres,
    "plain": plain,
    "memory": memory,
    "results": results,
    "roundtrip": roundtrip,
    "asyncio": asynchronous,
    "tracing": tracing,
    "takeover": takeover,
    "working": working,
    "settling": settling,
    "throttled": throttled,
    "latency": latency,
    "start_up": start_up,
    "scale": scale,
    "fairness": fairness,
    "engines": engines,
    "peers": against,
    "airflow-parsing": parsing,
    "airflow-waits": waits,
    "airflow-ways": ways,
    "airflow-memory": memory_in_airflow,
}


def main() -> None:
    # Not of all: they take arguments of their own, and some an hour.
    with_arguments: dict[str, Callable[[list[str]], bool]] = {
        "soak": soak,
        "churn": churn,
        "long-transaction": long_transaction,
        "costs": costs,
        "sharding": sharding,
        "sizing": sizing,
    }
    if sys.argv[1:2] and sys.argv[1] in with_arguments:
        raise SystemExit(not with_arguments[sys.argv[1]](sys.argv[2:]))
    names = sys.argv[1:] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise SystemExit(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(ALL)}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    missed = []
    for name in names:
        print(f"\n{name}")
        started = time.perf_counter()
        if not ALL[name]():
            missed.append(name)
        print(f"            (took {time.perf_counter() - started:.0f} s)", flush=True)
    if missed:
        raise SystemExit(f"\nnot as promised: {', '.join(missed)}")


if __name__ == "__main__":
    main()
