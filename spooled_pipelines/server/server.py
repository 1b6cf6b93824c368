"""A server over one store: what it consists of, and the order in which it starts and stops."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from spooled_pipelines.server.auth import ApiKeys, Audit, FailedAuthLimiter, RateLimiter
from spooled_pipelines.server.config.settings import (
    NoKeysError,
    ServerSettings,
    is_local,
    shown_store,
)
from spooled_pipelines.server.core.errors import NoStoreError
from spooled_pipelines.server.core.limits.in_flight import ByteBudget
from spooled_pipelines.server.core.runtime.clock import Clock, SystemClock
from spooled_pipelines.server.core.runtime.lifecycle import BackgroundTasks, LoopMonitor, Service
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, Notifier
from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.core.runtime.queue_names import QueueNames
from spooled_pipelines.server.maintenance import ApiKeyRefresher, AuditWriter, Sweeper
from spooled_pipelines.server.rpc import (
    CertificateFiles,
    Certificates,
    ConnectionGuard,
    InProcessClient,
    Interceptor,
    UnknownCalls,
    add_standard_services,
    build_handlers,
    server_options,
)
from spooled_pipelines.server.services import (
    BatchService,
    KeyService,
    QueueAdminService,
    QueueService,
    ServiceContext,
    WorkerService,
)
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.migrations import MigrationMode
from spooled_pipelines.server.store.open import open_store, store_may_be_there
from spooled_pipelines.server.telemetry import rpc_call, tracing
from spooled_pipelines.server.telemetry.instrumented_store import instrumented
from spooled_pipelines.server.telemetry.readiness import Readiness
from spooled_pipelines.version import __version__
from spooled_pipelines.wire import methods

if TYPE_CHECKING:
    from spooled_pipelines.server.telemetry.metrics import Metrics

# How long the server waits for clients that do not read their answers.
_FLUSH_SECONDS = 0.25
_log = logging.getLogger(__name__)


class Server(Service):
    """A server over one store.

    `start` opens the store and listens; StoreUnavailableError, NoKeysError or OSError say why it
    could not. `stop` takes no more calls, gives those that are running the grace time of the
    settings, ends streams, commits what was taken in, and lets go of the store.

    Attributes:
        address: where it listens, with its real port; set by `start`.
        metrics_address: where Prometheus is answered, if anywhere.
        dashboard_url: the dashboard's, if there is one.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        clock: Clock | None = None,
        store: JobStore | None = None,
    ) -> None:
        super().__init__()
        self.address = ""
        self.metrics_address: str | None = None
        self.dashboard_url: str | None = None
        self._settings = settings
        self._clock = clock or SystemClock()
        # Not opened yet; given here, it takes the place of the one that the settings name.
        self._store = store or open_store(
            settings.store,
            self._clock,
            settings.retention,
            settings.quotas,
            self._migration_mode(),
            settings.max_deliveries,
        )
        self._metrics = None
        self._observers: list[rpc_call.Observer] = [rpc_call.log_call]
        if settings.metrics is not None or settings.http is not None:
            self._metrics = _make_metrics()
            self._store = instrumented(self._store, self._metrics)
            self._observers.append(self._metrics.call_ended)
        trace = tracing.observer()
        if trace is not None:
            self._observers.append(trace)

    @property
    def store(self) -> JobStore:
        """What the server keeps its jobs in."""
        return self._store

    def check(self) -> None:
        """Look for what `start` would refuse, as far as it can be told without starting.

        StoreUnavailableError, NoKeysError, ValueError or OSError as of `start`.
        """
        _credentials(self._settings)
        if self._settings.http is not None:
            _import_dashboard()
        if not (self._settings.api_keys or store_may_be_there(self._settings.store)):
            raise _no_keys()

    @property
    def running_calls(self) -> int:
        """How many calls are being answered now."""
        return self._interceptor.running

    def announce(self) -> None:
        """Log what runs here, over which store, and where it can be reached."""
        about = {
            "version": __version__,
            "store": shown_store(self._settings.store),
            "schema": self._store.schema(),
            "listen": self.address,
            "tls": self._settings.tls_cert is not None,
            "metrics": self.metrics_address,
            "page": self.dashboard_url,
        }
        what = ", ".join(f"{name} {value}" for name, value in about.items() if value is not None)
        operator_log.info("started: %s", what, extra={"about": about})

    async def _start(self, cleanup: AsyncExitStack) -> None:
        # What stops, stops in the reverse order: the store is closed last, whatever fails before.
        names = QueueNames(lambda: notifier.publish(CommitEvent(everything=True)))
        notifier, monitor = Notifier(names.alike), LoopMonitor()
        self._background = BackgroundTasks()
        self._readiness = Readiness(self._store, monitor)
        try:
            await self._store.open(notifier.publish, monitor)
        except NoStoreError:
            if self._migration_mode() is MigrationMode.UPDATE:
                raise _no_keys() from None
            raise
        cleanup.push_async_callback(self._store.close)
        self._audit = Audit(self._store, self._clock)
        cleanup.push_async_callback(self._audit.flush_at_end)
        self._keys = await self._open_keys(names)
        guard = ConnectionGuard(
            self._settings.connections.max_connections_per_address,
            self._settings.wrong_keys_per_minute,
            self._clock,
            monitor,
        )
        services = ServiceContext(
            self._store,
            notifier,
            self._clock,
            self._settings.require_lease_id,
            names,
            self._background,
        )
        self._interceptor = self._make_interceptor(self._keys, guard, services.unread)
        implementations = _implementations(services, self._keys, self._audit)
        if self._metrics is not None:
            cleanup.callback(self._metrics.watch(self._store, self._clock, monitor))
            await self._start_metrics(cleanup, self._metrics)
            await self._start_dashboard(cleanup, self._metrics, implementations)
        cleanup.push_async_callback(self._background.drain)
        for loop in (
            ApiKeyRefresher(self._keys, notifier, self._clock, monitor),
            Sweeper(self._store, notifier, self._clock, monitor),
            AuditWriter(self._audit, self._clock, monitor),
            guard,
        ):
            await _begin(cleanup, loop)
        await self._listen(cleanup, implementations, notifier, guard)

    def _migration_mode(self) -> MigrationMode:
        mode = MigrationMode(self._settings.migrate)
        # Where nobody could use it no store is made.
        return (
            MigrationMode.UPDATE
            if mode is MigrationMode.AUTO and not self._settings.api_keys
            else mode
        )

    async def _open_keys(self, names: QueueNames) -> ApiKeys:
        settings = self._settings
        logins = FailedAuthLimiter(settings.wrong_keys_per_minute, self._clock)
        keys = ApiKeys(settings.hashed_keys, self._store, self._clock, logins, self._audit, names)
        await keys.refresh()
        if not keys.admits_anyone():
            raise _no_keys()
        return keys

    def _make_interceptor(
        self, keys: ApiKeys, guard: ConnectionGuard, unread: ByteBudget
    ) -> Interceptor:
        settings = self._settings
        rates = {name: limits.rate_limit for name, limits in settings.organizations.items()}
        limiter = RateLimiter(settings.rate_limit, self._clock, rates)
        interceptor = Interceptor(
            keys,
            limiter,
            self._store,
            self._observers,
            connections=settings.connections,
            guard=guard,
            audit=self._audit,
            unread=unread,
        )
        keys.after_refresh(interceptor.end_invalid_streams)
        return interceptor

    async def _start_metrics(self, cleanup: AsyncExitStack, metrics: Metrics) -> None:
        if self._settings.metrics is None:
            return
        from spooled_pipelines.server.telemetry.metrics import MetricsServer

        server = MetricsServer(metrics, self._settings.metrics)
        await _begin(cleanup, server)
        self.metrics_address = server.address

    async def _start_dashboard(
        self, cleanup: AsyncExitStack, metrics: Metrics, implementations: Mapping[str, object]
    ) -> None:
        if self._settings.http is None:
            return
        dashboard = _import_dashboard()
        context = dashboard.AppContext(
            calls=InProcessClient(implementations, self._interceptor),
            keys=self._keys,
            clock=self._clock,
            readiness=self._readiness,
            metrics=metrics,
            frame_ancestors=self._settings.http_frame_ancestors,
            public_url=self._settings.http_public_url,
        )
        files = _certificate_files(self._settings)
        self._dashboard = dashboard.DashboardServer(self._settings.http, files, context)
        await _begin(cleanup, self._dashboard)
        self.dashboard_url = self._dashboard.url

    async def _listen(
        self,
        cleanup: AsyncExitStack,
        implementations: Mapping[str, object],
        notifier: Notifier,
        guard: ConnectionGuard,
    ) -> None:
        settings, listen = self._settings, self._settings.listen
        if not settings.batch_extension:
            plain = (methods.QUEUE_SERVICE, methods.WORKER_SERVICE)
            implementations = {name: implementations[name] for name in plain}
        server = grpc.aio.server(options=server_options(settings.connections))
        server.add_generic_rpc_handlers(tuple(build_handlers(implementations, self._interceptor)))
        health = await add_standard_services(server, tuple(implementations), guard)
        if health is None and not listen.startswith("unix:"):
            _log.warning(
                "no grpc.health.v1 and no reflection, which probes ask for: "
                "pip install 'spooled-pipelines[server]'"
            )
        server.add_generic_rpc_handlers((UnknownCalls(self._interceptor),))
        credentials = _credentials(settings)
        try:
            if credentials is None:
                port = server.add_insecure_port(listen)
            else:
                port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}: is the port in use?") from error
        if credentials is None:
            for setting, address in (("listen", listen), ("http", settings.http)):
                if address is not None and not is_local(address):
                    _log.warning(
                        "%s %s is open to other machines without TLS: keys and payloads can be "
                        "read on the way; give tls_cert and tls_key, or let a proxy do it",
                        setting,
                        address,
                    )
        cleanup.push_async_callback(server.stop, _FLUSH_SECONDS)
        cleanup.push_async_callback(self._interceptor.stop, settings.grace_seconds)
        cleanup.callback(notifier.close)
        if health is not None:
            readiness = self._readiness

            def tell() -> None:
                health.set_serving(not (readiness.loops.failing or readiness.stopping))

            readiness.loops.watch(tell)
            cleanup.push_async_callback(health.drain)
        cleanup.callback(setattr, self._readiness, "stopping", True)
        await server.start()
        guard.port = 0 if listen.startswith("unix:") else port
        host = listen.rpartition(":")[0]
        self.address = listen if listen.startswith("unix:") else f"{host}:{port}"


def _no_keys() -> NoKeysError:
    return NoKeysError(
        "no key would let anybody in: give the server an API key, or make one in its "
        "store with `spooled-pipelines keys create`"
    )


async def _begin(cleanup: AsyncExitStack, service: Service) -> None:
    await service.start()
    cleanup.push_async_callback(service.stop)


def _implementations(services: ServiceContext, keys: ApiKeys, audit: Audit) -> dict[str, object]:
    return {
        methods.QUEUE_SERVICE: QueueService(services),
        methods.WORKER_SERVICE: WorkerService(services),
        methods.BATCH_SERVICE: BatchService(services),
        methods.KEY_SERVICE: KeyService(
            services.store, services.clock, keys.refresh, audit.flush_at_end
        ),
        methods.QUEUE_ADMIN_SERVICE: QueueAdminService(services, keys.refresh),
    }


def _make_metrics() -> Metrics:
    try:
        # An extra, and slow to import.
        from spooled_pipelines.server.telemetry.metrics import Metrics
    except ImportError as error:
        raise ValueError(
            "metrics need prometheus-client; pip install 'spooled-pipelines[server]'"
        ) from error
    return Metrics()


def _import_dashboard() -> ModuleType:
    try:
        # An extra of its own, and slow to import.
        from spooled_pipelines.server import dashboard
    except ImportError as error:
        raise ValueError(
            "the dashboard needs starlette, jinja2 and uvicorn; "
            "pip install 'spooled-pipelines[page]'"
        ) from error
    return dashboard


def _certificate_files(settings: ServerSettings) -> CertificateFiles | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    authority = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return CertificateFiles(Path(settings.tls_cert), Path(settings.tls_key), authority)


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    files = _certificate_files(settings)
    return None if files is None else Certificates(files).credentials()
