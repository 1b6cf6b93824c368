"""What a transaction changes beside the rows of its jobs: counters, and whom to tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.jobs.rules import (
    HELD,
    MAX_DELIVERIES,
    Event,
    JobState,
    LeaseExpiry,
    error_group,
    transition,
)
from spooled_pipelines.server.core.jobs.settlements import Ending, GiveBack

# The place of a status in Counts.
_PLACE: Mapping[int, int] = {
    number: Counts._fields.index(name) for number, name in Status.NAMES.items()
}
# What happened to a job that went from one status to another, whatever brought it there.
_FLOWS: Mapping[tuple[int, int], str] = {
    (Status.PENDING, Status.PROCESSING): "claimed",
    (Status.PROCESSING, Status.COMPLETED): "completed",
}
_WAITING, _EXPIRED = map(Counts._fields.index, ("waiting", "expired"))
_ENDED: Mapping[int, str] = {number: f"ended_{name}" for number, name in Ending.NAMES.items()}
_zeros: partial[list[int]] = partial(list, [0] * len(Counts._fields))
_counts: partial[defaultdict[int, list[int]]] = partial(defaultdict, _zeros)
_flows: partial[defaultdict[int, Counter[str]]] = partial(defaultdict, Counter)


class EndedDelivery(NamedTuple):
    """A delivery that ended otherwise than completed; see `AttemptRecord`."""

    worker_id: str | None
    started_at: int | None
    ending: int
    exit_code: int | None


@dataclass(slots=True)
class LockedJob:
    """A job that nobody else can change until the transaction ends, and what this one did to it.

    `state` is what will be written; `error` is why the delivery failed that has `ended`.
    """

    seq: int
    organization: int
    queue: int
    batch: int | None
    linked: bool
    # Its limit key, a number below 0; or whether its queue has so many in flight at most, so that
    # the end of a lease makes room.
    is_capped: int
    state: JobState
    # Every batch that it is in.
    batches: tuple[int, ...] = ()
    ended: EndedDelivery | None = None
    error: str | None = None
    result: bytes | None = None
    changed: bool = False

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> LockedJob:
        """Return the job of a row with the columns `{locked_job}`."""
        # Not taken apart by a star, which takes twice as long.
        state = JobState._make(row[6:])
        return cls(row[0], row[1], row[2], row[3], row[4], row[5], state)


@dataclass(slots=True)
class CounterDeltas:
    """What is added to counters, and what those who wait must know; queues, batches as numbers.

    Code that changes a job's status says so with `apply`, `move` or `add`.
    """

    max_deliveries: int = MAX_DELIVERIES
    queues: defaultdict[int, list[int]] = field(default_factory=_counts)
    batches: defaultdict[int, list[int]] = field(default_factory=_counts)
    # How many dead letters more of a batch ended with an error.
    errors: dict[tuple[int, str], int] = field(default_factory=dict)
    # When a lease of these queues ran out.
    expired: dict[int, int] = field(default_factory=dict)
    # What happened to how many jobs of these queues, for the metrics.
    flows: defaultdict[int, Counter[str]] = field(default_factory=_flows)
    ready_queues: set[int] = field(default_factory=set)
    # Queues in which a job became claimable in the place that it had before.
    came_before: set[int] = field(default_factory=set)
    # Queues and keys of which a job came, or gave up its place.
    limit_keys: set[tuple[int, int]] = field(default_factory=set)
    # Queues that were paused, resumed or limited.
    controlled: set[int] = field(default_factory=set)
    # When jobs of queues that came too fast went out, and for how long each holds its queue.
    throttled: dict[int, list[tuple[int, int | None]]] = field(default_factory=dict)
    # Batches that changed in something that is not a count.
    touched: set[int] = field(default_factory=set)
    # Jobs whose lease ended, with the lease.
    released: list[tuple[int, str | None]] = field(default_factory=list)
    # The earliest moment at which something that was written becomes due.
    due: int | None = None
    # Whether an API key was made or revoked.
    keys: bool = False

    def apply(self, job: LockedJob, event: Event, now: int) -> bool:
        """Do the event to the job and count it; False where it changes nothing."""
        change = transition(job.state, event, now, self.max_deliveries)
        if change is None:
            return False
        if isinstance(event, GiveBack) and event.throttles:
            said = (job.state.started_at or now, event.after_ms)
            self.throttled.setdefault(job.queue, []).append(said)
            self.flows[job.queue]["throttled"] += 1
        if job.is_capped < 0:
            change = change._replace(after=_held(job.state, change.after))
            self.limit_keys.add((job.queue, job.is_capped))
        self._count(job, job.state, change.after)
        if change.ending is not None:
            before = job.state
            job.ended = EndedDelivery(
                before.worker_id, before.started_at, change.ending, change.exit_code
            )
            flow = self.flows[job.queue]
            flow[_ENDED[change.ending]] += 1
            if change.is_poison:
                flow["poisoned"] += 1
        job.state, job.changed = change.after, True
        if change.error is not None:
            job.error = change.error
            outcome = "deadletter" if change.after.status == Status.DEADLETTER else "retry"
            self.flows[job.queue][outcome] += 1
            if isinstance(event, LeaseExpiry):
                self.flows[job.queue]["expired_" + outcome] += 1
        if change.result is not None:
            job.result = change.result
        return True

    def _count(self, job: LockedJob, before: JobState, after: JobState) -> None:
        was_waiting, waiting = before.is_waiting, after.is_waiting
        if before.status != after.status or was_waiting != waiting:
            self.move(
                job.queue,
                job.batches,
                before.status,
                after.status,
                was_waiting=was_waiting,
                waiting=waiting,
            )
        if before.status == Status.DEADLETTER:
            self.count_error(job.batches, before.last_error or "", -1)
        if after.status == Status.DEADLETTER:
            self.count_error(job.batches, after.last_error or "")
        if Status.CANCELLED in (before.status, after.status) and (
            before.is_expired != after.is_expired
        ):
            for row in (self.queues[job.queue], *[self.batches[batch] for batch in job.batches]):
                row[_EXPIRED] += after.is_expired - before.is_expired
        if before.status == Status.PROCESSING and after.status != Status.PROCESSING:
            self.lease_ended(job.seq, before.lease_id, job.queue, job.is_capped)
            if after.is_ready:
                self.came_before.add(job.queue)
        moment, known = _next_moment(after), _next_moment(before)
        # Those who look at the moment that was known look again: only an earlier one is news.
        if moment is not None and (known is None or moment < known):
            self.due_at(moment)

    def lease_ended(self, seq: int, lease_id: str | None, queue: int, is_capped: int) -> None:
        """Note that a job is nobody's any longer."""
        self.released.append((seq, lease_id))
        if is_capped:
            self.ready_queues.add(queue)
            if is_capped < 0:
                self.limit_keys.add((queue, is_capped))

    def leases_ended(
        self, seqs: Iterable[int], lease_id: str | None, queue: int, capped: Iterable[int]
    ) -> None:
        """Note the same of jobs that had one lease."""
        self.released += [(seq, lease_id) for seq in seqs]
        for is_capped in set(capped):
            if is_capped:
                self.ready_queues.add(queue)
            if is_capped < 0:
                self.limit_keys.add((queue, is_capped))

    def add(
        self,
        queue: int | None,
        batches: Iterable[int],
        status: int,
        count: int,
        *,
        waiting: bool = False,
        expired: bool = False,
    ) -> None:
        """Count `count` jobs more in this status (fewer, where it is below 0)."""
        if not count:
            return
        rows = [self.batches[batch] for batch in batches]
        if queue is not None:
            rows.append(self.queues[queue])
            if status == Status.PENDING and not waiting and count > 0:
                self.ready_queues.add(queue)
        place = _PLACE[status]
        for row in rows:
            row[place] += count
            if waiting and status == Status.PENDING:
                row[_WAITING] += count
            if expired:
                row[_EXPIRED] += count

    def move(
        self,
        queue: int,
        batches: tuple[int, ...],
        old: int,
        new: int,
        *,
        was_waiting: bool = False,
        waiting: bool = False,
        count: int = 1,
    ) -> None:
        """Count `count` jobs that went from one status to another."""
        # As `add` of both, in a third of the time: each job that is settled comes here.
        if not count:
            return
        if new == Status.PENDING and not waiting:
            self.ready_queues.add(queue)
        flow = _FLOWS.get((old, new))
        if flow is not None:
            self.flows[queue][flow] += count
        left, entered, waiters = _PLACE[old], _PLACE[new], (waiting - was_waiting) * count
        for row in (self.queues[queue], *[self.batches[batch] for batch in batches]):
            row[left] -= count
            row[entered] += count
            row[_WAITING] += waiters

    def add_created(
        self,
        queue: int,
        batches: tuple[int, ...],
        rows: int,
        due: Iterable[int | None] | None,
        duplicates: int = 0,
    ) -> None:
        """Count jobs that were made just now; `due` has the moments of those that are scheduled.

        `duplicates` are rows that made none.
        """
        self.flows[queue]["created"] += rows
        self.flows[queue]["duplicate"] += duplicates
        moments = [] if due is None else [moment for moment in due if moment is not None]
        later = [moment for moment in moments if moment != HELD]
        self.add(queue, batches, Status.PENDING, rows - len(moments))
        self.add(queue, batches, Status.PENDING, len(moments) - len(later), waiting=True)
        self.add(queue, batches, Status.SCHEDULED, len(later))
        if later:
            self.due_at(min(later))

    def count_error(self, batches: Iterable[int], error: str, count: int = 1) -> None:
        """Count dead letters of these batches that ended with this error."""
        group = error_group(error)
        for batch in batches:
            self.errors[batch, group] = self.errors.get((batch, group), 0) + count

    def expires_at(self, moments: Iterable[int | None] | int | None) -> None:
        """Note when jobs expire that were made just now."""
        each = [moments] if moments is None or isinstance(moments, int) else moments
        known = [moment for moment in each if moment is not None]
        if known:
            self.due_at(min(known))

    def due_at(self, moment: int) -> None:
        """Note that something is due at this moment."""
        if self.due is None or moment < self.due:
            self.due = moment

    @property
    def status_changes(self) -> int:
        """How many jobs came into another status."""
        changed = 0
        for row in self.queues.values():
            for place, delta in enumerate(row):
                if delta > 0 and place not in (_WAITING, _EXPIRED):
                    changed += delta
        return changed


def _held(before: JobState, after: JobState) -> JobState:
    """Return a job with a limit key: one that comes into the queue is held until it is let out."""
    if after.is_ready and not before.is_ready and before.status != Status.PROCESSING:
        return after._replace(due_at=HELD)
    return after


def _next_moment(job: JobState) -> int | None:
    if job.status == Status.PROCESSING:
        return job.lease_expires_at
    due_at = None if job.due_at == HELD else job.due_at
    if job.expires_at is None or job.status not in (Status.PENDING, Status.SCHEDULED):
        return due_at
    return job.expires_at if due_at is None else min(due_at, job.expires_at)
