"""What one operation does within a commit: statements by name, counters, locked jobs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.jobs.counter_deltas import CounterDeltas, LockedJob
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import Ending
from spooled_pipelines.server.core.limits.quotas import Quotas
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store.sqlite.connections.id_cache import IdCache
from spooled_pipelines.server.store.sqlite.queries import NAMED, SQL


class JobNumbers:
    """Hands out each organization's job numbers, each once, also after a restart.

    No place below `first` is handed out.
    """

    def __init__(self, connection: sqlite3.Connection, first: int) -> None:
        self._connection = connection
        self._first = first
        # The next place of each organization that has asked, and who has taken some since `keep`.
        self._following: dict[int, int] = {}
        self._taken: set[int] = set()

    def take(self, organization: int, count: int) -> int:
        """Return the first of `count` fresh numbers."""
        place = self._next(organization)
        self._following[organization] = place + count
        self._taken.add(organization)
        return ids.numbers_of(organization).start + place

    def last(self, organization: int) -> int:
        """Return the last number that was taken."""
        return ids.numbers_of(organization).start + self._next(organization) - 1

    def keep(self) -> None:
        """Note which numbers are taken, within the transaction that uses them."""
        for organization in self._taken:
            values = (self._following[organization], organization)
            self._connection.execute(SQL["keep_following"], values)
        self._taken.clear()

    def rolled_back(self) -> None:
        """Note the numbers again next time: what was noted is gone."""
        self._taken.update(self._following)

    def _next(self, organization: int) -> int:
        place = self._following.get(organization)
        if place is None:
            row = self._connection.execute(SQL["read_following"], (organization,)).fetchone()
            place = self._following[organization] = max(int(row[0]), self._first)
        return place


class Snapshot(Protocol):
    """What is read: what is committed, or what one's own transaction sees."""

    @property
    def connection(self) -> sqlite3.Connection: ...
    @property
    def prefix(self) -> str: ...
    @property
    def now(self) -> int: ...


class Transaction:
    """Handed to each operation, which says in `deltas` what it changed."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        names: IdCache,
        numbers: JobNumbers,
        prefix: str,
        quotas: Quotas,
        max_deliveries: int,
    ) -> None:
        self.connection = connection
        self.quotas = quotas
        self._max_deliveries = max_deliveries
        self.names = names
        self.numbers = numbers
        self.prefix = prefix
        self.now = 0
        self.changes = CommitEvent()
        self.deltas = CounterDeltas(max_deliveries)

    def begin_operation(self, now: int) -> None:
        """Begin an operation: nothing has changed yet."""
        self.now = now
        self.changes = CommitEvent()
        self.deltas = CounterDeltas(self._max_deliveries)

    def rows(self, statement: str, **values: object) -> list[Any]:
        """Return what a statement finds."""
        return self.connection.execute(NAMED[statement], values).fetchall()

    def send(self, statement: str, **values: object) -> int:
        """Run a statement; return how many rows it changed."""
        return self.connection.execute(NAMED[statement], values).rowcount

    def locked(self, statement: str, **values: object) -> list[LockedJob]:
        """Return the jobs that a statement with `{locked_columns}` finds."""
        return [self._locked_job(row) for row in self.connection.execute(NAMED[statement], values)]

    def locked_job(self, seq: int | None, organization: int) -> LockedJob | None:
        """Return a job of an organization."""
        row = self.connection.execute(SQL["lock_job"], (seq, organization)).fetchone()
        return None if row is None else self._locked_job(row)

    def _locked_job(self, row: Sequence[Any]) -> LockedJob:
        job = LockedJob.of_row(row)
        job.batches = self.batches_of(job.seq, job.batch, job.linked)
        return job

    def batches_of(self, seq: int, batch: int | None, linked: int) -> tuple[int, ...]:
        """Return every batch that the job is in."""
        own = () if batch is None else (batch,)
        if not linked:
            return own
        links = self.connection.execute(SQL["list_batches_of_job"], (seq,)).fetchall()
        return own + tuple(row[0] for row in links)

    def move(
        self,
        queue: int,
        jobs: tuple[Sequence[Any], Sequence[Any], Sequence[Any]],
        old: int,
        new: int,
    ) -> None:
        """Count jobs of a queue, (numbers, batches, linked), that went to another status."""
        seqs, batches, linked = jobs
        if any(linked):
            moved = Counter(map(self.batches_of, seqs, batches, linked))
        else:
            moved = Counter(
                {self.batches_of(0, batch, 0): n for batch, n in Counter(batches).items()}
            )
        for of, count in moved.items():
            self.deltas.move(queue, of, old, new, count=count)

    def write(self, job: LockedJob) -> None:
        """Write what was done to a locked job, and the delivery that ended."""
        state = job.state
        send = self.connection.execute
        if job.ended is not None:
            send(SQL["add_attempt"], (job.seq, *job.ended, self.now, job.error))
            if job.ended.ending == Ending.FAILED and state.status == Status.PENDING:
                # Half as dear: the indexes of what a failure leaves as it is are left alone.
                retry = (state.retry_count, state.due_at, state.last_error, job.seq)
                send(SQL["write_retry"], retry)
                return
        send(
            SQL["write_job"],
            (
                state.status,
                state.retry_count,
                state.deliveries,
                state.run_alone,
                state.due_at,
                state.started_at,
                state.completed_at,
                state.lease_expires_at,
                state.worker_id,
                state.lease_id,
                state.expires_at,
                state.last_error,
                job.result,
                job.seq,
            ),
        )

    def flush(self) -> None:
        """Write the counters before they are read; what changes from here on is counted from 0."""
        self.end_operation()
        self.deltas = CounterDeltas(self._max_deliveries)

    def let_out_keys(self) -> None:
        """Let those jobs of limit keys be claimed that are next, and hold the others."""
        for queue, key in sorted(self.deltas.limit_keys):
            for seq, batch, linked, held in self.rows("list_places", queue=queue, key=key):
                self.send("let_out", seq=seq, held=held)
                was_waiting, batches = bool(held), self.batches_of(seq, batch, linked)
                self.deltas.move(
                    queue,
                    batches,
                    Status.PENDING,
                    Status.PENDING,
                    was_waiting=was_waiting,
                    waiting=not was_waiting,
                )
        self.deltas.limit_keys.clear()

    def end_operation(self) -> None:
        """Write the counters, and name in `changes` what the numbers stand for."""
        self.let_out_keys()
        deltas, changes, names = self.deltas, self.changes, self.names
        send = self.connection.execute
        changes.jobs += deltas.status_changes
        for queue, counts in deltas.queues.items():
            send(SQL["count_queues"], (*counts, queue))
        for batch, counts in deltas.batches.items():
            send(SQL["count_batches"], (*counts, self.now, batch))
            changes.batches.add(names.batch_topic(batch))
        for (batch, error), count in deltas.errors.items():
            send(SQL["count_errors"], (batch, error, count))
        for queue, moment in deltas.expired.items():
            send(SQL["note_lease_expiry"], (moment, queue))
        changes.released_jobs += ids.job_ids(self.prefix, [seq for seq, _ in deltas.released])
        for queue, flow in deltas.flows.items():
            topic = names.queue_topic(queue)
            changes.flows[topic] = changes.flows.get(topic, Counter()) + flow
        for queue in deltas.ready_queues:
            changes.ready_queues.add(names.queue_topic(queue))
        for queue in deltas.controlled:
            changes.controlled.add(names.queue_topic(queue)[0])
        for batch in deltas.touched:
            changes.batches.add(names.batch_topic(batch))
        changes.keys = changes.keys or deltas.keys
        if deltas.due is not None:
            changes.due_at(deltas.due)
