"""Several batches as one: their statistics added up, and what of them is still unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import BatchStats

if TYPE_CHECKING:
    from spooled_pipelines.types import Stall

_COUNTS = ("total", "pending", "scheduled", "processing", "completed", "deadletter", "cancelled")
_TOP_ERRORS = 5


class Together:
    """The newest statistics of each batch, and of all of them as if they were one."""

    def __init__(self, batch_ids: Iterable[str]) -> None:
        self._stats: dict[str, BatchStats | None] = dict.fromkeys(batch_ids)
        self._sums: Counter[str] = Counter()
        self._unknown = len(self._stats)
        self._unsealed = self._unsettled = 0

    def put(self, stats: BatchStats) -> None:
        """What one of the batches is now."""
        before = self._stats[stats.batch_id]
        if before is None:
            self._unknown -= 1
        else:
            self._count(before, -1)
        self._count(stats, 1)
        self._stats[stats.batch_id] = stats

    def stats(self) -> BatchStats | None:
        """All of them; not sealed as long as one of them is not known. None where none is."""
        known = [stats for stats in self._stats.values() if stats is not None]
        if len(self._stats) == 1 or not known:
            return known[0] if known else None
        queues = list(dict.fromkeys(stats.queue_name for stats in known))
        errors: Counter[str] = Counter()
        stalls: dict[str, Stall] = {}
        for stats in known:
            errors.update(dict(stats.top_errors))
            for stall in stats.stalls:
                stalls.setdefault(stall.cause, stall)
        sums: dict[str, Any] = {name: self._sums[name] for name in _COUNTS}
        return BatchStats(
            batch_id=f"{len(self._stats)} batches",
            queue_name=queues[0] if len(queues) == 1 else f"{len(queues)} queues",
            sealed=not self._unknown and not self._unsealed,
            settled=not self._unknown and not self._unsettled,
            stalls=tuple(stalls.values()),
            top_errors=tuple(errors.most_common(_TOP_ERRORS)),
            **sums,
        )

    def _count(self, stats: BatchStats, sign: int) -> None:
        for name in _COUNTS:
            self._sums[name] += sign * getattr(stats, name)
        self._unsealed += sign * (not stats.sealed)
        self._unsettled += sign * (not stats.settled)


# What a wait needs to know of a batch; the rest is for people.
_NEEDED = ("batch_id", "queue_name", "name", "generation", "extension", "queue_before")


def batches_of(value: Any, told: str) -> list[dict[str, Any]]:
    """The batches that a value stands for: an id, what `Batch.to_dict` gives, or several of them.

    Raises:
        InvalidArgumentError: it is none; `told` says what it is instead.
    """
    if isinstance(value, str) and value:
        return [{"batch_id": value}]
    if isinstance(value, Mapping) and value.get("batch_id"):
        batch = {name: value[name] for name in _NEEDED if value.get(name) is not None}
        if value.get("part"):
            batch |= {"opened": value["opened"], "parts": [value["part"]]}
        return [batch]
    if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
        # Of a mapped task that skipped there is nothing in between.
        found: dict[str, dict[str, Any]] = {}
        for batch in (batch for one in value if one is not None for batch in batches_of(one, told)):
            first = found.setdefault(batch["batch_id"], batch)
            if first is not batch and "parts" in batch:
                first["parts"] = [*first.get("parts", ()), *batch["parts"]]
        if found:
            return list(found.values())
    raise InvalidArgumentError(
        f"batch is {told}, and must be what EnqueueBatchOperator returns (batch=enqueue.output), a "
        "batch's id, or a list of them. Did the task that enqueues run?"
    )


def without_parts(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What is needed to wait for a batch once it is sealed."""
    return {name: batch[name] for name in _NEEDED if name in batch}


def generation_of(batch: Mapping[str, Any]) -> int | None:
    """Up to which generation a cancel may go; None where it is not known, so all."""
    generation: int | None = batch.get("generation")
    return generation


def one_or_all(batches: Sequence[Mapping[str, Any]]) -> str:
    """What to call them in a message."""
    return str(batches[0]["batch_id"]) if len(batches) == 1 else f"{len(batches)} batches"
