"""Services that start and stop, loops that are supervised, and tasks that outlive their caller."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CANCEL_AGAIN_SECONDS = 1.0
# Between two attempts of a loop at least, where others that work again shorten its pause.
_PAUSE_MIN_SECONDS = 0.2
# Calls work again as soon as the store does; as long as a loop fails, health says otherwise.
_AWAY_PAUSE_MAX_SECONDS = 1.0


class Service(ABC):
    """Something that starts and stops.

    `start` returns once it is started and `stop` once it is stopped. Both may be repeated and both
    may be called at the same time: a second `start` and a `stop` before any `start` do nothing,
    and a `start` after a `stop` starts it again. A start that fails leaves nothing behind.
    """

    def __init__(self) -> None:
        self._changing = asyncio.Lock()
        self._cleanup: AsyncExitStack | None = None

    @property
    def running(self) -> bool:
        """Whether it is started."""
        return self._cleanup is not None

    async def start(self) -> None:
        """Return once it is started."""
        async with self._changing:
            if self._cleanup is not None:
                return
            async with AsyncExitStack() as cleanup:
                await self._start(cleanup)
                self._cleanup = cleanup.pop_all()

    async def stop(self) -> None:
        """Return once it is stopped. What fails on the way is raised after all else is stopped."""
        async with self._changing:
            cleanup, self._cleanup = self._cleanup, None
            if cleanup is not None:
                await cleanup.aclose()

    @abstractmethod
    async def _start(self, cleanup: AsyncExitStack) -> None:
        """Start it; push what undoes each step, which `stop` runs in the reverse order."""


class LoopMonitor:
    """How often each loop failed, and which of them have not worked since."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._failing: dict[str, None] = {}
        self._on_change: Callable[[], object] = tuple
        # Of loops that pause: set when another works again.
        self._pausing: set[asyncio.Event] = set()

    def watch(self, on_change: Callable[[], object]) -> None:
        """Have this called whenever a loop fails, or works again."""
        self._on_change = on_change

    @property
    def failing(self) -> Sequence[str]:
        """The names of the loops that failed and have not worked since."""
        return tuple(self._failing)

    def register(self, name: str) -> None:
        """Count the failures of a loop from zero."""
        self.failures[name] += 0

    def failed(self, name: str) -> None:
        """Note that a loop failed."""
        self.failures[name] += 1
        self._failing[name] = None
        self._on_change()

    def works(self, name: str) -> bool:
        """Note that a loop works; return whether it had failed before."""
        if name not in self._failing:
            return False
        del self._failing[name]
        self._on_change()
        for recovered in self._pausing:
            recovered.set()
        return True

    async def pause(self, seconds: float) -> None:
        """Return after this time, or soon after another loop works again.

        Most fail for one reason: the store is away.
        """
        recovered = asyncio.Event()
        self._pausing.add(recovered)
        try:
            await asyncio.sleep(min(seconds, _PAUSE_MIN_SECONDS))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(recovered.wait(), max(seconds - _PAUSE_MIN_SECONDS, 0))
        finally:
            self._pausing.discard(recovered)


class Loop(Service):
    """A loop beside the calls: it works, waits for the next reason to work, and so on.

    A loop that fails is logged with its cause, noted in the monitor, and goes on after a pause,
    which doubles while failures follow one another, and ends early where another works again. A
    store that is away is tried again every second, which is logged once.
    """

    first_pause_seconds = 1.0
    longest_pause_seconds = 30.0
    # Logged without a traceback.
    expected_errors: tuple[type[Exception], ...] = (RefusedError, StoreUnavailableError)

    def __init__(self, name: str, monitor: LoopMonitor) -> None:
        super().__init__()
        self.name = name
        self._monitor = monitor
        monitor.register(name)

    @abstractmethod
    async def _work(self) -> None:
        """Do what is due; once it returns, the loop counts as working."""

    @abstractmethod
    async def _wait(self) -> None:
        """Return when there may be work."""

    async def _start(self, cleanup: AsyncExitStack) -> None:
        task = asyncio.create_task(self._supervise(), name=f"spooled-{self.name}")
        # An error of the last attempt says nothing about a loop that was stopped.
        cleanup.callback(self._monitor.works, self.name)
        cleanup.push_async_callback(_cancel, task)

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause, resumed_at, said = 0.0, loop.time(), ("", 0.0)
        while True:
            try:
                await self._work()
                if self._monitor.works(self.name):
                    _log.warning("the %s works again", self.name)
                    said = ("", 0.0)
                await self._wait()
            # Whatever it is, the loop must not end with it: nobody would begin it again.
            except Exception as error:  # noqa: BLE001, PERF203
                is_expected = isinstance(error, self.expected_errors)
                longest = self.longest_pause_seconds
                if is_expected:
                    longest = min(longest, _AWAY_PAUSE_MAX_SECONDS)
                worked_long = loop.time() - resumed_at > longest
                pause = min(2 * pause, longest)
                if worked_long or not pause:
                    pause = self.first_pause_seconds
                self._monitor.failed(self.name)
                if not is_expected or said != (said := (str(error), pause)):
                    self._log_failure(error, pause)
                await self._monitor.pause(pause)
                resumed_at = loop.time()

    def _log_failure(self, error: Exception, pause: float) -> None:
        # The message of an expected one says all, such as that the database is away.
        trace = None if isinstance(error, self.expected_errors) else error
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.error(
            "the %s failed and is tried again in %g s: %s", self.name, pause, reason, exc_info=trace
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    while not task.done():
        task.cancel()
        # Before Python 3.12 `wait_for` loses a cancellation that comes just when it is over.
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)


class BackgroundTasks:
    """Tasks that outlive the call that began them; `drain` waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Begin work that nobody waits for; what it fails with is logged."""
        task = self._add(work, name)
        task.add_done_callback(_log_failure)

    async def shield(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Return what the work returns; it goes on to its end where the caller is cancelled."""
        task = self._add(work, name)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # There is nobody left to whom it could be raised.
            task.add_done_callback(_log_failure)
            raise

    async def drain(self) -> None:
        """Return once no task runs any longer."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _add(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=f"spooled-{name}")
        # asyncio itself keeps no more than a weak reference to a task.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    # A refusal is meant for the caller, who is gone.
    if error is not None and not isinstance(error, RefusedError):
        _log.error("the task %s failed", task.get_name(), exc_info=error)
