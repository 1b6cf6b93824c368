"""Whether a worker lives and is ready, and its figures, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker.health import why_not_live, why_not_ready
from spooled_pipelines.worker.held import HeldJob
from spooled_pipelines.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from spooled_pipelines.worker.engine import Engine

_STATUSES = ("completed", "retrying", "deadletter", "lost", "returned")


class StatusPage:
    """``/live``, ``/ready`` and ``/metrics`` at one address, while the worker runs.

    ``/live`` is 503 where only a restart helps: the event loop hangs, or every slot is with a
    handler that does not end. ``/ready`` is 503 while the server does not answer or the worker
    stops.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise InvalidArgumentError(f"http {address!r} is not of the form HOST:PORT")
        try:
            # An extra, and slow to import.
            import prometheus_client
        except ImportError:
            raise InvalidArgumentError(
                "http needs prometheus-client: pip install 'spooled-pipelines[worker]'"
            ) from None
        self._place = (host.strip("[]"), int(port))
        self._prometheus = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._seconds = prometheus_client.Histogram(
            "spooled_worker_handler_seconds",
            "How long handlers took, by queue.",
            ["queue"],
            registry=self._registry,
        )
        self._registry.register(self)
        self._engine: Engine | None = None
        self._settings: WorkerSettings | None = None
        self.port = 0

    def ended(self, held: HeldJob, seconds: float) -> None:
        """A handler came to its end."""
        self._seconds.labels(held.job.queue_name).observe(seconds)

    @contextmanager
    def of(self, engine: Engine, settings: WorkerSettings) -> Iterator[None]:
        """Answer for this engine. OSError where nobody can listen there."""
        self._engine, self._settings = engine, settings
        server = ThreadingHTTPServer(self._place, _answerer(self))
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

    def live(self) -> str | None:
        """Why only a restart helps; None where it lives."""
        engine, settings = self._engine, self._settings
        return None if engine is None or settings is None else why_not_live(engine, settings)

    def ready(self) -> str | None:
        """Why it takes no jobs; None where it does."""
        engine, settings = self._engine, self._settings
        return "stopping" if engine is None or settings is None else why_not_ready(engine, settings)

    def metrics(self) -> bytes:
        """As Prometheus reads them."""
        return self._prometheus.generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """For the registry: read off the engine when asked."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        jobs = CounterMetricFamily(
            "spooled_worker_jobs", "Runs of jobs by what became of them.", labels=["status"]
        )
        engine = self._engine
        for status in _STATUSES:
            jobs.add_metric([status], engine.counts[status] if engine is not None else 0)
        yield jobs
        if engine is None:
            return
        figures = (
            ("unfinished", "Jobs taken and not finished.", engine.held.unfinished),
            ("unacknowledged", "Outcomes on their way.", engine.settler.unacknowledged),
            ("hanging", "Slots whose handlers do not end though told to.", engine.hanging()),
        )
        for name, about, value in figures:
            gauge = GaugeMetricFamily(f"spooled_worker_{name}", about)
            gauge.add_metric([], value)
            yield gauge


def _answerer(page: StatusPage) -> type[BaseHTTPRequestHandler]:
    checks: dict[str, Callable[[], str | None]] = {"/live": page.live, "/ready": page.ready}

    class Answerer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                kind = page._prometheus.CONTENT_TYPE_LATEST  # noqa: SLF001 - of the same module
                self._answer(200, kind, page.metrics())
            elif path in checks:
                wrong = checks[path]()
                text = f"{wrong or 'ok'}\n".encode()
                self._answer(503 if wrong else 200, "text/plain; charset=utf-8", text)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"/live, /ready or /metrics\n")

        def log_message(self, *_: object) -> None:
            """Nobody wants a line for each look."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Answerer
