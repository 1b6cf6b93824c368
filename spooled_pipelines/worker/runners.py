"""Running handlers: plain functions on threads, async ones in the event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from queue import SimpleQueue
from typing import Any, Protocol, cast

from spooled_pipelines.rpc import tracing
from spooled_pipelines.rpc.values import Job
from spooled_pipelines.worker.held import HeldJob
from spooled_pipelines.worker.outcome import (
    Outcome,
    outcome_of_exception,
    outcome_of_return,
)

AsyncResult = Awaitable[Mapping[str, Any] | None]
Handler = Callable[[Job], Mapping[str, Any] | None] | Callable[[Job], AsyncResult]
# Called in the event loop's thread; the outcome is None where the lease was lost before the run.
Finished = Callable[[HeldJob, Outcome | None], None]


class Runner(Protocol):
    """Runs held jobs, at most `concurrency` at once, the others wait in order."""

    def submit(self, held: HeldJob) -> None: ...

    def close(self) -> None:
        """Begin no further job. What runs is not interrupted where that is not possible."""


def make_runner(handler: Handler, concurrency: int, finished: Finished) -> Runner:
    """To be called in the running event loop."""
    if is_async(handler):
        awaited = tracing.traced_async(handler)
        return LoopRunner(cast("Callable[[Job], AsyncResult]", awaited), concurrency, finished)
    return ThreadRunner(tracing.traced(handler), concurrency, finished)


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine: async functions, partials and objects of such."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def run_inline(handler: Handler, job: Job) -> Outcome:
    """Run it in this thread; an async one in an event loop of its own."""
    if is_async(handler):
        return run_call(lambda job: asyncio.run(cast("Any", handler)(job)), job)
    return run_call(handler, job)


def run_call(handler: Callable[[Job], Any], job: Job) -> Outcome:
    """What a plain function makes of a job."""
    try:
        value = handler(job)
    except BaseException as error:  # noqa: BLE001 - the boundary: whatever a handler raises, SystemExit too, is its job's failure
        return outcome_of_exception(error)
    if inspect.iscoroutine(value):
        value.close()
    return outcome_of_return(value)


class ThreadRunner:
    """A pool of daemon threads: a handler that hangs cannot keep the process from ending."""

    def __init__(self, handler: Callable[[Job], Any], threads: int, finished: Finished) -> None:
        self._handler = handler
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[HeldJob | None] = SimpleQueue()
        self._done: deque[tuple[HeldJob, Outcome | None]] = deque()
        self._rung = False
        self._threads = [
            threading.Thread(target=self._work, name=f"spooled-handler-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, held: HeldJob) -> None:
        self._jobs.put(held)

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (held := self._jobs.get()) is not None:
            lost = held.is_lost(time.monotonic())
            self._done.append((held, None if lost else run_call(self._handler, held.job)))
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

    def __init__(
        self, handler: Callable[[Job], AsyncResult], concurrency: int, finished: Finished
    ) -> None:
        self._handler = handler
        self._finished = finished
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def submit(self, held: HeldJob) -> None:
        task = asyncio.ensure_future(self._run(held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()

    async def _run(self, held: HeldJob) -> None:
        async with self._slots:
            if held.is_lost(time.monotonic()):
                self._finished(held, None)
                return
            try:
                outcome = outcome_of_return(await self._handler(held.job))
            except asyncio.CancelledError as error:
                # Either the worker gives up, or the handler let a cancellation of its own out.
                if self._closing:
                    raise
                outcome = outcome_of_exception(error)
            except Exception as error:  # noqa: BLE001 - the boundary: a handler may raise anything
                outcome = outcome_of_exception(error)
            self._finished(held, outcome)
