"""One transaction: statements by name, then counters, notices and the commit in one go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import psycopg

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.jobs.counter_deltas import CounterDeltas, LockedJob
from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.jobs.turns import Participant
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store.postgres.connections import notify_payloads
from spooled_pipelines.server.store.postgres.connections.database import Connection, fetch, send
from spooled_pipelines.server.store.postgres.queries import SQL
from spooled_pipelines.server.store.postgres.transactions.context import StoreContext

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
# Who takes turns, in the queue of this number.
QueueTurn = tuple[int, Participant]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


class Transaction:
    """Begun with `begin` and ended with `commit`, within one or more of `pipeline`."""

    def __init__(self, connection: Connection, context: StoreContext) -> None:
        self.connection = connection
        self.now = context.clock.now()
        self.prefix = context.prefix
        self.deltas = CounterDeltas(context.max_deliveries)
        self.changes = CommitEvent()
        # Leases that were given or renewed: when each ends, of whom, of which job.
        self.leased: list[tuple[int, str, int]] = []
        # Jobs that completed or were cancelled.
        self.settled: list[int] = []
        # From here on nobody can say whether it was done, until the answer comes.
        self.is_committing = False
        self.committing_since = 0.0
        self._context = context

    def pipeline(self) -> AbstractAsyncContextManager[object]:
        """Send the statements within it together; only `rows` waits."""
        return self.connection.pipeline()

    async def numbers(
        self, counts: Mapping[int, int], lengths: Mapping[QueueTurn, int]
    ) -> tuple[dict[int, int], dict[QueueTurn, int]]:
        """Return, before `begin`, the first of fresh numbers of jobs, and of turns.

        For each organization as many as `counts` says, and turns as long as `lengths` says.
        """
        async with self.pipeline():
            await self.send("begin")
            await self.send("no_sync")
            turns = await self.start("take_turns", **turn_columns(lengths))
            # Comes last, since everyone of an organization waits for its row.
            if len(counts) == 1:
                ((organization, count),) = counts.items()
                numbers = await self.start("take_numbers", organization=organization, count=count)
            else:
                numbers = await self.start("take_numbers_of_many", **_counted(counts))
            await self.send("commit")
            taken, first = await turns.fetchall(), await numbers.fetchall()
        firsts = {
            (queue, Participant(priority, one)): place for queue, priority, one, place in taken
        }
        return dict(first), firsts

    async def return_turns(self, lengths: Mapping[QueueTurn, int]) -> None:
        """Take back turns of rows that made no job."""
        if lengths:
            await self.send("return_turns", **turn_columns(lengths))

    async def begin(self) -> None:
        await send(self.connection, "begin")

    async def rows(self, statement: str, **values: Any) -> Rows:
        """Return what a statement finds."""
        return await fetch(self.connection, statement, **values)

    async def start(self, statement: str, **values: Any) -> Cursor:
        """Start a statement; within a pipeline it is waited for when the rows are fetched."""
        cursor = self.connection.cursor(binary=True)
        await cursor.execute(SQL[statement], values)
        return cursor

    async def send(self, statement: str, **values: Any) -> None:
        """Send a statement whose outcome does not matter, but for its failure."""
        await send(self.connection, statement, **values)

    async def batches_of(
        self, jobs: Iterable[tuple[int, int | None, bool]]
    ) -> dict[int, tuple[int, ...]]:
        """Return every batch that each job (number, batch, linked) is in.

        The jobs are locked: a link that is made before the lock is seen here, since this is a
        statement of its own, and one that is made later counts what it then finds.
        """
        jobs = tuple(jobs)
        found: dict[int, tuple[int, ...]] = {
            seq: () if batch is None else (batch,) for seq, batch, _ in jobs
        }
        linked = sorted(seq for seq, _, is_linked in jobs if is_linked)
        if linked:
            for seq, batch in await self.rows("list_batches_of_jobs", seqs=linked):
                found[seq] += (batch,)
        return found

    async def locked(self, statement: str, **values: Any) -> list[LockedJob]:
        """Return the jobs that a statement with `{locked_columns}` finds."""
        jobs = [_locked_job(row) for row in await self.rows(statement, **values)]
        batches = await self.batches_of((job.seq, job.batch, job.linked) for job in jobs)
        for job in jobs:
            job.batches = batches[job.seq]
        return jobs

    async def write(self, jobs: Iterable[LockedJob]) -> None:
        """Write what was done to locked jobs, and the deliveries that ended."""
        changed = [job for job in jobs if job.changed]
        if not changed:
            return
        errors = {job.seq: job.error.encode() for job in changed if job.error is not None}
        ended = [(job.seq, job.ended) for job in changed if job.ended is not None]
        if ended:
            await self.send(
                "add_attempts",
                now=self.now,
                jobs=[seq for seq, _ in ended],
                workers=[each.worker_id for _, each in ended],
                started=[each.started_at for _, each in ended],
                endings=[each.ending for _, each in ended],
                exit_codes=[each.exit_code for _, each in ended],
                errors=[errors.get(seq) for seq, _ in ended],
            )
        for job in changed:
            if job.state.status == Status.PROCESSING:
                ends_at, worker_id = job.state.lease_expires_at or 0, job.state.worker_id or ""
                self.leased.append((ends_at, worker_id, job.seq))
            elif job.state.status in (Status.COMPLETED, Status.CANCELLED):
                self.settled.append(job.seq)
        states = [job.state for job in changed]
        await self.send(
            "write_jobs",
            seqs=[job.seq for job in changed],
            statuses=[state.status for state in states],
            due=[state.due_at for state in states],
            expiries=[state.lease_expires_at for state in states],
            retry_counts=[state.retry_count for state in states],
            deliveries=[state.deliveries for state in states],
            alone=[state.run_alone for state in states],
            started=[state.started_at for state in states],
            completed=[state.completed_at for state in states],
            workers=[state.worker_id for state in states],
            leases=[state.lease_id for state in states],
            expires=[state.expires_at for state in states],
            errors=[errors.get(job.seq) for job in changed],
            results=[job.result for job in changed],
        )

    async def let_out_keys(self) -> None:
        """Let those jobs of limit keys be claimed that are next, and hold the others."""
        wanted = sorted(self.deltas.limit_keys)
        if not wanted:
            return
        values = {"queues": [queue for queue, _ in wanted], "keys": [key for _, key in wanted]}
        # As a statement of its own: the next one sees what those did who had the rows before.
        await self.rows("lock_key_limits", **values)
        moved = await self.rows("let_out", **values)
        batches = await self.batches_of((row[0], row[2], row[3]) for row in moved)
        for seq, queue, _, _, is_out in moved:
            status = Status.PENDING
            self.deltas.move(
                queue, batches[seq], status, status, was_waiting=is_out, waiting=not is_out
            )
            if is_out:
                self.deltas.came_before.add(queue)
        self.deltas.limit_keys.clear()

    async def commit(self) -> None:
        """Write the counters, tell the other servers, commit."""
        await self.let_out_keys()
        deltas = self.deltas
        await self._gather_changes()
        if self.leased:
            ends, workers, seqs = map(list, zip(*self.leased, strict=True))
            await self.send("note_leases", ends=ends, workers=workers, seqs=seqs)
        if self.settled:
            await self.send("note_settlements", now=self.now, seqs=self.settled)
        if deltas.queues:
            lost = [deltas.expired.get(queue) for queue in deltas.queues]
            await self.send("count_queues", **_columns(deltas.queues), lease_expired=lost)
        if deltas.batches:
            await self.send("count_batches", **_columns(deltas.batches), now=self.now)
        if deltas.errors:
            await self.send(
                "count_errors",
                batches=[batch for batch, _ in deltas.errors],
                errors=[error.encode() for _, error in deltas.errors],
                counts=list(deltas.errors.values()),
            )
        for payload in notify_payloads.packed(self._context.sender, self._for_others()):
            await self.send("notify", channel=self._context.channel, payload=payload)
        self.is_committing = True
        self.committing_since = time.perf_counter()
        await self.send("commit")

    async def _gather_changes(self) -> None:
        deltas, names = self.deltas, self._context.names
        batches = deltas.batches.keys() | deltas.touched
        flowing = await names.queue_topics(self.connection, deltas.flows.keys())
        ready = await names.queue_topics(self.connection, deltas.ready_queues)
        controlled = await names.queue_topics(self.connection, deltas.controlled)
        changed = await names.batch_topics(self.connection, batches)
        self.changes = CommitEvent(
            ready_queues=set(ready.values()),
            batches=set(changed.values()),
            released_jobs=[ids.job_id(self.prefix, seq) for seq, _ in deltas.released],
            due=deltas.due,
            controlled={organization for organization, _ in controlled.values()},
            keys=deltas.keys,
            flows={flowing[queue]: flow for queue, flow in deltas.flows.items()},
        )

    def _for_others(self) -> CommitEvent:
        """Return what others must know: only the server that gave a lease waits for its end."""
        own = self._context.leases
        released = [
            ids.job_id(self.prefix, seq)
            for seq, lease_id in self.deltas.released
            if own.get(seq) != lease_id
        ]
        changes = self.changes
        return CommitEvent(
            changes.ready_queues,
            changes.batches,
            released,
            changes.due,
            controlled=changes.controlled,
            keys=changes.keys,
        )


def _counted(counts: Mapping[int, int]) -> dict[str, list[int]]:
    return {"organizations": list(counts), "counts": list(counts.values())}


def turn_columns(lengths: Mapping[QueueTurn, int]) -> dict[str, list[int]]:
    """Return who takes turns, and how long, as the columns that `unnest` takes."""
    return {
        "queues": [queue for queue, _ in lengths],
        "priorities": [one.priority for _, one in lengths],
        "participants": [one.number for _, one in lengths],
        "taken": list(lengths.values()),
    }


def _locked_job(row: tuple[Any, ...]) -> LockedJob:
    *columns, error, is_pruned = row
    return LockedJob.of_row((*columns, None if error is None else error.decode(), is_pruned))


def _columns(rows: Mapping[int, list[int]]) -> dict[str, list[int]]:
    """Return counters by number as the columns that `unnest` takes."""
    columns = {
        name: [row[place] for row in rows.values()] for place, name in enumerate(Counts._fields)
    }
    return {"numbers": list(rows), **columns}
