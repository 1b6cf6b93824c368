"""What a transaction changed: counters, and what those who wait should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from spooled_pipelines.server.core.job_rules import error_group
from spooled_pipelines.server.core.records import Counts, Status

# Places in Counts.
_WAITING = 1
_PLACE = {
    Status.PENDING: 0,
    Status.SCHEDULED: 2,
    Status.PROCESSING: 3,
    Status.COMPLETED: 4,
    Status.FAILED: 5,
    Status.DEADLETTER: 6,
    Status.CANCELLED: 7,
}
_WIDTH = len(Counts._fields)


class Tally:
    """Whoever changes a job's status says so with `move` or `add`. Queues, batches as numbers."""

    def __init__(self) -> None:
        self.queues: dict[int, list[int]] = {}
        self.batches: dict[int, list[int]] = {}
        self.errors: Counter[tuple[int, str]] = Counter()
        # When a lease of these queues ran out.
        self.expired: dict[int, int] = {}
        self.ready_queues: set[int] = set()
        # Queues that were paused, resumed or limited.
        self.controlled: set[int] = set()
        # Batches that changed in something that is no count.
        self.touched: set[int] = set()
        # Jobs whose lease ended, with the lease.
        self.released: list[tuple[int, str | None]] = []
        self.due: int | None = None
        # An API key was made or revoked.
        self.keys = False

    def add(
        self, queue: int | None, batches: Iterable[int], status: int, waiting: bool, count: int
    ) -> None:
        """`count` jobs are now in this status (`count` below 0: no longer)."""
        if not count:
            return
        rows = [self.batches.setdefault(batch, [0] * _WIDTH) for batch in batches]
        if queue is not None:
            rows.append(self.queues.setdefault(queue, [0] * _WIDTH))
            if status == Status.PENDING and not waiting and count > 0:
                self.ready_queues.add(queue)
        place = _PLACE[status]
        for row in rows:
            row[place] += count
            if status == Status.PENDING and waiting:
                row[_WAITING] += count

    def move(
        self,
        queue: int,
        batches: Sequence[int],
        old: int,
        new: int,
        *,
        was_waiting: bool = False,
        waiting: bool = False,
        count: int = 1,
    ) -> None:
        """`count` jobs went from one status to another."""
        self.add(queue, batches, old, was_waiting, -count)
        self.add(queue, batches, new, waiting, count)

    def count_error(self, batches: Iterable[int], error: str, count: int = 1) -> None:
        """Dead letters of these batches ended with this error."""
        for batch in batches:
            self.errors[batch, error_group(error)] += count

    def due_at(self, moment: int) -> None:
        """Something is due at this moment."""
        if self.due is None or moment < self.due:
            self.due = moment

    def queue_rows(self) -> dict[str, list[int] | list[int | None]]:
        """The parameters of `count_queues`."""
        for queue in self.expired:
            self.queues.setdefault(queue, [0] * _WIDTH)
        expired = [self.expired.get(queue) for queue in self.queues]
        return {**_columns(self.queues), "expired": expired}

    def batch_rows(self) -> dict[str, list[int]]:
        """The parameters of `count_batches`, but for the time."""
        return _columns(self.batches)

    def error_rows(self) -> dict[str, list[int] | list[bytes]]:
        """The parameters of `count_errors`."""
        return {
            "batches": [batch for batch, _ in self.errors],
            "errors": [error.encode() for _, error in self.errors],
            "counts": list(self.errors.values()),
        }


def _columns(rows: Mapping[int, list[int]]) -> dict[str, list[int]]:
    columns = {
        name: [row[place] for row in rows.values()] for place, name in enumerate(Counts._fields)
    }
    return {"numbers": list(rows), **columns}
