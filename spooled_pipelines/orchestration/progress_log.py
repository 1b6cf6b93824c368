"""Where a batch or a queue stands, in the task's log: a line for each step, not for each look."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.outcome.verdict import describe_waiting

if TYPE_CHECKING:
    from spooled_pipelines.errors import SpooledError
    from spooled_pipelines.types import BatchStats, QueueStats


_MINUTE = 60.0


class ProgressLogger:
    """Logs a line whenever a step differs from the one before, and when the server goes or is back.

    Args:
        log: the task's logger.
        server: what to call it where it goes away, such as "The server of …".
        clock: for tests.
    """

    def __init__(
        self, log: Any, server: str = "The server", clock: Callable[[], float] = monotonic
    ) -> None:
        self._log = log
        self._server = server
        self._clock = clock
        self._step: object = None
        self._logged_at = clock()
        self._away_since: float | None = None

    def sent(self, sent: int, rows: int) -> None:
        """Log how many rows are sent, once for each tenth of them."""
        tenth = sent * 10 // max(rows, 1)
        if tenth:
            self.step(tenth, f"{sent} of {rows} rows sent")

    def batch(self, stats: BatchStats) -> None:
        """Log where a batch stands, once for each tenth that is done and each change of stalls."""
        self.step(batch_step(stats), describe_batch(stats))

    def queue(self, stats: QueueStats) -> None:
        """Log where a queue stands: for each tenth that is done, and each minute that it moves."""
        if self._clock() - self._logged_at >= _MINUTE:
            self._step = None
        self.step(queue_step(stats), describe_queue(stats))

    def outage(self, outage: SpooledError | None) -> None:
        """Log that the server went away, or is back, where it is news."""
        if outage is not None and self._away_since is None:
            self._away_since = self._clock()
            message = "%s is away, and this task keeps waiting. %s"
            self._log.warning(message, self._server, outage.message)
        elif outage is None and self._away_since is not None:
            seconds = self._clock() - self._away_since
            self._log.info("%s is back after %.0f s.", self._server, seconds)
            self._away_since = None

    def step(self, step: object, line: str) -> None:
        """Log the line, unless the step is the same as the last time."""
        if step != self._step:
            self._step = step
            self._logged_at = self._clock()
            self._log.info(line)


def batch_step(stats: BatchStats) -> object:
    """Return a value that changes with each tenth done and with what holds the batch back."""
    done = stats.total - stats.open
    tenth = done * 10 // stats.total if stats.total else 0
    return tenth, tuple(stall.cause for stall in stats.stalls)


def queue_step(stats: QueueStats) -> object:
    """Return a value that changes with each tenth done, and with the last job."""
    done = stats.completed + stats.deadletter
    return done * 10 // stats.total if stats.total else None, done == stats.total


def describe_batch(stats: BatchStats) -> str:
    """Return where a batch stands, in one line, with what holds it back."""
    # The sums of several batches have their number for an id.
    batch = stats.batch_id if " " in stats.batch_id else f"Batch {stats.batch_id}"
    line = (
        f"{batch} on queue {stats.queue_name}: {stats.completed} of {stats.total} "
        f"jobs completed, {stats.failed} failed, {stats.processing} in work, "
        f"{stats.pending + stats.scheduled} waiting."
    )
    waiting = describe_waiting(stats.waiting, stats.waiting_errors)
    return " ".join([line, *(stall.message for stall in stats.stalls), *waiting])


def describe_queue(stats: QueueStats) -> str:
    """Return where a queue stands, in one line."""
    if not stats.total:
        return f"Queue {stats.queue_name}: the server knows no job of it. Is this its name?"
    return (
        f"Queue {stats.queue_name}: {stats.pending} pending, {stats.scheduled} scheduled, "
        f"{stats.processing} in work, {stats.failed} to be tried again, {stats.completed} "
        f"completed, {stats.deadletter} dead letters."
    )
