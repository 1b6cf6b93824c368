"""What a store should do, as plainly as Python says it: no indexes, no counters, no transactions.

It is written from the contract alone. Where the store gives an id, the test puts it in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from spooled_pipelines.server.core.batches.records import BatchOpening, Chunk, ExpectedParts
from spooled_pipelines.server.core.jobs.records import AttemptRecord, NewJob, Status
from spooled_pipelines.server.core.jobs.rules import HELD
from spooled_pipelines.server.core.jobs.settlements import Ending
from spooled_pipelines.server.store.limits import WORKER_FORGOTTEN_MS
from spooled_pipelines.wire.well_known import Struct
from tests.support.proof.model_limits import KeyLimits, QueueCaps, Topic
from tests.support.proof.model_records import SETTLED, Batch, Job, RefusalError, Row, moments
from tests.support.proof.model_turns import Line, Turns

# Of the stores that are compared with it: so few that it happens.
MAX_DELIVERIES = 3


class Model:
    """Every operation of a store that changes something; `now` is set from outside."""

    def __init__(self) -> None:
        self.now = 0
        self.jobs: list[Job] = []
        # How many jobs and generations there have been.
        self.made = 0
        self.begun = 0
        # The generations of each batch, the newest last.
        self.generations: dict[tuple[str, str], list[Batch]] = {}
        self.paused: set[tuple[str, str]] = set()
        self.caps, self.keys = QueueCaps(), KeyLimits()
        # By organization and id: their queue, and when they were last heard of.
        self.workers: dict[tuple[str, str], tuple[str, int]] = {}
        self.expired_at: dict[tuple[str, str], int] = {}
        self.turns = Turns()

    def enqueue(
        self,
        organization: str,
        job: NewJob,
        own: Batch | None = None,
        fair_key: int | None = None,
        limit_key: int | None = None,
    ) -> tuple[Job, bool]:
        """The job, and whether it is new."""
        if job.idempotency_key is not None:
            for known in self.of(organization):
                if known.asked.idempotency_key == job.idempotency_key:
                    return known, False
        due = job.scheduled_at
        if due is not None and due <= self.now:
            due = None
        status = Status.PENDING if due is None else Status.SCHEDULED
        made = Job(organization, self.made, job, self.now, due, status, own=own)
        made.fair_key, made.limit_key, made.expires_at = fair_key, limit_key, job.expires_at
        if due is None:
            made.due_at = None if limit_key is None else HELD
            made.round = self.turns.take(made.line, (fair_key or own, False), made.weight)
        self.made += 1
        self.jobs.append(made)
        return made, True

    def claim(
        self, organization: str, queue_name: str, worker_id: str, lease_ms: int, limit: int
    ) -> list[Job]:
        """Highest priority first, then by rounds, then oldest."""
        self.release_due()
        topic, claimed = (organization, queue_name), list[Job]()

        def take(room: int) -> int:
            jobs = self.of(organization, queue_name)
            ready = [job for job in jobs if job.claimable and not job.is_late(self.now)]
            ready.sort(key=lambda job: job.turn)
            # Those that may have killed a worker by themselves, and not too many of them.
            alone = ready[0].run_alone if ready else 0
            like = itertools.takewhile(lambda job: job.run_alone == alone, ready)
            claimed.extend(itertools.islice(like, min(room, alone) if alone else room))
            return len(claimed)

        if topic not in self.paused:
            self.caps.claim(topic, limit, self.in_flight(*topic), self.now, take)
        self.turns.note((job.line, job.round) for job in claimed)
        for job in claimed:
            job.deliveries += 1
            self.move(job, Status.PROCESSING)
            job.worker_id, job.started_at = worker_id, self.now
            job.lease_expires_at = self.now + lease_ms
        self.give_places()
        return claimed

    def is_open(self, topic: Topic) -> bool:
        """Whether jobs may be claimed, now or as soon as the rate allows it."""
        return topic not in self.paused and not self.caps.is_full(topic, self.in_flight(*topic))

    def give_places(self) -> None:
        """Let of each key those be claimed that are next: so many that no more run than may."""
        for (topic, key), most in self.keys.most.items():
            jobs = [job for job in self.of(*topic) if job.limit_key == key]
            running = sum(job.status == Status.PROCESSING for job in jobs)
            in_line = sorted((job for job in jobs if job.in_line), key=lambda job: job.turn)
            for place, job in enumerate(in_line):
                due = None if place < most - running else HELD
                if due != job.due_at:
                    self.move(job, Status.PENDING)
                    job.due_at = due

    def in_flight(self, organization: str, queue_name: str) -> int:
        jobs = self.of(organization, queue_name)
        return sum(job.status == Status.PROCESSING for job in jobs)

    def complete(self, job: Job, result: bytes | None) -> None:
        self.move(job, Status.COMPLETED)
        job.completed_at, job.result = self.now, result

    def fail(self, job: Job, error: str, retry: bool) -> int:
        """For how many seconds the job waits; 0 where it went to the dead letters."""
        job.run_alone = 0
        if not retry or job.retry_count >= job.asked.max_retries:
            self._bury(job, error)
            return 0
        seconds = min(60 * 2**job.retry_count, 3600)
        if job.asked.retry_backoff is not None:
            seconds = {"1s": 1, "3s": 3}[job.asked.retry_backoff]
        self._note_attempt(job, error)
        self.move(job, Status.PENDING)
        job.retry_count += 1
        job.last_error, job.due_at = error, self.now + seconds * 1000
        return seconds

    def give_back(self, job: Job, after_ms: int | None) -> None:
        """It was not begun, or is to wait."""
        job.deliveries -= 1
        self._release(job)
        if after_ms is not None:
            job.due_at = self.now + after_ms

    def throttle(self, job: Job, after_ms: int | None) -> None:
        """It was answered that it comes too fast: its queue is slower for a while."""
        assert job.started_at is not None
        said = (job.started_at, self.now, self.in_flight(*job.topic), after_ms)
        self.give_back(job, None)
        self.caps.throttle(job.topic, *said)

    def give_up(self, job: Job) -> bool:
        """It was begun and not finished; whether it is dead of it."""
        if self._poisoned(job, "was given back", Ending.GIVEN_BACK):
            return True
        self._note_attempt(job, None, Ending.GIVEN_BACK)
        self._release(job)
        return False

    def die(self, job: Job, error: str, code: int, others: int) -> int | None:
        """For how many seconds the job waits whose process died; None where it is dead."""
        job.run_alone = alone = self._part(job, others)
        if not others and job.retry_count >= job.asked.max_retries:
            self._bury(job, error, Ending.DIED, code)
            return None
        if self._poisoned(job, f"died: {error}", Ending.DIED, code):
            return None
        if not others:
            seconds = self.fail(job, error, True)
            last = job.attempts[-1]
            job.attempts[-1] = last._replace(ending=Ending.DIED, exit_code=code)
            job.run_alone = alone
            return seconds
        self._note_attempt(job, error, Ending.DIED, code)
        self._release(job)
        job.last_error = error
        return 0

    @staticmethod
    def _part(job: Job, others: int) -> int:
        """With how many it runs next: an eighth, unless too few deliveries are left for that."""
        part = alone = math.ceil((others + 1) / 8)
        left = max(MAX_DELIVERIES, job.asked.max_retries + 1) - job.deliveries
        while alone > 1:
            alone, left = math.ceil(alone / 8), left - 1
        return part if left > 0 else 1

    def _release(self, job: Job) -> None:
        self.move(job, Status.PENDING)
        job.worker_id = job.lease_id = job.started_at = None

    def check_holder(self, job: Job | None, worker_id: str, lease_id: str) -> Job:
        """The job, if it is this holder's."""
        if job is None or job.is_gone:
            raise RefusalError("NOT_FOUND", "there is no job")
        why = None
        if job.status in SETTLED:
            why = f"Job is already {Status.NAMES[job.status]}"
        elif lease_id and lease_id != job.lease_id:
            why = "does not match the job's current lease"
        elif job.status != Status.PROCESSING:
            why = "Lease expired" if lease_id else "claim it before you settle it"
        elif worker_id and worker_id != job.worker_id:
            why = "does not match the job's current lease"
        elif (job.lease_expires_at or 0) <= self.now:
            why = "Lease expired"
        if why is not None:
            raise RefusalError("FAILED_PRECONDITION", why)
        return job

    def release_due(self) -> None:
        for job in self.jobs:
            if job.due_at is not None and job.due_at <= self.now:
                self.move(job, Status.PENDING)
                job.due_at = None if job.limit_key is None else HELD
                self.give_turn_again(job)

    def give_turn_again(self, job: Job) -> None:
        """What can be claimed again, or only now, takes turns of its own."""
        job.round = self.turns.take(job.line, (job.fair_key or job.own, True), job.weight)

    def sweep(self, upkeep: bool = True) -> int | None:
        """Returns when something is due next."""
        self.release_due()
        for job in self.jobs:
            expiry = job.lease_expires_at
            if job.status != Status.PROCESSING or expiry is None or expiry > self.now:
                continue
            self.expired_at[job.organization, job.asked.queue_name] = self.now
            error = f"Lease expired: worker {job.worker_id} did not settle the job in time"
            is_last = job.retry_count + 1 >= job.asked.max_retries
            job.run_alone = 1 if job.run_alone or job.retry_count > 0 or is_last else 0
            if job.retry_count >= job.asked.max_retries:
                # As every job that fails for good.
                self._bury(job, error, Ending.LOST)
            elif not self._poisoned(job, "lost its lease", Ending.LOST):
                self._note_attempt(job, error, Ending.LOST)
                self.move(job, Status.PENDING)
                job.retry_count += 1
                job.last_error = error
        for job in self.jobs:
            if job.status in (Status.PENDING, Status.SCHEDULED) and job.is_late(self.now):
                self.move(job, Status.CANCELLED)
                job.completed_at = self.now
        self.give_places()
        again = (
            self.turns.look_after_keys(self.now, self._waits) if upkeep else None,
            self.keys.look_after_keys(self.now, self._limited()) if upkeep else None,
        )
        found = [*moments(self.jobs), *(moment for moment in again if moment is not None)]
        return min(found, default=None)

    def _limited(self) -> set[tuple[Topic, int]]:
        """The keys of jobs that may run yet."""
        return {
            (job.topic, job.limit_key)
            for job in self.jobs
            if job.limit_key is not None and job.status != Status.COMPLETED and not job.is_stripped
        }

    def _waits(self, line: Line) -> bool:
        return any(job.claimable and job.line == line for job in self.jobs)

    def open_batch(self, organization: str, opening: BatchOpening) -> Batch:
        """The newest generation, which is made where this is a newer one."""
        batch_id, queue_name, name, generation, part = opening[:5]
        generations = self.generations.setdefault((organization, batch_id), [])
        before = generations[-1] if generations else None
        if before is not None:
            if before.queue_name != queue_name:
                raise RefusalError("FAILED_PRECONDITION", f"is on queue {before.queue_name!r}")
            self._check_generation(batch_id, before, generation, newer=True)
            name = name or before.name
        if before is None or generation > before.generation:
            if before is not None:
                before.outcomes.clear()
            self.begun += 1
            batch = Batch(queue_name, name, generation, self.now, self.now, self.begun)
            generations.append(batch)
        else:
            batch = before
            batch.name, batch.used_at = name, self.now
        batch.weight = opening.weight or batch.weight
        if opening.limit_by:
            batch.limit_by, batch.limit_per_key = opening.limit_by, opening.limit_per_key
        if part:
            batch.parts.setdefault(part, (False, 0))
        return batch

    def add_chunk(self, organization: str, chunk: Chunk, rows: Sequence[NewJob]) -> list[Row]:
        """What became of each row."""
        batch = self.batch(organization, chunk.batch_id, chunk.generation)
        upload, part = (chunk.upload_id, chunk.number), chunk.part_id
        if upload in batch.outcomes:
            made = batch.outcomes[upload]
            keys = {job.asked.idempotency_key: job for job in self.of(organization, batch=batch)}
            found = [keys.get(row.idempotency_key) for row in rows]
            if len(found) != len(made) or None in found:
                raise RefusalError("FAILED_PRECONDITION", "came before with other rows")
            pairs = zip(found, made, strict=True)
            return [one._replace(job=job) for job, one in pairs if job is not None]
        if batch.sealed:
            batch.used_at = self.now
        outcome, unused = [], []
        given = [row._replace(queue_name=batch.queue_name) for row in rows]
        nothing = [None] * len(given)
        limit_keys = chunk.limit_keys or nothing
        self.keys.put((organization, batch.queue_name), limit_keys, chunk.limit_per_key)
        each = zip(given, chunk.fair_keys or nothing, limit_keys, strict=True)
        for row, fair_key, limit_key in each:
            job, created = self.enqueue(organization, row, batch, fair_key, limit_key)
            if not created and (row.scheduled_at is None or row.scheduled_at <= self.now):
                # Its turn goes back only after the chunk, of which each row has its place.
                line = (organization, batch.queue_name, row.priority)
                self.turns.take(line, (fair_key or batch, False), batch.weight)
                unused.append((line, (fair_key or batch, False)))
            job.is_row |= created
            changed = not created and self._is_changed(job, row, batch)
            replaced = changed and job.status in chunk.replaceable and not job.is_stripped
            if replaced:
                job.asked = job.asked._replace(payload=row.payload)
            batch.changed += changed
            batch.replaced += replaced
            outcome.append(Row(job, created, changed, replaced))
            if batch in job.batches:
                continue
            job.batches.add(batch)
            batch.sealed, batch.changed_at = False, self.now
            if part in batch.parts:
                batch.parts[part] = (False, batch.parts[part][1])
            if job.status == Status.DEADLETTER:
                batch.errors[(job.last_error or "")[:200]] += 1
        for line, participant in unused:
            self.turns.give_back(line, participant, batch.weight)
        batch.outcomes[upload] = outcome
        return outcome

    def finish_part(
        self, organization: str, batch_id: str, generation: int, part: str, rows: int
    ) -> None:
        self.batch(organization, batch_id, generation).parts[part] = (True, rows)

    def seal_batch(
        self, organization: str, batch_id: str, generation: int, expected: ExpectedParts
    ) -> Batch:
        batch = self.batch(organization, batch_id, generation)
        finished = {part for part, (is_finished, _) in batch.parts.items() if is_finished}
        if expected.part_ids:
            whole = set(expected.part_ids) <= finished
        else:
            whole = len(finished) == len(batch.parts) and expected.count in (None, len(finished))
        if not whole:
            raise RefusalError("FAILED_PRECONDITION", f"{len(finished)} finished parts")
        batch.outcomes.clear()
        if not batch.sealed:
            batch.sealed, batch.changed_at = True, self.now
        return batch

    def register(self, organization: str, worker_id: str, queue_name: str) -> None:
        # Those of the organization that were silent for a day make room.
        self.workers = {
            (owner, name): (queue, at)
            for (owner, name), (queue, at) in self.workers.items()
            if owner != organization or at >= self.now - WORKER_FORGOTTEN_MS
        }
        self.workers[organization, worker_id] = (queue_name, self.now)

    def heartbeat(self, organization: str, worker_id: str) -> None:
        known = self.workers.get((organization, worker_id))
        if known is None:
            raise RefusalError("NOT_FOUND", "there is no worker")
        self.workers[organization, worker_id] = (known[0], self.now)

    def deregister(self, organization: str, worker_id: str) -> bool:
        return self.workers.pop((organization, worker_id), None) is not None

    @property
    def batches(self) -> dict[tuple[str, str], Batch]:
        """The newest generation of each."""
        return {key: found[-1] for key, found in self.generations.items() if found}

    def batch(self, organization: str, batch_id: str, generation: int | None = None) -> Batch:
        """The newest generation, which must be this one."""
        found = self.batches.get((organization, batch_id))
        if found is None:
            raise RefusalError("NOT_FOUND", f"there is no batch {batch_id!r}")
        if generation is not None:
            self._check_generation(batch_id, found, generation, newer=False)
        return found

    def of(
        self, organization: str, queue_name: str | None = None, batch: Batch | None = None
    ) -> list[Job]:
        """Jobs of an organization, a queue, a batch; oldest first."""
        return [
            job
            for job in self.jobs
            if job.organization == organization
            and (queue_name is None or job.asked.queue_name == queue_name)
            and (batch is None or batch in job.batches)
        ]

    def move(self, job: Job, status: int) -> None:
        """The job is in this status from now on."""
        job.status, job.due_at, job.lease_expires_at = status, None, None
        for batch in job.batches:
            batch.changed_at = self.now

    def _poisoned(self, job: Job, how: str, ending: int, code: int | None = None) -> bool:
        if job.deliveries < max(MAX_DELIVERIES, job.asked.max_retries + 1):
            return False
        times = f"delivered {job.deliveries} times without an outcome"
        self._bury(job, f"Poison: {times}, and at last it {how}", ending, code)
        return True

    def _bury(
        self, job: Job, error: str, ending: int = Ending.FAILED, code: int | None = None
    ) -> None:
        self._note_attempt(job, error, ending, code)
        self.move(job, Status.DEADLETTER)
        job.completed_at, job.last_error = self.now, error
        for batch in job.batches:
            batch.errors[error[:200]] += 1

    @staticmethod
    def _is_changed(job: Job, row: NewJob, batch: Batch) -> bool:
        if job.asked.queue_name != batch.queue_name:
            return False
        kept = job.stripped_payload if job.is_stripped else job.asked.payload
        return Struct.FromString(kept) != Struct.FromString(row.payload)

    def _note_attempt(
        self, job: Job, error: str | None, ending: int = Ending.FAILED, code: int | None = None
    ) -> None:
        assert job.started_at is not None
        times = (job.started_at, self.now)
        number = len(job.attempts) + 1
        job.attempts.append(AttemptRecord(number, job.worker_id, *times, ending, code, error))

    @staticmethod
    def _check_generation(batch_id: str, newest: Batch, meant: int, *, newer: bool) -> None:
        if meant < newest.generation:
            raise RefusalError("FAILED_PRECONDITION", f"batch {batch_id!r} has begun again")
        if meant > newest.generation and not newer:
            raise RefusalError("FAILED_PRECONDITION", f"has no generation {meant} yet")
