"""What a run shows of its batch: a progress artifact, and a card with counts, errors and a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import prefect.runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Artifact

    from spooled_pipelines.prefect.spooled_batch import SpooledBatch
    from spooled_pipelines.types import BatchStats

# In an artifact's metadata: what `cancel_batches` and `resume_settled_flows` look for.
BATCH_ID, BLOCK, UNSAVED = "spooled_batch", "spooled_block", "spooled_unsaved"
MAX_FAILED, ALLOW_EXPIRED = "spooled_max_failed", "spooled_allow_expired"


class ProgressArtifact:
    """A progress bar in the run's page, which is moved by at least a tenth at a time.

    Args:
        what: what is going on, in a few words.
        batch_id: the batch that it is about.
        block: the name of the block with the credentials.
        metadata: more to find the artifact by.
    """

    def __init__(self, what: str, batch_id: str, block: str | None, **metadata: str) -> None:
        named = {BATCH_ID: batch_id, **({} if block is None else {BLOCK: block}), **metadata}
        created = _create("progress", 0.0, f"{what} batch {batch_id}", named)
        self._id: UUID = created.id
        self._tenth = 0

    def move(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done, unless that is the same tenth as before."""
        tenth = done * 10 // total if total else 10
        if tenth != self._tenth:
            self._tenth = tenth
            shown = 100.0 * done / total if total else 100.0
            with get_client(sync_client=True) as client:
                client.update_artifact(self._id, ArtifactUpdate(data=shown))


def card(batch: SpooledBatch, stats: BatchStats | None) -> None:
    """Show what the enqueue did, or where the batch stands, as a markdown artifact."""
    _create("markdown", markdown(batch, stats), None, {BATCH_ID: batch.id})


def markdown(batch: SpooledBatch, stats: BatchStats | None) -> str:
    """Return the card of a batch as markdown; texts of others are shown as they are written."""
    counts = {n: batch.record.get(n) for n in ("rows", "created", "duplicates", "rejected")}
    if batch.record.get("changed"):
        counts |= {n: batch.record[n] for n in ("changed", "replaced")}
    if stats is not None:
        counts = {n: getattr(stats, n) for n in ("total", "completed", "deadletter", "cancelled")}
        counts["open"] = stats.open
    name, queue_name = batch.name, batch.queue_name
    if stats is not None:
        name, queue_name = stats.name, stats.queue_name
    title = f"[{name}]({batch.url})" if batch.url else _code(name)
    lines = [
        f"### {title}",
        "",
        f"Batch {_code(batch.id)} on queue {_code(queue_name)}",
        "",
        "| " + " | ".join(counts) + " |",
        "|" + " ---: |" * len(counts),
        "| " + " | ".join(f"{count:,}" for count in counts.values() if count is not None) + " |",
    ]
    if stats is not None and stats.top_errors:
        lines += ["", "| jobs | error |", "| ---: | --- |"]
        # The first line of an error says what it is; the others are where it happened.
        lines += [f"| {n:,} | {_code(e.partition(chr(10))[0])} |" for e, n in stats.top_errors]
    return "\n".join(lines)


def _code(text: str) -> str:
    """Return text as code within a table, whatever is in it."""
    shown = text.replace("`", "'").replace("|", "¦").replace("\n", " ")
    return f"`{shown}`"


def _create(kind: str, data: Any, description: str | None, metadata: dict[str, str]) -> Artifact:
    flow_run, task_run = prefect.runtime.flow_run.id, prefect.runtime.task_run.id
    with get_client(sync_client=True) as client:
        return client.create_artifact(
            ArtifactCreate(
                type=kind,
                data=data,
                description=description,
                metadata_=metadata,
                flow_run_id=UUID(str(flow_run)) if flow_run else None,
                task_run_id=UUID(str(task_run)) if task_run else None,
            )
        )
