"""What the sensor and its trigger say about a batch: in the log, in events, errors and XCom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import (
    BatchError,
    InvalidArgumentError,
    NotFoundError,
    PartsMissingError,
    PermissionDeniedError,
    SpooledError,
)

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats, QueueStats

_COUNTS = ("total", "pending", "scheduled", "processing", "completed", "deadletter", "cancelled")
# Airflow writes an event whole to the task's log and keeps it in its database.
_EVENT_TEXT_MAX = 400
# What does not get better by trying again.
HOPELESS = (InvalidArgumentError, NotFoundError, PartsMissingError, PermissionDeniedError)


def stats_dict(stats: BatchStats) -> dict[str, Any]:
    """The statistics as plain values for XCom and events: no error texts, which may quote rows."""
    shown: dict[str, Any] = {
        "batch_id": stats.batch_id,
        "queue_name": stats.queue_name,
        "sealed": stats.sealed,
        "settled": stats.settled,
    }
    shown.update({name: getattr(stats, name) for name in _COUNTS})
    for name in ("created_at", "changed_at"):
        moment = getattr(stats, name)
        shown[name] = moment.isoformat() if moment is not None else None
    return shown


def queue_dict(stats: QueueStats) -> dict[str, Any]:
    """A queue's statistics as plain values; ``open`` are those that are not settled."""
    shown = asdict(stats)
    shown["open"] = stats.pending + stats.scheduled + stats.processing + stats.failed
    return shown


def ended_event(status: str, error: BatchError) -> dict[str, Any]:
    """The event for a batch that did not end as asked: ``"failed"`` or ``"timeout"``."""
    stats = None if error.stats is None else stats_dict(error.stats)
    return {"status": status, "stats": stats, "message": shortened(error.message)}


def error_event(error: SpooledError) -> dict[str, Any]:
    """The event for a wait that could not go on."""
    status = "hopeless" if isinstance(error, HOPELESS) else "error"
    return {"status": status, "message": shortened(error.message)}


def shortened(text: str) -> str:
    """Short enough for an event."""
    return text if len(text) <= _EVENT_TEXT_MAX else text[: _EVENT_TEXT_MAX - 1] + "…"


class Tenths:
    """Says how many rows are sent, each time another tenth is: called with (sent, all)."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = 0

    def __call__(self, sent: int, rows: int) -> None:
        tenth = sent * 10 // max(rows, 1)
        if tenth > self._told:
            self._told = tenth
            self._say(f"{sent} of {rows} rows sent")


class Steps:
    """Says where something stands each time that its step is another: called with both."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: object = None

    def __call__(self, step: object, line: str) -> None:
        if step != self._told:
            self._told = step
            self._say(line)


class Progress:
    """Says where a batch stands each time another tenth is done, or something else stalls it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._steps = Steps(say)

    def __call__(self, stats: BatchStats) -> None:
        self._steps(step_of(stats), standing(stats))


def step_of(stats: BatchStats) -> object:
    """Changes with each tenth that is done, and with what holds the batch back."""
    done = stats.total - stats.open
    tenth = done * 10 // stats.total if stats.total else 0
    return tenth, tuple(stall.cause for stall in stats.stalls)


def standing(stats: BatchStats) -> str:
    """Where a batch stands, in one line, with what holds it back."""
    # Several are called by how many they are.
    batch = stats.batch_id if " " in stats.batch_id else f"Batch {stats.batch_id}"
    line = (
        f"{batch} on queue {stats.queue_name}: {stats.completed} of {stats.total} "
        f"jobs completed, {stats.failed} failed, {stats.processing} in work, "
        f"{stats.pending + stats.scheduled} waiting."
    )
    return " ".join([line, *(stall.message for stall in stats.stalls)])


def queue_standing(stats: QueueStats) -> str:
    """Where a queue stands, in one line."""
    return (
        f"Queue {stats.queue_name}: {stats.pending} pending, {stats.scheduled} scheduled, "
        f"{stats.processing} in work, {stats.failed} to be tried again, {stats.completed} "
        f"completed, {stats.deadletter} dead letters."
    )
