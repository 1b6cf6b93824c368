"""What starts can be stopped, and again; what runs beside the calls fails loudly and goes on."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spooled_pipelines.server.auth import ApiKeys, Audit, Caller, FailedAuthLimiter, Role
from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.runtime import lifecycle
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.core.runtime.lifecycle import (
    BackgroundTasks,
    Loop,
    LoopMonitor,
    Service,
)
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, Notifier
from spooled_pipelines.server.core.runtime.queue_names import QueueNames
from spooled_pipelines.server.embedded.embedded_server import EmbeddedServer, lock_on
from spooled_pipelines.server.embedded.memory_server import MemoryServer
from spooled_pipelines.server.maintenance import ApiKeyRefresher, Sweeper
from spooled_pipelines.server.server import Server
from spooled_pipelines.server.services import ServiceContext
from spooled_pipelines.server.services.leases import claim
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.server.store.sqlite.memory import MemoryStore
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from spooled_pipelines.server.telemetry.metrics import Metrics, MetricsServer
from spooled_pipelines.wire.spooled_v1 import StreamJobsRequest
from tests.support.logged import records_of_ours
from tests.support.store_kit import ORGANIZATION, new_job
from tests.support.waiting import aeventually
from tests.support.wire import KEY, Wire

CLOCK = SystemClock()


class Subject(NamedTuple):
    """What is started and stopped, and whether it works while it is started."""

    start: Callable[[], Awaitable[Any]]
    stop: Callable[[], Awaitable[Any]]
    works: Callable[[], Awaitable[Any]]


def settings(store_url: str, **options: Any) -> ServerSettings:
    return ServerSettings(listen="127.0.0.1:0", store=store_url, api_keys=(KEY,), **options)


def own_threads() -> set[threading.Thread]:
    """The threads that there are beside those of asyncio's own pool, which stay."""
    return {each for each in threading.enumerate() if not each.name.startswith("asyncio_")}


async def stress(subject: Subject) -> None:
    """Every order of starts and stops, in turn and at once, after which nothing is left."""
    await subject.stop()
    await subject.start()
    await subject.stop()
    threads, tasks = own_threads(), len(asyncio.all_tasks())
    await subject.start()
    await subject.start()
    await subject.works()
    await subject.stop()
    await subject.stop()
    await asyncio.gather(*(change() for change in (subject.start, subject.stop) * 3))
    await subject.start()
    await subject.works()
    await subject.stop()
    await aeventually(lambda: own_threads() <= threads)
    await aeventually(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_store_may_be_opened_and_closed_in_any_order(store_url: str) -> None:
    store = open_store(store_url, CLOCK)

    async def works() -> None:
        await store.enqueue(ORGANIZATION, new_job())

    await stress(Subject(lambda: store.open(lambda _: None), store.close, works))


async def test_a_server_may_be_started_and_stopped_in_any_order(store_url: str) -> None:
    server = Server(settings(store_url, metrics="127.0.0.1:0", http="127.0.0.1:0"))

    async def works() -> None:
        assert server.address
        assert server.metrics_address
        assert server.dashboard_url
        await server.store.enqueue(ORGANIZATION, new_job())

    await stress(Subject(server.start, server.stop, works))


async def test_a_server_that_was_started_again_wakes_its_streams(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    await wire.server.start()
    await wire.server.stop()
    request = StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire, wire.stream(request, "StreamJobs") as stream:
        await aeventually(lambda: wire.server._interceptor._streams)
        job_id = await wire.enqueue()
        assert (await stream.read()).id == job_id


async def test_a_memory_server_may_be_started_and_stopped_in_any_order() -> None:
    server = MemoryServer()

    async def works() -> None:
        await asyncio.to_thread(server.skip, 1.0)

    def there(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        return lambda: asyncio.to_thread(call)

    await stress(Subject(there(server.start), there(server.stop), works))


def test_an_embedded_server_lets_go_of_its_file_each_time(tmp_path: Path) -> None:
    threads = own_threads()
    for _ in range(3):
        server = EmbeddedServer.start(tmp_path / "jobs.db")
        server.stop()
        server.stop()
        lock = lock_on(tmp_path / "jobs.db")
        lock.take()
        lock.release()
    assert own_threads() <= threads


async def loops(store: JobStore, monitor: LoopMonitor) -> list[Service]:
    notifier = Notifier()
    await store.open(notifier.publish, monitor)
    keys = ApiKeys(
        (), store, CLOCK, FailedAuthLimiter(20, CLOCK), Audit(store, CLOCK), QueueNames()
    )
    return [
        Sweeper(store, notifier, CLOCK, monitor),
        ApiKeyRefresher(keys, notifier, CLOCK, monitor),
        MetricsServer(Metrics(), "127.0.0.1:0"),
    ]


async def test_what_runs_beside_the_calls_may_be_started_and_stopped_in_any_order(
    store_url: str,
) -> None:
    store = open_store(store_url, CLOCK)
    for service in await loops(store, LoopMonitor()):

        async def works(service: Service = service) -> None:
            assert service.running

        await stress(Subject(service.start, service.stop, works))
    await store.close()


async def test_a_start_that_fails_leaves_nothing_behind() -> None:
    done: list[str] = []

    class Failing(Service):
        async def _start(self, cleanup: AsyncExitStack) -> None:
            cleanup.callback(done.append, "undone")
            raise OSError("no port")

    service = Failing()
    for _ in range(2):
        with pytest.raises(OSError, match="no port"):
            await service.start()
        assert not service.running
    await service.stop()
    assert done == ["undone", "undone"]


class Flaky(Loop):
    """Fails as often as it is told to."""

    first_pause_seconds = longest_pause_seconds = 0.001

    def __init__(self, monitor: LoopMonitor, failures: int, error: Exception) -> None:
        super().__init__("flaky loop", monitor)
        self.left = failures
        self.error = error
        self.worked = asyncio.Event()

    async def _work(self) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        self.worked.set()

    async def _wait(self) -> None:
        await asyncio.Event().wait()


async def test_a_loop_that_fails_is_logged_counted_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    monitor = LoopMonitor()
    loop = Flaky(monitor, 3, KeyError("a bug"))
    await loop.start()
    await asyncio.wait_for(loop.worked.wait(), 10)
    assert (monitor.failures["flaky loop"], monitor.failing) == (3, ())
    await loop.stop()
    failed = [each for each in records_of_ours(caplog) if each.levelno == logging.ERROR]
    assert len(failed) == 3
    assert all("flaky loop failed" in record.getMessage() for record in failed)
    assert all(record.exc_info is not None for record in failed)
    assert "the flaky loop works again" in caplog.text


async def test_a_loop_that_fails_goes_on_once_another_works_again() -> None:
    monitor = LoopMonitor()
    patient, other = (Flaky(monitor, 1, KeyError("away")) for _ in range(2))
    patient.name = "patient loop"
    patient.first_pause_seconds = patient.longest_pause_seconds = 3_600
    await patient.start()
    await aeventually(lambda: monitor.failing == ("patient loop",))
    await other.start()
    await asyncio.wait_for(patient.worked.wait(), 10)
    await patient.stop()
    await other.stop()


async def test_a_refusal_is_logged_once_without_a_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_AWAY_PAUSE_MAX_SECONDS", 0.001)
    loop = Flaky(LoopMonitor(), 5, RefusedError("UNAVAILABLE", "the database is away"))
    # However long other failures pause it.
    loop.longest_pause_seconds = 3_600
    await loop.start()
    await asyncio.wait_for(loop.worked.wait(), 10)
    await loop.stop()
    (failed,) = (each for each in records_of_ours(caplog) if each.levelno == logging.ERROR)
    assert "the database is away" in failed.getMessage()
    assert failed.exc_info is None


async def test_a_loop_that_was_stopped_does_not_count_as_failing() -> None:
    monitor = LoopMonitor()
    loop = Flaky(monitor, 10**9, OSError("the disk is full"))
    await loop.start()
    await aeventually(lambda: monitor.failing == ("flaky loop",))
    await loop.stop()
    assert monitor.failing == ()


async def test_a_task_goes_on_when_its_caller_is_cancelled_and_drain_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks, go_on, ended = BackgroundTasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        ended.set()
        raise KeyError("a bug")

    caller = asyncio.create_task(tasks.shield(work(), "work"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    go_on.set()
    await tasks.drain()
    assert ended.is_set()
    assert "the task spooled-work failed" in caplog.text


class BrokenSweeps(SqliteStore):
    """A store whose sweeps fail as no store should."""

    broken = True

    async def sweep(self) -> int | None:
        if self.broken:
            raise sqlite3.OperationalError("out of memory")
        return await super().sweep()


async def test_a_sweep_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Loop, "first_pause_seconds", 0.001)
    path = tmp_path / "jobs.db"
    store = BrokenSweeps(f"sqlite:///{path}", CLOCK)
    server = Server(settings("", metrics="127.0.0.1:0"), store=store)
    await server.start()
    await aeventually(lambda: "sweeper failed" in caplog.text)
    problem = await server._readiness.problem()
    assert problem == "the sweeper failed, and the server's log says why"
    metrics = (await server._metrics.text()).decode()
    line = next(
        text for text in metrics.splitlines() if 'loop_failures_total{loop="sweeper"' in text
    )
    assert float(line.split()[-1]) >= 1
    store.broken = False
    await aeventually(lambda: server._readiness.loops.failing == ())
    assert await server._readiness.problem() is None
    await server.stop()
    _is_free(path)


async def test_the_store_is_closed_though_everything_else_fails_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    server = Server(settings(f"sqlite:///{path}"))
    await server.start()

    async def fails(*_: object) -> None:
        raise KeyError("a bug")

    server._cleanup.push_async_callback(fails)
    with pytest.raises(KeyError, match="a bug"):
        await server.stop()
    _is_free(path)


def _is_free(path: Path) -> None:
    lock = lock_on(path)
    lock.take()
    lock.release()


class Slow(SqliteStore):
    """A store that is slow to claim and to take back what was claimed."""

    claiming, giving_back = False, False

    async def claim(self, *arguments: Any) -> Any:
        self.claiming = True
        await aeventually(lambda: not self.claiming)
        return await super().claim(*arguments)

    async def settle(self, *arguments: Any) -> Any:
        self.giving_back = True
        await aeventually(lambda: not self.giving_back)
        return await super().settle(*arguments)


async def test_a_server_stops_while_another_loop_has_claims_on_their_way_back(
    tmp_path: Path,
) -> None:
    store = Slow(f"sqlite:///{tmp_path / 'jobs.db'}", CLOCK)
    server = Server(settings(""), store=store)
    await server.start()
    enqueued = await store.enqueue(ORGANIZATION, new_job())
    services = ServiceContext(store, Notifier(), CLOCK, False)
    caller = Caller(ORGANIZATION, Role.WORK, None, b"")
    claiming = asyncio.create_task(claim(services, caller, ClaimRequest("q", "w", 30_000, 1)))
    await aeventually(lambda: store.claiming)
    claiming.cancel()
    await asyncio.wait([claiming])
    store.claiming = False
    await aeventually(lambda: store.giving_back)

    async def start_and_stop() -> None:
        other = Server(settings(f"sqlite:///{tmp_path / 'other.db'}"))
        await other.start()
        await other.stop()

    await asyncio.to_thread(asyncio.run, start_and_stop())
    store.giving_back = False
    await services.background.drain()
    assert (await store.job(ORGANIZATION, enqueued.job_id)).status == Status.PENDING
    await server.stop()


async def test_what_is_committed_is_answered_though_an_observer_fails(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(store_url, CLOCK)

    def fails(_: CommitEvent) -> None:
        raise KeyError("a bug")

    await store.open(fails)
    enqueued = await asyncio.wait_for(store.enqueue(ORGANIZATION, new_job()), 10)
    assert (await store.job(ORGANIZATION, enqueued.job_id)).job_id == enqueued.job_id
    await store.close()
    assert "an observer of commits failed" in caplog.text


async def test_a_call_is_answered_though_an_observer_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> None:
        raise KeyError("a bug")

    async with Wire(tmp_path) as wire:
        wire.server._observers.append(fails)
        assert await wire.enqueue()
    assert "an observer of calls failed" in caplog.text


async def test_a_memory_store_is_empty_when_it_is_opened_again() -> None:
    store = MemoryStore(CLOCK)
    await store.open(lambda _: None)
    enqueued = await store.enqueue(ORGANIZATION, new_job())
    await store.close()
    await store.open(lambda _: None)
    with pytest.raises(RefusedError):
        await store.job(ORGANIZATION, enqueued.job_id)
    await store.close()
