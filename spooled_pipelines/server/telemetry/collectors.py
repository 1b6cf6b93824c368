"""What Prometheus is told that is read when it asks: from the store, and from what was gathered."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import (
    Counts,
    JobRecord,
    OpenBatches,
    QueueDepth,
    StoreSize,
    ThrottledQueue,
)
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import QualifiedName
from spooled_pipelines.server.store import JobStore

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Queues beyond these have no series of their own, so that clients cannot fill Prometheus.
QUEUES_MAX = 500
_OF_ONE_ORGANIZATION = 100
_OTHERS = "(others)"
_COLLECT_SECONDS = 10.0
_SIZES_SECONDS = 60.0
_START_SECONDS = (0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 1_800, 3_600)


class QueueLabels:
    """The labels of queues that this server counts for: so many at most, the others as one."""

    def __init__(self) -> None:
        self._known: set[QualifiedName] = set()
        self._of: Counter[str] = Counter()

    def of(self, organization: str, queue_name: str) -> QualifiedName:
        """Return the queue itself, or "(others)" where too many were there before it."""
        queue = (organization, queue_name)
        if queue not in self._known:
            if len(self._known) >= QUEUES_MAX or self._of[organization] >= _OF_ONE_ORGANIZATION:
                return (organization, _OTHERS)
            self._known.add(queue)
            self._of[organization] += 1
        return queue


class StartTimes(Collector):
    """How long jobs waited for their first start, by queue: a histogram, filled many at a time."""

    def __init__(self, labels: QueueLabels) -> None:
        self._labels = labels
        self._counts: dict[QualifiedName, list[float]] = {}
        # It is filled in the event loop and read in a thread.
        self._lock = threading.Lock()

    def add(self, organization: str, queue_name: str, jobs: Sequence[JobRecord]) -> None:
        """Count jobs that were just claimed, unless they were tried before."""
        waited = [
            max(0, (job.started_at or 0) - max(job.created_at, job.scheduled_at or 0)) / 1000
            for job in jobs
            if not job.retry_count
        ]
        if not waited:
            return
        with self._lock:
            place = self._labels.of(organization, queue_name)
            # The buckets, all of them, and their sum.
            counts = self._counts.setdefault(place, [0.0] * (len(_START_SECONDS) + 2))
            for seconds in waited:
                counts[bisect_left(_START_SECONDS, seconds)] += 1
            counts[-1] += sum(waited)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the one histogram."""
        family = HistogramMetricFamily(
            "spooled_job_wait_seconds",
            "How long jobs waited from when they were due until their first start.",
            labels=("organization", "queue"),
        )
        with self._lock:
            found = {place: tuple(counts) for place, counts in self._counts.items()}
        for place, (*counts, total) in found.items():
            reached, buckets = 0.0, []
            bounds = [*map(str, map(float, _START_SECONDS)), "+Inf"]
            for bound, count in zip(bounds, counts, strict=True):
                reached += count
                buckets.append((bound, reached))
            family.add_metric(place, buckets, total)
        yield family


def _by_queue(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=("organization", "queue", *labels))


def _age(moment: int | None, now: int) -> float:
    return 0.0 if moment is None else max(0, now - moment) / 1000


class Load(Collector):
    """How much of what writes to the store is in use."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how many writers are in use and free, and how many operations wait."""
        used, size, waiting = self._store.load()
        writers = GaugeMetricFamily(
            "spooled_store_writers",
            "Connections of PostgreSQL's pool, or SQLite's one writer; state: used or free.",
            labels=("state",),
        )
        writers.add_metric(("used",), used)
        writers.add_metric(("free",), size - used)
        yield writers
        yield GaugeMetricFamily(
            "spooled_store_waiting", "Operations that wait for a writer.", value=waiting
        )


def _asked(reading: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, what: str) -> T | None:
    """Return what the store reads in its loop; None, and a line in the log, while it is away."""
    asked = asyncio.run_coroutine_threadsafe(reading, loop)
    try:
        return asked.result(_COLLECT_SECONDS)
    except (RefusedError, TimeoutError, asyncio.CancelledError) as error:
        asked.cancel()
        _log.warning("metrics without %s: %s", what, error or type(error).__name__)
        return None


class Sizes(Collector):
    """What the store takes, read once a minute at most."""

    def __init__(self, store: JobStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._known: list[StoreSize] = []
        self._read_at = -_SIZES_SECONDS

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values, without asking the store."""
        yield from self._of([])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what was known last while the store is away."""
        now = time.monotonic()
        if now - self._read_at >= _SIZES_SECONDS:
            self._read_at = now
            self._known = _asked(self._store.sizes(), self._loop, "new sizes") or self._known
        yield from self._of(self._known)

    def _of(self, sizes: Sequence[StoreSize]) -> Iterator[GaugeMetricFamily]:
        room = GaugeMetricFamily(
            "spooled_store_bytes",
            "Room that a table and its indexes take, or SQLite's file and what is free in it.",
            labels=("part", "kind"),
        )
        dead = GaugeMetricFamily(
            "spooled_store_dead_rows", "Rows that a vacuum has to remove.", labels=("part",)
        )
        for part, table, indexes, dead_rows in sizes:
            room.add_metric((part, "table"), table)
            room.add_metric((part, "indexes"), indexes)
            dead.add_metric((part,), dead_rows)
        yield from (room, dead)


class LoopFailures(Collector):
    """How often each loop beside the calls failed."""

    def __init__(self, monitor: LoopMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the one counter."""
        failures = CounterMetricFamily(
            "spooled_loop_failures",
            "Failures of what runs beside the calls; each is in the log, and followed by a retry.",
            labels=("loop",),
        )
        for name, count in tuple(self._monitor.failures.items()):
            failures.add_metric((name,), count)
        yield failures


class Depths(Collector):
    """The depths of queues when Prometheus asks, in a thread of the HTTP server."""

    def __init__(self, store: JobStore, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values, without asking the store."""
        yield from self._of_queues([])
        yield self._of_throttled([])
        yield from self._of_batches([])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing about queues while the store is away; all else is still there."""
        depths = _asked(self._store.depths(QUEUES_MAX), self._loop, "queues")
        if depths is None:
            return
        yield from self._of_queues(depths.queues)
        yield self._of_throttled(depths.throttled)
        yield from self._of_batches(depths.open_batches)

    def _of_queues(self, queues: Sequence[QueueDepth]) -> Iterator[GaugeMetricFamily]:
        jobs = _by_queue(
            "spooled_queue_jobs",
            "Jobs in a queue by status; waiting are those pending jobs whose retry is not due, "
            "expired those cancelled ones that had not started in time.",
            "status",
        )
        ages = _by_queue(
            "spooled_queue_oldest_pending_seconds",
            "Age of the oldest job that could be claimed now; 0 where there is none.",
        )
        retrying = _by_queue(
            "spooled_queue_oldest_retrying_seconds",
            "Age of the oldest job that waits for its retry; 0 where there is none.",
        )
        held = _by_queue("spooled_queue_paused", "1 while a queue hands out no jobs.")
        there = _by_queue("spooled_queue_workers", "Workers that were heard of within a lease.")
        now = self._clock.now()
        for organization, queue_name, record, paused, oldest_retrying, workers in queues:
            where = (organization, queue_name)
            for status, count in zip(Counts._fields, record.counts, strict=True):
                jobs.add_metric((*where, status), count)
            ages.add_metric(where, _age(record.oldest, now))
            retrying.add_metric(where, _age(oldest_retrying, now))
            held.add_metric(where, paused)
            there.add_metric(where, workers)
        yield from (jobs, ages, retrying, held, there)

    def _of_throttled(self, queues: Sequence[ThrottledQueue]) -> GaugeMetricFamily:
        rates = _by_queue(
            "spooled_queue_throttled_jobs_per_second",
            "How fast jobs of a queue go out at most that handlers slow by raising Throttled.",
        )
        for organization, queue_name, throttle in queues:
            rate = 0.0 if throttle.held_until is not None else throttle.jobs_per_second
            rates.add_metric((organization, queue_name), rate)
        return rates

    def _of_batches(self, batches: Sequence[OpenBatches]) -> Iterator[GaugeMetricFamily]:
        numbers = _by_queue(
            "spooled_open_batches",
            "Batches that are not settled; state: filling until they are sealed, then working.",
            "state",
        )
        ages = _by_queue(
            "spooled_oldest_open_batch_seconds", "Age of the oldest batch that is not settled."
        )
        now = self._clock.now()
        for batch in batches:
            where = (batch.organization, batch.queue_name)
            numbers.add_metric((*where, "filling"), batch.filling)
            numbers.add_metric((*where, "working"), batch.working)
            ages.add_metric(where, _age(batch.oldest, now))
        yield from (numbers, ages)
