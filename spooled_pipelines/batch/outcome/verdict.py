"""The verdict on a batch, which belongs to the one who waits; that it is settled is a fact."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timezone
from typing import Literal, NamedTuple, TypeAlias, get_args

from spooled_pipelines.errors import (
    BatchFailedError,
    BatchTimeoutError,
    InvalidArgumentError,
    SpooledError,
)
from spooled_pipelines.rpc import validation
from spooled_pipelines.text import one_line, shown
from spooled_pipelines.types import BatchStats, CancelResult, WaitingError

OnBreach: TypeAlias = Literal["raise", "stop"]

log = logging.getLogger("spooled_pipelines.batch")


class Rule(NamedTuple):
    """What makes a batch a failure for the one who waits, and what happens then."""

    max_failed: float = 0
    on_breach: OnBreach = "raise"
    allow_expired: bool = False

    def check(self) -> None:
        """Raise InvalidArgumentError for what is wrong in it."""
        check_max_failed(self.max_failed)
        validation.one_of(self.on_breach, "on_breach", get_args(OnBreach))


def check_max_failed(max_failed: float) -> None:
    """Raise unless it is a count of jobs (int) or a share of them (float from 0 to 1)."""
    if isinstance(max_failed, bool) or not isinstance(max_failed, (int, float)):
        raise InvalidArgumentError(
            "max_failed must be a number of jobs such as 10, or a share of them such as 0.05, got "
            f"{max_failed!r}"
        )
    if max_failed < 0 or (isinstance(max_failed, float) and not max_failed <= 1):
        raise InvalidArgumentError(
            f"max_failed must be 0 or more, and a share (a float) at most 1.0, got {max_failed!r}"
        )


def breached(stats: BatchStats, max_failed: float, allow_expired: bool = False) -> bool:
    """Return whether more jobs failed than allowed, whatever becomes of the open ones.

    A share is certain only once the batch is sealed: until then there may be more jobs.
    """
    failed = stats.failed - (stats.expired if allow_expired else 0)
    if isinstance(max_failed, int):
        return failed > max_failed
    return stats.sealed and failed > max_failed * stats.total


def failed_error(
    stats: BatchStats, max_failed: float, stopped: CancelResult | None = None
) -> BatchFailedError:
    """Return the error with how many failed and why, and what was stopped, if anything."""
    allowed = f"{max_failed}" if isinstance(max_failed, int) else f"{max_failed:.2%}"
    parts = [f"{stats.deadletter} failed"]
    if stats.cancelled:
        late = f" ({stats.expired} of them expired)" if stats.expired else ""
        parts.append(f"{stats.cancelled} were cancelled{late}")
    still = f" ({stats.open} are still open)" if stats.open else ""
    message = (
        f"batch {_title(stats)}: of {stats.total} jobs {' and '.join(parts)}, more than "
        f"max_failed={allowed} allows{still}."
    )
    if stats.top_errors:
        errors = "; ".join(f"{count} × {one_line(error)}" for error, count in stats.top_errors)
        message += f" Most frequent: {errors}."
    if stopped is not None:
        message += (
            f" What had not started was cancelled: {stopped.cancelled} are now, "
            f"{stopped.running} go on."
        )
    return BatchFailedError(message, stats=stats)


def log_nothing_retried(stats: BatchStats, error_contains: str | None) -> None:
    """Log what there is in a batch of which no dead letter was retried."""
    wanted = f" with {shown(error_contains)} in its error" if error_contains else ""
    there = [f"{count} × {one_line(error, 80)}" for error, count in stats.top_errors]
    parts = [f"It has {stats.deadletter} dead letters: {', '.join(there)}."] if there else []
    parts += describe_waiting(stats.waiting, stats.waiting_errors)
    log.warning(
        "batch %s has no dead letter%s, so none was retried.%s",
        *(stats.batch_id, wanted, "".join(f" {part}" for part in parts)),
    )


def timeout_error(
    stats: BatchStats | None, timeout: float | None, away: SpooledError | None, batch_id: str
) -> BatchTimeoutError:
    """Return the error with what holds the batch back, as far as it is known.

    Without a `timeout`, the caller says how long it was.
    """
    within = "" if timeout is None else f" within {timeout:g} s"
    if stats is None:
        why = away.message if away else "The server said nothing about it."
        return BatchTimeoutError(
            f"batch {batch_id}: nothing could be learned about it{within}. {why}"
        )
    message = (
        f"batch {_title(stats)}: not settled{within}: {stats.completed} of "
        f"{stats.total} completed, {stats.failed} failed, {stats.processing} processing, "
        f"{stats.pending} pending, {stats.scheduled} scheduled."
    )
    if away is not None:
        message += f" At the end the server was away: {away.message}"
    else:
        held = (stall.message for stall in stats.stalls)
        message = " ".join([message, *held, *describe_waiting(stats.waiting, stats.waiting_errors)])
    return BatchTimeoutError(message, stats=stats)


def describe_waiting(waiting: int, errors: Sequence[WaitingError]) -> Iterator[str]:
    """Yield a sentence on the jobs that wait for their retry: with which errors, and until when."""
    if errors:
        first = min(error.next_at for error in errors).astimezone(timezone.utc)
        named = "; ".join(f"{error.count} × {one_line(error.error)}" for error in errors)
        yield (
            f"To be tried again: {waiting}, the next at {first:%H:%M:%S} UTC. Most frequent: "
            f"{named}."
        )


def _title(stats: BatchStats) -> str:
    return f"{stats.batch_id} ({stats.name!r})" if stats.name else stats.batch_id
