"""A store and a plain model of it, side by side: hypothesis chooses what happens to both."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import Job, Model, RefusalError, counted, moments
from serverkit import StoreKit, struct

from spooled_pipelines.server.errors import RefusedError
from spooled_pipelines.server.records import (
    BatchOpening,
    BatchRecord,
    Chunk,
    ChunkStored,
    Enqueued,
    ExpectedParts,
    FailOutcome,
    Holder,
    JobRecord,
    NewJob,
    PartRecord,
    Status,
    WorkerRecord,
)
from spooled_pipelines.server.run import open_store

QUEUES, BATCHES, WORKERS = ("q", "r"), ("a", "b"), ("v", "w")
PARTS = ("x", "y")
# Few names, so that they meet; hashes, as clients send them, and others.
KEYS = (*(hashlib.md5(str(n).encode()).hexdigest() for n in range(9)), "k", "F" * 32, "ü" * 9)

organizations = st.sampled_from(("acme", "acme", "acme", "other"))
queues, batches, workers = map(st.sampled_from, (QUEUES, BATCHES, WORKERS))
keys = st.sampled_from(KEYS)
priorities = st.sampled_from((0, 0, 5, -5, 100))
retries = st.sampled_from((0, 1, 3))
# Seconds from now; below 0 lies in the past.
delays = st.sampled_from((None, None, -1, 0, 1, 60))
leases = st.sampled_from((5, 5, 5, 6, 3600))
rows = st.tuples(keys, priorities, retries, delays)
picks = st.integers(0, 11)
# Most batches do not come in parts.
parts = st.sampled_from(("", "", *PARTS))


class State(NamedTuple):
    """What those who wait should hear of: a batch's is whether it is sealed, and its counts."""

    ready: dict[tuple[str, str], set[int]]
    batches: dict[tuple[str, str], Any]
    # Each leased job with its lease, each job with what it is due for.
    held: set[tuple[str, str | None]]
    due: set[tuple[int, int]]


def _equal(outcome: object, expected: object) -> None:
    assert outcome == expected


class StoreMachine(RuleBasedStateMachine):
    """`make_url` gives the URL of an empty store."""

    def __init__(self, make_url: Callable[[], str]) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        url = make_url()
        self.kit = StoreKit(lambda clock: open_store(url, clock))
        self.run(self.kit.open())
        self.model = Model()
        self.model.now = self.kit.clock.now()
        self.before = self.state()
        self.known: dict[str, Job] = {}
        # Every lease that was ever given, in order, and every chunk that was taken in.
        self.leases: list[tuple[str, Holder]] = []
        self.chunks: list[tuple[str, Chunk]] = []
        self.numbers = itertools.count()

    def teardown(self) -> None:
        try:
            for job in self.model.jobs:
                self.compare_job(self.run(self.kit.store.job(job.organization, job.job_id)), job)
        finally:
            self.run(self.kit.store.close())
            self.loop.close()

    def run(self, operation: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(operation)

    # What happens

    @initialize(organization=organizations, queue=queues)
    def first_batch(self, organization: str, queue: str) -> None:
        self.open_batch(organization, "a", queue, "")

    @rule(
        organization=organizations,
        queue=queues,
        asked=st.lists(st.tuples(st.none() | keys, priorities, retries, delays), max_size=4),
    )
    def enqueue(self, organization: str, queue: str, asked: list[Any]) -> None:
        new = [self.new_job(row, queue) for row in asked]
        stored = self.together(self.kit.store.enqueue(organization, job) for job in new)
        for job, outcome in zip(new, stored, strict=True):
            assert isinstance(outcome, Enqueued)
            made, created = self.model.enqueue(organization, job)
            assert created == outcome.created
            self.name(made, outcome.job_id)

    @rule(
        organization=organizations,
        batch=batches,
        queue=queues,
        name=st.sampled_from(("", "n")),
        part=parts,
    )
    def open_batch(
        self, organization: str, batch: str, queue: str, name: str, part: str = ""
    ) -> None:
        self.same(
            self.kit.store.open_batch(organization, BatchOpening(batch, queue, name, 0, part)),
            lambda: self.model.open_batch(organization, batch, queue, name, part),
            lambda record, _: self.compare_batch(record, organization, batch),
        )

    @rule(
        organization=organizations,
        batch=batches,
        upload=st.sampled_from(("u", "v")),
        given=st.lists(rows, min_size=1, max_size=8),
        alike=st.booleans(),
        part=parts,
    )
    def add_chunk(
        self, organization: str, batch: str, upload: str, given: list[Any], alike: bool, part: str
    ) -> None:
        """`alike`: what the first row says goes for all of them, as a single value."""
        if alike:
            given = [(key, *given[0][1:3], None) for key, *_ in given]
        jobs = [self.new_job(row, "") for row in given]
        one: Callable[[list[Any]], Any] = (lambda values: values[0]) if alike else list
        scheduled = [job.scheduled_at for job in jobs]
        chunk = Chunk(
            batch,
            upload,
            next(self.numbers),
            keys=[job.idempotency_key or "" for job in jobs],
            payloads=[job.payload for job in jobs],
            priorities=one([job.priority for job in jobs]),
            max_retries=one([job.max_retries for job in jobs]),
            timeout_seconds=one([job.timeout_seconds for job in jobs]),
            scheduled_at=scheduled if any(scheduled) else None,
            tags=None,
            part_id=part,
        )
        self.send_chunk(organization, chunk, jobs)
        self.chunks.append((organization, chunk))

    @precondition(lambda self: self.chunks)
    @rule(pick=picks, changed=st.sampled_from((None, None, *KEYS)))
    def send_chunk_again(self, pick: int, changed: str | None) -> None:
        """The answer was lost. `changed`: a number used twice by mistake."""
        organization, chunk = self.chunks[-1 - pick % len(self.chunks)]
        sent = list(chunk.keys)
        if changed is not None:
            sent[-1] = changed
        numbers: list[Any] = [chunk.priorities, chunk.max_retries, chunk.timeout_seconds]
        columns = [[one] * len(sent) if isinstance(one, int) else one for one in numbers]
        scheduled = chunk.scheduled_at or [None] * len(sent)
        jobs = [
            NewJob("", payload, *values, due, key, None)
            for payload, *values, due, key in zip(
                chunk.payloads, *columns, scheduled, sent, strict=True
            )
        ]
        again = {**vars(chunk), "keys": sent}
        self.send_chunk(organization, Chunk(**again), jobs)

    @rule(organization=organizations, batch=batches, part=st.sampled_from(PARTS))
    def finish_part(self, organization: str, batch: str, part: str) -> None:
        rows = next(self.numbers)
        kept = PartRecord(part, True, rows)
        self.same(
            self.kit.store.finish_part(organization, batch, 0, kept),
            lambda: self.model.finish_part(organization, batch, part, rows),
            lambda record, _: _equal(record, kept),
        )

    @rule(
        organization=organizations,
        batch=batches,
        count=st.sampled_from((None, None, 0, 1, 2)),
        part_ids=st.sampled_from(((), (), ("x",), PARTS)),
    )
    def seal(
        self, organization: str, batch: str, count: int | None, part_ids: tuple[str, ...]
    ) -> None:
        expected = ExpectedParts(count, part_ids)
        self.same(
            self.kit.store.seal_batch(organization, batch, 0, expected),
            lambda: self.model.seal_batch(organization, batch, expected),
            lambda record, _: self.compare_batch(record, organization, batch),
        )

    @rule(
        organization=organizations,
        queue=queues,
        claims=st.lists(st.tuples(workers, leases, st.integers(1, 5)), min_size=1, max_size=3),
    )
    def claim(self, organization: str, queue: str, claims: list[Any]) -> None:
        claims = [(worker, 1000 * seconds, limit) for worker, seconds, limit in claims]
        lots = self.together(self.kit.store.claim(organization, queue, *one) for one in claims)
        for one, records in zip(claims, lots, strict=True):
            expected = self.model.claim(organization, queue, *one)
            assert [record.job_id for record in records] == [job.job_id for job in expected]
            for record, job in zip(records, expected, strict=True):
                assert record.lease_id
                assert record.lease_id not in {holder.lease_id for _, holder in self.leases}
                job.lease_id = record.lease_id
                holder = Holder(job.job_id, record.worker_id or "", record.lease_id)
                self.leases.append((organization, holder))
        # Only now: another claim of the same moment changes no job of this one.
        for record in itertools.chain(*lots):
            self.compare_job(record, self.known[record.job_id])

    @precondition(lambda self: self.leases)
    @rule(
        acts=st.lists(
            st.tuples(
                picks,
                st.sampled_from(("right", "right", "right", "", "wrong")),
                st.sampled_from(("right", "right", "right", "", "wrong")),
                st.sampled_from(("complete", "complete", "fail", "fail", "bury", "renew")),
            ),
            min_size=1,
            max_size=4,
        ),
        stranger=st.sampled_from((False,) * 5 + (True,)),
    )
    def settle(self, acts: list[Any], stranger: bool) -> None:
        """With the right lease, an old one, a wrong one or none. `stranger`: another's key."""
        chosen = []
        for pick, worker, lease, act in acts:
            organization, holder = self.leases[-1 - pick % len(self.leases)]
            given = {"right": holder.worker_id, "wrong": "nobody", "": ""}[worker]
            token = {"right": holder.lease_id, "wrong": "0" * 32, "": ""}[lease]
            if stranger:
                organization = "other" if organization == "acme" else "acme"
            chosen.append((organization, Holder(holder.job_id, given, token), act))
        for (organization, holder, act), outcome in zip(
            chosen, self.together(self._act(*one) for one in chosen), strict=True
        ):
            self.compare(outcome, _equal, self._expected(organization, holder, act))

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def give_back(self, pick: int) -> None:
        organization, holder = self.leases[-1 - pick % len(self.leases)]
        assert self.run(self.kit.store.give_back(organization, [holder])) is None
        try:
            job = self.known[holder.job_id]
            self.model.give_back(self.model.check_holder(job, holder.worker_id, holder.lease_id))
        except RefusalError:
            return

    @rule(
        seconds=st.sampled_from((0.001, 1, 5, 5, 6, 60, 60, 3600)),
        sweep=st.sampled_from((False, False, True)),
    )
    def wait(self, seconds: float, sweep: bool) -> None:
        """Without `sweep` the timer is behind."""
        self.kit.clock.advance(seconds)
        self.model.now = self.kit.clock.now()
        if sweep:
            assert self.run(self.kit.store.sweep()) == self.model.sweep()

    @rule(now=st.sampled_from((False, False, True)))
    def restart(self, now: bool) -> None:
        if now:
            self.run(self.kit.reopen())

    @rule(organization=organizations, worker=workers, queue=queues)
    def register(self, organization: str, worker: str, queue: str) -> None:
        record = WorkerRecord(worker, queue, "h", "python", 1, "1", "{}")
        self.same(
            self.kit.store.register_worker(organization, record),
            lambda: self.model.register(organization, worker, queue),
            _equal,
        )

    @rule(organization=organizations, worker=workers)
    def heartbeat(self, organization: str, worker: str) -> None:
        self.same(
            self.kit.store.heartbeat(organization, worker, 1, "healthy", "{}"),
            lambda: self.model.heartbeat(organization, worker),
            _equal,
        )

    @rule(organization=organizations, worker=workers)
    def deregister(self, organization: str, worker: str) -> None:
        gone = self.run(self.kit.store.deregister_worker(organization, worker))
        assert gone == self.model.deregister(organization, worker)

    @rule(
        organization=organizations,
        batch=batches,
        statuses=st.lists(st.sampled_from(tuple(Status.NAMES)), max_size=3),
        limit=st.integers(1, 4),
    )
    def list_jobs(self, organization: str, batch: str, statuses: list[int], limit: int) -> None:
        """Page by page."""
        if (organization, batch) not in self.model.batches:
            return
        wanted = [
            job
            for job in self.model.of(organization, batch_id=batch)
            if not statuses or job.status in statuses
        ]
        after: int | None = 0
        while after is not None:
            question = (organization, batch, statuses, after, limit, False)
            page = self.run(self.kit.store.batch_jobs(*question))
            expected, wanted = wanted[:limit], wanted[limit:]
            for record, job in zip(page.jobs, expected, strict=True):
                self.compare_job(record, job)
            after = page.after
            assert (after is not None) == bool(wanted)

    # What must hold

    @invariant()
    def counters_are_right(self) -> None:
        store = self.kit.store
        assert self.run(store.recount()) == []
        for organization, queue in itertools.product(("acme", "other"), QUEUES):
            record = self.run(store.queue(organization, queue))
            jobs = self.model.of(organization, queue)
            assert record.counts == counted(jobs)
            assert record.oldest == min((j.created_at for j in jobs if j.claimable), default=None)
        for organization, batch in self.model.batches:
            (found,) = self.run(store.batches(organization, [batch]))
            self.compare_batch(found, organization, batch)
            parts = self.run(store.batch_parts(organization, batch, "", 10))
            known = self.model.batches[organization, batch].parts
            assert {part_id: (finished, rows) for part_id, finished, rows in parts} == known

    @invariant()
    def everyone_who_waits_is_told(self) -> None:
        """What a commit publishes covers all that changed: nobody waits for ever."""
        told, before = self.kit.changed(), self.before
        self.before = now = self.state()
        gained = {topic for topic, jobs in now.ready.items() if jobs - before.ready[topic]}
        assert gained <= told.ready_queues
        new = (False, counted(()))
        changed = {k for k, what in now.batches.items() if what != before.batches.get(k, new)}
        assert changed <= told.batches
        ended = {job_id for job_id, lease_id in before.held if (job_id, lease_id) not in now.held}
        assert ended <= set(told.released_jobs)
        coming = {moment for _, moment in now.due - before.due}
        assert not coming or (told.due is not None and told.due <= min(coming))

    def state(self) -> State:
        jobs, batches = self.model.jobs, self.model.batches
        topics = itertools.product(("acme", "other"), QUEUES)
        return State(
            {one: {job.number for job in self.model.of(*one) if job.claimable} for one in topics},
            {
                key: (batch.sealed, counted(self.model.of(key[0], batch_id=key[1])))
                for key, batch in batches.items()
            },
            {(job.job_id, job.lease_id) for job in jobs if job.status == Status.PROCESSING},
            {(job.number, moment) for job in jobs for moment in moments([job])},
        )

    def compare_batch(self, record: BatchRecord, organization: str, batch_id: str) -> None:
        batch = self.model.batches[organization, batch_id]
        place = (organization, batch.queue_name)
        seen = [at for *where, at in self.model.workers.values() if tuple(where) == place]
        assert record._replace(top_errors=()) == BatchRecord(
            batch_id,
            batch.queue_name,
            batch.name,
            batch.sealed,
            counted(self.model.of(organization, batch_id=batch_id)),
            batch.created_at,
            batch.changed_at,
            (),
            max(seen, default=None),
            self.model.expired_at.get(place),
        )
        # Which of several that are equally frequent come is open.
        frequent = [count for _, count in batch.errors.most_common(5)]
        assert [count for _, count in record.top_errors] == frequent
        assert set(record.top_errors) <= set(batch.errors.items())

    def compare_job(self, record: JobRecord, job: Job) -> None:
        asked = job.asked
        expected = JobRecord(
            record.seq,
            job.job_id,
            asked.queue_name,
            job.status,
            asked.priority,
            job.retry_count,
            asked.max_retries,
            asked.timeout_seconds,
            job.created_at,
            asked.scheduled_at,
            job.started_at,
            job.completed_at,
            job.lease_expires_at,
            job.worker_id,
            job.lease_id,
            job.last_error,
            asked.idempotency_key,
            job.result,
            asked.payload,
        )
        assert record == expected
        assert record.job_id == self.kit.store.job_id(record.seq)

    # How it is compared

    def new_job(self, row: Sequence[Any], queue: str) -> NewJob:
        key, priority, max_retries, delay = row
        due = None if delay is None else self.kit.clock.now() + 1000 * delay
        payload = struct(n=next(self.numbers))
        return NewJob(queue, payload, priority, max_retries, 300, due, key, None)

    def name(self, job: Job, job_id: str) -> None:
        """The store calls the job so; ids of younger jobs are greater."""
        if not job.job_id:
            assert all(job_id > known for known in self.known)
            job.job_id = job_id
            self.known[job_id] = job
        assert job.job_id == job_id

    def send_chunk(self, organization: str, chunk: Chunk, jobs: list[NewJob]) -> None:
        upload = (chunk.upload_id, chunk.number)
        self.same(
            self.kit.store.add_chunk(organization, chunk),
            lambda: self.model.add_chunk(organization, chunk.batch_id, upload, jobs, chunk.part_id),
            self.compare_chunk,
        )

    def compare_chunk(self, stored: ChunkStored, expected: list[tuple[Job, bool]]) -> None:
        seqs = stored.seqs
        if stored.first is not None:
            seqs = range(stored.first, stored.first + stored.rows)
        assert stored.rows == len(expected) == len(seqs)
        for seq, (job, _) in zip(seqs, expected, strict=True):
            self.name(job, self.kit.store.job_id(seq))
        assert list(stored.duplicates) == [n for n, (_, made) in enumerate(expected) if not made]

    async def _act(self, organization: str, holder: Holder, act: str) -> Any:
        store = self.kit.store
        try:
            if act == "complete":
                return await store.complete(organization, holder, struct(of=holder.job_id))
            if act == "renew":
                return await store.renew(organization, holder, 9_000)
            return await store.fail(organization, holder, f"{act} " * 50, act == "fail")
        except RefusedError as refusal:
            return refusal

    def _expected(self, organization: str, holder: Holder, act: str) -> Any:
        """What the model makes of it: the outcome, or a RefusalError."""
        job: Job | None = self.known[holder.job_id]
        if job is not None and job.organization != organization:
            job = None
        try:
            job = self.model.check_holder(job, holder.worker_id, holder.lease_id)
        except RefusalError as refusal:
            return refusal
        if act == "complete":
            return self.model.complete(job, struct(of=holder.job_id))
        if act == "renew":
            job.lease_expires_at = self.model.now + 9_000
            return job.lease_expires_at
        seconds = self.model.fail(job, f"{act} " * 50, act == "fail")
        return FailOutcome(seconds > 0, seconds)

    def together(self, operations: Any) -> list[Any]:
        """Runs operations at the same time; they take effect in their order.

        The first goes ahead, so that what the others need to look up first is known.
        """
        first, *others = list(operations) or [None]
        if first is None:
            return []

        async def run() -> list[Any]:
            return [await first, *await asyncio.gather(*others)]

        return list(self.run(run()))

    def same(
        self,
        operation: Coroutine[Any, Any, Any],
        expect: Callable[[], Any],
        compare: Callable[[Any, Any], None],
    ) -> None:
        """Store and model do it, or refuse it for the same reason."""
        outcome: Any
        try:
            outcome = self.run(operation)
        except RefusedError as refusal:
            outcome = refusal
        try:
            expected = expect()
        except RefusalError as refusal:
            self.compare(outcome, compare, refusal)
        else:
            self.compare(outcome, compare, expected)

    @staticmethod
    def compare(outcome: Any, compare: Callable[[Any, Any], Any], expected: Any) -> None:
        if isinstance(expected, RefusalError):
            assert isinstance(outcome, RefusedError), f"{outcome} instead of {expected}"
            assert outcome.code == expected.code
            assert expected.text in outcome.message
            return
        assert not isinstance(outcome, RefusedError), f"{outcome} instead of {expected}"
        compare(outcome, expected)
