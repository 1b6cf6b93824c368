"""Batches as tasks hand them to each other, and the statistics of several as of one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import BatchStats

if TYPE_CHECKING:
    from spooled_pipelines.types import Stall

# The name that `EnqueueBatchOperator` gives a batch.
_OF_TASK = re.compile(r"airflow/([^/]+)/([^/]+)/")
_COUNTS = (
    *("total", "pending", "waiting", "scheduled", "processing"),
    *("completed", "deadletter", "cancelled", "expired"),
)
_TOP_ERRORS = 5


@dataclass(frozen=True)
class BatchRef:
    """A batch that another task enqueued: what a task needs to find it again and wait for it.

    Attributes:
        batch_id: the batch's id; the rest is None where only the id is known.
        queue_name, name, generation, extension, queue_before: as in `Batch.to_dict`.
        ledger: where the outcome of each row is, if it was written.
        key: the columns that identify a row, as far as they are known.
        opened: what `OpenBatch.to_dict` gave, where the batch comes in parts.
        parts: what `AddedPart.to_dict` gave for each part.
    """

    batch_id: str
    queue_name: str | None = None
    name: str | None = None
    generation: int | None = None
    extension: bool | None = None
    queue_before: Mapping[str, Any] | None = None
    ledger: str | None = None
    key: tuple[str, ...] = ()
    opened: Mapping[str, Any] | None = None
    parts: tuple[Mapping[str, Any], ...] = ()

    @property
    def server_keeps_batches(self) -> bool:
        """Whether its server knows batches; otherwise statistics are made from the queue's."""
        return self.extension is not False

    @classmethod
    def parse(cls, value: str | Mapping[str, Any]) -> BatchRef:
        """Return the batch that an id, or what a task returned, stands for.

        Raises:
            InvalidArgumentError: it stands for none.
        """
        if isinstance(value, str) and value:
            return cls(value)
        if isinstance(value, Mapping) and isinstance(value.get("batch_id"), str):
            fields = {name: value[name] for name in _FROM_TASK if value.get(name) is not None}
            fields["key"] = tuple(fields.get("key", ()))
            if value.get("part"):
                fields |= {"opened": value["opened"], "parts": (value["part"],)}
                # It has the rows of one part.
                fields.pop("ledger", None)
            return cls(**fields)
        raise InvalidArgumentError(
            "a batch must be its id, or the dict that EnqueueBatchOperator or Batch.to_dict() "
            f"returns, got {type(value).__name__}"
        )

    def without_parts(self) -> BatchRef:
        """Return what is needed to wait for the batch once it is sealed."""
        return replace(self, opened=None, parts=())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for `SpooledClient.batch` and for a trigger's arguments."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


_FROM_TASK = (
    *("batch_id", "queue_name", "name", "generation", "extension", "queue_before", "ledger"),
    "key",
)


def parse_batch_refs(value: Any, described: str) -> list[BatchRef]:
    """Return the batches that a `batch` argument stands for, parts of one batch put together.

    There are none where the tasks that enqueue were skipped, or mapped over nothing.

    Args:
        value: an id, what a task returned, or several of these in whatever nesting.
        described: what the value is, for the error.

    Raises:
        InvalidArgumentError: it stands for none.
    """
    refs: dict[str, BatchRef] = {}
    try:
        for ref in _flatten(value):
            known = refs.get(ref.batch_id)
            if known is None:
                refs[ref.batch_id] = ref
            elif ref.parts:
                opened = known.opened or ref.opened
                parts = (*known.parts, *ref.parts)
                refs[ref.batch_id] = replace(known, opened=opened, parts=parts)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            "batch must be what EnqueueBatchOperator returns (batch=enqueue.output), a batch's id, "
            f"or a list of them, got {described}. Did the task that enqueues run?"
        ) from error
    return list(refs.values())


def clear_advice(batches: Sequence[BatchRef]) -> str:
    """Return which task to clear so that the failed jobs of batches are tried again."""
    found = (_OF_TASK.match(ref.name or "") for ref in batches)
    made = sorted({f"{name[1]}.{name[2]}" for name in found if name})
    which = f" ({', '.join(made)})" if made else ""
    return (
        f"Mend the cause and clear the task that enqueued{which}: that puts the dead letters back "
        "into the queue, and this task waits for them again. Cleared alone it finds the same."
    )


def name_batches(batches: Sequence[BatchRef]) -> str:
    """Return what to call them in a message."""
    return batches[0].batch_id if len(batches) == 1 else f"{len(batches)} batches"


def _flatten(value: Any) -> Iterable[BatchRef]:
    if value is None:
        return
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        yield BatchRef.parse(value)
        return
    for item in value:
        yield from _flatten(item)


class BatchGroupStats:
    """The newest statistics of each batch, and of all of them as if they were one."""

    def __init__(self, batch_ids: Iterable[str]) -> None:
        self._stats: dict[str, BatchStats | None] = dict.fromkeys(batch_ids)
        self._sums: Counter[str] = Counter()
        self._unknown = len(self._stats)
        self._unsealed = self._unsettled = 0

    def update(self, stats: BatchStats) -> None:
        """Replace what is known of one of the batches."""
        before = self._stats[stats.batch_id]
        if before is None:
            self._unknown -= 1
        else:
            self._add(before, -1)
        self._add(stats, 1)
        self._stats[stats.batch_id] = stats

    def total(self) -> BatchStats | None:
        """Return the sums; not sealed while a batch is unknown. None where nothing is known."""
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
        late = [each for stats in known for each in stats.waiting_errors]
        late.sort(key=lambda each: -each.count)
        sums: dict[str, Any] = {name: self._sums[name] for name in _COUNTS}
        return BatchStats(
            batch_id=f"{len(self._stats)} batches",
            queue_name=queues[0] if len(queues) == 1 else f"{len(queues)} queues",
            sealed=not self._unknown and not self._unsealed,
            settled=not self._unknown and not self._unsettled,
            stalls=tuple(stalls.values()),
            top_errors=tuple(errors.most_common(_TOP_ERRORS)),
            waiting_errors=tuple(late[:_TOP_ERRORS]),
            **sums,
        )

    def _add(self, stats: BatchStats, sign: int) -> None:
        for name in _COUNTS:
            self._sums[name] += sign * getattr(stats, name)
        self._unsealed += sign * (not stats.sealed)
        self._unsettled += sign * (not stats.settled)
