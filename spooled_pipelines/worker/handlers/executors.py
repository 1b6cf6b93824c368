"""Running handlers: plain functions on threads or in processes, async ones in the event loop.

What runs together is a group: one job, or the many of one call of a batch handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.handlers.batch_handlers import BatchHandlerCall, BatchOptions
from spooled_pipelines.worker.handlers.event_loop import CURRENT_RUN, GuardedTask, run_to_end
from spooled_pipelines.worker.handlers.handler import BoundHandler
from spooled_pipelines.worker.handlers.running_log import RunningLog
from spooled_pipelines.worker.handlers.thread_frames import frame_of
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.lease_table import LeasedJob
from spooled_pipelines.worker.jobs.outcome import Outcome, outcome_of_exception

JobGroup = list[LeasedJob]
# Returns where in the code a group is, as `path:line in function`; costs more than a moment.
Locate = Callable[[], str]
# Called in the event loop's thread; an outcome is None where the lease was lost before the run.
OnFinished = Callable[[Sequence[tuple[LeasedJob, Outcome | None]]], None]
SyncCall = Callable[[list[JobContext]], list[Outcome]]
AsyncCall = Callable[[list[JobContext]], Awaitable[list[Outcome]]]


class JobExecutor(Protocol):
    """Runs groups of leased jobs: at most `concurrency` at once, the others wait in order."""

    def submit(self, group: JobGroup) -> None:
        """Run the group as soon as there is a slot."""

    def take_waiting(self) -> list[LeasedJob]:
        """Return the jobs that have not begun, and do not run them."""

    def running(self) -> Iterator[tuple[JobGroup, Locate]]:
        """Yield the groups that have begun and not ended, and what tells where each is."""

    def close(self) -> None:
        """Begin no further group. One that runs is interrupted where that is possible."""


def sync_call(handler: BoundHandler) -> SyncCall:
    """Return what runs a group of a plain handler in the calling thread."""
    if handler.batch is not None:
        return BatchHandlerCall(handler.function, handler.batch, handler.rules).run
    adapted = handler.adapted()
    return lambda contexts: [handler.call(adapted, contexts[0])]


def async_call(handler: BoundHandler) -> AsyncCall:
    """Return what runs a group of an async handler in the event loop."""
    if handler.batch is not None:
        return BatchHandlerCall(handler.function, handler.batch, handler.rules).run_async
    adapted = handler.adapted()

    async def run(contexts: list[JobContext]) -> list[Outcome]:
        return [await handler.call_async(adapted, contexts[0])]

    return run


def blocking_call(handler: BoundHandler) -> SyncCall:
    """Return what runs a group of any handler in the calling thread."""
    if not handler.is_async:
        return sync_call(handler)
    run = async_call(handler)

    async def awaited(contexts: list[JobContext]) -> list[Outcome]:
        try:
            return await run(contexts)
        except asyncio.CancelledError as error:
            return [outcome_of_exception(error, handler.rules)] * len(contexts)

    return lambda contexts: run_to_end(awaited(contexts))


def end_copy(process: int) -> None:
    """End this process if it is a copy of that one, which a handler forked and came back from.

    What the handler is called by, connections and jobs, is the one's that was forked.
    """
    if os.getpid() != process:
        os._exit(1)


class ThreadExecutor:
    """A pool of daemon threads: a handler that hangs cannot keep the process from ending."""

    def __init__(
        self,
        clock: Clock,
        run: Callable[[JobGroup], list[Outcome]],
        threads: int,
        on_finished: OnFinished,
        log: RunningLog | None = None,
    ) -> None:
        self._clock = clock
        self._run = run
        self._log = log
        self._on_finished = on_finished
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._waiting: SimpleQueue[JobGroup | None] = SimpleQueue()
        self._done: deque[tuple[LeasedJob, Outcome | None]] = deque()
        self._collect_is_due = False
        # By the number of the thread that runs it.
        self._running: dict[int, JobGroup] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"spooled-handler-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, group: JobGroup) -> None:
        self._waiting.put(group)

    def take_waiting(self) -> list[LeasedJob]:
        waiting: list[LeasedJob] = []
        with contextlib.suppress(Empty):
            while True:
                waiting += self._waiting.get_nowait() or []
        return waiting

    def running(self) -> Iterator[tuple[JobGroup, Locate]]:
        for thread, group in list(self._running.items()):
            yield group, partial(_thread_location, thread)

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        thread = threading.get_ident()
        while (group := self._waiting.get()) is not None:
            now = self._clock.monotonic()
            alive = group
            if any(leased.has_lost_lease(now) for leased in group):
                alive = [leased for leased in group if not leased.has_lost_lease(now)]
                self._done.extend((leased, None) for leased in group if leased not in alive)
            if alive:
                for leased in alive:
                    leased.started_at = now
                self._running[thread] = alive
                region = None if self._log is None else self._log.begin(alive)
                try:
                    outcomes = self._run(alive)
                except BaseException as error:  # noqa: BLE001 - whatever happens, the slot lives and its jobs are settled
                    outcomes = [outcome_of_exception(error)] * len(alive)
                end_copy(self._process)
                if self._log is not None and region is not None:
                    self._log.end(region)
                del self._running[thread]
                self._done.extend(zip(alive, outcomes, strict=True))
            # One wake-up for all that finished since the loop last looked.
            if not self._collect_is_due:
                self._collect_is_due = True
                self._wake_loop()

    def _wake_loop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            # The loop is closed: the worker abandoned this job, and nobody waits for its outcome.
            return

    def _collect(self) -> None:
        self._collect_is_due = False
        # Threads add to it meanwhile.
        self._on_finished([self._done.popleft() for _ in range(len(self._done))])


class AsyncioExecutor:
    """Async handlers as tasks of the worker's own event loop."""

    def __init__(
        self,
        clock: Clock,
        run: AsyncCall,
        concurrency: int,
        on_finished: OnFinished,
        log: RunningLog | None = None,
    ) -> None:
        self._clock = clock
        self._run = run
        self._log = log
        self._on_finished = on_finished
        self._slots = concurrency
        self._process = os.getpid()
        self._waiting: deque[JobGroup] = deque()
        self._tasks: dict[asyncio.Task[None], JobGroup] = {}
        self._closing = False

    def submit(self, group: JobGroup) -> None:
        self._waiting.append(group)
        self._start_waiting()

    def take_waiting(self) -> list[LeasedJob]:
        waiting = [leased for group in self._waiting for leased in group]
        self._waiting.clear()
        return waiting

    def running(self) -> Iterator[tuple[JobGroup, Locate]]:
        for task, group in list(self._tasks.items()):
            yield group, partial(_task_location, task)

    def close(self) -> None:
        self._closing = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._tasks) < self._slots:
            group = self._waiting.popleft()
            now = self._clock.monotonic()
            alive = [leased for leased in group if not leased.has_lost_lease(now)]
            lost = [(leased, None) for leased in group if leased not in alive]
            if lost:
                self._on_finished(lost)
            if alive:
                task = asyncio.ensure_future(self._work(alive))
                self._tasks[task] = alive
                for leased in alive:
                    leased.started_at = now
                    leased.interrupt = when_all_cancelled(alive, task.cancel)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._start_waiting()

    async def _work(self, group: JobGroup) -> None:
        task = asyncio.current_task()
        if isinstance(task, GuardedTask):
            task.run = group
        run = CURRENT_RUN.set(group)
        region = None if self._log is None else self._log.begin(group)
        try:
            outcomes = await self._run([leased.context for leased in group])
        except asyncio.CancelledError as error:
            # The worker ends, or ended this job, or the handler raised a cancellation of its own.
            if self._closing:
                raise
            outcomes = [outcome_of_exception(error)] * len(group)
        finally:
            end_copy(self._process)
            CURRENT_RUN.reset(run)
            if self._log is not None and region is not None:
                self._log.end(region)
        self._on_finished(list(zip(group, outcomes, strict=True)))


class Batcher:
    """Gathers jobs into groups for a batch handler."""

    def __init__(self, options: BatchOptions, executor: JobExecutor) -> None:
        self._options = options
        self._executor = executor
        self._group: JobGroup = []
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, jobs: Sequence[LeasedJob]) -> None:
        """Add jobs; a group runs when it is full, or `max_wait` after its first job."""
        start, most = 0, self._options.max_rows
        while start < len(jobs):
            end = start + most - len(self._group)
            self._group += jobs[start:end]
            start = end
            if len(self._group) >= most:
                self.flush()
        if self._group and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.max_wait, self.flush)

    def flush(self) -> None:
        """Run what has gathered, without waiting for more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group, self._group = self._group, []
        if group:
            self._executor.submit(group)


def when_all_cancelled(group: JobGroup, interrupt: Callable[[], object]) -> Callable[[], object]:
    """Return a function that interrupts a group's call once none of its jobs is wanted."""

    def interrupt_if_unwanted() -> None:
        if all(leased.cancelled for leased in group):
            interrupt()

    return interrupt_if_unwanted


def _thread_location(thread: int) -> str:
    return _location(frame_of(thread))


def _task_location(task: asyncio.Task[None]) -> str:
    stack = task.get_stack(limit=1)
    return _location(stack[-1] if stack else None)


def _location(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
