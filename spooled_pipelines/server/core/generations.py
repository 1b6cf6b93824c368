"""What is refused about a batch's generations: the same for every store."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError, conflict
from spooled_pipelines.server.core.records import BatchOpening


def other_queue(opening: BatchOpening, queue_name: str) -> RefusedError:
    """The batch is on another queue."""
    return conflict(
        f"batch {opening.batch_id!r} is on queue {queue_name!r}, not {opening.queue_name!r}; "
        "use that queue, or another batch_id"
    )


def superseded(batch_id: str, meant: int, newest: int) -> RefusedError:
    """The batch's newest generation is not the one that was meant."""
    if meant > newest:
        return conflict(
            f"batch {batch_id!r} has no generation {meant} yet, the newest is {newest}; "
            "open it first"
        )
    return conflict(
        f"batch {batch_id!r} has begun anew: generation {meant} was meant, and the newest is "
        f"{newest}; whoever began it sends the rows now"
    )
