"""Running handlers: plain functions on threads or in processes, async ones in the event loop.

What runs together is a lot: one job, or the many of one call of a handler of rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from spooled_pipelines.rpc import tracing
from spooled_pipelines.types import Job
from spooled_pipelines.worker.handling import Handling
from spooled_pipelines.worker.held import HeldJob
from spooled_pipelines.worker.outcome import Outcome, outcome_of_exception
from spooled_pipelines.worker.rows import RowsCall, RowsOptions

Lot = list[HeldJob]
# Called in the event loop's thread; the outcome is None where the lease was lost before the run.
Finished = Callable[[HeldJob, Outcome | None], None]
RunLot = Callable[[list[Job]], list[Outcome]]
AwaitLot = Callable[[list[Job]], Awaitable[list[Outcome]]]


class Runner(Protocol):
    """Runs held jobs, at most `concurrency` lots at once, the others wait in order."""

    def submit(self, lot: Lot) -> None: ...

    def take_waiting(self) -> list[HeldJob]:
        """What has not begun; it will not."""

    def running(self) -> Iterator[tuple[Lot, str]]:
        """What has begun and not ended, and where in the code it is."""

    def close(self) -> None:
        """Begin no further job. What runs is not interrupted where that is not possible."""


def run_lots(handling: Handling) -> RunLot:
    """What runs a lot of a plain handler in the calling thread."""
    if handling.rows is not None:
        return RowsCall(handling.function, handling.rows, handling.rules).run
    call = tracing.traced(handling.caller())
    return lambda jobs: [handling.outcome(call, jobs[0])]


def await_lots(handling: Handling) -> AwaitLot:
    """The same for an async one."""
    if handling.rows is not None:
        return RowsCall(handling.function, handling.rows, handling.rules).awaited
    call = tracing.traced_async(handling.caller())

    async def run(jobs: list[Job]) -> list[Outcome]:
        return [await handling.awaited(call, jobs[0])]

    return run


def run_blocking(handling: Handling) -> RunLot:
    """What runs a lot of any handler in the calling thread."""
    if not handling.is_async:
        return run_lots(handling)
    run = await_lots(handling)

    async def awaited(jobs: list[Job]) -> list[Outcome]:
        return await run(jobs)

    return lambda jobs: asyncio.run(awaited(jobs))


class ThreadRunner:
    """A pool of daemon threads: a handler that hangs cannot keep the process from ending."""

    def __init__(
        self, run: Callable[[Lot], list[Outcome]], threads: int, finished: Finished
    ) -> None:
        self._run = run
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._lots: SimpleQueue[Lot | None] = SimpleQueue()
        self._done: deque[tuple[HeldJob, Outcome | None]] = deque()
        self._rung = False
        # By the number of the thread that runs it.
        self._running: dict[int, Lot] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"spooled-handler-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, lot: Lot) -> None:
        self._lots.put(lot)

    def take_waiting(self) -> list[HeldJob]:
        waiting: list[HeldJob] = []
        with contextlib.suppress(Empty):
            while True:
                waiting += self._lots.get_nowait() or []
        return waiting

    def running(self) -> Iterator[tuple[Lot, str]]:
        frames = sys._current_frames()  # noqa: SLF001 - the documented way to another thread's stack
        for thread, lot in list(self._running.items()):
            yield lot, _place(frames.get(thread))

    def close(self) -> None:
        for _ in self._threads:
            self._lots.put(None)

    def _work(self) -> None:
        thread = threading.get_ident()
        while (lot := self._lots.get()) is not None:
            now = time.monotonic()
            alive = lot
            if any(held.is_lost(now) for held in lot):
                alive = [held for held in lot if not held.is_lost(now)]
                self._done.extend((held, None) for held in lot if held not in alive)
            if alive:
                for held in alive:
                    held.began = now
                self._running[thread] = alive
                outcomes = self._run(alive)
                del self._running[thread]
                self._done.extend(zip(alive, outcomes, strict=True))
            # One wake-up for all that finished since the loop last looked.
            if not self._rung:
                self._rung = True
                self._ring()

    def _ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            # The loop is closed: the worker gave this job up, and nobody waits for its outcome.
            return

    def _collect(self) -> None:
        self._rung = False
        while self._done:
            self._finished(*self._done.popleft())


class LoopRunner:
    """Async handlers as tasks of the worker's own event loop."""

    def __init__(self, run: AwaitLot, concurrency: int, finished: Finished) -> None:
        self._run = run
        self._finished = finished
        self._slots = concurrency
        self._waiting: deque[Lot] = deque()
        self._tasks: dict[asyncio.Task[None], Lot] = {}
        self._closing = False

    def submit(self, lot: Lot) -> None:
        self._waiting.append(lot)
        self._begin()

    def take_waiting(self) -> list[HeldJob]:
        waiting = [held for lot in self._waiting for held in lot]
        self._waiting.clear()
        return waiting

    def running(self) -> Iterator[tuple[Lot, str]]:
        for task, lot in list(self._tasks.items()):
            stack = task.get_stack(limit=1)
            yield lot, _place(stack[-1] if stack else None)

    def close(self) -> None:
        self._closing = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < self._slots:
            lot = self._waiting.popleft()
            now = time.monotonic()
            alive = [held for held in lot if not held.is_lost(now)]
            for held in lot:
                if held not in alive:
                    self._finished(held, None)
            if alive:
                task = asyncio.ensure_future(self._work(alive))
                self._tasks[task] = alive
                for held in alive:
                    held.began = now
                    held.end = ender(alive, task.cancel)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._begin()

    async def _work(self, lot: Lot) -> None:
        try:
            outcomes = await self._run([held.job for held in lot])
        except asyncio.CancelledError as error:
            # The worker ends, or ended this job, or the handler let a cancellation of its own out.
            if self._closing:
                raise
            outcomes = [outcome_of_exception(error)] * len(lot)
        for held, outcome in zip(lot, outcomes, strict=True):
            self._finished(held, outcome)


class Gathering:
    """Jobs into lots for a handler of rows."""

    def __init__(self, options: RowsOptions, runner: Runner) -> None:
        self._options = options
        self._runner = runner
        self._lot: Lot = []
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, held: HeldJob) -> None:
        self._lot.append(held)
        if len(self._lot) >= self._options.max_rows:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.max_wait, self.flush)

    def flush(self) -> None:
        """Run what has gathered, without waiting for more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lot, self._lot = self._lot, []
        if lot:
            self._runner.submit(lot)

    def take_waiting(self) -> list[HeldJob]:
        """What has not begun; it will not."""
        lot, self._lot = self._lot, []
        self.flush()
        return lot + self._runner.take_waiting()


def ender(lot: Lot, end: Callable[[], object]) -> Callable[[], object]:
    """Ends the call of a lot once none of its jobs needs it any more."""

    def maybe() -> None:
        if all(held.cancelled for held in lot):
            end()

    return maybe


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
