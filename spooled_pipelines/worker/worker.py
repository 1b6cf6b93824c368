"""`Worker`: takes jobs from a queue, runs a handler on each, and settles them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from spooled_pipelines.client import AsyncSpooledClient, SpooledClient
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.worker.connection import connection_of
from spooled_pipelines.worker.engine import Engine, WorkerReport
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.runners import Handler
from spooled_pipelines.worker.settings import WorkerSettings, make_worker_id
from spooled_pipelines.worker.settler import Settled

if TYPE_CHECKING:
    from typing_extensions import Self

# How long a signal may go unnoticed, at worst.
_SIGNAL_SECONDS = 0.5


class Worker:
    """Takes jobs from one queue and runs `handler` on each.

        def handler(job):
            return {"doubled": job.payload["n"] * 2}

        Worker("localhost:50051", "numbers", handler).run()

    A plain function runs on one of `concurrency` threads; an async one runs in the worker's own
    event loop. What it returns (a mapping, or None) is the job's result. What it raises fails the
    job, which the server tries again later as often as the job allows; `Discard` gives it up at
    once. A result that a payload could not hold exactly, or above 1 MiB, fails the job for good.

    A job runs at least once: a worker that dies, or is cut off for longer than the lease, leaves
    it to another. Only the holder of the live lease can settle it, so it counts once.

    Args:
        client_or_address: a client, whose address and key are used (not its connection), or an
            address as `connect` takes it.
        queue_name: the queue to take from.
        handler: called with the `Job`.
        api_key: with an address; else SPOOLED_API_KEY.
        concurrency, lease_seconds, grace_seconds, idle_seconds, stop_when_empty: see
            `WorkerSettings`.
        worker_id: how the server calls this worker; made up from host and process where not given.
        on_settled: called in the worker's thread with each `Settled`, for counting and progress;
            it should return fast.

    Raises:
        InvalidArgumentError: a setting is outside its limits, and the message says which.
    """

    def __init__(
        self,
        client_or_address: SpooledClient | AsyncSpooledClient | str | None,
        queue_name: str,
        handler: Handler,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        lease_seconds: int = 30,
        worker_id: str | None = None,
        grace_seconds: float = 25.0,
        idle_seconds: float = 1.0,
        stop_when_empty: bool = False,
        on_settled: Callable[[Settled], None] | None = None,
    ) -> None:
        given: object = handler
        if not callable(given):
            kind = type(given).__name__
            raise TypeError(f"handler should be a function of one job, and is a {kind}")
        self.settings = WorkerSettings(
            queue_name=queue_name,
            worker_id=worker_id or make_worker_id(),
            concurrency=concurrency,
            lease_seconds=lease_seconds,
            grace_seconds=grace_seconds,
            idle_seconds=idle_seconds,
            stop_when_empty=stop_when_empty,
        )
        self._connect = connection_of(client_or_address, api_key)
        self._handler = handler
        self._on_settled = on_settled
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[WorkerReport] | None = None
        self._engine: Engine | None = None
        self._stop_asked = False
        self._gave_up = False
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._report = WorkerReport()

    def __repr__(self) -> str:
        return f"Worker({self.settings.queue_name!r}, worker_id={self.settings.worker_id!r})"

    @property
    def report(self) -> WorkerReport:
        """What was done so far."""
        engine = self._engine
        return self._report if engine is None else engine.report()

    @property
    def gave_up(self) -> bool:
        """Whether it ended by `give_up()` or a second signal, without waiting for what ran."""
        return self._gave_up

    def start(self) -> Self:
        """Begin on a thread of its own; returns once the server has registered this worker.

        Raises:
            SpooledError: the server is not there, or refuses the key. A second start of a worker
                that runs does nothing; one that has ended cannot run again.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._main,
                    name=f"spooled-worker-{self.settings.queue_name}",
                    daemon=True,
                )
                self._thread.start()
        _wait_awake(self._started)
        if self._ended.is_set() and self._error is not None:
            raise self._error
        return self

    def run(self) -> WorkerReport:
        """Work until `stop()`, SIGTERM or SIGINT; then finish what was taken, and return.

        Signals are listened to only in the main thread. The first one stops; the second one
        gives up what still runs and returns at once.

        Raises:
            SpooledError: the server was not there at the start, or refuses the key.
        """
        with self._signals():
            self.start()
            _wait_awake(self._ended)
            return self.join()

    def stop(self) -> None:
        """Ask it to take no more jobs and end; returns at once. From any thread, or a handler."""
        self._stop_asked = True
        self._in_loop(lambda engine: engine.stop())

    def give_up(self) -> None:
        """End at once: running handlers are left alone, and their jobs' leases run out."""
        self._stop_asked = self._gave_up = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            _call(loop, task.cancel)

    def join(self, timeout: float | None = None) -> WorkerReport:
        """Wait for the end and say what was done. Raises what ended the work, if an error did.

        Raises:
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
            self._report = asyncio.run(self._work())
        except asyncio.CancelledError:
            self._report = self._given_up()
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
        async with self._connect() as client:
            engine = Engine(client, self.settings, self._handler, self._on_settled)
            self._engine = engine
            self._task = asyncio.current_task()
            self._loop = asyncio.get_running_loop()
            if self._stop_asked:
                engine.stop()
            return await engine.run(self._started.set)

    def _given_up(self) -> WorkerReport:
        engine = self._engine
        return engine.report() if engine is not None else self._report

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
            if self._stop_asked:
                logger.warning("second signal: giving up at once")
                self.give_up()
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


def _wait_awake(event: threading.Event) -> None:
    """Wait, and let signal handlers run: a signal may reach the process on another thread, and
    Python runs its handler only when the main thread does something."""
    while not event.wait(_SIGNAL_SECONDS):
        pass


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop is closed: it has ended already, which is what was asked for.
        return
