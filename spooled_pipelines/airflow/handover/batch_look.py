"""One look at batches that are waited for or worked on, judged together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from spooled_pipelines.airflow.handover.batch_refs import BatchGroupStats, BatchRef, clear_advice
from spooled_pipelines.airflow.handover.events import batch_stats_dict
from spooled_pipelines.airflow.platform.versions import AirflowFailException
from spooled_pipelines.batch.outcome.verdict import breached, failed_error
from spooled_pipelines.orchestration.progress_log import batch_step, describe_batch
from spooled_pipelines.types import BatchStats

if TYPE_CHECKING:
    from spooled_pipelines.client.sync.client import SpooledClient


class PokeResult(NamedTuple):
    """What a look found.

    Attributes:
        done: whether the wait is over.
        stats: the statistics, as plain values.
        description: the statistics, in words.
        step: changes when the description is worth a line in the log.
    """

    done: bool
    stats: dict[str, Any]
    description: str
    step: object


def seal_parts(client: SpooledClient, batches: Sequence[BatchRef]) -> None:
    """Seal the batches that came in parts."""
    for batch in batches:
        # All parts are in, as far as Airflow knows; the server knows better.
        if batch.opened is not None and batch.parts:
            expected = [part["part_id"] for part in batch.parts]
            client.open_batch(batch.opened).seal(expected, added=batch.parts)


def look_at_batches(
    client: SpooledClient, batches: Sequence[BatchRef], max_failed: float, allow_expired: bool
) -> PokeResult:
    """Look once.

    Raises:
        AirflowFailException: too many jobs failed, and another try would not help.
        SpooledError: nothing could be learned.
    """
    if not batches:
        none = BatchStats("0 batches", "0 queues", sealed=True, settled=True)
        return PokeResult(True, batch_stats_dict(none), "", None)
    group = BatchGroupStats(batch.batch_id for batch in batches)
    for stats in client.batch_stats([batch.to_dict() for batch in batches]):
        group.update(stats)
    now = group.total()
    if now is None:
        raise AirflowFailException("there is no batch to wait for")
    if breached(now, max_failed, allow_expired):
        message = failed_error(now, max_failed).message
        raise AirflowFailException(f"{message} {clear_advice(batches)}")
    return PokeResult(now.settled, batch_stats_dict(now), describe_batch(now), batch_step(now))
