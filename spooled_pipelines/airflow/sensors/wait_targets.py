"""What a sensor can wait for, batches or a queue: one look at it, and the trigger that waits on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spooled_pipelines.airflow.arguments import queue_condition
from spooled_pipelines.airflow.arguments.queue_condition import OnMissing
from spooled_pipelines.airflow.handover.batch_look import PokeResult, look_at_batches, seal_parts
from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.handover.events import queue_stats_dict
from spooled_pipelines.airflow.platform.versions import AirflowFailException
from spooled_pipelines.airflow.triggers import BatchTrigger, QueueTrigger, SpooledTrigger
from spooled_pipelines.orchestration.progress_log import describe_queue, queue_step

if TYPE_CHECKING:
    from spooled_pipelines.client.sync.client import SpooledClient


class WaitTarget(Protocol):
    """Something that a task waits for."""

    def poke(self, client: SpooledClient) -> PokeResult:
        """Look once.

        Raises:
            AirflowFailException: it has failed, and another try would not help.
            SpooledError: nothing could be learned.
        """

    def trigger(
        self, spooled_conn_id: str, deadline: float, cancel_on_kill: bool
    ) -> SpooledTrigger:
        """Return what waits for it in the triggerer."""


@dataclass(frozen=True)
class BatchTarget:
    """Batches, judged together."""

    batches: Sequence[BatchRef]
    max_failed: float
    allow_expired: bool = False

    def poke(self, client: SpooledClient) -> PokeResult:
        """As `WaitTarget.poke`; seals the batches that came in parts first."""
        seal_parts(client, self.batches)
        return look_at_batches(client, self.batches, self.max_failed, self.allow_expired)

    def trigger(self, spooled_conn_id: str, deadline: float, cancel_on_kill: bool) -> BatchTrigger:
        """As `WaitTarget.trigger`."""
        arguments = (spooled_conn_id, self.max_failed, deadline, cancel_on_kill)
        return BatchTrigger.waiting_for(self.batches, *arguments, self.allow_expired)


@dataclass(frozen=True)
class QueueTarget:
    """A queue whose statistics are to fulfil a condition.

    Raises:
        InvalidArgumentError: a text is not a condition.
    """

    queue_name: str
    until: str
    fail_if: str | None
    on_missing: OnMissing = "wait"

    def __post_init__(self) -> None:
        queue_condition.parse(self.until, "until")
        if self.fail_if is not None:
            queue_condition.parse(self.fail_if, "fail_if")

    def poke(self, client: SpooledClient) -> PokeResult:
        """As `WaitTarget.poke`."""
        queue = client.queue_stats(self.queue_name)
        stats, description = queue_stats_dict(queue), describe_queue(queue)
        missing = not queue.total
        if missing and self.on_missing == "fail":
            raise AirflowFailException(description)
        if self.fail_if and queue_condition.parse(self.fail_if, "fail_if")(stats):
            raise AirflowFailException(f"{description} That is {self.fail_if}.")
        waits = missing and self.on_missing == "wait"
        done = not waits and queue_condition.parse(self.until, "until")(stats)
        return PokeResult(done, stats, description, queue_step(queue))

    def trigger(
        self,
        spooled_conn_id: str,
        deadline: float,
        cancel_on_kill: bool,  # noqa: ARG002 - nobody knows whose the jobs of a queue are
    ) -> QueueTrigger:
        """As `WaitTarget.trigger`."""
        waits = (spooled_conn_id, deadline, self.on_missing)
        return QueueTrigger(self.queue_name, self.until, self.fail_if, *waits)
