"""The event with which a trigger ends a task's wait, and statistics as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PartsMissingError,
    PermissionDeniedError,
    RateLimitError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.text import shorten

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats, QueueStats

# Trying again does not help.
NON_RETRYABLE = (InvalidArgumentError, NotFoundError, PartsMissingError, PermissionDeniedError)
# The server may be back soon.
OUTAGES = (UnavailableError, DeadlineExceededError, RateLimitError)
_COUNTS = ("total", "pending", "scheduled", "processing", "completed", "deadletter", "cancelled")
# Airflow writes an event whole to the task's log and keeps it in its database. The longest message
# of ours names five errors of 200 characters each.
_MESSAGE_MAX = 2_000


class EventStatus(str, Enum):
    """How a wait ended."""

    SETTLED = "settled"
    """As the task wanted: the event has the statistics."""
    FAILED = "failed"
    """More jobs failed than are allowed, or a queue is at what `fail_if` says."""
    TIMEOUT = "timeout"
    """The deadline came first."""
    FATAL = "fatal"
    """The wait could not go on, and another try would not help."""
    ERROR = "error"
    """The wait could not go on; another try may."""


@dataclass(frozen=True)
class WaitEvent:
    """The end of a wait, as a trigger tells it and the resumed task reads it.

    Attributes:
        status: how it ended.
        message: what is wrong, in full; empty where nothing is.
        stats: where the batches or the queue stood, as plain values; None where it is not known.
        batch: the trigger's batch, where it is one: a task that resumes has forgotten its own.
    """

    status: EventStatus
    message: str = ""
    stats: dict[str, Any] | None = None
    batch: dict[str, Any] | None = None

    @classmethod
    def of_error(cls, error: SpooledError) -> WaitEvent:
        """Return the event of a wait that could not go on."""
        fatal = isinstance(error, NON_RETRYABLE)
        return cls(EventStatus.FATAL if fatal else EventStatus.ERROR, error.message)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> WaitEvent:
        """Return the event that `to_payload` described."""
        return cls(
            EventStatus(payload["status"]),
            payload.get("message", ""),
            payload.get("stats"),
            payload.get("batch"),
        )

    def to_payload(self) -> dict[str, Any]:
        """Return it as plain values: Airflow stores and logs them."""
        payload: dict[str, Any] = {"status": self.status.value, "stats": self.stats}
        if self.message:
            payload["message"] = shorten(self.message, _MESSAGE_MAX)
        if self.batch is not None:
            payload["batch"] = self.batch
        return payload


def batch_stats_dict(stats: BatchStats) -> dict[str, Any]:
    """Return a batch's statistics as plain values, without error texts, which may quote rows."""
    values: dict[str, Any] = {
        "batch_id": stats.batch_id,
        "queue_name": stats.queue_name,
        "sealed": stats.sealed,
        "settled": stats.settled,
    }
    values.update({name: getattr(stats, name) for name in _COUNTS})
    for name in ("created_at", "changed_at"):
        moment = getattr(stats, name)
        values[name] = moment.isoformat() if moment is not None else None
    return values


def queue_stats_dict(stats: QueueStats) -> dict[str, Any]:
    """Return a queue's statistics as plain values; ``open`` counts the jobs not yet settled."""
    values = asdict(stats)
    values["open"] = stats.pending + stats.scheduled + stats.processing + stats.failed
    return values
