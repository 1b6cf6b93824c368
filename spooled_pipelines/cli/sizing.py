"""How much of everything so many jobs need: a model of a few measured costs, without a server."""

from __future__ import annotations

import math
from dataclasses import dataclass

_DAY_SECONDS = 86_400
# A core that is asked for more than this answers late.
_BUSY = 0.6
_POOL_CONNECTIONS = 13
# What one writer of the write-ahead log gets through on an ordinary SSD.
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
        database_enqueue_us: CPU of PostgreSQL for a row of a batch.
        database_work_us: CPU of PostgreSQL to claim a job and settle it.
        job_bytes: of tables and indexes for each job, besides its payload and result.
        wal_bytes: of the write-ahead log for each job, besides twice its payload and result.
        stream_kib: memory of a server for an open stream.
        server_mib: memory of a server that does nothing.
    """

    server_enqueue_us: float = 15.0
    server_work_us: float = 220.0
    database_enqueue_us: float = 25.0
    database_work_us: float = 130.0
    job_bytes: float = 450.0
    wal_bytes: float = 1_300.0
    stream_kib: float = 60.0
    server_mib: float = 90.0


@dataclass(frozen=True)
class Demand:
    """What is asked for.

    Attributes:
        jobs_per_day: made and done.
        payload_bytes: of a job, its result included.
        peak: how many times the day's mean rate its busiest hour has.
        keep_days: for how long jobs are kept, with their payloads.
        workers: worker processes.
    """

    jobs_per_day: float
    payload_bytes: float = 500.0
    peak: float = 4.0
    keep_days: float = 7.0
    workers: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}, and must be a number above 0")
        if self.peak < 1:
            raise ValueError(f"peak is {self.peak:g}, and must be 1 or more")


@dataclass(frozen=True)
class Size:
    """What that takes.

    Attributes:
        jobs_per_second: in the busiest hour.
        server_cores: of all servers together, in that hour.
        servers: processes, one core each, one more than needed so that one may go.
        database_cores: of PostgreSQL.
        connections: that PostgreSQL has to take.
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


def size(demand: Demand, costs: Costs | None = None, *, database_cores: int = 16) -> Size:
    """What a demand takes, where one PostgreSQL has at most so many cores.

    Raises:
        ValueError: a figure of the demand makes no sense.
    """
    costs = costs or Costs()
    rate = demand.jobs_per_day / _DAY_SECONDS * demand.peak
    server = rate * (costs.server_enqueue_us + costs.server_work_us) / 1e6
    database = rate * (costs.database_enqueue_us + costs.database_work_us) / 1e6
    wal = rate * (costs.wal_bytes + 2 * demand.payload_bytes) / 1e6
    servers = math.ceil(server / _BUSY) + 1
    connections = servers * _POOL_CONNECTIONS
    shares = {
        f"CPU of PostgreSQL ({database_cores} cores)": database / (_BUSY * database_cores),
        "write-ahead log": wal / _WAL_MB_PER_SECOND,
        "connections (500)": connections / 500,
    }
    first = max(shares, key=lambda name: shares[name])
    kept = demand.jobs_per_day * demand.keep_days * (costs.job_bytes + demand.payload_bytes)
    streams = math.ceil(demand.workers * 2 / servers)
    return Size(
        jobs_per_second=rate,
        server_cores=server,
        servers=servers,
        database_cores=database / _BUSY,
        connections=connections,
        wal_mb_per_second=wal,
        disk_gib=2 * kept / _GIB,
        server_memory_mib=costs.server_mib + streams * costs.stream_kib / 1024,
        databases=max(1, math.ceil(shares[first])),
        limit=f"{first}: {shares[first]:.0%} of one database's",
    )
