"""The worker's health and metrics over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker.engine import Engine
from spooled_pipelines.worker.jobs.lease_table import LeasedJob

if TYPE_CHECKING:
    from prometheus_client import Metric

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1_800, 3_600)
_TEXT = "text/plain; charset=utf-8"


class HealthServer:
    """``/live``, ``/ready`` and ``/metrics`` at one address, while the worker runs.

    ``/live`` is 503 where only a restart helps: the event loop hangs, or every slot is taken by a
    handler that does not end. ``/ready`` is 503 while the server does not answer or the worker
    stops.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise InvalidArgumentError(f"http must be HOST:PORT, got {address!r}")
        try:
            # An extra, and slow to import.
            import prometheus_client
        except ImportError:
            raise InvalidArgumentError(
                "http needs prometheus-client: pip install 'spooled-pipelines[worker]'"
            ) from None
        self._address = (host.strip("[]"), int(port))
        self._prometheus = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._handler_seconds = prometheus_client.Histogram(
            "spooled_worker_handler_seconds",
            "How long handlers took, by queue.",
            ["queue"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(self)
        self._engine: Engine | None = None
        self.port = 0

    def on_ended(self, leased: LeasedJob, seconds: float) -> None:
        """Record how long a handler took."""
        self._handler_seconds.labels(leased.queue_name).observe(seconds)

    @contextmanager
    def serve(self, engine: Engine) -> Iterator[None]:
        """Answer for this engine.

        Raises:
            OSError: nobody can listen at the address.
        """
        self._engine = engine
        server = ThreadingHTTPServer(self._address, _request_handler(self))
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(
            target=server.serve_forever, args=(0.1,), name="spooled-worker-http", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def why_not_live(self) -> str | None:
        """Return why only a restart helps; None where the worker is live."""
        return None if self._engine is None else self._engine.why_not_live()

    def why_not_ready(self) -> str | None:
        """Return why the worker takes no jobs; None where it does."""
        return "stopping" if self._engine is None else self._engine.why_not_ready()

    def metrics(self) -> tuple[str, bytes]:
        """Return the metrics in Prometheus' text format, with its content type."""
        text = self._prometheus.generate_latest(self._registry)
        return self._prometheus.CONTENT_TYPE_LATEST, text

    def collect(self) -> Iterator[Metric]:
        """Yield what is read off the engine when the registry asks."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        jobs = CounterMetricFamily(
            "spooled_worker_jobs",
            "Runs of jobs by what became of them.",
            labels=["queue", "status"],
        )
        engine = self._engine
        if engine is None:
            return
        for of, count in sorted(engine.counts_by_queue.items()):
            jobs.add_metric(of, count)
        yield jobs
        figures = (
            ("unfinished", "Jobs taken and not finished.", engine.leases.unfinished),
            ("unacknowledged", "Outcomes on their way.", engine.settler.unacknowledged),
            ("hanging", "Slots whose handlers do not end though told to.", engine.hanging()),
        )
        for name, about, value in figures:
            gauge = GaugeMetricFamily(f"spooled_worker_{name}", about)
            gauge.add_metric([], value)
            yield gauge


def _request_handler(health: HealthServer) -> type[BaseHTTPRequestHandler]:
    probes: dict[str, Callable[[], str | None]] = {
        "/live": health.why_not_live,
        "/ready": health.why_not_ready,
    }

    class RequestHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, *health.metrics())
            elif path in probes:
                problem = probes[path]()
                self._answer(503 if problem else 200, _TEXT, f"{problem or 'ok'}\n".encode())
            else:
                self._answer(404, _TEXT, b"/live, /ready or /metrics\n")

        def log_message(self, *_: object) -> None:
            """Log nothing: a line for each probe is of no use."""

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return RequestHandler
