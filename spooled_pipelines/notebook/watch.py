"""`watch`: a bar that follows a batch to its end."""

from __future__ import annotations

from spooled_pipelines import Batch, BatchStats
from spooled_pipelines.notebook.progress import move_to, progress_bar
from spooled_pipelines.notebook.summary import Enqueued


def watch(batch: Batch | Enqueued) -> BatchStats:
    """Follow a batch until each of its jobs is settled, and return where it stands then.

    Failed jobs are shown, not raised. Interrupt the kernel to stop looking; the jobs go on.
    """
    followed = batch.batch if isinstance(batch, Enqueued) else batch
    stats: BatchStats | None = None
    bar = progress_bar(None, "done", " jobs")
    try:
        for stats in followed.watch():
            bar.set_postfix_str(_others(stats), refresh=False)
            move_to(bar, stats.completed + stats.failed, stats.total)
    finally:
        bar.close()
    return stats if stats is not None else followed.stats()


def _others(stats: BatchStats) -> str:
    counts = {"failed": stats.failed, "running": stats.processing, "due later": stats.scheduled}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join([*parts, *(stall.message for stall in stats.stalls[:1])])
