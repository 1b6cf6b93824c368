"""What would break first at 10 thousand, 100 thousand and a million jobs a second: a simulation.

Organizations of very different sizes bring steady load and nightly batches. Their jobs are put on
independent PostgreSQLs (shards) by organization or by queue, and each second every shard does what
its cores and its disk let it. Nothing here is measured but the costs of a job, which are those of
`python -m benchmarks sizing`: it is a model, and says so.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.sizing import Costs

_ORGANIZATIONS = 2_000
_QUEUES_EACH = 8
_SECONDS = 3_600
_CORES = 16
_BUSY = 0.6
_WAL_MB = 200.0
_PAYLOAD_BYTES = 500.0
_JOBS_PER_CALL = 10.0
# A nightly batch brings this many seconds of its queue's mean load at once.
_BATCH_SECONDS = 600.0
_RATES = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Queue:
    """One queue of an organization: its steady rate, and when its batch comes."""

    organization: int
    number: int
    rate: float
    batch_at: int


@dataclass
class Shard:
    """A PostgreSQL: what waits there, second by second."""

    waiting: float = 0.0
    arrived: float = 0.0
    longest_wait: float = 0.0
    busiest: float = 0.0
    queues: list[Queue] = field(default_factory=list)

    def second(self, now: int, capacity: float) -> None:
        coming = sum(queue.rate for queue in self.queues)
        coming += sum(queue.rate * _BATCH_SECONDS for queue in self.queues if queue.batch_at == now)
        self.arrived += coming
        self.waiting += coming
        self.busiest = max(self.busiest, min(self.waiting / capacity, 1.0))
        self.waiting -= min(self.waiting, capacity)
        self.longest_wait = max(self.longest_wait, self.waiting / capacity)


def sharding(_: Sequence[str] = ()) -> bool:
    """Print a table for each rate; True, since a simulation promises nothing."""
    costs = Costs()
    cpu = costs.database_us(_JOBS_PER_CALL) / 1e6
    wal = (costs.wal_bytes + 2 * _PAYLOAD_BYTES) / 1e6
    by_cpu, by_wal = _CORES * _BUSY / cpu, _WAL_MB / wal
    capacity = min(by_cpu, by_wal)
    print(
        f"one shard of {_CORES} cores: {by_cpu:,.0f} jobs/s by CPU, {by_wal:,.0f} by its log of "
        f"{_WAL_MB:,.0f} MB/s; {_ORGANIZATIONS} organizations, Zipf, {_QUEUES_EACH} queues each"
    )
    print(
        f"{'jobs/s':>10} {'shards':>6} {'by':<13} {'hottest':>8} {'longest wait':>13} "
        f"{'largest tenant':>15}  breaks first"
    )
    for rate in _RATES:
        queues = _queues(rate, random.Random(rate))
        for spare in (1.3, 2.0):
            shards = max(1, round(rate / capacity * spare + 0.5))
            for by, place in (("organization", _organization), ("queue", _queue)):
                _simulate(rate, shards, by, place, queues, capacity, by_cpu < by_wal)
    return True


def _simulate(
    rate: float,
    count: int,
    by: str,
    place: Callable[[Queue], str],
    queues: Sequence[Queue],
    capacity: float,
    cpu_first: bool,
) -> None:
    shards = [Shard() for _ in range(count)]
    for queue in queues:
        shards[_hash(place(queue)) % count].queues.append(queue)
    for now in range(_SECONDS):
        for shard in shards:
            shard.second(now, capacity)
    mean = sum(shard.arrived for shard in shards) / count
    hottest = max(shards, key=lambda shard: shard.arrived)
    largest = max(
        sum(queue.rate for queue in queues if queue.organization == number) for number in range(3)
    )
    wait = max(shard.longest_wait for shard in shards)
    if hottest.waiting > capacity * 60:
        why = "one tenant is more than a shard" if largest > capacity else "large ones share it"
        first = f"the hottest shard never catches up: {why}"
    elif wait > 60:
        first = "a minute and more behind after the nightly batches of one shard"
    else:
        first = f"nothing; next would be {'CPU' if cpu_first else 'the log'} of the hottest shard"
    print(
        f"{rate:>10,} {count:>6} {by:<13} {hottest.arrived / mean:>7.2f}x {wait:>11,.0f} s "
        f"{largest / capacity:>11.2f} shard  {first}"
    )


def _queues(rate: float, chance: random.Random) -> list[Queue]:
    """Steady load and batches that add up to the rate, half and half."""
    weights = [1 / (rank + 1) for rank in range(_ORGANIZATIONS)]
    total = sum(weights)
    share_of_batches = 1 + _BATCH_SECONDS / _SECONDS
    made = []
    for organization, weight in enumerate(weights):
        parts = [chance.expovariate(1) for _ in range(_QUEUES_EACH)]
        for number, part in enumerate(parts):
            mean = rate * weight / total * part / sum(parts)
            at = int(chance.gauss(600, 120)) % _SECONDS
            made.append(Queue(organization, number, mean / share_of_batches, at))
    return made


def _organization(queue: Queue) -> str:
    return str(queue.organization)


def _queue(queue: Queue) -> str:
    return f"{queue.organization}/{queue.number}"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
