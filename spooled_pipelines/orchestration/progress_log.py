"""Where a batch or a queue stands, in the task's log: a line for each step, not for each look."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats, QueueStats


class ProgressLogger:
    """Logs a line whenever a step differs from the one before.

    Args:
        log: takes a line, such as a logger's ``info``.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._step: object = None

    def sent(self, sent: int, rows: int) -> None:
        """Log how many rows are sent, once for each tenth of them."""
        tenth = sent * 10 // max(rows, 1)
        if tenth:
            self.step(tenth, f"{sent} of {rows} rows sent")

    def batch(self, stats: BatchStats) -> None:
        """Log where a batch stands, once for each tenth that is done and each change of stalls."""
        self.step(batch_step(stats), describe_batch(stats))

    def queue(self, stats: QueueStats) -> None:
        """Log where a queue stands, whenever that changes."""
        line = describe_queue(stats)
        self.step(line, line)

    def step(self, step: object, line: str) -> None:
        """Log the line, unless the step is the same as the last time."""
        if step != self._step:
            self._step = step
            self._log(line)


def batch_step(stats: BatchStats) -> object:
    """Return a value that changes with each tenth done and with what holds the batch back."""
    done = stats.total - stats.open
    tenth = done * 10 // stats.total if stats.total else 0
    return tenth, tuple(stall.cause for stall in stats.stalls)


def describe_batch(stats: BatchStats) -> str:
    """Return where a batch stands, in one line, with what holds it back."""
    # The sums of several batches have their number for an id.
    batch = stats.batch_id if " " in stats.batch_id else f"Batch {stats.batch_id}"
    line = (
        f"{batch} on queue {stats.queue_name}: {stats.completed} of {stats.total} "
        f"jobs completed, {stats.failed} failed, {stats.processing} in work, "
        f"{stats.pending + stats.scheduled} waiting."
    )
    return " ".join([line, *(stall.message for stall in stats.stalls)])


def describe_queue(stats: QueueStats) -> str:
    """Return where a queue stands, in one line."""
    return (
        f"Queue {stats.queue_name}: {stats.pending} pending, {stats.scheduled} scheduled, "
        f"{stats.processing} in work, {stats.failed} to be tried again, {stats.completed} "
        f"completed, {stats.deadletter} dead letters."
    )
