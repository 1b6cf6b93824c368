"""Sizing: how many servers, cores and gibibytes a load needs, by a model of measured costs.

python -m benchmarks sizing --jobs-per-day 5000000 --payload 800 --keep-days 14
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_DAY_SECONDS = 86_400
# A core that is busier than this responds late.
_BUSY = 0.6
_POOL_CONNECTIONS = 13
# The most connections that one PostgreSQL is given.
_CONNECTIONS = 500
# What one write-ahead log writes on an ordinary SSD.
_WAL_MB_PER_SECOND = 200.0
_GIB = 1 << 30


@dataclass(frozen=True)
class Costs:
    """What one job costs, from its enqueue in a batch to its completion, on PostgreSQL.

    The defaults are what ``python -m benchmarks costs`` measured on two cores of a cloud machine;
    measure yours and pass them where it matters.

    Attributes:
        server_enqueue_us: CPU of the server for a row of a batch, in microseconds.
        server_work_us: CPU of the server to hand out a job and take its result.
        server_call_us: CPU of the server for each claim and each settle, of however many jobs.
        server_notice_us: CPU of each *other* server to hear of a job that was worked on.
        database_enqueue_us: CPU of PostgreSQL for a row of a batch.
        database_work_us: CPU of PostgreSQL to claim a job and settle it.
        database_call_us: CPU of PostgreSQL for each claim and each settle.
        job_bytes: of tables and indexes for each job, besides its payload and result.
        wal_bytes: of the write-ahead log for each job, besides twice its payload and result.
        stream_kib: memory of a server for an open stream.
        server_mib: memory of a server that does nothing.
    """

    server_enqueue_us: float = 10.0
    server_work_us: float = 75.0
    server_call_us: float = 4_000.0
    server_notice_us: float = 7.0
    database_enqueue_us: float = 15.0
    database_work_us: float = 80.0
    database_call_us: float = 1_500.0
    job_bytes: float = 510.0
    wal_bytes: float = 1_500.0
    stream_kib: float = 60.0
    server_mib: float = 80.0

    def server_us(self, jobs_per_call: float) -> float:
        """Return the servers' CPU for a job, at this number of jobs for each claim and settle."""
        calls = 2 * self.server_call_us / jobs_per_call
        return self.server_enqueue_us + self.server_work_us + calls

    def database_us(self, jobs_per_call: float) -> float:
        """Return PostgreSQL's CPU for a job, at this number of jobs for each claim and settle."""
        calls = 2 * self.database_call_us / jobs_per_call
        return self.database_enqueue_us + self.database_work_us + calls


@dataclass(frozen=True)
class Demand:
    """A load to plan for.

    Attributes:
        jobs_per_day: made and done.
        payload_bytes: of a job, its result included.
        peak: how many times the day's mean rate its busiest hour has.
        keep_days: for how long jobs are kept, with their payloads.
        workers: worker processes.
        jobs_per_call: how many jobs a worker takes or settles at once, in the busiest hour: about
            as many as end while a call is under way. 1 where each job takes seconds.
    """

    jobs_per_day: float
    payload_bytes: float = 500.0
    peak: float = 4.0
    keep_days: float = 7.0
    workers: int = 10
    jobs_per_call: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a number above 0, got {value!r}")
        for name, value in (("peak", self.peak), ("jobs_per_call", self.jobs_per_call)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value:g}")


@dataclass(frozen=True)
class Resources:
    """The resources that a load takes.

    Attributes:
        jobs_per_second: in the busiest hour.
        server_cores: of all servers together, in that hour.
        servers: processes, one core each; for each database one more than needed, so that one
            may go.
        database_cores: of PostgreSQL.
        connections: that each PostgreSQL has to take.
        wal_mb_per_second: what its disk has to write, in that hour.
        disk_gib: for the jobs that are kept, and as much again for what vacuum leaves behind.
        server_memory_mib: of each server.
        databases: independent PostgreSQLs, where one could not do it.
        limit: what is used up first, and how much of one database's worth it is.
    """

    jobs_per_second: float
    server_cores: float
    servers: int
    database_cores: float
    connections: int
    wal_mb_per_second: float
    disk_gib: float
    server_memory_mib: float
    databases: int
    limit: str


def required(demand: Demand, costs: Costs | None = None, *, database_cores: int = 16) -> Resources:
    """Return what a demand takes if one PostgreSQL has at most `database_cores` cores.

    Raises:
        ValueError: a figure of the demand is out of range.
    """
    costs = costs or Costs()
    rate = demand.jobs_per_day / _DAY_SECONDS * demand.peak
    server_us = costs.server_us(demand.jobs_per_call)
    database = rate * costs.database_us(demand.jobs_per_call) / 1e6
    wal = rate * (costs.wal_bytes + 2 * demand.payload_bytes) / 1e6
    # Each server hears what the others do, so each additional one adds less than the first.
    most = _CONNECTIONS // _POOL_CONNECTIONS - 1
    servers_rate = most * _BUSY * 1e6 / (server_us + (most - 1) * costs.server_notice_us)
    shares = {
        f"CPU of PostgreSQL ({database_cores} cores)": database / (_BUSY * database_cores),
        "write-ahead log": wal / _WAL_MB_PER_SECOND,
        f"servers ({_CONNECTIONS} connections)": rate / servers_rate,
    }
    first = max(shares, key=lambda name: shares[name])
    databases = max(1, math.ceil(shares[first]))
    at_each = rate / databases
    # All of them as busy as allowed: each does its share and hears of the rest.
    own = at_each * (server_us - costs.server_notice_us) / 1e6
    needed = max(0.0, own) / (_BUSY - at_each * costs.server_notice_us / 1e6)
    each = math.ceil(needed) + 1
    heard = at_each * (each - 1) * costs.server_notice_us / 1e6
    kept = demand.jobs_per_day * demand.keep_days * (costs.job_bytes + demand.payload_bytes)
    streams = math.ceil(demand.workers * 2 / (each * databases))
    return Resources(
        jobs_per_second=rate,
        server_cores=rate * server_us / 1e6 + heard * databases,
        servers=each * databases,
        database_cores=database / _BUSY,
        connections=each * _POOL_CONNECTIONS,
        wal_mb_per_second=wal,
        disk_gib=2 * kept / _GIB,
        server_memory_mib=costs.server_mib + streams * costs.stream_kib / 1024,
        databases=databases,
        limit=f"{first}: {shares[first]:.0%} of one database's",
    )


def sizing(arguments: Sequence[str] = ()) -> bool:
    """Print the resources for the load that the arguments describe; False if they are wrong."""
    options = _options().parse_args(arguments)
    try:
        costs = Costs(**json.loads(options.costs.read_text())) if options.costs else None
        demand = Demand(
            options.jobs_per_day,
            options.payload,
            options.peak,
            options.keep_days,
            options.workers,
            options.jobs_per_call,
        )
        needed = required(demand, costs, database_cores=options.database_cores)
    except (OSError, TypeError, ValueError) as error:
        print(f"sizing: {error}", file=sys.stderr)
        return False
    if options.json:
        print(json.dumps(dataclasses.asdict(needed)))
        return True
    facts = {
        "jobs a second, busiest hour": f"{needed.jobs_per_second:,.1f}",
        "servers": f"{needed.servers} of one core ({needed.server_cores:.2f} busy)",
        "memory of each": f"{needed.server_memory_mib:,.0f} MiB",
        "PostgreSQL": f"{needed.database_cores:,.1f} cores",
        "connections of each": needed.connections,
        "its write-ahead log": f"{needed.wal_mb_per_second:,.1f} MB/s",
        "its disk": f"{needed.disk_gib:,.1f} GiB",
        "independent databases": needed.databases,
        "used up first": needed.limit,
    }
    for name, value in facts.items():
        print(f"{name:<28} {value}")
    return True


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sizing")
    add = parser.add_argument
    add("--jobs-per-day", type=float, required=True, help="jobs enqueued and settled in a day")
    add("--payload", type=float, default=500, help="bytes of a job's payload and result")
    add("--peak", type=float, default=4, help="the busiest hour, as a multiple of the day's mean")
    add("--keep-days", type=float, default=7, help="how long jobs are kept")
    add("--workers", type=int, default=10, help="worker processes")
    add("--jobs-per-call", type=float, default=10, help="jobs claimed or settled in one call")
    add("--database-cores", type=int, default=16, help="the most cores that one PostgreSQL has")
    add("--costs", type=Path, help="measured costs: python -m benchmarks costs FILE")
    add("--json", action="store_true", help="print JSON")
    return parser
