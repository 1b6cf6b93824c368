"""What can be waited for, batches or a queue: one look at it, and the trigger that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow.sdk.exceptions import AirflowFailException

from spooled_pipelines.airflow.batch_refs import Together, without_parts
from spooled_pipelines.airflow.events import (
    queue_dict,
    queue_standing,
    standing,
    stats_dict,
    step_of,
)
from spooled_pipelines.airflow.sensors.queue_condition import check_conditions
from spooled_pipelines.airflow.triggers.batch import BatchTrigger, QueueTrigger
from spooled_pipelines.batch.outcome.verdict import breached, failed_error

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.types import BatchStats


class Look(NamedTuple):
    """What was found: whether the wait is over, the statistics as a plain dict and in words.

    ``step`` changes where that is worth a line in the log.
    """

    done: bool
    stats: dict[str, Any]
    standing: str
    step: object


class Wait(Protocol):
    """Something that a task waits for."""

    def look(self, client: SpooledClient) -> Look:
        """Where it stands now.

        Raises:
            AirflowFailException: it has failed; no use in trying again.
            SpooledError: nothing could be learned.
        """

    def trigger(
        self, spooled_conn_id: str, deadline: float | None, cancel_on_kill: bool
    ) -> BaseTrigger:
        """What waits for it in the triggerer."""


@dataclass(frozen=True)
class BatchWait:
    """Batches, judged together."""

    batches: Sequence[dict[str, Any]]
    max_failed: float

    def look(self, client: SpooledClient) -> Look:
        """As `Wait.look`."""
        _seal(client, self.batches)
        together = Together(batch["batch_id"] for batch in self.batches)
        for one in _stats(client, self.batches):
            together.put(one)
        now = together.stats()
        if now is None:
            raise AirflowFailException("there is no batch to wait for")
        if breached(now, self.max_failed):
            raise AirflowFailException(failed_error(now, self.max_failed).message)
        return Look(now.settled, stats_dict(now), standing(now), step_of(now))

    def trigger(
        self, spooled_conn_id: str, deadline: float | None, cancel_on_kill: bool
    ) -> BatchTrigger:
        """As `Wait.trigger`."""
        plain = [without_parts(batch) for batch in self.batches]
        one_or_more = plain[0] if len(plain) == 1 else plain
        return BatchTrigger(one_or_more, spooled_conn_id, self.max_failed, deadline, cancel_on_kill)


@dataclass(frozen=True)
class QueueWait:
    """A queue whose statistics shall fulfil a condition."""

    queue_name: str
    until: str
    fail_if: str | None

    def look(self, client: SpooledClient) -> Look:
        """As `Wait.look`."""
        found = client.queue_stats(self.queue_name)
        stats, line = queue_dict(found), queue_standing(found)
        if self.fail_if and check_conditions(self.fail_if, "fail_if")(stats):
            raise AirflowFailException(f"{line} That is {self.fail_if}.")
        return Look(check_conditions(self.until, "until")(stats), stats, line, line)

    def trigger(
        self,
        spooled_conn_id: str,
        deadline: float | None,
        cancel_on_kill: bool,  # noqa: ARG002 - whose the jobs of a queue are is not known
    ) -> QueueTrigger:
        """As `Wait.trigger`."""
        return QueueTrigger(self.queue_name, self.until, self.fail_if, spooled_conn_id, deadline)


def _seal(client: SpooledClient, batches: Sequence[dict[str, Any]]) -> None:
    """All parts of a batch are in, as far as Airflow knows; the server knows better."""
    for batch in batches:
        if "parts" in batch:
            expected = [part["part_id"] for part in batch["parts"]]
            client.open_batch(batch["opened"]).seal(expected, added=batch["parts"])


def _stats(client: SpooledClient, batches: Sequence[dict[str, Any]]) -> list[BatchStats]:
    from spooled_pipelines.batch.sync.rpcs import stats_of

    if client.calls.speaks_batches():
        return stats_of(client.calls, [batch["batch_id"] for batch in batches])
    return [client.batch(without_parts(batch)).stats() for batch in batches]
