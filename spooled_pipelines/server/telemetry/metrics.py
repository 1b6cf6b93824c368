"""The metrics for Prometheus, which docs/metrics.md describes. Labels are bounded."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    Summary,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from spooled_pipelines.server.config.settings import host_and_port
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.lifecycle import LoopMonitor, Service
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.core.records import Counts, OpenBatches, QueueDepth
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.telemetry.rpc_call import RpcCall

_log = logging.getLogger(__name__)
CONTENT_TYPE = CONTENT_TYPE_LATEST
# Queues beyond these have no series of their own, so that clients cannot fill Prometheus.
QUEUES_MAX = 500
_COLLECT_SECONDS = 10.0
_RPC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_COMMIT_JOBS = (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rpcs = Histogram(
            "spooled_rpc_seconds",
            "Calls by method and status code; a stream counts once, when it ends.",
            ("method", "code"),
            buckets=_RPC_SECONDS,
            registry=self.registry,
        )
        self._enqueued = Counter(
            "spooled_enqueued_jobs",
            "Rows and single calls that were taken in; outcome: created, or duplicate.",
            ("organization", "outcome"),
            registry=self.registry,
        )
        self._claimed = Counter(
            "spooled_claimed_jobs",
            "Jobs that were handed to workers.",
            ("organization",),
            registry=self.registry,
        )
        self._settled = Counter(
            "spooled_settled_jobs",
            "Jobs that workers completed or failed; outcome: completed, retry or deadletter.",
            ("organization", "outcome"),
            registry=self.registry,
        )
        self._operations = Summary(
            "spooled_store_operation_seconds",
            "How long operations of the store took, those that were refused included.",
            ("operation",),
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "spooled_commit_seconds",
            "How long the store took to make a commit durable.",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )
        self._commit_jobs = Histogram(
            "spooled_commit_jobs",
            "Changes of a job's status that shared one commit.",
            buckets=_COMMIT_JOBS,
            registry=self.registry,
        )

    def call_ended(self, call: RpcCall) -> None:
        """Count a call that is over."""
        self._rpcs.labels(call.method.path, call.code).observe(call.seconds)

    def store_operation(self, name: str, seconds: float) -> None:
        """Observe an operation of the store that ended."""
        self._operations.labels(name).observe(seconds)

    def committed(self, changes: CommitEvent) -> None:
        """Count a commit; those of other servers have no time."""
        if changes.commit_seconds is not None:
            self._commit_seconds.observe(changes.commit_seconds)
            self._commit_jobs.observe(changes.jobs)

    def enqueued(self, organization: str, created: int, duplicates: int) -> None:
        """Count rows, or a single job, that were acknowledged."""
        self._enqueued.labels(organization, "created").inc(created)
        self._enqueued.labels(organization, "duplicate").inc(duplicates)

    def claimed(self, organization: str, jobs: int) -> None:
        """Count jobs that went to a worker."""
        self._claimed.labels(organization).inc(jobs)

    def settled(self, organization: str, outcome: str, jobs: int = 1) -> None:
        """Count jobs that a worker is done with."""
        if jobs:
            self._settled.labels(organization, outcome).inc(jobs)

    def watch(self, store: JobStore, clock: Clock, monitor: LoopMonitor) -> Callable[[], None]:
        """Show this store and these loops until the returned function is called."""
        depths = _Depths(store, clock, asyncio.get_running_loop())
        failures = _LoopFailures(monitor)
        self.registry.register(depths)
        self.registry.register(failures)

        def end() -> None:
            self.registry.unregister(depths)
            self.registry.unregister(failures)

        return end

    async def text(self) -> bytes:
        """Return what Prometheus reads."""
        # In a thread: the collector of the queues waits for this loop.
        return await asyncio.to_thread(generate_latest, self.registry)


class MetricsServer(Service):
    """An HTTP server that answers GET /metrics, without TLS and on threads of its own.

    `start` raises OSError where it cannot listen.

    Attributes:
        address: where it listens, with its real port; set by `start`.
    """

    def __init__(self, metrics: Metrics, listen: str) -> None:
        super().__init__()
        self.address = ""
        self._metrics = metrics
        self._listen = listen

    async def _start(self, cleanup: AsyncExitStack) -> None:
        host, port = host_and_port(self._listen, "metrics")
        try:
            server, thread = start_http_server(port, host, registry=self._metrics.registry)
        except (OSError, socket.gaierror) as error:
            raise OSError(f"cannot listen on {self._listen} for metrics: {error}") from error

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        # In a thread: a scrape that is being answered needs this loop.
        cleanup.push_async_callback(asyncio.to_thread, end)
        self.address = f"{host}:{server.server_port}"


class _LoopFailures(Collector):
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


class _Depths(Collector):
    """The depths of queues when Prometheus asks, in a thread of the HTTP server."""

    def __init__(self, store: JobStore, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values, without asking the store."""
        yield from self._of_queues([])
        yield from self._of_batches([])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing about queues while the store is away; all else is still there."""
        asked = asyncio.run_coroutine_threadsafe(self._store.depths(QUEUES_MAX), self._loop)
        try:
            depths = asked.result(_COLLECT_SECONDS)
        except (RefusedError, TimeoutError, asyncio.CancelledError) as error:
            asked.cancel()
            _log.warning("metrics without queues: %s", error or type(error).__name__)
            return
        yield from self._of_queues(depths.queues)
        yield from self._of_batches(depths.open_batches)

    def _of_queues(self, queues: Sequence[QueueDepth]) -> Iterator[GaugeMetricFamily]:
        jobs = GaugeMetricFamily(
            "spooled_queue_jobs",
            "Jobs in a queue by status; waiting are those pending jobs whose retry is not due.",
            labels=("organization", "queue", "status"),
        )
        ages = GaugeMetricFamily(
            "spooled_queue_oldest_pending_seconds",
            "Age of the oldest job that could be claimed now; 0 where there is none.",
            labels=("organization", "queue"),
        )
        now = self._clock.now()
        for organization, queue_name, record in queues:
            for status, count in zip(Counts._fields, record.counts, strict=True):
                jobs.add_metric((organization, queue_name, status), count)
            age = 0 if record.oldest is None else max(0, now - record.oldest) / 1000
            ages.add_metric((organization, queue_name), age)
        yield from (jobs, ages)

    def _of_batches(self, batches: Sequence[OpenBatches]) -> Iterator[GaugeMetricFamily]:
        numbers = GaugeMetricFamily(
            "spooled_open_batches",
            "Batches that are not settled; state: filling until they are sealed, then working.",
            labels=("organization", "queue", "state"),
        )
        ages = GaugeMetricFamily(
            "spooled_oldest_open_batch_seconds",
            "Age of the oldest batch that is not settled.",
            labels=("organization", "queue"),
        )
        now = self._clock.now()
        for batch in batches:
            where = (batch.organization, batch.queue_name)
            numbers.add_metric((*where, "filling"), batch.filling)
            numbers.add_metric((*where, "working"), batch.working)
            ages.add_metric(where, max(0, now - batch.oldest) / 1000)
        yield from (numbers, ages)
