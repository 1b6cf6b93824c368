"""Starting and stopping a server."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from spooled_pipelines.server.auth.authentication import KeyRing
from spooled_pipelines.server.auth.failed_auth_limiter import FailedLogins
from spooled_pipelines.server.auth.rate_limit import RateLimiter
from spooled_pipelines.server.config.settings import (
    NoKeysError,
    ServerSettings,
    shown_store,
)
from spooled_pipelines.server.core.clock import Clock, SystemClock
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.notifier import Hub
from spooled_pipelines.server.core.quotas import UNLIMITED, Quotas
from spooled_pipelines.server.core.retention import KEEP_ALL, Retention
from spooled_pipelines.server.maintenance.api_key_refresher import keep_keys
from spooled_pipelines.server.maintenance.sweeper import keep_time
from spooled_pipelines.server.rpc.grpc_options import server_options
from spooled_pipelines.server.rpc.health import Health, add_standard_services
from spooled_pipelines.server.rpc.in_process import DirectCalls
from spooled_pipelines.server.rpc.interceptor import Gate, build_handlers
from spooled_pipelines.server.rpc.tls import CertificateFiles, Certificates
from spooled_pipelines.server.services.batch import BatchService
from spooled_pipelines.server.services.claiming import settle_give_backs
from spooled_pipelines.server.services.context import Services
from spooled_pipelines.server.services.keys import KeyService
from spooled_pipelines.server.services.queue import QueueService
from spooled_pipelines.server.services.queue_admin import QueueAdminService
from spooled_pipelines.server.services.worker import WorkerService
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.instrumented import metered
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from spooled_pipelines.server.telemetry import rpc_call, tracing
from spooled_pipelines.wire import methods

if TYPE_CHECKING:
    from spooled_pipelines.server.dashboard.http_server import PageServer
    from spooled_pipelines.server.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
# What a client that does not read its answers is waited for.
_FLUSH_SECONDS = 0.25


class Server:
    """A server over one store: `start`, then `stop`; both return when it is so."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        clock: Clock | None = None,
        store: JobStore | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._hub = Hub()
        # Not opened yet; given here, it takes the place of the one that the settings name.
        self._store = store or open_store(
            settings.store, self._clock, settings.retention, settings.quotas
        )
        self._metrics = None
        observers: list[rpc_call.Observer] = [rpc_call.log_call]
        if settings.metrics is not None or settings.http is not None:
            self._metrics = _new_metrics()
            self._store = metered(self._store, self._metrics)
            observers.append(self._metrics.call_ended)
        trace = tracing.observer()
        if trace is not None:
            observers.append(trace)
        self.metrics_address: str | None = None
        self._end_metrics: Callable[[], None] | None = None
        self.page_url: str | None = None
        self._page: PageServer | None = None
        self._draining = False
        self._grpc: grpc.aio.Server | None = None
        self._health: Health | None = None
        self._timer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        logins = FailedLogins(settings.wrong_keys_per_minute, self._clock)
        self._keys = KeyRing(settings.hashed_keys, self._store, self._clock, logins)
        rates = {name: limits.rate_limit for name, limits in settings.organizations.items()}
        limiter = RateLimiter(settings.rate_limit, self._clock, rates)
        self._gate = Gate(self._keys, limiter, self._store, observers)

    @property
    def store(self) -> JobStore:
        """What the server keeps its jobs in."""
        return self._store

    async def start(self) -> str:
        """Open the store and listen; returns the address, with its real port.

        StoreUnavailableError, NoKeysError or OSError say why it could not.
        """
        await self._store.open(self._hub.publish)
        try:
            await self._keys.refresh()
            if not self._keys.lets_anyone_in():
                raise NoKeysError(
                    "no key would let anybody in: give the server an API key, or make one in its "
                    "store with `spooled-pipelines keys create`"
                )
            if self._metrics is not None:
                self._metrics.watch(self._store, self._clock)
                if self._settings.metrics is not None:
                    listening = self._metrics.listen(self._settings.metrics)
                    self.metrics_address, self._end_metrics = listening
            implementations = self._implementations()
            if self._metrics is not None and self._settings.http is not None:
                await self._start_page(self._settings.http, self._metrics, implementations)
            address = await self._listen(implementations)
        except BaseException:
            await self._stop_page()
            await self._stop_metrics()
            await self._store.close()
            raise
        self._timer = asyncio.create_task(keep_time(self._store, self._hub, self._clock))
        self._keeper = asyncio.create_task(keep_keys(self._keys, self._hub, self._clock))
        return address

    async def stop(self) -> None:
        """Take no more calls, end streams, commit what was taken in, let go of the store.

        Calls that are running have the grace time of the settings to end.
        """
        self._draining = True
        if self._health is not None:
            await self._health.drain()
        self._hub.close()
        await self._gate.stop(self._settings.grace_seconds)
        if self._grpc is not None:
            await self._grpc.stop(_FLUSH_SECONDS)
            self._grpc = None
        if self._timer is not None:
            await self._timer
            self._timer = None
        if self._keeper is not None:
            await self._keeper
            self._keeper = None
        await settle_give_backs()
        await self._stop_page()
        await self._stop_metrics()
        await self._store.close()

    async def _stop_metrics(self) -> None:
        if self._end_metrics is not None:
            # Whoever asks for them right now is still answered by this loop.
            await asyncio.to_thread(self._end_metrics)
            self._end_metrics = None

    async def _start_page(
        self, address: str, metrics: Metrics, implementations: Mapping[str, object]
    ) -> None:
        calls = DirectCalls(implementations, self._gate)
        page = _new_page(
            address,
            _certificate_files(self._settings),
            calls,
            self._keys,
            self._clock,
            self._store,
            metrics,
            lambda: self._draining,
            self._settings.http_frame_ancestors,
        )
        self.page_url = await page.start()
        self._page = page

    async def _stop_page(self) -> None:
        if self._page is not None:
            await self._page.stop()
            self._page = None

    def _implementations(self) -> dict[str, object]:
        services = Services(self._store, self._hub, self._clock, self._settings.require_lease_id)
        return {
            methods.QUEUE_SERVICE: QueueService(services),
            methods.WORKER_SERVICE: WorkerService(services),
            methods.BATCH_SERVICE: BatchService(services),
            methods.KEY_SERVICE: KeyService(services, self._keys),
            methods.QUEUE_ADMIN_SERVICE: QueueAdminService(services),
        }

    async def _listen(self, implementations: Mapping[str, object]) -> str:
        if not self._settings.batch_extension:
            plain = (methods.QUEUE_SERVICE, methods.WORKER_SERVICE)
            implementations = {name: implementations[name] for name in plain}
        server = grpc.aio.server(options=server_options(self._settings.connections))
        server.add_generic_rpc_handlers(tuple(build_handlers(implementations, self._gate)))
        self._health = await add_standard_services(server, tuple(implementations))
        listen = self._settings.listen
        credentials = _credentials(self._settings)
        try:
            if credentials is None:
                port = server.add_insecure_port(listen)
            else:
                port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}: is the port in use?") from error
        await server.start()
        self._grpc = server
        host = listen.rpartition(":")[0]
        return listen if listen.startswith("unix:") else f"{host}:{port}"


def _new_metrics() -> Metrics:
    try:
        # An extra, and slow to import.
        from spooled_pipelines.server.telemetry.metrics import Metrics
    except ImportError as error:
        raise ValueError(
            "metrics need prometheus-client; pip install 'spooled-pipelines[server]'"
        ) from error
    return Metrics()


def _new_page(address: str, files: CertificateFiles | None, *about: Any) -> PageServer:
    try:
        # An extra of its own, and slow to import.
        from spooled_pipelines.server.dashboard.app import Ground
        from spooled_pipelines.server.dashboard.http_server import PageServer
    except ImportError as error:
        raise ValueError(
            "the page needs starlette, jinja2 and uvicorn; pip install 'spooled-pipelines[page]'"
        ) from error
    return PageServer(address, files, Ground(*about))


def open_store(
    url: str, clock: Clock, retention: Retention = KEEP_ALL, quotas: Quotas = UNLIMITED
) -> JobStore:
    """The store that a URL means, not opened yet."""
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return SqliteStore(url, clock, retention, quotas)
    if scheme in ("postgresql", "postgres"):
        try:
            # An extra of its own, and slow to import.
            from spooled_pipelines.server.store.postgres.store import PostgresStore
        except ImportError as error:
            raise StoreUnavailableError(
                "the store is PostgreSQL, and psycopg is not installed; "
                "pip install 'spooled-pipelines[postgres]'"
            ) from error
        return PostgresStore(url, clock, retention, quotas)
    raise StoreUnavailableError(
        f"store {shown_store(url)!r} is of no kind that is known; use sqlite:///PATH or "
        "postgresql://HOST/DATABASE"
    )


async def serve(
    settings: ServerSettings,
    *,
    ready: Callable[[str], None],
    page_ready: Callable[[str], None] | None = None,
    clock: Clock | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set.

    `ready` gets the address, and before that `page_ready` the page's URL, if there is one.
    """
    ended = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    server = Server(settings, clock=clock)
    address = await server.start()
    if server.page_url is not None:
        (page_ready or _announce_page)(server.page_url)
    ready(address)
    try:
        await ended.wait()
    finally:
        await server.stop()


def run(
    settings: ServerSettings,
    *,
    ready: Callable[[str], None] | None = None,
    page_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve in this thread until SIGTERM or SIGINT."""
    asyncio.run(serve(settings, ready=ready or _announce, page_ready=page_ready))


def _announce(address: str) -> None:
    _log.info("listening on %s", address)


def _announce_page(url: str) -> None:
    _log.info("page at %s", url)


def _certificate_files(settings: ServerSettings) -> CertificateFiles | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    authority = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return CertificateFiles(Path(settings.tls_cert), Path(settings.tls_key), authority)


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    files = _certificate_files(settings)
    return None if files is None else Certificates(files).credentials()
