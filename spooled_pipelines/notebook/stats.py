"""The state of a batch, as a card and as a line."""

from __future__ import annotations

from datetime import datetime, timezone

from spooled_pipelines import BatchStats
from spooled_pipelines.batch.display.html_card import Card, duration
from spooled_pipelines.batch.display.progress import ThroughputEstimator
from spooled_pipelines.text import one_line, percent

_ERROR_SIGNS = 200
# Readable on white and on black, and distinguishable without telling red from green.
_COLOURS = {"completed": "#2e9e6b", "failed": "#d1495b", "running": "#3d7dca"}


def stats_card(
    stats: BatchStats,
    throughput: ThroughputEstimator,
    elapsed: float | None = None,
    state: str = "",
) -> Card:
    """Return a card with a batch's counts, throughput, stalls and errors.

    `elapsed` is how many seconds it has been watched, None if it is not; `state` replaces
    throughput and stalls.
    """
    done = stats.completed + stats.failed
    share = f" ({percent(done, stats.total)})" if stats.total else ""
    facts = [("done", f"{done:,} of {stats.total:,} jobs{share}")]
    facts += [
        (name, f"{count:,}")
        for name, count in (
            ("completed", stats.completed),
            ("dead", stats.deadletter),
            ("cancelled", stats.cancelled),
            ("running", stats.processing),
            ("waiting", stats.pending - stats.waiting),
            ("retrying", stats.waiting),
            ("due later", stats.scheduled),
        )
        if count
    ]
    lines = []
    if stats.settled:
        facts.append(("state", "settled"))
    elif state:
        facts.append(("state", state))
    else:
        rate = None if elapsed is None else throughput.rate()
        if rate:
            facts.append(("rate", f"{rate:,.1f} jobs/s"))
        left = throughput.left(stats.open)
        # Pauses before retries follow no rate.
        if elapsed is not None and stats.waiting < stats.open:
            facts.append(("time left", "not known" if left is None else duration(left)))
        if not stats.sealed:
            lines.append("Not sealed yet: more jobs may come.")
        # What waits for its retry is said below, with its error.
        said = "all_due_later" if stats.waiting_errors else None
        lines += [f"Held back: {s.message}" for s in stats.stalls if s.cause != said]
    if elapsed is not None:
        facts.append(("watched for", duration(elapsed)))
    lines += [f"{count:,} × {one_line(error, _ERROR_SIGNS)}" for error, count in stats.top_errors]
    lines += retry_lines(stats)
    total = max(stats.total, 1)
    bar = [
        (stats.completed / total, _COLOURS["completed"]),
        (stats.failed / total, _COLOURS["failed"]),
        (stats.processing / total, _COLOURS["running"]),
    ]
    named = f"{stats.name} ({stats.batch_id})" if stats.name else stats.batch_id
    return Card(f"Batch {named} on {stats.queue_name}", facts, lines, bar)


def retry_lines(stats: BatchStats) -> list[str]:
    """Return with which errors jobs wait for their retry, and when the next is tried."""
    now = datetime.now(timezone.utc)
    return [
        f"{waiting.count:,} to be retried, the next in "
        f"{duration(max(0.0, (waiting.next_at - now).total_seconds()))}: "
        f"{one_line(waiting.error, _ERROR_SIGNS)}"
        for waiting in stats.waiting_errors
    ]


def stats_line(stats: BatchStats) -> str:
    """Return what a bar does not show: what failed, what runs, and why nothing moves."""
    counts = {"failed": stats.failed, "running": stats.processing, "due later": stats.scheduled}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join([*parts, *retry_lines(stats)[:1], *(s.message for s in stats.stalls[:1])])
