"""The state of a queue, a batch and a job, as a word and a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.wire.batch_v1 import BatchStats
from spooled_pipelines.wire.queue_admin_v1 import Queue

# In the order of the bar: what is over first, then what runs, then what waits.
_ORDER = ("completed", "deadletter", "cancelled", "processing", "pending", "scheduled")
LABELS = {
    "completed": "completed",
    "deadletter": "dead letters",
    "cancelled": "cancelled",
    "processing": "running",
    "pending": "pending",
    "scheduled": "scheduled",
    "failed": "failed",
}
# In percent, so that even a single job can be seen.
_THINNEST = 0.6


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a progress bar; `start` and `width` are percent."""

    status: str
    label: str
    jobs: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class State:
    """A state in a word; `kind` colours it: good, bad, busy, held or idle."""

    kind: str
    word: str
    sentence: str = ""


def segments(counts: Sequence[tuple[str, int]]) -> list[Segment]:
    """Return the parts of a bar that are not empty."""
    known = dict(counts)
    total = sum(known.values())
    if not total:
        return []
    present = [(status, known[status]) for status in _ORDER if known.get(status)]
    widths = [max(100 * count / total, _THINNEST) for _, count in present]
    scale = 100 / sum(widths)
    found, start = [], 0.0
    for (status, count), width in zip(present, widths, strict=True):
        found.append(
            Segment(status, LABELS[status], count, round(start, 3), round(width * scale, 3))
        )
        start += width * scale
    return found


def counts_of(stats: Any, cancelled: int | None = None) -> list[tuple[str, int]]:
    """Return the counters of a message that has a field for each status."""
    found = [(name, getattr(stats, name, 0)) for name in _ORDER if name != "cancelled"]
    return [*found, ("cancelled", stats.cancelled if cancelled is None else cancelled)]


def queue_state(queue: Queue) -> State:
    """Return what a queue is doing."""
    stats = queue.stats
    if queue.paused:
        return State("held", "paused", "Nobody gets a job of it until it is resumed.")
    if stats.processing:
        return State("busy", "running")
    if stats.pending or stats.scheduled:
        retry = stats.pending == queue.waiting and not stats.scheduled
        return State("idle", "retrying" if retry else "waiting")
    return State("idle", "empty")


def batch_state(stats: BatchStats) -> State:
    """Return what a batch is doing, or how it ended."""
    if stats.settled:
        return _verdict(stats)
    if not stats.sealed:
        return State("busy", "filling", "Its last row is not in yet.")
    if stats.waiting and stats.waiting == stats.pending + stats.scheduled + stats.processing:
        return State("held", "retrying", "All that is open waits for its retry.")
    if stats.stalls and not stats.processing:
        return State("held", "stalled", "Nothing moves right now; the reasons are below.")
    return State("busy", "working")


def _verdict(stats: BatchStats) -> State:
    if stats.deadletter:
        rows = "row" if stats.deadletter == 1 else "rows"
        return State("bad", "failed in part", f"{stats.deadletter} {rows} became dead letters.")
    if stats.cancelled:
        return State("held", "cancelled", f"{stats.cancelled} jobs were cancelled.")
    if not stats.total:
        return State("idle", "empty", "It was sealed without a row.")
    return State("good", "completed", "Every row is done.")


def job_state(status: int) -> State:
    """Return what a job is doing."""
    name = Status.NAMES.get(status, "failed")
    kinds = {"completed": "good", "deadletter": "bad", "processing": "busy", "cancelled": "held"}
    word = "dead letter" if name == "deadletter" else LABELS[name]
    return State(kinds.get(name, "idle"), word)
