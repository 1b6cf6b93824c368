"""The metrics for Prometheus, which docs/metrics.md describes. Labels are bounded."""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    Summary,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)

from spooled_pipelines.server.config.settings import host_and_port
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Ending
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor, Service
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, QualifiedName
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.telemetry.collectors import (
    Depths,
    Load,
    LoopFailures,
    QueueLabels,
    Sizes,
    StartTimes,
)
from spooled_pipelines.server.telemetry.rpc_call import RpcCall
from spooled_pipelines.version import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
_RPC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3_600)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_COMMIT_JOBS = (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        # They would double the number of small series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._labels = QueueLabels()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("organization", "queue", *labels), registry=self.registry)

        self._rpcs = Histogram(
            "spooled_rpc_seconds",
            "Calls by method and status code; a stream counts once, when it ends.",
            ("method", "code"),
            buckets=_RPC_SECONDS,
            registry=self.registry,
        )
        self._enqueued = counter(
            "spooled_enqueued_jobs",
            "Rows and single calls that were taken in; outcome: created, or duplicate.",
            "outcome",
        )
        self._claimed = counter("spooled_claimed_jobs", "Jobs that were handed to workers.")
        self._settled = counter(
            "spooled_settled_jobs",
            "Runs that ended, by lost leases too; outcome: completed, retry or deadletter.",
            "outcome",
        )
        self._expired = counter(
            "spooled_expired_leases",
            "Leases that ran out; outcome: retry or deadletter. They are among the settled.",
            "outcome",
        )
        self._deliveries = counter(
            "spooled_deliveries",
            "Deliveries of jobs that ended; ending: completed, failed, given_back, lost (the lease "
            "ran out) or worker_died.",
            "ending",
        )
        self._poisoned = counter(
            "spooled_poisoned_jobs",
            "Jobs that became dead letters since they were delivered --max-deliveries times.",
        )
        self._throttled = counter(
            "spooled_throttled_runs",
            "Runs that ended since the handler raised Throttled, which slows the queue.",
        )
        build = Info("spooled_build", "What runs here.", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self._starts = StartTimes(self._labels)
        self.registry.register(self._starts)
        ProcessCollector(registry=self.registry)
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
        for queue, flow in changes.flows.items():
            self._count(queue, flow)

    def started(self, organization: str, queue_name: str, jobs: Sequence[JobRecord]) -> None:
        """Observe how long jobs that were just claimed had waited."""
        self._starts.add(organization, queue_name, jobs)

    def _count(self, queue: QualifiedName, flow: Mapping[str, int]) -> None:
        """Count what happened to jobs of a queue."""
        place = self._labels.of(*queue)
        counters = (
            (self._enqueued, ("created", "duplicate"), ""),
            (self._settled, ("completed", "retry", "deadletter"), ""),
            (self._expired, ("retry", "deadletter"), "expired_"),
            (self._deliveries, ("completed",), ""),
            (self._deliveries, tuple(Ending.NAMES.values()), "ended_"),
        )
        if claimed := flow.get("claimed"):
            self._claimed.labels(*place).inc(claimed)
        # From 0 on, or the first would be no increase.
        self._poisoned.labels(*place).inc(flow.get("poisoned", 0))
        self._throttled.labels(*place).inc(flow.get("throttled", 0))
        for counter, outcomes, prefix in counters:
            for outcome in outcomes:
                if count := flow.get(prefix + outcome):
                    counter.labels(*place, outcome).inc(count)

    def watch(self, store: JobStore, clock: Clock, monitor: LoopMonitor) -> Callable[[], None]:
        """Show this store and these loops until the returned function is called."""
        found = (
            Depths(store, clock, asyncio.get_running_loop()),
            LoopFailures(monitor),
            Load(store),
            Sizes(store, asyncio.get_running_loop()),
        )
        for collector in found:
            self.registry.register(collector)

        def end() -> None:
            for collector in found:
                self.registry.unregister(collector)

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
