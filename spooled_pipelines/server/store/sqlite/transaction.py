"""What one operation does within a commit: counter deltas, changes for those who wait, names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.core.quotas import Quotas
from spooled_pipelines.server.core.records import Counts, Status, changes_of
from spooled_pipelines.server.store.sqlite.queries import SQL

# Places in Counts.
_PENDING, _WAITING = 0, 1
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

Deltas = dict[int, list[int]]


class Names:
    """Numbers of organizations, queues and batches, remembered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._organizations: dict[str, int] = {}
        self._queues: dict[tuple[int, str], int] = {}
        self._queue_topics: dict[int, tuple[str, str]] = {}
        self._batch_topics: dict[int, tuple[str, str]] = {}

    def forget(self) -> None:
        """After a rollback: what was just made may be gone."""
        self._organizations.clear()
        self._queues.clear()
        self._queue_topics.clear()
        self._batch_topics.clear()

    def organization(self, name: str) -> int:
        """The organization's number; it is made if it is not there."""
        number = self._organizations.get(name)
        if number is None:
            number = self._number(SQL["organization_id"], SQL["add_organization"], (name,))
            self._organizations[name] = number
        return number

    def queue(self, organization: int, name: str) -> int:
        """The queue's number; it is made if it is not there."""
        number = self._queues.get((organization, name))
        if number is None:
            number = self._number(SQL["queue_id"], SQL["add_queue"], (organization, name))
            self._queues[organization, name] = number
        return number

    def queue_topic(self, queue: int) -> tuple[str, str]:
        """(organization, queue name)."""
        if queue not in self._queue_topics:
            row = self._connection.execute(SQL["queue_names"], (queue,)).fetchone()
            self._queue_topics[queue] = row
        return self._queue_topics[queue]

    def batch_topic(self, batch: int) -> tuple[str, str]:
        """(organization, batch id)."""
        if batch not in self._batch_topics:
            row = self._connection.execute(SQL["batch_names"], (batch,)).fetchone()
            self._batch_topics[batch] = row
        return self._batch_topics[batch]

    def forget_batch(self, batch: int) -> None:
        """The batch is gone."""
        self._batch_topics.pop(batch, None)

    def _number(self, find: str, add: str, values: tuple[str | int, ...]) -> int:
        row = self._connection.execute(find, values).fetchone()
        if row is None:
            self._connection.execute(add, values)
            row = self._connection.execute(find, values).fetchone()
        return int(row[0])


class Sequence:
    """Hands out job numbers, each once, also after a restart."""

    def __init__(self, following: int) -> None:
        self.following = following
        self._kept = following

    def take(self, count: int) -> int:
        """The first of `count` fresh numbers."""
        first = self.following
        self.following += count
        return first

    def keep(self, connection: sqlite3.Connection) -> None:
        """Within the transaction that uses them: note which numbers are taken."""
        if self.following != self._kept:
            connection.execute(SQL["set_meta"], ("next_seq", self.following))
            self._kept = self.following

    def rolled_back(self) -> None:
        """What was noted is gone; note it again."""
        self._kept = -1


class Transaction:
    """Handed to each operation. Whoever changes a job's status says so with `move` or `add`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        names: Names,
        sequence: Sequence,
        prefix: str,
        quotas: Quotas,
    ) -> None:
        self.connection = connection
        self.quotas = quotas
        self.names = names
        self.sequence = sequence
        self.prefix = prefix
        self.now = 0
        self.changes = CommitEvent()
        self._queues: Deltas = {}
        self._batches: Deltas = {}

    def begin_operation(self, now: int) -> None:
        """Before each operation: nothing has changed yet."""
        self.now = now
        self.changes = CommitEvent()
        self._queues = {}
        self._batches = {}

    def add(
        self, queue: int | None, batches: Iterable[int], status: int, waiting: bool, count: int
    ) -> None:
        """`count` jobs are now in this status (`count` below 0: no longer)."""
        if not count:
            return
        place = _PLACE[status]
        rows = [self._batches.setdefault(batch, [0] * _WIDTH) for batch in batches]
        if queue is not None:
            rows.append(self._queues.setdefault(queue, [0] * _WIDTH))
            if status == Status.PENDING and not waiting and count > 0:
                self.changes.ready_queues.add(self.names.queue_topic(queue))
        for row in rows:
            row[place] += count
            if status == Status.PENDING and waiting:
                row[_WAITING] += count

    def move(
        self,
        queue: int,
        batches: Iterable[int],
        old: int,
        new: int,
        *,
        was_waiting: bool = False,
        waiting: bool = False,
        count: int = 1,
    ) -> None:
        """`count` jobs went from one status to another."""
        batches = tuple(batches)
        self.add(queue, batches, old, was_waiting, -count)
        self.add(queue, batches, new, waiting, count)

    def touch_batch(self, batch: int) -> None:
        """The batch changed in something that is no count."""
        self._batches.setdefault(batch, [0] * _WIDTH)

    def batches_of(self, seq: int, batch: int | None, linked: int) -> tuple[int, ...]:
        """Every batch that the job is in."""
        own = () if batch is None else (batch,)
        if not linked:
            return own
        links = self.connection.execute(SQL["batches_of_job"], (seq,)).fetchall()
        return own + tuple(row[0] for row in links)

    def released(self, seq: int) -> None:
        """The job's lease ended."""
        self.changes.released_jobs.append(ids.job_id(self.prefix, seq))

    def flush(self) -> None:
        """Write the counters, before they are read or the operation ends."""
        self.changes.jobs += changes_of(self._queues.values())
        for queue, deltas in self._queues.items():
            self.connection.execute(SQL["count_queue"], (*deltas, queue))
        for batch, deltas in self._batches.items():
            self.connection.execute(SQL["count_batch"], (*deltas, self.now, batch))
            self.changes.batches.add(self.names.batch_topic(batch))
        self._queues = {}
        self._batches = {}
