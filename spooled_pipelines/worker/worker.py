"""`Worker`: takes jobs from queues, runs a handler on each, and settles them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from spooled_pipelines.client import AsyncSpooledClient, SpooledClient
from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.worker.clock import SYSTEM_CLOCK, Clock
from spooled_pipelines.worker.engine import Engine, WorkerReport
from spooled_pipelines.worker.handlers.batch_handlers import batch_handler
from spooled_pipelines.worker.handlers.event_loop import run_to_end
from spooled_pipelines.worker.handlers.handler import BoundHandler, Handler, bind_handler
from spooled_pipelines.worker.health.health_file import HealthFile
from spooled_pipelines.worker.health.health_server import HealthServer
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import (
    Executor,
    QueuesOption,
    WorkerSettings,
    make_worker_id,
    queues_from,
)
from spooled_pipelines.worker.settling.settler import Settled
from spooled_pipelines.worker.supervision.loop_monitor import blocked_loop_logged

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

F = TypeVar("F", bound=Callable[..., Any])
# How long a signal may go unnoticed, at worst.
_SIGNAL_SECONDS = 0.5


class Worker:
    """Takes jobs from one queue or several and runs `handler` on each.

        def handler(job):
            return {"doubled": job.payload["n"] * 2}

        Worker("localhost:50051", "numbers", handler).run()

    A plain function runs on one of `concurrency` threads (or in one of as many processes); an
    async one runs in the worker's own event loop. Its parameter gets the `Job`; where it is
    annotated with a dataclass, a pydantic model or a dict it gets the payload, and with
    `JobContext` the run's context. What the handler returns (a mapping, a dataclass, a pydantic
    model, an Arrow row, or None) is the job's result. What it raises fails the job, which the
    server tries again later as often as the job allows; `Discard` gives it up at once. A result
    that a payload could not hold exactly, or above 1 MiB, and a payload that does not fit the
    parameter fail the job for good.

    A job runs at least once: a worker that dies, or is cut off for longer than the lease, leaves
    it to another. Only the holder of the live lease can settle it, so it counts once.

    Args:
        client_or_address: a client, whose address and key are used (not its connection), or an
            address as `connect` takes it.
        queue_name: the queue to take from; or several: names, `QueueShare` values, or a mapping
            from name to weight.
        handler: called with each job or, marked by `batch_handler`, with many. None: it is set by
            ``@worker.batch_handler(...)`` before the worker starts.
        api_key: with an address; else SPOOLED_API_KEY.
        concurrency, lease_seconds, grace_seconds, idle_seconds, stop_when_empty, executor, rate:
            see `WorkerSettings`.
        worker_id: the worker's name for the server; by default made of host and process.
        retry_on, discard_on: classes of exceptions after which a job is tried again, or given up
            for good; the nearest class of an exception counts. By default all are tried again.
        http: ``host:port`` where ``/live``, ``/ready`` and ``/metrics`` are answered.
        health_file: a file that is written each second while this worker is live and removed when
            it ends; it holds ``ready``, or why no jobs are taken.
        on_settled: called in the worker's thread with each `Settled`, for counting and progress;
            it should return fast.
        running_log: a descriptor of an empty file in which the ids of the jobs that run are noted,
            for a process that looks after this worker; see `running_log.running_jobs`.
        clock: the time that the worker goes by; tests pass one that they can move, see
            `spooled_pipelines.testing`.

    Raises:
        InvalidArgumentError: a setting is outside its limits.
    """

    def __init__(
        self,
        client_or_address: SpooledClient | AsyncSpooledClient | str | None,
        queue_name: QueuesOption,
        handler: Handler | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        lease_seconds: int = 30,
        worker_id: str | None = None,
        grace_seconds: float = 25.0,
        idle_seconds: float = 1.0,
        stop_when_empty: bool = False,
        executor: Executor = "thread",
        rate: float | None = None,
        retry_on: Sequence[type[BaseException]] | None = None,
        discard_on: Sequence[type[BaseException]] = (),
        http: str | None = None,
        health_file: str | os.PathLike[str] | None = None,
        on_settled: Callable[[Settled], None] | None = None,
        running_log: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.settings = WorkerSettings(
            queues=queues_from(queue_name),
            worker_id=worker_id or make_worker_id(),
            concurrency=concurrency,
            lease_seconds=lease_seconds,
            grace_seconds=grace_seconds,
            idle_seconds=idle_seconds,
            stop_when_empty=stop_when_empty,
            executor=executor,
            rate=rate,
            running_log=running_log,
        )
        self._connect = _connector(client_or_address, api_key)
        self._bind = partial(bind_handler, retry_on=retry_on, discard_on=discard_on)
        self._handler: BoundHandler | None = None
        if handler is not None:
            self._set_handler(handler)
        self.health_server = None if http is None else HealthServer(http)
        self._health_file = None if health_file is None else HealthFile(health_file)
        self._on_settled = on_settled
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._stop_requested = False
        self._aborted = False
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._report = WorkerReport()

    def batch_handler(
        self, *, max_rows: int = 500, max_wait: float = 0.05, schema: pa.Schema | None = None
    ) -> Callable[[F], F]:
        """Set a handler of many jobs at once; see the function `batch_handler`.

        @worker.batch_handler(max_rows=1_000)
        def score(rows): ...
        """

        def set_handler(function: F) -> F:
            mark = batch_handler(max_rows=max_rows, max_wait=max_wait, schema=schema)
            self._set_handler(mark(function))
            return function

        return set_handler

    def __repr__(self) -> str:
        return f"Worker({self.settings.queue_names!r}, worker_id={self.settings.worker_id!r})"

    @property
    def report(self) -> WorkerReport:
        """What the worker has done so far."""
        engine = self._engine
        return self._report if engine is None else engine.report()

    @property
    def aborted(self) -> bool:
        """Whether it ended by `abort()` or a second signal, without waiting for what ran."""
        return self._aborted

    def start(self) -> Self:
        """Begin on a thread of its own; return once the server has registered this worker.

        A second start does nothing; a worker that has ended cannot run again.

        Raises:
            SpooledError: the server is not there, or refuses the key.
        """
        with self._lock:
            if self._thread is None:
                if self._handler is None:
                    raise InvalidArgumentError(
                        "this worker has no handler: pass one, or use @worker.batch_handler()"
                    )
                self._thread = threading.Thread(
                    target=self._main,
                    name=f"spooled-worker-{self.settings.queue_names}",
                    daemon=True,
                )
                self._thread.start()
        _wait_awake(self._started)
        if self._ended.is_set() and self._error is not None:
            raise self._error
        return self

    def run(self) -> WorkerReport:
        """Work until `stop()`, SIGTERM or SIGINT; then finish what was taken, and return.

        Signals are handled only in the main thread. The first one stops the worker; the second
        one gives back what still runs and returns at once.

        Raises:
            SpooledError: the server was not there at the start, or refuses the key.
        """
        with self._signals():
            self.start()
            _wait_awake(self._ended)
            return self.join()

    def stop(self) -> None:
        """Ask the worker to take no more jobs and end; return at once.

        May be called from any thread, and by a handler.
        """
        self._stop_requested = True
        self._in_loop(lambda engine: engine.stop())

    def abort(self) -> None:
        """End at once: what runs is told to end, and its jobs are given back for others to do."""
        self._stop_requested = self._aborted = True
        self._in_loop(lambda engine: engine.abort())

    def join(self, timeout: float | None = None) -> WorkerReport:
        """Wait for the end and return what was done.

        Raises:
            SpooledError: what ended the work, if an error did.
            TimeoutError: it still runs after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self!r} still runs after {timeout} s")
        if self._error is not None:
            raise self._error
        return self._report

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None:
            self.join()
        else:
            self._ended.wait()

    def _main(self) -> None:
        try:
            self._report = run_to_end(self._work())
        except SpooledError as error:
            self._error = error
        except BaseException as error:  # noqa: BLE001 - the thread's boundary: join() raises it
            self._error = error
            logger.exception("the worker failed")
        finally:
            self._engine = None
            self._ended.set()
            self._started.set()

    async def _work(self) -> WorkerReport:
        handler = self._handler
        if handler is None:
            raise RuntimeError("started without a handler")
        health_server = self.health_server
        on_ended = None if health_server is None else health_server.on_ended
        async with self._connect() as client:
            engine = Engine(
                client,
                self._connect,
                self._clock,
                self.settings,
                handler,
                self._on_settled,
                on_ended,
            )
            self._engine = engine
            self._loop = asyncio.get_running_loop()
            if self._stop_requested:
                engine.stop()
            with ExitStack() as stack:
                for health in (health_server, self._health_file):
                    if health is not None:
                        stack.enter_context(health.serve(engine))
                stack.enter_context(blocked_loop_logged())
                return await engine.run(self._started.set)

    def _set_handler(self, function: Handler) -> None:
        self._handler = self._bind(function)
        batch = self._handler.batch
        jobs_per_call = 1 if batch is None else batch.max_rows
        self.settings = replace(self.settings, jobs_per_call=jobs_per_call)

    def _in_loop(self, call: Callable[[Engine], None]) -> None:
        loop, engine = self._loop, self._engine
        if loop is not None and engine is not None:
            _call(loop, lambda: call(engine))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self._stop_requested:
                logger.warning("second signal: giving back what runs")
                self.abort()
            else:
                logger.info("%s: stopping", signal.Signals(number).name)
                self.stop()

        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _connector(
    client_or_address: SpooledClient | AsyncSpooledClient | str | None, api_key: str | None
) -> Callable[[], AsyncSpooledClient]:
    """Return what makes the worker's own client; it is called in the worker's event loop."""
    if isinstance(client_or_address, SpooledClient | AsyncSpooledClient):
        if api_key is not None:
            raise TypeError("api_key must be left out with a client, which has its own")
        settings = client_or_address.settings
        return lambda: AsyncSpooledClient(settings)
    address = client_or_address
    return lambda: AsyncSpooledClient(address, api_key=api_key)


def _wait_awake(event: threading.Event) -> None:
    """Wait, and let signal handlers run.

    A signal may reach the process on another thread, and Python runs its handler only when the
    main thread does something.
    """
    while not event.wait(_SIGNAL_SECONDS):
        pass


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop is closed: it has ended already, which is what was asked for.
        return
