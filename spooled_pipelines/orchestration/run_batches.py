"""The batch of a run: its name, by which a re-run finds it, and its enqueue."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.display.batch_card import changed_text
from spooled_pipelines.errors import EmptyTableError, NotFoundError
from spooled_pipelines.orchestration.progress_log import ProgressLogger
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import OnRerun, PartOptions
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.types import BatchStats

_COUNTS = ("rows", "created", "duplicates", "changed", "replaced", "rejected")


def run_batch_name(*parts: object) -> str:
    """Return the parts with slashes between them, shortened by a digest where that is too long."""
    name = "/".join(str(part) for part in parts)
    if len(name) <= limits.BATCH_NAME_MAX:
        return name
    digest = blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: limits.BATCH_NAME_MAX - len(digest) - 1]}~{digest}"


def run_batch_id(client: SpooledClient, queue_name: str, name: str) -> str:
    """Return the id that the batch of this name has, before it is enqueued."""
    from spooled_pipelines.batch.staging.idempotency import KeyScope, batch_id

    return batch_id(KeyScope(queue_name, name, key_name=client.key_name(queue_name)), 0, 0)


def maker_of_attempt(maker: str, *attempt: object) -> str:
    """Return what made a batch, with a digest of the attempt whose retries are to know it again."""
    digest = blake2b(repr(attempt).encode(), digest_size=8).hexdigest()
    return f"{maker[: limits.BATCH_NAME_MAX - len(digest) - 1]}/{digest}"


def continue_started_over(client: SpooledClient, batch_id: str, on_rerun: OnRerun) -> OnRerun:
    """Return "retry_failed" in place of "fresh" where this attempt has started the batch over.

    A retry then continues with what an earlier try has begun: its jobs are not done twice.

    Args:
        client: made with what `maker_of_attempt` gave.
        batch_id: the batch's.
        on_rerun: what was asked for.
    """
    if on_rerun != "fresh" or not client.batch_backend().keeps_batches:
        return on_rerun
    try:
        stats = client.batch(batch_id).stats()
    except NotFoundError:
        return on_rerun
    return "retry_failed" if stats.made_by == client.settings.made_by else on_rerun


def warn_of_another_maker(client: SpooledClient, batch_id: str, log: Any) -> BatchStats | None:
    """Return what is there of a batch; warn if another pipeline has made it.

    Pipelines are told apart by the first two parts of what made a batch: the orchestrator, and the
    DAG, flow or job.
    """
    try:
        stats = client.batch(batch_id).stats()
    except NotFoundError:
        return None
    theirs, ours = (maker.split("/")[:2] for maker in (stats.made_by, client.settings.made_by))
    if stats.made_by and theirs != ours:
        log.warning(
            "Batch %s, %r on queue %s, was made by %s, not by %s: rows with the keys of its jobs "
            "become no jobs. Leave name= out, or make a name of this pipeline a part of it.",
            *(batch_id, stats.name, stats.queue_name, stats.made_by, "/".join(ours)),
        )
    return stats


def retry_cancelled(client: SpooledClient, batch_id: str) -> int:
    """Retry what an earlier kill cancelled: it is wanted again, now that the run goes on."""
    batch = client.batch(batch_id)
    return batch.retry_failed(cancelled=True) if batch.stats().cancelled else 0


def enqueue_for_run(
    client: SpooledClient,
    data: Any,
    queue_name: str,
    name: str,
    *,
    on_rerun: OnRerun,
    log: Any,
    progress: Callable[[int, int], object] | None = None,
    **options: Unpack[PartOptions],
) -> dict[str, Any]:
    """Enqueue a table as the batch of a run, and return `Batch.to_dict`, with all counts.

    A table without rows makes a batch without jobs, which is settled. With ``"retry_failed"``
    what an earlier run of the same batch has cancelled is wanted again; a server that keeps no
    batches has nothing to retry, and only gets what is missing.

    Args:
        log: the run's logger.
        progress: called with the rows that are sent, and all rows.
        client, data, queue_name, name, on_rerun, options: as of `SpooledClient.enqueue_batch`.

    Raises:
        InvalidArgumentError: the data or an option is wrong; nothing was sent.
    """
    if on_rerun == "retry_failed" and not client.batch_backend().supports_retry:
        log.info("This server keeps no batches: its dead letters cannot be retried")
        on_rerun = "resume"
    if client.batch_backend().keeps_batches:
        warn_of_another_maker(client, run_batch_id(client, queue_name, name), log)
    logged = ProgressLogger(log)

    def sent(done: int, rows: int) -> None:
        logged.sent(done, rows)
        if progress is not None:
            progress(done, rows)

    try:
        enqueued = client.enqueue_batch(
            data, queue_name, name=name, on_rerun=on_rerun, progress=sent, **options
        )
        batch = enqueued.to_dict()
    except EmptyTableError as error:
        log.info(error.message)
        empty = client.open_batch(name, queue_name).seal()
        batch = {**empty.to_dict(), **dict.fromkeys(_COUNTS, 0)}
    if on_rerun == "retry_failed":
        batch["retried"] += retry_cancelled(client, batch["batch_id"])
    log.info(describe_enqueued(batch))
    return batch


def describe_enqueued(batch: dict[str, Any]) -> str:
    """Return what an enqueue did, in one line."""
    changed = ""
    if batch["changed"]:
        changed = f"changed: {changed_text(batch['changed'], batch['replaced'])}, "
    return (
        f"Batch {batch['batch_id']} on queue {batch['queue_name']}: {batch['rows']} rows, "
        f"{batch['created']} jobs created, {batch['duplicates']} duplicates, {changed}"
        f"{batch['rejected']} rejected, {batch['retried']} retried"
    )
